/**
 * Times, processor time and memory of clusters in one process. `node bin/node24.js test/bench/sdk.ts [--nodes N] [--parallel N] [--upstream]`
 * Each figure is of a fresh process, from its first statement; `--upstream` runs etcd and kube-apiserver beside it, where they are in
 * ~/.cache/kumulus-tools/bin or in PATH.
 */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';

const root = join(import.meta.dirname, '../..');
const { values } = parseArgs({
  options: {
    nodes: { type: 'string', default: '1' },
    parallel: { type: 'string', default: '10' },
    upstream: { type: 'boolean' },
    dist: { type: 'boolean' },
  },
});
const sdk = JSON.stringify(join(root, values.dist ? 'dist/index.js' : 'src/index.ts'));

const program = (nodes: number, parallel: number) => `
const start = performance.now();
const at = () => {
  const { user, system } = process.cpuUsage();
  return [Math.round(performance.now() - start), Math.round((user + system) / 1000)];
};
const { startCluster } = await import(${sdk});
const imported = at();
const one = async () => {
  const cluster = await startCluster({ simulatedNodes: ${nodes}, waitForNodes: false });
  const api = at();
  await cluster.eventually('nodes', async () => {
    const found = await cluster.list('Node');
    return found.length === ${nodes} && found.every((n) => n.status.conditions.some((c) => c.type === 'Ready' && c.status === 'True') && !n.spec.taints?.length);
  }, { timeoutMs: 120000 });
  const ready = at();
  await cluster.apply({ apiVersion: 'v1', kind: 'Pod', metadata: { name: 'p' }, spec: { containers: [{ name: 'c', image: 'i' }] } });
  await cluster.waitFor('pod/p', 'ready');
  return { cluster, api, ready, pod: at() };
};
const all = await Promise.all(Array.from({ length: ${parallel} }, one));
const rss = Math.round(process.memoryUsage().rss / 1e6);
const ended = performance.now();
await Promise.all(all.map((one) => one.cluster.stop()));
const last = (key) => all.map((one) => one[key]).sort((a, b) => b[0] - a[0])[0];
console.log(JSON.stringify({ imported, api: last('api'), ready: last('ready'), pod: last('pod'), stop: Math.round(performance.now() - ended), rss }));
`;

/** Milliseconds since the process began its work, and of processor time since it began. */
type Moment = [wall: number, cpu: number];
interface Measured {
  imported: Moment;
  api: Moment;
  ready: Moment;
  pod: Moment;
  /** Milliseconds. */
  stop: number;
  /** Megabytes. */
  rss: number;
}

function measure(nodes: number, parallel: number): Measured {
  const ran = spawnSync(process.execPath, ['--input-type=module', '-e', program(nodes, parallel)], { cwd: root, encoding: 'utf8' });
  if (ran.status !== 0) throw new Error(ran.stderr);
  return JSON.parse(ran.stdout);
}

const say = ([wall, cpu]: Moment) => `${wall} ms (${cpu} ms of processor time)`;
const show = (title: string, m: Measured) =>
  console.log(
    `${title}: loaded ${say(m.imported)}, API ready ${say(m.api)}, nodes Ready ${say(m.ready)}, pod Ready ${say(m.pod)}, stopped in ${m.stop} ms, ${m.rss} MB`,
  );

/** Processor milliseconds and resident megabytes of a process, as Linux tells them. */
function usage(pid: number | undefined): { cpu: number; rss: number } {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
  // In hundredths of a second, and in pages.
  return { cpu: (Number(fields[11]) + Number(fields[12])) * 10, rss: (Number(fields[21]) * 4096) / 1e6 };
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  return port;
}

/** When kube-apiserver on etcd answers /readyz, and what the two have used until then. */
async function upstream(): Promise<{ ready: Moment; rss: number } | undefined> {
  const find = (name: string) =>
    [join(homedir(), '.cache/kumulus-tools/bin', name), ...(process.env['PATH'] ?? '').split(':').map((d) => join(d, name))].find(existsSync);
  const [etcd, apiserver] = [find('etcd'), find('kube-apiserver')];
  if (!etcd || !apiserver) return undefined;
  const { ephemeralPki } = await import('../../src/cluster/pki.ts');
  const folder = mkdtempSync(join(tmpdir(), 'kumulus-bench-'));
  const pki = await ephemeralPki({ dnsNames: ['localhost'], ips: ['127.0.0.1'] });
  const file = (name: string, text: string) => {
    writeFileSync(join(folder, name), text, { mode: 0o600 });
    return join(folder, name);
  };
  const [cert, key, ca] = [file('tls.crt', pki.apiserver.cert), file('tls.key', pki.apiserver.key), file('ca.crt', pki.ca.cert)];
  const [sa, saPub] = [file('sa.key', pki.serviceAccount.privateKey), file('sa.pub', pki.serviceAccount.publicKey)];
  const [client, peer, secure] = [await freePort(), await freePort(), await freePort()];
  const start = performance.now();
  const children = [
    spawn(
      etcd,
      [
        `--data-dir=${join(folder, 'etcd')}`,
        `--listen-client-urls=http://127.0.0.1:${client}`,
        `--advertise-client-urls=http://127.0.0.1:${client}`,
        `--listen-peer-urls=http://127.0.0.1:${peer}`,
      ],
      { stdio: 'ignore' },
    ),
    spawn(
      apiserver,
      [
        `--etcd-servers=http://127.0.0.1:${client}`,
        '--bind-address=127.0.0.1',
        `--secure-port=${secure}`,
        `--tls-cert-file=${cert}`,
        `--tls-private-key-file=${key}`,
        `--client-ca-file=${ca}`,
        '--service-account-issuer=https://kubernetes.default.svc',
        `--service-account-signing-key-file=${sa}`,
        `--service-account-key-file=${saPub}`,
        '--service-cluster-ip-range=10.96.0.0/16',
        '--authorization-mode=RBAC',
      ],
      { stdio: 'ignore' },
    ),
  ];
  try {
    process.env['NODE_TLS_REJECT_UNAUTHORIZED'] = '0';
    for (;;) {
      const answer = await fetch(`https://127.0.0.1:${secure}/readyz`).catch(() => undefined);
      if (answer?.status === 200) {
        const wall = Math.round(performance.now() - start);
        const used = children.map((child) => usage(child.pid));
        const sum = (key: 'cpu' | 'rss') => Math.round(used.reduce((total, one) => total + one[key], 0));
        return { ready: [wall, sum('cpu')], rss: sum('rss') };
      }
      if (performance.now() - start > 120_000) throw new Error('kube-apiserver was not ready within 120 s');
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  } finally {
    for (const child of children) child.kill('SIGKILL');
    rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
  }
}

const nodes = Number(values.nodes);
show(`one cluster, ${nodes} simulated node${nodes === 1 ? '' : 's'}`, measure(nodes, 1));
if (Number(values.parallel) > 1) show(`${values.parallel} clusters at once`, measure(nodes, Number(values.parallel)));
if (values.upstream) {
  const took = await upstream();
  console.log(
    took ? `upstream: etcd and kube-apiserver ready ${say(took.ready)}, ${took.rss} MB` : 'upstream: etcd and kube-apiserver are not here',
  );
}
