import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, openSync, closeSync, readFileSync, rmSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ensureEnvironment } from './python.ts';

/** A fake AWS that runs as a process of this host. */
export interface HostService {
  url: string;
  /** Forgets everything, or what one account holds. */
  reset(account?: string): Promise<void>;
  /** Resolves when the process has ended and its files are gone. */
  stop(): Promise<void>;
}

const here = (name: string) => join(import.meta.dirname, '..', name);

/** LocalStack's environment, installed where it is missing. Resolves to its Python. */
export const ensureLocalstack = (): Promise<string> => ensureEnvironment('localstack', here('requirements.lock'));

export const ensureMoto = (): Promise<string> => ensureEnvironment('moto', here('moto.lock'));

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

async function launch(name: string, python: string, args: string[], env: Record<string, string>, health: string): Promise<Pick<HostService, 'stop'>> {
  const folder = mkdtempSync(join(tmpdir(), `kumulus-${name}-`));
  const log = join(folder, 'log');
  const descriptor = openSync(log, 'w');
  const child: ChildProcess = spawn(python, args, {
    cwd: folder,
    // Keys and endpoints of the caller are nothing to it.
    env: { PATH: process.env['PATH'], HOME: folder, TMPDIR: folder, ...env },
    stdio: ['ignore', descriptor, descriptor],
    detached: true,
  });
  closeSync(descriptor);
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  const stop = async () => {
    if (child.exitCode === null && child.signalCode === null) {
      process.kill(-child.pid!, 'SIGTERM');
      const late = setTimeout(() => process.kill(-child.pid!, 'SIGKILL'), 10_000);
      await ended;
      clearTimeout(late);
    }
    rmSync(folder, { recursive: true, force: true });
  };
  // The caller may end without a word.
  process.once('exit', () => {
    if (child.exitCode === null && child.signalCode === null) process.kill(-child.pid!, 'SIGKILL');
  });
  const end = Date.now() + 120_000;
  for (;;) {
    const answer = await fetch(health).catch(() => undefined);
    await answer?.body?.cancel();
    if (answer?.ok) return { stop };
    const over = child.exitCode !== null || child.signalCode !== null;
    if (over || Date.now() > end) {
      const text = readFileSync(log, 'utf8').trim().split('\n').slice(-5).join('\n');
      await stop();
      throw new Error(`${name} ${over ? 'ended as it started' : 'did not become healthy'}:\n${text}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

const post = async (url: string) => {
  const answer = await fetch(url, { method: 'POST' });
  if (!answer.ok) throw new Error(`${url}: ${answer.status} ${await answer.text()}`);
};

/** LocalStack's free edition with our plugin: EC2, IAM, STS and SSM, and ELBv2, Auto Scaling and ECR of the moto inside. Nothing is sent off the machine. */
export async function startLocalstack(options: { port?: number } = {}): Promise<HostService> {
  const python = await ensureLocalstack();
  const port = options.port ?? (await freePort());
  const url = `http://127.0.0.1:${port}`;
  const env = {
    PYTHONPATH: here('plugin'),
    PYTHONDONTWRITEBYTECODE: '1',
    PROVIDER_OVERRIDE_IAM: 'moto',
    OVERRIDE_IN_DOCKER: '0',
    GATEWAY_LISTEN: `127.0.0.1:${port}`,
    LOCALSTACK_HOST: `localhost:${port}`,
    DISABLE_EVENTS: '1',
    SKIP_SSL_CERT_DOWNLOAD: '1',
    DNS_ADDRESS: '0',
    EAGER_SERVICE_LOADING: '0',
  };
  const { stop } = await launch('localstack', python, ['-m', 'localstack.runtime.main'], env, `${url}/_localstack/health`);
  return { url, stop, reset: (account) => post(`${url}/_kumulus/reset${account ? `?account=${account}` : ''}`) };
}

/** moto's own server, with the managed policies of AWS, which the roles of clusters have. */
export async function startMoto(options: { port?: number } = {}): Promise<HostService> {
  const python = await ensureMoto();
  const port = options.port ?? (await freePort());
  const url = `http://127.0.0.1:${port}`;
  const { stop } = await launch('moto', python, ['-m', 'moto.server', '-H', '127.0.0.1', '-p', String(port)], { MOTO_IAM_LOAD_MANAGED_POLICIES: 'true' }, `${url}/moto-api/data.json`);
  return {
    url,
    stop,
    async reset(account) {
      if (account) throw new Error('moto resets all accounts together');
      await post(`${url}/moto-api/reset`);
    },
  };
}
