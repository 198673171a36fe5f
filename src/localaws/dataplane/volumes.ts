import { constants } from 'node:fs';
import { mkdir, open, readdir, readFile, readlink, rm, stat, truncate } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { Instance, Volume, VolumeAttachment } from '@aws-sdk/client-ec2';
import type { Logger } from 'pino';
import type { CloudReports, CloudSource } from '../contract.ts';
import { CommandError, run } from './command.ts';
import { NotYet } from './keyed-work.ts';

const GIB = 1024 ** 3;

export interface VolumesOptions {
  source: CloudSource;
  reports: CloudReports;
  /** volumes/ of the cluster's state. */
  directory: string;
  /** The first process of an instance that runs, by its number on the host. */
  processOf: (instanceId: string) => number | undefined;
  log: Logger;
}

/** EBS volumes as sparse files; an attached one is a loop device with a node in the instance's /dev. Calls for one volume must not overlap. */
export class Volumes {
  private readonly options: VolumesOptions;
  /** What was last brought about, by volume: nothing is looked at again while that stays so. */
  private readonly done = new Map<string, string>();
  /** Device name by volume, as attached in the life of an instance that `pid` names. */
  private readonly attached = new Map<string, { pid: number; device: string }>();

  constructor(options: VolumesOptions) {
    this.options = options;
  }

  file(volumeId: string): string {
    return join(this.options.directory, `${volumeId}.img`);
  }

  /** Brings one volume to the state that AWS shows for it. Throws while a detachment waits for the volume to be unmounted. */
  async reconcile(volume: Volume, instances: Instance[]): Promise<void> {
    const id = volume.VolumeId!;
    const attachment = volume.Attachments?.find((one) => one.State !== 'detached');
    const instance = instances.find((one) => one.InstanceId === attachment?.InstanceId);
    const seen = JSON.stringify([volume, instance?.State?.Name, instance && this.options.processOf(instance.InstanceId!)]);
    if (this.done.get(id) === seen) return;
    this.done.delete(id);
    await this.bringAbout(volume, attachment, instance, instances);
    this.done.set(id, seen);
  }

  private async bringAbout(
    volume: Volume,
    attachment: VolumeAttachment | undefined,
    instance: Instance | undefined,
    instances: Instance[],
  ): Promise<void> {
    const id = volume.VolumeId!;
    if (volume.State === 'deleting' || volume.State === 'deleted') {
      await this.release(id);
      await rm(this.file(id), { force: true });
      this.options.reports.volumeState(id, 'deleted');
      return;
    }
    if (volume.State === 'error') return;
    await this.ensureFile(volume);
    if (volume.State === 'creating') this.options.reports.volumeState(id, 'available');
    if (!attachment) {
      await this.takeBack(id, instances);
      return;
    }
    const instanceId = attachment.InstanceId!;
    // The root volume of an instance is its overlay; there is nothing to show as a device.
    if (instance?.RootDeviceName && instance.RootDeviceName === attachment.Device) {
      if (attachment.State === 'attaching') this.options.reports.volumeAttachment(id, instanceId, 'attached');
      if (attachment.State === 'detaching') this.options.reports.volumeAttachment(id, instanceId, 'detached');
      return;
    }
    const stateName = instance?.State?.Name;
    if (attachment.State === 'detaching') await this.detach(id, instanceId);
    else if (stateName === 'running' || stateName === 'stopping' || stateName === 'pending')
      await this.attach(volume, instanceId, attachment.Device!, instances);
    else if (stateName === 'stopped') {
      await this.release(id);
      if (attachment.State === 'attaching') this.options.reports.volumeAttachment(id, instanceId, 'attached');
    } else await this.release(id);
  }

  private async ensureFile(volume: Volume): Promise<void> {
    const path = this.file(volume.VolumeId!);
    const size = volume.Size! * GIB;
    const existing = await stat(path).catch(() => undefined);
    if (existing && existing.size >= size) return;
    await mkdir(this.options.directory, { recursive: true, mode: 0o700 });
    if (!existing && volume.State !== 'creating' && !this.options.source.autonomous) throw new Error(`volume ${volume.VolumeId}: its file ${path} is gone`);
    await (await open(path, 'a', 0o600)).close();
    await truncate(path, size);
    for (const loop of existing ? await loopDevices(path) : []) await run('losetup', ['--set-capacity', loop]);
  }

  private async attach(volume: Volume, instanceId: string, device: string, instances: Instance[]): Promise<void> {
    const id = volume.VolumeId!;
    const pid = this.options.processOf(instanceId);
    // It comes up yet: that is a change, and this is called again.
    if (!pid) return;
    const known = this.attached.get(id);
    if (known?.pid !== pid) {
      const old = (await loopDevices(this.file(id)))[0];
      // An endpoint that does not wait for it may show a volume at its next instance while the last one writes to it.
      if (old && !(await this.nodeIn(pid, id))) {
        if (await inUse(old)) throw new NotYet(`volume ${id} is still in use in another instance than ${instanceId}`);
        await this.removeNodes(id, [old], instances);
      }
      const loop = (await loopDevices(this.file(id)))[0] ?? (await this.makeLoop(this.file(id)));
      const { major, minor } = await deviceNumbers(loop);
      const name = basename(device);
      if (!/^[A-Za-z0-9._-]+$/.test(name)) throw new Error(`volume ${id}: ${device} is no device name`);
      const link = linkOf(id);
      const script = [
        // A node of another volume under that name would be written to instead.
        `[ ! -b /dev/${name} ] || [ "$(stat -c %t:%T /dev/${name})" = ${major.toString(16)}:${minor.toString(16)} ] || rm /dev/${name}`,
        `[ -b /dev/${name} ] || (umask 117; mknod /dev/${name} b ${major} ${minor})`,
        `mkdir -p /dev/disk/by-id`,
        `ln -sfn ../../${name} ${link}`,
      ];
      await this.inInstance(pid, script);
      this.attached.set(id, { pid, device: `/dev/${name}` });
      this.options.log.info({ volume: id, instance: instanceId, loop, device: `/dev/${name}` }, 'attached');
    }
    this.options.reports.volumeAttachment(id, instanceId, 'attached');
  }

  private async makeLoop(file: string): Promise<string> {
    try {
      return (await run('losetup', ['--find', '--show', file])).trim();
    } catch (error) {
      const reason = error instanceof CommandError ? error.stderr.trim() : String(error);
      throw new Error(`no loop device for ${basename(file)} (${reason}): detach volumes, or raise the loop module's max_loop`);
    }
  }

  private async detach(id: string, instanceId: string): Promise<void> {
    const pid = this.options.processOf(instanceId);
    const loops = await loopDevices(this.file(id));
    const forced = this.options.source.detachForced?.(id, instanceId) ?? false;
    for (const loop of loops) {
      if (pid && forced && (await inUse(loop))) await this.unmount(pid, loop);
      if (!forced && (await inUse(loop))) throw new NotYet(`volume ${id} is still in use in ${instanceId}: unmount it there`);
    }
    if (pid) {
      const { major, minor } = loops[0] ? await deviceNumbers(loops[0]) : { major: 7, minor: -1 };
      const link = linkOf(id);
      const node = this.attached.get(id)?.device ?? `$(readlink -f ${link})`;
      await this.inInstance(pid, [
        `node=${node}`,
        `[ ! -b "$node" ] || [ "$(stat -c %t:%T "$node")" != ${major.toString(16)}:${minor.toString(16)} ] || rm -f "$node"`,
        `rm -f ${link}`,
      ]);
    }
    await this.release(id);
    this.options.reports.volumeAttachment(id, instanceId, 'detached');
    this.options.log.info({ volume: id, instance: instanceId }, 'detached');
  }

  /** Lets go of a volume's mounts in an instance, for a forced detachment. */
  private async unmount(pid: number, loop: string): Promise<void> {
    const { major, minor } = await deviceNumbers(loop);
    for (const line of (await readFile(`/proc/${pid}/mountinfo`, 'utf8').catch(() => '')).split('\n').reverse()) {
      const fields = line.split(' ');
      if (fields[2] === `${major}:${minor}`) await run('nsenter', ['-t', String(pid), '-m', 'umount', '-l', fields[4]]).catch(() => {});
    }
  }

  private async inInstance(pid: number, script: string[]): Promise<void> {
    await run('nsenter', ['-t', String(pid), '-m', 'sh', '-es'], { input: script.join('\n') + '\n' });
  }

  /** The path of a volume's device in an instance, as the host sees it, if it is there. */
  private async nodeIn(pid: number, id: string): Promise<string | undefined> {
    const target = await readlink(`/proc/${pid}/root${linkOf(id)}`).catch(() => undefined);
    return target && `/proc/${pid}/root/dev/${basename(target)}`;
  }

  /** Frees a volume that an endpoint shows as attached to nothing, with no word of it before. */
  private async takeBack(id: string, instances: Instance[]): Promise<void> {
    const loops = await loopDevices(this.file(id));
    for (const loop of loops) if (await inUse(loop)) throw new NotYet(`volume ${id} is still in use: it was detached before it was unmounted`);
    await this.removeNodes(id, loops, instances);
    await this.release(id);
  }

  /** Takes a volume's device from the instances that have it, or the next volume on the same loop device would be found there. */
  private async removeNodes(id: string, loops: string[], instances: Instance[]): Promise<void> {
    const numbers = await Promise.all(loops.map(deviceNumbers));
    for (const { InstanceId } of loops.length ? instances : []) {
      const pid = this.options.processOf(InstanceId!);
      const node = pid && (await this.nodeIn(pid, id));
      if (!node) continue;
      const device = (await stat(node).catch(() => undefined))?.rdev;
      if (numbers.some(({ major, minor }) => device === deviceId(major, minor))) await rm(node, { force: true });
      await rm(`/proc/${pid}/root${linkOf(id)}`, { force: true });
    }
  }

  /** Frees the loop devices of a volume that no instance uses any more. */
  private async release(id: string): Promise<void> {
    this.attached.delete(id);
    for (const loop of await loopDevices(this.file(id))) await run('losetup', ['--detach', loop]);
  }
}

/** Where udev of an EC2 instance shows a volume. */
const linkOf = (id: string): string => `/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_${id.replace('-', '')}`;

/** As stat() tells it: loop devices have small numbers. */
const deviceId = (major: number, minor: number): number => (major << 8) | minor;

/** The loop devices on a file, from /sys: cheaper than a program per volume. */
export async function loopDevices(file: string): Promise<string[]> {
  return (await allLoops()).filter((loop) => loop.file === file).map((loop) => loop.device);
}

/** Every loop device in use on this host, with its file. */
export async function allLoops(): Promise<{ device: string; file: string }[]> {
  const found: { device: string; file: string }[] = [];
  for (const name of await readdir('/sys/block').catch(() => [])) {
    if (!name.startsWith('loop')) continue;
    const file = await readFile(`/sys/block/${name}/loop/backing_file`, 'utf8').catch(() => '');
    if (file) found.push({ device: `/dev/${name}`, file: file.trimEnd().replace(/ \(deleted\)$/, '') });
  }
  return found;
}

async function deviceNumbers(device: string): Promise<{ major: number; minor: number }> {
  const [major, minor] = (await readFile(`/sys/block/${basename(device)}/dev`, 'utf8')).trim().split(':').map(Number);
  return { major, minor };
}

/** A mounted block device cannot be opened exclusively, in whatever namespace it is mounted. */
async function inUse(device: string): Promise<boolean> {
  try {
    await (await open(device, constants.O_RDONLY | constants.O_EXCL)).close();
    return false;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EBUSY') return true;
    throw error;
  }
}
