import {
  AttachVolumeCommand,
  CreateVolumeCommand,
  DescribeVolumesCommand,
  DetachVolumeCommand,
  TerminateInstancesCommand,
  type Volume,
} from '@aws-sdk/client-ec2';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { resources } from '../api/generated/resources.ts';
import type { PersistentVolume } from '../api/generated/types.ts';
import { eventually, setStatus, settle } from '../controllers/testing.ts';
import { until } from '../localaws/api/testing.ts';
import { nodeOf, TestCloud } from './testing.ts';
import { startVolumeAttacher } from './volume-attacher.ts';
import { startVolumeProvisioner } from './volume-provisioner.ts';
import { startVolumeResizer } from './volume-resizer.ts';

let cloud: TestCloud;
beforeEach(async () => {
  cloud = await TestCloud.start();
});
afterEach(() => cloud.end());

const key = { namespace: 'default', name: 'data' };
const uid = 'claim-uid';
const pvName = `pvc-${uid}`;
const claim = (spec: object = {}, metadata: object = {}) => ({
  apiVersion: 'v1',
  kind: 'PersistentVolumeClaim',
  metadata: { ...key, uid, ...metadata },
  spec: { accessModes: ['ReadWriteOnce'], storageClassName: 'gp3', resources: { requests: { storage: '1500Mi' } }, ...spec },
});
const storageClass = (more: object = {}) => ({
  apiVersion: 'storage.k8s.io/v1',
  kind: 'StorageClass',
  metadata: { name: 'gp3' },
  provisioner: 'ebs.csi.aws.com',
  parameters: { type: 'gp3', 'csi.storage.k8s.io/fstype': 'xfs' },
  reclaimPolicy: 'Delete',
  volumeBindingMode: 'WaitForFirstConsumer',
  ...more,
});
const chosen = (node: { metadata: { name: string } }) => ({ annotations: { 'volume.kubernetes.io/selected-node': node.metadata.name } });
const inAws = async (): Promise<Volume[]> =>
  (await cloud.ec2.send(new DescribeVolumesCommand({ Filters: [{ Name: 'tag-key', Values: ['CSIVolumeName'] }] }))).Volumes!;
const pvs = () => cloud.context.client.objects<PersistentVolume>(resources.persistentvolumes);
const events = (reason: string) => cloud.context.recorded.filter((one) => one.reason === reason);
const phase = (name: string) => setStatus(cloud.context.client, resources.persistentvolumes, pvs()[0] as never, { phase: name });

describe('provisioner', () => {
  test('a volume where the chosen node is, as the class says, tagged as the EBS CSI driver does', async () => {
    const nodes = (await cloud.launch(2)).map((one, i) => nodeOf(one, i));
    const inB = nodes.find((one) => one.metadata.labels['topology.kubernetes.io/zone'] === 'us-east-1b')!;
    const parameters = { type: 'gp3', iops: '4000', tagSpecification_1: 'team=a', 'csi.storage.k8s.io/fstype': 'xfs' };
    const context = cloud.begin([...nodes, storageClass({ parameters, mountOptions: ['noatime'] }), claim()]);
    startVolumeProvisioner(context);
    await settle();
    expect(cloud.calls).toEqual([]);
    await context.client.patch(resources.persistentvolumeclaims, key, 'merge', { metadata: chosen(inB) });
    const pv = await eventually('the volume', () => pvs()[0]);
    const [volume] = await inAws();
    expect(volume).toMatchObject({ AvailabilityZone: 'us-east-1b', Size: 2, VolumeType: 'gp3', Iops: 4000, State: 'available' });
    expect(Object.fromEntries(volume!.Tags!.map((one) => [one.Key, one.Value]))).toMatchObject({
      CSIVolumeName: pvName,
      'kubernetes.io/created-for/pvc/name': 'data',
      'kubernetes.io/cluster/test': 'owned',
      team: 'a',
    });
    expect(pv).toMatchObject({
      metadata: { name: pvName, annotations: { 'pv.kubernetes.io/provisioned-by': 'ebs.csi.aws.com' } },
      spec: {
        capacity: { storage: '2Gi' },
        mountOptions: ['noatime'],
        csi: { driver: 'ebs.csi.aws.com', volumeHandle: volume!.VolumeId, fsType: 'xfs' },
        claimRef: { namespace: 'default', name: 'data', uid },
        nodeAffinity: {
          required: { nodeSelectorTerms: [{ matchExpressions: [{ key: 'topology.kubernetes.io/zone', operator: 'In', values: ['us-east-1b'] }] }] },
        },
      },
    });
    expect(events('ProvisioningSucceeded')).toHaveLength(1);
  });

  test('at once where the class says so: claims spread over the allowed zones, those of replicas one after the other', async () => {
    const nodes = (await cloud.launch(2)).map((one, i) => nodeOf(one, i));
    const claims = [0, 1, 2, 3].map((i) => claim({}, { name: `data-db-${i}`, uid: `uid-${i}` }));
    startVolumeProvisioner(cloud.begin([...nodes, storageClass({ volumeBindingMode: 'Immediate' }), ...claims]));
    await eventually('four volumes', () => pvs().length === 4);
    const zones = new Map((await inAws()).map((one) => [one.Tags!.find((tag) => tag.Key === 'CSIVolumeName')!.Value, one.AvailabilityZone]));
    const [first, second, third, fourth] = [0, 1, 2, 3].map((i) => zones.get(`pvc-uid-${i}`));
    expect(first).not.toBe(second);
    expect([third, fourth]).toEqual([first, second]);
  });

  test('only in allowed topologies; what EBS cannot be is said', async () => {
    const nodes = (await cloud.launch(2)).map((one, i) => nodeOf(one, i));
    const allowedTopologies = [{ matchLabelExpressions: [{ key: 'topology.kubernetes.io/zone', values: ['us-east-1b'] }] }];
    const context = cloud.begin([...nodes, storageClass({ volumeBindingMode: 'Immediate', allowedTopologies }), claim()]);
    startVolumeProvisioner(context);
    await eventually('the volume', () => pvs()[0]);
    expect((await inAws())[0]!.AvailabilityZone).toBe('us-east-1b');
    const wrong: [string, object, object, string][] = [
      ['shared', { accessModes: ['ReadWriteMany'] }, {}, 'EBS volumes are ReadWriteOnce'],
      ['huge', { resources: { requests: { storage: '100Ti' } } }, {}, 'Volume of 102400GiB is invalid'],
      ['strange', { storageClassName: 'strange' }, {}, 'Invalid parameter key colour'],
    ];
    const strange = storageClass({ metadata: { name: 'strange' }, parameters: { colour: 'blue' }, volumeBindingMode: 'Immediate' });
    await context.client.create(resources.storageclasses, strange as never);
    for (const [name, spec, metadata, message] of wrong) {
      await context.client.create(resources.persistentvolumeclaims, claim(spec, { name, uid: name, ...metadata }) as never);
      const event = await eventually(message, () => events('ProvisioningFailed').find((one) => one.about.metadata.name === name));
      expect(event.message).toContain(message);
    }
    expect(await inAws()).toHaveLength(1);
  });

  test('a lost answer, and a restart before the object was written, make no second volume', async () => {
    const [node] = (await cloud.launch(1)).map((one) => nodeOf(one));
    const objects = [node, storageClass(), claim({}, chosen(node!))];
    cloud.failing('CreateVolume', { name: 'AnswerLost' }, { effect: true });
    startVolumeProvisioner(cloud.begin(objects));
    await eventually('the failure', () => events('ProvisioningFailed')[0]);
    cloud.context.stop();
    startVolumeProvisioner(cloud.begin(objects));
    await eventually('the object', () => pvs()[0]);
    expect((await inAws()).map((one) => one.VolumeId)).toEqual([pvs()[0]!.spec.csi!.volumeHandle]);
  });

  test('what is released goes when no node has it any more; what is to be retained stays', async () => {
    const [node] = (await cloud.launch(1)).map((one) => nodeOf(one));
    const attachment = {
      apiVersion: 'storage.k8s.io/v1',
      kind: 'VolumeAttachment',
      metadata: { name: 'a' },
      spec: { attacher: 'ebs.csi.aws.com', nodeName: node!.metadata.name, source: { persistentVolumeName: pvName } },
    };
    const context = cloud.begin([node, storageClass(), claim({}, chosen(node!)), attachment]);
    startVolumeProvisioner(context);
    await eventually('the volume', () => pvs()[0]);
    await phase('Released');
    await settle(150);
    expect(await inAws()).toHaveLength(1);
    await context.client.delete(resources.volumeattachments, { name: 'a' });
    await until('its end in AWS', async () => (await inAws()).length === 0);
    // Held by its protection still, which another controller takes off.
    await eventually('the finalizer', () => pvs()[0]?.metadata.finalizers?.join() === 'kubernetes.io/pv-protection');
    await context.client.patch(resources.persistentvolumes, { name: pvName }, 'merge', { metadata: { finalizers: null } });
    expect(pvs()).toEqual([]);

    await context.client.create(resources.storageclasses, storageClass({ metadata: { name: 'keep' }, reclaimPolicy: 'Retain' }) as never);
    await context.client.create(
      resources.persistentvolumeclaims,
      claim({ storageClassName: 'keep' }, { name: 'b', uid: 'b', ...chosen(node!) }) as never,
    );
    const kept = await eventually('the volume', () => pvs()[0]);
    await phase('Released');
    await settle(100);
    await context.client.delete(resources.persistentvolumes, { name: kept.metadata.name });
    await eventually('the finalizer', () => pvs()[0]?.metadata.finalizers?.join() === 'kubernetes.io/pv-protection');
    expect((await inAws()).map((one) => one.VolumeId)).toEqual([kept.spec.csi!.volumeHandle]);
  });
});

describe('attacher', () => {
  const pv = (volumeId: string, name = 'pv') => ({
    apiVersion: 'v1',
    kind: 'PersistentVolume',
    metadata: { name },
    spec: { capacity: { storage: '1Gi' }, csi: { driver: 'ebs.csi.aws.com', volumeHandle: volumeId } },
  });
  const attachment = (name: string, nodeName: string, persistentVolumeName = 'pv') => ({
    apiVersion: 'storage.k8s.io/v1',
    kind: 'VolumeAttachment',
    metadata: { name },
    spec: { attacher: 'ebs.csi.aws.com', nodeName, source: { persistentVolumeName } },
  });
  const makeVolume = async (AvailabilityZone = 'us-east-1a') => {
    const { VolumeId } = await cloud.ec2.send(new CreateVolumeCommand({ AvailabilityZone, Size: 1 }));
    await until('the volume', async () => (await describeVolume(VolumeId!))?.State === 'available');
    return VolumeId!;
  };
  const describeVolume = async (id: string) => (await cloud.ec2.send(new DescribeVolumesCommand({ VolumeIds: [id] }))).Volumes![0];
  const get = (name: string) => cloud.context.client.get(resources.volumeattachments, { name });
  const attached = (name: string) => eventually(`${name} to be attached`, async () => ((await get(name)).status?.attached ? get(name) : undefined));

  test('attaches, says where the device is, and detaches before the object goes; objects of other drivers are not its own', async () => {
    const [instance] = await cloud.launch(1);
    const node = nodeOf(instance!);
    const id = await makeVolume();
    const other = { ...attachment('other', node.metadata.name), spec: { attacher: 'other.example', nodeName: 'x', source: {} } };
    const context = cloud.begin([node, pv(id), attachment('a', node.metadata.name), other]);
    startVolumeAttacher(context);
    const done = await attached('a');
    expect(done.status).toMatchObject({ attached: true, attachmentMetadata: { devicePath: '/dev/xvdba' } });
    expect(done.metadata.finalizers).toEqual(['external-attacher/ebs-csi-aws-com']);
    expect((await describeVolume(id))!.Attachments![0]).toMatchObject({ InstanceId: instance!.InstanceId, Device: '/dev/xvdba', State: 'attached' });
    expect((await get('other')).metadata.finalizers).toBeUndefined();
    await context.client.delete(resources.volumeattachments, { name: 'a' });
    await eventually(
      'its end',
      async () => !context.client.objects<{ metadata: { name: string } }>(resources.volumeattachments).some((one) => one.metadata.name === 'a'),
    );
    expect(await describeVolume(id)).toMatchObject({ State: 'available', Attachments: [] });
  });

  test('many at once get devices of their own; over the limit of the instance the reason stands in the object', async () => {
    const [instance] = await cloud.launch(1);
    const node = nodeOf(instance!);
    const ids: string[] = [];
    for (let i = 0; i < 27; i++) ids.push(await makeVolume());
    const objects = ids.flatMap((id, i) => [pv(id, `pv-${i}`), attachment(`a-${i}`, node.metadata.name, `pv-${i}`)]);
    const context = cloud.begin([node, ...objects]);
    startVolumeAttacher(context);
    const all = () => context.client.objects<any>(resources.volumeattachments);
    // A root volume and an interface are of the 28 that an instance takes.
    await eventually('26', () => all().filter((one) => one.status?.attached).length === 26);
    expect(new Set(all().flatMap((one) => one.status?.attachmentMetadata?.devicePath ?? [])).size).toBe(26);
    const refused = await eventually('the last to be refused', () => all().find((one) => one.status?.attachError));
    expect(refused.status.attachError.message).toContain('Maximum number of attachments');
    await context.client.delete(resources.volumeattachments, all().find((one) => one.status?.attached).metadata);
    await eventually('the last to be attached', () => {
      cloud.clock.advance(5000);
      return all().length === 26 && all().every((one) => one.status?.attached);
    });
  }, 30_000);

  test('a volume that another instance has waits until it is free, and says so; one in another zone is refused', async () => {
    const instances = await cloud.launch(3);
    const here = instances.filter((one) => one.Placement!.AvailabilityZone === 'us-east-1a');
    const id = await makeVolume();
    const far = await makeVolume('us-east-1b');
    await cloud.ec2.send(new AttachVolumeCommand({ VolumeId: id, InstanceId: here[0]!.InstanceId, Device: '/dev/sdx' }));
    const node = nodeOf(here[1]!);
    startVolumeAttacher(cloud.begin([node, pv(id), pv(far, 'far'), attachment('a', node.metadata.name), attachment('b', node.metadata.name, 'far')]));
    const message = async (name: string) => (await get(name)).status?.attachError?.message;
    await eventually('the reason', async () => (await message('a'))?.includes(`still attached to ${here[0]!.InstanceId}`));
    await eventually('the other reason', async () => (await message('b'))?.includes('not in the same availability zone'));
    await cloud.ec2.send(new DetachVolumeCommand({ VolumeId: id }));
    await until('the detachment', async () => (await describeVolume(id))!.State === 'available');
    cloud.clock.advance(10_000);
    expect((await attached('a')).status!.attachError).toBeUndefined();
  });

  test('a lost answer to AttachVolume is found out, and the volume is attached once', async () => {
    const [instance] = await cloud.launch(1);
    const node = nodeOf(instance!);
    const id = await makeVolume();
    cloud.failing('AttachVolume', { name: 'AnswerLost' }, { effect: true });
    startVolumeAttacher(cloud.begin([node, pv(id), attachment('a', node.metadata.name)]));
    await eventually('the failure', async () => (await get('a')).status?.attachError);
    cloud.clock.advance(2000);
    await attached('a');
    expect((await describeVolume(id))!.Attachments).toHaveLength(1);
  });

  test('a stale attachment to an instance that is gone does not take the volume from where it is now', async () => {
    const instances = await cloud.launch(3);
    const [gone, now] = instances.filter((one) => one.Placement!.AvailabilityZone === 'us-east-1a');
    const id = await makeVolume();
    await cloud.ec2.send(new TerminateInstancesCommand({ InstanceIds: [gone!.InstanceId!] }));
    const node = nodeOf(now!);
    const finalizers = ['external-attacher/ebs-csi-aws-com'];
    const stale = attachment('stale', gone!.PrivateDnsName!);
    const deleted = { ...stale, metadata: { name: 'stale', finalizers, deletionTimestamp: '2026-01-01T00:00:00Z' }, status: { attached: true } };
    await cloud.ec2.send(new AttachVolumeCommand({ VolumeId: id, InstanceId: now!.InstanceId, Device: '/dev/sdx' }));
    const context = cloud.begin([node, pv(id), deleted, attachment('a', node.metadata.name)]);
    startVolumeAttacher(context);
    await attached('a');
    await eventually('the stale one to go', () => context.client.objects(resources.volumeattachments).length === 1);
    expect((await describeVolume(id))!.Attachments![0]).toMatchObject({ InstanceId: now!.InstanceId, State: 'attached' });
  });

  test('a Node that is gone while its instance runs on is found by its name', async () => {
    const [instance] = await cloud.launch(1);
    const id = await makeVolume();
    await cloud.ec2.send(new AttachVolumeCommand({ VolumeId: id, InstanceId: instance!.InstanceId, Device: '/dev/sdx' }));
    const metadata = { name: 'a', finalizers: ['external-attacher/ebs-csi-aws-com'], deletionTimestamp: '2026-01-01T00:00:00Z' };
    const deleted = { ...attachment('a', instance!.PrivateDnsName!), metadata, status: { attached: true } };
    const context = cloud.begin([pv(id), deleted]);
    startVolumeAttacher(context);
    await eventually('the object to go', () => context.client.objects(resources.volumeattachments).length === 0);
    expect((await describeVolume(id))!.State).toBe('available');
  });
});

describe('resizer', () => {
  const bound = async (volumeMode: string) => {
    const { VolumeId } = await cloud.ec2.send(new CreateVolumeCommand({ AvailabilityZone: 'us-east-1a', Size: 2, VolumeType: 'gp3', Iops: 5000 }));
    await until(
      'the volume',
      async () => (await cloud.ec2.send(new DescribeVolumesCommand({ VolumeIds: [VolumeId!] }))).Volumes![0]!.State === 'available',
    );
    const csi = { driver: 'ebs.csi.aws.com', volumeHandle: VolumeId };
    return {
      id: VolumeId!,
      claim: { ...claim({ volumeName: 'pv', volumeMode }), status: { phase: 'Bound', capacity: { storage: '2Gi' } } },
      volume: {
        apiVersion: 'v1',
        kind: 'PersistentVolume',
        metadata: { name: 'pv' },
        spec: { capacity: { storage: '2Gi' }, volumeMode, csi, claimRef: { ...key, uid } },
      },
    };
  };
  const ask = (storage: string) =>
    cloud.context.client.patch(resources.persistentvolumeclaims, key, 'merge', { spec: { resources: { requests: { storage } } } });
  const getClaim = () => cloud.context.client.get(resources.persistentvolumeclaims, key);

  test('a claim that asks for more gets it; the file system is left to the kubelet', async () => {
    const { id, claim: given, volume } = await bound('Filesystem');
    startVolumeResizer(cloud.begin([given, volume]));
    await settle();
    expect(cloud.calls).toEqual([]);
    await ask('3500Mi');
    const now = await eventually('the condition', async () => {
      const one = await getClaim();
      return one.status?.conditions?.some((c) => c.type === 'FileSystemResizePending' && c.status === 'True') ? one : undefined;
    });
    expect(now.status!.capacity).toEqual({ storage: '2Gi' });
    expect(pvs()[0]!.spec.capacity).toEqual({ storage: '4Gi' });
    expect((await cloud.ec2.send(new DescribeVolumesCommand({ VolumeIds: [id] }))).Volumes![0]).toMatchObject({ Size: 4, Iops: 5000 });
    expect(events('FileSystemResizeRequired')).toHaveLength(1);
    // The kubelet has grown it.
    await setStatus(cloud.context.client, resources.persistentvolumeclaims, now as never, { capacity: { storage: '4Gi' }, conditions: [] });
    await settle(100);
    expect(cloud.calls.filter((one) => one === 'ModifyVolume')).toHaveLength(1);
  });

  test('a raw block volume has its size at once; a failure is said and tried again', async () => {
    const { claim: given, volume } = await bound('Block');
    cloud.failing('ModifyVolume', { name: 'VolumeModificationRateExceeded' });
    startVolumeResizer(cloud.begin([given, volume]));
    await settle(20);
    await ask('5Gi');
    await eventually('the failure', () => events('VolumeResizeFailed')[0]);
    cloud.clock.advance(2000);
    await eventually('the size', async () => (await getClaim()).status?.capacity?.['storage'] === '5Gi');
  });
});
