import { expect, test, vi } from 'vitest';
import { FanOut } from './fan-out.ts';

const busy = (ms: number) => {
  const until = performance.now() + ms;
  while (performance.now() < until);
};

test('everyone who asks is called once a round, also those who ask during one', async () => {
  const fanOut = new FanOut();
  const calls: string[] = [];
  fanOut.add(() => {
    calls.push('a');
    fanOut.add(() => calls.push('again'));
  });
  fanOut.add(() => calls.push('b'));
  await vi.waitFor(() => expect(calls).toEqual(['a', 'b', 'again']));
});

test('a long round is cut into slices, between which others have their turn', async () => {
  const fanOut = new FanOut();
  const calls: string[] = [];
  for (let i = 0; i < 64; i++)
    fanOut.add(() => {
      busy(0.5);
      calls.push('w');
    });
  const other = () => {
    calls.push('other');
    if (calls.filter((c) => c === 'w').length < 64) setImmediate(other);
  };
  setImmediate(other);
  await vi.waitFor(() => expect(calls.filter((c) => c === 'w')).toHaveLength(64));
  const first = calls.indexOf('other');
  expect(calls.slice(0, calls.lastIndexOf('w'))).toContain('other');
  expect(first).toBeLessThan(64);
});
