import type { Logger } from 'pino';

const FIRST_RETRY = 250;
const LAST_RETRY = 15_000;
const WAIT_RETRY = 500;

/** Nothing went wrong: something has to happen first that cannot be watched for, and it is looked at again every half second. */
export class NotYet extends Error {}

/**
 * Work by key: calls for one key never overlap, a call during one is repeated after it, and one that throws is tried again with
 * growing pauses without holding up any other.
 */
export class KeyedWork {
  private readonly log: Logger;
  private readonly running = new Map<string, Promise<void>>();
  private readonly waiting = new Map<string, () => Promise<void>>();
  private readonly failures = new Map<string, { count: number; message: string; timer: NodeJS.Timeout; work: () => Promise<void> }>();
  private stopped = false;

  constructor(log: Logger) {
    this.log = log;
  }

  /** Work that failed waits for its retry, unless `eager`: what has changed may have nothing to do with it. */
  run(key: string, work: () => Promise<void>, { eager = false } = {}): void {
    if (this.stopped) return;
    const failed = this.failures.get(key);
    if (failed && !eager && !this.running.has(key)) {
      failed.work = work;
      return;
    }
    if (this.running.has(key)) {
      this.waiting.set(key, work);
      return;
    }
    this.running.set(key, this.turn(key, work));
  }

  /** Keys that failed last, with the reason. */
  errors(): Map<string, string> {
    return new Map([...this.failures].map(([key, failure]) => [key, failure.message]));
  }

  busy(): boolean {
    return this.running.size > 0;
  }

  /** Resolves when nothing runs; work that waits for a retry does not count. */
  async idle(): Promise<void> {
    while (this.running.size > 0) await Promise.all(this.running.values());
  }

  async stop(): Promise<void> {
    this.stopped = true;
    for (const failure of this.failures.values()) clearTimeout(failure.timer);
    this.waiting.clear();
    await this.idle();
  }

  private async turn(key: string, work: () => Promise<void>): Promise<void> {
    // Not at once: the caller has yet to note this turn as running.
    await null;
    const failed = this.failures.get(key);
    clearTimeout(failed?.timer);
    try {
      await work();
      this.failures.delete(key);
    } catch (error) {
      const message = (error as Error).message;
      const count = (failed?.count ?? 0) + 1;
      const pause = error instanceof NotYet ? WAIT_RETRY : Math.min(FIRST_RETRY * 2 ** (count - 1), LAST_RETRY);
      const failure = { count, message, work, timer: setTimeout(() => this.run(key, failure.work, { eager: true }), pause).unref() };
      this.failures.set(key, failure);
      // Said once, not at every retry.
      this.log[failed?.message === message || error instanceof NotYet ? 'debug' : 'warn'](
        { key, err: message, retryInMs: pause },
        'failed; will be tried again',
      );
    }
    this.running.delete(key);
    const next = this.waiting.get(key);
    this.waiting.delete(key);
    if (next) this.run(key, next, { eager: !this.failures.has(key) });
  }
}
