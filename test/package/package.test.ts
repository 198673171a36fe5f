/**
 * The package as its users have it: packed, installed into an empty folder, and used there by its command, its SDK, its types and the
 * example operator's tests. Needs npm's registry; the parts with instances need root.
 */
import { spawn } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { DescribeInstancesCommand, EC2Client, GetConsoleOutputCommand, RunInstancesCommand } from '@aws-sdk/client-ec2';
import { publint } from 'publint';
import { formatMessage } from 'publint/utils';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

const root = join(import.meta.dirname, '../..');
const folder = mkdtempSync(join(tmpdir(), 'kumulus-package-'));
const app = join(folder, 'app');
// A short path: Unix sockets are below it.
const state = mkdtempSync(join(tmpdir(), 'kum-'));
const unprivileged = 65534;
let tarball: string;

interface Ran {
  code: number | null;
  out: string;
  err: string;
}
function run(
  program: string,
  args: string[],
  o: { cwd?: string; env?: Record<string, string>; uid?: number; timeoutMs?: number } = {},
): Promise<Ran> {
  return new Promise((resolve) => {
    const child = spawn(program, args, {
      cwd: o.cwd ?? app,
      env: {
        PATH: `${dirname(process.execPath)}:${process.env['PATH']}`,
        HOME: process.env['HOME'] ?? '/',
        npm_config_update_notifier: 'false',
        NO_COLOR: '1',
        ...o.env,
      },
      timeout: o.timeoutMs ?? 240_000,
      ...(o.uid === undefined ? {} : { uid: o.uid, gid: o.uid }),
    });
    let out = '';
    let err = '';
    child.stdout.on('data', (chunk) => (out += chunk));
    child.stderr.on('data', (chunk) => (err += chunk));
    child.on('error', (error) => resolve({ code: -1, out, err: String(error) }));
    child.on('close', (code) => resolve({ code, out, err }));
  });
}
const must = async (ran: Promise<Ran>): Promise<string> => {
  const { code, out, err } = await ran;
  if (code !== 0) throw new Error(`exit code ${code}\n${out}\n${err}`);
  return out;
};
const install = (cwd: string, ...more: string[]) =>
  must(run('npm', ['install', '--no-audit', '--no-fund', '--prefer-offline', '--loglevel=error', tarball, ...more], { cwd }));

beforeAll(async () => {
  // Packed from a copy: packing puts another package.json into the place of the checkout's for a moment.
  const copy = join(folder, 'checkout');
  mkdirSync(copy);
  for (const name of ['bin', 'scripts', 'src', 'package.json', 'tsconfig.json', 'tsconfig.types.json', 'README.md'])
    cpSync(join(root, name), join(copy, name), { recursive: true });
  for (const name of ['infra', 'localstack'])
    if (existsSync(join(root, name, 'package.json'))) cpSync(join(root, name, 'package.json'), join(copy, name, 'package.json'));
  symlinkSync(join(root, 'node_modules'), join(copy, 'node_modules'));
  const [packed] = JSON.parse(await must(run('npm', ['pack', '--json', '--pack-destination', folder], { cwd: copy })));
  tarball = join(folder, packed.filename);
  mkdirSync(app);
  writeFileSync(join(app, 'package.json'), JSON.stringify({ name: 'app', private: true, type: 'module' }));
  await install(app);
  const installed = readdirSync(join(app, 'node_modules'), { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  const bytes = installed.reduce((sum, entry) => sum + statSync(join(entry.parentPath, entry.name)).size, 0);
  const packages = Object.keys(JSON.parse(readFileSync(join(app, 'package-lock.json'), 'utf8')).packages).filter((one) => one && existsSync(join(app, one)));
  const mb = (n: number) => `${(n / 1e6).toFixed(1)} MB`;
  console.log(
    `${packed.filename}: ${mb(packed.size)}, unpacked ${mb(packed.unpackedSize)}, ${packed.entryCount} files; installed ${packages.length} packages, ${mb(bytes)}`,
  );
}, 240_000);
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
  rmSync(state, { recursive: true, force: true });
});

describe('what is published', () => {
  const at = () => join(app, 'node_modules/kumulus');

  test('is bundled: no sources, no tests, and lmdb alone to be installed with it', () => {
    const files = readdirSync(at(), { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => relative(at(), join(entry.parentPath, entry.name)));
    const strange = files.filter((f) => !/^(bin\/\w+\.js|dist\/[\w-]+\.js|dist\/types\/.+\.d\.ts|package\.json|README\.md)$/.test(f));
    expect(strange).toEqual([]);
    const manifest = JSON.parse(readFileSync(join(at(), 'package.json'), 'utf8'));
    expect(Object.keys(manifest.dependencies)).toEqual(['lmdb']);
    expect(manifest.engines).toEqual({ node: '>=22.12' });
    for (const field of ['private', 'scripts', 'devDependencies', 'optionalDependencies', 'workspaces']) expect(manifest).not.toHaveProperty(field);
    // Every file that the manifest names is there.
    for (const { types, default: code } of [manifest.exports['.'], manifest.exports['./vitest']]) {
      expect(files).toContain(types.slice(2));
      expect(files).toContain(code.slice(2));
    }
  });

  test('publint finds nothing to say', async () => {
    const { messages, pkg } = await publint({ pkgDir: at(), pack: false, strict: true });
    expect(messages.map((message) => formatMessage(message, pkg))).toEqual([]);
  });

  test('names no module that is not there', () => {
    for (const name of readdirSync(join(at(), 'dist')).filter((f) => f.endsWith('.js'))) {
      const text = readFileSync(join(at(), 'dist', name), 'utf8');
      for (const [, specifier = ''] of text.matchAll(/(?:^|[;}\s])(?:import|export)[^'"()]{0,2000}?from"([^"]+)"/g)) {
        const known = specifier.startsWith('node:') || ['lmdb', 'vitest'].includes(specifier);
        if (!known) expect(existsSync(join(at(), 'dist', specifier)), `${name} imports ${specifier}`).toBe(true);
      }
    }
  });

  test('the command tells its version', async () => {
    expect(await must(run('npx', ['kumulus', 'version']))).toMatch(/^kumulus \d+\.\d+\.\d+ \(Kubernetes v1\.37\.\d+, Node\.js v/);
  });

  test('types resolve for nodenext and for bundlers', async () => {
    writeFileSync(
      join(app, 'use.ts'),
      `import { startCluster, type Cluster, type StartClusterOptions } from 'kumulus';
import { clusterTest, expect } from 'kumulus/vitest';
const options: StartClusterOptions = { simulatedNodes: 2, behaviours: [{ match: { image: 'nginx' }, readyAfterMs: 100 }] };
export async function use(): Promise<number> {
  await using cluster: Cluster = await startCluster(options);
  const deployment = await cluster.get('Deployment', 'web');
  await cluster.waitFor<typeof deployment>('deployment/web', (d) => d.status?.availableReplicas === 2);
  return deployment.spec.replicas ?? 1;
}
const test = clusterTest();
test('x', async ({ cluster, namespace }) => {
  await expect(cluster).toBecomeReady(\`deployment/\${namespace}/web\`, { timeoutMs: 1000 });
  // @ts-expect-error: a port is a number
  await expect(cluster).toHaveLoadBalancer('service/web', { ports: ['80'] });
});
// @ts-expect-error: no such option
await startCluster({ simulated: 3 });
`,
    );
    for (const name of ['vitest', '@types'])
      if (!existsSync(join(app, 'node_modules', name))) symlinkSync(join(root, 'node_modules', name), join(app, 'node_modules', name));
    for (const [module, moduleResolution] of [
      ['nodenext', 'nodenext'],
      ['esnext', 'bundler'],
    ]) {
      const words = [
        '--noEmit',
        '--strict',
        '--target',
        'es2024',
        '--lib',
        'es2024,esnext.disposable',
        '--module',
        module,
        '--moduleResolution',
        moduleResolution,
      ];
      await must(
        run(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), ...words, '--types', 'node', '--skipLibCheck', 'use.ts'] as string[]),
      );
    }
  });

  test('the SDK starts a cluster', async () => {
    writeFileSync(
      join(app, 'start.mjs'),
      `import { startCluster } from 'kumulus';
const cluster = await startCluster({ simulatedNodes: 2 });
await cluster.apply({ apiVersion: 'v1', kind: 'Pod', metadata: { name: 'p' }, spec: { containers: [{ name: 'c', image: 'i' }] } });
const pod = await cluster.waitFor('pod/p', 'ready');
console.log(pod.status.phase, (await cluster.aws.instances()).length);
await cluster.stop();
`,
    );
    expect(await must(run(process.execPath, ['start.mjs']))).toBe('Running 2\n');
  });

  test('an unprivileged user creates a cluster of simulated nodes, stops it, starts it and deletes it', { timeout: 240_000 }, async () => {
    const home = join(folder, 'home');
    mkdirSync(home, { mode: 0o777 });
    chmodSync(home, 0o777);
    chmodSync(folder, 0o755);
    // Where the tests' own Node lies, others may not look.
    const node = join(folder, 'node');
    copyFileSync(process.execPath, node);
    chmodSync(node, 0o755);
    const states = join(state, 'u');
    mkdirSync(states, { mode: 0o777 });
    chmodSync(state, 0o755);
    chmodSync(states, 0o777);
    const env = { HOME: home, XDG_STATE_HOME: states, KUBECONFIG: join(home, 'kubeconfig'), KUMULUS_COMPILE_CACHE: join(home, 'cache') };
    const root = process.getuid?.() === 0;
    const kumulus = (...args: string[]) =>
      must(run(node, [join(app, 'node_modules/kumulus/bin/kumulus.js'), ...args], { cwd: home, env, ...(root ? { uid: unprivileged } : {}) }));
    try {
      const created = JSON.parse(await kumulus('create', 'cluster', 'mine', '--simulated-nodes', '3', '-q', '-o', 'json'));
      expect(created.name).toBe('mine');
      expect(statSync(join(states, 'kumulus/mine/cluster.json')).uid).toBe(root ? unprivileged : process.getuid?.());
      const ready = async () => JSON.parse(await kumulus('get', 'nodes', '--name', 'mine', '-o', 'json')).map((n: any) => n.status);
      expect(await ready()).toEqual(['Ready', 'Ready', 'Ready']);
      await kumulus('stop', 'cluster', 'mine', '-q');
      await kumulus('start', 'cluster', 'mine', '-q');
      await expect.poll(ready, { timeout: 60_000 }).toEqual(['Ready', 'Ready', 'Ready']);
    } finally {
      await kumulus('delete', 'cluster', '--all', '-q');
    }
    expect(readdirSync(join(states, 'kumulus')).filter((f) => !f.endsWith('.lock'))).toEqual([]);
  });

  test('instances boot from it: the example is served through its load balancer', { timeout: 300_000 }, async () => {
    const env = {
      KUMULUS_STATE: join(state, 'r'),
      KUBECONFIG: join(folder, 'kubeconfig'),
      AWS_CONFIG_FILE: join(folder, 'aws-config'),
      AWS_SHARED_CREDENTIALS_FILE: join(folder, 'aws-credentials'),
    };
    try {
      const created = JSON.parse(
        await must(run('npx', ['kumulus', 'create', 'cluster', 'packed', '--nodes', '1', '--example', '-q', '-o', 'json'], { env })),
      );
      const page = await (await fetch(created.url)).text();
      expect(page).toContain('Hello from Kumulus');
      // A control plane on an instance needs what is not bundled, too.
      const credentials = JSON.parse(readFileSync(join(state, 'r/packed/aws/credentials.json'), 'utf8'));
      const ec2 = new EC2Client({ region: 'us-east-1', endpoint: created.awsEndpoint, credentials });
      const worker = (await ec2.send(new DescribeInstancesCommand({}))).Reservations?.[0]?.Instances?.[0];
      const script = `#!/bin/sh\ncd /opt/kumulus && /opt/kumulus-node/node -e 'require("lmdb"); console.log("lmdb was found")'\n`;
      const started = await ec2.send(
        new RunInstancesCommand({
          ImageId: worker?.ImageId as string,
          InstanceType: 't3.small',
          SubnetId: worker?.SubnetId as string,
          MinCount: 1,
          MaxCount: 1,
          UserData: Buffer.from(script).toString('base64'),
        }),
      );
      const InstanceId = started.Instances?.[0]?.InstanceId as string;
      const output = async () => Buffer.from((await ec2.send(new GetConsoleOutputCommand({ InstanceId }))).Output ?? '', 'base64').toString();
      await expect.poll(output, { timeout: 60_000 }).toContain('lmdb was found');
      ec2.destroy();
    } finally {
      await must(run('npx', ['kumulus', 'delete', 'cluster', '--all', '-q'], { env }));
    }
  });
});

test('the example operator is tested with it, as its README says', { timeout: 300_000 }, async () => {
  const operator = join(folder, 'operator');
  cpSync(join(root, 'examples/operator'), operator, { recursive: true, filter: (source) => !source.includes('node_modules') });
  await install(operator);
  await must(run('npm', ['run', 'check'], { cwd: operator }));
  const { code, out, err } = await run('npm', ['test'], { cwd: operator });
  expect(code, `${out}\n${err}`).toBe(0);
  expect(out).toMatch(/Tests\s+5 passed \(5\)/);
});
