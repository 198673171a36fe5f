import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { pino } from 'pino';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Cgroups } from './cgroups.ts';

/** A node with real containers in namespaces of its own, see testing/real-node.ts. Needs root, conmon, and crun or runc. */
const id = randomBytes(3).toString('hex');
const namespace = `kumulus-kubelet-${id}`;
let child: ChildProcess | undefined;
let ended: Promise<number | null> | undefined;
const ip = (...words: string[]) => execFileSync('ip', words, { stdio: ['ignore', 'pipe', 'inherit'] });

beforeAll(() => {
  if (process.getuid?.() !== 0) throw new Error('tests with real containers make namespaces and mounts: run them as root');
  ip('netns', 'add', namespace);
  ip('-n', namespace, 'link', 'set', 'lo', 'up');
  // A way out, as every node has one; nothing answers there.
  ip('-n', namespace, 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', 'eth1');
  for (const end of ['eth0', 'eth1']) ip('-n', namespace, 'link', 'set', end, 'up');
  ip('-n', namespace, 'address', 'add', '192.0.2.1/24', 'dev', 'eth0');
  ip('-n', namespace, 'route', 'add', 'default', 'via', '192.0.2.2');
});
afterAll(async () => {
  // Its first process takes all others, and all mounts, along.
  child?.kill('SIGKILL');
  await ended;
  ip('netns', 'delete', namespace);
  await new Cgroups(pino({ level: 'silent' }), `/kumulus-kubelet-${id}`).remove();
  await rm(join(tmpdir(), `kumulus-kubelet-${id}`), { recursive: true, force: true });
});

interface Check {
  name: string;
  ok: boolean;
  ms: number;
  error: string;
}

test('pods live and die as real containers', { timeout: 180_000 }, async () => {
  // The shell waits for orphans, as a first process must.
  const run = `"${process.execPath}" --disable-warning=ExperimentalWarning "${join(import.meta.dirname, 'testing/real-node.ts')}" ${id}; exit $?`;
  const words = [
    `--net=/run/netns/${namespace}`,
    'unshare',
    '--mount',
    '--propagation',
    'private',
    '--pid',
    '--fork',
    '--kill-child',
    '--mount-proc',
  ];
  child = spawn('nsenter', [...words, 'bash', '-c', run], { stdio: ['ignore', 'pipe', 'inherit'] });
  ended = new Promise((resolve) => child!.once('close', resolve));
  const checks: Check[] = [];
  createInterface({ input: child.stdout! }).on('line', (line) => {
    if (line.startsWith('{"name"')) checks.push(JSON.parse(line) as Check);
  });
  const code = await ended;
  expect(checks.filter((c) => !c.ok).map((c) => `${c.name}: ${c.error}`)).toEqual([]);
  expect(checks.map((c) => c.name)).toHaveLength(11);
  expect(code).toBe(0);
});
