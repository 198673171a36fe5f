import { expect, test } from 'vitest';
import { applyJsonPatch } from './json-patch.ts';

test('a copy is a thing of its own', () => {
  const operations = [
    { op: 'add', path: '/a', value: { x: 1 } },
    { op: 'add', path: '/a/y', value: 2 },
    { op: 'copy', from: '/a', path: '/b' },
    { op: 'replace', path: '/b/x', value: 3 },
  ];
  expect(applyJsonPatch({}, operations)).toEqual({ a: { x: 1, y: 2 }, b: { x: 3, y: 2 } });
});

test('a document that is copied into itself ends', () => {
  const operations = [
    { op: 'add', path: '/a', value: 1 },
    { op: 'copy', from: '', path: '/' },
  ];
  expect(applyJsonPatch({}, operations)).toEqual({ a: 1, '': { a: 1 } });
});

test('integers keep their digits in a copy', () => {
  expect(applyJsonPatch({ a: { n: 9007199254740993n } }, [{ op: 'copy', from: '/a', path: '/b' }])).toEqual({ a: { n: 9007199254740993n }, b: { n: 9007199254740993n } });
});
