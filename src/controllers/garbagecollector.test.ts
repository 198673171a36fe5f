import { afterEach, describe, expect, test } from 'vitest';
import { resources } from '../api/generated/resources.ts';
import { startGarbageCollector } from './garbagecollector.ts';
import { startNamespaceController } from './namespace.ts';
import { eventually, settle, type TestContext, testContext } from './testing.ts';

let context: TestContext;
afterEach(() => context?.stop());

type Owner = { name: string; kind?: string; uid?: string; block?: boolean };
const ref = ({ name, kind = 'ConfigMap', uid = `uid-${name}`, block }: Owner) => ({
  apiVersion: kind === 'ReplicaSet' ? 'apps/v1' : 'v1',
  kind,
  name,
  uid,
  ...(block ? { blockOwnerDeletion: true } : {}),
});
const map = (name: string, owners: Owner[] = [], metadata: object = {}) => ({
  apiVersion: 'v1',
  kind: 'ConfigMap',
  metadata: { name, namespace: 'default', uid: `uid-${name}`, ...(owners.length ? { ownerReferences: owners.map(ref) } : {}), ...metadata },
});
const names = () =>
  context.client
    .objects(resources.configmaps)
    .map((o) => o.metadata.name)
    .sort();
const remove = (name: string, propagationPolicy?: string) =>
  context.client.delete(resources.configmaps, { namespace: 'default', name }, propagationPolicy ? { propagationPolicy } : {});
const start = async (objects: unknown[]) => {
  context = testContext(objects);
  startGarbageCollector(context);
  await settle(80);
};

describe('garbage collection', () => {
  test('dependents follow their owner, to the last generation', async () => {
    await start([map('a'), map('b', [{ name: 'a' }]), map('c', [{ name: 'b' }]), map('other')]);
    expect(names()).toEqual(['a', 'b', 'c', 'other']);
    await remove('a', 'Background');
    await eventually('the dependents', () => names().join() === 'other');
  });

  test('a dependent of an owner that never existed goes, one with another owner only loses the reference', async () => {
    await start([
      map('a'),
      map('lost', [{ name: 'nobody' }]),
      map('half', [{ name: 'nobody' }, { name: 'a' }]),
      map('reborn', [{ name: 'a', uid: 'uid-of-an-earlier-a' }]),
    ]);
    await eventually('the lost ones', () => names().join() === 'a,half');
    await eventually(
      'the reference',
      () => context.client.objects(resources.configmaps).find((o) => o.metadata.name === 'half')!.metadata.ownerReferences!.length === 1,
    );
  });

  test('foreground: the owner waits for the dependents that block it', async () => {
    await start([map('a'), map('b', [{ name: 'a', block: true }], { finalizers: ['example.com/slow'] }), map('c', [{ name: 'a' }])]);
    await remove('a', 'Foreground');
    await eventually('c', () => !names().includes('c'));
    await settle();
    expect(names()).toEqual(['a', 'b']);
    await context.client.patch(resources.configmaps, { namespace: 'default', name: 'b' }, 'merge', { metadata: { finalizers: null } });
    await eventually('both', () => names().length === 0);
  });

  test('orphan: dependents stay and forget their owner', async () => {
    await start([map('a'), map('b', [{ name: 'a' }])]);
    await remove('a', 'Orphan');
    await eventually('the owner', () => !names().includes('a'));
    await settle();
    expect(names()).toEqual(['b']);
    expect(context.client.objects(resources.configmaps)[0]!.metadata.ownerReferences ?? []).toEqual([]);
  });

  test('a dependent that comes after its owner has gone is found', async () => {
    await start([map('a')]);
    await remove('a');
    await context.client.create(resources.configmaps, map('late', [{ name: 'a' }]) as never);
    await eventually('the late one', () => names().length === 0);
  });

  test('an error of the server deletes nothing', async () => {
    context = testContext([map('a'), map('b', [{ name: 'a' }])]);
    context.client.intercept((action) => {
      if (action.verb === 'get') throw new Error('the server is down');
    });
    startGarbageCollector(context);
    await settle(150);
    expect(names()).toEqual(['a', 'b']);
  });
});

describe('namespaces', () => {
  test('are emptied, then let go; what has a finalizer is waited for and reported', async () => {
    context = testContext([
      { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'default' }, spec: { finalizers: ['kubernetes'] } },
      { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'kept' }, spec: { finalizers: ['kubernetes'] } },
      map('a'),
      map('b', [], { finalizers: ['example.com/slow'] }),
      { ...map('c'), metadata: { name: 'c', namespace: 'kept' } },
      { apiVersion: 'apps/v1', kind: 'Deployment', metadata: { name: 'd', namespace: 'default' }, spec: {} },
    ]);
    startNamespaceController(context);
    await context.client.delete(resources.namespaces, { name: 'default' });
    const namespace = () => context.client.objects(resources.namespaces).find((n) => n.metadata.name === 'default');
    await eventually('the report', () => namespace()!.status?.conditions?.some((c) => c.type === 'NamespaceContentRemaining' && c.status === 'True'));
    expect(names()).toEqual(['b', 'c']);
    expect(context.client.objects(resources.deployments)).toEqual([]);
    const message = namespace()!.status!.conditions!.find((c) => c.type === 'NamespaceFinalizersRemaining')!.message;
    expect(message).toBe('Some content in the namespace has finalizers remaining: example.com/slow in 1 resource instances');
    await context.client.patch(resources.configmaps, { namespace: 'default', name: 'b' }, 'merge', { metadata: { finalizers: null } });
    await eventually('the end', () => !namespace());
    expect(names()).toEqual(['c']);
  });
});
