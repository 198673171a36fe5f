import type { Pod } from '../../api/generated/types.ts';
import { finishedAt } from './facts.ts';

/** The longest wait between a failure and the next pod, milliseconds. */
const LONGEST = 10 * 60_000;

/** Failures since the last success. */
export interface FailureRun {
  failures: number;
  lastAt: number;
}

/** The run after these pods have ended. */
export function continued(run: FailureRun | undefined, succeeded: Pod[], failed: Pod[]): FailureRun {
  const before = run ?? { failures: 0, lastAt: 0 };
  const times = failed.map(finishedAt);
  if (!succeeded.length) return times.length ? { failures: before.failures + times.length, lastAt: Math.max(...times) } : before;
  const success = Math.max(...succeeded.map(finishedAt));
  const later = times.filter((t) => t > success);
  return { failures: later.length, lastAt: later.length ? Math.max(...later) : 0 };
}

/** Milliseconds to wait before the next pod. */
export function remaining({ failures, lastAt }: FailureRun, firstMs: number, now: number): number {
  if (failures === 0) return 0;
  const wait = Math.min(firstMs * 2 ** Math.min(failures - 1, 30), LONGEST);
  return Math.max(0, wait - (now - lastAt));
}
