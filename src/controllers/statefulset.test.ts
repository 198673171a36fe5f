import { afterEach, describe, expect, test } from 'vitest';
import { canonicalJson } from '../api/equality.ts';
import type { Pod, StatefulSet } from '../api/generated/types.ts';
import { resources } from '../api/generated/resources.ts';
import { startStatefulSetController } from './statefulset.ts';
import { type Bench, backends } from './testing/backends.ts';
import { eventually, settle } from './testing.ts';

let bench: Bench;
afterEach(() => bench?.stop());

const template = (image = 'web:1') => ({ metadata: { labels: { app: 'web' } }, spec: { containers: [{ name: 'c', image }] } });
const set = (spec: object = {}) => ({
  metadata: { name: 'web' },
  spec: { replicas: 3, serviceName: 'web', selector: { matchLabels: { app: 'web' } }, template: template(), ...spec },
});
const claims = [
  { metadata: { name: 'data' }, spec: { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '1Gi' } } } },
] as unknown as StatefulSet['spec']['volumeClaimTemplates'];

describe.each(backends)('StatefulSet on $name', ({ open }) => {
  async function start(spec: object = {}) {
    bench = await open();
    startStatefulSetController(bench.as('statefulset-controller'));
    bench.kubelet.start();
    await bench.create(resources.statefulsets, set(spec));
  }
  const web = () => bench.get(resources.statefulsets, 'web');
  const pods = async () => (await bench.all(resources.pods)).sort((a, b) => a.metadata.name.localeCompare(b.metadata.name));
  const names = async () => (await pods()).map((p) => p.metadata.name);
  const imageOf = (pod: Pod) => pod.spec.containers[0]!.image;
  const images = async () => (await pods()).map(imageOf);
  const change = (spec: object) => bench.patch(resources.statefulsets, 'web', { spec });
  const settled = (replicas = 3) =>
    eventually(`${replicas} available pods`, async () => {
      const { status, metadata } = await web();
      const fine = status?.availableReplicas === replicas && status.replicas === replicas && status.observedGeneration === metadata.generation;
      return fine && status;
    });
  /** A node does not let the pod go: it stays with its deletionTimestamp. */
  const stuck = async (name: string) => {
    await bench.admin.createSubresource(resources.pods, { namespace: 'default', name }, 'binding', {
      apiVersion: 'v1',
      kind: 'Binding',
      metadata: { name },
      target: { kind: 'Node', name: 'silent' },
    });
  };

  test('makes pods one after the other, each with its name, labels, host name and revision', async () => {
    bench = await open();
    bench.kubelet.holdBack((pod) => pod.metadata.name === 'web-1');
    startStatefulSetController(bench.as('statefulset-controller'));
    bench.kubelet.start();
    await bench.create(resources.statefulsets, set());
    await eventually('the second pod', async () => (await names()).includes('web-1'));
    await settle();
    expect(await names()).toEqual(['web-0', 'web-1']);
    bench.kubelet.release();
    const status = await settled();
    expect(await names()).toEqual(['web-0', 'web-1', 'web-2']);
    const [first] = await pods();
    const [revision] = await bench.all(resources.controllerrevisions);
    expect(first!.metadata.labels).toMatchObject({
      app: 'web',
      'statefulset.kubernetes.io/pod-name': 'web-0',
      'apps.kubernetes.io/pod-index': '0',
      'controller-revision-hash': revision!.metadata.name,
    });
    expect(first!.spec).toMatchObject({ hostname: 'web-0', subdomain: 'web' });
    expect(status).toMatchObject({
      readyReplicas: 3,
      currentReplicas: 3,
      updatedReplicas: 3,
      currentRevision: revision!.metadata.name,
      updateRevision: revision!.metadata.name,
    });
    expect(revision).toMatchObject({ revision: 1, data: { spec: { template: { $patch: 'replace' } } } });
    expect(JSON.stringify(revision!.data)).toBe(canonicalJson(revision!.data));
    expect(bench.recorded.map((e) => e.message)).toContain('Create Pod web-2 in StatefulSet web successful');
  });

  test('takes pods away from the top, and waits for each to be gone and for the rest to be healthy', async () => {
    await start();
    await settled();
    await stuck('web-2');
    bench.kubelet.holdBack((pod) => pod.metadata.name === 'web-2');
    await change({ replicas: 1 });
    await eventually('the deletion', async () => (await pods())[2]?.metadata.deletionTimestamp);
    await settle();
    expect((await pods()).filter((p) => !p.metadata.deletionTimestamp)).toHaveLength(2);
    bench.kubelet.release();
    await settled(1);
    expect(await names()).toEqual(['web-0']);
  });

  test('does not go on scaling while a pod is unhealthy', async () => {
    await start({ replicas: 1 });
    await settled(1);
    await bench.patch(resources.pods, 'web-0', { status: { conditions: [{ type: 'Ready', status: 'False' }] } }, 'status');
    await eventually('the status', async () => !(await web()).status?.readyReplicas);
    await change({ replicas: 3 });
    await eventually('the status', async () => (await web()).status?.observedGeneration === 2);
    await settle();
    expect(await names()).toEqual(['web-0']);
    const lastTransitionTime = '2026-01-01T00:00:00Z';
    await bench.patch(resources.pods, 'web-0', { status: { conditions: [{ type: 'Ready', status: 'True', lastTransitionTime }] } }, 'status');
    await settled(3);
  });

  test('Parallel makes and ends all at once, whatever their health', async () => {
    bench = await open();
    bench.kubelet.holdBack(() => true);
    startStatefulSetController(bench.as('statefulset-controller'));
    bench.kubelet.start();
    await bench.create(resources.statefulsets, set({ podManagementPolicy: 'Parallel' }));
    await eventually('three pods', async () => (await names()).length === 3);
    await change({ replicas: 0 });
    await eventually('none', async () => (await pods()).every((p) => p.metadata.deletionTimestamp));
  });

  test('a rolling update goes from the top, one at a time, and rolls back to the old revision', async () => {
    await start();
    const before = await settled();
    let fewest = 3;
    const watch = bench.as('statefulset-controller').informers.informer(resources.pods);
    await watch.synced();
    watch.addHandlers({
      onDelete() {
        fewest = Math.min(fewest, watch.list().filter((p) => !p.metadata.deletionTimestamp).length);
      },
    });
    await change({ template: template('web:2') });
    const after = await eventually('the update', async () => {
      const { status } = await web();
      return status?.currentRevision !== before.currentRevision && status?.currentRevision === status?.updateRevision && status;
    });
    expect(await images()).toEqual(['web:2', 'web:2', 'web:2']);
    expect(fewest).toBe(2);
    await change({ template: template('web:1') });
    await eventually('the way back', async () => (await web()).status?.currentRevision === before.currentRevision);
    expect(await images()).toEqual(['web:1', 'web:1', 'web:1']);
    const revisions = await bench.all(resources.controllerrevisions);
    expect(revisions.map((r) => [r.metadata.name, r.revision])).toEqual(
      expect.arrayContaining([
        [before.currentRevision, 3],
        [after.currentRevision, 2],
      ]),
    );
  });

  test('a partition keeps the lower pods at the current revision, also when they are made anew', async () => {
    await start();
    const before = await settled();
    await change({ template: template('web:2'), updateStrategy: { type: 'RollingUpdate', rollingUpdate: { partition: 2 } } });
    await eventually('the canary', async () => (await images()).join() === 'web:1,web:1,web:2' && (await web()).status?.updatedReplicas === 1);
    await settled();
    await bench.remove(resources.pods, 'web-0');
    await eventually('the pod to be back', async () => (await names()).length === 3);
    await settled();
    expect(await images()).toEqual(['web:1', 'web:1', 'web:2']);
    expect((await web()).status).toMatchObject({ currentReplicas: 2, updatedReplicas: 1, currentRevision: before.currentRevision });
    await change({ updateStrategy: { rollingUpdate: { partition: 0 } } });
    await eventually('the rest', async () => (await images()).join() === 'web:2,web:2,web:2');
  });

  test('maxUnavailable lets several go at once', async () => {
    await start({ replicas: 4, updateStrategy: { type: 'RollingUpdate', rollingUpdate: { maxUnavailable: 2 } } });
    await settled(4);
    bench.kubelet.holdBack((pod) => imageOf(pod) === 'web:2');
    await change({ template: template('web:2') });
    await eventually('the first new pods', async () => (await images()).filter((i) => i === 'web:2').length > 0);
    await settle();
    // In order: the first new pod has to become ready before the second is made, but two were taken away.
    expect((await images()).filter((i) => i === 'web:1')).toHaveLength(2);
    bench.kubelet.release();
    await eventually('the update', async () => (await images()).every((i) => i === 'web:2'));
  });

  test('OnDelete changes a pod only when somebody deletes it', async () => {
    await start({ updateStrategy: { type: 'OnDelete' } });
    await settled();
    await change({ template: template('web:2') });
    await eventually('the revision', async () => (await web()).status?.updateRevision !== (await web()).status?.currentRevision);
    await settle();
    expect(await images()).toEqual(['web:1', 'web:1', 'web:1']);
    await bench.remove(resources.pods, 'web-1');
    await eventually('the new pod', async () => (await images()).join() === 'web:1,web:2,web:1');
  });

  test('a failed pod is replaced; one that does not go is not', async () => {
    await start({ replicas: 2 });
    await settled(2);
    const uid = (await pods())[0]!.metadata.uid;
    await bench.patch(resources.pods, 'web-0', { status: { phase: 'Failed' } }, 'status');
    await eventually('the new pod', async () => (await pods())[0] && (await pods())[0]!.metadata.uid !== uid);
    await settled(2);
    await stuck('web-1');
    bench.kubelet.holdBack((pod) => pod.metadata.name === 'web-1');
    const held = (await pods())[1]!;
    await bench.remove(resources.pods, 'web-1');
    await settle();
    expect((await pods())[1]).toMatchObject({ metadata: { uid: held.metadata.uid, deletionTimestamp: expect.any(String) } });
    bench.kubelet.release();
    await eventually('the replacement', async () => (await pods())[1] && (await pods())[1]!.metadata.uid !== held.metadata.uid);
  });

  test('numbers from ordinals.start, and moves when that changes', async () => {
    await start({ replicas: 2, ordinals: { start: 5 } });
    await settled(2);
    expect(await names()).toEqual(['web-5', 'web-6']);
    await change({ ordinals: { start: 6 } });
    await eventually('the move', async () => (await names()).join() === 'web-6,web-7');
  });

  test('claims are made before pods, stay by default, and go with the set or the scale where asked to', async () => {
    await start({
      replicas: 2,
      volumeClaimTemplates: claims,
      persistentVolumeClaimRetentionPolicy: { whenDeleted: 'Retain', whenScaled: 'Delete' },
    });
    await settled(2);
    const claim = () => bench.all(resources.persistentvolumeclaims);
    expect((await claim()).map((c) => c.metadata.name).sort()).toEqual(['data-web-0', 'data-web-1']);
    expect((await claim())[0]!.metadata.labels).toMatchObject({ app: 'web' });
    expect((await pods())[0]!.spec.volumes).toContainEqual({ name: 'data', persistentVolumeClaim: { claimName: 'data-web-0' } });
    expect((await claim()).flatMap((c) => c.metadata.ownerReferences ?? [])).toEqual([]);
    await change({ persistentVolumeClaimRetentionPolicy: { whenDeleted: 'Delete', whenScaled: 'Delete' } });
    await eventually('owners', async () => (await claim()).every((c) => c.metadata.ownerReferences?.[0]?.kind === 'StatefulSet'));
    const second = (await pods())[1]!;
    await change({ replicas: 1 });
    await eventually('the pod to own its claim', async () => {
      const owners = (await claim()).find((c) => c.metadata.name === 'data-web-1')!.metadata.ownerReferences;
      return owners?.length === 1 && owners[0]!.uid === second.metadata.uid;
    });
    // No new pod may start on a claim that still belongs to the old one.
    await settled(1);
    await change({ replicas: 2 });
    await settle();
    expect(await names()).toEqual(['web-0']);
    await bench.admin.deleteCollection(resources.persistentvolumeclaims, { namespace: 'default' });
    for (const c of await claim()) await bench.patch(resources.persistentvolumeclaims, c.metadata.name, { metadata: { finalizers: null } });
    await change({ template: template('web:1b') });
    await settled(2);
  });

  test('keeps as many old revisions as revisionHistoryLimit says', async () => {
    await start({ replicas: 1, revisionHistoryLimit: 1 });
    await settled(1);
    for (const image of ['web:2', 'web:3', 'web:4']) {
      await change({ template: template(image) });
      await eventually(image, async () => (await images()).join() === image && (await web()).status?.readyReplicas === 1);
      await eventually('the end of it', async () => (await web()).status?.currentRevision === (await web()).status?.updateRevision);
    }
    await eventually('two revisions', async () => (await bench.all(resources.controllerrevisions)).length === 2);
  });

  test('minReadySeconds: ready is not available', async () => {
    await start({ replicas: 2, minReadySeconds: 1 });
    await eventually('the first pod', async () => (await web()).status?.readyReplicas === 1);
    expect((await web()).status?.availableReplicas).toBe(0);
    expect(await names()).toEqual(['web-0']);
    await settled(2);
  });

  test('adopts a matching orphan of its name, and releases a pod that no longer matches', async () => {
    bench = await open();
    await bench.create(resources.pods, { metadata: { name: 'web-0', labels: { app: 'web' } }, spec: template().spec });
    startStatefulSetController(bench.as('statefulset-controller'));
    bench.kubelet.start();
    // A rolling update would replace what it adopts, which is of no revision.
    await bench.create(resources.statefulsets, set({ replicas: 1, updateStrategy: { type: 'OnDelete' } }));
    const owner = async () => (await pods())[0]?.metadata.ownerReferences?.[0];
    await eventually('the adoption', async () => (await owner())?.name === 'web');
    await bench.patch(resources.pods, 'web-0', { metadata: { labels: { app: 'other' } } });
    await eventually('the release', async () => !(await owner()));
  });
});
