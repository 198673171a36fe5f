import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Logger } from 'pino';
import { isForbidden, isNotFound } from '../../api/errors.ts';
import { resources } from '../../api/generated/resources.ts';
import type { PersistentVolume, VolumeAttachment } from '../../api/generated/types.ts';
import type { Client } from '../../client/client.ts';
import { type Clock, sleep } from '../../client/clock.ts';
import type { MountedVolume } from '../container-config.ts';
import { KeyedLock } from '../keyed-lock.ts';
import type { Paths } from '../paths.ts';
import { growMounted, growUnmounted } from './growth.ts';
import { bindMount, formatAndMount, isMounted, listMounts, removeEmpty, unmount } from './mounts.ts';

const attachTimeoutMs = 120_000;
const deviceTimeoutMs = 30_000;
const dataFile = 'vol_data.json';

/** The name under which an attachable volume stands in Node.status.volumesInUse and volumesAttached. */
export const uniqueVolumeName = (driver: string, handle: string): string => `kubernetes.io/csi/${driver}^${handle}`;

/** The name of the VolumeAttachment of a volume on a node, by which attacher and kubelet find the same object. */
export const attachmentName = (handle: string, driver: string, node: string): string =>
  `csi-${createHash('sha256').update(`${handle}${driver}${node}`).digest('hex')}`;

/** How a pod is to have a persistent volume. */
export interface SetupOptions {
  readOnly: boolean;
  /** As the device itself, without a file system. */
  block: boolean;
  /** The volume is larger than the file system in it may be. */
  grown: boolean;
}

interface VolumeData {
  driverName: string;
  volumeHandle: string;
  specVolID: string;
}

/**
 * Block volumes of a CSI driver that are attached from outside (ebs.csi.aws.com): waits for the VolumeAttachment, then formats where
 * empty, mounts once on the node and binds that into each pod. In use is what any pod of the node has or is about to get.
 */
export class CsiVolumes {
  private readonly o: {
    client: Client;
    clock: Clock;
    log: Logger;
    paths: Paths;
    nodeName: string;
    /** Tells the API server which volumes are in use; resolves when it knows. */
    reportInUse(): Promise<void>;
  };
  /** Pods by unique volume name. */
  private readonly users = new Map<string, Set<string>>();
  private readonly waiting = new Set<() => void>();
  private attached = '';
  /** By unique volume name. */
  private readonly locks = new KeyedLock();

  constructor(o: CsiVolumes['o']) {
    this.o = o;
  }

  inUse(): string[] {
    return [...this.users.keys()].sort();
  }

  /** Learns from disk what was mounted before a restart. */
  async restore(): Promise<void> {
    for (const uid of await readdir(this.o.paths.pods).catch(() => [] as string[]))
      for (const { data } of await this.volumesOf(uid)) this.use(uniqueVolumeName(data.driverName, data.volumeHandle), uid);
  }

  async setup(pv: PersistentVolume, uid: string, o: SetupOptions, signal: AbortSignal): Promise<MountedVolume> {
    const { readOnly, block } = o;
    const csi = pv.spec!.csi!;
    const unique = uniqueVolumeName(csi.driver, csi.volumeHandle);
    const podDirectory = this.o.paths.volume(uid, 'csi', pv.metadata.name);
    const target = join(podDirectory, 'mount');
    return this.locks.run(unique, async () => {
      if (!this.users.get(unique)?.has(uid)) {
        const fresh = !this.users.has(unique);
        this.use(unique, uid);
        await mkdir(podDirectory, { recursive: true, mode: 0o750 });
        const data: VolumeData = { driverName: csi.driver, volumeHandle: csi.volumeHandle, specVolID: pv.metadata.name };
        await writeFile(join(podDirectory, dataFile), JSON.stringify(data));
        if (fresh)
          await this.o.reportInUse().catch((error: unknown) => {
            // Nothing is to be mounted that the control plane may take away.
            this.users.delete(unique);
            throw error;
          });
      }
      if (!block && (await isMounted(target))) return { hostPath: target, readOnly };
      const device = await this.attachedDevice(csi.driver, csi.volumeHandle, signal);
      if (block) return { hostPath: device, readOnly, block: true };
      const global = this.o.paths.csiGlobalMount(csi.driver, csi.volumeHandle);
      if (!(await isMounted(global))) {
        await mkdir(global, { recursive: true, mode: 0o750 });
        if (o.grown) await growUnmounted(device, signal);
        const volumeReadOnly = csi.readOnly === true || (pv.spec?.accessModes ?? []).every((m) => m === 'ReadOnlyMany');
        await formatAndMount(
          device,
          global,
          csi.fsType || 'ext4',
          pv.spec?.mountOptions ?? [],
          volumeReadOnly && (pv.spec?.accessModes?.length ?? 0) > 0,
          signal,
        );
      }
      await mkdir(target, { recursive: true, mode: 0o750 });
      await bindMount(global, target, readOnly);
      return { hostPath: target, readOnly };
    });
  }

  /** Makes the file system of a volume that is mounted here as large as the volume. */
  async grow(pv: PersistentVolume): Promise<void> {
    const { driver, volumeHandle } = pv.spec!.csi!;
    await this.locks.run(uniqueVolumeName(driver, volumeHandle), async () => {
      const global = this.o.paths.csiGlobalMount(driver, volumeHandle);
      const mount = (await listMounts()).findLast((m) => m.path === global);
      if (!mount) throw new Error(`volume ${volumeHandle} is not mounted`);
      await growMounted(mount.fsType, mount.source, global);
    });
  }

  /** Undoes what setup did for this pod; the last pod of a volume takes the node's mount along. */
  async teardown(uid: string): Promise<void> {
    for (const { directory, data } of await this.volumesOf(uid)) {
      const unique = uniqueVolumeName(data.driverName, data.volumeHandle);
      await this.locks.run(unique, async () => {
        await unmount(join(directory, 'mount'));
        await removeEmpty(join(directory, 'mount'));
        const users = this.users.get(unique);
        const last = !users || [...users].every((u) => u === uid);
        if (last) {
          const global = this.o.paths.csiGlobalMount(data.driverName, data.volumeHandle);
          await unmount(global);
          await removeEmpty(global);
          await removeEmpty(dirname(global)).catch(() => {});
        }
        await rm(join(directory, dataFile), { force: true });
        await removeEmpty(directory);
        users?.delete(uid);
        if (last) {
          this.users.delete(unique);
          await this.o.reportInUse();
        }
      });
    }
  }

  private use(unique: string, uid: string): void {
    const users = this.users.get(unique) ?? new Set();
    users.add(uid);
    this.users.set(unique, users);
  }

  private async volumesOf(uid: string): Promise<{ directory: string; data: VolumeData }[]> {
    const parent = dirname(this.o.paths.volume(uid, 'csi', 'x'));
    const found: { directory: string; data: VolumeData }[] = [];
    for (const name of await readdir(parent).catch(() => [] as string[])) {
      const directory = join(parent, name);
      const text = await readFile(join(directory, dataFile), 'utf8').catch(() => undefined);
      if (text) found.push({ directory, data: JSON.parse(text) });
    }
    return found;
  }

  /** Waits until the volume is attached and its device is there. */
  private async attachedDevice(driver: string, handle: string, signal: AbortSignal): Promise<string> {
    const name = attachmentName(handle, driver, this.o.nodeName);
    const deadline = AbortSignal.timeout(attachTimeoutMs);
    const both = AbortSignal.any([signal, deadline]);
    let why = 'there is no VolumeAttachment';
    try {
      for (let wait = 250; ; wait = Math.min(wait * 2, 8000)) {
        const attachment = await this.o.client.get(resources.volumeattachments, { name }, { signal: both }).catch((error: unknown) => {
          // A node may read its attachment only once it exists.
          if (isNotFound(error) || isForbidden(error)) return undefined;
          throw error;
        });
        const device = attachment && this.deviceOf(attachment);
        if (device) return await this.present(device, both);
        const problem = attachment?.status?.attachError?.message;
        why = problem ?? (attachment ? 'it is not attached yet' : 'there is no VolumeAttachment');
        await this.attachmentsChanged(wait, both);
      }
    } catch (error) {
      if (deadline.aborted && !signal.aborted)
        throw new Error(`timed out waiting for external-attacher of ${driver} CSI driver to attach volume ${handle}: ${why}`);
      throw error;
    }
  }

  /** The Node says anew what is attached to it. */
  nodeChanged(attached: readonly { name: string }[]): void {
    const text = attached.map((a) => a.name).join();
    if (text === this.attached) return;
    this.attached = text;
    for (const wake of [...this.waiting]) wake();
  }

  /** Until nodeChanged brings news, and ms milliseconds at most: the attachment itself cannot be watched before it exists. */
  private async attachmentsChanged(ms: number, signal: AbortSignal): Promise<void> {
    const woken = new AbortController();
    const wake = () => woken.abort();
    this.waiting.add(wake);
    try {
      await sleep(this.o.clock, ms, AbortSignal.any([signal, woken.signal]));
    } catch (error) {
      if (!woken.signal.aborted || signal.aborted) throw error;
    } finally {
      this.waiting.delete(wake);
    }
  }

  private deviceOf(attachment: VolumeAttachment): string | undefined {
    if (!attachment.status?.attached || attachment.metadata.deletionTimestamp) return undefined;
    return attachment.status.attachmentMetadata?.['devicePath'];
  }

  /** The device node may come a moment after the attachment. */
  private async present(device: string, signal: AbortSignal): Promise<string> {
    const until = this.o.clock.now() + deviceTimeoutMs;
    for (;;) {
      const found = await stat(device).catch(() => undefined);
      if (found?.isBlockDevice()) return device;
      if (this.o.clock.now() > until) throw new Error(`device ${device} did not appear on the node`);
      await sleep(this.o.clock, 200, signal);
    }
  }
}
