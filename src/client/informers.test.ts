import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { resources } from '../api/generated/resources.ts';
import type { Pod } from '../api/generated/types.ts';
import { systemClock } from './clock.ts';
import { createFakeClient, type FakeClient } from './fake.ts';
import { createInformerFactory } from './informers.ts';
import type { InformerFactory } from './informer.ts';

const log = pino({ level: 'silent' });
const pod = (name: string, node = 'n1', namespace = 'default') => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name, namespace, labels: { app: name } },
  spec: { nodeName: node, containers: [] },
});

describe('informers', () => {
  let client: FakeClient;
  let stop: AbortController;
  let factory: InformerFactory;
  let heard: string[];
  const handlers = {
    onAdd: (o: Pod) => heard.push(`add ${o.metadata.name}`),
    onUpdate: (a: Pod, b: Pod) => heard.push(`update ${a.metadata.name} ${a.metadata.labels?.v ?? '-'}>${b.metadata.labels?.v ?? '-'}`),
    onDelete: (o: Pod) => heard.push(`delete ${o.metadata.name}`),
  };

  beforeEach(() => {
    client = createFakeClient([pod('a'), pod('b', 'n2'), pod('c', 'n2', 'other')]);
    stop = new AbortController();
    factory = createInformerFactory(client, { log, clock: systemClock, signal: stop.signal, pageSize: 2 });
    heard = [];
  });
  afterEach(() => stop.abort());

  it('lists in pages, then follows the watch', async () => {
    const informer = factory.informer(resources.pods);
    informer.addHandlers(handlers);
    await informer.synced();
    expect(heard).toEqual(['add a', 'add b', 'add c']);
    await client.patch(resources.pods, { namespace: 'default', name: 'a' }, 'merge', { metadata: { labels: { v: '1' } } });
    await client.delete(resources.pods, { namespace: 'other', name: 'c' }, { gracePeriodSeconds: 0 });
    await vi.waitFor(() => expect(heard.slice(3)).toEqual(['update a ->1', 'delete c']));
    expect(informer.get('default/a')?.metadata.labels).toEqual({ app: 'a', v: '1' });
    expect(informer.list('other')).toEqual([]);
    expect(Object.isFrozen(informer.get('default/a')!.metadata)).toBe(true);
  });

  it('tells late handlers of what is there, and removed ones nothing', async () => {
    const informer = factory.informer(resources.pods, { namespace: 'default' });
    await informer.synced();
    const remove = informer.addHandlers(handlers);
    expect(heard).toEqual(['add a', 'add b']);
    remove();
    const other: string[] = [];
    informer.addHandlers({ onAdd: (o) => other.push(o.metadata.name) });
    await client.create(resources.pods, pod('d') as never);
    await vi.waitFor(() => expect(other).toEqual(['a', 'b', 'd']));
    expect(heard).toEqual(['add a', 'add b']);
  });

  it('shares one informer per selection, and keeps selections apart', async () => {
    expect(factory.informer(resources.pods)).toBe(factory.informer(resources.pods, {}));
    const selected = factory.informer(resources.pods, { labelSelector: 'app=b', fieldSelector: 'spec.nodeName=n2' });
    await factory.allSynced();
    expect(selected.list().map((o) => o.metadata.name)).toEqual(['b']);
  });

  it('keeps indexes current, also those added late', async () => {
    const informer = factory.informer(resources.pods);
    await informer.synced();
    informer.addIndex('node', (o) => [o.spec!.nodeName!]);
    const on = (node: string) => informer.byIndex('node', node).map((o) => o.metadata.name);
    expect(on('n2')).toEqual(['b', 'c']);
    await client.patch(resources.pods, { namespace: 'default', name: 'b' }, 'merge', { spec: { nodeName: 'n1' } });
    await vi.waitFor(() => expect(on('n2')).toEqual(['c']));
    expect(on('n1')).toEqual(['a', 'b']);
  });

  it('survives a handler and an indexer that throw', async () => {
    const informer = factory.informer(resources.pods);
    informer.addIndex('bad', () => {
      throw new Error('index');
    });
    informer.addHandlers({
      onAdd: () => {
        throw new Error('handler');
      },
    });
    informer.addHandlers(handlers);
    await informer.synced();
    expect(heard).toEqual(['add a', 'add b', 'add c']);
  });

  it('resumes a dropped watch without listing or repeating', async () => {
    const informer = factory.informer(resources.pods);
    informer.addHandlers(handlers);
    let lists = 0;
    client.intercept((a) => {
      if (a.verb === 'list') lists++;
    });
    await informer.synced();
    const before = lists;
    client.dropWatches();
    await client.delete(resources.pods, { namespace: 'default', name: 'b' }, { gracePeriodSeconds: 0 });
    await vi.waitFor(() => expect(heard.slice(3)).toEqual(['delete b']));
    expect(lists).toBe(before);
  });

  it('lists anew after 410 and tells only the difference', async () => {
    const informer = factory.informer(resources.pods);
    informer.addHandlers(handlers);
    await informer.synced();
    let blocked = true;
    client.intercept((a) => {
      if (a.verb === 'watch' && blocked) throw new Error('no connection');
    });
    client.dropWatches();
    await client.delete(resources.pods, { namespace: 'default', name: 'a' }, { gracePeriodSeconds: 0 });
    await client.patch(resources.pods, { namespace: 'default', name: 'b' }, 'merge', { metadata: { labels: { v: '2' } } });
    await client.delete(resources.pods, { namespace: 'other', name: 'c' }, { gracePeriodSeconds: 0 });
    await client.create(resources.pods, pod('c', 'n1', 'other') as never);
    client.dropWatches({ expire: true });
    blocked = false;
    await vi.waitFor(() => expect(heard.slice(3).sort()).toEqual(['add c', 'delete a', 'delete c', 'update b ->2']), { timeout: 10_000 });
  });

  it('starts over when the first lists fail', async () => {
    let failures = 2;
    client.intercept((a) => {
      if (a.verb === 'list' && failures-- > 0) throw new Error('connection refused');
    });
    const informer = factory.informer(resources.pods);
    expect(informer.hasSynced).toBe(false);
    await informer.synced();
    expect(informer.list()).toHaveLength(3);
  });

  it('gives up waiting when asked to or stopped', async () => {
    client.intercept((a) => {
      if (a.verb === 'list') throw new Error('never');
    });
    const informer = factory.informer(resources.pods);
    await expect(informer.synced(AbortSignal.timeout(20))).rejects.toThrow('first list of pods');
    const waiting = informer.synced();
    factory.stop();
    await expect(waiting).rejects.toThrow('first list of pods');
  });
});
