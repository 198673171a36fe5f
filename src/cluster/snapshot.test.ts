import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { openLmdbStore } from '../store/lmdb.ts';
import { restore, save, status } from './snapshot.ts';

const folder = mkdtempSync(join(tmpdir(), 'kumulus-snapshot-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const location = { directory: join(folder, 'store') };
const file = join(folder, 'snapshot');

it('saves a store in use; restores it when it is not, and keeps what was there', async () => {
  const put = async (store: Awaited<ReturnType<typeof openLmdbStore>>, value: string) =>
    (await store.transaction([], [{ type: 'put', key: '/registry/a', value: Buffer.from(value) }])).revision;
  let store = await openLmdbStore(location.directory);
  await put(store, 'saved');
  expect(await save(location, file)).toMatchObject({ keys: 1 });
  const later = await put(store, 'later');
  await expect(save(location, file)).rejects.toThrow('exists already');
  await expect(restore(location, file)).rejects.toThrow(/in use by process \d+ .*stop the cluster first/);
  await store.close();

  const { kept } = await restore(location, file);
  store = await openLmdbStore(location.directory);
  const item = await store.get('/registry/a');
  expect(item?.value.toString()).toBe('saved');
  expect(item?.modRevision).toBeGreaterThan(later);
  await store.close();
  expect(existsSync(join(kept as string, 'data.mdb'))).toBe(true);
  expect(readdirSync(folder).filter((name) => name.startsWith('.'))).toEqual([]);
});

it('says what is wrong with a file', async () => {
  await expect(status(join(folder, 'none'))).rejects.toThrow('does not exist');
  writeFileSync(join(folder, 'other'), 'text');
  await expect(status(join(folder, 'other'))).rejects.toThrow(/other: not a snapshot/);
  await expect(save({ directory: join(folder, 'nowhere') }, join(folder, 'x'))).rejects.toThrow('there is no store in');
});
