import { generateKeyPairSync } from 'node:crypto';
import { pino } from 'pino';
import { afterEach, expect, test } from 'vitest';
import { resources } from '../api/generated/resources.ts';
import { controllers } from './index.ts';
import { type Bench, backends } from './testing/backends.ts';
import { eventually, settle } from './testing.ts';

let bench: Bench;
afterEach(() => bench?.stop());

test('all controllers beside each other on the API server: nothing goes wrong, and a namespace comes and goes', async () => {
  bench = await backends.find((b) => b.name === 'the API server')!.open();
  const told: string[] = [];
  const log = pino({ level: 'warn' }, { write: (line: string) => void told.push(line) });
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const key = privateKey.export({ type: 'pkcs8', format: 'pem' }) as string;
  const shared = bench.as('kube-controller-manager');
  // One process has one set of informers, and the rights of all.
  const context = { ...shared, client: bench.admin, informers: bench.informers, log };
  const options = { clusterCidr: '10.244.0.0/16', nodeCidrMaskSize: 24, ca: { cert: '', key }, rootCa: 'PEM', serviceAccountKey: key };
  // The one that signs needs a certificate authority; certificates.test.ts has one.
  const all = controllers.filter((c) => c.name !== 'certificatesigningrequest-signing-controller');
  const running = all.map(({ start }) => start(context, options)).filter((c) => c !== undefined);
  expect(new Set(running.map((c) => c.name)).size).toBe(running.length);
  bench.kubelet.start();
  const namespace = 'work';
  await bench.admin.create(resources.namespaces, { metadata: { name: namespace } } as never);
  await eventually('its account and root CA', async () => {
    const [accounts, maps] = await Promise.all([bench.all(resources.serviceaccounts), bench.all(resources.configmaps)]);
    return [accounts, maps].every((list) => list.some((o) => o.metadata.namespace === namespace));
  });
  const template = { metadata: { labels: { app: 'web' } }, spec: { containers: [{ name: 'c', image: 'web:1' }] } };
  const spec = { replicas: 2, selector: { matchLabels: { app: 'web' } }, template };
  await bench.admin.create(resources.deployments, { metadata: { namespace, name: 'web' }, spec } as never);
  await eventually('the rollout', async () => {
    const d = await bench.admin.get(resources.deployments, { namespace, name: 'web' });
    return d.status?.availableReplicas === 2 && d.status.conditions?.some((c) => c.reason === 'NewReplicaSetAvailable');
  });
  await bench.admin.delete(resources.namespaces, { name: namespace });
  await eventually('the namespace to be gone', async () => !(await bench.all(resources.namespaces)).some((n) => n.metadata.name === namespace));
  await settle();
  expect(told).toEqual([]);
});
