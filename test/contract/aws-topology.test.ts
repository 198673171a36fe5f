import { mkdtempSync, rmSync } from 'node:fs';
import {
  CreateTagsCommand,
  DescribeInstancesCommand,
  DescribeNetworkInterfacesCommand,
  DescribeRouteTablesCommand,
  DescribeSecurityGroupsCommand,
  DescribeSubnetsCommand,
  DescribeVpcsCommand,
  ModifyNetworkInterfaceAttributeCommand,
  ModifySubnetAttributeCommand,
  RevokeSecurityGroupIngressCommand,
  TerminateInstancesCommand,
} from '@aws-sdk/client-ec2';
import { DeleteListenerCommand, DeregisterTargetsCommand, DescribeTargetHealthCommand } from '@aws-sdk/client-elastic-load-balancing-v2';
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

test('what drifted is as it was, and what did not is not written', async () => {
  const context = { clients, cluster: spec.cluster };
  const declarations = topology({
    ...spec,
    controlPlane: {
      type: 'instance',
      instanceType: 't3.medium',
      imageId: 'resolve:ssm:/aws/service/kumulus/node/recommended/image_id',
      userData: '#!/bin/sh\n',
      publicAccessCidrs: ['0.0.0.0/0'],
      volumeSize: 8,
      secrets: { 'ca-key': 'secret' },
    },
  });
  const made = idsOf(await ensure(context, declarations));
  const [ec2, elb] = [await clients.ec2(), await clients.elbv2()];
  const settled = await waitUntil('all instances', async () => {
    const found = (await ec2.send(new DescribeInstancesCommand({}))).Reservations!.flatMap((one) => one.Instances!);
    return found.every((one) => one.State?.Name === 'running') ? found : undefined;
  });
  const before = aws.calls.recent().length;
  expect(idsOf(await ensure(context, declarations))).toEqual(made);
  const again = aws.calls.recent().slice(before).map((call) => call.operation);
  expect(again.length).toBeGreaterThan(20);
  expect(again.filter((one) => !/^(Describe|Get|List)/.test(one))).toEqual([]);

  const worker = settled.find((one) => one.InstanceId === made['workers-0']);
  const NetworkInterfaceId = worker?.NetworkInterfaces?.[0]?.NetworkInterfaceId;
  await ec2.send(new ModifyNetworkInterfaceAttributeCommand({ NetworkInterfaceId, Groups: [made['control-plane-sg'] as string] }));
  const rule = { IpProtocol: 'tcp', FromPort: 10_250, ToPort: 10_250, IpRanges: [{ CidrIp: spec.vpcCidr }] };
  await ec2.send(new RevokeSecurityGroupIngressCommand({ GroupId: made['nodes'], IpPermissions: [rule] }));
  await ec2.send(new ModifySubnetAttributeCommand({ SubnetId: made['subnet-us-east-1a'], MapPublicIpOnLaunch: { Value: false } }));
  const TargetGroupArn = made['api-targets'];
  await elb.send(new DeregisterTargetsCommand({ TargetGroupArn, Targets: [{ Id: made['control-plane-0'] as string }] }));
  await elb.send(new DeleteListenerCommand({ ListenerArn: made['api-listener'] }));
  const mended = idsOf(await ensure(context, declarations));
  expect(mended).toEqual({ ...made, 'api-listener': mended['api-listener'] });
  const [eni] = (await ec2.send(new DescribeNetworkInterfacesCommand({ NetworkInterfaceIds: [NetworkInterfaceId as string] }))).NetworkInterfaces!;
  expect(eni?.Groups?.map((one) => one.GroupId)).toEqual([made['nodes']]);
  const [group] = (await ec2.send(new DescribeSecurityGroupsCommand({ GroupIds: [made['nodes'] as string] }))).SecurityGroups!;
  expect(group?.IpPermissions?.some((one) => one.FromPort === 10_250)).toBe(true);
  const [subnet] = (await ec2.send(new DescribeSubnetsCommand({ SubnetIds: [made['subnet-us-east-1a'] as string] }))).Subnets!;
  expect(subnet?.MapPublicIpOnLaunch).toBe(true);
  const { TargetHealthDescriptions } = await elb.send(new DescribeTargetHealthCommand({ TargetGroupArn }));
  const registered = TargetHealthDescriptions!.filter((one) => one.TargetHealth?.State !== 'draining').map((one) => one.Target?.Id);
  expect(registered).toEqual([made['control-plane-0']]);
  await remove(context, declarations);
});
