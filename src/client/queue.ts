import type { Logger } from 'pino';
import { isConflict } from '../api/errors.ts';
import { type Clock, systemClock } from './clock.ts';
import { QueueMetrics } from './queue-metrics.ts';

export interface WorkQueueOptions {
  /** Under which it is counted; not at all where left out. */
  name?: string;
  clock?: Clock;
  /** First delay after a failure of a key; doubled with every further one. */
  baseDelayMs?: number;
  maxDelayMs?: number;
  /** Rate-limited additions a second over all keys, and how many may come at once. */
  qps?: number;
  burst?: number;
}

/**
 * Keys to be worked on, with the semantics of client-go's rate-limiting work queue: a key waiting is not added twice, a
 * key being worked on never runs a second time beside itself, and one added meanwhile runs again afterwards.
 */
export class WorkQueue {
  readonly #clock: Clock;
  readonly #baseDelayMs: number;
  readonly #maxDelayMs: number;
  readonly #qps: number;
  readonly #burst: number;
  #tokens: number;
  #tokensAt: number;
  /** Waiting to run, in order. */
  readonly #ready = new Set<string>();
  readonly #running = new Set<string>();
  /** Added while running. */
  readonly #again = new Set<string>();
  readonly #delayed = new Map<string, { at: number; cancel: () => void }>();
  readonly #failures = new Map<string, number>();
  readonly #idle: ((key: string | undefined) => void)[] = [];
  #closed = false;
  readonly #counted: QueueMetrics | undefined;

  constructor(options: WorkQueueOptions = {}) {
    this.#counted = options.name === undefined ? undefined : new QueueMetrics(options.name, () => this.length);
    this.#clock = options.clock ?? systemClock;
    this.#baseDelayMs = options.baseDelayMs ?? 5;
    this.#maxDelayMs = options.maxDelayMs ?? 1_000_000;
    this.#qps = options.qps ?? 10;
    this.#burst = options.burst ?? 100;
    this.#tokens = this.#burst;
    this.#tokensAt = this.#clock.now();
  }

  /** Keys that wait to run now; not those delayed or running. */
  get length(): number {
    return this.#ready.size;
  }

  add(key: string): void {
    if (this.#closed) return;
    if (this.#running.has(key)) {
      if (!this.#again.has(key)) this.#counted?.added();
      this.#again.add(key);
      return;
    }
    if (!this.#ready.has(key)) this.#counted?.added(key);
    const worker = this.#ready.has(key) ? undefined : this.#idle.shift();
    if (worker) {
      this.#running.add(key);
      this.#counted?.begun(key);
      worker(key);
    } else this.#ready.add(key);
  }

  /** Adds the key in ms milliseconds, or when it was going to be added, if that is sooner. */
  addAfter(key: string, ms: number): void {
    if (this.#closed) return;
    if (!(ms > 0)) {
      this.add(key);
      return;
    }
    const at = this.#clock.now() + ms;
    const known = this.#delayed.get(key);
    if (known && known.at <= at) return;
    known?.cancel();
    // setTimeout takes no more than 2^31-1 ms; nobody waits for 24 days here.
    const cancel = this.#clock.after(Math.min(ms, 2 ** 31 - 1), () => {
      this.#delayed.delete(key);
      this.add(key);
    });
    this.#delayed.set(key, { at, cancel });
  }

  /** Adds the key after the delay that its failures so far and the overall rate ask for. */
  addRateLimited(key: string): void {
    const failures = this.#failures.get(key) ?? 0;
    this.#failures.set(key, failures + 1);
    this.#counted?.retried();
    const backoff = Math.min(this.#baseDelayMs * 2 ** failures, this.#maxDelayMs);
    this.addAfter(key, Math.max(backoff, this.#reserve()));
  }

  /** The key's failures are over: its next one starts from the first delay again. */
  forget(key: string): void {
    this.#failures.delete(key);
  }

  failures(key: string): number {
    return this.#failures.get(key) ?? 0;
  }

  /** The next key, now running until done(key); undefined when the queue is closed. */
  next(): Promise<string | undefined> {
    if (this.#closed) return Promise.resolve(undefined);
    const { value: key, done } = this.#ready.values().next();
    if (done) return new Promise((resolve) => this.#idle.push(resolve));
    this.#ready.delete(key);
    this.#running.add(key);
    this.#counted?.begun(key);
    return Promise.resolve(key);
  }

  done(key: string): void {
    this.#running.delete(key);
    this.#counted?.done(key);
    if (this.#again.delete(key)) this.#addAgain(key);
  }

  /** Counted when it was asked for; it waits from now on. */
  #addAgain(key: string): void {
    this.#counted?.waiting(key);
    const worker = this.#idle.shift();
    if (!worker) return void this.#ready.add(key);
    this.#running.add(key);
    this.#counted?.begun(key);
    worker(key);
  }

  /** Ends the waiting of all workers and drops what is queued. */
  close(): void {
    this.#closed = true;
    this.#counted?.close();
    for (const { cancel } of this.#delayed.values()) cancel();
    this.#delayed.clear();
    this.#ready.clear();
    this.#again.clear();
    for (const worker of this.#idle.splice(0)) worker(undefined);
  }

  /** Takes a token of the bucket, maybe a future one; milliseconds until it is there. */
  #reserve(): number {
    const now = this.#clock.now();
    this.#tokens = Math.min(this.#burst, this.#tokens + ((now - this.#tokensAt) / 1000) * this.#qps) - 1;
    this.#tokensAt = now;
    return this.#tokens >= 0 ? 0 : (-this.#tokens / this.#qps) * 1000;
  }
}

export interface RunWorkersOptions {
  queue: WorkQueue;
  /** How many keys run at the same time. */
  workers: number;
  /** Brings the world to what the object wants. What it throws is logged, and the key tried again with growing delays. */
  // biome-ignore lint/suspicious/noConfusingVoidType: most reconcilers return nothing
  reconcile: (key: string, signal: AbortSignal) => Promise<{ requeueAfterMs?: number } | void>;
  log: Logger;
  signal: AbortSignal;
}

/** Works on the queue's keys until the signal aborts; resolves when the last reconcile under way has ended. */
export async function runWorkers({ queue, workers, reconcile, log, signal }: RunWorkersOptions): Promise<void> {
  const onAbort = () => queue.close();
  if (signal.aborted) queue.close();
  signal.addEventListener('abort', onAbort, { once: true });
  const work = async () => {
    for (let key = await queue.next(); key !== undefined; key = await queue.next()) {
      try {
        const result = await reconcile(key, signal);
        queue.forget(key);
        if (result?.requeueAfterMs !== undefined) queue.addAfter(key, result.requeueAfterMs);
      } catch (error) {
        if (!signal.aborted) {
          // Conflicts are how two writers find out about each other; trying again is the whole remedy.
          if (isConflict(error)) log.debug({ key, err: error }, 'reconcile met a conflict, trying again');
          else log.error({ key, err: error, failures: queue.failures(key) + 1 }, 'reconcile failed, trying again');
          queue.addRateLimited(key);
        }
      } finally {
        queue.done(key);
      }
    }
  };
  await Promise.all(Array.from({ length: workers }, work));
  signal.removeEventListener('abort', onAbort);
}
