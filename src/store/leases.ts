/** Time as the store sees it; the same shape as the client's Clock, which may be passed. */
export interface StoreClock {
  now(): number;
  after(ms: number, callback: () => void): () => void;
}

export const systemStoreClock: StoreClock = {
  now: () => Date.now(),
  after(ms, callback) {
    const timer = setTimeout(callback, ms);
    timer.unref();
    return () => clearTimeout(timer);
  },
};

/** Leases that end at about the same time are ended together, as etcd's lessor does every 500 ms. */
const granularity = 500;
/** setTimeout takes no more than this many milliseconds. */
const longestTimer = 2 ** 31 - 1;

/** When each lease ends. Leases live on disk without their end: after a restart each has its whole time again, as in etcd. */
export class LeaseTimers {
  readonly #clock: StoreClock;
  readonly #onExpired: (id: number) => void;
  readonly #leases = new Map<number, { ttl: number; deadline: number }>();
  #cancel: (() => void) | undefined;
  #wakeAt = Number.POSITIVE_INFINITY;

  constructor(clock: StoreClock, onExpired: (id: number) => void) {
    this.#clock = clock;
    this.#onExpired = onExpired;
  }

  has(id: number): boolean {
    return this.#leases.has(id);
  }

  add(id: number, ttlSeconds: number): void {
    const lease = { ttl: ttlSeconds * 1000, deadline: this.#clock.now() + ttlSeconds * 1000 };
    this.#leases.set(id, lease);
    this.#wake(lease.deadline);
  }

  /** False where there is no such lease. */
  renew(id: number): boolean {
    const lease = this.#leases.get(id);
    if (!lease) return false;
    lease.deadline = this.#clock.now() + lease.ttl;
    return true;
  }

  remove(id: number): boolean {
    return this.#leases.delete(id);
  }

  stop(): void {
    this.#cancel?.();
    this.#cancel = undefined;
    this.#leases.clear();
  }

  #wake(deadline: number): void {
    if (deadline >= this.#wakeAt) return;
    this.#cancel?.();
    this.#wakeAt = deadline;
    this.#cancel = this.#clock.after(Math.min(Math.max(deadline - this.#clock.now(), 0), longestTimer), () => this.#expire());
  }

  #expire(): void {
    this.#cancel = undefined;
    this.#wakeAt = Number.POSITIVE_INFINITY;
    const now = this.#clock.now();
    let next = Number.POSITIVE_INFINITY;
    for (const [id, lease] of this.#leases) {
      if (lease.deadline <= now) {
        // Asked for again later if deleting its keys fails (a full disk, say).
        lease.deadline = now + 10_000;
        next = Math.min(next, lease.deadline);
        this.#onExpired(id);
      } else next = Math.min(next, Math.max(lease.deadline, now + granularity));
    }
    if (next < Number.POSITIVE_INFINITY) this.#wake(next);
  }
}
