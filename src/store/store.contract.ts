import { afterEach, describe, expect, it } from 'vitest';
import { CompactedError, FutureRevisionError, prefixEnd, type Store, type StoreEvents } from './store.ts';

const put = (key: string, value: string, lease?: number) => ({ type: 'put' as const, key, value: Buffer.from(value), ...(lease ? { lease } : {}) });
const del = (key: string) => ({ type: 'delete' as const, key });
const prefix = (p: string) => ({ start: p, end: prefixEnd(p) });

/** What every backend must do. `open` gives a fresh store, and opens the same one again where it outlives its process. */
export function storeContract(name: string, open: () => Promise<Store>, reopen?: (closed: Store) => Promise<Store>): void {
  describe(`store contract: ${name}`, () => {
    const opened: Store[] = [];
    const fresh = async () => {
      const store = await open();
      opened.push(store);
      return store;
    };
    afterEach(async () => {
      for (const store of opened.splice(0)) await store.close();
    });
    const text = async (store: Store, key: string, revision?: number) => (await store.get(key, revision))?.value.toString();

    it('counts revisions, creations and versions as etcd does', async () => {
      const s = await fresh();
      expect(s.revision()).toBe(1);
      const first = await s.transaction([], [put('/a', '1'), put('/b', '1')]);
      expect(first).toMatchObject({ succeeded: true, revision: 2 });
      await s.transaction([], [put('/a', '2')]);
      expect(await s.get('/a')).toMatchObject({ createRevision: 2, modRevision: 3, version: 2 });
      await s.transaction([], [del('/a')]);
      await s.transaction([], [put('/a', '3')]);
      expect(await s.get('/a')).toMatchObject({ createRevision: 5, modRevision: 5, version: 1 });
      expect((await s.transaction([], [del('/nothing')])).revision).toBe(5);
    });

    it('compares before it writes, all or nothing', async () => {
      const s = await fresh();
      const create = (v: string) => s.transaction([{ key: '/a', modRevision: 0 }], [put('/a', v)], [{ type: 'get', key: '/a' }]);
      const results = await Promise.all([create('x'), create('y'), create('z')]);
      expect(results.filter((r) => r.succeeded)).toHaveLength(1);
      const winner = ['x', 'y', 'z'][results.findIndex((r) => r.succeeded)];
      expect(results.filter((r) => !r.succeeded).map((r) => r.gets[0]?.value.toString())).toEqual([winner, winner]);
      // Within one process the first call wins.
      if (!s.shared) expect(winner).toBe('x');
      expect(s.revision()).toBe(2);
    });

    it('reads ranges now and as they were, with limits and counts', async () => {
      const s = await fresh();
      for (let i = 0; i < 10; i++) await s.transaction([], [put(`/r/${i}`, `${i}`)]);
      const then = s.revision();
      await s.transaction([], [del('/r/3'), put('/r/4', 'new'), put('/r/x', 'x')]);
      const now = await s.range(prefix('/r/'));
      expect(now.items.map((i) => i.key)).toEqual(['/r/0', '/r/1', '/r/2', '/r/4', '/r/5', '/r/6', '/r/7', '/r/8', '/r/9', '/r/x']);
      const old = await s.range({ ...prefix('/r/'), revision: then, limit: 5 });
      expect(old.items.map((i) => i.value.toString())).toEqual(['0', '1', '2', '3', '4']);
      expect(old).toMatchObject({ count: 10, more: true, revision: then + 1 });
      expect(await s.range({ ...prefix('/r/'), countOnly: true })).toMatchObject({ items: [], count: 10 });
      expect(await text(s, '/r/4', then)).toBe('4');
      await expect(s.get('/r/4', 1000)).rejects.toBeInstanceOf(FutureRevisionError);
    });

    it('tells watchers every change once and in order, from any revision', async () => {
      const s = await fresh();
      for (let i = 0; i < 5; i++) await s.transaction([], [put('/w/a', `${i}`)]);
      const seen: string[] = [];
      const all = new Promise<void>((resolve) => {
        s.watch({
          ...prefix('/w/'),
          startRevision: 4,
          onError: (e) => seen.push(String(e)),
          onEvents: ({ revision, events }: StoreEvents) => {
            for (const e of events) seen.push(`${revision} ${e.type} ${e.item.key} ${e.item.value} ${e.previous?.value ?? '-'}`);
            if (seen.length >= 6) resolve();
          },
        });
      });
      const writes = [[put('/w/b', 'x')], [put('/other', 'x')], [del('/w/b'), put('/w/a', 'end')]];
      if (s.shared) for (const operations of writes) await s.transaction([], operations);
      else await Promise.all(writes.map((operations) => s.transaction([], operations)));
      await all;
      expect(seen).toEqual(['4 put /w/a 2 1', '5 put /w/a 3 2', '6 put /w/a 4 3', '7 put /w/b x -', '9 delete /w/b  x', '9 put /w/a end 4']);
    });

    it('tells a watch from the past how far it is complete, also where others changed last', async () => {
      const s = await fresh();
      for (const key of ['/p/a', '/p/a', '/other/a', '/other/b']) await s.transaction([], [put(key, 'x')]);
      const last = s.revision();
      const seen: string[] = [];
      const told = await new Promise<number>((resolve, reject) => {
        s.watch({
          ...prefix('/p/'),
          startRevision: last - 2,
          onError: reject,
          onEvents: ({ revision, events }: StoreEvents) => {
            for (const e of events) seen.push(`${revision} ${e.type} ${e.item.key}`);
            if (revision >= last) resolve(revision);
          },
        });
      });
      expect(told).toBe(last);
      expect(seen).toEqual([`${last - 2} put /p/a`]);
    });

    it('forgets what is compacted and says so', async () => {
      const s = await fresh();
      for (let i = 0; i < 6; i++) await s.transaction([], [put('/c', `${i}`)]);
      await s.compact(5);
      expect(s.compactedRevision()).toBe(5);
      expect(await text(s, '/c', 5)).toBe('3');
      expect(await text(s, '/c')).toBe('5');
      await expect(s.get('/c', 4)).rejects.toBeInstanceOf(CompactedError);
      await expect(s.compact(3)).rejects.toBeInstanceOf(CompactedError);
      const error = await new Promise<Error>((resolve) => s.watch({ ...prefix('/c'), startRevision: 3, onEvents: () => {}, onError: resolve }));
      expect(error).toBeInstanceOf(CompactedError);
    });

    it('deletes the keys of a lease with it', async () => {
      const s = await fresh();
      const lease = await s.grantLease(60);
      await s.transaction([], [put('/l/1', 'x', lease), put('/l/2', 'x', lease), put('/l/3', 'x')]);
      await s.transaction([], [put('/l/2', 'kept')]);
      await s.revokeLease(lease);
      expect((await s.range(prefix('/l/'))).items.map((i) => i.key)).toEqual(['/l/2', '/l/3']);
      await expect(s.keepLeaseAlive(lease)).rejects.toThrow(/lease/);
    });

    if (reopen) {
      it('has everything again after it was closed', async () => {
        const s = await open();
        const lease = await s.grantLease(60);
        await s.transaction([], [put('/p/1', 'a'), put('/p/2', 'b', lease)]);
        await s.transaction([], [put('/p/1', 'c')]);
        await s.compact(2);
        await s.close();
        const again = await reopen(s);
        opened.push(again);
        expect(again.revision()).toBe(3);
        // Where others compact too, a store hears of it by the first read that is refused.
        if (!again.shared) expect(again.compactedRevision()).toBe(2);
        await expect(again.get('/p/1', 1)).rejects.toBeInstanceOf(CompactedError);
        expect(await text(again, '/p/1', 2)).toBe('a');
        expect(await text(again, '/p/1')).toBe('c');
        await again.revokeLease(lease);
        expect(await again.get('/p/2')).toBeUndefined();
      });
    }
  });
}
