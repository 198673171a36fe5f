import { afterEach, describe, expect, test } from 'vitest';
import type { ResourceQuota } from '../api/generated/types.ts';
import { resources } from '../api/generated/resources.ts';
import { startResourceQuotaController } from './resourcequota.ts';
import { type Bench, backends } from './testing/backends.ts';
import { eventually } from './testing.ts';

let bench: Bench;
afterEach(() => bench?.stop());

const pod = (name: string, requests: object = { cpu: '500m', memory: '252Mi' }, spec: object = {}) => ({
  metadata: { name },
  spec: { containers: [{ name: 'c', image: 'c:1', resources: { requests } }], ...spec },
});

describe.each(backends)('ResourceQuota on $name', ({ open }) => {
  async function start(hard: object, spec: object = {}) {
    bench = await open();
    startResourceQuotaController(bench.as('resourcequota-controller'));
    await bench.create(resources.resourcequotas, { metadata: { name: 'q' }, spec: { hard, ...spec } });
  }
  const status = async () => (await bench.get<ResourceQuota>(resources.resourcequotas, 'q')).status;
  const uses = (used: object) =>
    eventually(`used ${JSON.stringify(used)}`, () => matches(used));
  const matches = async (used: object) => {
    const shown = ((await status())?.used ?? {}) as Record<string, string>;
    return Object.entries(used).every(([k, v]) => shown[k] === v);
  };

  test('the status shows the limits and what is used, at once and later', async () => {
    await start({ pods: '5', cpu: '1', 'requests.memory': '1Gi', 'count/configmaps': '4', 'count/deployments.apps': '2' });
    await uses({ pods: '0', cpu: '0', 'requests.memory': '0', 'count/configmaps': '0' });
    expect((await status())!.hard).toEqual({ pods: '5', cpu: '1', 'requests.memory': '1Gi', 'count/configmaps': '4', 'count/deployments.apps': '2' });
    await bench.create(resources.pods, pod('a'));
    await bench.create(resources.pods, pod('b', { cpu: '100m', memory: '4Mi' }));
    await uses({ pods: '2', cpu: '600m', 'requests.memory': '256Mi' });
    await bench.create(resources.configmaps, { metadata: { name: 'c' }, data: {} });
    await uses({ 'count/configmaps': '1' });
    await bench.remove(resources.pods, 'a', { gracePeriodSeconds: 0 });
    await uses({ pods: '1', cpu: '100m', 'requests.memory': '4Mi' });
    // An ended pod takes nothing.
    await bench.patch(resources.pods, 'b', { status: { phase: 'Succeeded' } }, 'status');
    await uses({ pods: '0', cpu: '0', 'requests.memory': '0' });
  });

  test('counts services by kind, claims by class, and follows a changed spec', async () => {
    await start({ services: '5', 'services.nodeports': '2', 'services.loadbalancers': '1', persistentvolumeclaims: '3', 'requests.storage': '10Gi' });
    await uses({ 'services.nodeports': '0' });
    // On the API server there is one already, kubernetes.
    const others = Number((await status())!.used!['services']);
    await bench.create(resources.services, { metadata: { name: 's' }, spec: { type: 'NodePort', ports: [{ port: 80 }] } });
    await uses({ services: String(others + 1), 'services.nodeports': '1', 'services.loadbalancers': '0' });
    await bench.create(resources.persistentvolumeclaims, {
      metadata: { name: 'p' },
      spec: { accessModes: ['ReadWriteOnce'], storageClassName: 'gold', resources: { requests: { storage: '1Gi' } } },
    });
    await uses({ persistentvolumeclaims: '1', 'requests.storage': '1Gi' });
    await bench.patch(resources.resourcequotas, 'q', { spec: { hard: { services: '7', 'gold.storageclass.storage.k8s.io/requests.storage': '5Gi' } } });
    await uses({ services: String(others + 1), 'gold.storageclass.storage.k8s.io/requests.storage': '1Gi' });
    expect((await status())!.hard!['services']).toBe('7');
  });

  test.each([
    [['BestEffort'], '1'],
    [['NotBestEffort'], '2'],
    [['Terminating'], '1'],
    [['NotTerminating'], '2'],
  ])('scopes %j', async (scopes, pods) => {
    await start({ pods: '5' }, { scopes });
    await bench.create(resources.pods, pod('best-effort', {}));
    await bench.create(resources.pods, pod('burstable'));
    await bench.create(resources.pods, pod('short', { cpu: '1' }, { activeDeadlineSeconds: 60 }));
    await uses({ pods });
  });

  test('a status that somebody changed is put right', async () => {
    await start({ pods: '5' });
    await uses({ pods: '0' });
    await bench.patch(resources.resourcequotas, 'q', { status: { hard: { pods: '9' }, used: { pods: '3' } } }, 'status');
    await eventually('the truth', async () => (await status())?.hard?.['pods'] === '5' && (await matches({ pods: '0' })));
  });
});
