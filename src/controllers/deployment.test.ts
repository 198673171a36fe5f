import { afterEach, describe, expect, test } from 'vitest';
import type { Deployment, Pod } from '../api/generated/types.ts';
import { resources } from '../api/generated/resources.ts';
import { startDeploymentController } from './deployment.ts';
import { startReplicaSetController } from './replicaset.ts';
import { eventually, setStatus, settle, type TestContext, testContext } from './testing.ts';

let context: TestContext;
afterEach(() => context?.stop());

function deployment(spec: Partial<Deployment['spec']> = {}) {
  return {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name: 'web', namespace: 'default' },
    spec: {
      replicas: 3,
      selector: { matchLabels: { app: 'web' } },
      template: { metadata: { labels: { app: 'web' } }, spec: { containers: [{ name: 'c', image: 'web:1' }] } },
      strategy: { type: 'RollingUpdate', rollingUpdate: { maxSurge: 1, maxUnavailable: 0 } },
      revisionHistoryLimit: 10,
      progressDeadlineSeconds: 600,
      ...spec,
    },
  };
}

/** Marks every live pod Ready, as kubelets would, until stopped; keeps the lowest number of ready pods seen. */
function kubelet(fake: TestContext) {
  let fewest = Number.POSITIVE_INFINITY;
  let most = 0;
  const pods = fake.informers.informer(resources.pods);
  const ready = async (pod: Pod) => {
    if (pod.metadata.deletionTimestamp || pod.status?.phase === 'Running') return;
    const now = new Date().toISOString();
    await setStatus(fake.client, resources.pods, pod, {
      phase: 'Running',
      conditions: [{ type: 'Ready', status: 'True', lastTransitionTime: now }],
    }).catch(() => {});
  };
  const count = () => {
    const live = fake.client.objects(resources.pods).filter((p) => !p.metadata.deletionTimestamp);
    fewest = Math.min(fewest, live.filter((p) => p.status?.phase === 'Running').length);
    most = Math.max(most, live.length);
  };
  pods.addHandlers({
    onAdd: (pod) => void ready(pod).then(count),
    onUpdate(_, pod) {
      count();
      if (pod.metadata.deletionTimestamp) void fake.client.delete(resources.pods, pod.metadata, { gracePeriodSeconds: 0 }).catch(() => {});
    },
    onDelete: count,
  });
  const watch = () => {
    fewest = Number.POSITIVE_INFINITY;
    most = 0;
  };
  return { watch, seen: () => ({ fewest, most }) };
}

const web = () => context.client.get(resources.deployments, { namespace: 'default', name: 'web' });
const sets = () => context.client.objects(resources.replicasets);
const complete = async () => {
  const d = await web();
  const progressing = d.status?.conditions?.find((c) => c.type === 'Progressing');
  const done =
    d.status?.observedGeneration === d.metadata.generation &&
    progressing?.reason === 'NewReplicaSetAvailable' &&
    d.status?.updatedReplicas === d.spec.replicas;
  return done && d.status?.replicas === d.spec.replicas && d.status?.availableReplicas === d.spec.replicas && d;
};

function start(objects: unknown[]) {
  context = testContext(objects);
  startDeploymentController(context);
  startReplicaSetController(context);
  return kubelet(context);
}

async function change(spec: Partial<Deployment['spec']>) {
  const d = await web();
  return context.client.update(resources.deployments, { ...d, spec: { ...d.spec, ...spec } });
}
const image = (name: string) =>
  ({ template: { metadata: { labels: { app: 'web' } }, spec: { containers: [{ name: 'c', image: name }] } } }) as unknown as Partial<
    Deployment['spec']
  >;

describe('Deployment', () => {
  test('counts on from whatever number a set that it adopts has, to the digit', async () => {
    const template = { metadata: { labels: { app: 'web' } }, spec: { containers: [{ name: 'c', image: 'web:0' }] } };
    const adopted = {
      apiVersion: 'apps/v1',
      kind: 'ReplicaSet',
      metadata: { name: 'earlier', namespace: 'default', uid: 'earlier', labels: { app: 'web' }, annotations: { 'deployment.kubernetes.io/revision': '3546343826724305832' } },
      spec: { replicas: 1, selector: { matchLabels: { app: 'web' } }, template },
    };
    start([deployment(), adopted]);
    const d = await eventually('the rollout', complete);
    expect(d.metadata.annotations!['deployment.kubernetes.io/revision']).toBe('3546343826724305833');
  });

  test('creates a ReplicaSet and pods, and reports them', async () => {
    start([deployment()]);
    const d = await eventually('the rollout', complete);
    const [rs] = sets();
    const hash = rs!.metadata.labels!['pod-template-hash'];
    expect(rs!.metadata.name).toBe(`web-${hash}`);
    expect(rs!.spec.selector.matchLabels).toEqual({ app: 'web', 'pod-template-hash': hash });
    expect(rs!.metadata.annotations).toMatchObject({
      'deployment.kubernetes.io/revision': '1',
      'deployment.kubernetes.io/desired-replicas': '3',
      'deployment.kubernetes.io/max-replicas': '4',
    });
    expect(d.metadata.annotations!['deployment.kubernetes.io/revision']).toBe('1');
    expect(d.status).toMatchObject({ replicas: 3, readyReplicas: 3, updatedReplicas: 3, unavailableReplicas: 0 });
    expect(d.status!.conditions!.find((c) => c.type === 'Available')).toMatchObject({ status: 'True', reason: 'MinimumReplicasAvailable' });
    expect(context.client.objects(resources.pods)).toHaveLength(3);
    expect(context.recorded.map((e) => e.message)).toContain(`Scaled up replica set web-${hash} from 0 to 3`);
  });

  test('a rolling update never has fewer ready pods than wanted, nor more than the surge allows; undo reuses the old ReplicaSet', async () => {
    const { watch, seen } = start([deployment()]);
    await eventually('the rollout', complete);
    const first = sets()[0]!.metadata.name;
    watch();
    await change(image('web:2'));
    await eventually(
      'the update',
      async () => (await complete()) && sets().length === 2 && sets().find((rs) => rs.metadata.name === first)!.spec.replicas === 0,
    );
    expect(seen().fewest).toBeGreaterThanOrEqual(3);
    expect(seen().most).toBeLessThanOrEqual(4);
    expect((await web()).metadata.annotations!['deployment.kubernetes.io/revision']).toBe('2');

    await change(image('web:1'));
    await eventually('the undo', async () => sets().find((rs) => rs.metadata.name === first)!.spec.replicas === 3 && (await complete()));
    expect(sets()).toHaveLength(2);
    expect(sets().find((rs) => rs.metadata.name === first)!.metadata.annotations).toMatchObject({
      'deployment.kubernetes.io/revision': '3',
      'deployment.kubernetes.io/revision-history': '1',
    });
  });

  test('Recreate ends all old pods before it starts a new one', async () => {
    const { watch, seen } = start([deployment({ strategy: { type: 'Recreate' } })]);
    await eventually('the rollout', complete);
    watch();
    await change(image('web:2'));
    await eventually('the update', async () => (await complete()) && sets().length === 2);
    expect(seen().most).toBeLessThanOrEqual(3);
    expect(seen().fewest).toBe(0);
  });

  test('scales, and does nothing to the template while paused', async () => {
    start([deployment()]);
    await eventually('the rollout', complete);
    await change({ replicas: 5 });
    await eventually('the scaling', async () => (await complete())?.valueOf() && context.client.objects(resources.pods).length === 5);
    await change({ paused: true, ...image('web:2') });
    await eventually('the condition', async () => (await web()).status?.conditions?.some((c) => c.reason === 'DeploymentPaused'));
    await settle();
    expect(sets()).toHaveLength(1);
    await change({ paused: false });
    await eventually('the update', async () => (await complete()) && sets().length === 2);
  });

  test('keeps no more old ReplicaSets than revisionHistoryLimit', async () => {
    start([deployment({ revisionHistoryLimit: 1 })]);
    await eventually('the rollout', complete);
    for (const name of ['web:2', 'web:3', 'web:4']) {
      await change(image(name));
      await eventually(name, async () => (await complete()) && sets().some((rs) => rs.spec.template!.spec!.containers[0]!.image === name));
    }
    await eventually('the cleaning up', () => sets().length === 2);
    expect(
      sets()
        .map((rs) => rs.spec.template!.spec!.containers[0]!.image)
        .sort(),
    ).toEqual(['web:3', 'web:4']);
  });

  test('says when the deadline for progress has passed', async () => {
    context = testContext([deployment({ progressDeadlineSeconds: 1 })]);
    startDeploymentController(context);
    startReplicaSetController(context);
    const condition = await eventually('the deadline', async () =>
      (await web()).status?.conditions?.find((c) => c.reason === 'ProgressDeadlineExceeded'),
    );
    expect(condition).toMatchObject({ type: 'Progressing', status: 'False' });
    expect(condition.message).toMatch(/^ReplicaSet "web-[a-z0-9]+" has timed out progressing\.$/);
  });

  test('takes another hash when a foreign ReplicaSet has its name', async () => {
    start([deployment()]);
    await eventually('the rollout', complete);
    const name = sets()[0]!.metadata.name;
    context.stop();
    const foreign = { ...structuredClone(sets()[0]!), metadata: { name, namespace: 'default', labels: { other: 'x' } } };
    start([deployment(), foreign]);
    await eventually('the rollout', complete);
    expect((await web()).status!.collisionCount).toBe(1);
    expect(sets()).toHaveLength(2);
  });
});

describe('ReplicaSet', () => {
  const rs = {
    apiVersion: 'apps/v1',
    kind: 'ReplicaSet',
    metadata: { name: 'r', namespace: 'default', uid: 'r-uid' },
    spec: { replicas: 2, selector: { matchLabels: { a: 'b' } }, template: { metadata: { labels: { a: 'b' } }, spec: { containers: [] } } },
  };
  const pod = (name: string, labels: object) => ({
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace: 'default', labels },
    spec: { containers: [] },
  });

  test('adopts matching orphans, and releases a pod whose label is taken away', async () => {
    context = testContext([rs, pod('orphan', { a: 'b' }), pod('stranger', { a: 'c' })]);
    startReplicaSetController(context);
    const owned = () => context.client.objects(resources.pods).filter((p) => p.metadata.ownerReferences?.some((o) => o.name === 'r'));
    await eventually('two pods', () => owned().length === 2);
    expect(owned().map((p) => p.metadata.name)).toContain('orphan');
    await context.client.patch(resources.pods, { namespace: 'default', name: 'orphan' }, 'merge', { metadata: { labels: { a: 'released' } } });
    await eventually('the release', () => owned().length === 2 && !owned().some((p) => p.metadata.name === 'orphan'));
    expect(context.client.objects(resources.pods)).toHaveLength(4);
  });

  test('a refused creation is tried once, not for every replica, and shows in the status', async () => {
    context = testContext([{ ...rs, spec: { ...rs.spec, replicas: 50 } }]);
    let refused = 0;
    context.client.intercept((action) => {
      if (action.verb !== 'create' || action.resource !== 'pods') return;
      refused++;
      throw new Error('exceeded quota');
    });
    startReplicaSetController(context);
    await eventually('the condition', () =>
      context.client.objects(resources.replicasets)[0]!.status?.conditions?.find((c) => c.type === 'ReplicaFailure' && c.reason === 'FailedCreate'),
    );
    expect(refused).toBeLessThan(10);
    expect(context.recorded[0]).toMatchObject({ type: 'Warning', reason: 'FailedCreate', message: 'Error creating: exceeded quota' });
  });

  test('takes the least useful pods first when it shrinks', async () => {
    context = testContext([{ ...rs, spec: { ...rs.spec, replicas: 3 } }]);
    startReplicaSetController(context);
    const pods = () => context.client.objects(resources.pods);
    await eventually('three pods', () => pods().length === 3);
    const [keep] = pods();
    await setStatus(context.client, resources.pods, keep!, {
      phase: 'Running',
      conditions: [{ type: 'Ready', status: 'True', lastTransitionTime: '2026-01-01T00:00:00Z' }],
    });
    await context.client.patch(resources.replicasets, { namespace: 'default', name: 'r' }, 'merge', { spec: { replicas: 1 } });
    await eventually('one pod', () => pods().filter((p) => !p.metadata.deletionTimestamp).length === 1);
    expect(pods().find((p) => !p.metadata.deletionTimestamp)!.metadata.name).toBe(keep!.metadata.name);
  });
});
