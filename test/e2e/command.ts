/** The kumulus command and kubectl as people run them, in a state folder and with files of their own. */
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { connect } from 'node:tls';
import { findProgram } from '../../src/cluster/preflight.ts';
import { clusterId } from '../../src/cluster/state.ts';

export const repository = join(import.meta.dirname, '../..');
const builtKubectl = join(process.env['KUMULUS_TOOLS'] ?? join(homedir(), '.cache/kumulus-tools'), 'bin/kubectl');

export interface Ran {
  code: number;
  out: string;
  err: string;
}

/** Runs a program to its end; never rejects for an exit code. Killed after timeoutMs. */
export function run(
  program: string,
  args: string[],
  o: { env?: NodeJS.ProcessEnv; input?: string; timeoutMs?: number; signal?: AbortSignal } = {},
): Promise<Ran> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      env: o.env ?? process.env,
      stdio: ['pipe', 'pipe', 'pipe'],
      ...(o.signal ? { signal: o.signal, killSignal: 'SIGINT' as const } : {}),
    });
    let out = '';
    let err = '';
    child.stdout.on('data', (chunk) => {
      out += chunk;
    });
    child.stderr.on('data', (chunk) => {
      err += chunk;
    });
    const timer = setTimeout(() => {
      err += `\n(killed after ${o.timeoutMs ?? 120_000} ms)`;
      child.kill('SIGKILL');
    }, o.timeoutMs ?? 120_000);
    child.on('error', (error) => {
      if (error.name !== 'AbortError') reject(error);
    });
    child.on('close', (code) => {
      clearTimeout(timer);
      resolve({ code: code ?? -1, out, err });
    });
    child.stdin.on('error', () => {});
    child.stdin.end(o.input ?? '');
  });
}

export class Machine {
  readonly folder = mkdtempSync(join(tmpdir(), 'kumulus-e2e-'));
  readonly state = join(this.folder, 'state');
  readonly kubeconfig = join(this.folder, 'kubeconfig');
  readonly env: NodeJS.ProcessEnv = {
    ...process.env,
    HOME: this.folder,
    KUMULUS_STATE: this.state,
    KUBECONFIG: this.kubeconfig,
    AWS_SHARED_CREDENTIALS_FILE: join(this.folder, 'aws-credentials'),
    AWS_CONFIG_FILE: join(this.folder, 'aws-config'),
  };
  /** What every command is run by, such as nsenter with a network namespace. */
  readonly prefix: string[];
  readonly kubectlPath = existsSync(builtKubectl) ? builtKubectl : findProgram('kubectl');

  constructor(prefix: string[] = []) {
    this.prefix = prefix;
  }

  run(program: string, args: string[], o: Parameters<typeof run>[2] = {}): Promise<Ran> {
    const [first = program, ...rest] = [...this.prefix, program, ...args];
    return run(first, rest, { ...o, env: { ...this.env, ...o.env } });
  }

  kumulus(args: string[], o: { timeoutMs?: number; signal?: AbortSignal; env?: NodeJS.ProcessEnv } = {}): Promise<Ran> {
    return this.run(process.execPath, [join(repository, 'bin/kumulus.js'), ...args], { timeoutMs: 300_000, ...o });
  }

  /** Fails with kubectl's own words where it does not end with 0. */
  async kubectl(args: string | string[], o: { input?: string; timeoutMs?: number } = {}): Promise<string> {
    const ran = await this.tryKubectl(args, o);
    if (ran.code !== 0) throw new Error(`kubectl ${typeof args === 'string' ? args : args.join(' ')}: exit code ${ran.code}\n${ran.out}${ran.err}`);
    return ran.out;
  }

  tryKubectl(args: string | string[], o: { input?: string; timeoutMs?: number } = {}): Promise<Ran> {
    if (!this.kubectlPath) throw new Error('kubectl is not in PATH');
    return this.run(this.kubectlPath, typeof args === 'string' ? args.split(' ') : args, o);
  }

  /** GET over TLS on a connection that a pod makes, with its words for authority and token. Resolves to the body. */
  async requestThroughPod(pod: string, to: { host: string; port: number; path: string; ca: string; token: string }): Promise<string> {
    const carrier = spawn(this.kubectlPath as string, ['exec', '-i', pod, '--', 'nc', to.host, String(to.port)], { env: this.env });
    carrier.stdin.on('error', () => {});
    // TLS over a pair of pipes is not for Node: a socket in between.
    const door = createServer((socket) => {
      socket.on('error', () => {});
      socket.pipe(carrier.stdin);
      carrier.stdout.pipe(socket);
    });
    try {
      await new Promise<void>((resolve) => door.listen(0, '127.0.0.1', resolve));
      const socket = connect({ host: '127.0.0.1', port: (door.address() as AddressInfo).port, servername: to.host, ca: to.ca });
      socket.write(`GET ${to.path} HTTP/1.1\r\nHost: ${to.host}\r\nAuthorization: Bearer ${to.token}\r\nConnection: close\r\n\r\n`);
      return await text(socket);
    } finally {
      carrier.kill();
      door.close();
    }
  }

  /** The last lines of a cluster's logs, for a failure's message. */
  logs(name: string): string {
    return ['supervisor', 'aws', 'control-plane']
      .map((part) => {
        const file = join(this.state, name, 'logs', `${part}.log`);
        return existsSync(file) ? `--- ${part}\n${readFileSync(file, 'utf8').split('\n').slice(-20).join('\n')}` : '';
      })
      .join('\n');
  }

  /** Deletes every cluster, then the folder. */
  async end(): Promise<void> {
    await this.kumulus(['delete', 'cluster', '--all', '-q']);
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/**
 * Everything that these clusters of this machine left on the host, one line each, sorted; and sysctls that a careless program
 * would change. What other suites and clusters do at the same time is not in it.
 */
export async function hostState(machine: Machine, names: string[]): Promise<string[]> {
  const marks = [...names.map((name) => clusterId(join(machine.state, name))), machine.folder];
  const ours = (line: string) => marks.some((mark) => line.includes(mark));
  const lines = async (program: string, args: string[], keep = ours) =>
    (await run(program, args)).out
      .split('\n')
      .filter((line) => line !== '' && keep(line))
      .map((line) => `${program}: ${line.trim()}`);
  const found = [
    ...(await lines('ip', ['netns', 'list'])),
    ...(await lines('ip', ['-o', 'link'], (line) => ours(line) || line.includes('kumulus'))),
    ...(await lines('losetup', ['-l', '-n', '-O', 'NAME,BACK-FILE'])),
    ...(await lines('nft', ['list', 'ruleset'])),
    ...(await lines('findmnt', ['-rn', '-o', 'TARGET,FSTYPE'])),
    ...(await lines('find', ['/sys/fs/cgroup', '-type', 'd', '-path', '*kumulus*'])),
    ...processesOf(ours),
    ...(await lines(
      'sysctl',
      [
        'net.ipv4.ip_forward',
        'net.ipv4.conf.all.rp_filter',
        'net.ipv4.conf.default.rp_filter',
        'net.ipv4.conf.all.proxy_arp',
        'vm.overcommit_memory',
        'kernel.panic',
        'kernel.core_pattern',
        'fs.inotify.max_user_instances',
        'fs.inotify.max_user_watches',
        'fs.file-max',
      ],
      () => true,
    )),
  ];
  return found.sort();
}

/** Processes that a cluster started: its state folder or id is in their words, environment or cgroup. */
function processesOf(ours: (text: string) => boolean): string[] {
  const found: string[] = [];
  for (const pid of readdirSync('/proc').filter((one) => /^\d+$/.test(one) && Number(one) !== process.pid)) {
    const read = (file: string) => {
      try {
        return readFileSync(`/proc/${pid}/${file}`, 'utf8').replaceAll('\0', ' ');
      } catch {
        return '';
      }
    };
    const command = read('cmdline');
    if (command && (ours(command) || ours(read('environ')) || ours(read('cgroup')))) found.push(`process: ${command.trim()}`);
  }
  return found;
}

export const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** Calls until it answers something true, or fails naming what it waited for. */
export async function eventually<T>(what: string, ask: () => Promise<T | undefined | false>, timeoutMs = 60_000): Promise<T> {
  const end = Date.now() + timeoutMs;
  let last: unknown;
  for (;;) {
    try {
      const answer = await ask();
      if (answer) return answer;
    } catch (error) {
      last = error;
    }
    if (Date.now() > end) throw new Error(`timed out after ${timeoutMs / 1000} s waiting for ${what}${last ? `: ${(last as Error).message}` : ''}`);
    await sleep(200);
  }
}
