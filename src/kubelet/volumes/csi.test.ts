import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, statfsSync, truncateSync, writeFileSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { resources } from '../../api/generated/resources.ts';
import type { Kubelet } from '../kubelet.ts';
import { eventually, isReady, nodeName, startTestCluster, type TestCluster } from '../testing/cluster.ts';
import { FakeRuntime } from '../testing/runtime.ts';
import { attachmentName, uniqueVolumeName } from './csi.ts';
import { fileSystemOf } from './mounts.ts';

/** These tests use loop devices and mount them: they need root. */
let cluster: TestCluster;
let runtime: FakeRuntime;
let kubelet: Kubelet;
let directory: string;
const devices: string[] = [];
const driver = 'ebs.csi.aws.com';
const image = 'registry.example/app:v1';

beforeAll(async () => {
  if (process.getuid?.() !== 0) throw new Error('the tests of CSI volumes need root, for loop devices and mounts');
  directory = mkdtempSync(join(tmpdir(), 'kumulus-kubelet-csi-'));
  cluster = await startTestCluster();
  runtime = new FakeRuntime();
  kubelet = await cluster.startKubelet(runtime, { housekeepingPeriodMs: 300 });
  await cluster.admin.create(resources.csidrivers, {
    metadata: { name: driver },
    spec: { attachRequired: true, fsGroupPolicy: 'ReadWriteOnceWithFSType' },
  });
});
afterAll(async () => {
  await kubelet?.stop();
  await cluster?.stop();
  for (const device of devices) execFileSync('losetup', ['-d', device]);
  if (directory) rmSync(directory, { recursive: true, force: true });
});

function newDevice(name: string): string {
  const file = join(directory, name);
  writeFileSync(file, '');
  truncateSync(file, 400 * 1024 * 1024);
  const device = execFileSync('losetup', ['-f', '--show', file], { encoding: 'utf8' }).trim();
  devices.push(device);
  return device;
}

async function newVolume(name: string, fsType: string, volumeMode = 'Filesystem') {
  const handle = `vol-${name}`;
  const volume = await cluster.admin.create(resources.persistentvolumes, {
    metadata: { name: `pv-${name}` },
    spec: {
      capacity: { storage: '400Mi' },
      accessModes: ['ReadWriteOnce'],
      volumeMode,
      persistentVolumeReclaimPolicy: 'Retain',
      storageClassName: '',
      claimRef: { namespace: 'default', name },
      csi: { driver, volumeHandle: handle, ...(fsType ? { fsType } : {}) },
    },
  } as never);
  await cluster.admin.create(resources.persistentvolumeclaims, {
    metadata: { namespace: 'default', name },
    spec: {
      accessModes: ['ReadWriteOnce'],
      volumeMode,
      storageClassName: '',
      volumeName: volume.metadata.name,
      resources: { requests: { storage: '400Mi' } },
    },
  } as never);
  return handle;
}

/** What the external attacher does, once the attach-detach controller has asked. */
async function attach(handle: string, device: string): Promise<void> {
  const name = attachmentName(handle, driver, nodeName);
  await eventually('the attachment to be asked for', () => cluster.admin.get(resources.volumeattachments, { name }).catch(() => undefined));
  const status = { attached: true, attachmentMetadata: { devicePath: device } };
  await cluster.admin.patch(resources.volumeattachments, { name }, 'merge', { status }, { subresource: 'status' });
}
const inUse = async () => (await cluster.admin.get(resources.nodes, { name: nodeName })).status?.volumesInUse ?? [];
const mounts = () => readFile('/proc/mounts', 'utf8');
const pathOf = (container: string, file: string) => runtime.hostPath(runtime.named(container)!.config, file);
const gone = (name: string) =>
  eventually(`pod ${name} to be gone`, () =>
    cluster.pod(name).then(
      () => false,
      () => true,
    ),
  );
const withClaim = (container: string, claim: string, more: object = {}) => ({
  terminationGracePeriodSeconds: 1,
  containers: [{ name: container, image, volumeMounts: [{ name: 'data', mountPath: '/data' }] }],
  volumes: [{ name: 'data', persistentVolumeClaim: { claimName: claim } }],
  ...more,
});

test.each([['ext4'], ['xfs']])('a blank volume is formatted (%s), mounted, kept for the next pod, and unmounted', async (fsType) => {
  const device = newDevice(fsType);
  const claim = `data-${fsType}`;
  const handle = await newVolume(claim, fsType);
  await cluster.createPod(`one-${fsType}`, withClaim('one', claim, { securityContext: { fsGroup: 3000 } }));
  await eventually('the volume to be reported in use', async () => (await inUse()).includes(uniqueVolumeName(driver, handle)));
  expect((await cluster.pod(`one-${fsType}`)).status?.phase).not.toBe('Running');
  await attach(handle, device);
  await cluster.until(`one-${fsType}`, 'Ready', isReady);
  expect(await fileSystemOf(device)).toBe(fsType);
  expect(await mounts()).toContain(`${device} ${pathOf('one', '/data')} ${fsType}`);
  await writeFile(pathOf('one', '/data/file'), 'kept');
  // Again after a restart of the kubelet: the mount stays as it is.
  await kubelet.stop();
  kubelet = await cluster.startKubelet(runtime, { housekeepingPeriodMs: 300 });
  expect(await inUse()).toContain(uniqueVolumeName(driver, handle));
  await cluster.admin.delete(resources.pods, { namespace: 'default', name: `one-${fsType}` });
  await gone(`one-${fsType}`);
  await eventually('it to be no longer in use', async () => !(await inUse()).includes(uniqueVolumeName(driver, handle)));
  expect(await mounts()).not.toContain(`${device} `);

  await cluster.createPod(`two-${fsType}`, withClaim('two', claim));
  await attach(handle, device);
  await cluster.until(`two-${fsType}`, 'Ready', isReady);
  expect(await readFile(pathOf('two', '/data/file'), 'utf8')).toBe('kept');
  await cluster.admin.delete(resources.pods, { namespace: 'default', name: `two-${fsType}` });
  await gone(`two-${fsType}`);
});

test.each([['ext4'], ['xfs']])('a file system follows its claim (%s)', async (fsType) => {
  const device = newDevice(`grow-${fsType}`);
  const claim = `grow-${fsType}`;
  const handle = await newVolume(claim, fsType);
  const key = { namespace: 'default', name: claim };
  await cluster.admin.patch(
    resources.persistentvolumeclaims,
    key,
    'merge',
    { status: { capacity: { storage: '400Mi' } } },
    { subresource: 'status' },
  );
  await cluster.createPod(claim, withClaim(claim, claim));
  await attach(handle, device);
  await cluster.until(claim, 'Ready', isReady);
  const size = () => {
    const { blocks, bsize } = statfsSync(pathOf(claim, '/data'));
    return blocks * bsize;
  };
  const before = size();
  // What the cloud controllers do when the claim asks for more.
  truncateSync(join(directory, `grow-${fsType}`), 800 * 1024 * 1024);
  execFileSync('losetup', ['-c', device]);
  await cluster.admin.patch(resources.persistentvolumes, { name: `pv-${claim}` }, 'merge', { spec: { capacity: { storage: '800Mi' } } });
  const pending = [{ type: 'FileSystemResizePending', status: 'True' }];
  await cluster.admin.patch(resources.persistentvolumeclaims, key, 'merge', { status: { conditions: pending } }, { subresource: 'status' });
  // ext4 grows under a pod only where the machine allows that; the claim's next pod finds it grown anywhere.
  if (fsType === 'ext4') {
    await cluster.admin.delete(resources.pods, { namespace: 'default', name: claim });
    await gone(claim);
    await cluster.createPod(claim, withClaim(claim, claim));
    await attach(handle, device);
    await cluster.until(claim, 'Ready', isReady);
  }
  const status = await eventually('the claim to have its size', async () => {
    const found = (await cluster.admin.get(resources.persistentvolumeclaims, key)).status;
    return found?.capacity?.['storage'] === '800Mi' && found;
  });
  expect(status).not.toHaveProperty('conditions');
  expect(size()).toBeGreaterThan(before * 1.8);
  await cluster.admin.delete(resources.pods, { namespace: 'default', name: claim });
  await gone(claim);
});

test('a volume with another file system is refused, not formatted', async () => {
  const device = newDevice('other');
  execFileSync('mkfs.ext4', ['-q', device]);
  const handle = await newVolume('other', 'xfs');
  await cluster.createPod('refused', withClaim('refused', 'other'));
  await attach(handle, device);
  await eventually('an event', async () =>
    (await cluster.admin.list(resources.events, { namespace: 'default', fieldSelector: 'involvedObject.name=refused' })).items.find((e) =>
      (e.message ?? '').includes('failed to mount the volume as "xfs", it already contains ext4'),
    ),
  );
  await cluster.admin.delete(resources.pods, { namespace: 'default', name: 'refused' });
  await gone('refused');
});

test('a block volume is a device in the container', async () => {
  const device = newDevice('block');
  const handle = await newVolume('block', '', 'Block');
  await cluster.createPod('block', {
    terminationGracePeriodSeconds: 1,
    containers: [{ name: 'block', image, volumeDevices: [{ name: 'data', devicePath: '/dev/xvda' }] }],
    volumes: [{ name: 'data', persistentVolumeClaim: { claimName: 'block' } }],
  });
  await attach(handle, device);
  await cluster.until('block', 'Ready', isReady);
  expect(runtime.named('block')!.config.devices).toEqual([{ containerPath: '/dev/xvda', hostPath: device, permissions: 'mrw' }]);
  await cluster.admin.delete(resources.pods, { namespace: 'default', name: 'block' });
  await gone('block');
});

test('a pod that is deleted while it waits for its volume goes', async () => {
  await newVolume('never', 'ext4');
  await cluster.createPod('never', withClaim('never', 'never'));
  await eventually('the volume to be reported in use', async () => (await inUse()).includes(uniqueVolumeName(driver, 'vol-never')));
  await cluster.admin.delete(resources.pods, { namespace: 'default', name: 'never' });
  await gone('never');
  await eventually('it to be no longer in use', async () => !(await inUse()).includes(uniqueVolumeName(driver, 'vol-never')));
});
