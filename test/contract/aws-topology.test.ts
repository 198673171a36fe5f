import { mkdtempSync, rmSync } from 'node:fs';
import {
  CreateTagsCommand,
  DescribeInstancesCommand,
  DescribeNetworkInterfacesCommand,
  DescribeRouteTablesCommand,
  DescribeSecurityGroupsCommand,
  DescribeVpcsCommand,
  TerminateInstancesCommand,
} from '@aws-sdk/client-ec2';
import { GetInstanceProfileCommand } from '@aws-sdk/client-iam';
import { pino } from 'pino';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type AwsClients, createAwsClients, hasCode, waitUntil } from '../../src/aws/clients.ts';
import { ensure, remove } from '../../src/aws/ensure.ts';
import { topology, type TopologySpec } from '../../src/aws/topology.ts';
import { type LocalAws, startLocalAws } from '../../src/localaws/api/server.ts';

/** What a cluster is on AWS, made and removed by our own clients against the embedded AWS. */
const spec: TopologySpec = {
  cluster: 'test',
  region: 'us-east-1',
  zones: ['us-east-1a', 'us-east-1b'],
  vpcCidr: '10.0.0.0/16',
  podCidr: '10.244.0.0/16',
  controlPlane: { type: 'hosted', socket: '/run/kumulus-test/api.sock', port: 6443 },
  nodeGroups: [
    {
      name: 'workers',
      size: 2,
      instanceType: 't3.medium',
      imageId: 'resolve:ssm:/aws/service/kumulus/node/recommended/image_id',
      userData: '#!/bin/sh\necho "node of a cluster"\n',
    },
  ],
};

let directory: string;
let aws: LocalAws;
let clients: AwsClients;

beforeEach(async () => {
  directory = mkdtempSync('/tmp/kumulus-aws-topology-');
  aws = await startLocalAws({ directory, port: 0, log: pino({ level: 'silent' }), dataPlane: 'simulated' });
  clients = createAwsClients({ region: 'us-east-1', endpoint: aws.url, credentials: aws.rootCredentials });
});
afterEach(async () => {
  clients.destroy();
  await aws.stop();
  rmSync(directory, { recursive: true, force: true });
});

const idsOf = (ensured: Awaited<ReturnType<typeof ensure>>) => Object.fromEntries([...ensured].map(([id, one]) => [id, one.id]));

test('a topology is made once, however often it is ensured, and removed without leavings', async () => {
  const context = { clients, cluster: spec.cluster };
  const first = idsOf(await ensure(context, topology(spec)));
  expect(idsOf(await ensure(context, topology(spec)))).toEqual(first);
  expect(idsOf(await ensure(context, topology(spec)))).toEqual(first);
  const ec2 = await clients.ec2();
  const running = await waitUntil('both nodes', async () => {
    const found = (await ec2.send(new DescribeInstancesCommand({}))).Reservations!.flatMap((one) => one.Instances!);
    return found.every((one) => one.State?.Name === 'running') ? found : undefined;
  });
  expect(running.map((one) => one.Placement?.AvailabilityZone).sort()).toEqual(spec.zones);
  expect(running.every((one) => one.PublicIpAddress && one.IamInstanceProfile?.Arn?.endsWith('/test-node'))).toBe(true);
  const held = (await ec2.send(new DescribeNetworkInterfacesCommand({ Filters: [{ Name: 'tag:kumulus:host-port', Values: ['6443'] }] })))
    .NetworkInterfaces!;
  expect(held.map((one) => one.NetworkInterfaceId)).toEqual([first['control-plane']]);
  const [table] = (await ec2.send(new DescribeRouteTablesCommand({ RouteTableIds: [first['public'] as string] }))).RouteTables!;
  expect(table?.Routes?.map((one) => [one.DestinationCidrBlock, one.GatewayId, one.State])).toEqual([
    ['10.0.0.0/16', 'local', 'active'],
    ['0.0.0.0/0', first['internet-gateway'], 'active'],
  ]);
  const [group] = (await ec2.send(new DescribeSecurityGroupsCommand({ GroupIds: [first['nodes'] as string] }))).SecurityGroups!;
  expect(
    group?.IpPermissions?.flatMap((one) => one.UserIdGroupPairs ?? [])
      .map((one) => one.GroupId)
      .sort(),
  ).toEqual([first['nodes'], first['control-plane-sg']].sort());

  await remove(context, topology(spec));
  await remove(context, topology(spec));
  expect((await ec2.send(new DescribeVpcsCommand({}))).Vpcs).toEqual([]);
  expect((await ec2.send(new DescribeNetworkInterfacesCommand({}))).NetworkInterfaces).toEqual([]);
  const profile = (await clients.iam()).send(new GetInstanceProfileCommand({ InstanceProfileName: 'test-node' }));
  expect(await profile.catch((error) => hasCode(error, 'NoSuchEntity'))).toBe(true);
});

test('what was lost is made again, and another cluster is left alone', async () => {
  const one = { clients, cluster: 'one' };
  const other = { clients, cluster: 'other' };
  const declared = (cluster: string) => topology({ ...spec, cluster });
  const [first, second] = await Promise.all([ensure(one, declared('one')), ensure(other, declared('other'))]).then((all) => all.map(idsOf));
  const ec2 = await clients.ec2();
  const lost = first!['workers-0'] as string;
  await ec2.send(new TerminateInstancesCommand({ InstanceIds: [lost] }));
  const again = idsOf(await ensure(one, declared('one')));
  expect(again).toEqual({ ...first, 'workers-0': again['workers-0'] });
  expect(again['workers-0']).not.toBe(lost);
  await ec2.send(new CreateTagsCommand({ Resources: [again['vpc'] as string], Tags: [{ Key: 'mine', Value: 'yes' }] }));
  await remove(one, declared('one'));
  expect(idsOf(await ensure(other, declared('other')))).toEqual(second);
});
