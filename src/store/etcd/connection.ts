import { type ClientDuplexStream, type ChannelCredentials, Client, credentials, Metadata, status as codes } from '@grpc/grpc-js';
import protobuf from 'protobufjs';
import { etcdDescriptor, etcdMethods } from './messages.ts';

export type EtcdMethod = keyof typeof etcdMethods;

export interface EtcdTls {
  /** PEM; the system's authorities where left out. */
  ca?: string;
  cert?: string;
  key?: string;
}

/** A write that may have happened or not: the connection or the leader was lost before the answer. */
export class UnknownOutcomeError extends Error {
  constructor(cause: Error) {
    super(`etcdserver: request timed out, possibly due to connection lost: ${cause.message}`, { cause });
    this.name = 'UnknownOutcomeError';
  }
}

interface GrpcError extends Error {
  code?: number;
  details?: string;
}

// 64-bit integers as numbers: revisions and lease ids of this store stay below 2^53.
protobuf.util.Long = undefined as never;
protobuf.configure();
const root = protobuf.Root.fromJSON(JSON.parse(etcdDescriptor));
const codecs = new Map<EtcdMethod, { path: string; encode(message: object): Buffer; decode(bytes: Buffer): any }>();
for (const [name, { path, request, response }] of Object.entries(etcdMethods)) {
  const [input, output] = [root.lookupType(request), root.lookupType(response)];
  codecs.set(name as EtcdMethod, { path, encode: (m) => input.encode(m).finish() as Buffer, decode: (b) => output.decode(b) });
}

const attemptMs = 5_000;

/** Connections to the members of one etcd cluster. Calls go to one member until it fails, then to the next. */
export class EtcdConnection {
  readonly #clients: Client[];
  readonly #endpoints: string[];
  #at = 0;
  #closed = false;

  /** Endpoints as etcdctl's: http://HOST:PORT or https://HOST:PORT. */
  constructor(endpoints: string[], tls: EtcdTls = {}) {
    if (endpoints.length === 0) throw new Error('no etcd server is named');
    this.#endpoints = endpoints;
    this.#clients = endpoints.map((endpoint) => {
      const url = new URL(endpoint);
      if (url.protocol !== 'http:' && url.protocol !== 'https:') throw new Error(`${endpoint} is not an address of etcd: http:// or https://`);
      const pem = (text?: string) => (text === undefined ? null : Buffer.from(text));
      const secure: ChannelCredentials =
        url.protocol === 'https:' ? credentials.createSsl(pem(tls.ca), pem(tls.key), pem(tls.cert)) : credentials.createInsecure();
      return new Client(url.host, secure, {
        'grpc.max_receive_message_length': -1,
        'grpc.max_send_message_length': -1,
        'grpc.initial_reconnect_backoff_ms': 100,
        'grpc.max_reconnect_backoff_ms': 1000,
        'grpc.keepalive_time_ms': 10_000,
        'grpc.keepalive_timeout_ms': 3_000,
        'grpc.use_local_subchannel_pool': 1,
      });
    });
  }

  get description(): string {
    return this.#endpoints.join(', ');
  }

  /** A read: tried again on the other members until one answers or totalMs are over. */
  read(method: EtcdMethod, request: object, totalMs = 10_000, signal?: AbortSignal): Promise<any> {
    return this.#call(method, request, totalMs, () => true, signal);
  }

  /** A write: tried again only where it is known not to have been taken. UnknownOutcomeError where that cannot be told. */
  async write(method: EtcdMethod, request: object, totalMs = 10_000): Promise<any> {
    try {
      return await this.#call(method, request, totalMs, isNotTaken);
    } catch (error) {
      if (isLoss(error) && !isNotTaken(error)) throw new UnknownOutcomeError(error);
      throw error;
    }
  }

  async #call(method: EtcdMethod, request: object, totalMs: number, again: (e: GrpcError) => boolean, signal?: AbortSignal): Promise<any> {
    const end = Date.now() + totalMs;
    for (let attempt = 0; ; attempt++) {
      const at = this.#at;
      try {
        return await this.#once(this.#clients[at]!, method, request, Math.min(attemptMs, Math.max(end - Date.now(), 1)));
      } catch (error) {
        if (this.#closed || signal?.aborted || !isLoss(error) || !again(error)) throw error;
        if (Date.now() >= end) {
          throw Object.assign(new Error(`etcd (${this.description}) did not answer ${method} within ${totalMs / 1000} s: ${error.message}`), {
            code: error.code,
          });
        }
        this.leave(at);
        // Each member at once, then a pause.
        if ((attempt + 1) % this.#clients.length === 0) await new Promise((resolve) => setTimeout(resolve, 50));
      }
    }
  }

  #once(client: Client, method: EtcdMethod, request: object, limitMs: number): Promise<any> {
    const { path, encode, decode } = codecs.get(method)!;
    return new Promise((resolve, reject) => {
      client.makeUnaryRequest(path, encode, decode, request, new Metadata(), { deadline: Date.now() + limitMs }, (error, answer) =>
        error ? reject(error) : resolve(answer),
      );
    });
  }

  /** A stream to the present member, which must have a leader; `at` is what leave() takes when it fails. */
  stream(method: EtcdMethod): { at: number; stream: ClientDuplexStream<object, any> } {
    const { path, encode, decode } = codecs.get(method)!;
    const metadata = new Metadata();
    metadata.set('hasleader', 'true');
    return { at: this.#at, stream: this.#clients[this.#at]!.makeBidiStreamRequest(path, encode, decode, metadata) };
  }

  /** The next member is used from now on, unless another call has moved on already. */
  leave(at: number): void {
    if (this.#at === at) this.#at = (at + 1) % this.#clients.length;
  }

  close(): void {
    this.#closed = true;
    for (const client of this.#clients) client.close();
  }
}

/** Whether a member or its leader was lost, rather than the request refused. */
export function isLoss(error: unknown): error is GrpcError {
  const { code } = error as GrpcError;
  return code === codes.UNAVAILABLE || code === codes.DEADLINE_EXCEEDED || code === codes.CANCELLED || code === codes.INTERNAL;
}

/** Whether a lost request surely never reached the log. */
function isNotTaken(error: GrpcError): boolean {
  return error.code === codes.UNAVAILABLE && /No connection established|ECONNREFUSED|etcdserver: no leader|etcdserver: not leader/.test(error.message);
}
