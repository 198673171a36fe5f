import { expect, test } from 'vitest';
import { componentMetrics } from './metrics.ts';
import { runWorkers, WorkQueue } from './queue.ts';
import { pino } from 'pino';

const figure = (metric: string, name: string): number | undefined => {
  const line = componentMetrics.text().split('\n').find((l) => l.startsWith(`${metric}{name="${name}"}`));
  return line === undefined ? undefined : Number(line.slice(line.lastIndexOf(' ')));
};

test('a queue tells what it was given, how long it waited, and how long the work took', async () => {
  const name = `test-${process.pid}-${performance.now()}`;
  const queue = new WorkQueue({ name });
  queue.add('a');
  queue.add('a');
  queue.add('b');
  expect([figure('workqueue_adds_total', name), figure('workqueue_depth', name)]).toEqual([2, 2]);
  const ending = new AbortController();
  let release = () => {};
  let failed = false;
  let held = false;
  const work = runWorkers({
    queue,
    workers: 1,
    log: pino({ level: 'silent' }),
    signal: ending.signal,
    reconcile: async (key) => {
      if (key === 'b' && !failed) {
        failed = true;
        throw new Error('once');
      }
      if (key === 'a' && !held) {
        held = true;
        await new Promise<void>((resolve) => (release = resolve));
      }
    },
  });
  await expect.poll(() => figure('workqueue_longest_running_processor_seconds', name)).toBeGreaterThan(0);
  expect(figure('workqueue_depth', name)).toBe(1);
  // Put in while it is worked on: it is worked on once more.
  queue.add('a');
  release();
  await expect.poll(() => figure('workqueue_retries_total', name)).toBe(1);
  await expect.poll(() => figure('workqueue_work_duration_seconds_count', name)).toBe(4);
  expect(figure('workqueue_adds_total', name)).toBe(4);
  expect(figure('workqueue_queue_duration_seconds_count', name)).toBe(4);
  ending.abort();
  await work;
  expect(figure('workqueue_depth', name)).toBeUndefined();
});
