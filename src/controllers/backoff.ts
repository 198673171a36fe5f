import type { Clock } from '../client/clock.ts';

/** Delays that double with every failure of a key, and are forgotten after a quiet time of twice the longest (client-go's flowcontrol). */
export class Backoff {
  readonly #clock: Clock;
  readonly #firstMs: number;
  readonly #maxMs: number;
  readonly #entries = new Map<string, { delay: number; at: number }>();

  constructor(clock: Clock, firstMs: number, maxMs: number) {
    this.#clock = clock;
    this.#firstMs = firstMs;
    this.#maxMs = maxMs;
  }

  /** Milliseconds that the key has to wait still; 0 where it need not. */
  remaining(key: string): number {
    const entry = this.#entries.get(key);
    return entry ? Math.max(0, entry.at + entry.delay - this.#clock.now()) : 0;
  }

  /** Notes one more failure. */
  next(key: string): void {
    const now = this.#clock.now();
    const entry = this.#entries.get(key);
    const delay = entry && now - entry.at <= 2 * this.#maxMs ? Math.min(entry.delay * 2, this.#maxMs) : this.#firstMs;
    this.#entries.set(key, { delay, at: now });
  }

  /** Forgets all keys that begin so. */
  forget(prefix: string): void {
    for (const key of this.#entries.keys()) if (key.startsWith(prefix)) this.#entries.delete(key);
  }
}
