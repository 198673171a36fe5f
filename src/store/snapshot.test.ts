import { PassThrough, Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { expect, it } from 'vitest';
import { openMemoryStore } from './memory.ts';
import { readSnapshot, restoreSnapshot, saveSnapshot } from './snapshot.ts';
import { CompactedError, prefixEnd, type Store } from './store.ts';

const put = (store: Store, key: string, value: string, lease?: number) =>
  store.transaction([], [{ type: 'put', key, value: Buffer.from(value), ...(lease ? { lease } : {}) }]);
const save = async (store: Store) => {
  const to = new PassThrough();
  const [status, bytes] = await Promise.all([saveSnapshot(store, to, new Date(0)), buffer(to)]);
  return { status, bytes };
};
const all = async (store: Store) => (await store.range({ start: '/', end: prefixEnd('/') })).items.map((i) => [i.key, i.value.toString()]);

it('brings everything back, at revisions that nobody has seen before', async () => {
  const store = openMemoryStore();
  for (let i = 0; i < 2500; i++) await put(store, `/registry/pods/default/p${String(i).padStart(4, '0')}`, `{"n":${i},"text":"line\nbreak"}`);
  await put(store, '/registry/events/default/e', 'x', await store.grantLease(10));
  const { status, bytes } = await save(store);
  expect(status).toMatchObject({ keys: 2501, revision: store.revision(), createdAt: '1970-01-01T00:00:00.000Z' });
  expect(await readSnapshot(Readable.from([bytes]))).toEqual(status);

  const other = openMemoryStore();
  expect(await restoreSnapshot(other, Readable.from([bytes]), 10_000)).toEqual(status);
  expect(await all(other)).toEqual(await all(store));
  expect((await other.get('/registry/pods/default/p0000'))?.modRevision).toBeGreaterThan(10_000);
  expect((await other.get('/registry/events/default/e'))?.lease).not.toBe(0);
  await expect(other.get('/registry/pods/default/p0000', status.revision)).rejects.toBeInstanceOf(CompactedError);
  await expect(restoreSnapshot(other, Readable.from([bytes]))).rejects.toThrow('the store is not empty: it holds 2501 keys');
});

it('shows one revision, whatever is written meanwhile', async () => {
  const store = openMemoryStore();
  await put(store, '/a', 'then');
  const to = new PassThrough();
  const saving = saveSnapshot(store, to, new Date());
  await put(store, '/a', 'now');
  await put(store, '/b', 'now');
  const bytes = await buffer(to);
  await saving;
  const other = openMemoryStore();
  await restoreSnapshot(other, Readable.from([bytes]));
  expect(await all(other)).toEqual([['/a', 'then']]);
});

it('refuses what is no snapshot, damaged or not whole', async () => {
  const store = openMemoryStore();
  await put(store, '/a', 'value');
  const { bytes } = await save(store);
  await expect(readSnapshot(Readable.from([Buffer.from('hello')]))).rejects.toThrow(/not a snapshot/);
  await expect(readSnapshot(Readable.from([bytes.subarray(0, bytes.length - 30)]))).rejects.toThrow(/not whole/);
  const { gunzipSync, gzipSync } = await import('node:zlib');
  const changed = gunzipSync(bytes);
  changed.write('VALUE', changed.indexOf('value'));
  await expect(readSnapshot(Readable.from([gzipSync(changed)]))).rejects.toThrow(/checksum differs/);
});
