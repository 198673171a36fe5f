import { expect, test } from 'vitest';
import { RateLimit } from './rate-limit.ts';

test('a burst is let through, the rest at the rate, and what was not used comes back up to the burst', () => {
  let now = 0;
  const limit = new RateLimit({ perSecond: 10, burst: 3, now: () => now });
  expect([1, 2, 3, 4, 5].map(() => limit.take())).toEqual([0, 0, 0, 100, 200]);
  now = 200;
  expect(limit.take()).toBe(100);
  now = 60_000;
  expect([1, 2, 3, 4].map(() => limit.take())).toEqual([0, 0, 0, 100]);
});
