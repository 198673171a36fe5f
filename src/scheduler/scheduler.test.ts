import { afterEach, describe, expect, test } from 'vitest';
import type { Pod } from '../api/generated/types.ts';
import { resources } from '../api/generated/resources.ts';
import { FakeClock } from '../client/fake-clock.ts';
import { eventually, settle, type TestContext, testContext } from '../controllers/testing.ts';
import { startScheduler } from './index.ts';

let context: TestContext;
afterEach(() => context?.stop());

const node = (
  name: string,
  {
    cpu = '2',
    memory = '4Gi',
    pods = '110',
    labels = {},
    spec = {},
  }: { cpu?: string; memory?: string; pods?: string; labels?: object; spec?: object } = {},
) => ({
  apiVersion: 'v1',
  kind: 'Node',
  metadata: { name, labels: { 'kubernetes.io/hostname': name, ...labels } },
  spec,
  status: { allocatable: { cpu, memory, pods } },
});
const pod = (name: string, spec: object = {}, labels: object = {}, requests: object = {}) => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name, namespace: 'default', labels },
  spec: { schedulerName: 'default-scheduler', containers: [{ name: 'c', image: 'i', resources: { requests } }], ...spec },
});

const get = (name: string) => context.client.objects(resources.pods).find((p) => p.metadata.name === name) as Pod;
const placed = (name: string) => eventually(`${name} to be placed`, () => get(name)?.spec.nodeName);
const refused = (name: string) =>
  eventually(`${name} to be refused`, () => get(name)?.status?.conditions?.find((c) => c.type === 'PodScheduled' && c.status === 'False')?.message);

function start(objects: unknown[]) {
  context = testContext(objects);
  startScheduler(context, { random: () => 0 });
}

describe('placing', () => {
  test('spreads over nodes by free resources and says where', async () => {
    start([node('a'), node('b'), pod('p1', {}, {}, { cpu: '500m' })]);
    const first = await placed('p1');
    await context.client.create(resources.pods, pod('p2', {}, {}, { cpu: '500m' }) as never);
    expect(await placed('p2')).not.toBe(first);
    expect(context.recorded).toContainEqual(
      expect.objectContaining({ type: 'Normal', reason: 'Scheduled', message: `Successfully assigned default/p1 to ${first}` }),
    );
  });

  test('says for each node why a pod does not fit, and places it when that changes', async () => {
    start([
      node('small', { cpu: '100m' }),
      node('tainted', { spec: { taints: [{ key: 'k', value: 'v', effect: 'NoSchedule' }] } }),
      node('cordoned', { spec: { unschedulable: true } }),
      pod('p', {}, {}, { cpu: '1' }),
    ]);
    const message =
      '0/3 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint(s), 1 node(s) were unschedulable. preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling.';
    expect(await refused('p')).toBe(message);
    expect(context.recorded).toContainEqual(expect.objectContaining({ type: 'Warning', reason: 'FailedScheduling', message }));
    await context.client.patch(resources.nodes, { name: 'cordoned' }, 'merge', { spec: { unschedulable: null } });
    expect(await placed('p')).toBe('cordoned');
  });

  test('without nodes', async () => {
    start([pod('p')]);
    expect(await refused('p')).toBe('no nodes available to schedule pods');
    await context.client.create(resources.nodes, node('late') as never);
    expect(await placed('p')).toBe('late');
  });

  test('leaves pods of other schedulers and gated pods alone', async () => {
    start([node('a'), pod('other', { schedulerName: 'mine' }), pod('gated', { schedulingGates: [{ name: 'g' }] }), pod('ours')]);
    await placed('ours');
    await settle();
    expect([get('other').spec.nodeName, get('gated').spec.nodeName]).toEqual([undefined, undefined]);
    await context.client.patch(resources.pods, { namespace: 'default', name: 'gated' }, 'merge', { spec: { schedulingGates: null } });
    await placed('gated');
  });

  test('never gives a node more than it has, however many pods come at once', async () => {
    const pods = Array.from({ length: 20 }, (_, i) => pod(`p${i}`, {}, {}, { cpu: '500m' }));
    start([node('a', { cpu: '2' }), node('b', { cpu: '3' }), ...pods]);
    await eventually('ten pods', () => context.client.objects(resources.pods).filter((p) => p.spec.nodeName).length === 10);
    await settle();
    const on = (name: string) => context.client.objects(resources.pods).filter((p) => p.spec.nodeName === name).length;
    expect([on('a'), on('b')]).toEqual([4, 6]);
  });

  test.each([
    ['nodeSelector', { nodeSelector: { disk: 'ssd' } }, "node(s) didn't match Pod's node affinity/selector"],
    [
      'hostPort',
      { containers: [{ name: 'c', ports: [{ containerPort: 1, hostPort: 80 }] }] },
      "node(s) didn't have free ports for the requested pod ports",
    ],
    [
      'anti-affinity',
      {
        affinity: {
          podAntiAffinity: {
            requiredDuringSchedulingIgnoredDuringExecution: [{ topologyKey: 'kubernetes.io/hostname', labelSelector: { matchLabels: { app: 'x' } } }],
          },
        },
      },
      "node(s) didn't match pod anti-affinity rules",
    ],
    [
      'affinity',
      {
        affinity: {
          podAffinity: {
            requiredDuringSchedulingIgnoredDuringExecution: [
              { topologyKey: 'kubernetes.io/hostname', labelSelector: { matchLabels: { app: 'none' } } },
            ],
          },
        },
      },
      "node(s) didn't match pod affinity rules",
    ],
    [
      'spread',
      {
        topologySpreadConstraints: [
          {
            maxSkew: 1,
            topologyKey: 'kubernetes.io/hostname',
            whenUnsatisfiable: 'DoNotSchedule',
            labelSelector: { matchLabels: { app: 'x' } },
            minDomains: 2,
          },
        ],
      },
      "node(s) didn't match pod topology spread constraints",
    ],
  ])('%s', async (_, spec, reason) => {
    const there = pod('there', { nodeName: 'a', containers: [{ name: 'c', ports: [{ containerPort: 1, hostPort: 80 }] }] }, { app: 'x' });
    start([node('a'), there, pod('p', spec, { app: 'x' })]);
    expect(await refused('p')).toContain(`1 ${reason}`);
    const labels = { disk: 'ssd' };
    await context.client.create(resources.nodes, node('b', { labels }) as never);
    if (_ === 'affinity') await context.client.create(resources.pods, pod('friend', { nodeName: 'b' }, { app: 'none' }) as never);
    expect(await placed('p')).toBe('b');
  });

  test("existing pods' anti-affinity is kept too", async () => {
    const affinity = {
      podAntiAffinity: {
        requiredDuringSchedulingIgnoredDuringExecution: [{ topologyKey: 'kubernetes.io/hostname', labelSelector: { matchLabels: { app: 'x' } } }],
      },
    };
    start([node('a'), pod('there', { nodeName: 'a', affinity }), pod('p', {}, { app: 'x' })]);
    expect(await refused('p')).toContain("1 node(s) didn't satisfy existing pods anti-affinity rules");
  });

  test('pods of one Service spread over zones', async () => {
    const zone = (z: string) => ({ labels: { 'topology.kubernetes.io/zone': z } });
    const service = { apiVersion: 'v1', kind: 'Service', metadata: { name: 's', namespace: 'default' }, spec: { selector: { app: 'x' } } };
    start([service, node('a1', zone('a')), node('a2', zone('a')), node('b1', zone('b')), node('b2', zone('b'))]);
    const zones: string[] = [];
    for (let i = 0; i < 4; i++) {
      await context.client.create(resources.pods, pod(`p${i}`, {}, { app: 'x' }) as never);
      zones.push((await placed(`p${i}`)).slice(0, 1));
    }
    expect(zones.sort()).toEqual(['a', 'a', 'b', 'b']);
  });
});

describe('preemption', () => {
  test('ends the less important pod, and gives its place to the more important one', async () => {
    const clock = new FakeClock();
    context = testContext(
      [node('a', { cpu: '1' }), pod('low', { nodeName: 'a', priority: 1 }, {}, { cpu: '1' }), pod('high', { priority: 100 }, {}, { cpu: '1' })],
      clock,
    );
    startScheduler(context);
    await eventually('the nomination', () => get('high').status?.nominatedNodeName === 'a');
    await eventually('the deletion', () => !get('low') || get('low').metadata.deletionTimestamp);
    expect(get('low')?.status?.conditions ?? [{ type: 'DisruptionTarget' }]).toContainEqual(expect.objectContaining({ type: 'DisruptionTarget' }));
    await context.client.delete(resources.pods, { namespace: 'default', name: 'low' }, { gracePeriodSeconds: 0 }).catch(() => {});
    const stop = setInterval(() => clock.advance(1000), 10);
    try {
      expect(await placed('high')).toBe('a');
    } finally {
      clearInterval(stop);
    }
  });

  test('never for equals', async () => {
    start([node('a', { cpu: '1' }), pod('there', { nodeName: 'a', priority: 5 }, {}, { cpu: '1' }), pod('p', { priority: 5 }, {}, { cpu: '1' })]);
    expect(await refused('p')).toBe(
      '0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.',
    );
    expect(get('there').metadata.deletionTimestamp).toBeUndefined();
  });
});

describe('volumes', () => {
  const storageClass = {
    apiVersion: 'storage.k8s.io/v1',
    kind: 'StorageClass',
    metadata: { name: 'gp3' },
    provisioner: 'ebs.csi.aws.com',
    volumeBindingMode: 'WaitForFirstConsumer',
  };
  const claim = (over: object = {}, annotations = {}) => ({
    apiVersion: 'v1',
    kind: 'PersistentVolumeClaim',
    metadata: { name: 'data', namespace: 'default', annotations },
    spec: { storageClassName: 'gp3', accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '1Gi' } }, ...over },
  });
  const volume = {
    apiVersion: 'v1',
    kind: 'PersistentVolume',
    metadata: { name: 'pv' },
    spec: {
      capacity: { storage: '1Gi' },
      accessModes: ['ReadWriteOnce'],
      storageClassName: 'gp3',
      csi: { driver: 'ebs.csi.aws.com', volumeHandle: 'vol-1' },
      nodeAffinity: { required: { nodeSelectorTerms: [{ matchExpressions: [{ key: 'zone', operator: 'In', values: ['b'] }] }] } },
    },
    status: { phase: 'Available' },
  };
  const user = pod('p', { volumes: [{ name: 'v', persistentVolumeClaim: { claimName: 'data' } }] });
  const nodes = [node('a', { labels: { zone: 'a' } }), node('b', { labels: { zone: 'b' } })];

  test('a claim that waits for its first consumer is given the chosen node, and the pod is bound when the volume is', async () => {
    start([...nodes, storageClass, claim(), user]);
    const key = { namespace: 'default', name: 'data' };
    const selected = await eventually(
      'the annotation',
      async () => (await context.client.get(resources.persistentvolumeclaims, key)).metadata.annotations?.['volume.kubernetes.io/selected-node'],
    );
    await settle();
    expect(get('p').spec.nodeName).toBeUndefined();
    await context.client.patch(resources.persistentvolumeclaims, key, 'merge', {
      metadata: { annotations: { 'pv.kubernetes.io/bind-completed': 'yes' } },
      spec: { volumeName: 'pv' },
    });
    expect(await placed('p')).toBe(selected);
  });

  test('a bound volume keeps the pod in its zone', async () => {
    start([...nodes, storageClass, volume, claim({ volumeName: 'pv' }, { 'pv.kubernetes.io/bind-completed': 'yes' }), user]);
    expect(await placed('p')).toBe('b');
  });

  test('an existing volume is taken before a new one is asked for', async () => {
    start([...nodes, { ...storageClass, provisioner: 'kubernetes.io/no-provisioner' }, volume, claim(), user]);
    const bound = await eventually('the claimRef', () => context.client.objects(resources.persistentvolumes)[0]!.spec.claimRef);
    expect(bound).toMatchObject({ name: 'data', namespace: 'default' });
  });

  test('says what is wrong with a claim', async () => {
    start([...nodes, user]);
    expect(await refused('p')).toContain('0/2 nodes are available: persistentvolumeclaim "data" not found.');
  });

  test('no more volumes than the node can hold', async () => {
    const full = {
      apiVersion: 'storage.k8s.io/v1',
      kind: 'CSINode',
      metadata: { name: 'b' },
      spec: { drivers: [{ name: 'ebs.csi.aws.com', nodeID: 'i', allocatable: { count: 0 } }] },
    };
    start([...nodes, full, storageClass, volume, claim({ volumeName: 'pv' }, { 'pv.kubernetes.io/bind-completed': 'yes' }), user]);
    expect(await refused('p')).toContain('1 node(s) exceed max volume count');
  });
});
