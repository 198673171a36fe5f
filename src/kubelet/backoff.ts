import type { Clock } from '../client/clock.ts';

interface Entry {
  delayMs: number;
  lastUpdate: number;
}

/**
 * Exponential backoff by key, as client-go's flowcontrol.Backoff: the first failure costs nothing, each next one doubles the wait,
 * and a key that behaved for twice the maximum starts anew.
 */
export class Backoff {
  private readonly clock: Clock;
  private readonly initialMs: number;
  private readonly maxMs: number;
  private readonly entries = new Map<string, Entry>();

  constructor(clock: Clock, initialMs: number, maxMs: number) {
    this.clock = clock;
    this.initialMs = initialMs;
    this.maxMs = maxMs;
  }

  /** Milliseconds still to wait after a failure that happened at `since`; 0 when it may go on. */
  remaining(key: string, since: number): number {
    const entry = this.entries.get(key);
    if (!entry || since - entry.lastUpdate > 2 * this.maxMs) return 0;
    return Math.max(0, since + entry.delayMs - this.clock.now());
  }

  /** Counts one more try at a thing that failed at `since`. */
  next(key: string, since: number): void {
    const entry = this.entries.get(key);
    const expired = !entry || since - entry.lastUpdate > 2 * this.maxMs;
    this.entries.set(key, { delayMs: expired ? this.initialMs : Math.min(entry.delayMs * 2, this.maxMs), lastUpdate: this.clock.now() });
  }

  delay(key: string): number {
    return this.entries.get(key)?.delayMs ?? 0;
  }

  reset(key: string): void {
    this.entries.delete(key);
  }

  /** Drops every key that begins with this. */
  forget(prefix: string): void {
    for (const key of this.entries.keys()) if (key.startsWith(prefix)) this.entries.delete(key);
  }
}

/** A duration as Go prints it, for messages such as `back-off 5m0s restarting failed container`. */
export function goDuration(ms: number): string {
  const total = Math.round(ms / 1000);
  if (ms < 1000) return ms === 0 ? '0s' : `${ms}ms`;
  const h = Math.floor(total / 3600);
  const m = Math.floor((total % 3600) / 60);
  const s = total % 60;
  return h > 0 ? `${h}h${m}m${s}s` : m > 0 ? `${m}m${s}s` : `${s}s`;
}
