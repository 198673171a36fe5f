import { readFile } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { MemoryCloud, newId, ping, TestHost, until } from './testing.ts';

let host: TestHost;
let cloud: MemoryCloud;

beforeEach(() => {
  host = new TestHost();
  cloud = new MemoryCloud();
});
afterEach(() => host.end());

const stateOf = (id: string) => cloud.state.instances.find((one) => one.InstanceId === id)?.State?.Name;
const running = (...instances: { InstanceId: string }[]) =>
  until('instances running', () => instances.every((one) => stateOf(one.InstanceId) === 'running'));

const TOKEN =
  'token=$(curl -sS -m 5 -X PUT -H "X-aws-ec2-metadata-token-ttl-seconds: 60" http://169.254.169.254/latest/api/token); get() { curl -sS -m 5 -H "X-aws-ec2-metadata-token: $token" http://169.254.169.254/latest/$1; }; ';

test('instances reach each other, instance metadata and the resolver, each as itself', async () => {
  const one = cloud.launch('#!/bin/sh\necho "data of one"\n');
  const two = cloud.launch();
  const plane = await host.start(cloud);
  await running(one, two);
  await plane.idle();
  expect(await host.inside(one.InstanceId, `${ping(two.PrivateIpAddress)}; ${ping('10.0.0.1')}`)).toBe('reply\nreply\n');

  for (const instance of [one, two]) {
    expect(await host.inside(instance.InstanceId, `${TOKEN} get meta-data/instance-id; echo; get meta-data/local-ipv4`)).toBe(
      `${instance.InstanceId}\n${instance.PrivateIpAddress}`,
    );
  }
  const paths =
    'for path in meta-data/placement/availability-zone meta-data/mac dynamic/instance-identity/document meta-data/iam/security-credentials/ meta-data/iam/security-credentials/node; do get $path; echo; done';
  const metadata = await host.inside(one.InstanceId, `${TOKEN} ${paths}; get user-data; get meta-data/`);
  for (const text of [
    'us-east-1a',
    '02:00:0a:00:00:0a',
    '"privateIp": "10.0.0.10"',
    'node',
    `secret-of-${one.InstanceId}`,
    'data of one',
    'placement/',
  ]) {
    expect(metadata).toContain(text);
  }
  const status = 'curl -s -o /dev/null -w "%{http_code} " http://169.254.169.254/latest/meta-data/';
  expect(await host.inside(one.InstanceId, `${status}; ${TOKEN} token=x; get meta-data/; get nothing`)).toMatch(/^401 Unauthorized/);
  expect(await host.inside(two.InstanceId, `${TOKEN} get user-data`)).toBe('Not Found');

  const names = `getent hosts ip-10-0-0-11.ec2.internal ip-10-0-0-99.ec2.internal 1.dkr.ecr.us-east-1.amazonaws.com; getent hosts 10.0.0.11; echo $?`;
  expect((await host.inside(one.InstanceId, names)).replace(/ +/g, ' ')).toBe(
    '10.0.0.11 ip-10-0-0-11.ec2.internal\n169.254.169.252 1.dkr.ecr.us-east-1.amazonaws.com\n10.0.0.11 ip-10-0-0-11.ec2.internal\n0\n',
  );
});

test('security groups filter: by address, by group, by protocol, in both directions, and at once when they change', async () => {
  const web = newId('sg');
  const client = newId('sg');
  cloud.state.securityGroups.push(
    cloud.group(web, [
      { IpProtocol: 'tcp', FromPort: 80, ToPort: 81, UserIdGroupPairs: [{ GroupId: client }] },
      { IpProtocol: 'tcp', FromPort: 90, ToPort: 90, IpRanges: [{ CidrIp: '10.0.0.12/32' }] },
      { IpProtocol: 'icmp', FromPort: 8, ToPort: -1, IpRanges: [{ CidrIp: '0.0.0.0/0' }] },
    ]),
    cloud.group(client, []),
  );
  const serve =
    '#!/bin/sh\nperl -MIO::Socket::INET -e \'for my $p (80, 82, 90) { next if fork; my $s = IO::Socket::INET->new(LocalPort => $p, Listen => 9, ReuseAddr => 1) or exit; while (my $c = $s->accept) { print $c "port $p\\n"; close $c } }\' &\n';
  const server = cloud.launch(serve, { groups: [web] });
  const friend = cloud.launch('', { groups: [client] });
  const stranger = cloud.launch();
  const plane = await host.start(cloud);
  await running(server, friend, stranger);
  await until('the servers', async () => (await host.inside(server.InstanceId, 'curl -s --http0.9 http://127.0.0.1:90')).includes('port 90'));
  const reach = async (from: { InstanceId: string }, port: number) =>
    (await host.inside(from.InstanceId, `curl -s -m 0.5 --http0.9 http://${server.PrivateIpAddress}:${port}`)).trim() || 'nothing';
  expect(await Promise.all([reach(friend, 80), reach(friend, 82), reach(friend, 90)])).toEqual(['port 80', 'nothing', 'nothing']);
  expect(await Promise.all([reach(stranger, 80), reach(stranger, 90)])).toEqual(['nothing', 'port 90']);
  expect(await host.inside(stranger.InstanceId, ping(server.PrivateIpAddress))).toBe('reply\n');
  // Nothing comes in to the friend, though answers do; and instance metadata is open to all.
  expect(await host.inside(server.InstanceId, ping(friend.PrivateIpAddress))).toBe('silence\n');
  expect(await host.inside(friend.InstanceId, `${TOKEN} get meta-data/instance-id`)).toBe(friend.InstanceId);

  cloud.state.securityGroups.find((one) => one.GroupId === web)!.IpPermissions = [
    { IpProtocol: 'tcp', FromPort: 82, ToPort: 82, IpRanges: [{ CidrIp: '10.0.0.0/20' }] },
  ];
  cloud.state.securityGroups.find((one) => one.GroupId === client)!.IpPermissionsEgress = [];
  cloud.changed();
  await new Promise(setImmediate);
  await plane.idle();
  expect(await Promise.all([reach(stranger, 82), reach(stranger, 90), reach(friend, 82)])).toEqual(['port 82', 'nothing', 'nothing']);
});

test('a route leads to pods behind an instance, when its source/destination check is off, and goes with it', async () => {
  const node = cloud.launch();
  const other = cloud.launch();
  const plane = await host.start(cloud);
  await running(node, other);
  await host.inside(
    node.InstanceId,
    'ip link add pod0 type bridge; ip addr add 10.244.1.1/24 dev pod0; ip link set pod0 up; echo 1 >/proc/sys/net/ipv4/ip_forward',
  );
  const reach = () => host.inside(other.InstanceId, ping('10.244.1.1'));
  expect(await reach()).toBe('unreachable\n');

  const network = cloud.state.networkInterfaces.find((one) => one.Attachment?.InstanceId === node.InstanceId)!;
  cloud.state.routeTables[0].Routes!.push({
    DestinationCidrBlock: '10.244.1.0/24',
    InstanceId: node.InstanceId,
    NetworkInterfaceId: network.NetworkInterfaceId,
    State: 'active',
  });
  cloud.changed();
  await new Promise(setImmediate);
  await plane.idle();
  expect(await reach()).toBe('silence\n');
  network.SourceDestCheck = false;
  cloud.changed();
  await new Promise(setImmediate);
  await plane.idle();
  expect(await reach()).toBe('reply\n');
  // A pod's request for instance metadata is its node's, unless the hop limit keeps answers from coming that far.
  const asPod =
    'curl -sS -m 2 --interface 10.244.1.1 -X PUT -H "X-aws-ec2-metadata-token-ttl-seconds: 60" -o /dev/null -w "%{http_code}" http://169.254.169.254/latest/api/token';
  expect(await host.inside(node.InstanceId, asPod)).toBe('200');
  node.MetadataOptions!.HttpPutResponseHopLimit = 1;
  cloud.changed();
  await new Promise(setImmediate);
  await plane.idle();
  expect(await host.inside(node.InstanceId, `${TOKEN} get meta-data/instance-id`)).toBe(node.InstanceId);
  const filter = await readFile(join(host.directory, 'dataplane', `${cloud.vpcId}.nft`), 'utf8');
  expect(filter).toContain('ip saddr 169.254.169.254 ip daddr { 10.0.0.10 } ip ttl set 1');

  cloud.setState(node.InstanceId, 'shutting-down');
  await until('terminated', () => stateOf(node.InstanceId) === 'terminated');
  await plane.idle();
  expect(await reach()).toBe('silence\n');
});

test('the host dials into the VPC, and an interface held for it leads to its Unix socket', async () => {
  const socketPath = join(host.directory, 'held.sock');
  const upstream = createServer({ allowHalfOpen: true }, (socket) => {
    let text = '';
    socket.on('data', (chunk) => (text += chunk));
    socket.on('end', () => socket.end(`served ${text}`));
  });
  await new Promise<void>((resolve) => upstream.listen(socketPath, resolve));
  const endpoint: string[] = [];
  try {
    const held = cloud.addInterface({ tags: { 'kumulus:host-socket': socketPath, 'kumulus:host-port': '6443' } });
    const instance = cloud.launch();
    const plane = await host.start(cloud, {
      awsHandleConnection: (socket) => {
        endpoint.push(socket.remoteAddress ?? '');
        socket.resume();
        socket.end('HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\naws');
      },
    });
    await running(instance);
    await plane.idle();
    const dial = (target: string, text: string) =>
      new Promise<string>((resolve, reject) => {
        const socket = connect(join(host.directory, 'run', `${cloud.vpcId}.sock`));
        let answer = '';
        socket.on('data', (chunk) => (answer += chunk));
        socket.on('end', () => resolve(answer));
        socket.on('error', reject);
        socket.end(`CONNECT ${target}\n${text}`);
      });
    expect(await dial(`${held.PrivateIpAddress}:6443`, 'me')).toBe('OK\nserved me');
    expect(await dial(`${instance.PrivateIpAddress}:1`, '')).toMatch(/^ERR .*ECONNREFUSED/);
    expect(await dial('nonsense', '')).toMatch(/^ERR expected/);
    const perl = `perl -MIO::Socket::INET -e '$s = IO::Socket::INET->new(PeerAddr => "${held.PrivateIpAddress}:6443") or die $@; print $s "it"; shutdown($s, 1); print <$s>'`;
    expect(await host.inside(instance.InstanceId, perl)).toBe('served it');
    expect(await host.inside(instance.InstanceId, 'curl -sS -m 5 $AWS_ENDPOINT_URL')).toBe('aws');
    expect(endpoint).toEqual([instance.PrivateIpAddress]);
  } finally {
    upstream.close();
  }
});
