import type { ServerResponse } from 'node:http';
import { constants, type ServerHttp2Session, type ServerHttp2Stream } from 'node:http2';
import type { HttpResponse } from './exchange.ts';

export interface ConnectionLimits {
  /** Milliseconds for which an HTTP/2 connection may have no request; upstream's 90 s. */
  idleMs: number;
  /** Milliseconds that a client has to take an answer, and those more that its bytes take at this pace. */
  answerMs: number;
  answerBytesPerMs: number;
  /** Bytes of large answers that a connection may have left lying when it asks for another one. */
  untakenBytes: number;
}

const defaults: ConnectionLimits = { idleMs: 90_000, answerMs: 60_000, answerBytesPerMs: 100, untakenBytes: 256 * 1024 * 1024 };
const largeAnswer = 256 * 1024;

interface Session {
  open: Map<ServerHttp2Stream, HttpResponse>;
  idleSince: number;
}

/**
 * Connections and what is open on them. A client that holds the server's memory by not taking answers loses its streams, one that holds a
 * connection for nothing loses that. One timer looks after all; what Node limits by itself (headers, resets, pings, settings) is left to it.
 */
export class Connections {
  readonly #limits: ConnectionLimits;
  readonly #sessions = new Map<ServerHttp2Session, Session>();
  readonly #http1 = new Map<ServerResponse, HttpResponse>();
  readonly #timer: NodeJS.Timeout;
  readonly #onStreamClose: (this: ServerHttp2Stream) => void;

  constructor(limits: Partial<ConnectionLimits> = {}) {
    this.#limits = { ...defaults, ...limits };
    const every = Math.max(50, Math.min(this.#limits.idleMs, this.#limits.answerMs) / 10);
    this.#timer = setInterval(() => this.#look(), every).unref();
    const connections = this;
    this.#onStreamClose = function onClose() {
      connections.#closed(this);
    };
  }

  get sessions(): Iterable<ServerHttp2Session> {
    return this.#sessions.keys();
  }

  session(session: ServerHttp2Session): void {
    this.#sessions.set(session, { open: new Map(), idleSince: performance.now() });
    session.on('close', () => this.#sessions.delete(session));
    session.on('error', () => {});
  }

  stream(stream: ServerHttp2Stream, response: HttpResponse): void {
    const session = this.#sessions.get(stream.session as ServerHttp2Session);
    if (!session) return;
    session.open.set(stream, response);
    stream.on('close', this.#onStreamClose);
    owners.set(stream, session);
  }

  #closed(stream: ServerHttp2Stream): void {
    const session = owners.get(stream);
    if (!session?.open.delete(stream) || session.open.size > 0) return;
    session.idleSince = performance.now();
  }

  http1(outgoing: ServerResponse, response: HttpResponse): void {
    this.#http1.set(outgoing, response);
    outgoing.on('close', () => this.#http1.delete(outgoing));
  }

  /** Whether a connection may be given an answer of this size, besides those that it has not taken yet. */
  hasRoom(stream: ServerHttp2Stream, bytes: number): boolean {
    if (bytes < largeAnswer) return true;
    let untaken = 0;
    for (const other of owners.get(stream)?.open.keys() ?? []) untaken += other.writableLength;
    return untaken <= this.#limits.untakenBytes;
  }

  /** What is written bit by bit (logs, watches) may stand still for as long as its reader likes. */
  #overdue(response: HttpResponse, now: number): boolean {
    const { answeredAt, answerBytes } = response;
    if (!answeredAt) return false;
    return now - answeredAt > this.#limits.answerMs + (answerBytes ?? 0) / this.#limits.answerBytesPerMs;
  }

  #look(): void {
    const now = performance.now();
    for (const [outgoing, response] of this.#http1) if (this.#overdue(response, now)) outgoing.destroy();
    for (const [session, { open, idleSince }] of this.#sessions) {
      if (open.size === 0) {
        // Told first; who does not hang up then is cut off.
        const idle = now - idleSince;
        if (idle > this.#limits.idleMs * 1.5) session.destroy();
        else if (idle > this.#limits.idleMs && !session.closed) session.close();
      }
      for (const [stream, response] of open) if (this.#overdue(response, now)) stream.close(constants.NGHTTP2_CANCEL);
    }
  }

  close(): void {
    clearInterval(this.#timer);
  }
}

const owners = new WeakMap<ServerHttp2Stream, Session>();
