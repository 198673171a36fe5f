import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Client } from '../../src/client/client.ts';
import { createHttpClient } from '../../src/client/http.ts';

const repository = join(import.meta.dirname, '../..');

/** One that stays free while its server is down: below those that the kernel gives to connections on their way out. */
async function freePort(): Promise<number> {
  for (;;) {
    const port = 15_000 + Math.floor(Math.random() * 15_000);
    const free = await new Promise<boolean>((resolve) => {
      const server = createServer().listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
      server.on('error', () => resolve(false));
    });
    if (free) return port;
  }
}

/** API servers as processes of their own that share keys (and etcd, or one of them the embedded store). */
export class ApiServers {
  readonly folder = mkdtempSync(join(tmpdir(), 'kumulus-faults-'));
  readonly #ports: number[] = [];
  readonly #processes: (ChildProcess | undefined)[] = [];
  readonly #flags: (i: number) => string[];
  readonly #clients = new Set<Client>();

  /** Flags of all, or of each. */
  constructor(flags: string[] | ((i: number) => string[]) = []) {
    this.#flags = Array.isArray(flags) ? () => flags : flags;
  }

  /** Starts it (again) on the port it had; resolves when it is ready. */
  async start(i: number): Promise<void> {
    const port = (this.#ports[i] ??= await freePort());
    const args = ['src/cli/main.ts', 'apiserver', '--data-dir', this.folder, '--secure-port', String(port), ...this.#flags(i)];
    const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', ...args], { cwd: repository, stdio: ['ignore', 'pipe', 'pipe'] });
    this.#processes[i] = child;
    let said = '';
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`API server ${i} is not ready after 60 s: ${said}`)), 60_000);
      const hear = (text: Buffer) => {
        said = `${said}${text}`.slice(-4000);
        if (!said.includes('API server ready')) return;
        clearTimeout(timer);
        resolve();
      };
      child.stdout?.on('data', hear);
      child.stderr?.on('data', hear);
      child.once('exit', (code) => {
        clearTimeout(timer);
        reject(new Error(`API server ${i} ended with ${code}: ${said}`));
      });
    });
  }

  async kill(i: number, signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    const child = this.#processes[i];
    this.#processes[i] = undefined;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.kill(signal);
    await ended;
  }

  /** As the administrator. */
  client(i: number): Client {
    const pem = (name: string) => readFileSync(join(this.folder, 'pki', name), 'utf8');
    const client = createHttpClient({ server: `https://127.0.0.1:${this.#ports[i]}`, ca: pem('ca.crt'), cert: pem('admin.crt'), key: pem('admin.key') });
    this.#clients.add(client);
    return client;
  }

  async stop(): Promise<void> {
    for (const client of this.#clients) client.close();
    await Promise.all(this.#processes.map((_, i) => this.kill(i)));
    rmSync(this.folder, { recursive: true, force: true });
  }
}
