import type { CronJob } from '../../api/generated/types.ts';
import { millis } from '../timestamps.ts';
import type { Schedule } from './schedule.ts';

/** The last time that was due and is not served yet. */
export interface Due {
  /** Milliseconds since the epoch; undefined where nothing is due. */
  at?: number;
  /** From where times were looked for. */
  since: number;
  /** More times were missed than anybody wants to catch up with. */
  tooMany: boolean;
}

/**
 * What is due now. Only the last of several missed times counts. With a starting deadline, what lies before it is not looked at.
 */
export function dueNow(cronJob: CronJob, schedule: Schedule, now: number, withDeadline = true): Due {
  const { startingDeadlineSeconds } = cronJob.spec;
  let since = millis(cronJob.status?.lastScheduleTime ?? cronJob.metadata.creationTimestamp);
  if (withDeadline && startingDeadlineSeconds !== undefined) since = Math.max(since, now - Number(startingDeadlineSeconds) * 1000);
  const first = schedule.next(since);
  if (first === undefined || now < first) return { since, tooMany: false };
  const second = schedule.next(first);
  if (second === undefined || now < second) return { at: first, since, tooMany: false };
  const interval = second - first;
  const missed = Math.floor((now - first) / interval) + 1;
  // A leap to shortly before now: looking at every missed time could take for ever.
  let from = first + (missed - 2) * interval;
  let at = latest(schedule, from, now);
  while (at === undefined && from > first) {
    // Uneven schedules: the leap went over the last time.
    from = Math.max(first, now - 2 * (now - from) - interval);
    at = from === first ? (latest(schedule, first, now) ?? first) : latest(schedule, from, now);
  }
  return { at: at ?? first, since, tooMany: missed > 100 };
}

function latest(schedule: Schedule, from: number, now: number): number | undefined {
  let found: number | undefined;
  for (let t = schedule.next(from); t !== undefined && t <= now; t = schedule.next(t)) found = t;
  return found;
}

/** Milliseconds until the next time; undefined where there is none. */
export function untilNext(schedule: Schedule, now: number): number | undefined {
  const next = schedule.next(now);
  // A little later, so that a clock that is behind by a hair does not miss it.
  return next === undefined ? undefined : next - now + 100;
}
