import { afterEach, describe, expect, test } from 'vitest';
import { FakeClock } from '../client/fake-clock.ts';
import type { PodDisruptionBudget } from '../api/generated/types.ts';
import { resources } from '../api/generated/resources.ts';
import { startDisruptionController } from './disruption.ts';
import { startReplicaSetController } from './replicaset.ts';
import { type Bench, backends } from './testing/backends.ts';
import { eventually, settle } from './testing.ts';

let bench: Bench;
afterEach(() => bench?.stop());

const template = { metadata: { labels: { app: 'web' } }, spec: { containers: [{ name: 'c', image: 'web:1' }] } };
const selector = { matchLabels: { app: 'web' } };
const budget = (spec: object) => ({ metadata: { name: 'web' }, spec: { selector, ...spec } });

describe.each(backends)('disruption on $name', ({ name, open }) => {
  async function start(spec: object, replicas = 4, clock?: FakeClock) {
    bench = await open({ clock });
    startDisruptionController(bench.as('disruption-controller'));
    startReplicaSetController(bench.as('replicaset-controller'));
    bench.kubelet.start();
    await bench.create(resources.poddisruptionbudgets, budget(spec));
    await bench.create(resources.replicasets, { metadata: { name: 'web' }, spec: { replicas, selector, template } });
  }
  const status = async () => (await bench.get<PodDisruptionBudget>(resources.poddisruptionbudgets, 'web')).status;
  const shows = (wanted: object) =>
    eventually(JSON.stringify(wanted), async () => {
      const s = await status();
      return Object.entries(wanted).every(([k, v]) => (s as any)?.[k] === v) && s;
    });
  const pods = () => bench.all(resources.pods);
  /** One that runs: a pod that is not healthy may go although the budget is used up. */
  const evict = async () => {
    const { name, namespace } = (await pods()).find((p) => !p.metadata.deletionTimestamp && p.status?.phase === 'Running')!.metadata;
    const body = { apiVersion: 'policy/v1', kind: 'Eviction', metadata: { name, namespace } };
    return bench.admin.createSubresource(resources.pods, { namespace, name }, 'eviction', body);
  };

  test.each([
    [{ minAvailable: 3 }, { expectedPods: 4, desiredHealthy: 3, currentHealthy: 4, disruptionsAllowed: 1 }],
    [{ minAvailable: '50%' }, { expectedPods: 4, desiredHealthy: 2, currentHealthy: 4, disruptionsAllowed: 2 }],
    [{ maxUnavailable: 1 }, { expectedPods: 4, desiredHealthy: 3, currentHealthy: 4, disruptionsAllowed: 1 }],
    [{ maxUnavailable: '30%' }, { expectedPods: 4, desiredHealthy: 2, currentHealthy: 4, disruptionsAllowed: 2 }],
    [{ minAvailable: 4 }, { expectedPods: 4, desiredHealthy: 4, currentHealthy: 4, disruptionsAllowed: 0 }],
  ])('%j', async (spec, wanted) => {
    await start(spec);
    const shown = await shows(wanted);
    expect(shown!.observedGeneration).toBe(1);
    const allowed = wanted.disruptionsAllowed > 0;
    expect(shown!.conditions).toMatchObject([
      { type: 'DisruptionAllowed', status: allowed ? 'True' : 'False', reason: allowed ? 'SufficientPods' : 'InsufficientPods' },
    ]);
  });

  test('counts ready pods only, and follows the size and its own spec', async () => {
    await start({ maxUnavailable: 1 });
    await shows({ disruptionsAllowed: 1 });
    const [pod] = await pods();
    await bench.patch(resources.pods, pod!.metadata.name, { status: { conditions: [{ type: 'Ready', status: 'False' }] } }, 'status');
    await shows({ currentHealthy: 3, disruptionsAllowed: 0 });
    await bench.patch(resources.replicasets, 'web', { spec: { replicas: 6 } });
    await shows({ expectedPods: 6, desiredHealthy: 5, currentHealthy: 5 });
    await bench.patch(resources.poddisruptionbudgets, 'web', { spec: { maxUnavailable: 3 } });
    await shows({ desiredHealthy: 3, disruptionsAllowed: 2, observedGeneration: 2 });
  });

  test('pods without a controller are said to be unmanaged; of a kind that has no scale, nothing is allowed', async () => {
    bench = await open();
    startDisruptionController(bench.as('disruption-controller'));
    bench.kubelet.start();
    await bench.create(resources.poddisruptionbudgets, budget({ maxUnavailable: 1 }));
    await bench.create(resources.pods, { metadata: { name: 'lone', labels: { app: 'web' } }, spec: template.spec });
    await eventually('the event', () => bench.recorded.some((e) => e.reason === 'UnmanagedPods'));
    const ownerReferences = [{ apiVersion: 'v1', kind: 'ConfigMap', name: 'x', uid: 'u', controller: true }];
    await bench.create(resources.pods, { metadata: { name: 'odd', labels: { app: 'web' }, ownerReferences }, spec: template.spec });
    await eventually('the condition', async () => (await status())?.conditions?.some((c) => c.reason === 'SyncFailed'));
    expect((await status())!.disruptionsAllowed).toBe(0);
  });

  test('a disruption condition that nothing came of is taken back', async () => {
    const clock = new FakeClock(Math.floor(Date.now() / 1000) * 1000);
    await start({ minAvailable: 1 }, 1, clock);
    const [pod] = await eventually('a pod', async () => ((await pods())[0]?.status?.phase === 'Running' ? pods() : undefined));
    const lastTransitionTime = `${new Date(clock.now()).toISOString().slice(0, 19)}Z`;
    const conditions = [...pod!.status!.conditions!, { type: 'DisruptionTarget', status: 'True', reason: 'PreemptionByScheduler', lastTransitionTime }];
    await bench.patch(resources.pods, pod!.metadata.name, { status: { conditions } }, 'status');
    await settle();
    clock.advance(121_000);
    await eventually('it to be taken back', async () =>
      (await pods())[0]!.status!.conditions!.some((c) => c.type === 'DisruptionTarget' && c.status === 'False'),
    );
  });

  // The in-memory client deletes whatever is evicted.
  if (name === 'the API server') test('evictions take from the budget, and are refused when it is used up', async () => {
    await start({ minAvailable: 3 });
    await shows({ disruptionsAllowed: 1 });
    // Held: the pod has been allowed to go and has not gone.
    const { namespace, name } = (await pods()).find((p) => p.status?.phase === 'Running')!.metadata;
    await bench.patch(resources.pods, name, { metadata: { finalizers: ['example.com/hold'] } });
    bench.kubelet.holdBack((pod) => pod.status?.phase === 'Pending');
    await evict();
    const evicted = await bench.admin.get(resources.pods, { namespace, name });
    expect(evicted.status!.conditions).toContainEqual(
      expect.objectContaining({ type: 'DisruptionTarget', status: 'True', reason: 'EvictionByEvictionAPI', message: 'Eviction API: evicting' }),
    );
    await shows({ currentHealthy: 3, disruptionsAllowed: 0 });
    await expect(evict()).rejects.toMatchObject({
      status: {
        code: 429,
        reason: 'TooManyRequests',
        details: { causes: [{ reason: 'DisruptionBudget', message: 'The disruption budget web needs 3 healthy pods and has 3 currently' }] },
      },
    });
    await bench.patch(resources.pods, name, { metadata: { finalizers: null } });
    // The replacement brings the budget back.
    bench.kubelet.release();
    await shows({ currentHealthy: 4, disruptionsAllowed: 1 });
    await evict();
  });
});
