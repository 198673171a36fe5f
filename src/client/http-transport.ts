import { readFileSync, statSync } from 'node:fs';
import { type ClientHttp2Session, type ClientHttp2Stream, connect, constants, type IncomingHttpHeaders } from 'node:http2';
import { connect as connectTcp, isIP } from 'node:net';
import { type Duplex, Readable } from 'node:stream';
import { connect as connectTls } from 'node:tls';
import type { RawRequest } from './client.ts';
import type { ClientConfig } from './config.ts';
import type { Credentials } from './exec-credentials.ts';

/** A silent server is noticed after this and the wait for a ping's answer. */
const pingEveryMs = 15_000;
const pingTimeoutMs = 10_000;
const connectTimeoutMs = 15_000;
const tokenAgeMs = 60_000;

export interface TransportResponse {
  status: number;
  headers: Record<string, string>;
  /** The body; an Error where the connection breaks before it is whole. Destroying it cancels the request. */
  stream: Readable;
}

/** The body of an answer as a stream of its own: Node's own takes one whose last bytes are there, but not yet read, for broken off. */
function bodyOf(stream: ClientHttp2Stream): Readable {
  const body = new Readable({
    read: () => void stream.resume(),
    destroy(error, done) {
      stream.close(constants.NGHTTP2_CANCEL);
      done(error);
    },
  });
  stream.on('data', (chunk: Buffer) => {
    if (!body.push(chunk)) stream.pause();
  });
  stream.on('error', (error) => body.destroy(error));
  stream.on('close', () => {
    // Node ends such a stream as if it were whole.
    if (stream.aborted || stream.rstCode) body.destroy(new Error(`the connection broke in the middle of an answer (${stream.rstCode})`));
    else body.push(null);
  });
  return body;
}

/**
 * One HTTP/2 session to the server, made when needed, made anew when it breaks or the certificate rotates. Requests and
 * watches share it.
 */
export class HttpTransport {
  readonly #config: ClientConfig;
  readonly #url: URL;
  #session: Promise<ClientHttp2Session> | undefined;
  #sessionCert: string | undefined;
  #token: { text: string; readAt: number; mtimeMs: number } | undefined;
  #closed = false;

  constructor(config: ClientConfig) {
    this.#config = config;
    this.#url = new URL(config.server);
  }

  /** Name and port of the server. */
  get host(): string {
    return this.#url.host;
  }

  /** Resolves with the head of the answer. Rejects with an ordinary Error when the connection fails. */
  async request(request: RawRequest): Promise<TransportResponse> {
    const given = await this.#authenticate(request.signal);
    const answer = await this.#send(request, given);
    if (answer.status !== 401) return answer;
    // Expired or revoked before its time; once more with others, if there are others.
    const other = given && (await this.#authenticate(request.signal, given));
    if (given ? other?.token === given.token && other?.cert === given.cert : !this.#rereadToken()) return answer;
    answer.stream.destroy();
    return this.#send(request, other);
  }

  async #authenticate(signal: AbortSignal | undefined, refused?: Credentials): Promise<Credentials | undefined> {
    signal?.throwIfAborted();
    return this.#config.authenticate && unlessAborted(this.#config.authenticate(refused), signal);
  }

  async #send(request: RawRequest, given: Credentials | undefined): Promise<TransportResponse> {
    let session = await unlessAborted(this.#open(given), request.signal);
    if (session.closed || session.destroyed) {
      // Broken a moment ago, and not yet forgotten.
      this.#session = undefined;
      session = await unlessAborted(this.#open(given), request.signal);
    }
    const prefix = this.#url.pathname.replace(/\/$/, '');
    const body = request.body === undefined ? undefined : Buffer.from(request.body as string);
    const stream = session.request(
      {
        [constants.HTTP2_HEADER_METHOD]: request.method,
        [constants.HTTP2_HEADER_PATH]: `${prefix}${request.path}`,
        'user-agent': this.#config.userAgent ?? 'kumulus',
        ...this.#authorization(given),
        ...this.#config.headers,
        ...(body ? { 'content-length': String(body.length) } : {}),
        ...request.headers,
      },
      { endStream: body === undefined },
    );
    if (body) stream.end(body);
    return new Promise<TransportResponse>((resolve, reject) => {
      let answered = false;
      const onAbort = () => {
        stream.close(constants.NGHTTP2_CANCEL);
        if (!answered) reject(reasonOf(request.signal as AbortSignal));
      };
      request.signal?.addEventListener('abort', onAbort, { once: true });
      stream.on('response', (headers) => {
        answered = true;
        resolve({ status: Number(headers[constants.HTTP2_HEADER_STATUS]), headers: plainHeaders(headers), stream: bodyOf(stream) });
      });
      stream.on('error', (error) => {
        if (!answered) reject(new Error(`${request.method} ${this.#url.origin}${request.path}: ${error.message}`, { cause: error }));
      });
      stream.on('close', () => {
        request.signal?.removeEventListener('abort', onAbort);
        if (!answered) reject(new Error(`${request.method} ${this.#url.origin}${request.path}: the connection closed before an answer`));
      });
    });
  }

  close(): void {
    this.#closed = true;
    void this.#session?.then(
      (s) => s.destroy(),
      () => {},
    );
    this.#session = undefined;
  }

  #authorization(given: Credentials | undefined): Record<string, string> {
    const { tokenFile } = this.#config;
    const token = given?.token ?? this.#config.token;
    if (token) return { authorization: `Bearer ${token}` };
    if (!tokenFile) return {};
    if (!this.#token || Date.now() - this.#token.readAt > tokenAgeMs) this.#rereadToken();
    return { authorization: `Bearer ${this.#token?.text}` };
  }

  /** Whether the token file holds another token than before. Throws where it cannot be read and never could. */
  #rereadToken(): boolean {
    const { tokenFile, token } = this.#config;
    if (!tokenFile || token) return false;
    const before = this.#token;
    try {
      const { mtimeMs } = statSync(tokenFile);
      if (before?.mtimeMs === mtimeMs) before.readAt = Date.now();
      else this.#token = { text: readFileSync(tokenFile, 'utf8').trim(), readAt: Date.now(), mtimeMs };
    } catch (error) {
      if (!before) throw error;
      // It may be being replaced; what it held may serve until it is back.
      before.readAt = Date.now();
    }
    return before !== undefined && before.text !== this.#token?.text;
  }

  #open(given: Credentials | undefined): Promise<ClientHttp2Session> {
    if (this.#closed) return Promise.reject(new Error('the client is closed'));
    const { cert, key } = given?.cert ? given : (this.#config.credentials?.() ?? this.#config);
    if (this.#session && cert === this.#sessionCert) return this.#session;
    // A rotated certificate: what runs on the old session ends there, what is new goes to the new one.
    void this.#session?.then(
      (s) => s.close(),
      () => {},
    );
    this.#sessionCert = cert;
    const opening = this.#connect({ cert, key });
    this.#session = opening;
    const forget = () => {
      if (this.#session === opening) this.#session = undefined;
    };
    opening.then((session) => {
      session.once('close', forget);
      session.once('goaway', forget);
    }, forget);
    return opening;
  }

  async #connect(own: Credentials): Promise<ClientHttp2Session> {
    const socket = await this.#socket(own);
    return new Promise((resolve, reject) => {
      const session = connect(this.#url.origin, { createConnection: () => socket as never });
      session.once('connect', () => {
        session.off('error', reject);
        session.on('error', () => {});
        keepAlive(session);
        resolve(session);
      });
      session.once('error', reject);
    });
  }

  #socket({ cert, key }: Credentials): Promise<Duplex> {
    const { hostname, port, protocol } = this.#url;
    const secure = protocol === 'https:';
    const host = hostname.replace(/^\[|\]$/g, '');
    const { serverName, ca, insecureSkipTlsVerify, dial } = this.#config;
    return new Promise((resolve, reject) => {
      let socket: Duplex | undefined;
      let over = false;
      const fail = (error: Error) => {
        over = true;
        clearTimeout(timer);
        socket?.destroy();
        reject(new Error(`connect to ${this.#url.host}: ${error.message}`, { cause: error }));
      };
      const timer = setTimeout(() => fail(new Error(`no answer in ${connectTimeoutMs / 1000} s`)), connectTimeoutMs);
      const begin = (below: Duplex | undefined) => {
        if (over) return below?.destroy();
        const name = serverName ?? host;
        socket = secure
          ? connectTls({
              ...(below ? { socket: below } : { host, port: Number(port || 443) }),
              ...(isIP(name) ? {} : { servername: name }),
              ...(ca ? { ca } : {}),
              ...(cert && key ? { cert, key } : {}),
              rejectUnauthorized: !insecureSkipTlsVerify,
              ALPNProtocols: ['h2'],
            })
          : (below ?? connectTcp({ host, port: Number(port || 80) }));
        const connected = socket;
        // A second one must not end the process.
        connected.on('error', () => {});
        connected.once('error', fail);
        const done = () => {
          clearTimeout(timer);
          connected.off('error', fail);
          resolve(connected);
        };
        if (secure) connected.once('secureConnect', done);
        else if (below) done();
        else connected.once('connect', done);
      };
      if (!dial) begin(undefined);
      else Promise.resolve().then(dial).then(begin).catch(fail);
    });
  }
}

/** What is waited for goes on, for others who wait for it too. */
function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return promise;
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(reasonOf(signal));
    if (signal.aborted) onAbort();
    signal.addEventListener('abort', onAbort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
  });
}

/** Ends a session whose server no longer answers, so that its watches end and are begun again elsewhere. */
function keepAlive(session: ClientHttp2Session): void {
  const timer = setInterval(() => {
    if (session.closed || session.destroyed) return clearInterval(timer);
    const late = setTimeout(() => session.destroy(new Error('the server does not answer')), pingTimeoutMs);
    late.unref();
    session.ping((error) => {
      clearTimeout(late);
      if (error) session.destroy();
    });
  }, pingEveryMs);
  timer.unref();
  session.once('close', () => clearInterval(timer));
}

function plainHeaders(headers: IncomingHttpHeaders): Record<string, string> {
  const plain: Record<string, string> = {};
  for (const [name, value] of Object.entries(headers))
    if (!name.startsWith(':') && value !== undefined) plain[name] = Array.isArray(value) ? value.join(', ') : value;
  return plain;
}

export const reasonOf = (signal: AbortSignal): Error =>
  signal.reason instanceof Error ? signal.reason : new Error(`aborted: ${String(signal.reason)}`);
