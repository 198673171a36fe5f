import type { ServerResponse } from 'node:http';
import type { HttpResponse } from './exchange.ts';

/** What a client may hold without using it. */
export interface ConnectionLimits {
  /** Milliseconds for which an HTTP/2 connection may have no request; upstream's 90 s. */
  idleMs: number;
  /** Milliseconds that a client has to take an answer, and those more that its bytes take at this pace. */
  answerMs: number;
  answerBytesPerMs: number;
  /** Bytes of large answers that a connection may have left lying when it asks for another one. */
  untakenBytes: number;
}

export const defaultConnectionLimits: ConnectionLimits = { idleMs: 90_000, answerMs: 60_000, answerBytesPerMs: 100, untakenBytes: 256 * 1024 * 1024 };

/** Whether a whole answer, handed over at `answeredAt` (performance.now()), should have been taken by now. */
export const isOverdue = (limits: ConnectionLimits, answeredAt: number, bytes: number, now: number): boolean =>
  now - answeredAt > limits.answerMs + bytes / limits.answerBytesPerMs;

/** Answers over HTTP/1.1 that a client does not take; what is written bit by bit (logs, watches) may stand still for as long as its reader likes. */
export class Http1Answers {
  readonly #limits: ConnectionLimits;
  readonly #open = new Map<ServerResponse, HttpResponse>();

  constructor(limits: ConnectionLimits) {
    this.#limits = limits;
  }

  add(outgoing: ServerResponse, response: HttpResponse): void {
    this.#open.set(outgoing, response);
    outgoing.on('close', () => this.#open.delete(outgoing));
  }

  look(now: number): void {
    for (const [outgoing, { answeredAt, answerBytes }] of this.#open)
      if (answeredAt && isOverdue(this.#limits, answeredAt, answerBytes ?? 0, now)) outgoing.destroy();
  }
}
