import { spawn } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { destroyEverything, findLeavings, suspendEverything } from './dataplane.ts';
import { readIdentity } from './instance.ts';
import { preflight } from './preflight.ts';
import { MemoryCloud, TestHost, until } from './testing.ts';

let host: TestHost;
let cloud: MemoryCloud;

beforeEach(() => {
  host = new TestHost();
  cloud = new MemoryCloud();
});
afterEach(() => host.end());

const stateOf = (id: string) => cloud.state.instances.find((one) => one.InstanceId === id)?.State?.Name;
const leavings = async () => (await findLeavings()).filter((one) => one.clusterId === host.id || one.name.includes(host.directory));

/** A data plane in a process of its own, over a cloud whose instances are already there. */
const CHILD = `
import { pino } from 'pino';
import { startDataPlane } from ${JSON.stringify(join(import.meta.dirname, 'dataplane.ts'))};
import { MemoryCloud } from ${JSON.stringify(join(import.meta.dirname, 'testing.ts'))};
process.once('message', async ({ state, directory, id }) => {
  const cloud = new MemoryCloud();
  Object.assign(cloud.state, state);
  cloud.userData = async () => '#!/bin/sh\\necho once >>/srv/boots\\n';
  const plane = await startDataPlane({ source: cloud, reports: cloud, directory, id, packageRoot: ${JSON.stringify(join(import.meta.dirname, '../../..'))}, nodeBinary: process.execPath, log: pino({ level: 'silent' }) });
  await plane.idle();
  process.send(cloud.state.instances.map((one) => one.State.Name).join());
});
setInterval(() => {}, 1000);
`;

test('instances survive SIGKILL of their data plane, and the next one takes them over', async () => {
  const instance = cloud.launch();
  const other = cloud.launch();
  const script = join(host.directory, 'child.ts');
  await writeFile(script, CHILD.replaceAll("'pino'", JSON.stringify(import.meta.resolve('pino'))));
  const child = spawn(process.execPath, [script], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'], serialization: 'advanced' });
  try {
    const booted = new Promise((resolve) => child.once('message', resolve));
    child.send({ state: cloud.state, directory: host.directory, id: host.id });
    expect(await booted).toBe('running,running');
  } finally {
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGKILL');
    await ended;
  }
  const before = await readIdentity(join(host.directory, 'instances', instance.InstanceId));
  const metadata = 'curl -s -m 2 -o /dev/null -w "%{http_code}" http://169.254.169.254/latest/meta-data/';
  expect(await host.inside(instance.InstanceId, metadata)).toBe('401');

  for (const one of cloud.state.instances) one.State = { Name: 'running' };
  const plane = await host.start(cloud);
  await plane.idle();
  expect(await readIdentity(join(host.directory, 'instances', instance.InstanceId))).toEqual(before);
  expect(await host.inside(instance.InstanceId, `cat /srv/boots; ${metadata}; getent hosts ${other.PrivateDnsName} | cut -c1-9`)).toBe(
    'once\n40110.0.0.11\n',
  );
  process.kill(before!.pid, 'SIGKILL');
  await until('the next life', async () => (await readIdentity(join(host.directory, 'instances', instance.InstanceId)))?.pid !== before!.pid);
  cloud.setState(other.InstanceId, 'shutting-down');
  await until('terminated', () => stateOf(other.InstanceId) === 'terminated');
});

test('suspended instances boot again with their files; destroyEverything leaves nothing, twice', async () => {
  const instance = cloud.launch('#!/bin/sh\necho once >>/srv/boots\n');
  const plane = await host.start(cloud);
  await until('running', () => stateOf(instance.InstanceId) === 'running');
  const { VolumeId: volume } = cloud.addVolume(1);
  await until('available', () => cloud.state.volumes[0].State === 'available');
  cloud.attach(volume, instance.InstanceId, '/dev/xvdba');
  await until('attached', () => cloud.state.volumes[0].Attachments?.[0]?.State === 'attached');
  await until('user data done', async () => (await host.inside(instance.InstanceId, 'cat /srv/boots')) === 'once\n');
  expect(new Set((await leavings()).map((one) => one.kind))).toEqual(new Set(['network namespace', 'process', 'cgroup', 'loop device']));
  await plane.stop({ keepInstances: true });
  await suspendEverything({ directory: host.directory, id: host.id });
  expect(await leavings()).toEqual([]);
  expect(existsSync(join(host.directory, 'volumes', `${volume}.img`))).toBe(true);

  const next = await host.start(cloud);
  await until(
    'booted again',
    async () => (await host.inside(instance.InstanceId, 'cat /srv/boots; ls /dev/xvdba').catch(() => '')) === 'once\n/dev/xvdba\n',
  );
  expect(stateOf(instance.InstanceId)).toBe('running');
  await next.stop({ keepInstances: true });
  expect((await destroyEverything({ directory: host.directory, id: host.id })).length).toBeGreaterThan(3);
  expect(await leavings()).toEqual([]);
  expect(await destroyEverything({ directory: host.directory, id: host.id })).toEqual([]);
  expect(readdirSync('/run/netns').filter((name) => name.includes(host.id))).toEqual([]);
});

test('preflight finds this machine fit, and a state folder that cannot hold instances unfit', async () => {
  expect(await preflight(host.directory)).toEqual({ ok: true, problems: [] });
  const { problems } = await preflight('/etc/hostname/kumulus');
  expect(problems.join()).toMatch(/^\/etc\/hostname\/kumulus cannot hold an instance's files .*KUMULUS_STATE/);
});
