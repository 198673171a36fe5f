import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { MemoryCloud, TestHost, until } from './testing.ts';
import { loopDevices } from './volumes.ts';

let host: TestHost;
let cloud: MemoryCloud;

beforeEach(() => {
  host = new TestHost();
  cloud = new MemoryCloud();
});
afterEach(() => host.end());

const stateOf = (id: string) => cloud.state.instances.find((one) => one.InstanceId === id)?.State?.Name;
const attachmentOf = (id: string) => cloud.state.volumes.find((one) => one.VolumeId === id)?.Attachments?.[0]?.State;
const volumeState = (id: string) => cloud.state.volumes.find((one) => one.VolumeId === id)?.State;

test('a volume is attached, mounted, detached once unmounted, keeps its data for another instance, grows, and is deleted', async () => {
  const one = cloud.launch();
  const two = cloud.launch();
  await host.start(cloud);
  await until('running', () => stateOf(one.InstanceId) === 'running' && stateOf(two.InstanceId) === 'running');
  const { VolumeId: id } = cloud.addVolume(1);
  await until('available', () => volumeState(id) === 'available');
  cloud.attach(id, one.InstanceId, '/dev/xvdba');
  await until('attached', () => attachmentOf(id) === 'attached');
  const link = `/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_${id.replace('-', '')}`;
  const mount = `mkdir -p /data && mount ${link} /data`;
  expect(await host.inside(one.InstanceId, `mkfs.xfs -q ${link} && ${mount} && echo kept >/data/file && df -T /data | tail -1`)).toContain('xfs');
  expect(existsSync('/dev/xvdba')).toBe(false);

  cloud.detach(id);
  const plane = host.planes[0];
  await new Promise(setImmediate);
  await plane.idle();
  expect(attachmentOf(id)).toBe('detaching');
  expect(await host.inside(one.InstanceId, 'cat /data/file; umount /data')).toBe('kept\n');
  await until('detached', () => attachmentOf(id) === undefined);
  expect(await host.inside(one.InstanceId, `ls /dev/xvdba ${link}`)).not.toMatch(/^\/dev/m);
  const file = join(host.directory, 'volumes', `${id}.img`);
  expect(await loopDevices(file)).toEqual([]);

  cloud.attach(id, two.InstanceId, '/dev/xvdbb');
  await until('attached', () => attachmentOf(id) === 'attached');
  expect(await host.inside(two.InstanceId, `${mount} && cat /data/file`)).toBe('kept\n');
  cloud.state.volumes[0].Size = 2;
  cloud.changed();
  await until('grown', async () => (await host.inside(two.InstanceId, 'cat /sys/class/block/loop*/size')).includes(String(2 * 2 ** 21)));
  expect(await host.inside(two.InstanceId, 'xfs_growfs /data >/dev/null; df -m /data | tail -1 | tr -s " " | cut -d" " -f2')).toMatch(
    /^(19|20)\d\d\n$/,
  );

  // Over a stop and start the attachment stays; over the end of its instance the data does.
  cloud.setState(two.InstanceId, 'stopping');
  await until('stopped', () => stateOf(two.InstanceId) === 'stopped');
  await until('no loop device', async () => (await loopDevices(file)).length === 0);
  cloud.setState(two.InstanceId, 'pending');
  await until('attached again', async () => (await host.inside(two.InstanceId, 'ls /dev/xvdbb').catch(() => '')) === '/dev/xvdbb\n');
  expect(await host.inside(two.InstanceId, `${mount} && cat /data/file`)).toBe('kept\n');
  cloud.setState(two.InstanceId, 'shutting-down');
  await until('terminated', () => stateOf(two.InstanceId) === 'terminated');
  await until('freed', async () => (await loopDevices(file)).length === 0);

  cloud.state.volumes[0].State = 'deleting';
  cloud.changed();
  await until('deleted', () => cloud.state.volumes.length === 0);
  expect(existsSync(file)).toBe(false);
});

test('a volume that the endpoint moves at once moves when it is unmounted, and leaves no device behind', async () => {
  const one = cloud.launch();
  const two = cloud.launch();
  await host.start(cloud);
  await until('running', () => stateOf(one.InstanceId) === 'running' && stateOf(two.InstanceId) === 'running');
  const { VolumeId: id } = cloud.addVolume(1);
  await until('available', () => volumeState(id) === 'available');
  cloud.attach(id, one.InstanceId, '/dev/xvdba');
  await until('attached', () => attachmentOf(id) === 'attached');
  const link = `/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_${id.replace('-', '')}`;
  const mount = `mkdir -p /data && mount ${link} /data`;
  await host.inside(one.InstanceId, `mkfs.xfs -q ${link} && ${mount} && echo kept >/data/file`);

  const [volume] = cloud.state.volumes;
  volume!.Attachments = [{ VolumeId: id, InstanceId: two.InstanceId, Device: '/dev/xvdbb', State: 'attached' }];
  cloud.changed();
  await new Promise(setImmediate);
  await host.planes[0]!.idle();
  expect(await host.inside(one.InstanceId, 'cat /data/file')).toBe('kept\n');
  expect(await host.inside(two.InstanceId, 'ls /dev')).not.toContain('xvdbb');
  await host.inside(one.InstanceId, 'umount /data');
  await until('attached to the other', async () => (await host.inside(two.InstanceId, 'ls /dev')).includes('xvdbb'));
  expect(await host.inside(one.InstanceId, 'ls /dev /dev/disk/by-id')).not.toMatch(/xvdb|nvme/);
  expect(await host.inside(two.InstanceId, `${mount} && cat /data/file; umount /data`)).toBe('kept\n');

  volume!.Attachments = [];
  volume!.State = 'available';
  cloud.changed();
  const file = join(host.directory, 'volumes', `${id}.img`);
  await until('freed', async () => (await loopDevices(file)).length === 0);
  expect(await host.inside(two.InstanceId, 'ls /dev /dev/disk/by-id')).not.toMatch(/xvdb|nvme/);
});
