import type { Clock } from './clock.ts';

/** A clock for tests that stands still until it is moved. Callbacks run while it moves, in the order of their times. */
export class FakeClock implements Clock {
  #now: number;
  #timers: { at: number; callback: () => void }[] = [];

  constructor(now = Date.parse('2026-01-01T00:00:00Z')) {
    this.#now = now;
  }

  now(): number {
    return this.#now;
  }

  after(ms: number, callback: () => void): () => void {
    const timer = { at: this.#now + Math.max(ms, 0), callback };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((t) => t !== timer);
    };
  }

  /** How many callbacks wait. */
  get pending(): number {
    return this.#timers.length;
  }

  advance(ms: number): void {
    const until = this.#now + ms;
    for (let next = this.#next(); next && next.at <= until; next = this.#next()) this.#run(next);
    this.#now = until;
  }

  /** Advances to the next callback and runs it; false where none waits. */
  advanceToNext(): boolean {
    const next = this.#next();
    if (next) this.#run(next);
    return next !== undefined;
  }

  #next(): { at: number; callback: () => void } | undefined {
    return this.#timers.reduce<{ at: number; callback: () => void } | undefined>((a, b) => (a && a.at <= b.at ? a : b), undefined);
  }

  #run(timer: { at: number; callback: () => void }): void {
    this.#timers = this.#timers.filter((t) => t !== timer);
    this.#now = Math.max(this.#now, timer.at);
    timer.callback();
  }
}
