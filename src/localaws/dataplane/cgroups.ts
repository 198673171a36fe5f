import { mkdir, readdir, readFile, rmdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { PREFIX } from './names.ts';

/** One mounted cgroup hierarchy. */
export interface Hierarchy {
  mountpoint: string;
  version: 1 | 2;
  /** The folder's name under /sys/fs/cgroup; empty where version 2 is mounted there itself. */
  name: string;
  /** What `mount -t cgroup -o` needs to mount the same hierarchy again, such as `cpu,cpuacct` or `none,name=systemd`. */
  options: string;
}

const GENERIC_OPTIONS = /^(rw|ro|nosuid|nodev|noexec|relatime|clone_children|noprefix|xattr|nsdelegate|memory_recursiveprot|release_agent=.*)$/;

/** The cgroup hierarchies under /sys/fs/cgroup as a mountinfo text shows them: version 1, hybrid, or version 2 alone. */
export function parseHierarchies(mountinfo: string): Hierarchy[] {
  const found = new Map<string, Hierarchy>();
  for (const line of mountinfo.split('\n')) {
    const [before, after] = line.split(' - ');
    if (!after) continue;
    const mountpoint = before.split(' ')[4];
    const [type, , superOptions] = after.split(' ');
    if (mountpoint !== '/sys/fs/cgroup' && !mountpoint.startsWith('/sys/fs/cgroup/')) continue;
    const name = mountpoint.slice('/sys/fs/cgroup/'.length);
    if (type === 'cgroup2') found.set(mountpoint, { mountpoint, version: 2, name, options: '' });
    if (type !== 'cgroup') continue;
    const options = superOptions.split(',').filter((option) => !GENERIC_OPTIONS.test(option));
    const named = options.some((option) => option.startsWith('name='));
    found.set(mountpoint, { mountpoint, version: 1, name, options: (named ? ['none', ...options] : options).join(',') });
  }
  return [...found.values()];
}

export async function hierarchies(): Promise<Hierarchy[]> {
  return parseHierarchies(await readFile('/proc/self/mountinfo', 'utf8'));
}

function groupPath(hierarchy: Hierarchy, ...parts: string[]): string {
  return join(hierarchy.mountpoint, PREFIX, ...parts);
}

/** Makes kumulus/ID/NAME in every hierarchy and returns the folders, ready for a process number to be written to their cgroup.procs. */
export async function createGroups(clusterId: string, name: string): Promise<string[]> {
  return Promise.all(
    (await hierarchies()).map(async (hierarchy) => {
      const levels = [groupPath(hierarchy), groupPath(hierarchy, clusterId), groupPath(hierarchy, clusterId, name)];
      for (const level of levels) {
        if (hierarchy.version === 2 && hierarchy.name === '') await delegate(join(level, '..'));
        await mkdir(level, { recursive: true });
        if (hierarchy.version === 1 && hierarchy.options.split(',').includes('cpuset')) await fillCpuset(level);
      }
      return levels[2];
    }),
  );
}

/** Version 2: what a group's children may control must be switched on in it first. What the kernel or a parent refuses stays off. */
async function delegate(folder: string): Promise<void> {
  for (const controller of (await readFile(join(folder, 'cgroup.controllers'), 'utf8')).trim().split(' ')) {
    await writeFile(join(folder, 'cgroup.subtree_control'), `+${controller}`).catch(() => {});
  }
}

/** A cpuset takes no process while it is empty. */
async function fillCpuset(folder: string): Promise<void> {
  for (const file of ['cpuset.cpus', 'cpuset.mems']) {
    if ((await readFile(join(folder, file), 'utf8')).trim()) continue;
    await writeFile(join(folder, file), await readFile(join(folder, '..', file), 'utf8'));
  }
  await writeFile(join(folder, 'cgroup.clone_children'), '1');
}

/** Every folder under kumulus/ID (or below one of its groups), deepest first. */
async function foldersOf(clusterId: string, name?: string): Promise<string[]> {
  const found: string[] = [];
  const visit = async (folder: string) => {
    let entries: { name: string; isDirectory(): boolean }[];
    try {
      entries = await readdir(folder, { withFileTypes: true });
    } catch {
      return;
    }
    for (const entry of entries) if (entry.isDirectory()) await visit(join(folder, entry.name));
    found.push(folder);
  };
  for (const hierarchy of await hierarchies()) await visit(name ? groupPath(hierarchy, clusterId, name) : groupPath(hierarchy, clusterId));
  return found;
}

/** Kills what runs in a cluster's groups (or in one of them), and removes them. Returns the folders that were there. Throws where one stays busy. */
export async function removeGroups(clusterId: string, name?: string): Promise<string[]> {
  const removed = new Set<string>();
  for (let attempt = 0; ; attempt++) {
    const folders = await foldersOf(clusterId, name);
    if (folders.length === 0) break;
    let busy = '';
    for (const folder of folders) {
      removed.add(folder);
      await killIn(folder);
      // EBUSY for a moment after the last process has ended.
      await rmdir(folder).catch((error) => {
        if (error.code !== 'ENOENT') busy = `${folder}: ${error.message}`;
      });
    }
    if (busy && attempt >= 200) throw new Error(`a cgroup could not be removed: ${busy}`);
    if (busy) await delay(10);
  }
  if (!name) for (const hierarchy of await hierarchies()) await rmdir(groupPath(hierarchy)).catch(() => {});
  return [...removed];
}

async function killIn(folder: string): Promise<void> {
  const text = await readFile(join(folder, 'cgroup.procs'), 'utf8').catch(() => '');
  for (const pid of text.split('\n').filter((line) => Number(line) > 0)) {
    try {
      process.kill(Number(pid), 'SIGKILL');
    } catch {
      // It ended meanwhile.
    }
  }
}

/** The cluster ids that have groups on this host. */
export async function clustersWithGroups(): Promise<{ clusterId: string; path: string }[]> {
  const found: { clusterId: string; path: string }[] = [];
  for (const hierarchy of await hierarchies()) {
    const entries = await readdir(groupPath(hierarchy), { withFileTypes: true }).catch(() => []);
    for (const entry of entries) if (entry.isDirectory()) found.push({ clusterId: entry.name, path: groupPath(hierarchy, entry.name) });
  }
  return found;
}
