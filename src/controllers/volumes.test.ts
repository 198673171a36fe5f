import { afterEach, describe, expect, test } from 'vitest';
import { resources } from '../api/generated/resources.ts';
import { FakeClock } from '../client/fake-clock.ts';
import { startAttachDetachController } from './attachdetach.ts';
import { startEphemeralVolumeController } from './ephemeral-volume.ts';
import { startPersistentVolumeBinder } from './persistentvolume.ts';
import { startPvcProtectionController, startVacProtectionController } from './storage-protection.ts';
import { eventually, setStatus, settle, type TestContext, testContext } from './testing.ts';

let context: TestContext;
afterEach(() => context?.stop());

const key = { namespace: 'default', name: 'data' };
const claim = (spec: object = {}, metadata: object = {}) => ({
  apiVersion: 'v1',
  kind: 'PersistentVolumeClaim',
  metadata: { ...key, uid: 'claim-uid', ...metadata },
  spec: { accessModes: ['ReadWriteOnce'], storageClassName: 'gp3', resources: { requests: { storage: '2Gi' } }, ...spec },
});
const volume = (name: string, size = '2Gi', spec: object = {}) => ({
  apiVersion: 'v1',
  kind: 'PersistentVolume',
  metadata: { name },
  spec: {
    accessModes: ['ReadWriteOnce'],
    storageClassName: 'gp3',
    capacity: { storage: size },
    csi: { driver: 'ebs.csi.aws.com', volumeHandle: `vol-${name}` },
    ...spec,
  },
});
const storageClass = (volumeBindingMode: string, metadata: object = {}) => ({
  apiVersion: 'storage.k8s.io/v1',
  kind: 'StorageClass',
  metadata: { name: 'gp3', ...metadata },
  provisioner: 'ebs.csi.aws.com',
  volumeBindingMode,
});
const getClaim = () => context.client.get(resources.persistentvolumeclaims, key);
const getVolume = (name: string) => context.client.get(resources.persistentvolumes, { name });

describe('binding', () => {
  test('the smallest volume that fits; both say so', async () => {
    context = testContext([
      storageClass('Immediate'),
      volume('large', '10Gi'),
      volume('small', '1Gi'),
      volume('fits', '3Gi'),
      volume('other', '2Gi', { storageClassName: 'x' }),
      claim(),
    ]);
    startPersistentVolumeBinder(context);
    const bound = await eventually('Bound', async () => {
      const c = await getClaim();
      return c.status?.phase === 'Bound' && c;
    });
    expect(bound.spec.volumeName).toBe('fits');
    expect(bound.status!.capacity).toEqual({ storage: '3Gi' });
    expect(bound.metadata.annotations).toEqual({ 'pv.kubernetes.io/bind-completed': 'yes', 'pv.kubernetes.io/bound-by-controller': 'yes' });
    const pv = await getVolume('fits');
    expect(pv.spec.claimRef).toMatchObject({ name: 'data', namespace: 'default', uid: 'claim-uid' });
    await eventually(
      'phases',
      async () => (await getVolume('fits')).status?.phase === 'Bound' && (await getVolume('large')).status?.phase === 'Available',
    );
  });

  test('a claim that waits for its consumer is asked of the provisioner when it has a node, and bound when the volume comes', async () => {
    context = testContext([storageClass('WaitForFirstConsumer'), claim()]);
    startPersistentVolumeBinder(context);
    await eventually('the event', () => context.recorded.some((e) => e.reason === 'WaitForFirstConsumer'));
    expect((await getClaim()).metadata.annotations?.['volume.kubernetes.io/storage-provisioner']).toBeUndefined();
    await context.client.patch(resources.persistentvolumeclaims, key, 'merge', {
      metadata: { annotations: { 'volume.kubernetes.io/selected-node': 'n' } },
    });
    await eventually(
      'the annotation',
      async () => (await getClaim()).metadata.annotations?.['volume.kubernetes.io/storage-provisioner'] === 'ebs.csi.aws.com',
    );
    await context.client.create(resources.persistentvolumes, volume('new', '2Gi', { claimRef: { ...key, uid: 'claim-uid' } }) as never);
    await eventually('Bound', async () => (await getClaim()).status?.phase === 'Bound' && (await getVolume('new')).status?.phase === 'Bound');
  });

  test('a volume whose claim is gone is Released; a claim whose volume is gone is Lost', async () => {
    context = testContext([storageClass('Immediate'), volume('a'), claim()]);
    startPersistentVolumeBinder(context);
    await eventually('Bound', async () => (await getVolume('a')).status?.phase === 'Bound');
    await context.client.delete(resources.persistentvolumeclaims, key);
    await eventually('Released', async () => (await getVolume('a')).status?.phase === 'Released');
    await context.client.create(resources.persistentvolumeclaims, claim({}, { uid: undefined }) as never);
    await settle();
    expect((await getClaim()).status?.phase).toBe('Pending');
    context.stop();

    context = testContext([storageClass('Immediate'), volume('a'), claim()]);
    startPersistentVolumeBinder(context);
    await eventually('Bound', async () => (await getClaim()).status?.phase === 'Bound');
    await context.client.delete(resources.persistentvolumes, { name: 'a' });
    await eventually('Lost', async () => (await getClaim()).status?.phase === 'Lost');
  });

  test('a claim without a class gets the default one', async () => {
    context = testContext([
      storageClass('Immediate', { annotations: { 'storageclass.kubernetes.io/is-default-class': 'true' } }),
      claim({ storageClassName: undefined }),
    ]);
    startPersistentVolumeBinder(context);
    await eventually('the class', async () => (await getClaim()).spec.storageClassName === 'gp3');
  });
});

describe('protection', () => {
  test('a claim in use stays until its pod is gone', async () => {
    const pod = {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name: 'p', namespace: 'default' },
      spec: { nodeName: 'n', containers: [], volumes: [{ name: 'v', persistentVolumeClaim: { claimName: 'data' } }] },
    };
    context = testContext([claim(), pod]);
    startPvcProtectionController(context);
    await eventually('the finalizer', async () => (await getClaim()).metadata.finalizers?.includes('kubernetes.io/pvc-protection'));
    await context.client.delete(resources.persistentvolumeclaims, key);
    await settle();
    expect((await getClaim()).metadata.deletionTimestamp).toBeDefined();
    await context.client.delete(resources.pods, { namespace: 'default', name: 'p' }, { gracePeriodSeconds: 0 });
    await eventually('the end', () => context.client.objects(resources.persistentvolumeclaims).length === 0);
  });

  test('a class of volume attributes stays while a volume has it or a claim wants it', async () => {
    const finalizers = ['kubernetes.io/vac-protection'];
    const attributes = { apiVersion: 'storage.k8s.io/v1', kind: 'VolumeAttributesClass', metadata: { name: 'fast', finalizers }, driverName: 'd' };
    context = testContext([attributes, claim({ volumeAttributesClassName: 'fast' }), volume('v', '2Gi', { volumeAttributesClassName: 'fast' })]);
    startVacProtectionController(context);
    const there = () => context.client.objects(resources.volumeattributesclasses).length === 1;
    await context.client.delete(resources.volumeattributesclasses, { name: 'fast' });
    await settle();
    expect(there()).toBe(true);
    await context.client.delete(resources.persistentvolumeclaims, key);
    await settle();
    expect(there()).toBe(true);
    await context.client.delete(resources.persistentvolumes, { name: 'v' });
    await eventually('the deletion', () => !there());
  });
});

test('generic ephemeral volumes get a claim that is owned by the pod', async () => {
  const template = { spec: { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '1Gi' } } } };
  const pod = {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: 'p', namespace: 'default', uid: 'pod-uid' },
    spec: { containers: [], volumes: [{ name: 'scratch', ephemeral: { volumeClaimTemplate: template } }] },
  };
  context = testContext([pod]);
  startEphemeralVolumeController(context);
  const made = await eventually('the claim', () => context.client.objects(resources.persistentvolumeclaims)[0]);
  expect(made.metadata).toMatchObject({ name: 'p-scratch', ownerReferences: [{ kind: 'Pod', uid: 'pod-uid', controller: true }] });
});

describe('attaching', () => {
  const inUse = 'kubernetes.io/csi/ebs.csi.aws.com^vol-pv';
  const node = (name: string, ready = 'True', status: object = {}) => ({
    apiVersion: 'v1',
    kind: 'Node',
    metadata: { name, uid: name },
    spec: {},
    status: { conditions: [{ type: 'Ready', status: ready }], ...status },
  });
  const pod = (name: string, nodeName: string) => ({
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace: 'default' },
    spec: { nodeName, containers: [], volumes: [{ name: 'v', persistentVolumeClaim: { claimName: 'data' } }] },
  });
  const bound = [claim({ volumeName: 'pv' }), volume('pv', '2Gi', { claimRef: { ...key, uid: 'claim-uid' } })];
  const attachments = () => context.client.objects(resources.volumeattachments);
  const on = () => attachments().map((a) => a.spec.nodeName);
  const getNode = (name: string) => context.client.get(resources.nodes, { name });
  /** The attacher: fulfils attachments, and takes its finalizer away when they go. */
  const attacher = () => {
    context.informers
      .informer(resources.volumeattachments)
      .addHandlers({ onAdd: (a) => void setStatus(context.client, resources.volumeattachments, a, { attached: true }) });
  };
  const removePod = (name: string) => context.client.delete(resources.pods, { namespace: 'default', name }, { gracePeriodSeconds: 0 });

  test('attaches, tells the node, waits for the unmount, detaches, and only then attaches elsewhere', async () => {
    context = testContext([...bound, node('a'), node('b'), pod('p', 'a')]);
    startAttachDetachController(context);
    attacher();
    const [made] = await eventually('the attachment', () => attachments().length === 1 && attachments());
    expect(made).toMatchObject({
      metadata: { name: expect.stringMatching(/^csi-[0-9a-f]{64}$/) },
      spec: { attacher: 'ebs.csi.aws.com', nodeName: 'a', source: { persistentVolumeName: 'pv' } },
    });
    await eventually('the node to know', async () => (await getNode('a')).status!.volumesAttached?.[0]?.name === inUse);
    await setStatus(context.client, resources.nodes, await getNode('a'), { volumesInUse: [inUse] });

    await context.client.create(resources.pods, pod('q', 'b') as never);
    const told = await eventually('the event', () => context.recorded.find((e) => e.reason === 'FailedAttachVolume'));
    expect(told).toMatchObject({ type: 'Warning', message: 'Waiting for detach for volume "pv" Volume is already used by pod(s) p' });
    await removePod('p');
    await settle();
    expect(on()).toEqual(['a']);
    await setStatus(context.client, resources.nodes, await getNode('a'), { volumesInUse: [] });
    await eventually('the move', () => on().join() === 'b');
    expect((await getNode('a')).status!.volumesAttached ?? []).toEqual([]);
    await eventually('the node to know', async () => (await getNode('b')).status!.volumesAttached?.[0]?.name === inUse);
  });

  test('attachments that others made are theirs', async () => {
    const foreign = { apiVersion: 'storage.k8s.io/v1', kind: 'VolumeAttachment', metadata: { name: 'mine' } };
    context = testContext([
      { ...foreign, spec: { attacher: 'ebs.csi.aws.com', nodeName: 'n1', source: { persistentVolumeName: 'v' } } },
      {
        ...foreign,
        metadata: { name: `csi-${'0'.repeat(64)}` },
        spec: { attacher: 'ebs.csi.aws.com', nodeName: 'n1', source: { persistentVolumeName: 'v' } },
      },
    ]);
    startAttachDetachController(context);
    await eventually('the detachment of the one that was ours', () => attachments().length === 1);
    await settle();
    expect(attachments().map((a) => a.metadata.name)).toEqual(['mine']);
  });

  test('a dead node keeps its volume for the time of grace, one out of service does not', async () => {
    const clock = new FakeClock();
    context = testContext([...bound, node('a', 'True'), node('b'), pod('p', 'a')], clock);
    startAttachDetachController(context);
    attacher();
    await eventually('the attachment', () => on().join() === 'a');
    const conditions = [{ type: 'Ready', status: 'Unknown' }];
    await setStatus(context.client, resources.nodes, await getNode('a'), { volumesInUse: [inUse], conditions });
    await removePod('p');
    await context.client.create(resources.pods, pod('q', 'b') as never);
    await settle();
    clock.advance(5 * 60_000);
    await settle();
    expect(on()).toEqual(['a']);
    clock.advance(2 * 60_000);
    await eventually('the move', () => on().join() === 'b');
  });

  test('out of service', async () => {
    const taint = { key: 'node.kubernetes.io/out-of-service', effect: 'NoExecute' };
    context = testContext([...bound, node('a'), node('b'), pod('p', 'a')]);
    startAttachDetachController(context);
    attacher();
    await eventually('the attachment', () => on().join() === 'a');
    await setStatus(context.client, resources.nodes, await getNode('a'), {
      volumesInUse: [inUse],
      conditions: [{ type: 'Ready', status: 'Unknown' }],
    });
    await removePod('p');
    await settle();
    expect(on()).toEqual(['a']);
    await context.client.patch(resources.nodes, { name: 'a' }, 'merge', { spec: { taints: [taint] } });
    await eventually('the detachment', () => on().length === 0);
  });

  test('a shared volume goes to all nodes at once', async () => {
    const shared = [claim({ volumeName: 'pv' }), volume('pv', '2Gi', { accessModes: ['ReadWriteMany'], claimRef: { ...key, uid: 'claim-uid' } })];
    context = testContext([...shared, node('a'), node('b'), pod('p', 'a'), pod('q', 'b')]);
    startAttachDetachController(context);
    await eventually('both', () => on().sort().join() === 'a,b');
  });
});
