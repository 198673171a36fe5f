import { afterEach, describe, expect, test } from 'vitest';
import type { Deployment, Pod, ReplicaSet, ReplicationController } from '../api/generated/types.ts';
import { isConflict } from '../api/errors.ts';
import { resources } from '../api/generated/resources.ts';
import type { ResourceType } from '../api/object.ts';
import { startDeploymentController } from './deployment.ts';
import { startGarbageCollector } from './garbagecollector.ts';
import { startReplicaSetController } from './replicaset.ts';
import { startReplicationController } from './replicationcontroller.ts';
import { type Bench, backends } from './testing/backends.ts';
import { eventually, settle } from './testing.ts';

let bench: Bench;
afterEach(() => bench?.stop());

const labels = { app: 'web' };
const template = (image = 'web:1') => ({ metadata: { labels }, spec: { containers: [{ name: 'c', image }] } });
const deployment = (spec: object = {}) => ({
  metadata: { name: 'web' },
  spec: {
    replicas: 3,
    selector: { matchLabels: labels },
    template: template(),
    strategy: { type: 'RollingUpdate', rollingUpdate: { maxSurge: 1, maxUnavailable: 1 } },
    progressDeadlineSeconds: 600,
    revisionHistoryLimit: 10,
    ...spec,
  },
});

// What deployment.test.ts shows in detail, and what the conformance suite asks for, with the roles that the controllers have.
describe.each(backends)('workloads on $name', ({ open }) => {
  async function start() {
    bench = await open();
    startDeploymentController(bench.as('deployment-controller'));
    startReplicaSetController(bench.as('replicaset-controller'));
    startReplicationController(bench.as('replication-controller'));
    bench.kubelet.start();
  }
  const web = () => bench.get<Deployment>(resources.deployments, 'web');
  const sets = () => bench.all<ReplicaSet>(resources.replicasets);
  const pods = async () => (await bench.all<Pod>(resources.pods)).filter((p) => !p.metadata.deletionTimestamp);
  const imageOf = (o: { spec: { template?: { spec?: { containers: { image?: string }[] } } } }) => o.spec.template!.spec!.containers[0]!.image;
  const complete = (replicas = 3, image?: string) =>
    eventually(`${replicas} of ${image ?? 'any image'}`, async () => {
      const { status, metadata, spec } = await web();
      const counts = [status?.replicas, status?.updatedReplicas, status?.availableReplicas].every((n) => n === replicas);
      return counts && status!.observedGeneration === metadata.generation && (!image || imageOf({ spec }) === image) && status;
    });
  const change = (spec: object) => bench.patch<Deployment>(resources.deployments, 'web', { spec });
  /** Writes the scale as clients do: again where the controller wrote the status meanwhile. Resolves to the scale before. */
  async function scaled(type: ResourceType<any>, name: string, replicas: number): Promise<object> {
    for (;;) {
      const scale = await bench.admin.get<any>(type, { namespace: 'default', name }, { subresource: 'scale' });
      try {
        await bench.admin.update<any>(type, { ...scale, spec: { replicas } }, { subresource: 'scale' });
        return scale;
      } catch (error) {
        if (!isConflict(error)) throw error;
      }
    }
  }

  test('Deployment: rolling update, rollover before it is done, rollback', async () => {
    await start();
    await bench.create(resources.deployments, deployment());
    await complete();
    bench.kubelet.holdBack((pod) => pod.spec.containers[0]!.image === 'web:broken');
    await change({ template: template('web:broken') });
    await eventually('the new set', async () => (await sets()).length === 2);
    await settle();
    // A third may be missing: two old pods stay.
    expect((await pods()).filter((p) => p.status?.phase === 'Running')).toHaveLength(2);
    await change({ template: template('web:2') });
    await complete(3, 'web:2');
    await eventually('the old sets to be empty', async () => (await sets()).every((rs) => imageOf(rs) === 'web:2' || rs.spec.replicas === 0));
    expect((await web()).metadata.annotations!['deployment.kubernetes.io/revision']).toBe('3');
  });

  test('Deployment: scaled in the middle of a rollout, its sets grow in proportion', async () => {
    await start();
    await bench.create(resources.deployments, deployment({ replicas: 10, strategy: { type: 'RollingUpdate', rollingUpdate: { maxSurge: 3, maxUnavailable: 2 } } }));
    await complete(10);
    bench.kubelet.holdBack((pod) => pod.spec.containers[0]!.image === 'web:404');
    await change({ template: template('web:404') });
    const sizes = async () => (await sets()).sort((a, b) => (imageOf(a)! < imageOf(b)! ? -1 : 1)).map((rs) => rs.spec.replicas);
    await eventually('the rollout to halt', async () => (await sizes()).join() === '8,5');
    await change({ replicas: 30 });
    // 30 and a surge of 3: 20 more, in proportion 8 to 5.
    await eventually('the sizes', async () => (await sizes()).join() === '20,13');
  });

  test('Deployment: the scale subresource, and a status that others patch', async () => {
    await start();
    await bench.create(resources.deployments, deployment({ replicas: 1 }));
    await complete(1);
    const scale = await scaled(resources.deployments, 'web', 2);
    expect(scale).toMatchObject({ kind: 'Scale', spec: { replicas: 1 }, status: { replicas: 1, selector: 'app=web' } });
    await complete(2);
    const conditions = [...(await web()).status!.conditions!, { type: 'StatusUpdate', status: 'True', reason: 'E2E', message: 'set by a test' }];
    await bench.patch(resources.deployments, 'web', { status: { conditions } }, 'status');
    await change({ replicas: 3 });
    await complete(3);
    // Conditions of others stay.
    expect((await web()).status!.conditions!.map((c) => c.type)).toContain('StatusUpdate');
  });

  test('deletion that orphans leaves the pods, which a new owner adopts', async () => {
    await start();
    startGarbageCollector(bench.as('generic-garbage-collector'));
    const rs = { metadata: { name: 'r' }, spec: { replicas: 2, selector: { matchLabels: labels }, template: template() } };
    await bench.create(resources.replicasets, rs);
    await eventually('two pods', async () => (await pods()).length === 2);
    const before = (await pods()).map((p) => p.metadata.uid).sort();
    await bench.remove(resources.replicasets, 'r', { propagationPolicy: 'Orphan' });
    await eventually('the set to go', async () => (await sets()).length === 0);
    expect((await pods()).flatMap((p) => p.metadata.ownerReferences ?? [])).toEqual([]);
    await bench.create(resources.replicasets, { ...rs, metadata: { name: 's' } });
    await eventually('the adoption', async () => (await pods()).every((p) => p.metadata.ownerReferences?.[0]?.name === 's'));
    expect((await pods()).map((p) => p.metadata.uid).sort()).toEqual(before);
    await bench.remove(resources.replicasets, 's', { propagationPolicy: 'Background' });
    await eventually('no pods', async () => (await pods()).length === 0);
  });

  test('ReplicationController: lifecycle, release and the condition of a quota', async () => {
    await start();
    const rc = { metadata: { name: 'rc' }, spec: { replicas: 2, selector: labels, template: template() } };
    await bench.create(resources.replicationcontrollers, rc);
    const shown = () => bench.get<ReplicationController>(resources.replicationcontrollers, 'rc');
    await eventually('two ready', async () => (await shown()).status?.readyReplicas === 2);
    const [first] = await pods();
    expect(first!.metadata.generateName).toBe('rc-');
    await bench.patch(resources.pods, first!.metadata.name, { metadata: { labels: { app: 'released' } } });
    await eventually('the release', async () => !(await bench.get<Pod>(resources.pods, first!.metadata.name)).metadata.ownerReferences?.length);
    await eventually('three pods', async () => (await pods()).length === 3);
    await scaled(resources.replicationcontrollers, 'rc', 1);
    await eventually('one', async () => (await shown()).status?.replicas === 1);
  });

  test('a condition tells of pods that a quota refuses, and goes when they fit', async () => {
    bench = await open();
    const context = bench.as('replication-controller');
    const { create } = context.client;
    let room = 2;
    // As the quota's admission does it; the in-memory client has none.
    context.client.create = async (type, object, options) => {
      if (type.resource === 'pods' && room-- <= 0) throw new Error('exceeded quota: q');
      return (create as any).call(context.client, type, object, options);
    };
    startReplicationController(context);
    const rc = { metadata: { name: 'rc' }, spec: { replicas: 3, selector: labels, template: template() } };
    await bench.create(resources.replicationcontrollers, rc);
    const failure = async () =>
      (await bench.get<ReplicationController>(resources.replicationcontrollers, 'rc')).status?.conditions?.find((c) => c.type === 'ReplicaFailure');
    expect(await eventually('the condition', failure)).toMatchObject({ status: 'True', reason: 'FailedCreate', message: expect.stringContaining('quota') });
    await bench.patch(resources.replicationcontrollers, 'rc', { spec: { replicas: 2 } });
    await eventually('no condition', async () => !(await failure()));
  });
});
