import { randomBytes } from 'node:crypto';
import type { Logger } from 'pino';
import type { TracingConfiguration } from './configuration.ts';
import { type AttributeValue, type FinishedSpan, OtlpExporter } from './otlp.ts';

/** As OpenTelemetry's batch processor: spans that wait to be sent, at most; sent together; every so often. */
const mostWaiting = 2048;
const mostTogether = 512;
const everyMs = 5000;

export interface TraceContext {
  traceId: string;
  spanId: string;
  sampled: boolean;
  state: string;
}

/** A W3C traceparent; undefined where it is none. */
export function parseTraceparent(text: string | undefined, state = ''): TraceContext | undefined {
  const match = /^([\da-f]{2})-([\da-f]{32})-([\da-f]{16})-([\da-f]{2})(-.*)?$/.exec(text ?? '');
  if (!match) return undefined;
  const [, version, traceId = '', spanId = '', flags = '', more] = match;
  if (version === 'ff' || (version === '00' && more) || /^0+$/.test(traceId) || /^0+$/.test(spanId)) return undefined;
  return { traceId, spanId, sampled: (Number.parseInt(flags, 16) & 1) === 1, state };
}

/** A span that goes on. One that is not sampled only hands its context on. */
export class Span {
  readonly context: TraceContext;
  readonly #tracer: Tracer;
  readonly #data: Omit<FinishedSpan, 'end'> | undefined;
  readonly #started: number;

  constructor(tracer: Tracer, context: TraceContext, data: Omit<FinishedSpan, 'end'> | undefined, started: number) {
    this.#tracer = tracer;
    this.context = context;
    this.#data = data;
    this.#started = started;
  }

  /** For those that are asked on behalf of this request. */
  get traceparent(): string {
    const { traceId, spanId, sampled } = this.context;
    return `00-${traceId}-${spanId}-0${sampled ? 1 : 0}`;
  }

  /** Another server is asked: a span of its own. */
  client(name: string, attributes: Record<string, AttributeValue>): Span {
    return this.#tracer.start(name, 'client', this.context, attributes);
  }

  end(attributes: Record<string, AttributeValue> = {}, error?: string): void {
    if (!this.#data) return;
    Object.assign(this.#data.attributes, attributes);
    this.#tracer.finish({ ...this.#data, end: this.#data.start + performance.now() - this.#started, ...(error === undefined ? {} : { error }) });
  }
}

/** Makes spans of the requests that are sampled, and sends them to a collector in batches. What cannot be sent is dropped: nothing waits for it. */
export class Tracer {
  readonly #exporter: OtlpExporter;
  /** Traces whose id's last seven bytes are below this have spans. */
  readonly #threshold: bigint;
  readonly #log: Logger;
  #waiting: FinishedSpan[] = [];
  #dropped = 0;
  #timer: NodeJS.Timeout | undefined;
  #sending: Promise<void> | undefined;

  constructor(configuration: TracingConfiguration, instance: string, log: Logger) {
    this.#exporter = new OtlpExporter(configuration.endpoint, { 'service.name': 'apiserver', 'service.instance.id': instance });
    this.#threshold = (BigInt(configuration.samplingRatePerMillion) << 63n) / 1_000_000n;
    this.#log = log;
  }

  /**
   * A request has come: `parent` is the caller's span, which is believed where the caller is trusted. Others would decide how much this
   * server has to tell: their span is only linked to.
   */
  request(name: string, parent: TraceContext | undefined, trusted: boolean, started: number, attributes: Record<string, AttributeValue>): Span {
    return this.start(name, 'server', trusted ? parent : undefined, attributes, started, trusted ? undefined : parent);
  }

  start(name: string, kind: FinishedSpan['kind'], parent: TraceContext | undefined, attributes: Record<string, AttributeValue>, started = performance.now(), link?: TraceContext): Span {
    const traceId = parent?.traceId ?? randomBytes(16).toString('hex');
    const spanId = randomBytes(8).toString('hex');
    const sampled = parent ? parent.sampled : this.#samples(traceId);
    const context = { traceId, spanId, sampled, state: parent?.state ?? '' };
    if (!sampled) return new Span(this, context, undefined, started);
    const data = {
      ...{ traceId, spanId, parentId: parent?.spanId ?? '', traceState: context.state, name, kind, attributes },
      start: performance.timeOrigin + started,
      ...(link ? { link: { traceId: link.traceId, spanId: link.spanId } } : {}),
    };
    return new Span(this, context, data, started);
  }

  /** By the id alone, as OpenTelemetry's TraceIDRatioBased: all servers of a trace decide alike. */
  #samples(traceId: string): boolean {
    return this.#threshold > 0n && BigInt(`0x${traceId.slice(16)}`) >> 1n < this.#threshold;
  }

  finish(span: FinishedSpan): void {
    if (this.#waiting.length >= mostWaiting) {
      this.#dropped++;
      return;
    }
    this.#waiting.push(span);
    if (this.#waiting.length >= mostTogether) void this.#flush();
    else this.#timer ??= setTimeout(() => void this.#flush(), everyMs).unref();
  }

  #flush(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#sending ??= this.#send().finally(() => {
      this.#sending = undefined;
    });
    return this.#sending;
  }

  async #send(): Promise<void> {
    while (this.#waiting.length > 0) {
      const batch = this.#waiting.splice(0, mostTogether);
      try {
        await this.#exporter.send(batch);
      } catch (error) {
        this.#dropped += batch.length;
        this.#log.warn({ err: error, dropped: this.#dropped }, 'spans could not be sent');
        return;
      }
    }
  }

  /** Sends what is there; resolves when it is out, or cannot be. */
  async close(): Promise<void> {
    await this.#flush();
    this.#exporter.close();
  }
}
