import { mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { readJson, writeJson } from '../atomic-file.ts';
import type { PodSandboxConfig } from '../cri.ts';
import { finish, run, shell, start } from './command.ts';
import { identify, isAlive, type ProcessIdentity, signalProcess } from './processes.ts';

/** A sandbox as it is kept in sandboxes/ID/sandbox.json. */
export interface Sandbox {
  id: string;
  config: PodSandboxConfig;
  createdAt: number;
  ready: boolean;
  ip: string;
  /** The first process of a PID namespace that the containers share. */
  holder?: ProcessIdentity;
}

const kinds = ['network', 'ipc', 'uts', 'pid'] as const;
type Kind = (typeof kinds)[number];

/**
 * The namespaces of pods, each pinned by a bind mount of its file, so that no process is needed to hold them (but for a shared PID
 * namespace, whose first process must live).
 */
export class Sandboxes {
  readonly directory: string;
  readonly all = new Map<string, Sandbox>();

  constructor(directory: string) {
    this.directory = directory;
  }

  async load(): Promise<void> {
    await mkdir(this.directory, { recursive: true, mode: 0o711 });
    for (const id of await readdir(this.directory)) {
      const sandbox = await readJson<Sandbox>(join(this.directory, id, 'sandbox.json'));
      if (sandbox) this.all.set(id, sandbox);
      else await this.destroy(id);
    }
  }

  folder(id: string): string {
    return join(this.directory, id);
  }

  /** The file of a namespace of its own; undefined where the pod is in the host's. */
  namespace(sandbox: Sandbox, kind: Kind): string | undefined {
    const { namespaces } = sandbox.config.linux;
    const own = {
      network: namespaces.network !== 'NODE',
      ipc: namespaces.ipc !== 'NODE',
      // Whoever shares the host's network shares its name.
      uts: namespaces.network !== 'NODE',
      pid: namespaces.pid === 'POD',
    }[kind];
    return own ? join(this.folder(sandbox.id), `ns-${kind}`) : undefined;
  }

  hostname(sandbox: Sandbox, host: string): string {
    return sandbox.config.linux.namespaces.network === 'NODE' ? host : sandbox.config.hostname;
  }

  async save(sandbox: Sandbox): Promise<void> {
    this.all.set(sandbox.id, sandbox);
    await writeJson(join(this.folder(sandbox.id), 'sandbox.json'), sandbox);
  }

  /** Makes folder, files and namespaces. What was made goes again when it fails. */
  async create(sandbox: Sandbox, hostName: string): Promise<void> {
    const folder = this.folder(sandbox.id);
    const { config } = sandbox;
    await mkdir(join(folder, 'shm'), { recursive: true, mode: 0o711 });
    try {
      await writeFile(join(folder, 'hostname'), `${this.hostname(sandbox, hostName)}\n`, { mode: 0o644 });
      if (config.dnsConfig) await writeFile(join(folder, 'resolv.conf'), resolvConf(config.dnsConfig), { mode: 0o644 });
      const flags: string[] = [];
      for (const [kind, flag] of [
        ['network', '--net'],
        ['ipc', '--ipc'],
        ['uts', '--uts'],
      ] as const) {
        const file = this.namespace(sandbox, kind);
        if (!file) continue;
        await writeFile(file, '');
        flags.push(`${flag}=${file}`);
      }
      const script = [
        ...(config.linux.namespaces.ipc === 'NODE' ? [] : ['mount -t tmpfs -o mode=1777,size=65536k,nosuid,nodev,noexec shm "$1/shm"']),
        ...(flags.length ? [`shift; name=$1; shift; exec unshare "$@" sh -c '[ -z "$1" ] || hostname "$1"' sh "$name"`] : []),
      ];
      if (script.length) await shell(script.join('\n'), [folder, this.namespace(sandbox, 'uts') ? config.hostname : '', ...flags]);
      await this.setSysctls(sandbox);
      if (config.linux.namespaces.pid === 'POD') sandbox.holder = await this.hold(sandbox);
    } catch (error) {
      await this.destroy(sandbox.id);
      throw error;
    }
  }

  private async setSysctls(sandbox: Sandbox): Promise<void> {
    const settings = Object.entries(sandbox.config.linux.sysctls);
    if (!settings.length) return;
    const net = this.namespace(sandbox, 'network');
    const ipc = this.namespace(sandbox, 'ipc');
    const enter = [...(net ? [`--net=${net}`] : []), ...(ipc ? [`--ipc=${ipc}`] : [])];
    // Through a /proc of its own: that of the node may be read-only, and shows the node's settings.
    await run('nsenter', [
      ...enter,
      'unshare',
      '--mount',
      '--propagation',
      'private',
      'sh',
      '-ec',
      'mount -t proc proc /proc; while [ $# -gt 0 ]; do printf %s "$2" >"/proc/sys/$1"; shift 2; done',
      'sh',
      ...settings.flatMap(([key, value]) => [key.replaceAll('.', '/'), value]),
    ]);
  }

  /** Starts a first process for a shared PID namespace; it does nothing but reap. */
  private async hold(sandbox: Sandbox): Promise<ProcessIdentity> {
    const file = this.namespace(sandbox, 'pid') as string;
    await writeFile(file, '');
    const net = this.namespace(sandbox, 'network');
    const inside = ['unshare', '--pid', '--fork', '--kill-child', 'sh', '-c', 'trap "exit 0" TERM; while :; do sleep 3600 & wait; done'];
    const [program, ...args] = net ? ['nsenter', `--net=${net}`, ...inside] : inside;
    const child = start(program as string, args, { stdio: 'ignore', detached: true });
    child.on('error', () => {});
    child.unref();
    const outer = identify(child.pid ?? 0);
    if (!outer) throw new Error('the first process of the shared PID namespace did not start');
    await shell(
      'for i in 1 2 3 4 5 6 7 8 9 10; do [ -s "/proc/$1/task/$1/children" ] && break; sleep 0.02; done; read -r child rest <"/proc/$1/task/$1/children" || [ -n "$child" ]; mount --bind "/proc/$child/ns/pid" "$2"',
      [String(outer.pid), file],
    );
    return outer;
  }

  /** Whether its namespaces are still there. */
  isReady(sandbox: Sandbox): boolean {
    return sandbox.ready && (sandbox.holder === undefined || isAlive(sandbox.holder));
  }

  /** Ends what holds its namespaces. Idempotent. */
  async release(id: string): Promise<void> {
    const sandbox = this.all.get(id);
    signalProcess(sandbox?.holder, 'SIGKILL');
    const folder = this.folder(id);
    for (const kind of kinds) await finish('umount', ['-l', join(folder, `ns-${kind}`)]);
    await finish('umount', ['-l', join(folder, 'shm')]);
  }

  async destroy(id: string): Promise<void> {
    await this.release(id);
    await rm(this.folder(id), { recursive: true, force: true });
    this.all.delete(id);
  }
}

function resolvConf(dns: NonNullable<PodSandboxConfig['dnsConfig']>): string {
  return [
    ...(dns.searches.length ? [`search ${dns.searches.join(' ')}`] : []),
    ...dns.servers.map((server) => `nameserver ${server}`),
    ...(dns.options.length ? [`options ${dns.options.join(' ')}`] : []),
    '',
  ].join('\n');
}
