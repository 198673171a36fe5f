import { type ChildProcess, spawn } from 'node:child_process';
import { accessSync, constants, mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';

/** The etcd program: built peers first (3.7), then the PATH (Debian's etcd-server, 3.4). */
export function findEtcd(): string | undefined {
  const folders = [join(process.env['KUMULUS_TOOLS'] ?? join(homedir(), '.cache/kumulus-tools'), 'bin'), ...(process.env['PATH'] ?? '').split(':')];
  for (const folder of folders) {
    try {
      accessSync(join(folder, 'etcd'), constants.X_OK);
      return join(folder, 'etcd');
    } catch {
      // The next folder.
    }
  }
  return undefined;
}

async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(
    Array.from(
      { length: count },
      () =>
        new Promise<ReturnType<typeof createServer>>((resolve) => {
          const server = createServer().listen(0, '127.0.0.1', () => resolve(server));
        }),
    ),
  );
  const ports = servers.map((s) => (s.address() as { port: number }).port);
  await Promise.all(servers.map((s) => new Promise((resolve) => s.close(resolve))));
  return ports;
}

export interface EtcdCluster {
  endpoints: string[];
  /** SIGKILL; its data stays. */
  kill(member: number): Promise<void>;
  /** SIGSTOP or SIGCONT. */
  signal(member: number, signal: NodeJS.Signals): void;
  start(member: number): Promise<void>;
  /** Ends all members and removes their data. */
  stop(): Promise<void>;
}

/** Real etcd on loopback, one or several members, in a temporary folder. */
export async function startEtcd(members = 1, program = findEtcd()): Promise<EtcdCluster> {
  if (!program) throw new Error('there is no etcd on this machine');
  const folder = mkdtempSync(join(tmpdir(), 'kumulus-etcd-'));
  const ports = await freePorts(members * 2);
  const client = (i: number) => `http://127.0.0.1:${ports[i * 2]}`;
  const peer = (i: number) => `http://127.0.0.1:${ports[i * 2 + 1]}`;
  const initial = Array.from({ length: members }, (_, i) => `m${i}=${peer(i)}`).join(',');
  const processes: (ChildProcess | undefined)[] = [];
  const start = async (i: number) => {
    const args = {
      name: `m${i}`,
      'data-dir': join(folder, `m${i}`),
      'listen-client-urls': client(i),
      'advertise-client-urls': client(i),
      'listen-peer-urls': peer(i),
      'initial-advertise-peer-urls': peer(i),
      'initial-cluster': initial,
      'log-level': 'error',
      // Elections of members under test must not take longer than the test.
      'heartbeat-interval': '100',
      'election-timeout': '1000',
    };
    const child = spawn(
      program,
      Object.entries(args).map(([k, v]) => `--${k}=${v}`),
      { stdio: ['ignore', 'ignore', 'pipe'] },
    );
    let said = '';
    child.stderr?.on('data', (text) => {
      said = `${said}${text}`.slice(-2000);
    });
    processes[i] = child;
    const end = Date.now() + 30_000;
    while (members === 1 || processes.filter(Boolean).length > members / 2) {
      if (child.exitCode !== null) throw new Error(`etcd ended with ${child.exitCode}: ${said}`);
      const healthy = await fetch(`${client(i)}/health`, { signal: AbortSignal.timeout(1000) })
        .then((r) => r.json())
        .catch(() => undefined);
      if ((healthy as { health?: string } | undefined)?.health === 'true') return;
      if (Date.now() > end) throw new Error(`etcd is not healthy after 30 s: ${said}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  };
  const kill = async (i: number) => {
    const child = processes[i];
    processes[i] = undefined;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGKILL');
    await ended;
  };
  const cluster: EtcdCluster = {
    endpoints: Array.from({ length: members }, (_, i) => client(i)),
    kill,
    signal: (i, signal) => void processes[i]?.kill(signal),
    start,
    async stop() {
      await Promise.all(processes.map((_, i) => kill(i)));
      rmSync(folder, { recursive: true, force: true });
    },
  };
  try {
    await Promise.all(Array.from({ length: members }, (_, i) => start(i)));
    return cluster;
  } catch (error) {
    await cluster.stop();
    throw error;
  }
}
