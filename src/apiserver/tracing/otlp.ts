import { type ClientHttp2Session, connect } from 'node:http2';
import { connect as connectSocket } from 'node:net';
import { varintBytes } from '../../api/protobuf-encode.ts';

export type AttributeValue = string | number | boolean;

/** A span that has ended. Ids are hexadecimal, times milliseconds since the epoch. */
export interface FinishedSpan {
  traceId: string;
  spanId: string;
  parentId: string;
  traceState: string;
  name: string;
  kind: 'server' | 'client';
  start: number;
  end: number;
  attributes: Record<string, AttributeValue>;
  /** The span of a caller that is not trusted to be this one's parent. */
  link?: { traceId: string; spanId: string };
  error?: string;
}

const kinds = { server: 2, client: 3 };

/** A field that has a length: text, bytes or a message. */
const field = (id: number, content: Buffer | string): Buffer => {
  const bytes = typeof content === 'string' ? Buffer.from(content) : content;
  return Buffer.concat([varintBytes(id * 8 + 2), varintBytes(bytes.length), bytes]);
};
const number = (id: number, value: number): Buffer => Buffer.concat([varintBytes(id * 8), varintBytes(value)]);
const nanoseconds = (id: number, ms: number): Buffer => {
  const bytes = Buffer.alloc(9);
  bytes[0] = id * 8 + 1;
  bytes.writeBigUInt64LE(BigInt(Math.round(ms * 1000)) * 1000n, 1);
  return bytes;
};

function anyValue(value: AttributeValue): Buffer {
  if (typeof value === 'string') return field(1, value);
  if (typeof value === 'boolean') return number(2, value ? 1 : 0);
  if (Number.isSafeInteger(value) && value >= 0) return number(3, value);
  const bytes = Buffer.alloc(9);
  bytes[0] = 4 * 8 + 1;
  bytes.writeDoubleLE(value, 1);
  return bytes;
}
const attribute = (id: number, [key, value]: [string, AttributeValue]): Buffer => field(id, Buffer.concat([field(1, key), field(2, anyValue(value))]));

function encodeSpan(span: FinishedSpan): Buffer {
  return Buffer.concat([
    field(1, Buffer.from(span.traceId, 'hex')),
    field(2, Buffer.from(span.spanId, 'hex')),
    ...(span.traceState ? [field(3, span.traceState)] : []),
    ...(span.parentId ? [field(4, Buffer.from(span.parentId, 'hex'))] : []),
    field(5, span.name),
    number(6, kinds[span.kind]),
    nanoseconds(7, span.start),
    nanoseconds(8, span.end),
    ...Object.entries(span.attributes).map((one) => attribute(9, one)),
    ...(span.link ? [field(13, Buffer.concat([field(1, Buffer.from(span.link.traceId, 'hex')), field(2, Buffer.from(span.link.spanId, 'hex'))]))] : []),
    ...(span.error === undefined ? [] : [field(15, Buffer.concat([field(2, span.error), number(3, 2)]))]),
  ]);
}

/** An ExportTraceServiceRequest of OTLP. */
export function encodeSpans(resource: Record<string, string>, scope: string, spans: FinishedSpan[]): Buffer {
  const about = field(1, Buffer.concat(Object.entries(resource).map((one) => attribute(1, one))));
  const scoped = field(2, Buffer.concat([field(1, field(1, scope)), ...spans.map((span) => field(2, encodeSpan(span)))]));
  return field(1, Buffer.concat([about, scoped]));
}

const exportPath = '/opentelemetry.proto.collector.trace.v1.TraceService/Export';
const exportTimeoutMs = 10_000;

/** Sends spans to a collector: OTLP over gRPC, by a connection that is made when it is needed. */
export class OtlpExporter {
  readonly #endpoint: string;
  readonly #resource: Record<string, string>;
  #session: ClientHttp2Session | undefined;

  constructor(endpoint: string, resource: Record<string, string>) {
    this.#endpoint = endpoint;
    this.#resource = resource;
  }

  #connected(): ClientHttp2Session {
    if (this.#session && !this.#session.closed && !this.#session.destroyed) return this.#session;
    const path = this.#endpoint.startsWith('unix:') ? this.#endpoint.slice(5) : undefined;
    const session = connect(path ? 'http://localhost' : `http://${this.#endpoint}`, path ? { createConnection: () => connectSocket(path) } : {});
    session.on('error', () => session.destroy());
    session.unref();
    this.#session = session;
    return session;
  }

  /** Rejects where the collector cannot be reached or takes nothing. */
  send(spans: FinishedSpan[]): Promise<void> {
    const message = encodeSpans(this.#resource, 'k8s.io/kubernetes', spans);
    const frame = Buffer.concat([Buffer.alloc(5), message]);
    frame.writeUInt32BE(message.length, 1);
    return new Promise((resolve, reject) => {
      const stream = this.#connected().request({ ':method': 'POST', ':path': exportPath, 'content-type': 'application/grpc', te: 'trailers', 'user-agent': 'kumulus' });
      let status: string | undefined;
      stream.setTimeout(exportTimeoutMs, () => stream.destroy(new Error('the collector does not answer')));
      stream.on('response', (headers) => (status = headers['grpc-status'] as string | undefined));
      stream.on('trailers', (trailers) => (status = trailers['grpc-status'] as string | undefined));
      stream.on('error', reject);
      stream.on('close', () => (status === '0' ? resolve() : reject(new Error(`the collector answered with gRPC status ${status ?? 'unknown'}`))));
      stream.resume();
      stream.end(frame);
    });
  }

  close(): void {
    this.#session?.close();
  }
}
