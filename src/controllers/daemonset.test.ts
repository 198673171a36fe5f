import { afterEach, describe, expect, test } from 'vitest';
import type { DaemonSet, Pod } from '../api/generated/types.ts';
import { resources } from '../api/generated/resources.ts';
import { startDaemonSetController } from './daemonset.ts';
import { targetNodeOf } from './daemonset/placement.ts';
import { type Bench, backends } from './testing/backends.ts';
import { eventually, settle } from './testing.ts';

let bench: Bench;
afterEach(() => bench?.stop());

const template = (image = 'agent:1', spec: object = {}) => ({
  metadata: { labels: { app: 'agent' } },
  spec: { containers: [{ name: 'c', image }], ...spec },
});
const daemonSet = (spec: object = {}) => ({
  metadata: { name: 'agent' },
  spec: { selector: { matchLabels: { app: 'agent' } }, template: template(), ...spec },
});
const node = (name: string, labels: Record<string, string> = {}) => ({ metadata: { name, labels }, spec: {} });
/** A node registers with the taint not-ready, which goes when its kubelet reports. */
async function join(n: ReturnType<typeof node>) {
  await bench.create(resources.nodes, n);
  await bench.patch(resources.nodes, n.metadata.name, { spec: { taints: null } });
}

describe.each(backends)('DaemonSet on $name', ({ open }) => {
  async function start(spec: object = {}, nodes = [node('a'), node('b'), node('c')]) {
    bench = await open();
    for (const n of nodes) await join(n);
    startDaemonSetController(bench.as('daemon-set-controller'));
    bench.kubelet.start();
    await bench.create(resources.daemonsets, daemonSet(spec));
  }
  const agent = () => bench.get<DaemonSet>(resources.daemonsets, 'agent');
  const pods = () => bench.all(resources.pods);
  const live = async () => (await pods()).filter((p) => !p.metadata.deletionTimestamp);
  const places = async () => (await live()).map((p) => targetNodeOf(p)).sort();
  const imageOf = (pod: Pod) => pod.spec.containers[0]!.image;
  const change = (spec: object) => bench.patch(resources.daemonsets, 'agent', { spec });
  const settled = (count = 3) =>
    eventually(`${count} available pods`, async () => {
      const { status, metadata } = await agent();
      const fine = status?.numberAvailable === count && status.updatedNumberScheduled === count && status.desiredNumberScheduled === count;
      return fine && status.observedGeneration === metadata.generation && status;
    });

  test('one pod a node, pinned to it, with the tolerations of daemons', async () => {
    await start();
    const status = await settled();
    expect(await places()).toEqual(['a', 'b', 'c']);
    expect(status).toMatchObject({ currentNumberScheduled: 3, numberReady: 3, numberMisscheduled: 0 });
    const [pod] = await pods();
    const [revision] = await bench.all(resources.controllerrevisions);
    const hash = revision!.metadata.labels!['controller-revision-hash'];
    expect(revision!.metadata.name).toBe(`agent-${hash}`);
    expect(pod!.metadata.labels).toMatchObject({ app: 'agent', 'controller-revision-hash': hash });
    expect(pod!.metadata.generateName).toBe('agent-');
    expect(pod!.spec.affinity!.nodeAffinity!.requiredDuringSchedulingIgnoredDuringExecution).toEqual({
      nodeSelectorTerms: [{ matchFields: [{ key: 'metadata.name', operator: 'In', values: [targetNodeOf(pod!)] }] }],
    });
    expect(pod!.spec.tolerations!.map((t) => `${t.key}:${t.effect}`)).toEqual([
      'node.kubernetes.io/not-ready:NoExecute',
      'node.kubernetes.io/unreachable:NoExecute',
      'node.kubernetes.io/disk-pressure:NoSchedule',
      'node.kubernetes.io/memory-pressure:NoSchedule',
      'node.kubernetes.io/pid-pressure:NoSchedule',
      'node.kubernetes.io/unschedulable:NoSchedule',
    ]);
  });

  test('follows nodes: new ones, labels that come and go, taints', async () => {
    await start({ template: template('agent:1', { nodeSelector: { role: 'edge' } }) }, [node('a', { role: 'edge' }), node('b')]);
    await settled(1);
    expect(await places()).toEqual(['a']);
    await join(node('c', { role: 'edge' }));
    await bench.patch(resources.nodes, 'b', { metadata: { labels: { role: 'edge' } } });
    await settled(3);
    await bench.patch(resources.nodes, 'a', { metadata: { labels: { role: null } } });
    await eventually('the pod to go', async () => (await places()).join() === 'b,c');
    // A taint that forbids new pods leaves those that run; one that evicts does not.
    await bench.patch(resources.nodes, 'b', { spec: { taints: [{ key: 'k', effect: 'NoSchedule' }] } });
    await eventually('the count', async () => (await agent()).status?.desiredNumberScheduled === 1);
    expect((await agent()).status?.numberMisscheduled).toBe(1);
    expect(await places()).toEqual(['b', 'c']);
    await bench.patch(resources.nodes, 'b', { spec: { taints: [{ key: 'k', effect: 'NoExecute' }] } });
    await eventually('the eviction', async () => (await places()).join() === 'c');
  });

  test('a rolling update takes no more nodes down than maxUnavailable, and a rollback restarts nothing that is right', async () => {
    await start();
    await settled();
    bench.kubelet.holdBack((pod) => imageOf(pod) === 'agent:2');
    await change({ template: template('agent:2') });
    await eventually('the first new pod', async () => (await live()).some((p) => imageOf(p) === 'agent:2'));
    await settle();
    const old = (await live()).filter((p) => imageOf(p) === 'agent:1').map((p) => p.metadata.uid);
    expect(old).toHaveLength(2);
    await change({ template: template('agent:1') });
    bench.kubelet.release();
    await settled();
    const uids = (await live()).map((p) => p.metadata.uid);
    for (const uid of old) expect(uids).toContain(uid);
    expect((await bench.all(resources.controllerrevisions)).map((r) => r.revision).sort()).toEqual([2, 3]);
  });

  test('maxSurge starts the new pod beside the old one, which goes when the new one is available', async () => {
    await start({ updateStrategy: { type: 'RollingUpdate', rollingUpdate: { maxSurge: 1, maxUnavailable: 0 } } });
    await settled();
    bench.kubelet.holdBack((pod) => imageOf(pod) === 'agent:2');
    await change({ template: template('agent:2') });
    await eventually('the surge', async () => (await live()).length === 4);
    await settle();
    expect((await live()).filter((p) => imageOf(p) === 'agent:1')).toHaveLength(3);
    bench.kubelet.release();
    await settled();
    await eventually('the old pods to go', async () => (await live()).length === 3);
    expect(await places()).toEqual(['a', 'b', 'c']);
  });

  test('OnDelete waits for somebody to delete the pod', async () => {
    await start({ updateStrategy: { type: 'OnDelete' } });
    await settled();
    await change({ template: template('agent:2') });
    await eventually('the status', async () => !(await agent()).status?.updatedNumberScheduled);
    await settle();
    expect((await live()).map(imageOf)).toEqual(['agent:1', 'agent:1', 'agent:1']);
    await bench.remove(resources.pods, (await live())[0]!.metadata.name);
    await eventually('the new pod', async () => (await live()).filter((p) => imageOf(p) === 'agent:2').length === 1);
  });

  test('failed pods are replaced, the second time later', async () => {
    await start({}, [node('a')]);
    await settled(1);
    const fail = async () => {
      const [pod] = await live();
      await bench.patch(resources.pods, pod!.metadata.name, { status: { phase: 'Failed' } }, 'status');
      return pod!.metadata.uid;
    };
    const first = await fail();
    await eventually('another pod', async () => (await live()).some((p) => p.metadata.uid !== first));
    await settled(1);
    const second = await fail();
    await settle();
    expect((await live())[0]!.metadata.uid).toBe(second);
    await eventually('another pod', async () => (await live()).some((p) => p.metadata.uid !== second && p.status?.phase === 'Running'));
    expect(bench.recorded.map((e) => e.reason)).toContain('FailedDaemonPod');
  });

  test('two pods on one node: the younger goes; orphans are adopted', async () => {
    bench = await open();
    await join(node('a'));
    for (const name of ['x', 'y']) {
      await bench.create(resources.pods, { metadata: { name, labels: { app: 'agent' } }, spec: template('agent:1', { nodeName: 'a' }).spec });
    }
    startDaemonSetController(bench.as('daemon-set-controller'));
    // With RollingUpdate it would go as well: it was made from no template that the set knows.
    await bench.create(resources.daemonsets, daemonSet({ updateStrategy: { type: 'OnDelete' } }));
    await eventually('one pod', async () => (await live()).length === 1 && (await live())[0]!.metadata.ownerReferences?.[0]?.name === 'agent');
  });
});
