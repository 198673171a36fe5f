/**
 * The API server against upstream's etcd + kube-apiserver, one after the other on the same machine, as ratios.
 *
 *     npm run bench [-- --quick | --large]
 *
 * --quick takes a fifth of everything; --large adds the memory with 100,000 objects. Ours runs as its users run it, upstream's with its own defaults.
 *
 * Needs a load generator for any Kubernetes API server (`loadgen` in PATH or $KUMULUS_LOADGEN: verbs create, get, list, watch,
 * delete; one JSON object a measurement) and, for the ratios, a script that starts upstream's programs
 * (`peer-control-plane start|stop|usage DIR etcd apiserver` in PATH or $KUMULUS_PEER). Without the script ours alone is measured.
 */
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { findProgram } from '../../src/cluster/preflight.ts';

const quick = process.argv.includes('--quick');
const large = process.argv.includes('--large');
const tools = process.env['KUMULUS_TOOLS'] ?? join(homedir(), '.cache/kumulus-tools');
const builtLoadgen = join(tools, 'bin/loadgen');
const loadgen = process.env['KUMULUS_LOADGEN'] ?? (existsSync(builtLoadgen) ? builtLoadgen : findProgram('loadgen'));
const peer = process.env['KUMULUS_PEER'] ?? findProgram('peer-control-plane');
const repository = join(import.meta.dirname, '../..');
const folder = mkdtempSync(join(tmpdir(), 'kumulus-bench-'));
if (!loadgen) throw new Error('no load generator: put loadgen in PATH or name it in KUMULUS_LOADGEN');

interface Side {
  name: string;
  server: string;
  cert: string;
  key: string;
  ca: string;
  /** Milliseconds from its start to a ready API. */
  readyMs: number;
  /** Resident memory, MiB, of all its processes. */
  memory(): number;
  stop(): void;
}

const residentMiB = (pid: number) => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) / 1024;

function request(side: Pick<Side, 'server' | 'cert' | 'key' | 'ca'>, verb: string, flags: string[]): Record<string, any> {
  const args = [verb, '--server', side.server, '--cert', side.cert, '--key', side.key, '--ca', side.ca, ...flags];
  const ran = spawnSync(loadgen as string, args, { encoding: 'utf8', timeout: 900_000 });
  if (ran.status !== 0) throw new Error(`loadgen ${verb} ${flags.join(' ')}: ${ran.stderr}`);
  return JSON.parse(ran.stdout.trim().split('\n').at(-1) as string);
}

/** Starts `kumulus apiserver`, as its users do, and waits for it to be ready. */
async function launch(): Promise<ChildProcess> {
  const child: ChildProcess = spawn(process.execPath, [join(repository, 'bin/kumulus.js'), 'apiserver', '--secure-port', '26443', '--data-dir', folder], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await new Promise<void>((resolve, reject) => {
    child.stdout?.on('data', (text) => /ready on/.test(String(text)) && resolve());
    child.on('exit', (code) => reject(new Error(`the API server ended with ${code}`)));
  });
  return child;
}

async function startOurs(): Promise<Side> {
  // The first start makes keys, and compiles what later ones find compiled.
  const first = await launch();
  await new Promise((resolve) => setTimeout(resolve, 6000));
  const ended = new Promise((resolve) => first.once('exit', resolve));
  first.kill('SIGTERM');
  await ended;
  for (const name of readdirSync(folder)) if (name !== 'pki') rmSync(join(folder, name), { recursive: true });
  const started = Date.now();
  const child = await launch();
  const readyMs = Date.now() - started;
  const pki = join(folder, 'pki');
  return {
    name: 'kumulus',
    server: 'https://127.0.0.1:26443',
    cert: join(pki, 'admin.crt'),
    key: join(pki, 'admin.key'),
    ca: join(pki, 'ca.crt'),
    readyMs,
    memory: () => residentMiB(child.pid as number),
    stop: () => void child.kill('SIGKILL'),
  };
}

function startUpstream(): Side {
  const directory = join(folder, 'peer');
  // The first start makes keys, which is not the server's time.
  execFileSync(peer as string, ['start', directory, 'etcd', 'apiserver'], { stdio: 'ignore' });
  execFileSync(peer as string, ['stop', directory], { stdio: 'ignore' });
  rmSync(join(directory, 'etcd'), { recursive: true, force: true });
  const started = Date.now();
  execFileSync(peer as string, ['start', directory, 'etcd', 'apiserver'], { stdio: 'ignore' });
  const readyMs = Date.now() - started;
  return {
    name: 'upstream',
    server: 'https://127.0.0.1:16443',
    cert: join(directory, 'admin.crt'),
    key: join(directory, 'admin.key'),
    ca: join(directory, 'ca.crt'),
    readyMs,
    memory: () => ['etcd', 'apiserver'].reduce((sum, part) => sum + residentMiB(Number(readFileSync(join(directory, `${part}.pid`), 'utf8'))), 0),
    stop: () => void execFileSync(peer as string, ['stop', directory], { stdio: 'ignore' }),
  };
}

const scale = quick ? 0.2 : 1;
const count = (n: number) => String(Math.round(n * scale));
const largeStore: [string, (side: Side) => number] = [
  'memory with 100,000 configmaps, MiB',
  (s) => {
    request(s, 'create', ['--ns', 'large', '--n', '100000', '--conc', '16']);
    return s.memory();
  },
];
/** What is measured: more is better, but for what ends in "ms" or "MiB". */
const measurements: [string, (side: Side) => number][] = [
  ['time to ready, ms', (s) => s.readyMs],
  ['memory empty, MiB', (s) => s.memory()],
  ['create pods/s, 1 client', (s) => request(s, 'create', ['--ns', 'bench', '--resource', 'pods', '--prefix', 'one', '--n', count(1000)])['per_s']],
  [
    'create pods/s, 16 clients',
    (s) => request(s, 'create', ['--ns', 'bench', '--resource', 'pods', '--prefix', 'many', '--n', count(4000), '--conc', '16'])['per_s'],
  ],
  [`memory with ${count(5000)} pods, MiB`, (s) => s.memory()],
  ['get pods/s, 16 clients', (s) => request(s, 'get', ['--ns', 'bench', '--resource', 'pods', '--n', count(10_000), '--conc', '16'])['per_s']],
  [`list of ${count(5000)} pods/s, JSON`, (s) => request(s, 'list', ['--ns', 'bench', '--n', count(50)])['per_s']],
  [`list of ${count(5000)} pods/s, protobuf`, (s) => request(s, 'list', ['--ns', 'bench', '--n', count(50), '--accept', 'proto'])['per_s']],
  [
    'patch configmaps/s',
    (s) => {
      request(s, 'create', ['--ns', 'bench', '--resource', 'configmaps', '--prefix', 'cm', '--n', '100']);
      return request(s, 'patch', ['--ns', 'bench', '--resource', 'configmaps', '--n', count(2000), '--conc', '4'])['per_s'];
    },
  ],
  ...([100, 1000] as const).map((watchers): [string, (side: Side) => number] => [
    `watch events/s to ${watchers} watchers`,
    (s) => {
      const answer = request(s, 'watch', ['--ns', 'watch', '--watchers', String(watchers), '--n', count(watchers === 100 ? 500 : 100)]);
      return answer['deliveries_per_s'] ?? answer['per_s'];
    },
  ]),
  ['memory after all this, MiB', (s) => s.memory()],
  [`delete collection of ${count(5000)} pods, ms`, (s) => request(s, 'delete', ['--ns', 'bench'])['call_secs'] * 1000],
  ...(large ? [largeStore] : []),
];

const sides: Side[] = [];
try {
  const results: Record<string, number>[] = [];
  for (const start of peer ? [startOurs, startUpstream] : [startOurs]) {
    const side = await start();
    sides.push(side);
    for (const ns of ['bench', 'watch', 'large']) {
      const answer = spawnSync(
        'curl',
        [
          '-sS',
          '-o',
          '/dev/null',
          '-w',
          '%{http_code}',
          '--cacert',
          side.ca,
          '--cert',
          side.cert,
          '--key',
          side.key,
          '-H',
          'content-type: application/json',
          '-d',
          JSON.stringify({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: ns } }),
          `${side.server}/api/v1/namespaces`,
        ],
        { encoding: 'utf8' },
      );
      if (answer.stdout !== '201') throw new Error(`cannot make namespace ${ns} on ${side.name}: ${answer.stdout} ${answer.stderr}`);
    }
    const result: Record<string, number> = {};
    for (const [title, measure] of measurements) {
      result[title] = measure(side);
      console.error(`${side.name}: ${title}: ${Math.round(result[title] * 10) / 10}`);
    }
    results.push(result);
    side.stop();
  }
  const [ours, theirs] = results;
  console.log(`| | kumulus |${theirs ? ' upstream | ratio |' : ''}\n|---|---|${theirs ? '---|---|' : ''}`);
  for (const [title] of measurements) {
    const [a, b] = [ours?.[title] ?? 0, theirs?.[title]];
    console.log(
      `| ${title} | ${Math.round(a * 10) / 10} |${b === undefined ? '' : ` ${Math.round(b * 10) / 10} | ${(/ms$|MiB$/.test(title) ? b / a : a / b).toFixed(1)} |`}`,
    );
  }
} finally {
  for (const side of sides) {
    try {
      side.stop();
    } catch {
      // Was stopped before.
    }
  }
  rmSync(folder, { recursive: true, force: true });
}
