import type { Clock } from '../client/clock.ts';

/** After this long an expectation no longer holds a controller back: the event it waits for was missed. Milliseconds. */
const EXPECTATION_TIMEOUT = 5 * 60_000;

interface Expected {
  creations: number;
  deletions: Set<string>;
  since: number;
}

/**
 * What a controller has done and its informer does not show yet, by the key of the owner. Until it shows, the owner's children
 * must not be counted: it would create or delete twice.
 */
export class Expectations {
  readonly #clock: Clock;
  readonly #expected = new Map<string, Expected>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** True when everything expected was seen, or was waited for long enough. */
  satisfied(key: string): boolean {
    const e = this.#expected.get(key);
    if (!e) return true;
    if (e.creations <= 0 && e.deletions.size === 0) return true;
    return this.#clock.now() - e.since > EXPECTATION_TIMEOUT;
  }

  expect(key: string, creations: number, deletions: string[] = []): void {
    this.#expected.set(key, { creations, deletions: new Set(deletions), since: this.#clock.now() });
  }

  /** Adds to what is expected already: for controllers that act on one child at a time. */
  raise(key: string, creations: number, deletions: string[] = []): void {
    const e = this.#expected.get(key);
    if (!e || (e.creations <= 0 && e.deletions.size === 0)) return this.expect(key, creations, deletions);
    e.creations = Math.max(0, e.creations) + creations;
    for (const uid of deletions) e.deletions.add(uid);
    e.since = this.#clock.now();
  }

  /** A creation was seen, or failed and will never be. */
  creationObserved(key: string, count = 1): void {
    const e = this.#expected.get(key);
    if (e) e.creations -= count;
  }

  /** The deletion of this child was seen (also its deletionTimestamp), or failed. */
  deletionObserved(key: string, child: string): void {
    this.#expected.get(key)?.deletions.delete(child);
  }

  forget(key: string): void {
    this.#expected.delete(key);
  }
}

/**
 * Runs count calls in batches that double as long as all succeed, so that a call that cannot succeed (quota, a webhook) fails
 * once and not count times. Returns how many succeeded, and the first error.
 */
export async function slowStart(count: number, call: (index: number) => Promise<void>, initial = 1): Promise<{ succeeded: number; error?: unknown }> {
  let succeeded = 0;
  let next = 0;
  for (let batch = Math.min(initial, count); batch > 0; batch = Math.min(batch * 2, count - next)) {
    const first = next;
    const results = await Promise.allSettled(Array.from({ length: batch }, (_, i) => call(first + i)));
    next += batch;
    succeeded += results.filter((r) => r.status === 'fulfilled').length;
    const failed = results.find((r) => r.status === 'rejected');
    if (failed) return { succeeded, error: failed.reason };
  }
  return { succeeded };
}
