import { spawn } from 'node:child_process';
import { closeSync, constants, openSync } from 'node:fs';
import { appendFile, mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { Socket } from 'node:net';
import { join } from 'node:path';
import type { Instance } from '@aws-sdk/client-ec2';
import type { Logger } from 'pino';
import type { CloudReports, CloudSource } from '../contract.ts';
import { createGroups, hierarchies, removeGroups } from './cgroups.ts';
import { run, SYSTEM_PATH } from './command.ts';
import { ConsoleFollower } from './console.ts';
import { EMPTY_FOLDERS, exists, fillUpperLayer, type InstanceFiles } from './instance-files.ts';
import { namespaceName, namespacePath } from './names.ts';
import { bootId, isAlive, type ProcessIdentity, signal, waitForEnd } from './processes.ts';

/** How long an instance may take to end its processes before it is cut off, in milliseconds. */
export const STOP_GRACE = 10_000;
const TERMINATE_GRACE = 2_000;
const BOOT_TIMEOUT = 30_000;

export interface InstancesOptions {
  source: CloudSource;
  reports: CloudReports;
  clusterId: string;
  /** instances/ of the cluster's state. */
  directory: string;
  files: InstanceFiles;
  packageRoot: string;
  nodeBinary: string;
  /** Folder of compiled code, see compile-cache.ts. */
  compiled?: string;
  /** The address of the VPC's resolver. */
  resolverOf: (instance: Instance) => string | undefined;
  /** Joins an instance to its VPC afresh, with an empty network namespace. */
  rejoin: (instance: Instance) => Promise<void>;
  /** Called when an instance ended of itself, or came up. */
  changed: (instanceId: string) => void;
  log: Logger;
}

interface Life {
  identity: ProcessIdentity;
  pipe: Socket;
  console: ConsoleFollower;
  /** Whether it has come up: until then its root, and so its /dev, may still be the host's. */
  up: boolean;
}

interface Saved {
  /** RebootInstances calls that were carried out. */
  reboots: number;
  boots: number;
  /** Stopped by us, to be started again with the cluster. */
  suspended?: boolean;
}

/** The instances of a cluster as processes of this host. Calls for one instance must not overlap. */
export class Instances {
  private readonly options: InstancesOptions;
  private readonly lives = new Map<string, Life>();
  private readonly deaths = new Map<string, { count: number; at: number }>();
  /** Instances that were reported to run, until AWS shows them so: what is read meanwhile still calls them pending. */
  private readonly reported = new Set<string>();

  constructor(options: InstancesOptions) {
    this.options = options;
  }

  folder(instanceId: string): string {
    return join(this.options.directory, instanceId);
  }

  /** Instances that have a folder here, whether AWS still knows them or not. */
  async known(): Promise<string[]> {
    return (await readdir(this.options.directory).catch(() => [])).filter((name) => name.startsWith('i-'));
  }

  /** The first process of an instance that is up, by its number on the host. */
  processOf(instanceId: string): number | undefined {
    const life = this.lives.get(instanceId);
    return life?.up ? life.identity.pid : undefined;
  }

  /** Brings one instance to the state that AWS shows for it. */
  async reconcile(instance: Instance): Promise<void> {
    const id = instance.InstanceId!;
    if (instance.State?.Name !== 'pending') this.reported.delete(id);
    switch (instance.State?.Name) {
      case 'pending':
        // One that came up and at once shut itself down is not to be booted again.
        if (this.reported.has(id)) return;
        await this.ensureRunning(instance);
        this.reported.add(id);
        this.options.reports.instanceState(id, 'running');
        return;
      case 'running':
        await this.ensureRunning(instance);
        await this.rebootIfAsked(instance);
        return;
      case 'stopping':
        await this.end(id, STOP_GRACE);
        this.options.reports.instanceState(id, 'stopped');
        return;
      case 'stopped':
        await this.end(id, STOP_GRACE);
        return;
      case 'shutting-down':
        await this.remove(id);
        this.options.reports.instanceState(id, 'terminated');
        return;
      default:
        await this.remove(id);
    }
  }

  private async ensureRunning(instance: Instance): Promise<void> {
    const id = instance.InstanceId!;
    const life = this.lives.get(id);
    if (life && (await isAlive(life.identity))) return;
    await this.forget(id);
    const identity = await readIdentity(this.folder(id));
    if (identity && (await isAlive(identity))) {
      await this.adopt(id, identity);
      await this.waitUntilUp(id);
      this.options.log.info({ instance: id, pid: identity.pid }, 'found running');
      this.options.changed(id);
      return;
    }
    const saved = await this.saved(id);
    const progress = await readProgress(this.folder(id));
    if (instance.State?.Name === 'running' && progress.includes('halted') && !saved.suspended && identity?.bootId === (await bootId())) {
      await removeGroups(this.options.clusterId, id);
      this.options.reports.instanceState(id, 'stopped', 'Client.InstanceInitiatedShutdown: Instance initiated shutdown');
      return;
    }
    const unexpected = instance.State?.Name === 'running' && !saved.suspended && !progress.includes('rebooting');
    if (identity && saved.boots > 0 && unexpected) this.backOff(id);
    await this.boot(instance, saved);
  }

  /** An instance that ends again and again is started with growing pauses. */
  private backOff(id: string): void {
    const death = this.deaths.get(id) ?? { count: 0, at: 0 };
    const pause = Math.min(1000 * 2 ** death.count, 60_000);
    if (death.count > 0 && Date.now() < death.at + pause)
      throw new Error(`instance ${id} ended unexpectedly; it is started again after ${pause / 1000} s`);
    this.deaths.set(id, { count: Date.now() - death.at > 300_000 ? 1 : death.count + 1, at: Date.now() });
  }

  private async rebootIfAsked(instance: Instance): Promise<void> {
    const id = instance.InstanceId!;
    const wanted = this.options.source.reboots?.(id) ?? 0;
    const saved = await this.saved(id);
    if (wanted <= saved.reboots) return;
    this.options.log.info({ instance: id }, 'rebooting');
    await this.end(id, STOP_GRACE, 'SIGINT');
    await this.boot(instance, { ...saved, reboots: wanted });
  }

  private async boot(instance: Instance, saved: Saved): Promise<void> {
    const { clusterId, files } = this.options;
    const id = instance.InstanceId!;
    const folder = this.folder(id);
    await mkdir(folder, { recursive: true, mode: 0o700 });
    if (!(await exists(join(folder, 'upper')))) await this.prepare(instance);
    if (saved.boots > 0) await this.options.rejoin(instance);
    // A group left by the last life may hold limits that someone inside had set.
    if (saved.boots > 0) await removeGroups(clusterId, id);
    const groups = await createGroups(clusterId, id);
    const version1 = (await hierarchies()).filter((one) => one.version === 1);
    const next = { reboots: Math.max(saved.reboots, this.options.source.reboots?.(id) ?? 0), boots: saved.boots + 1 };
    await this.save(id, next);
    await appendFile(join(folder, 'console.log'), '');
    await rm(join(folder, 'process'), { force: true });
    const script = ['[ -p life ] || mkfifo -m 600 life', ': >progress', ...groups.map((group) => `echo $$ >'${group}/cgroup.procs'`)];
    const unshare = 'unshare --mount --uts --ipc --cgroup --pid --propagation private --fork';
    await launch(folder, [...script, `exec nsenter --net="$KUMULUS_NETWORK" ${unshare} sh "$KUMULUS_MOUNT"`], {
      KUMULUS_NETWORK: namespacePath(namespaceName(clusterId, id)),
      KUMULUS_MOUNT: files.mount,
      KUMULUS_INIT: files.init,
      KUMULUS_PACKAGE: this.options.packageRoot,
      KUMULUS_NODE: this.options.nodeBinary,
      KUMULUS_COMPILED: this.options.compiled ?? '',
      KUMULUS_HOSTNAME: hostname(instance).split('.')[0],
      KUMULUS_CGROUPS: version1.length ? version1.map((one) => `${one.name}=${one.options}`).join(' ') : 'v2',
      KUMULUS_LAYERS: files.layers.join(' '),
      KUMULUS_EMPTY: EMPTY_FOLDERS.join(' '),
    });
    const identity = await readIdentity(folder);
    if (!identity) throw new Error(`instance ${id}: its first process could not be started`);
    await this.adopt(id, identity);
    await this.waitUntilUp(id);
    this.options.log.info({ instance: id, pid: identity.pid }, 'booted');
    this.options.changed(id);
  }

  private async prepare(instance: Instance): Promise<void> {
    const id = instance.InstanceId!;
    const folder = this.folder(id);
    const fresh = join(folder, 'fresh');
    await rm(fresh, { recursive: true, force: true });
    await rm(join(folder, 'user-data'), { recursive: true, force: true });
    await mkdir(fresh, { recursive: true });
    const who = {
      instanceId: id,
      privateDnsName: hostname(instance),
      address: instance.PrivateIpAddress ?? '127.0.1.1',
      region: this.options.source.region,
      resolver: this.options.resolverOf(instance) ?? '169.254.169.253',
    };
    const ignored = await fillUpperLayer(fresh, this.options.files.template, who, await this.options.source.userData(id));
    await appendFile(join(folder, 'console.log'), ignored.map((line) => `cloud-init: ${line}\n`).join(''));
    await rename(join(fresh, 'user-data'), join(folder, 'user-data'));
    await rename(join(fresh, 'upper'), join(folder, 'upper'));
    await rm(fresh, { recursive: true, force: true });
  }

  /** Watches a running instance: the pipe `life` has an end when its first process is gone, and says when it comes up. */
  private async adopt(id: string, identity: ProcessIdentity): Promise<void> {
    const folder = this.folder(id);
    const descriptor = openSync(join(folder, 'life'), constants.O_RDONLY | constants.O_NONBLOCK);
    let pipe: Socket;
    try {
      pipe = new Socket({ fd: descriptor, readable: true, writable: false });
    } catch (error) {
      closeSync(descriptor);
      throw error;
    }
    const follower = new ConsoleFollower(folder, (text) => this.options.reports.consoleOutput(id, text));
    const life: Life = { identity, pipe, console: follower, up: false };
    this.lives.set(id, life);
    pipe.on('error', () => {});
    pipe.once('close', () => {
      void follower.stop();
      // Its files are closed a little before it has ended.
      void waitForEnd(identity, 10_000).then(() => this.lives.get(id) === life && this.options.changed(id));
    });
    pipe.resume();
    pipe.unref();
    await follower.start();
  }

  private async waitUntilUp(id: string): Promise<void> {
    const life = this.lives.get(id)!;
    const { pipe } = life;
    const folder = this.folder(id);
    let timer: NodeJS.Timeout | undefined;
    try {
      await new Promise<void>((resolve, reject) => {
        const look = async () => {
          const progress = await readProgress(folder);
          if (progress.includes('failed')) reject(new Error(`instance ${id} did not boot: ${await lastLine(folder)}`));
          else if (progress.includes('up')) resolve();
        };
        const ended = () => look().then(() => reject(new Error(`instance ${id} ended while it booted: see its console output`)), reject);
        timer = setTimeout(() => reject(new Error(`instance ${id} did not come up within ${BOOT_TIMEOUT / 1000} s`)), BOOT_TIMEOUT);
        pipe.on('data', () => void look().catch(reject));
        pipe.once('close', ended);
        void look().catch(reject);
      });
      life.up = true;
    } catch (error) {
      await this.end(id, 0);
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  /** Ends everything in an instance: its processes get `grace` milliseconds. Its files stay. */
  private async end(id: string, grace: number, name: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    const identity = this.lives.get(id)?.identity ?? (await readIdentity(this.folder(id)));
    if (grace > 0 && (await signal(identity, name))) await waitForEnd(identity, grace);
    await signal(identity, 'SIGKILL');
    if (!(await waitForEnd(identity, 10_000))) throw new Error(`instance ${id}: process ${identity?.pid} does not end`);
    await this.forget(id);
    await removeGroups(this.options.clusterId, id);
  }

  private async forget(id: string): Promise<void> {
    const life = this.lives.get(id);
    if (!life) return;
    this.lives.delete(id);
    life.pipe.destroy();
    await life.console.stop();
  }

  /** Ends an instance and removes all that there is of it. */
  async remove(id: string): Promise<void> {
    if (!(await exists(this.folder(id)))) return;
    await this.end(id, TERMINATE_GRACE);
    await run('rm', ['-rf', '--one-file-system', this.folder(id)], { timeout: 120_000 });
    this.deaths.delete(id);
    this.options.log.info({ instance: id }, 'removed');
  }

  /** Lets go of every instance; they run on. */
  async release(): Promise<void> {
    for (const id of [...this.lives.keys()]) await this.forget(id);
  }

  private async saved(id: string): Promise<Saved> {
    return readSaved(this.folder(id));
  }

  private async save(id: string, saved: Saved): Promise<void> {
    await writeSaved(this.folder(id), saved);
  }
}

/**
 * Starts an instance's first process and resolves when it runs. Node starts it rather than a shell's `&`, which would have
 * everything inside ignore SIGINT. The `unshare` that forked it is ended at once: it is of no use any more, and with
 * version 2 of cgroups a process beside the instance's own would keep controllers from being passed on.
 */
function launch(folder: string, script: string[], env: Record<string, string>): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn('sh', ['-es'], { cwd: folder, detached: true, env: { PATH: SYSTEM_PATH, LC_ALL: 'C', ...env }, stdio: 'pipe' });
    let stdout = '';
    let stderr = '';
    const finish = (error?: Error) => {
      clearTimeout(timer);
      child.kill('SIGKILL');
      child.stdout.destroy();
      child.stderr.destroy();
      child.unref();
      if (error) reject(error);
      else resolve();
    };
    const timer = setTimeout(() => finish(new Error(`the first process did not start within ${BOOT_TIMEOUT / 1000} s`)), BOOT_TIMEOUT);
    child.stderr.setEncoding('utf8').on('data', (text) => (stderr += text));
    child.stdout.setEncoding('utf8').on('data', (text) => {
      stdout += text;
      if (stdout.includes('started\n')) finish();
    });
    child.once('error', finish);
    child.once('close', (status) => finish(new Error(`the first process did not start: ${stderr.trim() || `status ${status}`}`)));
    child.stdin.on('error', () => {});
    child.stdin.end(script.join('\n') + '\n');
  });
}

export function hostname(instance: Instance): string {
  return instance.PrivateDnsName || `ip-${(instance.PrivateIpAddress ?? '127.0.1.1').replaceAll('.', '-')}.ec2.internal`;
}

async function readSaved(folder: string): Promise<Saved> {
  try {
    return JSON.parse(await readFile(join(folder, 'instance.json'), 'utf8'));
  } catch {
    return { reboots: 0, boots: 0 };
  }
}

async function writeSaved(folder: string, saved: Saved): Promise<void> {
  await writeFile(join(folder, 'instance.json.new'), JSON.stringify(saved));
  await rename(join(folder, 'instance.json.new'), join(folder, 'instance.json'));
}

/** Marks an instance as ended by us rather than by itself: it boots again when the cluster starts. */
export async function markSuspended(folder: string): Promise<void> {
  await writeSaved(folder, { ...(await readSaved(folder)), suspended: true });
}

/** Who the instance's first process is, as its launcher wrote it down; it need not live any more. */
export async function readIdentity(folder: string): Promise<ProcessIdentity | undefined> {
  const [pid, startTime, boot] = (await readFile(join(folder, 'process'), 'utf8').catch(() => '')).trim().split(' ');
  return boot ? { pid: Number(pid), startTime, bootId: boot } : undefined;
}

async function readProgress(folder: string): Promise<string[]> {
  return (await readFile(join(folder, 'progress'), 'utf8').catch(() => '')).split('\n').filter(Boolean);
}

async function lastLine(folder: string): Promise<string> {
  const lines = (await readFile(join(folder, 'console.log'), 'utf8').catch(() => '')).trimEnd().split('\n');
  return lines.slice(-3).join('; ');
}
