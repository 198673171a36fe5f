import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterAll, describe, expect, test } from 'vitest';
import { resources } from '../../src/api/generated/resources.ts';
import { startTestServer } from '../../src/apiserver/testing.ts';
import type { Client } from '../../src/client/client.ts';
import { systemClock } from '../../src/client/clock.ts';
import { createInformerFactory } from '../../src/client/informers.ts';
import { createEventRecorder } from '../../src/client/recorder.ts';
import { controllers } from '../../src/controllers/index.ts';
import { compared, namespace, playNodes, steps } from './controller-scenario.ts';
import { rest, snapshot } from './controller-snapshot.ts';
import { missingPeers, programPath } from './peer.ts';

const missing = missingPeers('kube-controller-manager');
if (missing) console.warn(`skipped, the comparison with upstream's controller-manager: ${missing}`);

interface Side {
  client: Client;
  informers: ReturnType<typeof createInformerFactory>;
  stop(): Promise<void>;
}

const log = pino({ level: process.env['KUMULUS_TEST_LOG'] ?? 'silent' });

/** An API server of ours, on which somebody's controllers are at work and nodes are played. */
async function startSide(startControllers: (server: Awaited<ReturnType<typeof startTestServer>>, signal: AbortSignal) => () => Promise<void>): Promise<Side> {
  const server = await startTestServer();
  const controller = new AbortController();
  const client = server.localClient({ name: 'kubernetes-admin', groups: ['system:masters'] });
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
      await server.stop(0);
    },
  };
}

const ours = () =>
  startSide((server, signal) => {
    const client = server.localClient({ name: 'system:kube-controller-manager', groups: ['system:masters'] });
    const informers = createInformerFactory(client, { log, clock: systemClock, signal });
    const events = createEventRecorder(client, { component: 'kube-controller-manager', clock: systemClock, log });
    const context = { client, informers, clock: systemClock, events, log, signal };
    for (const { name, start } of controllers) if (compared.includes(name)) start(context, {} as never);
    return async () => {};
  });

const theirs = () =>
  startSide((server) => {
    const folder = mkdtempSync(join(tmpdir(), 'kumulus-peer-'));
    const kubeconfig = join(folder, 'kubeconfig');
    writeFileSync(kubeconfig, server.kubeconfig(server.admin), { mode: 0o600 });
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

/** The same is done to both; when the controllers rest, both must have made the same of it. */
describe.skipIf(missing)('controllers come to what upstream’s come to', () => {
  const sides: Side[] = [];
  const report: string[] = [];
  afterAll(async () => {
    await Promise.all(sides.map((s) => s.stop()));
    const file = process.env['KUMULUS_INTEROP_REPORT'];
    if (file) writeFileSync(file, report.join('\n'));
  });

  test.each(steps.map((s) => [s.title, s] as const))('%s', async (title, step) => {
    if (!sides.length) sides.push(...(await Promise.all([ours(), theirs()])));
    await Promise.all(sides.map(({ client }) => step.act(client)));
    await Promise.all(sides.map(({ informers }) => rest(informers, 4000, 90_000)));
    const [a, b] = await Promise.all(sides.map(({ client }) => snapshot(client)));
    const found = [...new Set([...Object.keys(a!), ...Object.keys(b!)])].sort().flatMap((key) => {
      if (a![key] === undefined) return [`${key}: only upstream's have it`];
      if (b![key] === undefined) return [`${key}: only ours have it`];
      return differing(a![key], b![key]).map((d) => `${key}${d}`);
    });
    report.push(`== ${title}: ${Object.keys(a!).length} objects`, ...found);
    expect(found).toEqual([]);
  }, 200_000);
});
