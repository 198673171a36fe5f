import { afterEach, describe, expect, test } from 'vitest';
import type { Node, Pod } from '../api/generated/types.ts';
import { resources } from '../api/generated/resources.ts';
import { FakeClock } from '../client/fake-clock.ts';
import { CidrAllocator, startNodeIpamController } from './nodeipam.ts';
import { startNodeLifecycleController } from './nodelifecycle.ts';
import { startPodGcController } from './podgc.ts';
import { startTaintEvictionController } from './tainteviction.ts';
import { eventually, settle, type TestContext, testContext } from './testing.ts';
import { rfc3339 } from './timestamps.ts';

let context: TestContext;
afterEach(() => context?.stop());

const at = Date.parse('2026-01-01T00:00:00Z');
const node = (name: string, ready = 'True', over: object = {}) => ({
  apiVersion: 'v1',
  kind: 'Node',
  metadata: { name, uid: `uid-${name}`, labels: { 'kubernetes.io/os': 'linux' } },
  spec: {},
  status: { conditions: [{ type: 'Ready', status: ready, lastHeartbeatTime: rfc3339(at), lastTransitionTime: rfc3339(at) }] },
  ...over,
});
const lease = (name: string, second = 0) => ({
  apiVersion: 'coordination.k8s.io/v1',
  kind: 'Lease',
  metadata: { name, namespace: 'kube-node-lease' },
  spec: { renewTime: rfc3339(at + second * 1000) },
});
const pod = (name: string, nodeName: string, spec: object = {}, status: object = {}) => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name, namespace: 'default', uid: `uid-${name}`, creationTimestamp: rfc3339(at) },
  spec: { nodeName, containers: [], ...spec },
  status: { phase: 'Running', conditions: [{ type: 'Ready', status: 'True' }], ...status },
});
const getNode = (name: string) => context.client.objects(resources.nodes).find((n) => n.metadata.name === name) as Node;
const getPod = (name: string) => context.client.objects(resources.pods).find((p) => p.metadata.name === name) as Pod | undefined;
const ready = (o: Node | Pod | undefined) => o?.status?.conditions?.find((c) => c.type === 'Ready');
const taints = (name: string) => (getNode(name).spec.taints ?? []).map((t) => `${t.key}:${t.effect}`).sort();

/** Moves the clock on in steps, so that what each step sets off can follow. */
async function pass(clock: FakeClock, seconds: number) {
  for (let i = 0; i < seconds; i += 5) {
    clock.advance(5000);
    await settle(15);
  }
}

describe('node lifecycle', () => {
  test('a silent node turns Unknown, is tainted, and its pods are not ready; one that renews its Lease stays', async () => {
    const clock = new FakeClock(at);
    context = testContext([node('dead'), node('alive'), lease('dead'), lease('alive'), pod('p', 'dead'), pod('q', 'alive')], clock);
    startNodeLifecycleController(context, { gracePeriodMs: 40_000 });
    await eventually('the labels', () => getNode('dead').metadata.labels!['beta.kubernetes.io/os'] === 'linux');
    for (let s = 10; s <= 60; s += 10) {
      await pass(clock, 10);
      await context.client.patch(resources.leases, { namespace: 'kube-node-lease', name: 'alive' }, 'merge', {
        spec: { renewTime: rfc3339(at + s * 1000) },
      });
      if (s === 30) expect(ready(getNode('dead'))!.status).toBe('True');
    }
    await eventually('Unknown', () => ready(getNode('dead'))!.status === 'Unknown');
    expect(ready(getNode('dead'))).toMatchObject({ reason: 'NodeStatusUnknown', message: 'Kubelet stopped posting node status.' });
    await eventually('taints', () => taints('dead').length === 2);
    expect(taints('dead')).toEqual(['node.kubernetes.io/unreachable:NoExecute', 'node.kubernetes.io/unreachable:NoSchedule']);
    await eventually('the pod', () => ready(getPod('p'))!.status === 'False');
    expect(ready(getNode('alive'))!.status).toBe('True');
    expect(ready(getPod('q'))!.status).toBe('True');
    expect(context.recorded).toContainEqual(
      expect.objectContaining({ type: 'Normal', reason: 'NodeNotReady', message: 'Node dead status is now: NodeNotReady' }),
    );

    const live = getNode('dead');
    const conditions = [{ type: 'Ready', status: 'True', lastHeartbeatTime: rfc3339(clock.now()) }];
    await context.client.update(resources.nodes, { ...live, status: { conditions } }, { subresource: 'status' });
    await eventually('no taints', () => taints('dead').length === 0);
  });

  test('conditions and cordoning become taints, and taints of others stay', async () => {
    const conditions = [
      { type: 'Ready', status: 'True' },
      { type: 'DiskPressure', status: 'True' },
      { type: 'PIDPressure', status: 'False' },
    ];
    const spec = {
      unschedulable: true,
      taints: [
        { key: 'mine', effect: 'NoSchedule' },
        { key: 'node.kubernetes.io/memory-pressure', effect: 'NoSchedule' },
      ],
    };
    context = testContext([node('n', 'True', { spec, status: { conditions } })]);
    startNodeLifecycleController(context);
    await eventually('taints', () => taints('n').includes('node.kubernetes.io/unschedulable:NoSchedule'));
    expect(taints('n')).toEqual(['mine:NoSchedule', 'node.kubernetes.io/disk-pressure:NoSchedule', 'node.kubernetes.io/unschedulable:NoSchedule']);
  });

  test('when no node at all is heard, nothing is evicted', async () => {
    context = testContext([node('a', 'False'), node('b', 'Unknown')]);
    startNodeLifecycleController(context);
    await eventually('taints', () => taints('a').length === 1 && taints('b').length === 1);
    await settle();
    expect([...taints('a'), ...taints('b')]).toEqual(['node.kubernetes.io/not-ready:NoSchedule', 'node.kubernetes.io/unreachable:NoSchedule']);
    const conditions = [{ type: 'Ready', status: 'True', lastHeartbeatTime: rfc3339(Date.now()) }];
    await context.client.update(resources.nodes, { ...getNode('a'), status: { conditions } }, { subresource: 'status' });
    await eventually('the eviction taint', () => taints('b').includes('node.kubernetes.io/unreachable:NoExecute'));
    expect(taints('a')).toEqual([]);
  });
});

describe('taint eviction', () => {
  test('at once, after tolerationSeconds, or never', async () => {
    const clock = new FakeClock(at);
    const taint = { key: 'k', effect: 'NoExecute', timeAdded: rfc3339(at) };
    const tolerating = (tolerationSeconds?: number) => ({
      tolerations: [{ key: 'k', operator: 'Exists', effect: 'NoExecute', ...(tolerationSeconds === undefined ? {} : { tolerationSeconds }) }],
    });
    context = testContext(
      [node('n', 'True', { spec: { taints: [taint] } }), pod('now', 'n'), pod('later', 'n', tolerating(30)), pod('never', 'n', tolerating())],
      clock,
    );
    startTaintEvictionController(context);
    const gone = (name: string) => !getPod(name) || !!getPod(name)!.metadata.deletionTimestamp;
    await eventually('the first to go', () => gone('now'));
    expect(context.recorded).toContainEqual(
      expect.objectContaining({ type: 'Normal', reason: 'TaintManagerEviction', message: 'Marking for deletion Pod default/now' }),
    );
    await pass(clock, 25);
    expect(gone('later')).toBe(false);
    await pass(clock, 10);
    await eventually('the second to go', () => gone('later'));
    await pass(clock, 600);
    expect(gone('never')).toBe(false);
  });

  test('is called off when the taint goes in time', async () => {
    const clock = new FakeClock(at);
    const taint = { key: 'k', effect: 'NoExecute', timeAdded: rfc3339(at) };
    context = testContext(
      [node('n', 'True', { spec: { taints: [taint] } }), pod('p', 'n', { tolerations: [{ operator: 'Exists', tolerationSeconds: 30 }] })],
      clock,
    );
    startTaintEvictionController(context);
    await eventually('the timer', () => clock.pending > 0);
    await context.client.patch(resources.nodes, { name: 'n' }, 'merge', { spec: { taints: null } });
    await eventually('the event', () => context.recorded.some((e) => e.message === 'Cancelling deletion of Pod default/p'));
    await pass(clock, 60);
    expect(getPod('p')!.metadata.deletionTimestamp).toBeUndefined();
  });
});

describe('pod ranges of nodes', () => {
  test('one each, none twice, and those that are taken are kept', async () => {
    const taken = node('taken', 'True', { spec: { podCIDR: '10.244.0.0/24', podCIDRs: ['10.244.0.0/24'] } });
    context = testContext([...Array.from({ length: 5 }, (_, i) => node(`n${i}`)), taken]);
    startNodeIpamController(context, '10.244.0.0/16', 24);
    await eventually('ranges', () => context.client.objects(resources.nodes).every((n) => n.spec.podCIDR));
    const ranges = context.client.objects(resources.nodes).map((n) => n.spec.podCIDR);
    expect(new Set(ranges).size).toBe(6);
    for (const range of ranges) expect(range).toMatch(/^10\.244\.\d+\.0\/24$/);
    expect(getNode('taken').spec.podCIDR).toBe('10.244.0.0/24');
  });

  test('a range comes back with its node', async () => {
    context = testContext([node('a'), node('b')]);
    startNodeIpamController(context, '10.0.0.0/24', 24);
    const [owner] = await eventually('one range', () => {
      const w = context.client.objects(resources.nodes).filter((n) => n.spec.podCIDR);
      return w.length === 1 && w;
    });
    await eventually('the event', () => context.recorded.some((e) => e.reason === 'CIDRNotAvailable'));
    await context.client.delete(resources.nodes, { name: owner!.metadata.name });
    await eventually('the other node to get it', () => context.client.objects(resources.nodes)[0]!.spec.podCIDR === '10.0.0.0/24');
  });

  test('the allocator knows its borders', () => {
    const ranges = new CidrAllocator('192.168.254.0/23', 24);
    expect([ranges.allocate('a'), ranges.allocate('b'), ranges.allocate('c')]).toEqual(['192.168.254.0/24', '192.168.255.0/24', undefined]);
    expect(ranges.occupy('10.0.0.0/24', 'x')).toBe(false);
    expect(ranges.occupy('192.168.255.0/24', 'x')).toBe(false);
    expect(() => new CidrAllocator('10.0.0.0/25', 24)).toThrow('no ranges of /24 in 10.0.0.0/25');
  });
});

describe('pod garbage collection', () => {
  test('pods of a node that is gone are failed and removed; others stay', async () => {
    const clock = new FakeClock(at);
    context = testContext([node('n'), node('m'), pod('p', 'n'), pod('q', 'm'), pod('lost', 'never-was')], clock);
    startPodGcController(context);
    await settle();
    await context.client.delete(resources.nodes, { name: 'n' });
    await settle();
    expect(getPod('p')).toBeDefined();
    await pass(clock, 10);
    await eventually('the removal', () => !getPod('p') && !getPod('lost'));
    expect(getPod('q')).toBeDefined();
    const patch = context.client.writes.find((w) => w.verb === 'patch' && w.name === 'p')!.body;
    expect(patch).toMatchObject({
      status: { phase: 'Failed', conditions: [{ type: 'DisruptionTarget', reason: 'DeletionByPodGC', message: 'PodGC: node no longer exists' }] },
    });
  });

  test('a pod deleted before it had a node, and one on a node out of service', async () => {
    const deleted = { deletionTimestamp: rfc3339(at), deletionGracePeriodSeconds: 30 };
    const out = node('out', 'Unknown', { spec: { taints: [{ key: 'node.kubernetes.io/out-of-service', effect: 'NoExecute' }] } });
    const unscheduled = pod('unscheduled', '');
    const stuck = pod('stuck', 'out');
    const waiting = pod('waiting', 'n');
    for (const p of [unscheduled, stuck, waiting]) Object.assign(p.metadata, deleted);
    context = testContext([node('n'), out, unscheduled, stuck, waiting]);
    startPodGcController(context);
    await eventually('the removal', () => !getPod('unscheduled') && !getPod('stuck'));
    await settle();
    expect(getPod('waiting')).toBeDefined();
  });

  test('only so many ended pods are kept, the youngest', async () => {
    const clock = new FakeClock(at);
    const ended = Array.from({ length: 5 }, (_, i) => {
      const p = pod(`p${i}`, 'n', {}, { phase: 'Succeeded' });
      p.metadata.creationTimestamp = rfc3339(at + i * 1000);
      return p;
    });
    context = testContext([node('n'), ...ended], clock);
    startPodGcController(context, { terminatedPodThreshold: 2 });
    await settle();
    await pass(clock, 10);
    await eventually('the removal', () => context.client.objects(resources.pods).length === 2);
    expect(
      context.client
        .objects(resources.pods)
        .map((p) => p.metadata.name)
        .sort(),
    ).toEqual(['p3', 'p4']);
  });
});
