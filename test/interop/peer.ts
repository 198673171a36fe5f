import { type ChildProcess, spawn } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { createTestAuthority } from '../../src/apiserver/testing.ts';
import { Connection } from './connection.ts';

/** Folder of upstream's programs, as tools put them there. */
const programs = join(process.env['KUMULUS_TOOLS'] ?? join(homedir(), '.cache/kumulus-tools'), 'bin');

/** Why no comparison can be made here; undefined where all programs are there. */
export function missingPeers(...names: string[]): string | undefined {
  const missing = names.filter((name) => !existsSync(join(programs, name)));
  return missing.length ? `upstream's ${missing.join(', ')} not in ${programs} (KUMULUS_TOOLS names another folder)` : undefined;
}

export const programPath = (name: string): string => join(programs, name);

/** Upstream's etcd and API server on loopback, with an administrator's connection. */
export interface Peer {
  /** URL of its etcd. */
  etcd: string;
  connection: Connection;
  /** The authority that signed its certificate, and the administrator's own. */
  tls: { ca: string; cert: string; key: string };
  /** A kubeconfig (JSON) of the administrator. */
  kubeconfig: string;
  stop(): Promise<void>;
}

const freePort = (): Promise<number> =>
  new Promise((resolve, reject) => {
    const server = createServer();
    server.on('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number };
      server.close(() => resolve(port));
    });
  });

function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve();
  return new Promise((resolve) => child.once('exit', () => resolve()));
}

/** Starts upstream's control plane as a user would with its defaults, over a fresh etcd in a folder of its own; `flags` are its API server's. */
export async function startPeer(flags: string[] = [], runtimeConfig = 'api/all=true'): Promise<Peer> {
  const dir = mkdtempSync(join(tmpdir(), 'kumulus-peer-'));
  const children: ChildProcess[] = [];
  const stop = async () => {
    for (const child of children.reverse()) {
      child.kill('SIGTERM');
      const forced = setTimeout(() => child.kill('SIGKILL'), 10_000);
      await ended(child);
      clearTimeout(forced);
    }
    rmSync(dir, { recursive: true, force: true });
  };
  const write = (name: string, text: string): string => {
    const path = join(dir, name);
    writeFileSync(path, text, { mode: 0o600 });
    return path;
  };
  const start = (name: string, ...args: string[]): ChildProcess => {
    const child = spawn(join(programs, name), args, { cwd: dir, stdio: ['ignore', 'ignore', 'pipe'] });
    let log = '';
    child.stderr.on('data', (chunk: Buffer) => {
      log = (log + chunk.toString()).slice(-20_000);
      writeFileSync(join(dir, `${name}.log`), log);
    });
    children.push(child);
    return child;
  };
  try {
    const [etcd, etcdPeer, api] = await Promise.all([freePort(), freePort(), freePort()]);
    const authority = await createTestAuthority();
    const serving = await authority.issue({ commonName: 'kube-apiserver', hosts: ['localhost'], addresses: ['127.0.0.1'], server: true });
    const admin = await authority.issue({ commonName: 'kubernetes-admin', organizations: ['system:masters'] });
    const keys = generateKeyPairSync('ec', {
      namedCurve: 'P-256',
      publicKeyEncoding: { type: 'spki', format: 'pem' },
      privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
    });
    const url = `http://127.0.0.1:${etcd}`;
    const between = `http://127.0.0.1:${etcdPeer}`;
    start(
      'etcd',
      ...['--name=peer', `--data-dir=${join(dir, 'etcd')}`, '--log-level=warn', '--unsafe-no-fsync'],
      ...[`--listen-client-urls=${url}`, `--advertise-client-urls=${url}`, `--listen-peer-urls=${between}`],
      ...[`--initial-advertise-peer-urls=${between}`, `--initial-cluster=peer=${between}`],
    );
    const server = start(
      'kube-apiserver',
      ...[`--etcd-servers=${url}`, '--bind-address=127.0.0.1', '--advertise-address=127.0.0.1', `--secure-port=${api}`],
      ...['--endpoint-reconciler-type=none', `--runtime-config=${runtimeConfig}`, '--service-cluster-ip-range=10.96.0.0/16', '--authorization-mode=Node,RBAC'],
      ...['--enable-admission-plugins=NodeRestriction', '--service-account-issuer=https://kubernetes.default.svc'],
      `--tls-cert-file=${write('serving.crt', serving.cert)}`,
      `--tls-private-key-file=${write('serving.key', serving.key)}`,
      `--client-ca-file=${write('ca.crt', authority.cert)}`,
      `--service-account-key-file=${write('sa.pub', keys.publicKey)}`,
      `--service-account-signing-key-file=${write('sa.key', keys.privateKey)}`,
      ...flags,
    );
    const address = `https://127.0.0.1:${api}`;
    const connection = new Connection(address, { ca: authority.cert, ...admin });
    for (;;) {
      if (server.exitCode !== null) throw new Error(`kube-apiserver ended:\n${readFileSync(join(dir, 'kube-apiserver.log'), 'utf8').slice(-3000)}`);
      const ready = await connection.send({ method: 'GET', path: '/readyz' }).catch(() => undefined);
      if (ready?.status === 200) break;
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
    const base64 = (text: string) => Buffer.from(text).toString('base64');
    const kubeconfig = JSON.stringify({
      apiVersion: 'v1',
      kind: 'Config',
      clusters: [{ name: 'test', cluster: { server: address, 'certificate-authority-data': base64(authority.cert) } }],
      users: [{ name: 'user', user: { 'client-certificate-data': base64(admin.cert), 'client-key-data': base64(admin.key) } }],
      contexts: [{ name: 'test', context: { cluster: 'test', user: 'user' } }],
      'current-context': 'test',
    });
    return {
      etcd: url,
      connection,
      tls: { ca: authority.cert, ...admin },
      kubeconfig,
      stop: async () => {
        connection.close();
        await stop();
      },
    };
  } catch (error) {
    await stop();
    throw error;
  }
}
