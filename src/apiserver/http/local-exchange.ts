import { Readable } from 'node:stream';
import { tooLarge } from '../../api/errors.ts';
import type { RawRequest, RawResponse } from '../../client/client.ts';
import { clientGone, type HttpRequest, type HttpResponse, type ResponseStream } from './exchange.ts';

/** A request made in this process, and its answer as it comes. */
export class LocalExchange {
  readonly request: HttpRequest;
  readonly response: HttpResponse;
  /** Resolves when status and headers are known. */
  readonly answered: Promise<void>;
  #answer!: () => void;
  #status = 0;
  #headers: Record<string, string> = {};
  #body = new Readable({ read: () => this.#drained() });
  #drains: (() => void)[] = [];

  constructor(raw: RawRequest) {
    this.answered = new Promise((resolve) => {
      this.#answer = resolve;
    });
    const body = raw.body === undefined ? Buffer.alloc(0) : Buffer.from(raw.body as string);
    const at = raw.path.indexOf('?');
    const gone = new AbortController();
    this.#body.on('close', () => gone.abort(clientGone));
    this.#body.on('error', () => gone.abort(clientGone));
    const own = raw.signal ? AbortSignal.any([raw.signal, gone.signal]) : gone.signal;
    raw.signal?.addEventListener('abort', () => this.#body.destroy(), { once: true });
    this.request = {
      method: raw.method.toUpperCase(),
      url: raw.path,
      path: at < 0 ? raw.path : raw.path.slice(0, at),
      query: new URLSearchParams(at < 0 ? '' : raw.path.slice(at + 1)),
      headers: Object.fromEntries(Object.entries(raw.headers ?? {}).map(([k, v]) => [k.toLowerCase(), v])),
      peer: undefined,
      remoteAddress: '',
      signal: own,
      body: async (limit) => {
        if (body.length > limit) throw tooLarge(`Request entity too large: limit is ${limit}`);
        return body;
      },
      bodyStream: () => (body.length ? Readable.from([body]) : undefined),
    };
    const begin = (status: number, headers: Record<string, string | string[]>) => {
      this.#status = status;
      for (const set of [this.response.headers, headers])
        for (const [k, v] of Object.entries(set)) this.#headers[k.toLowerCase()] = Array.isArray(v) ? v.join(', ') : v;
      this.#answer();
    };
    const exchange = this;
    this.response = {
      headers: {},
      get begun() {
        return exchange.#status !== 0;
      },
      get status() {
        return exchange.#status;
      },
      send: (status, headers, content) => {
        begin(status, headers);
        const bytes = Array.isArray(content) ? Buffer.concat(content) : content;
        this.response.answeredAt = performance.now();
        this.response.answerBytes = bytes?.length ?? 0;
        if (bytes) this.#body.push(bytes);
        this.#body.push(null);
      },
      stream: (status, headers): ResponseStream => {
        begin(status, headers);
        return {
          write: (chunk) => this.#body.destroyed || this.#body.push(chunk),
          onDrain: (listener) => void this.#drains.push(listener),
          end: () => {
            if (!this.#body.destroyed) this.#body.push(null);
          },
          destroy: (error) => void this.#body.destroy(error),
        };
      },
    };
  }

  #drained(): void {
    for (const listener of this.#drains) listener();
  }

  result(): RawResponse {
    const body = this.#body;
    return {
      status: this.#status,
      headers: this.#headers,
      body,
      async text() {
        const chunks: Buffer[] = [];
        for await (const chunk of body) chunks.push(chunk as Buffer);
        return Buffer.concat(chunks).toString('utf8');
      },
    };
  }
}
