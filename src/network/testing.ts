import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { HostPort } from './allocations.ts';
import { shell } from './shell.ts';

/** The pod network of a process in the node's namespace. */
export interface Agent {
  configure(podCidr: string): Promise<void>;
  add(sandboxId: string, netnsPath: string, ports?: HostPort[]): Promise<{ ip: string }>;
  remove(sandboxId: string, netnsPath: string): Promise<void>;
  retain(sandboxIds: string[]): Promise<void>;
  ready(): Promise<boolean>;
  end(): Promise<void>;
}

/** Where a node (192.0.2.1) and what is outside of it (192.0.2.2) are network namespaces. Needs root, and says so. */
export class TestNode {
  readonly id = `kumulus-test-${randomBytes(3).toString('hex')}`;
  readonly stateDir = mkdtempSync('/tmp/kumulus-network-');
  readonly #namespaces = new Set<string>();
  readonly #processes = new Set<ChildProcess>();

  constructor() {
    if (process.getuid?.() !== 0) throw new Error('these tests make network namespaces: run them as root');
  }

  async start(): Promise<void> {
    const node = await this.namespace('node');
    const outside = await this.namespace('outside');
    await shell(
      `ip -n $1 link add eth0 mtu 1400 type veth peer name eth0 netns $2
       ip -n $1 address add 192.0.2.1/24 dev eth0; ip -n $1 link set lo up; ip -n $1 link set eth0 up
       ip -n $2 address add 192.0.2.2/24 dev eth0; ip -n $2 link set lo up; ip -n $2 link set eth0 up
       ip -n $2 address add 198.51.100.1/32 dev lo; ip -n $2 route add 10.244.0.0/16 via 192.0.2.1 src 198.51.100.1
       ip -n $1 route add default via 192.0.2.2`,
      [node, outside].map((path) => path.split('/').at(-1) as string),
    );
  }

  /** The path of a namespace of this test, made where it is not there. */
  async namespace(name: string): Promise<string> {
    const full = `${this.id}-${name}`;
    if (!this.#namespaces.has(full)) {
      this.#namespaces.add(full);
      await shell('ip netns add "$1"', [full]);
    }
    return `/run/netns/${full}`;
  }

  async removeNamespace(name: string): Promise<void> {
    await shell('ip netns delete "$1"', [`${this.id}-${name}`]);
    this.#namespaces.delete(`${this.id}-${name}`);
  }

  /** What a shell command prints in a namespace. */
  async inside(name: string, script: string): Promise<string> {
    return (await shell('nsenter --net="$1" bash -c "$2"', [await this.namespace(name), script])).trim();
  }

  /** What a server says that is asked from a namespace: the servers of listen() name their namespace and who asks. */
  ask(name: string, address: string, port: number, protocol: 'TCP' | 'UDP' = 'TCP'): Promise<string> {
    const tcp = `timeout 3 bash -c 'exec 3<>/dev/tcp/${address}/${port} && cat <&3'`;
    const udp = `perl -MIO::Socket::INET -e 'my $s = IO::Socket::INET->new(Proto => "udp", PeerAddr => "${address}:${port}"); $s->send("x"); $SIG{ALRM} = sub { exit 1 }; alarm 3; $s->recv(my $b, 100) // exit 1; print $b'`;
    return this.inside(name, protocol === 'TCP' ? tcp : udp);
  }

  /** Listens in a namespace on TCP and UDP, on all addresses. */
  async listen(name: string, port: number): Promise<void> {
    const program = `
      const say = (address) => '${name} sees ' + address.replace('::ffff:', '');
      const udp = require('dgram').createSocket('udp4');
      udp.on('message', (_, from) => udp.send(say(from.address), from.port, from.address));
      require('net').createServer((s) => { s.on('error', () => {}); s.end(say(s.remoteAddress)); }).listen(${port}, '0.0.0.0', () => udp.bind(${port}, () => console.log('ready')));`;
    const child = this.#spawn(name, [process.execPath, '-e', program], ['ignore', 'pipe', 'inherit'], await this.namespace(name));
    await new Promise<void>((resolve, reject) => {
      child.stdout?.once('data', () => resolve());
      child.once('exit', (code) => reject(new Error(`the server of ${name} ended with ${code}`)));
    });
  }

  async agent(nonMasqueradeCidrs: string[] = []): Promise<Agent> {
    const program = join(import.meta.dirname, 'testing-agent.ts');
    const words = [process.execPath, '--disable-warning=ExperimentalWarning', program, this.stateDir, ...nonMasqueradeCidrs];
    const child = this.#spawn('node', words, ['pipe', 'pipe', 'inherit'], await this.namespace('node'));
    const waiting = new Map<number, { resolve(value: any): void; reject(error: Error): void }>();
    createInterface({ input: child.stdout! }).on('line', (line) => {
      const { id, result, error } = JSON.parse(line) as { id: number; result: unknown; error?: string };
      if (error === undefined) waiting.get(id)?.resolve(result);
      else waiting.get(id)?.reject(new Error(error));
      waiting.delete(id);
    });
    child.once('exit', (code) => waiting.forEach((w) => w.reject(new Error(`the agent ended with ${code}`))));
    let last = 0;
    const call = (method: string, ...args: unknown[]): Promise<any> =>
      new Promise((resolve, reject) => {
        const id = ++last;
        waiting.set(id, { resolve, reject });
        child.stdin?.write(`${JSON.stringify({ id, method, args })}\n`);
      });
    return {
      configure: (podCidr) => call('configure', podCidr),
      add: (sandboxId, path, ports = []) => call('add', sandboxId, path, ports),
      remove: (sandboxId, path) => call('remove', sandboxId, path),
      retain: (ids) => call('retain', ids),
      ready: () => call('ready'),
      end: () => this.#kill(child),
    };
  }

  /** Takes everything back. */
  async end(): Promise<void> {
    await Promise.all([...this.#processes].map((child) => this.#kill(child)));
    for (const name of this.#namespaces) await shell('ip netns delete "$1" 2>/dev/null || true', [name]);
    rmSync(this.stateDir, { recursive: true, force: true });
  }

  #spawn(name: string, words: string[], stdio: ('ignore' | 'pipe' | 'inherit')[], path: string): ChildProcess {
    const child = spawn('nsenter', [`--net=${path}`, ...words], { stdio: stdio as never, env: { PATH: process.env['PATH'], TEST_NAME: name } });
    this.#processes.add(child);
    return child;
  }

  async #kill(child: ChildProcess): Promise<void> {
    this.#processes.delete(child);
    if (child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGKILL');
    await ended;
  }
}
