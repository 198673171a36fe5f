import { PassThrough, Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { type EtcdCluster, findEtcd, startEtcd } from './etcd/testing.ts';
import { openEtcdStore } from './etcd.ts';
import { openMemoryStore } from './memory.ts';
import { restoreSnapshot, saveSnapshot } from './snapshot.ts';
import { prefixEnd, type Store } from './store.ts';
import { storeContract } from './store.contract.ts';

const etcd = findEtcd();
if (!etcd) console.log('the store on etcd is not tested: no etcd on this machine (apt-get install etcd-server)');

describe.runIf(etcd)('store on etcd', { timeout: 60_000 }, () => {
  const clusters: EtcdCluster[] = [];
  const clusterOf = new WeakMap<Store, EtcdCluster>();
  const open = async (cluster: EtcdCluster) => {
    const store = await openEtcdStore({ endpoints: cluster.endpoints });
    clusterOf.set(store, cluster);
    return store;
  };
  afterEach(async () => {
    for (const cluster of clusters.splice(0)) await cluster.stop();
  });
  const fresh = async () => {
    const cluster = await startEtcd(1);
    clusters.push(cluster);
    return open(cluster);
  };
  storeContract('etcd', fresh, (closed) => open(clusterOf.get(closed) as EtcdCluster));

  it('hears of what others write, and asks the quorum for the latest revision', async () => {
    const one = await fresh();
    const two = await open(clusterOf.get(one) as EtcdCluster);
    const { revision } = await one.transaction([], [{ type: 'put', key: '/x', value: Buffer.from('1') }]);
    expect(two.revision()).toBe(1);
    expect(await Promise.all([two.latestRevision?.(), two.latestRevision?.()])).toEqual([revision, revision]);
    expect((await two.get('/x'))?.value.toString()).toBe('1');
    await one.close();
    await two.close();
  });

  it('takes a snapshot of another store in, at higher revisions', async () => {
    const source = openMemoryStore();
    for (let i = 0; i < 300; i++) await source.transaction([], [{ type: 'put', key: `/s/${i % 50}`, value: Buffer.from(`${i}`) }]);
    const to = new PassThrough();
    const [saved, bytes] = await Promise.all([saveSnapshot(source, to, new Date()), buffer(to)]);
    const store = await fresh();
    expect(await restoreSnapshot(store, Readable.from([bytes]))).toEqual(saved);
    const { items } = await store.range({ start: '/', end: prefixEnd('/') });
    expect(items).toHaveLength(50);
    expect(Math.min(...items.map((i) => i.modRevision))).toBeGreaterThan(saved.revision);
    const again = new PassThrough();
    const [second] = await Promise.all([saveSnapshot(store, again, new Date()), buffer(again)]);
    expect(second).toMatchObject({ keys: 50, size: saved.size });
    await store.close();
  });

  it('says which etcd cannot be reached', async () => {
    await expect(openEtcdStore({ endpoints: ['http://127.0.0.1:1'], openTimeoutMs: 300 })).rejects.toThrow(
      /etcd at http:\/\/127\.0\.0\.1:1 cannot be reached/,
    );
    await expect(openEtcdStore({ endpoints: ['localhost:2379'] })).rejects.toThrow(/is not an address of etcd/);
  });
});

describe.runIf(etcd)('three members', { timeout: 120_000 }, () => {
  let cluster: EtcdCluster;
  beforeAll(async () => {
    cluster = await startEtcd(3);
  }, 60_000);
  afterAll(() => cluster?.stop());

  it('lose no acknowledged write and repeat no event while each is killed in turn', async () => {
    const store = await openEtcdStore({ endpoints: cluster.endpoints });
    const watcher = await openEtcdStore({ endpoints: [...cluster.endpoints].reverse() });
    const seen: { revision: number; key: string }[] = [];
    watcher.watch({
      start: '/k/',
      end: prefixEnd('/k/'),
      startRevision: 1,
      previous: false,
      onError: (e) => seen.push({ revision: -1, key: String(e) }),
      onEvents: ({ events }) => seen.push(...events.map((e) => ({ revision: e.item.modRevision, key: e.item.key }))),
    });
    const acknowledged = new Map<string, number>();
    let refused = 0;
    let stop = false;
    const writer = async (w: number) => {
      for (let i = 0; !stop; i++) {
        const key = `/k/${w}/${i}`;
        try {
          const r = await store.transaction([{ key, modRevision: 0 }], [{ type: 'put', key, value: Buffer.from(key) }], [{ type: 'get', key }]);
          if (!r.succeeded) throw new Error(`${key} was there before it was written`);
          acknowledged.set(key, r.revision);
        } catch (error) {
          if (/was there before/.test((error as Error).message)) throw error;
          refused++;
        }
      }
    };
    const writers = Promise.all(Array.from({ length: 8 }, (_, w) => writer(w)));
    for (let member = 0; member < 3; member++) {
      await new Promise((resolve) => setTimeout(resolve, 500));
      await cluster.kill(member);
      await new Promise((resolve) => setTimeout(resolve, 1500));
      await cluster.start(member);
    }
    stop = true;
    await writers;
    const end = await store.latestRevision?.();
    for (let i = 0; i < 200 && watcher.revision() < (end as number); i++) await new Promise((resolve) => setTimeout(resolve, 50));
    const stored = await store.range({ start: '/k/', end: prefixEnd('/k/') });
    const byKey = new Map(stored.items.map((i) => [i.key, i]));
    for (const [key, revision] of acknowledged) expect(byKey.get(key)).toMatchObject({ modRevision: revision, version: 1 });
    expect(acknowledged.size).toBeGreaterThan(100);
    // What was refused may be there all the same; the watch has exactly what is stored, in order, each once.
    expect(stored.items.length - acknowledged.size).toBeLessThanOrEqual(refused);
    expect(seen.map((s) => s.revision)).toEqual(stored.items.map((i) => i.modRevision).sort((a, b) => a - b));
    await store.close();
    await watcher.close();
  });
});
