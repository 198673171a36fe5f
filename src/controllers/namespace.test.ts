import { afterEach, expect, test } from 'vitest';
import { resources } from '../api/generated/resources.ts';
import { startNamespaceController } from './namespace.ts';
import { type Bench, backends } from './testing/backends.ts';
import { eventually, settle } from './testing.ts';

let bench: Bench;
afterEach(() => bench?.stop());

test('a namespace loses its pods first, and everything else when they are gone', async () => {
  bench = await backends.find((b) => b.name === 'the API server')!.open();
  startNamespaceController(bench.as('namespace-controller'));
  const { admin } = bench;
  const namespace = 'going';
  await admin.create(resources.namespaces, { metadata: { name: namespace } } as never);
  await admin.create(resources.serviceaccounts, { metadata: { namespace, name: 'default' } } as never);
  await admin.create(resources.configmaps, { metadata: { namespace, name: 'kept' } } as never);
  const pod = { metadata: { namespace, name: 'held', finalizers: ['example.com/hold'] }, spec: { containers: [{ name: 'c', image: 'i' }] } };
  await admin.create(resources.pods, pod as never);
  await admin.delete(resources.namespaces, { name: namespace });
  await eventually('the pod to be deleted', async () => (await admin.get(resources.pods, { namespace, name: 'held' })).metadata.deletionTimestamp);
  await settle(300);
  expect((await admin.get(resources.configmaps, { namespace, name: 'kept' })).metadata.deletionTimestamp).toBeUndefined();
  const remaining = await eventually('what remains to be told', async () =>
    (await admin.get(resources.namespaces, { name: namespace })).status?.conditions?.find((c) => c.type === 'NamespaceContentRemaining' && c.status === 'True'),
  );
  expect(remaining.message).toContain('pods');
  await admin.patch(resources.pods, { namespace, name: 'held' }, 'merge', { metadata: { finalizers: null } });
  await eventually('the namespace to go', async () => !(await admin.list(resources.namespaces)).items.some((n) => n.metadata.name === namespace));
});
