import { expect, it } from 'vitest';
import { type Operation, RegisterHistory } from './register-history.ts';

const history = (...operations: [type: 'read' | 'write', began: number, ended: number, value: string, revision: number][]) => {
  const h = new RegisterHistory();
  h.operations.push(...operations.map(([type, began, ended, value, revision]): Operation => ({ register: 'r', type, began, ended, value, revision })));
  return h.violations();
};

it('finds stale reads, lost order and two truths; concurrent operations may stand either way', () => {
  expect(history(['write', 0, 1, 'a', 2], ['read', 2, 3, 'a', 2], ['write', 2, 5, 'b', 3], ['read', 4, 6, 'a', 2], ['read', 6, 7, 'b', 3])).toEqual([]);
  expect(history(['write', 0, 1, 'a', 2], ['write', 2, 3, 'b', 3], ['read', 4, 5, 'a', 2])).toHaveLength(1);
  expect(history(['write', 0, 1, 'a', 5], ['write', 2, 3, 'b', 4])).toHaveLength(1);
  expect(history(['write', 0, 1, 'a', 2], ['read', 0, 1, 'x', 2])).toHaveLength(1);
});
