/** A request that must be answered in time. */
interface Timed {
  until: number;
  expire(): void;
}

const lookMs = 250;

/** Ends requests that take too long. One timer looks after all of them, for most are answered long before it does. */
export class Deadlines {
  /** Milliseconds that a request may take. */
  readonly limit: number;
  readonly #running = new Set<Timed>();
  #timer: NodeJS.Timeout | undefined;

  constructor(limit: number) {
    this.limit = limit;
  }

  /** `ms` where the client asks for less than the limit. */
  begin(expire: () => void, ms = this.limit): Timed {
    const timed = { until: performance.now() + Math.min(ms, this.limit), expire };
    this.#running.add(timed);
    this.#timer ??= setInterval(() => this.#look(), lookMs).unref();
    return timed;
  }

  end(timed: Timed): void {
    this.#running.delete(timed);
  }

  #look(): void {
    const now = performance.now();
    for (const timed of this.#running) {
      if (timed.until > now) continue;
      this.#running.delete(timed);
      timed.expire();
    }
    if (this.#running.size > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
  }
}
