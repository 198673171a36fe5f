import { afterEach, describe, expect, test } from 'vitest';
import type { CronJob, Job } from '../api/generated/types.ts';
import { resources } from '../api/generated/resources.ts';
import { FakeClock } from '../client/fake-clock.ts';
import { startCronJobController } from './cronjob.ts';
import { dueNow } from './cronjob/due.ts';
import { parseSchedule, zonedTimestamp } from './cronjob/schedule.ts';
import { type Bench, backends } from './testing/backends.ts';
import { eventually, settle } from './testing.ts';

let bench: Bench;
let clock: FakeClock;
afterEach(() => bench?.stop());

const minute = 60_000;
const cronJob = (spec: object = {}) => ({
  metadata: { name: 'tick' },
  spec: {
    schedule: '* * * * *',
    concurrencyPolicy: 'Allow',
    successfulJobsHistoryLimit: 3,
    failedJobsHistoryLimit: 1,
    jobTemplate: {
      metadata: { labels: { of: 'tick' }, annotations: { note: 'x' } },
      spec: { template: { spec: { restartPolicy: 'Never', containers: [{ name: 'c', image: 'tick:1' }] } } },
    },
    ...spec,
  },
});

describe.each(backends)('CronJob on $name', ({ open }) => {
  async function start(spec: object = {}) {
    // The API server stamps creations with real time: the clock goes on from there.
    clock = new FakeClock(Math.ceil((Date.now() + 1000) / minute) * minute - 1000);
    bench = await open({ clock });
    startCronJobController(bench.as('cronjob-controller'));
    await bench.create(resources.cronjobs, cronJob(spec));
    await settle();
  }
  const tick = () => bench.get<CronJob>(resources.cronjobs, 'tick');
  const jobs = async () => (await bench.all<Job>(resources.jobs)).filter((j) => !j.metadata.deletionTimestamp);
  const names = async () => (await jobs()).map((j) => j.metadata.name).sort();
  const nextMinute = async () => {
    clock.advance(minute);
    await settle();
  };
  async function end(job: Job, type: 'Complete' | 'Failed' = 'Complete') {
    const at = `${new Date(clock.now()).toISOString().slice(0, 19)}Z`;
    const conditions = [
      { type: type === 'Complete' ? 'SuccessCriteriaMet' : 'FailureTarget', status: 'True', lastTransitionTime: at },
      { type, status: 'True', lastTransitionTime: at },
    ];
    const completed = type === 'Complete' ? { completionTime: at, succeeded: 1 } : { failed: 1 };
    await bench.patch(resources.jobs, job.metadata.name, { status: { startTime: job.metadata.creationTimestamp, conditions, ...completed } }, 'status');
  }

  test('starts a Job at every time, named by it, several beside each other', async () => {
    await start();
    expect(await jobs()).toEqual([]);
    await nextMinute();
    const [job] = await eventually('a Job', async () => ((await jobs()).length === 1 ? jobs() : undefined));
    const at = Math.floor(clock.now() / minute) * minute;
    expect(job!.metadata).toMatchObject({
      name: `tick-${at / minute}`,
      labels: { of: 'tick' },
      annotations: { note: 'x', 'batch.kubernetes.io/cronjob-scheduled-timestamp': zonedTimestamp(at) },
    });
    expect(job!.metadata.ownerReferences).toMatchObject([{ kind: 'CronJob', name: 'tick', controller: true }]);
    await nextMinute();
    await eventually('two active', async () => (await tick()).status?.active?.length === 2);
    expect((await tick()).status!.lastScheduleTime).toBe(zonedTimestamp(at + minute));
  });

  test('Forbid waits for the one that runs, then catches up', async () => {
    await start({ concurrencyPolicy: 'Forbid' });
    await nextMinute();
    await eventually('one active', async () => (await tick()).status?.active?.length === 1);
    await nextMinute();
    expect(await jobs()).toHaveLength(1);
    expect(bench.recorded.map((e) => e.reason)).toContain('JobAlreadyActive');
    await end((await jobs())[0]!);
    await eventually('the next', async () => (await jobs()).length === 2);
    expect((await tick()).status!.lastSuccessfulTime).toBeDefined();
    expect(bench.recorded.map((e) => e.reason)).toContain('SawCompletedJob');
  });

  test('Replace ends the one that runs', async () => {
    await start({ concurrencyPolicy: 'Replace' });
    await nextMinute();
    const [first] = await eventually('a Job', async () => ((await names()).length === 1 ? names() : undefined));
    await nextMinute();
    await eventually('another', async () => (await names()).length === 1 && (await names())[0] !== first);
    await eventually('the status', async () => (await tick()).status?.active?.map((a) => a.name).join() === (await names()).join());
  });

  test('suspended it starts nothing, and goes on when resumed', async () => {
    await start({ suspend: true });
    await nextMinute();
    expect(await jobs()).toEqual([]);
    await bench.patch(resources.cronjobs, 'tick', { spec: { suspend: false } });
    await eventually('a Job', async () => (await jobs()).length === 1);
  });

  test('a time that was missed by more than startingDeadlineSeconds is not made up for', async () => {
    await start({ startingDeadlineSeconds: 20, suspend: true });
    clock.advance(minute + 30_000);
    await bench.patch(resources.cronjobs, 'tick', { spec: { suspend: false } });
    await settle();
    expect(await jobs()).toEqual([]);
    clock.advance(32_000);
    await eventually('a Job', async () => (await jobs()).length === 1);
  });

  test('keeps as many ended Jobs as the history limits say', async () => {
    await start({ successfulJobsHistoryLimit: 1, failedJobsHistoryLimit: 0 });
    await nextMinute();
    await end((await jobs())[0]!);
    await nextMinute();
    const [first, second] = await eventually('two Jobs', async () => ((await names()).length === 2 ? jobs() : undefined));
    await end([first!, second!].sort((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1))[1]!);
    await eventually('one Job', async () => (await names()).length === 1);
    await nextMinute();
    const running = await eventually('another', async () => (await jobs()).find((j) => !j.status?.conditions?.length));
    await end(running!, 'Failed');
    await eventually('it to go', async () => !(await names()).includes(running!.metadata.name));
  });

  test('a Job whose creation was not written down is taken up, not made twice', async () => {
    clock = new FakeClock(Math.ceil((Date.now() + 1000) / minute) * minute - 1000);
    bench = await open({ clock });
    const context = bench.as('cronjob-controller');
    let refused = 0;
    const { update } = context.client;
    context.client.update = async (type, object, options) => {
      if (refused++ === 0) throw new Error('the connection was lost');
      return update.call(context.client, type, object, options) as never;
    };
    startCronJobController(context);
    await bench.create(resources.cronjobs, cronJob());
    await settle();
    await nextMinute();
    await eventually('the status', async () => {
      clock.advance(10);
      return (await tick()).status?.active?.length === 1;
    });
    expect(await jobs()).toHaveLength(1);
  });
});

describe('schedules', () => {
  const times = (text: string, after: string, count: number, timeZone?: string) => {
    const schedule = parseSchedule(text, timeZone);
    const found: string[] = [];
    for (let t = Date.parse(after); found.length < count; ) {
      t = schedule.next(t)!;
      found.push(zonedTimestamp(t, timeZone));
    }
    return found;
  };

  test('fields: lists, ranges, steps, names', () => {
    expect(times('*/20 8-10/2 * * *', '2026-01-01T08:30:00Z', 4)).toEqual([
      '2026-01-01T08:40:00Z',
      '2026-01-01T10:00:00Z',
      '2026-01-01T10:20:00Z',
      '2026-01-01T10:40:00Z',
    ]);
    expect(times('5 0 * feb,AUG mon-Wed', '2026-01-01T00:00:00Z', 2)).toEqual(['2026-02-02T00:05:00Z', '2026-02-03T00:05:00Z']);
    expect(times('50/5 * * * *', '2026-01-01T00:00:00Z', 3)).toEqual(['2026-01-01T00:50:00Z', '2026-01-01T00:55:00Z', '2026-01-01T01:50:00Z']);
    expect(times('0 0 29 2 *', '2026-01-01T00:00:00Z', 1)).toEqual(['2028-02-29T00:00:00Z']);
  });

  test('day of the month and of the week: either, where both are said', () => {
    expect(times('0 0 13 * 5', '2026-01-01T00:00:00Z', 3)).toEqual(['2026-01-02T00:00:00Z', '2026-01-09T00:00:00Z', '2026-01-13T00:00:00Z']);
    expect(times('0 0 ? * 5', '2026-01-01T00:00:00Z', 1)).toEqual(['2026-01-02T00:00:00Z']);
  });

  test('macros and intervals', () => {
    expect(times('@monthly', '2026-01-01T00:00:00Z', 1)).toEqual(['2026-02-01T00:00:00Z']);
    expect(times('@every 1h30m', '2026-01-01T00:00:10Z', 2)).toEqual(['2026-01-01T01:30:10Z', '2026-01-01T03:00:10Z']);
  });

  test('time zones, over the changes of the clock', () => {
    expect(times('0 9 * * *', '2026-01-01T00:00:00Z', 1, 'America/New_York')).toEqual(['2026-01-01T09:00:00-05:00']);
    // 02:30 does not exist on the day of the change, 01:30 does so twice on the way back.
    expect(times('30 2 * * *', '2026-03-07T12:00:00Z', 2, 'America/New_York')).toEqual(['2026-03-09T02:30:00-04:00', '2026-03-10T02:30:00-04:00']);
    expect(times('30 1 * * *', '2026-11-01T04:00:00Z', 3, 'America/New_York')).toEqual([
      '2026-11-01T01:30:00-04:00',
      '2026-11-01T01:30:00-05:00',
      '2026-11-02T01:30:00-05:00',
    ]);
    expect(times('0 0 * * *', '2026-03-29T00:00:00Z', 1, 'Asia/Kolkata')).toEqual(['2026-03-30T00:00:00+05:30']);
    // The clock of Beirut goes from midnight straight to one.
    expect(times('15 * * * *', '2025-03-29T21:30:00Z', 1, 'Asia/Beirut')).toEqual(['2025-03-30T01:15:00+03:00']);
  });

  test.each([
    ['* * * *', /expected exactly 5 fields, found 4/],
    ['60 * * * *', /end of range \(60\) above maximum \(59\)/],
    ['* * 0 * *', /beginning of range \(0\) below minimum \(1\)/],
    ['*/0 * * * *', /step of range should be a positive number/],
    ['x * * * *', /failed to parse int from x/],
    ['@never', /unrecognized descriptor/],
    ['@every soon', /invalid duration "soon"/],
  ])('refuses %s', (text, why) => {
    expect(() => parseSchedule(text)).toThrow(why);
  });

  test('of many missed times the last counts', () => {
    const at = (created: string, spec: object = {}) =>
      ({ metadata: { creationTimestamp: created }, spec: { schedule: '', ...spec } }) as unknown as CronJob;
    const now = Date.parse('2026-01-10T00:00:30Z');
    const due = (text: string, cron: CronJob) => dueNow(cron, parseSchedule(text), now);
    expect(due('* * * * *', at('2026-01-01T00:00:00Z'))).toMatchObject({ at: Date.parse('2026-01-10T00:00:00Z'), tooMany: true });
    expect(due('* * * * *', at('2026-01-01T00:00:00Z', { startingDeadlineSeconds: 90 }))).toMatchObject({
      at: Date.parse('2026-01-10T00:00:00Z'),
      tooMany: false,
    });
    expect(due('0 12 * * *', at('2026-01-09T13:00:00Z')).at).toBeUndefined();
    // Uneven: two close to each other, then a long time nothing.
    expect(due('0,1 0 1 * *', at('2025-12-31T00:00:00Z'))).toMatchObject({ at: Date.parse('2026-01-01T00:01:00Z') });
  });
});
