import { expect, test } from 'vitest';
import { warningHeaders } from './warnings.ts';

test('a warning is quoted, said once, and none has control characters', () => {
  expect(warningHeaders(['say "a\\b"', 'two', 'two', '', 'line\nbreak'])).toEqual(['299 - "say \\"a\\\\b\\""', '299 - "two"']);
});

test('few are whole; of many, each is cut, and the rest is left out', () => {
  expect(warningHeaders(['x'.repeat(4096)])[0]).toHaveLength(4096 + 8);
  const many = warningHeaders(Array.from({ length: 30 }, (_, i) => `${i} ${'x'.repeat(400)}`));
  expect(many).toHaveLength(16);
  expect(many.every((w) => w.length === 256 + 8)).toBe(true);
});
