import { pino } from 'pino';
import { describe, expect, it } from 'vitest';
import { FakeClock } from './fake-clock.ts';
import { runWorkers, WorkQueue } from './queue.ts';

const log = pino({ level: 'silent' });
const turn = () => new Promise((resolve) => setImmediate(resolve));

describe('WorkQueue', () => {
  it('holds a waiting key once and in order', async () => {
    const queue = new WorkQueue();
    for (const key of ['a', 'b', 'a']) queue.add(key);
    expect(queue.length).toBe(2);
    expect([await queue.next(), await queue.next()]).toEqual(['a', 'b']);
  });

  it('runs a key again that was added while it ran, never beside itself', async () => {
    const queue = new WorkQueue();
    queue.add('a');
    const key = await queue.next();
    queue.add('a');
    queue.add('a');
    expect(queue.length).toBe(0);
    queue.done(key!);
    expect(queue.length).toBe(1);
    queue.done((await queue.next())!);
    expect(queue.length).toBe(0);
  });

  it('delays, and keeps the sooner of two delays', () => {
    const clock = new FakeClock();
    const queue = new WorkQueue({ clock });
    queue.addAfter('a', 1000);
    queue.addAfter('a', 200);
    queue.addAfter('a', 500);
    clock.advance(199);
    expect(queue.length).toBe(0);
    clock.advance(1);
    expect(queue.length).toBe(1);
    queue.addAfter('b', 0);
    expect(queue.length).toBe(2);
  });

  it('doubles the delay of a failing key up to the longest, until it is forgotten', () => {
    const clock = new FakeClock();
    const queue = new WorkQueue({ clock, qps: 1e9, burst: 1e9 });
    const delays: number[] = [];
    for (let i = 0; i < 20; i++) {
      const from = clock.now();
      queue.addRateLimited('a');
      while (queue.length === 0) clock.advanceToNext();
      delays.push(clock.now() - from);
      void queue.next();
      queue.done('a');
    }
    expect(delays.slice(0, 5)).toEqual([5, 10, 20, 40, 80]);
    expect(delays[19]).toBe(1_000_000);
    queue.forget('a');
    queue.addRateLimited('a');
    clock.advance(5);
    expect(queue.length).toBe(1);
  });

  it('limits the rate over all keys', () => {
    const clock = new FakeClock();
    const queue = new WorkQueue({ clock, baseDelayMs: 0, qps: 10, burst: 3 });
    for (const key of ['a', 'b', 'c', 'd', 'e']) queue.addRateLimited(key);
    expect(queue.length).toBe(3);
    clock.advance(100);
    expect(queue.length).toBe(4);
    clock.advance(100);
    expect(queue.length).toBe(5);
  });
});

describe('runWorkers', () => {
  it('retries what throws, goes on with the rest, and ends with the signal', async () => {
    const clock = new FakeClock();
    const queue = new WorkQueue({ clock });
    const stop = new AbortController();
    const runs: string[] = [];
    let failures = 2;
    const done = runWorkers({
      queue,
      workers: 2,
      log,
      signal: stop.signal,
      reconcile: async (key) => {
        runs.push(key);
        if (key === 'bad' && failures-- > 0) throw new Error('no');
        if (key === 'later' && runs.filter((r) => r === 'later').length === 1) return { requeueAfterMs: 50 };
        return undefined;
      },
    });
    for (const key of ['bad', 'good', 'later']) queue.add(key);
    await turn();
    expect(runs).toEqual(['bad', 'good', 'later']);
    clock.advance(5);
    await turn();
    clock.advance(10);
    await turn();
    expect(runs.filter((r) => r === 'bad')).toHaveLength(3);
    expect(queue.failures('bad')).toBe(0);
    clock.advance(50);
    await turn();
    expect(runs.filter((r) => r === 'later')).toHaveLength(2);
    stop.abort();
    await done;
    queue.add('more');
    expect(queue.length).toBe(0);
  });

  it('runs different keys at once and waits for them at the end', async () => {
    const queue = new WorkQueue();
    const stop = new AbortController();
    let running = 0;
    let most = 0;
    let release = () => {};
    const gate = new Promise<void>((resolve) => (release = resolve));
    const done = runWorkers({
      queue,
      workers: 3,
      log,
      signal: stop.signal,
      reconcile: async () => {
        most = Math.max(most, ++running);
        await gate;
        running--;
      },
    });
    for (const key of ['a', 'b', 'c', 'd']) queue.add(key);
    await turn();
    expect(most).toBe(3);
    stop.abort();
    release();
    await done;
    expect(running).toBe(0);
  });
});
