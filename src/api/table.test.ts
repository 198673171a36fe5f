import { expect, test } from 'vitest';
import { strategyOf } from './kinds/index.ts';
import { makeTable } from './table.ts';

const tableOf = (group: string, kind: string, objects: any[]) =>
  makeTable({ group, version: 'v1', kind, strategy: strategyOf(group, kind) } as never, objects);

test('flow schemas show in the order in which requests are matched with them', () => {
  const schema = (name: string, matchingPrecedence: number) => ({ metadata: { name }, spec: { matchingPrecedence } });
  const { rows } = tableOf('flowcontrol.apiserver.k8s.io', 'FlowSchema', [schema('a', 9000), schema('c', 1), schema('b', 1)]);
  expect(rows.map((r) => r.cells[0])).toEqual(['b', 'c', 'a']);
});

test('an address has its age beyond its columns, as upstream', () => {
  const { rows, columnDefinitions } = tableOf('networking.k8s.io', 'IPAddress', [
    { metadata: { name: '10.96.0.1', creationTimestamp: '2026-01-01T00:00:00Z' }, spec: { parentRef: { resource: 'services', namespace: 'default', name: 'kubernetes' } } },
  ]);
  expect(columnDefinitions.length).toBe(2);
  expect(rows[0]?.cells.slice(0, 2)).toEqual(['10.96.0.1', 'services/default/kubernetes']);
  expect(rows[0]?.cells.length).toBe(3);
});
