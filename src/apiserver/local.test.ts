import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { resources } from '../api/generated/resources.ts';
import type { Client, WatchEvent } from '../client/client.ts';
import { startTestServer, type TestServer } from './testing.ts';

let server: TestServer;
let admin: Client;
const pods = resources.pods as any;
const configmaps = resources.configmaps as any;
const namespaces = resources.namespaces as any;

const pod = (name: string, more: object = {}, metadata: object = {}) => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { namespace: 'default', name, ...metadata },
  spec: { containers: [{ name: 'c', image: 'i' }], ...more },
});
const configMap = (name: string, data: Record<string, string> = {}, metadata: object = {}) => ({
  metadata: { namespace: 'default', name, ...metadata },
  data,
});

beforeAll(async () => {
  server = await startTestServer();
  admin = server.localClient({ name: 'admin', groups: ['system:masters'] });
  await admin.create(resources.serviceaccounts as any, { metadata: { namespace: 'default', name: 'default' } } as any);
});
afterAll(async () => server?.stop());

test('the size of a raw answer in this process is counted', async () => {
  await admin.create(configmaps, configMap('sized', { a: 'x'.repeat(5000) }));
  await (await admin.raw({ method: 'GET', path: '/api/v1/namespaces/default/configmaps/sized' })).text();
  const text = await (await admin.raw({ method: 'GET', path: '/metrics' })).text();
  const series = 'apiserver_response_sizes_bucket{component="apiserver",group="",resource="configmaps",scope="resource",subresource="",verb="GET",version="v1",le="10000"}';
  expect(Number(text.split('\n').find((line) => line.startsWith(series))?.split(' ').at(-1))).toBeGreaterThan(0);
});

const refusal = async (work: Promise<unknown>): Promise<{ code: number; reason: string; message: string; status: any }> => {
  try {
    await work;
  } catch (error) {
    return error as never;
  }
  throw new Error('it was not refused');
};

/** Reads a watch until enough events have come. */
async function take(events: AsyncIterable<WatchEvent<any>>, count: number): Promise<WatchEvent<any>[]> {
  const out: WatchEvent<any>[] = [];
  for await (const event of events) {
    out.push(event);
    if (out.length === count) break;
  }
  return out;
}

describe('writing', () => {
  test('fills in what the server knows, and freezes what it returns', async () => {
    const created: any = await admin.create(configmaps, configMap('first', { a: '1' }) as any);
    expect(created.metadata).toMatchObject({ name: 'first', namespace: 'default' });
    expect(created.metadata.uid).toMatch(/^[0-9a-f-]{36}$/);
    expect(created.metadata.creationTimestamp).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);
    expect(created).toMatchObject({ apiVersion: 'v1', kind: 'ConfigMap' });
    expect(() => {
      created.data.a = '2';
    }).toThrow(TypeError);
    expect(await admin.get(configmaps, { namespace: 'default', name: 'first' })).toEqual(created);
  });

  test('generateName makes a name; a taken name is a conflict', async () => {
    const a: any = await admin.create(configmaps, { metadata: { namespace: 'default', generateName: 'gen-' } } as any);
    expect(a.metadata.name).toMatch(/^gen-[bcdfghjklmnpqrstvwxz2456789]{5}$/);
    const error = await refusal(admin.create(configmaps, configMap(a.metadata.name) as any));
    expect(error).toMatchObject({ code: 409, reason: 'AlreadyExists', message: `configmaps "${a.metadata.name}" already exists` });
  });

  test('an update with an old resourceVersion conflicts; one that changes nothing keeps its revision', async () => {
    const created: any = await admin.create(configmaps, configMap('versions', { a: '1' }) as any);
    const updated: any = await admin.update(configmaps, { ...created, data: { a: '2' } });
    expect(Number(updated.metadata.resourceVersion)).toBeGreaterThan(Number(created.metadata.resourceVersion));
    const error = await refusal(admin.update(configmaps, { ...created, data: { a: '3' } }));
    expect(error).toMatchObject({
      code: 409,
      reason: 'Conflict',
      message:
        'Operation cannot be fulfilled on configmaps "versions": the object has been modified; please apply your changes to the latest version and try again',
    });
    const again: any = await admin.update(configmaps, updated);
    expect(again.metadata.resourceVersion).toBe(updated.metadata.resourceVersion);
  });

  test('concurrent patches are all kept', async () => {
    await admin.create(configmaps, configMap('many') as any);
    await Promise.all(
      Array.from({ length: 25 }, (_, i) => admin.patch(configmaps, { namespace: 'default', name: 'many' }, 'merge', { data: { [`k${i}`]: 'v' } })),
    );
    const result: any = await admin.get(configmaps, { namespace: 'default', name: 'many' });
    expect(Object.keys(result.data)).toHaveLength(25);
  });

  test('a patch with another resourceVersion conflicts', async () => {
    const error = await refusal(
      admin.patch(configmaps, { namespace: 'default', name: 'many' }, 'merge', { metadata: { resourceVersion: '1' }, data: { x: 'y' } }),
    );
    expect(error).toMatchObject({ code: 409, reason: 'Conflict' });
  });

  test('a dry run answers and changes nothing', async () => {
    const created: any = await admin.create(configmaps, configMap('dry') as any, { dryRun: true });
    expect(created.metadata.uid).toBeTruthy();
    expect(await refusal(admin.get(configmaps, { namespace: 'default', name: 'dry' }))).toMatchObject({ code: 404 });
    const before: any = await admin.create(configmaps, configMap('wet') as any);
    const patched: any = await admin.patch(configmaps, { namespace: 'default', name: 'wet' }, 'merge', { data: { a: 'b' } }, { dryRun: true });
    expect(patched.data).toEqual({ a: 'b' });
    await admin.delete(configmaps, { namespace: 'default', name: 'wet' }, { dryRun: ['All'] });
    expect(await admin.get(configmaps, { namespace: 'default', name: 'wet' })).toEqual(before);
  });

  test('a namespace that does not exist takes nothing', async () => {
    const error = await refusal(admin.create(configmaps, configMap('x', {}, { namespace: 'nowhere' }) as any));
    expect(error).toMatchObject({ code: 404, message: 'namespaces "nowhere" not found' });
  });
});

describe('deleting', () => {
  test('preconditions must hold', async () => {
    const created: any = await admin.create(configmaps, configMap('guarded') as any);
    const key = { namespace: 'default', name: 'guarded' };
    expect(await refusal(admin.delete(configmaps, key, { preconditions: { uid: 'other' } }))).toMatchObject({ code: 409 });
    expect(await refusal(admin.delete(configmaps, key, { preconditions: { resourceVersion: '1' } }))).toMatchObject({ code: 409 });
    const status: any = await admin.delete(configmaps, key, { preconditions: { uid: created.metadata.uid } });
    expect(status).toMatchObject({ kind: 'Status', status: 'Success', details: { name: 'guarded', kind: 'configmaps', uid: created.metadata.uid } });
    expect(await refusal(admin.get(configmaps, key))).toMatchObject({ code: 404, message: 'configmaps "guarded" not found' });
  });

  test('finalizers keep the object until the last is removed', async () => {
    await admin.create(configmaps, configMap('held', {}, { finalizers: ['example.com/hold'] }) as any);
    const key = { namespace: 'default', name: 'held' };
    const marked: any = await admin.delete(configmaps, key);
    expect(marked.metadata.deletionTimestamp).toBeTruthy();
    const error = await refusal(admin.patch(configmaps, key, 'merge', { metadata: { finalizers: ['example.com/hold', 'example.com/more'] } }));
    expect(error).toMatchObject({ code: 422 });
    expect(error.message).toContain('no new finalizers can be added if the object is being deleted');
    await admin.patch(configmaps, key, 'merge', { metadata: { finalizers: null } });
    expect(await refusal(admin.get(configmaps, key))).toMatchObject({ code: 404 });
  });

  test('the propagation policy becomes a finalizer', async () => {
    for (const [policy, finalizer] of [
      ['Foreground', 'foregroundDeletion'],
      ['Orphan', 'orphan'],
    ] as const) {
      await admin.create(configmaps, configMap(policy.toLowerCase()) as any);
      const marked: any = await admin.delete(configmaps, { namespace: 'default', name: policy.toLowerCase() }, { propagationPolicy: policy });
      expect(marked.metadata.finalizers).toEqual([finalizer]);
    }
    expect(await refusal(admin.delete(configmaps, { namespace: 'default', name: 'orphan' }, { propagationPolicy: 'Sometimes' }))).toMatchObject({
      code: 422,
    });
  });

  test('a pod on a node gets its grace period; without a node it goes at once', async () => {
    await admin.create(pods, pod('unplaced') as any);
    await admin.delete(pods, { namespace: 'default', name: 'unplaced' });
    expect(await refusal(admin.get(pods, { namespace: 'default', name: 'unplaced' }))).toMatchObject({ code: 404 });

    await admin.create(pods, pod('placed', { nodeName: 'n1', terminationGracePeriodSeconds: 20 }) as any);
    const key = { namespace: 'default', name: 'placed' };
    const marked: any = await admin.delete(pods, key);
    expect(marked.metadata).toMatchObject({ deletionGracePeriodSeconds: 20 });
    // It can be shortened, not lengthened.
    const longer: any = await admin.delete(pods, key, { gracePeriodSeconds: 60 });
    expect(longer.metadata.deletionGracePeriodSeconds).toBe(20);
    const shorter: any = await admin.delete(pods, key, { gracePeriodSeconds: 5 });
    expect(shorter.metadata.deletionGracePeriodSeconds).toBe(5);
    await admin.delete(pods, key, { gracePeriodSeconds: 0 });
    expect(await refusal(admin.get(pods, key))).toMatchObject({ code: 404 });
  });

  test('deleteCollection deletes what the selector finds', async () => {
    for (const name of ['one', 'two', 'three'])
      await admin.create(configmaps, configMap(`col-${name}`, {}, { labels: { col: name === 'three' ? 'keep' : 'drop' } }) as any);
    await admin.deleteCollection(configmaps, { namespace: 'default', labelSelector: 'col=drop' });
    const left = await admin.list<any>(configmaps, { namespace: 'default', labelSelector: 'col' });
    expect(left.items.map((i) => i.metadata.name)).toEqual(['col-three']);
  });

  test('the system namespaces cannot be deleted, others end when finalized', async () => {
    expect(await refusal(admin.delete(namespaces, { name: 'kube-system' }))).toMatchObject({ code: 403 });
    await admin.create(namespaces, { metadata: { name: 'ending' }, spec: { finalizers: ['kubernetes'] } } as any);
    const marked: any = await admin.delete(namespaces, { name: 'ending' });
    expect(marked).toMatchObject({ status: { phase: 'Terminating' }, spec: { finalizers: ['kubernetes'] } });
    const error = await refusal(admin.create(configmaps, configMap('late', {}, { namespace: 'ending' }) as any));
    expect(error).toMatchObject({ code: 403 });
    expect(error.status.details.causes[0].reason).toBe('NamespaceTerminating');
    await admin.update(namespaces, { ...marked, spec: { finalizers: [] } }, { subresource: 'finalize' });
    expect(await refusal(admin.get(namespaces, { name: 'ending' }))).toMatchObject({ code: 404 });
  });
});

describe('listing', () => {
  beforeAll(async () => {
    await admin.create(namespaces, { metadata: { name: 'lists' } } as any);
    for (let i = 0; i < 12; i++)
      await admin.create(configmaps, configMap(`c${String(i).padStart(2, '0')}`, {}, { namespace: 'lists', labels: { odd: String(i % 2) } }) as any);
  });

  test('by labels and fields', async () => {
    const odd = await admin.list<any>(configmaps, { namespace: 'lists', labelSelector: 'odd=1' });
    expect(odd.items).toHaveLength(6);
    const one = await admin.list<any>(configmaps, { namespace: 'lists', fieldSelector: 'metadata.name=c03' });
    expect(one.items.map((i) => i.metadata.name)).toEqual(['c03']);
    expect(await refusal(admin.list(configmaps, { fieldSelector: 'spec.nodeName=x' }))).toMatchObject({ code: 400 });
  });

  test('in pages of one snapshot', async () => {
    const first = await admin.list<any>(configmaps, { namespace: 'lists', limit: 5 });
    expect(first.items).toHaveLength(5);
    expect(first.metadata.remainingItemCount).toBe(7);
    // What happens between the pages does not show in them.
    await admin.delete(configmaps, { namespace: 'lists', name: 'c07' });
    await admin.create(configmaps, configMap('c075', {}, { namespace: 'lists' }) as any);
    const second = await admin.list<any>(configmaps, { namespace: 'lists', limit: 5, continue: first.metadata.continue! });
    expect(second.metadata.resourceVersion).toBe(first.metadata.resourceVersion);
    const third = await admin.list<any>(configmaps, { namespace: 'lists', limit: 5, continue: second.metadata.continue! });
    expect(third.metadata.continue).toBeUndefined();
    expect([...first.items, ...second.items, ...third.items].map((i) => i.metadata.name)).toEqual(
      Array.from({ length: 12 }, (_, i) => `c${String(i).padStart(2, '0')}`),
    );
  });

  test('a compacted page answers 410 with a token that goes on', async () => {
    const first = await admin.list<any>(configmaps, { namespace: 'lists', limit: 5 });
    await admin.create(configmaps, configMap('zz', {}, { namespace: 'lists' }) as any);
    await server.store.compact(server.store.revision());
    const error = await refusal(admin.list(configmaps, { namespace: 'lists', limit: 50, continue: first.metadata.continue! }));
    expect(error).toMatchObject({ code: 410, reason: 'Expired' });
    const rest = await admin.list<any>(configmaps, { namespace: 'lists', continue: error.status.metadata.continue });
    expect(rest.items.at(-1).metadata.name).toBe('zz');
  });

  test('resourceVersion: exact, not older than, too new', async () => {
    const now = await admin.list<any>(configmaps, { namespace: 'lists' });
    const created: any = await admin.create(configmaps, configMap('zzz', {}, { namespace: 'lists' }) as any);
    const exact = await admin.list<any>(configmaps, {
      namespace: 'lists',
      resourceVersion: now.metadata.resourceVersion,
      resourceVersionMatch: 'Exact',
    });
    expect(exact.items).toHaveLength(now.items.length);
    const newer = await admin.list<any>(configmaps, { namespace: 'lists', resourceVersion: created.metadata.resourceVersion });
    expect(newer.items.length).toBe(now.items.length + 1);
    const error = await refusal(admin.list(configmaps, { resourceVersion: '999999999' }));
    expect(error).toMatchObject({ code: 504 });
    expect(error.status.details.causes[0].reason).toBe('ResourceVersionTooLarge');
  }, 10_000);
});

describe('watching', () => {
  test('begins with what is there, goes on with what changes', async () => {
    await admin.create(namespaces, { metadata: { name: 'watched' } } as any);
    await admin.create(configmaps, configMap('a', {}, { namespace: 'watched' }) as any);
    const reading = take(admin.watch(configmaps, { namespace: 'watched' }), 4);
    await new Promise((resolve) => setImmediate(resolve));
    await admin.create(configmaps, configMap('elsewhere') as any);
    await admin.create(configmaps, configMap('b', {}, { namespace: 'watched' }) as any);
    await admin.patch(configmaps, { namespace: 'watched', name: 'b' }, 'merge', { data: { x: 'y' } });
    await admin.delete(configmaps, { namespace: 'watched', name: 'b' });
    const events = await reading;
    expect(events.map((e) => [e.type, (e.object as any).metadata.name])).toEqual([
      ['ADDED', 'a'],
      ['ADDED', 'b'],
      ['MODIFIED', 'b'],
      ['DELETED', 'b'],
    ]);
    const versions = events.map((e) => Number((e.object as any).metadata.resourceVersion));
    expect(versions).toEqual([...versions].sort((x, y) => x - y));
    expect(new Set(versions).size).toBe(4);
  });

  test('resumes after a resourceVersion', async () => {
    const list = await admin.list<any>(configmaps, { namespace: 'watched' });
    await admin.create(configmaps, configMap('later', {}, { namespace: 'watched' }) as any);
    const [event] = await take(admin.watch(configmaps, { namespace: 'watched', resourceVersion: list.metadata.resourceVersion }), 1);
    expect(event).toMatchObject({ type: 'ADDED', object: { metadata: { name: 'later' } } });
  });

  test('an object that leaves the selector is deleted for the watcher, one that enters is added', async () => {
    const list = await admin.list<any>(configmaps, { namespace: 'watched' });
    const reading = take(
      admin.watch(configmaps, { namespace: 'watched', labelSelector: 'seen=yes', resourceVersion: list.metadata.resourceVersion }),
      3,
    );
    const key = { namespace: 'watched', name: 'later' };
    await admin.patch(configmaps, key, 'merge', { metadata: { labels: { seen: 'yes' } } });
    await admin.patch(configmaps, key, 'merge', { data: { a: 'b' } });
    await admin.patch(configmaps, key, 'merge', { metadata: { labels: { seen: 'no' } } });
    expect((await reading).map((e) => e.type)).toEqual(['ADDED', 'MODIFIED', 'DELETED']);
  });

  test('by node name hears only of that node', async () => {
    const list = await admin.list<any>(pods, {});
    const reading = take(admin.watch(pods, { fieldSelector: 'spec.nodeName=n2', resourceVersion: list.metadata.resourceVersion }), 2);
    await admin.create(pods, pod('on-n1', { nodeName: 'n1' }) as any);
    await admin.create(pods, pod('for-n2') as any);
    await admin.createSubresource(pods, { namespace: 'default', name: 'for-n2' }, 'binding', { target: { kind: 'Node', name: 'n2' } });
    await admin.create(pods, pod('on-n2', { nodeName: 'n2' }) as any);
    expect((await reading).map((e) => [e.type, (e.object as any).metadata.name])).toEqual([
      ['ADDED', 'for-n2'],
      ['ADDED', 'on-n2'],
    ]);
  });

  test('sendInitialEvents ends with a bookmark that says so', async () => {
    const events = await take(
      admin.watch(configmaps, { namespace: 'watched', sendInitialEvents: true, resourceVersionMatch: 'NotOlderThan', allowWatchBookmarks: true }),
      3,
    );
    expect(events.map((e) => e.type)).toEqual(['ADDED', 'ADDED', 'BOOKMARK']);
    expect((events[2]!.object as any).metadata.annotations).toEqual({ 'k8s.io/initial-events-end': 'true' });
    const error = await refusal(take(admin.watch(configmaps, { sendInitialEvents: true }), 1));
    expect(error).toMatchObject({ code: 422 });
  });

  test('ends by itself after timeoutSeconds, and with its signal', async () => {
    const list = await admin.list<any>(configmaps, { namespace: 'watched' });
    expect(
      await take(admin.watch(configmaps, { resourceVersion: list.metadata.resourceVersion, timeoutSeconds: 1, namespace: 'watched' }), 99),
    ).toEqual([]);
    const controller = new AbortController();
    const reading = take(
      admin.watch(configmaps, { resourceVersion: list.metadata.resourceVersion, signal: controller.signal, namespace: 'watched' }),
      99,
    );
    setTimeout(() => controller.abort(), 20);
    expect(await reading).toEqual([]);
  });
});

describe('subresources', () => {
  test('a pod is bound once', async () => {
    await admin.create(pods, pod('bound') as any);
    const key = { namespace: 'default', name: 'bound' };
    const binding = { metadata: { name: 'bound' }, target: { kind: 'Node', name: 'n9' } };
    await admin.createSubresource(pods, key, 'binding', binding);
    const bound: any = await admin.get(pods, key);
    expect(bound.spec.nodeName).toBe('n9');
    expect(bound.status.conditions).toContainEqual(expect.objectContaining({ type: 'PodScheduled', status: 'True' }));
    const error = await refusal(admin.createSubresource(pods, key, 'binding', binding));
    expect(error).toMatchObject({ code: 409 });
    expect(error.message).toContain('already assigned to node "n9"');
  });

  test('scale reads and writes replicas only', async () => {
    const deployments = resources.deployments as any;
    await admin.create(deployments, {
      metadata: { namespace: 'default', name: 'web' },
      spec: {
        replicas: 2,
        selector: { matchLabels: { app: 'web' } },
        template: { metadata: { labels: { app: 'web' } }, spec: { containers: [{ name: 'c', image: 'i' }] } },
      },
    } as any);
    const key = { namespace: 'default', name: 'web' };
    const scale: any = await admin.get(deployments, key, { subresource: 'scale' });
    expect(scale).toMatchObject({ kind: 'Scale', apiVersion: 'autoscaling/v1', spec: { replicas: 2 }, status: { replicas: 0, selector: 'app=web' } });
    await admin.patch(deployments, key, 'merge', { spec: { replicas: 5 } }, { subresource: 'scale' });
    expect(((await admin.get(deployments, key)) as any).spec.replicas).toBe(5);
    await admin.update(deployments, { ...scale, metadata: { name: 'web', namespace: 'default' }, spec: { replicas: 0 } } as any, {
      subresource: 'scale',
    });
    expect(((await admin.get(deployments, key)) as any).spec.replicas).toBe(0);
    const error = await refusal(admin.patch(deployments, key, 'merge', { spec: { replicas: -1 } }, { subresource: 'scale' }));
    expect(error).toMatchObject({ code: 422 });
  });

  test('an eviction respects the budget and counts against it', async () => {
    const budgets = resources.poddisruptionbudgets as any;
    const created: any = await admin.create(budgets, {
      metadata: { namespace: 'default', name: 'pdb' },
      spec: { minAvailable: 1, selector: { matchLabels: { app: 'guarded' } } },
    } as any);
    const status = (disruptionsAllowed: number) => ({
      status: { disruptionsAllowed, currentHealthy: 2, desiredHealthy: 1, expectedPods: 2, observedGeneration: created.metadata.generation ?? 0 },
    });
    for (const name of ['g1', 'g2']) {
      await admin.create(pods, pod(name, { nodeName: 'n1' }, { labels: { app: 'guarded' } }) as any);
      await admin.patch(
        pods,
        { namespace: 'default', name },
        'merge',
        { status: { phase: 'Running', conditions: [{ type: 'Ready', status: 'True' }] } },
        { subresource: 'status' },
      );
    }
    await admin.patch(budgets, { namespace: 'default', name: 'pdb' }, 'merge', status(1), { subresource: 'status' });
    await admin.createSubresource(pods, { namespace: 'default', name: 'g1' }, 'eviction', { metadata: { name: 'g1' } });
    expect(((await admin.get(pods, { namespace: 'default', name: 'g1' })) as any).metadata.deletionTimestamp).toBeTruthy();
    const after: any = await admin.get(budgets, { namespace: 'default', name: 'pdb' });
    expect(after.status.disruptionsAllowed).toBe(0);
    expect(Object.keys(after.status.disruptedPods)).toEqual(['g1']);
    const error = await refusal(admin.createSubresource(pods, { namespace: 'default', name: 'g2' }, 'eviction', { metadata: { name: 'g2' } }));
    expect(error).toMatchObject({ code: 429, message: "Cannot evict pod as it would violate the pod's disruption budget." });
  });
});

test('events are shared by both their groups', async () => {
  const about = { kind: 'Pod', namespace: 'default', name: 'p' };
  await admin.create(
    resources.events as any,
    { metadata: { namespace: 'default', name: 'e1' }, involvedObject: about, reason: 'Why', message: 'so', type: 'Normal' } as any,
  );
  const modern: any = await admin.get(
    { group: 'events.k8s.io', version: 'v1', resource: 'events', kind: 'Event', namespaced: true },
    { namespace: 'default', name: 'e1' },
  );
  expect(modern).toMatchObject({ apiVersion: 'events.k8s.io/v1', kind: 'Event' });
});
