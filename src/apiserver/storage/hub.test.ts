import { pino } from 'pino';
import { afterEach, describe, expect, it } from 'vitest';
import { scheme } from '../../api/scheme.ts';
import { CompactedError, type Store, type WatchRequest } from '../../store/store.ts';
import { openMemoryStore } from '../../store/memory.ts';
import { CacheHub } from './hub.ts';

const served = scheme.find('', 'v1', 'configmaps')!;
const value = (name: string, data: string) =>
  Buffer.from(JSON.stringify({ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name, namespace: 'default' }, data: { data } }));
const key = (name: string) => `/registry/configmaps/default/${name}`;
const put = (store: Store, name: string, data = '') => store.transaction([], [{ type: 'put', key: key(name), value: value(name, data) }]);

describe('caches over the store', () => {
  const ends: (() => unknown)[] = [];
  afterEach(async () => {
    for (const end of ends.splice(0).reverse()) await end();
  });
  const open = async (store: Store = openMemoryStore()) => {
    ends.push(() => store.close());
    const hub = new CacheHub(store, pino({ level: 'silent' }));
    const cache = hub.cacheOf(served);
    await hub.start();
    ends.push(() => hub.close());
    return { store, hub, cache };
  };

  it('answer changes from before their own beginning from the history of the store', async () => {
    const store = openMemoryStore();
    const { revision } = await put(store, 'a', '1');
    await put(store, 'a', '2');
    await store.transaction([], [{ type: 'delete', key: key('a') }]);
    await put(store, 'b', '1');
    const { hub, cache } = await open(store);
    expect(cache.reaches(revision)).toBe(false);
    const { events, upTo } = await hub.replay(cache, revision);
    expect(upTo).toBe(store.revision());
    expect(events.map((e) => [e.revision, e.deleted, e.entry.key, (e.entry.object as any).data.data, e.previous?.revision])).toEqual([
      [revision + 1, false, 'default/a', '2', revision],
      [revision + 2, true, 'default/a', '2', revision + 1],
      [revision + 3, false, 'default/b', '1', undefined],
    ]);
    await store.compact(revision + 2);
    await expect(hub.replay(cache, revision)).rejects.toBeInstanceOf(CompactedError);
  });

  it('know that deletions from before their beginning are missing', async () => {
    const store = openMemoryStore();
    await put(store, 'b', '1');
    const { revision } = await put(store, 'a', '1');
    await store.transaction([], [{ type: 'delete', key: key('a') }]);
    await store.transaction([], [{ type: 'put', key: '/registry/secrets/default/s', value: value('s', '1') }]);
    const { hub, cache } = await open(store);
    expect(cache.reaches(revision)).toBe(false);
    const { events } = await hub.replay(cache, revision);
    expect(events.map((e) => [e.revision, e.deleted, e.entry.key])).toEqual([[revision + 1, true, 'default/a']]);
  });

  it('are filled anew when compaction has overtaken their watch; indexes hear what has changed, watches end', async () => {
    const inner = openMemoryStore();
    let request: WatchRequest | undefined;
    const store = new Proxy(inner, {
      get(target, property) {
        if (property === 'watch') {
          return (r: WatchRequest) => {
            request = r;
            return target.watch(r);
          };
        }
        const member = Reflect.get(target, property);
        return typeof member === 'function' ? member.bind(target) : member;
      },
    });
    await put(inner, 'gone');
    await put(inner, 'kept');
    const { hub, cache } = await open(store);
    const heard: string[] = [];
    cache.onChange((e) => heard.push(`${e.deleted ? 'deleted' : 'put'} ${e.entry.key}`));
    let ended: Error | undefined;
    cache.addWatcher({ onEvent: () => {}, onEnd: (error) => (ended = error) });
    const lost = request as WatchRequest;
    lost.onEvents = () => {};
    await inner.transaction([], [{ type: 'delete', key: key('gone') }]);
    await put(inner, 'new');
    lost.onError(new CompactedError(inner.revision()));
    await put(inner, 'later');
    await expect.poll(() => [...cache.entries.keys()].sort()).toEqual(['default/kept', 'default/later', 'default/new']);
    expect(ended).toBeInstanceOf(CompactedError);
    expect(heard.slice(0, 2)).toEqual(['deleted default/gone', 'put default/new']);
    expect(hub.failure).toBeUndefined();
  });
});
