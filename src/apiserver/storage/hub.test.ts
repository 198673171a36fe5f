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
    expect(cache.reaches(revision)).toBe(true);
    expect(events.map((e) => [e.revision, e.deleted, e.entry.key, (e.entry.object as any).data.data, e.previous?.revision])).toEqual([
      [revision + 1, false, 'default/a', '2', revision],
      [revision + 2, true, 'default/a', '2', revision + 1],
      [revision + 3, false, 'default/b', '1', undefined],
    ]);
    await store.compact(revision + 2);
    // What this server still has needs no store; another one has to ask.
    const other = await open(store);
    await expect(other.hub.replay(other.cache, revision)).rejects.toBeInstanceOf(CompactedError);
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

  it('read the past once, however many resume from however many places in it', async () => {
    const store = openMemoryStore();
    const first = store.revision();
    const secrets = scheme.find('', 'v1', 'secrets')!;
    for (let i = 0; i < 300; i++) {
      await put(store, `c-${i % 7}`, String(i));
      await store.transaction([], [{ type: 'put', key: `/registry/secrets/default/s-${i % 5}`, value: value(`s-${i % 5}`, String(i)) }]);
    }
    let watches = 0;
    const counted = new Proxy(store, {
      get(target, property) {
        if (property === 'watch') watches++;
        const member = Reflect.get(target, property);
        return typeof member === 'function' ? member.bind(target) : member;
      },
    });
    ends.push(() => store.close());
    const hub = new CacheHub(counted, pino({ level: 'silent' }));
    const caches = [hub.cacheOf(served), hub.cacheOf(secrets)];
    await hub.start();
    ends.push(() => hub.close());
    watches = 0;
    const from = (i: number) => first + ((i * 37) % 590);
    const resumed = await Promise.all(Array.from({ length: 400 }, (_, i) => hub.replay(caches[i % 2]!, from(i))));
    expect(hub.past.readings).toBe(1);
    expect(watches).toBe(1);
    resumed.forEach(({ events, upTo }, i) => {
      expect(upTo).toBe(store.revision());
      const expected = Array.from({ length: 600 }, (_, r) => first + 1 + r).filter((r) => r > from(i) && (r - first) % 2 === (i % 2 === 0 ? 1 : 0));
      expect(events.map((e) => e.revision)).toEqual(expected);
    });
    // Those that come later are served from memory.
    expect(caches[0]!.reaches(first)).toBe(true);
    expect(caches[0]!.since(first + 500).length).toBe(50);
    expect(caches[0]!.since(first).at(0)!.previous).toBeUndefined();
  });

  it('also where the past is longer than a history, and where it was compacted for some only', async () => {
    const store = openMemoryStore();
    const first = store.revision();
    for (let i = 0; i < 5000; i++) await put(store, 'a', String(i));
    const { hub, cache } = await open(store);
    const all = await Promise.all([hub.replay(cache, first), hub.replay(cache, first + 10), hub.replay(cache, first + 4990)]);
    expect(all.map(({ events }) => events.length)).toEqual([5000, 4990, 10]);
    expect(all.map(({ events }) => events.every((e, i) => i === 0 || e.revision === events[i - 1]!.revision + 1))).toEqual([true, true, true]);
    expect(hub.past.readings).toBe(1);
    // The latest of them are kept.
    expect(cache.reaches(first + 4000)).toBe(true);
    expect(cache.reaches(first)).toBe(false);
    await store.compact(first + 1000);
    const other = await open(store);
    const [gone, there] = await Promise.allSettled([other.hub.replay(other.cache, first + 1), other.hub.replay(other.cache, first + 2000)]);
    expect(gone).toMatchObject({ status: 'rejected', reason: expect.any(CompactedError) });
    expect(there.status === 'fulfilled' && there.value.events.length).toBe(3000);
  });

  it('forget those that go away while they wait', async () => {
    const store = openMemoryStore();
    const { revision } = await put(store, 'a', '1');
    await put(store, 'a', '2');
    const { hub, cache } = await open(store);
    const leaving = new AbortController();
    const refused = hub.replay(cache, revision, leaving.signal);
    const served_ = hub.replay(cache, revision);
    leaving.abort();
    await expect(refused).rejects.toMatchObject({ code: 499 });
    expect((await served_).events).toHaveLength(1);
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
