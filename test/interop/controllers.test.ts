import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { resources } from '../../src/api/generated/resources.ts';
import { startTestServer } from '../../src/apiserver/testing.ts';
import type { Client } from '../../src/client/client.ts';
import { systemClock } from '../../src/client/clock.ts';
import { createHttpClient } from '../../src/client/http.ts';
import { createInformerFactory } from '../../src/client/informers.ts';
import { loadKubeconfig } from '../../src/client/kubeconfig.ts';
import { createEventRecorder } from '../../src/client/recorder.ts';
import { controllers } from '../../src/controllers/index.ts';
import { compared, namespace, playNodes, steps } from './controller-scenario.ts';
import { eventReasons, rest, snapshot } from './controller-snapshot.ts';
import { missingPeers, programPath, startPeer } from './peer.ts';

const missing = missingPeers('kube-controller-manager');
if (missing) console.warn(`skipped, the comparison with upstream's controller-manager: ${missing}`);

interface Side {
  client: Client;
  informers: ReturnType<typeof createInformerFactory>;
  stop(): Promise<void>;
}

const log = pino({ level: process.env['KUMULUS_TEST_LOG'] ?? 'silent' });

interface ApiServer {
  client: Client;
  kubeconfig: string;
  stop(): Promise<void>;
}

async function ourServer(): Promise<ApiServer> {
  const server = await startTestServer();
  const client = server.localClient({ name: 'kubernetes-admin', groups: ['system:masters'] });
  return { client, kubeconfig: server.kubeconfig(server.admin), stop: () => server.stop(0) };
}

async function theirServer(): Promise<ApiServer> {
  const peer = await startPeer();
  const file = join(mkdtempSync(join(tmpdir(), 'kumulus-peer-')), 'kubeconfig');
  writeFileSync(file, peer.kubeconfig, { mode: 0o600 });
  const client = createHttpClient(loadKubeconfig({ path: file }).config);
  return {
    client,
    kubeconfig: peer.kubeconfig,
    async stop() {
      client.close();
      rmSync(dirname(file), { recursive: true, force: true });
      await peer.stop();
    },
  };
}

/** An API server on which somebody's controllers are at work and nodes are played. */
async function startSide(
  startServer: () => Promise<ApiServer>,
  startControllers: (server: ApiServer, signal: AbortSignal) => () => Promise<void>,
): Promise<Side> {
  const server = await startServer();
  const controller = new AbortController();
  const { client } = server;
  await client.create(resources.serviceaccounts, { metadata: { namespace, name: 'default' } } as never);
  const informers = createInformerFactory(client, { log, clock: systemClock, signal: controller.signal });
  const stopControllers = startControllers(server, controller.signal);
  playNodes(client, informers);
  return {
    client,
    informers,
    async stop() {
      controller.abort(new Error('the comparison is over'));
      await stopControllers();
      await server.stop();
    },
  };
}

const ours = (startServer: () => Promise<ApiServer>) =>
  startSide(startServer, ({ client }, signal) => {
    const informers = createInformerFactory(client, { log, clock: systemClock, signal });
    const events = createEventRecorder(client, { component: 'kube-controller-manager', clock: systemClock, log });
    const context = { client, informers, clock: systemClock, events, log, signal };
    for (const { name, start } of controllers) if (compared.includes(name)) start(context, {} as never);
    return async () => {};
  });

const theirs = (startServer: () => Promise<ApiServer>) =>
  startSide(startServer, (server) => {
    const folder = mkdtempSync(join(tmpdir(), 'kumulus-peer-'));
    const kubeconfig = join(folder, 'kubeconfig');
    writeFileSync(kubeconfig, server.kubeconfig, { mode: 0o600 });
    const flags = ['--leader-elect=false', '--secure-port=0', '--kube-api-qps=500', '--kube-api-burst=500', `--controllers=${compared.join(',')}`];
    const child = spawn(programPath('kube-controller-manager'), [`--kubeconfig=${kubeconfig}`, ...flags], { stdio: ['ignore', 'ignore', 'pipe'] });
    let told = '';
    child.stderr.on('data', (chunk: Buffer) => {
      told = (told + chunk.toString()).slice(-200_000);
    });
    return async () => {
      const ended = new Promise((resolve) => child.once('exit', resolve));
      if (child.exitCode === null) {
        child.kill('SIGTERM');
        await ended;
      }
      if (process.env['KUMULUS_INTEROP_REPORT']) writeFileSync(`${process.env['KUMULUS_INTEROP_REPORT']}.log`, told);
      rmSync(folder, { recursive: true, force: true });
    };
  });

/** Paths at which two normalized objects differ. */
function differing(a: any, b: any, path = ''): string[] {
  if (JSON.stringify(a) === JSON.stringify(b)) return [];
  if (a && b && typeof a === 'object' && typeof b === 'object' && Array.isArray(a) === Array.isArray(b)) {
    const keys = [...new Set([...Object.keys(a), ...Object.keys(b)])];
    return keys.flatMap((key) => differing(a[key], b[key], `${path}.${key}`));
  }
  return [`${path}: ours ${JSON.stringify(a)}, upstream's ${JSON.stringify(b)}`];
}

/** Where ours have come to something else. */
function differences(ours: Record<string, unknown>, theirs: Record<string, unknown>): string[] {
  return [...new Set([...Object.keys(ours), ...Object.keys(theirs)])].sort().flatMap((key) => {
    if (ours[key] === undefined) return [`${key}: only upstream's have it`];
    if (theirs[key] === undefined) return [`${key}: only ours have it`];
    return differing(ours[key], theirs[key]).map((d) => `${key}${d}`);
  });
}

/** The same is done to all; when the controllers rest, all must have made the same of it. */
describe.skipIf(missing)('controllers come to what upstream’s come to', () => {
  const sides: { title: string; side: Side }[] = [];
  const report: string[] = [];
  beforeAll(async () => {
    const starting: [string, Promise<Side>][] = [
      ["upstream's controllers on our API server", theirs(ourServer)],
      ['our controllers on our API server', ours(ourServer)],
    ];
    if (!missingPeers('etcd', 'kube-apiserver')) starting.push(["our controllers on upstream's API server", ours(theirServer)]);
    for (const [title, side] of starting) sides.push({ title, side: await side });
  }, 120_000);
  afterAll(async () => {
    await Promise.all(sides.map(({ side }) => side.stop()));
    const file = process.env['KUMULUS_INTEROP_REPORT'];
    if (file) writeFileSync(file, report.join('\n'));
  });

  test.each(steps.map((s) => [s.title, s] as const))('%s', async (title, step) => {
    await Promise.all(sides.map(({ side }) => step.act(side.client)));
    await Promise.all(sides.map(({ side }) => rest(side.informers, 4000, 90_000)));
    const [reference, ...others] = await Promise.all(sides.map(({ side }) => snapshot(side.client)));
    const found = others.flatMap((shown, i) => differences(shown, reference!).map((d) => `${sides[i + 1]!.title}: ${d}`));
    report.push(`== ${title}: ${Object.keys(reference!).length} objects`, ...found);
    expect(found).toEqual([]);
    const [told, ...toldByOthers] = await Promise.all(sides.map(({ side }) => eventReasons(side.client)));
    for (const [i, events] of toldByOthers.entries()) expect(events, sides[i + 1]!.title).toEqual(told);
  }, 200_000);
});
