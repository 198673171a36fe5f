import { connect, type Socket } from 'node:net';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Listener, LoadBalancer, TargetGroup } from '@aws-sdk/client-elastic-load-balancing-v2';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { MemoryCloud, TestHost, until } from './testing.ts';

let host: TestHost;
let cloud: MemoryCloud;

beforeEach(() => {
  host = new TestHost();
  cloud = new MemoryCloud();
});
afterEach(() => host.end());

const stateOf = (id: string) => cloud.state.instances.find((one) => one.InstanceId === id)?.State?.Name;

/** A TCP server on port 8080 of an instance: says its name, then repeats what it gets, until the client has ended. */
const SERVER = `#!/bin/sh
cat >/srv/server.js <<'END'
const net = require('node:net');
const name = require('node:os').hostname();
net.createServer({ allowHalfOpen: true }, (s) => { s.on('error', () => {}); s.write(name + '\\n'); s.on('data', (d) => s.write(d) || s.pause()); s.on('drain', () => s.resume()); s.on('end', () => s.end('bye')); }).listen(8080);
END
setsid node /srv/server.js >/dev/null 2>&1 &
echo $! >/srv/pid
`;

function balance(
  instances: { InstanceId: string }[],
  name: string,
  port: number,
  delay = '300',
): { arn: string; group: string; targets: { Id: string; Port: number }[] } {
  const arn = `arn:aws:elasticloadbalancing:us-east-1:000000000000:loadbalancer/net/${name}/0123456789abcdef`;
  const group = `arn:aws:elasticloadbalancing:us-east-1:000000000000:targetgroup/${name}/0123456789abcdef`;
  const balancer: LoadBalancer = {
    LoadBalancerArn: arn,
    DNSName: `${name}-0123456789abcdef.elb.us-east-1.amazonaws.com`,
    Scheme: 'internet-facing',
    Type: 'network',
    VpcId: cloud.vpcId,
    State: { Code: 'provisioning' },
    AvailabilityZones: [{ ZoneName: 'us-east-1a', SubnetId: cloud.subnetId }],
  };
  const listener: Listener = {
    ListenerArn: `${arn.replace(':loadbalancer/', ':listener/')}/1`,
    LoadBalancerArn: arn,
    Protocol: 'TCP',
    Port: port,
    DefaultActions: [{ Type: 'forward', TargetGroupArn: group }],
  };
  const targetGroup: TargetGroup = {
    TargetGroupArn: group,
    Protocol: 'TCP',
    Port: 8080,
    TargetType: 'instance',
    VpcId: cloud.vpcId,
    HealthCheckProtocol: 'TCP',
    HealthCheckPort: 'traffic-port',
    HealthCheckIntervalSeconds: 0.1,
    HealthCheckTimeoutSeconds: 1,
    HealthyThresholdCount: 2,
    UnhealthyThresholdCount: 2,
  };
  const targets = instances.map((one) => ({ Id: one.InstanceId, Port: 8080 }));
  cloud.state.loadBalancers.push(balancer);
  cloud.state.listeners.push(listener);
  cloud.state.targetGroups.push({ group: targetGroup, targets, attributes: [{ Key: 'deregistration_delay.timeout_seconds', Value: delay }] });
  cloud.changed();
  return { arn, group, targets };
}

/** One connection: sends, ends its half, and gives what came back. */
function exchange(address: string, port: number, send: string | Buffer): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: address, port, allowHalfOpen: true });
    const received: Buffer[] = [];
    socket.on('data', (chunk) => received.push(chunk));
    socket.on('end', () => resolve(Buffer.concat(received).toString('latin1')));
    socket.on('error', reject);
    socket.end(send);
  });
}

async function open(address: string, port: number): Promise<{ socket: Socket; name: string; ended: Promise<unknown> }> {
  const socket = connect({ host: address, port });
  const ended = new Promise((resolve) => socket.once('close', resolve));
  socket.on('error', () => {});
  const name = await new Promise<string>((resolve, reject) => {
    socket.once('data', (chunk) => resolve(chunk.toString().trim()));
    socket.once('close', () => reject(new Error('closed')));
  });
  return { socket, name, ended };
}

test('a load balancer serves on the host and in the VPC, spreads, fails over, and drains', async () => {
  const one = cloud.launch(SERVER);
  const two = cloud.launch(SERVER);
  const { arn, group, targets } = balance([one, two], 'web', 80, '1');
  const second = balance([one], 'other', 80);
  const plane = await host.start(cloud);
  const healthy = (id: string) => cloud.health.get(`${group} ${id}:8080`) === 'healthy';
  await until('both healthy', () => healthy(one.InstanceId) && healthy(two.InstanceId));
  await until('active', () => cloud.state.loadBalancers.every((balancer) => balancer.State?.Code === 'active'));
  const address = plane.loadBalancerAddress(arn)!;
  expect(address).toMatch(/^127\.64\.\d+\.\d+$/);
  expect(plane.loadBalancerAddress(second.arn)).not.toBe(address);

  const names = [one, two].map((instance) => instance.PrivateDnsName!.split('.')[0]);
  const bytes = Buffer.alloc(3 << 20, 'abcdefg');
  const answers = await Promise.all([1, 2, 3, 4].map(() => exchange(address, 80, bytes)));
  expect(new Set(answers.map((answer) => answer.split('\n')[0]))).toEqual(new Set(names));
  for (const answer of answers) expect(answer.slice(answer.indexOf('\n') + 1) === `${bytes.toString('latin1')}bye`).toBe(true);
  expect(await exchange(plane.loadBalancerAddress(second.arn)!, 80, '')).toContain(names[0]);
  const fromInside = 'curl -s -m 1 --http0.9 -o - http://web-0123456789abcdef.elb.us-east-1.amazonaws.com | head -1';
  expect(names).toContain((await host.inside(one.InstanceId, fromInside)).trim());

  // Deregistered: an established connection goes on till the delay is over, new ones go elsewhere.
  const kept = await Promise.all([open(address, 80), open(address, 80)]);
  const onOne = kept.find((connection) => connection.name === names[0])!;
  const entry = cloud.state.targetGroups.find((candidate) => candidate.group.TargetGroupArn === group)!;
  entry.targets = targets.filter((target) => target.Id !== one.InstanceId);
  cloud.changed();
  await until('draining', () => cloud.health.get(`${group} ${one.InstanceId}:8080`) === 'draining');
  for (let i = 0; i < 4; i++) expect(await exchange(address, 80, '')).toContain(names[1]);
  const echoed = new Promise((resolve) => onOne.socket.once('data', (chunk) => resolve(chunk.toString())));
  onOne.socket.write('still here');
  expect(await echoed).toBe('still here');
  await onOne.ended;
  await until('deregistered', () => cloud.health.get(`${group} ${one.InstanceId}:8080`) === 'unused');
  for (const connection of kept) connection.socket.destroy();

  // A target that stops serving: connections go to the other without one failing.
  entry.targets = targets;
  cloud.changed();
  await until('healthy again', () => healthy(one.InstanceId));
  await host.inside(two.InstanceId, 'kill $(cat /srv/pid); while [ -d /proc/$(cat /srv/pid) ]; do sleep 0.01; done');
  for (let i = 0; i < 6; i++) expect(await exchange(address, 80, '')).toContain(names[0]);
  await until('unhealthy', () => cloud.health.get(`${group} ${two.InstanceId}:8080`) === 'unhealthy');

  // A terminated instance serves no more; with nothing left, connections are refused or reset at once.
  cloud.setState(one.InstanceId, 'shutting-down');
  await until('terminated', () => stateOf(one.InstanceId) === 'terminated');
  await until('unused', () => cloud.health.get(`${group} ${one.InstanceId}:8080`) === 'unused');
  await expect(exchange(address, 80, '')).rejects.toThrow(/ECONNRESET|EPIPE/);

  // Gone with the load balancer.
  cloud.state.loadBalancers = cloud.state.loadBalancers.filter((balancer) => balancer.LoadBalancerArn !== arn);
  cloud.state.listeners = cloud.state.listeners.filter((listener) => listener.LoadBalancerArn !== arn);
  cloud.changed();
  await until('closed', () =>
    exchange(address, 80, '').then(
      () => false,
      (error) => error.code === 'ECONNREFUSED',
    ),
  );
});

test('health checks over HTTP look at path and code; the agent and the address come back after a restart', async () => {
  const serve = `#!/bin/sh\ncat >/srv/server.js <<'END'\nrequire('node:http').createServer((q, r) => { r.statusCode = q.url === '/healthz' && !require('node:fs').existsSync('/srv/broken') ? 204 : 500; r.end('ok'); }).listen(8080);\nEND\nsetsid node /srv/server.js >/dev/null 2>&1 &\n`;
  const instance = cloud.launch(serve);
  const { arn, group } = balance([instance], 'http', 8081);
  Object.assign(cloud.state.targetGroups[0].group, { HealthCheckProtocol: 'HTTP', HealthCheckPath: '/healthz', Matcher: { HttpCode: '200-299' } });
  const plane = await host.start(cloud);
  const health = () => cloud.health.get(`${group} ${instance.InstanceId}:8080`);
  await until('healthy', () => health() === 'healthy');
  await host.inside(instance.InstanceId, 'touch /srv/broken');
  await until('unhealthy', () => health() === 'unhealthy');
  // The only target is unhealthy: it is used nevertheless.
  const address = plane.loadBalancerAddress(arn)!;
  const get = () => exchange(address, 8081, 'GET /healthz HTTP/1.0\r\n\r\n').catch((error) => error.code);
  expect(await get()).toContain('500');
  await host.inside(instance.InstanceId, 'rm /srv/broken');
  await until('healthy again', () => health() === 'healthy');

  const [pid] = (await readFile(join(host.directory, 'run', `${cloud.vpcId}.pid`), 'utf8')).split(' ');
  process.kill(Number(pid), 'SIGKILL');
  await until('served again', async () => (await get()).includes('204'));
  await plane.stop({ keepInstances: true });
  expect(await get()).toBe('ECONNREFUSED');
  const next = await host.start(cloud);
  await until('served by the next data plane', async () => (await get()).includes('204'));
  expect(next.loadBalancerAddress(arn)).toBe(address);
});
