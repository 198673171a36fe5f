/** Calls a second and at once that one client makes at most, below what EC2 and ELBv2 let an account do on the whole. */
const perSecond = 20;
const burst = 100;

/** A bucket of tokens: resolves when a call may be made, in the order of the asking. Time is milliseconds of any clock that runs. */
export class RateLimit {
  private readonly rate: number;
  private readonly burst: number;
  private readonly now: () => number;
  private tokens: number;
  private at: number;

  constructor(o: { perSecond: number; burst: number; now?: () => number }) {
    this.rate = o.perSecond;
    this.burst = o.burst;
    this.now = o.now ?? (() => performance.now());
    this.tokens = o.burst;
    this.at = this.now();
  }

  /** Takes a token, and returns the milliseconds after which it is there. */
  take(): number {
    const now = this.now();
    this.tokens = Math.min(this.burst, this.tokens + ((now - this.at) * this.rate) / 1000) - 1;
    this.at = now;
    return this.tokens >= 0 ? 0 : (-this.tokens * 1000) / this.rate;
  }
}

/** Holds an SDK client, its retries included, to a rate that AWS takes. */
export function limitRate(client: { middlewareStack: { add(middleware: any, options: any): void } }): void {
  const limit = new RateLimit({ perSecond, burst });
  const wait = (next: (args: unknown) => Promise<unknown>) => async (args: unknown) => {
    const pause = limit.take();
    if (pause > 0) await new Promise((resolve) => setTimeout(resolve, pause));
    return next(args);
  };
  // Inside the retries.
  client.middlewareStack.add(wait, { step: 'deserialize', priority: 'high', name: 'kumulusRateLimit' });
}
