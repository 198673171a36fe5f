/**
 * Times and memory of clusters in one process. `node bin/node24.js test/bench/sdk.ts [--nodes N] [--parallel N] [--upstream]`
 * Each figure is of a fresh process, from its first statement; `--upstream` runs etcd and kube-apiserver beside it, where they are in
 * ~/.cache/kumulus-tools/bin or in PATH.
 */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
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
const at = () => Math.round(performance.now() - start);
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
const last = (key) => Math.max(...all.map((one) => one[key]));
console.log(JSON.stringify({ imported, api: last('api'), ready: last('ready'), pod: last('pod'), stop: Math.round(performance.now() - ended), rss }));
`;

function measure(nodes: number, parallel: number): Record<string, number> {
  const ran = spawnSync(process.execPath, ['--input-type=module', '-e', program(nodes, parallel)], { cwd: root, encoding: 'utf8' });
  if (ran.status !== 0) throw new Error(ran.stderr);
  return JSON.parse(ran.stdout);
}

const show = (title: string, m: Record<string, number>) =>
  console.log(
    `${title}: loaded ${m['imported']} ms, API ready ${m['api']} ms, nodes Ready ${m['ready']} ms, pod Ready ${m['pod']} ms, stopped in ${m['stop']} ms, ${m['rss']} MB`,
  );

/** Milliseconds until kube-apiserver on etcd answers /readyz. */
async function upstream(): Promise<number | undefined> {
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
  const start = performance.now();
  const children = [
    spawn(
      etcd,
      [
        `--data-dir=${join(folder, 'etcd')}`,
        '--listen-client-urls=http://127.0.0.1:42379',
        '--advertise-client-urls=http://127.0.0.1:42379',
        '--listen-peer-urls=http://127.0.0.1:42380',
      ],
      { stdio: 'ignore' },
    ),
    spawn(
      apiserver,
      [
        '--etcd-servers=http://127.0.0.1:42379',
        '--bind-address=127.0.0.1',
        '--secure-port=46443',
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
      const answer = await fetch('https://127.0.0.1:46443/readyz').catch(() => undefined);
      if (answer?.status === 200) return Math.round(performance.now() - start);
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
  console.log(took === undefined ? 'upstream: etcd and kube-apiserver are not here' : `upstream: etcd and kube-apiserver ready after ${took} ms`);
}
