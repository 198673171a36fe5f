import { readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Logger } from 'pino';
import { clustersWithGroups, removeGroups } from './cgroups.ts';
import { run } from './command.ts';
import { markSuspended, readIdentity, STOP_GRACE } from './instance.ts';
import { clusterOfNamespace, namespacePath } from './names.ts';
import { forgetOwner, readOwners } from './owners.ts';
import { processesInNamespace, type ProcessIdentity, signal, waitForEnd } from './processes.ts';
import { allLoops } from './volumes.ts';
import { deleteNamespace } from './vpc.ts';

export interface CleanupOptions {
  /** The cluster's state folder. */
  directory: string;
  /** The cluster's id: 6 hex digits. */
  id: string;
  log?: Logger;
}

/**
 * Ends and removes all that a cluster has on this host outside of its state folder: processes, network namespaces (with their
 * links and nftables tables), mounts, loop devices, cgroups. Needs no running data plane, but none may run beside it.
 * Idempotent; returns what was removed, one line each.
 */
export async function destroyEverything(options: CleanupOptions): Promise<string[]> {
  const { directory, id, log } = options;
  const removed: string[] = [];
  for (const { name, identity } of await instancesOf(directory)) {
    if (await signal(identity, 'SIGKILL')) removed.push(`instance ${name}`);
    await waitForEnd(identity, 10_000);
  }
  const namespaces = (await readdir('/run/netns').catch(() => [])).filter((name) => clusterOfNamespace(name) === id);
  for (const name of namespaces) {
    for (const pid of await processesInNamespace(namespacePath(name))) removed.push(`process ${pid} in ${name}`);
    if (await deleteNamespace(name)) removed.push(`network namespace ${name}`);
  }
  for (const folder of await removeGroups(id)) removed.push(`cgroup ${folder}`);
  for (const mountpoint of (await mountsUnder(directory)).reverse()) {
    await run('umount', ['-l', mountpoint]);
    removed.push(`mount ${mountpoint}`);
  }
  for (const loop of await allLoops()) {
    if (!loop.file.startsWith(join(directory, 'volumes') + '/')) continue;
    await run('losetup', ['--detach', loop.device]);
    removed.push(`loop device ${loop.device}`);
  }
  for (const name of await readdir(join(directory, 'run')).catch(() => [])) {
    if (/^vpc-.*\.(sock|pid)$/.test(name)) await rm(join(directory, 'run', name), { force: true });
  }
  // What was applied to a namespace that is no more.
  for (const name of await readdir(join(directory, 'dataplane')).catch(() => [])) {
    if (/^vpc-.*\.(json|nft)$/.test(name)) await rm(join(directory, 'dataplane', name), { force: true });
  }
  await forgetOwner(id);
  for (const line of removed) log?.debug(line);
  return removed;
}

/**
 * Stops a cluster's instances as `stop cluster` does: their processes get time to end, then everything goes that
 * destroyEverything removes; files and volumes stay, and startDataPlane boots the instances again.
 */
export async function suspendEverything(options: CleanupOptions): Promise<string[]> {
  await Promise.all(
    (await instancesOf(options.directory)).map(async ({ folder, identity }) => {
      await markSuspended(folder);
      if (await signal(identity, 'SIGTERM')) await waitForEnd(identity, STOP_GRACE);
    }),
  );
  return destroyEverything(options);
}

async function instancesOf(directory: string): Promise<{ name: string; folder: string; identity: ProcessIdentity | undefined }[]> {
  const names = (await readdir(join(directory, 'instances')).catch(() => [])).filter((name) => name.startsWith('i-'));
  return Promise.all(
    names.map(async (name) => {
      const folder = join(directory, 'instances', name);
      return { name, folder, identity: await readIdentity(folder) };
    }),
  );
}

async function mountsUnder(directory: string): Promise<string[]> {
  const text = await readFile('/proc/self/mountinfo', 'utf8');
  const points = text
    .split('\n')
    .map((line) => (line.split(' ')[4] ?? '').replace(/\\(\d{3})/g, (_, octal) => String.fromCharCode(Number.parseInt(octal, 8))));
  return points.filter((point) => point.startsWith(`${directory}/`));
}

export interface Leaving {
  kind: 'network namespace' | 'cgroup' | 'loop device' | 'mount' | 'process';
  name: string;
  /** The cluster it belongs to, where its name says so. */
  clusterId?: string;
  /** The state folder of that cluster, where it is known; it may be gone. */
  directory?: string;
}

/** The state folder in the path of an instance's mount or a volume's image. */
const directoryIn = (name: string) => /^(?:\/dev\/loop\d+ on )?(\/.*)\/(?:instances|volumes)\//.exec(name)?.[1];

/** What on this host carries the project's prefix, also of clusters that run: the caller knows which those are. */
export async function findLeavings(): Promise<Leaving[]> {
  const found: Leaving[] = [];
  for (const name of await readdir('/run/netns').catch(() => [])) {
    if (!name.startsWith('kumulus-')) continue;
    const clusterId = clusterOfNamespace(name);
    found.push({ kind: 'network namespace', name, clusterId });
    for (const pid of await processesInNamespace(namespacePath(name))) {
      const command = (await readFile(`/proc/${pid}/comm`, 'utf8').catch(() => '')).trim();
      found.push({ kind: 'process', name: `${pid} (${command}) in ${name}`, clusterId });
    }
  }
  for (const { clusterId, path } of await clustersWithGroups()) found.push({ kind: 'cgroup', name: path, clusterId });
  for (const { device, file } of await allLoops()) {
    if (/\/volumes\/vol-[0-9a-f]+\.img$/.test(file) && file.includes('kumulus')) found.push({ kind: 'loop device', name: `${device} on ${file}` });
  }
  const points = (await readFile('/proc/self/mountinfo', 'utf8')).split('\n').map((line) => line.split(' ')[4] ?? '');
  for (const point of points) {
    const owner = clusterOfNamespace(point.slice(point.lastIndexOf('/') + 1));
    if (point.includes('/instances/i-') && point.includes('kumulus')) found.push({ kind: 'mount', name: point });
    else if (owner && !point.startsWith('/run/netns/')) found.push({ kind: 'mount', name: point, clusterId: owner });
  }
  const owners = await readOwners();
  return found.map((one) => {
    const directory = directoryIn(one.name) ?? owners.get(one.clusterId ?? '');
    return directory ? { ...one, directory } : one;
  });
}
