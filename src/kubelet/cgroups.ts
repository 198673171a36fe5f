import { existsSync, readdirSync } from 'node:fs';
import { mkdir, readdir, readFile, rmdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Logger } from 'pino';
import type { Pod } from '../api/generated/types.ts';
import { podResources, qosClassOf } from './qos.ts';

const v1Controllers = ['cpu', 'cpuacct', 'cpuset', 'memory', 'devices', 'freezer', 'blkio', 'pids'];
const v2Controllers = ['cpu', 'memory', 'pids', 'cpuset', 'io'];

/**
 * The cgroup parents of pods: /kubepods, /kubepods/burstable, /kubepods/besteffort and one per pod, on cgroup v1 (also hybrid) and v2.
 * Paths are relative to the cgroup root, as CRI's cgroupParent. Where the hierarchy cannot be written the pod runs without limits of its own
 * and the failure is logged once.
 */
export class Cgroups {
  private readonly log: Logger;
  private readonly root: string;
  private readonly mount: string;
  private readonly v2: boolean;
  private readonly controllers: string[];
  private warned = false;

  /** root: the cgroup under which kubepods lies, `/` by default. mount: where the hierarchies are mounted. */
  constructor(log: Logger, root = '/', mount = '/sys/fs/cgroup') {
    this.log = log;
    this.root = root;
    this.mount = mount;
    this.v2 = existsSync(join(mount, 'cgroup.controllers'));
    this.controllers = this.v2 ? [] : v1Controllers.filter((c) => existsSync(join(mount, c)));
  }

  podParent(pod: Pod): string {
    const qos = qosClassOf(pod);
    const base = qos === 'Guaranteed' ? 'kubepods' : `kubepods/${qos.toLowerCase()}`;
    return join('/', this.root, base, `pod${pod.metadata.uid}`);
  }

  private directories(path: string): string[] {
    return this.v2 ? [join(this.mount, path)] : this.controllers.map((c) => join(this.mount, c, path));
  }

  /** The same cgroup in every hierarchy: runtimes also make it in those that the kubelet has no use for. */
  private everywhere(path: string): string[] {
    if (this.v2) return this.directories(path);
    const hierarchies = readdirSync(this.mount, { withFileTypes: true }).filter((e) => e.isDirectory());
    return hierarchies.map((e) => join(this.mount, e.name, path));
  }

  /** Makes the parents of all pods. */
  async setup(): Promise<void> {
    for (const path of ['kubepods', 'kubepods/burstable', 'kubepods/besteffort']) await this.make(join(this.root, path));
    await this.write(join(this.root, 'kubepods/besteffort'), 'cpu', 'cpu.shares', '2', 'cpu.weight', '1');
  }

  /** Makes the pod's cgroup and sets its limits. */
  async ensurePod(pod: Pod): Promise<void> {
    const path = this.podParent(pod);
    await this.make(path);
    const limits = podResources(pod);
    // cgroup v2 weighs 1 to 10000 where v1 has shares from 2 to 262144.
    const weight = 1 + Math.floor(((limits.cpuShares - 2) * 9999) / 262142);
    await this.write(path, 'cpu', 'cpu.shares', String(limits.cpuShares), 'cpu.weight', String(weight));
    if (limits.cpuQuota !== undefined) {
      await this.write(path, 'cpu', 'cpu.cfs_period_us', String(limits.cpuPeriod), undefined, '');
      await this.write(path, 'cpu', 'cpu.cfs_quota_us', String(limits.cpuQuota), 'cpu.max', `${limits.cpuQuota} ${limits.cpuPeriod}`);
    }
    if (limits.memoryLimitInBytes !== undefined)
      await this.write(path, 'memory', 'memory.limit_in_bytes', String(limits.memoryLimitInBytes), 'memory.max', String(limits.memoryLimitInBytes));
  }

  /** Removes the pod's cgroup, which must be without processes. Retries while the kernel still empties it. */
  async removePod(pod: Pod): Promise<void> {
    await Promise.all(this.everywhere(this.podParent(pod)).map((dir) => removeTree(dir)));
  }

  /** Removes all that setup made, and the root where that is a cgroup of its own. */
  async remove(): Promise<void> {
    for (const path of this.root === '/' ? ['kubepods'] : [this.root]) await Promise.all(this.everywhere(path).map((dir) => removeTree(dir)));
  }

  private async make(path: string): Promise<void> {
    for (const dir of this.directories(path)) {
      try {
        await mkdir(dir, { recursive: true });
        if (this.v2) await this.delegate(path);
        else if (dir.includes('/cpuset/')) await this.fillCpuset(path);
      } catch (error) {
        if (!this.warned) this.log.warn({ err: error, dir }, 'cannot make cgroups for pods; pod level limits do not apply');
        this.warned = true;
      }
    }
  }

  /** In v2 a controller works in a child only where the parent lists it in cgroup.subtree_control. */
  private async delegate(path: string): Promise<void> {
    const parts = path.split('/').filter(Boolean);
    for (let i = 0; i <= parts.length; i++) {
      const dir = join(this.mount, ...parts.slice(0, i));
      const has = (await readFile(join(dir, 'cgroup.controllers'), 'utf8')).trim().split(' ');
      for (const controller of v2Controllers.filter((c) => has.includes(c)))
        await writeFile(join(dir, 'cgroup.subtree_control'), `+${controller}`).catch(() => {});
    }
  }

  /** In v1 a cpuset takes no process until it has cpus and mems. */
  private async fillCpuset(path: string): Promise<void> {
    const parts = path.split('/').filter(Boolean);
    for (let i = 1; i <= parts.length; i++)
      for (const file of ['cpuset.cpus', 'cpuset.mems']) {
        const own = join(this.mount, 'cpuset', ...parts.slice(0, i), file);
        const parent = join(this.mount, 'cpuset', ...parts.slice(0, i - 1), file);
        if ((await readFile(own, 'utf8')).trim() === '') await writeFile(own, await readFile(parent, 'utf8'));
      }
  }

  private async write(path: string, controller: string, v1File: string, v1Value: string, v2File: string | undefined, v2Value: string): Promise<void> {
    const file = this.v2 ? v2File && join(this.mount, path, v2File) : join(this.mount, controller, path, v1File);
    if (!file || !existsSync(file)) return;
    await writeFile(file, this.v2 ? v2Value : v1Value).catch((error) => this.log.debug({ err: error, file }, 'cannot set cgroup limit'));
  }
}

async function removeTree(dir: string): Promise<void> {
  for (let attempt = 0; attempt < 20; attempt++) {
    const entries = await readdir(dir, { withFileTypes: true }).catch(() => undefined);
    if (!entries) return;
    for (const entry of entries) if (entry.isDirectory()) await removeTree(join(dir, entry.name));
    try {
      return await rmdir(dir);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}
