import {
  AttachInternetGatewayCommand,
  CreateInternetGatewayCommand,
  CreateSecurityGroupCommand,
  CreateSubnetCommand,
  CreateVpcCommand,
  DeleteNetworkInterfaceCommand,
  DeleteSecurityGroupCommand,
  DeleteSubnetCommand,
  DescribeNetworkInterfacesCommand,
  type EC2Client,
  RunInstancesCommand,
  StopInstancesCommand,
  TerminateInstancesCommand,
} from '@aws-sdk/client-ec2';
import * as elb from '@aws-sdk/client-elastic-load-balancing-v2';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { codeOf, TestEndpoint, until } from '../testing.ts';

let endpoint: TestEndpoint;
let client: elb.ElasticLoadBalancingV2Client;
let ec2: EC2Client;
let vpcId: string;
/** One each in two zones. */
let subnets: string[];
let group: string;

beforeEach(async () => {
  endpoint = await TestEndpoint.start();
  client = endpoint.keep(new elb.ElasticLoadBalancingV2Client(endpoint.config()));
  ec2 = endpoint.ec2();
  vpcId = (await ec2.send(new CreateVpcCommand({ CidrBlock: '10.0.0.0/16' }))).Vpc!.VpcId!;
  const gateway = await ec2.send(new CreateInternetGatewayCommand({}));
  await ec2.send(new AttachInternetGatewayCommand({ VpcId: vpcId, InternetGatewayId: gateway.InternetGateway!.InternetGatewayId }));
  subnets = [];
  for (const [i, zone] of ['us-east-1a', 'us-east-1b'].entries()) {
    const made = await ec2.send(new CreateSubnetCommand({ VpcId: vpcId, CidrBlock: `10.0.${i}.0/24`, AvailabilityZone: zone }));
    subnets.push(made.Subnet!.SubnetId!);
  }
  group = (await ec2.send(new CreateSecurityGroupCommand({ VpcId: vpcId, GroupName: 'web', Description: 'web' }))).GroupId!;
});
afterEach(() => endpoint.end());

const balancer = async (more: Partial<elb.CreateLoadBalancerInput> = {}) =>
  (await client.send(new elb.CreateLoadBalancerCommand({ Name: 'web', Type: 'network', Subnets: subnets, SecurityGroups: [group], ...more })))
    .LoadBalancers![0]!;
const targetGroup = async (more: Partial<elb.CreateTargetGroupInput> = {}) =>
  (await client.send(new elb.CreateTargetGroupCommand({ Name: 'nodes', Protocol: 'TCP', Port: 30080, VpcId: vpcId, ...more }))).TargetGroups![0]!
    .TargetGroupArn!;
const listen = async (LoadBalancerArn: string, TargetGroupArn: string, more: Partial<elb.CreateListenerInput> = {}) =>
  (
    await client.send(
      new elb.CreateListenerCommand({ LoadBalancerArn, Protocol: 'TCP', Port: 80, DefaultActions: [{ Type: 'forward', TargetGroupArn }], ...more }),
    )
  ).Listeners![0]!;
const interfaces = async (arn: string) =>
  (await ec2.send(new DescribeNetworkInterfacesCommand({ Filters: [{ Name: 'description', Values: [`ELB ${arn.split(':loadbalancer/')[1]}`] }] })))
    .NetworkInterfaces!;
const health = async (TargetGroupArn: string, Targets?: elb.TargetDescription[]) =>
  (await client.send(new elb.DescribeTargetHealthCommand({ TargetGroupArn, Targets }))).TargetHealthDescriptions!;
const states = async (arn: string) => (await health(arn)).map((one) => one.TargetHealth!.State);
const register = (TargetGroupArn: string, ...ids: string[]) =>
  client.send(new elb.RegisterTargetsCommand({ TargetGroupArn, Targets: ids.map((Id) => ({ Id })) }));

async function runInstance(): Promise<string> {
  const image = 'resolve:ssm:/aws/service/kumulus/node/recommended/image_id';
  const made = await ec2.send(new RunInstancesCommand({ ImageId: image, InstanceType: 't3.small', MinCount: 1, MaxCount: 1, SubnetId: subnets[0]! }));
  const id = made.Instances![0]!.InstanceId!;
  await until(`${id} running`, async () =>
    (await endpoint.aws.source.read()).instances.some((one) => one.InstanceId === id && one.State?.Name === 'running'),
  );
  return id;
}

test('a network load balancer stands in its subnets with interfaces and addresses, turns active, and leaves nothing', async () => {
  const made = await balancer({ Tags: [{ Key: 'kubernetes.io/cluster/one', Value: 'owned' }] });
  const arn = made.LoadBalancerArn!;
  expect(made.State!.Code).toBe('provisioning');
  expect(arn).toMatch(/^arn:aws:elasticloadbalancing:us-east-1:000000000000:loadbalancer\/net\/web\/[0-9a-f]{16}$/);
  expect(made.DNSName).toMatch(/^web-[0-9a-f]{16}\.elb\.us-east-1\.amazonaws\.com$/);
  expect(made).toMatchObject({ Scheme: 'internet-facing', Type: 'network', VpcId: vpcId, IpAddressType: 'ipv4', SecurityGroups: [group] });
  const enis = await interfaces(arn);
  expect(enis.map((one) => one.SubnetId).sort()).toEqual([...subnets].sort());
  for (const one of enis) {
    expect(one).toMatchObject({ InterfaceType: 'network_load_balancer', RequesterManaged: true, Status: 'in-use', Groups: [{ GroupId: group }] });
    const zone = made.AvailabilityZones!.find((candidate) => candidate.SubnetId === one.SubnetId)!;
    expect(zone).toMatchObject({ ZoneName: one.AvailabilityZone, LoadBalancerAddresses: [{ PrivateIPv4Address: one.PrivateIpAddress }] });
  }
  const described = await until('active', async () => {
    const [one] = (await client.send(new elb.DescribeLoadBalancersCommand({ Names: ['web'] }))).LoadBalancers!;
    return one!.State!.Code === 'active' && one;
  });
  expect(described!.LoadBalancerArn).toBe(arn);
  const tags = await client.send(new elb.DescribeTagsCommand({ ResourceArns: [arn] }));
  expect(tags.TagDescriptions).toEqual([{ ResourceArn: arn, Tags: [{ Key: 'kubernetes.io/cluster/one', Value: 'owned' }] }]);

  // What it stands on cannot go before it, and its interfaces are not for others to delete.
  expect(await codeOf(ec2.send(new DeleteSubnetCommand({ SubnetId: subnets[0] })))).toBe('DependencyViolation');
  expect(await codeOf(ec2.send(new DeleteSecurityGroupCommand({ GroupId: group })))).toBe('DependencyViolation');
  expect(await codeOf(ec2.send(new DeleteNetworkInterfaceCommand({ NetworkInterfaceId: enis[0]!.NetworkInterfaceId })))).toBe(
    'OperationNotPermitted',
  );

  const nodes = await targetGroup();
  const { ListenerArn } = await listen(arn, nodes);
  expect(await codeOf(client.send(new elb.DeleteTargetGroupCommand({ TargetGroupArn: nodes })))).toBe('ResourceInUseException');
  await client.send(new elb.DeleteLoadBalancerCommand({ LoadBalancerArn: arn }));
  await client.send(new elb.DeleteLoadBalancerCommand({ LoadBalancerArn: arn }));
  expect(await codeOf(client.send(new elb.DescribeListenersCommand({ ListenerArns: [ListenerArn!] })))).toBe('ListenerNotFoundException');
  expect(await interfaces(arn)).toEqual([]);
  await client.send(new elb.DeleteTargetGroupCommand({ TargetGroupArn: nodes }));
  await ec2.send(new DeleteSubnetCommand({ SubnetId: subnets[0] }));
  await ec2.send(new DeleteSecurityGroupCommand({ GroupId: group }));
  expect(await codeOf(client.send(new elb.DescribeLoadBalancersCommand({ Names: ['web'] })))).toBe('LoadBalancerNotFoundException');
  expect(await codeOf(client.send(new elb.DescribeLoadBalancersCommand({ LoadBalancerArns: [arn] })))).toBe('LoadBalancerNotFoundException');
  expect((await client.send(new elb.DescribeLoadBalancersCommand({}))).LoadBalancers).toEqual([]);
});

test('the same load balancer asked for again is the one there is; with other settings it is refused', async () => {
  const first = await balancer();
  expect((await balancer()).LoadBalancerArn).toBe(first.LoadBalancerArn);
  expect(await interfaces(first.LoadBalancerArn!)).toHaveLength(2);
  expect(await codeOf(balancer({ Scheme: 'internal' }))).toBe('DuplicateLoadBalancerNameException');
  expect(await codeOf(balancer({ Subnets: [subnets[0]!] }))).toBe('DuplicateLoadBalancerNameException');
  expect(await codeOf(balancer({ SecurityGroups: [] }))).toBe('DuplicateLoadBalancerNameException');
});

test('load balancers that cannot be are refused, and nothing of them stays', async () => {
  for (const [code, more] of [
    ['ValidationError', { Name: 'x'.repeat(33) }],
    ['ValidationError', { Name: 'under_score' }],
    ['ValidationError', { Name: '-dash' }],
    ['ValidationError', { Name: 'internal-web' }],
    ['ValidationError', { Subnets: [] }],
    ['ValidationError', { Type: 'application', Subnets: [subnets[0]!] }],
    ['SubnetNotFoundException', { Subnets: ['subnet-00000000000000000'] }],
    ['InvalidSecurityGroupException', { SecurityGroups: ['sg-00000000000000000'] }],
    ['InvalidSchemeException', { Scheme: 'outside' as 'internal' }],
    ['InvalidConfigurationRequestException', { IpAddressType: 'dualstack' }],
    ['InvalidConfigurationRequestException', { Subnets: undefined, SubnetMappings: [{ SubnetId: subnets[0], PrivateIPv4Address: '10.0.0.9' }] }],
    ['AllocationIdNotFoundException', { Subnets: undefined, SubnetMappings: [{ SubnetId: subnets[0], AllocationId: 'eipalloc-0' }] }],
    ['ValidationError', { Tags: [{ Key: 'aws:own', Value: '' }] }],
    [
      'DuplicateTagKeysException',
      {
        Tags: [
          { Key: 'a', Value: '1' },
          { Key: 'a', Value: '2' },
        ],
      },
    ],
  ] as [string, Partial<elb.CreateLoadBalancerInput>][]) {
    expect([await codeOf(balancer(more)), more]).toEqual([code, more]);
  }
  expect((await ec2.send(new DescribeNetworkInterfacesCommand({}))).NetworkInterfaces).toEqual([]);
  const other = await ec2.send(new CreateVpcCommand({ CidrBlock: '10.9.0.0/16' }));
  const far = await ec2.send(new CreateSubnetCommand({ VpcId: other.Vpc!.VpcId, CidrBlock: '10.9.0.0/24' }));
  expect(await codeOf(balancer({ Subnets: [subnets[1]!, far.Subnet!.SubnetId!] }))).toBe('InvalidSubnetException');
  expect(await codeOf(balancer({ Subnets: [far.Subnet!.SubnetId!], SecurityGroups: [] }))).toBe('InvalidSubnetException');
});

test('addresses: private ones of internal load balancers; subnets and security groups can be changed', async () => {
  const made = await balancer({
    Scheme: 'internal',
    Subnets: undefined,
    SubnetMappings: [{ SubnetId: subnets[0], PrivateIPv4Address: '10.0.0.77' }],
  });
  const arn = made.LoadBalancerArn!;
  expect(made.AvailabilityZones![0]!.LoadBalancerAddresses).toEqual([{ PrivateIPv4Address: '10.0.0.77' }]);
  const taken = {
    Name: 'two',
    Scheme: 'internal' as const,
    Subnets: undefined,
    SubnetMappings: [{ SubnetId: subnets[0], PrivateIPv4Address: '10.0.0.77' }],
  };
  expect(await codeOf(balancer(taken))).toBe('InvalidConfigurationRequestException');

  const set = await client.send(new elb.SetSubnetsCommand({ LoadBalancerArn: arn, Subnets: subnets }));
  expect(set.AvailabilityZones!.map((zone) => zone.SubnetId)).toEqual(subnets);
  expect(set.AvailabilityZones![0]!.LoadBalancerAddresses).toEqual([{ PrivateIPv4Address: '10.0.0.77' }]);
  expect(await interfaces(arn)).toHaveLength(2);
  await client.send(new elb.SetSubnetsCommand({ LoadBalancerArn: arn, Subnets: [subnets[1]!] }));
  expect((await interfaces(arn)).map((one) => one.SubnetId)).toEqual([subnets[1]]);

  const second = (await ec2.send(new CreateSecurityGroupCommand({ VpcId: vpcId, GroupName: 'two', Description: 'two' }))).GroupId!;
  const groups = await client.send(new elb.SetSecurityGroupsCommand({ LoadBalancerArn: arn, SecurityGroups: [second] }));
  expect(groups.SecurityGroupIds).toEqual([second]);
  expect((await interfaces(arn))[0]!.Groups!.map((one) => one.GroupId)).toEqual([second]);
  expect(await codeOf(client.send(new elb.SetSecurityGroupsCommand({ LoadBalancerArn: arn, SecurityGroups: ['sg-0'] })))).toBe(
    'InvalidSecurityGroupException',
  );
  const bare = await balancer({ Name: 'bare', SecurityGroups: undefined });
  expect((await interfaces(bare.LoadBalancerArn!))[0]!.Groups).toEqual([]);
  expect(await codeOf(client.send(new elb.SetSecurityGroupsCommand({ LoadBalancerArn: bare.LoadBalancerArn, SecurityGroups: [group] })))).toBe(
    'InvalidConfigurationRequestException',
  );
});

test('attributes have AWS defaults, take changes, and refuse names and values that are none; protection holds', async () => {
  const arn = (await balancer()).LoadBalancerArn!;
  const read = async () =>
    Object.fromEntries(
      (await client.send(new elb.DescribeLoadBalancerAttributesCommand({ LoadBalancerArn: arn }))).Attributes!.map((one) => [one.Key, one.Value]),
    );
  expect(await read()).toMatchObject({ 'load_balancing.cross_zone.enabled': 'false', 'deletion_protection.enabled': 'false' });
  const modify = (Key: string, Value: string) =>
    client.send(new elb.ModifyLoadBalancerAttributesCommand({ LoadBalancerArn: arn, Attributes: [{ Key, Value }] }));
  await modify('load_balancing.cross_zone.enabled', 'true');
  await modify('deletion_protection.enabled', 'true');
  expect(await read()).toMatchObject({ 'load_balancing.cross_zone.enabled': 'true' });
  expect(await codeOf(modify('idle_timeout.timeout_seconds', '60'))).toBe('ValidationError');
  expect(await codeOf(modify('load_balancing.cross_zone.enabled', 'perhaps'))).toBe('ValidationError');
  expect(await codeOf(client.send(new elb.DeleteLoadBalancerCommand({ LoadBalancerArn: arn })))).toBe('OperationNotPermittedException');
  const nodes = await targetGroup();
  const set = await client.send(
    new elb.ModifyTargetGroupAttributesCommand({
      TargetGroupArn: nodes,
      Attributes: [{ Key: 'deregistration_delay.timeout_seconds', Value: '5' }],
    }),
  );
  expect(set.Attributes).toContainEqual({ Key: 'deregistration_delay.timeout_seconds', Value: '5' });
  expect(set.Attributes).toContainEqual({ Key: 'preserve_client_ip.enabled', Value: 'true' });
  const tooLong = new elb.ModifyTargetGroupAttributesCommand({
    TargetGroupArn: nodes,
    Attributes: [{ Key: 'deregistration_delay.timeout_seconds', Value: '3601' }],
  });
  expect(await codeOf(client.send(tooLong))).toBe('ValidationError');
  const { ListenerArn } = await listen(arn, nodes);
  const idle = await client.send(
    new elb.ModifyListenerAttributesCommand({ ListenerArn, Attributes: [{ Key: 'tcp.idle_timeout.seconds', Value: '400' }] }),
  );
  expect(idle.Attributes).toEqual([{ Key: 'tcp.idle_timeout.seconds', Value: '400' }]);
});

test('target groups: defaults, idempotent creation, health checks that change and those that cannot be', async () => {
  const arn = await targetGroup();
  const [shape] = (await client.send(new elb.DescribeTargetGroupsCommand({ Names: ['nodes'] }))).TargetGroups!;
  expect(shape).toEqual({
    TargetGroupArn: arn,
    TargetGroupName: 'nodes',
    Protocol: 'TCP',
    Port: 30080,
    VpcId: vpcId,
    TargetType: 'instance',
    IpAddressType: 'ipv4',
    HealthCheckProtocol: 'TCP',
    HealthCheckPort: 'traffic-port',
    HealthCheckEnabled: true,
    HealthCheckIntervalSeconds: 30,
    HealthCheckTimeoutSeconds: 10,
    HealthyThresholdCount: 5,
    UnhealthyThresholdCount: 2,
    LoadBalancerArns: [],
  });
  expect(await targetGroup()).toBe(arn);
  expect(await codeOf(targetGroup({ Port: 30081 }))).toBe('DuplicateTargetGroupNameException');
  expect(await codeOf(targetGroup({ HealthCheckProtocol: 'HTTP' }))).toBe('DuplicateTargetGroupNameException');

  const modify = async (more: Partial<elb.ModifyTargetGroupInput>) =>
    (await client.send(new elb.ModifyTargetGroupCommand({ TargetGroupArn: arn, ...more }))).TargetGroups![0]!;
  const http = await modify({ HealthCheckProtocol: 'HTTP', HealthCheckPort: '10256', HealthCheckPath: '/healthz', HealthCheckIntervalSeconds: 10 });
  expect(http).toMatchObject({
    HealthCheckProtocol: 'HTTP',
    HealthCheckPort: '10256',
    HealthCheckPath: '/healthz',
    Matcher: { HttpCode: '200-399' },
  });
  expect(http).toMatchObject({ HealthCheckIntervalSeconds: 10, HealthCheckTimeoutSeconds: 10 });
  expect(await modify({ HealthCheckIntervalSeconds: 5 })).toMatchObject({ HealthCheckTimeoutSeconds: 5, HealthCheckPath: '/healthz' });
  const tcp = await modify({ HealthCheckProtocol: 'TCP', HealthCheckPort: 'traffic-port' });
  expect(tcp.HealthCheckPath).toBeUndefined();
  expect(tcp.Matcher).toBeUndefined();
  expect(await codeOf(modify({ HealthCheckPath: '/healthz' }))).toBe('InvalidConfigurationRequestException');
  expect(await codeOf(modify({ HealthCheckTimeoutSeconds: 6 }))).toBe('ValidationError');

  for (const [code, more] of [
    ['ValidationError', { Name: 'x'.repeat(33) }],
    ['ValidationError', { Protocol: undefined }],
    ['ValidationError', { Protocol: 'SCTP' as 'TCP' }],
    ['ValidationError', { Port: 70_000 }],
    ['ValidationError', { VpcId: 'vpc-00000000000000000' }],
    ['ValidationError', { HealthCheckIntervalSeconds: 4 }],
    ['ValidationError', { HealthyThresholdCount: 11 }],
    ['ValidationError', { HealthCheckPort: 'http' }],
    ['ValidationError', { HealthCheckProtocol: 'UDP' }],
    ['ValidationError', { HealthCheckProtocol: 'HTTP', Matcher: { HttpCode: '700' } }],
    ['ValidationError', { HealthCheckEnabled: false }],
  ] as [string, Partial<elb.CreateTargetGroupInput>][]) {
    expect([await codeOf(targetGroup({ Name: 'wrong', ...more })), more]).toEqual([code, more]);
  }
  await client.send(new elb.DeleteTargetGroupCommand({ TargetGroupArn: arn }));
  expect(await codeOf(client.send(new elb.DescribeTargetGroupsCommand({ TargetGroupArns: [arn] })))).toBe('TargetGroupNotFoundException');
  expect(await codeOf(client.send(new elb.DescribeTargetGroupsCommand({ Names: ['nodes'] })))).toBe('TargetGroupNotFoundException');
  expect(await codeOf(client.send(new elb.DescribeTargetHealthCommand({ TargetGroupArn: 'nonsense' })))).toBe('ValidationError');
});

test('listeners: one a port, protocols that fit, changes, and whose target group is whose', async () => {
  const one = (await balancer()).LoadBalancerArn!;
  const two = (await balancer({ Name: 'two' })).LoadBalancerArn!;
  const nodes = await targetGroup();
  const other = await targetGroup({ Name: 'other', Port: 30081 });
  const made = await listen(one, nodes);
  expect(made).toMatchObject({
    LoadBalancerArn: one,
    Port: 80,
    Protocol: 'TCP',
    DefaultActions: [{ Type: 'forward', TargetGroupArn: nodes, ForwardConfig: { TargetGroups: [{ TargetGroupArn: nodes, Weight: 1 }] } }],
  });
  expect((await listen(one, nodes)).ListenerArn).toBe(made.ListenerArn);
  expect(await codeOf(listen(one, other))).toBe('DuplicateListenerException');
  expect(await codeOf(listen(one, other, { Protocol: 'UDP' }))).toBe('IncompatibleProtocolsException');
  expect(await codeOf(listen(two, nodes))).toBe('TargetGroupAssociationLimitException');
  expect(await codeOf(listen(one, other, { Protocol: 'HTTP', Port: 81 }))).toBe('ValidationError');
  expect(await codeOf(listen(one, other, { Port: 0 }))).toBe('ValidationError');
  expect(await codeOf(listen(one, other, { Protocol: 'TLS', Port: 443 }))).toBe('ValidationError');
  expect(await codeOf(listen(one, `${nodes}0`, { Port: 81 }))).toBe('TargetGroupNotFoundException');
  expect(await codeOf(listen(`${one}0`, nodes, { Port: 81 }))).toBe('LoadBalancerNotFoundException');
  const redirect: elb.Action = { Type: 'redirect', RedirectConfig: { StatusCode: 'HTTP_301' } };
  expect(await codeOf(listen(one, other, { Port: 81, DefaultActions: [redirect] }))).toBe('InvalidLoadBalancerActionException');
  const certificate = 'arn:aws:acm:us-east-1:000000000000:certificate/1';
  const secure = await listen(one, other, { Protocol: 'TLS', Port: 443, Certificates: [{ CertificateArn: certificate }] });
  expect(secure).toMatchObject({ Protocol: 'TLS', SslPolicy: 'ELBSecurityPolicy-2016-08', Certificates: [{ CertificateArn: certificate }] });
  expect(await codeOf(client.send(new elb.ModifyListenerCommand({ ListenerArn: secure.ListenerArn, SslPolicy: 'none' })))).toBe(
    'SSLPolicyNotFoundException',
  );
  expect(await codeOf(client.send(new elb.ModifyListenerCommand({ ListenerArn: secure.ListenerArn, Port: 80 })))).toBe('DuplicateListenerException');
  const moved = await client.send(
    new elb.ModifyListenerCommand({
      ListenerArn: secure.ListenerArn,
      Port: 8443,
      Protocol: 'TCP',
      DefaultActions: [{ Type: 'forward', TargetGroupArn: nodes }],
    }),
  );
  expect(moved.Listeners![0]).toMatchObject({ Port: 8443, Protocol: 'TCP', DefaultActions: [{ TargetGroupArn: nodes }] });
  expect(moved.Listeners![0]!.Certificates).toBeUndefined();
  const groupsOf = async (LoadBalancerArn: string) =>
    (await client.send(new elb.DescribeTargetGroupsCommand({ LoadBalancerArn }))).TargetGroups!.map((shape) => shape.TargetGroupArn);
  expect(await groupsOf(one)).toEqual([nodes]);
  await listen(two, other);
  expect(await groupsOf(two)).toEqual([other]);
  expect((await client.send(new elb.DescribeTargetGroupsCommand({ TargetGroupArns: [nodes] }))).TargetGroups![0]!.LoadBalancerArns).toEqual([one]);
  const rules = await client.send(new elb.DescribeRulesCommand({ ListenerArn: made.ListenerArn }));
  expect(rules.Rules).toMatchObject([{ IsDefault: true, Priority: 'default', Actions: [{ TargetGroupArn: nodes }] }]);
  await client.send(new elb.DeleteListenerCommand({ ListenerArn: made.ListenerArn }));
  const left = await client.send(new elb.DescribeListenersCommand({ LoadBalancerArn: one }));
  expect(left.Listeners!.map((shape) => shape.Port)).toEqual([8443]);
});

test('targets: unused without a listener, initial, healthy, draining, gone; and what becomes of those of stopped and terminated instances', async () => {
  const [a, b] = [await runInstance(), await runInstance()];
  const arn = await targetGroup();
  await register(arn, a, b);
  expect(await health(arn)).toEqual(
    [a, b].map((Id) => ({
      Target: { Id, Port: 30080 },
      HealthCheckPort: '30080',
      TargetHealth: {
        State: 'unused',
        Reason: 'Target.NotInUse',
        Description: 'Target group is not configured to receive traffic from the load balancer',
      },
    })),
  );
  const loadBalancer = (await balancer()).LoadBalancerArn!;
  const { ListenerArn } = await listen(loadBalancer, arn);
  await until('healthy', async () => (await states(arn)).every((state) => state === 'healthy'));
  expect((await health(arn, [{ Id: a }, { Id: 'i-00000000000000000' }])).map((one) => one.TargetHealth!.Reason)).toEqual([
    undefined,
    'Target.NotRegistered',
  ]);

  // Registered again it is the same target.
  await register(arn, a);
  expect(await states(arn)).toEqual(['healthy', 'healthy']);
  await client.send(new elb.DeregisterTargetsCommand({ TargetGroupArn: arn, Targets: [{ Id: a }] }));
  expect((await health(arn, [{ Id: a }]))[0]!.TargetHealth).toMatchObject({ State: 'draining', Reason: 'Target.DeregistrationInProgress' });
  // The data plane gives it no new connections.
  const [seen] = (await endpoint.aws.source.read()).targetGroups;
  expect(seen!.targets.map((target) => target.Id)).toEqual([b]);
  await register(arn, a);
  await until('healthy again', async () => (await states(arn)).join() === 'healthy,healthy');
  await client.send(
    new elb.ModifyTargetGroupAttributesCommand({
      TargetGroupArn: arn,
      Attributes: [{ Key: 'deregistration_delay.timeout_seconds', Value: '1' }],
    }),
  );
  await client.send(new elb.DeregisterTargetsCommand({ TargetGroupArn: arn, Targets: [{ Id: a, Port: 30080 }] }));
  expect(await states(arn)).toEqual(['draining', 'healthy']);
  await until('drained', async () => (await states(arn)).join() === 'healthy');

  await ec2.send(new StopInstancesCommand({ InstanceIds: [b] }));
  const stopped = await until('stopped', async () => {
    const [one] = await health(arn);
    return one!.TargetHealth!.Description === 'Target is in the stopped state' && one;
  });
  expect(stopped.TargetHealth).toMatchObject({ State: 'unused', Reason: 'Target.InvalidState' });
  expect(await codeOf(register(arn, 'i-00000000000000000'))).toBe('InvalidTargetException');
  await ec2.send(new TerminateInstancesCommand({ InstanceIds: [b] }));
  await until('no target left', async () => (await health(arn)).length === 0);
  await register(arn, a);
  await client.send(new elb.DeleteListenerCommand({ ListenerArn }));
  expect((await health(arn))[0]!.TargetHealth).toMatchObject({ State: 'unused', Reason: 'Target.NotInUse' });
  await client.send(new elb.DeregisterTargetsCommand({ TargetGroupArn: arn, Targets: [{ Id: a }] }));
  expect(await health(arn)).toEqual([]);
});

test('targets by address: within the VPC, or private and said to be elsewhere', async () => {
  const arn = await targetGroup({ TargetType: 'ip' });
  const add = (target: elb.TargetDescription) => client.send(new elb.RegisterTargetsCommand({ TargetGroupArn: arn, Targets: [target] }));
  await add({ Id: '10.0.1.9', Port: 8080 });
  expect((await health(arn))[0]!.Target).toEqual({ Id: '10.0.1.9', Port: 8080, AvailabilityZone: 'us-east-1b' });
  expect(await codeOf(add({ Id: '192.168.1.1' }))).toBe('ValidationError');
  await add({ Id: '192.168.1.1', AvailabilityZone: 'all' });
  expect(await codeOf(add({ Id: '8.8.8.8', AvailabilityZone: 'all' }))).toBe('InvalidTargetException');
  expect(await codeOf(add({ Id: 'not an address' }))).toBe('ValidationError');
});

test('rules of an application load balancer: conditions, priorities, the default rule', async () => {
  const arn = (await balancer({ Type: 'application' })).LoadBalancerArn!;
  const [web, api] = [await targetGroup({ Name: 'web', Protocol: 'HTTP' }), await targetGroup({ Name: 'api', Protocol: 'HTTP' })];
  const listener = (await listen(arn, web, { Protocol: 'HTTP' })).ListenerArn!;
  const make = (Priority: number, path = '/api/*') =>
    client.send(
      new elb.CreateRuleCommand({
        ListenerArn: listener,
        Priority,
        Conditions: [{ Field: 'path-pattern', Values: [path] }],
        Actions: [{ Type: 'forward', TargetGroupArn: api }],
      }),
    );
  const first = (await make(20)).Rules![0]!;
  expect(first).toMatchObject({ Priority: '20', Conditions: [{ Values: ['/api/*'], PathPatternConfig: { Values: ['/api/*'] } }] });
  expect(await codeOf(make(20))).toBe('PriorityInUseException');
  const second = (await make(10, '/v2/*')).Rules![0]!;
  const list = async () => (await client.send(new elb.DescribeRulesCommand({ ListenerArn: listener }))).Rules!;
  expect((await list()).map((rule) => rule.Priority)).toEqual(['10', '20', 'default']);
  await client.send(
    new elb.SetRulePrioritiesCommand({
      RulePriorities: [
        { RuleArn: first.RuleArn, Priority: 10 },
        { RuleArn: second.RuleArn, Priority: 20 },
      ],
    }),
  );
  expect((await list()).map((rule) => rule.RuleArn).slice(0, 2)).toEqual([first.RuleArn, second.RuleArn]);
  const byDefault = (await list())[2]!;
  expect(await codeOf(client.send(new elb.DeleteRuleCommand({ RuleArn: byDefault.RuleArn })))).toBe('OperationNotPermittedException');
  expect(await codeOf(client.send(new elb.DeleteTargetGroupCommand({ TargetGroupArn: api })))).toBe('ResourceInUseException');
  for (const { RuleArn } of [first, second]) await client.send(new elb.DeleteRuleCommand({ RuleArn }));
  await client.send(new elb.DeleteTargetGroupCommand({ TargetGroupArn: api }));
  expect(await codeOf(client.send(new elb.DescribeRulesCommand({ RuleArns: [first.RuleArn!] })))).toBe('RuleNotFoundException');
});

test('pages follow one another without gaps while things go; tags; limits and policies', async () => {
  const arns: string[] = [];
  for (let i = 0; i < 5; i++) arns.push(await targetGroup({ Name: `nodes-${i}` }));
  const seen: string[] = [];
  let marker: string | undefined;
  do {
    const page = await client.send(new elb.DescribeTargetGroupsCommand({ PageSize: 2, Marker: marker }));
    seen.push(...page.TargetGroups!.map((one) => one.TargetGroupArn!));
    marker = page.NextMarker;
    if (seen.length === 2) await client.send(new elb.DeleteTargetGroupCommand({ TargetGroupArn: seen[1] }));
  } while (marker);
  expect(seen.sort()).toEqual(arns.sort());
  expect(await codeOf(client.send(new elb.DescribeTargetGroupsCommand({ PageSize: 401 })))).toBe('ValidationError');
  expect(await codeOf(client.send(new elb.DescribeTargetGroupsCommand({ Marker: 'nonsense' })))).toBe('ValidationError');

  const [arn] = (await client.send(new elb.DescribeTargetGroupsCommand({}))).TargetGroups!.map((one) => one.TargetGroupArn!);
  const tag = (Tags: elb.Tag[]) => client.send(new elb.AddTagsCommand({ ResourceArns: [arn!], Tags }));
  await tag([
    { Key: 'a', Value: '1' },
    { Key: 'b', Value: '2' },
  ]);
  await tag([{ Key: 'a', Value: '3' }]);
  await client.send(new elb.RemoveTagsCommand({ ResourceArns: [arn!], TagKeys: ['b', 'c'] }));
  expect((await client.send(new elb.DescribeTagsCommand({ ResourceArns: [arn!] }))).TagDescriptions![0]!.Tags).toEqual([{ Key: 'a', Value: '3' }]);
  expect(await codeOf(tag(Array.from({ length: 50 }, (_, i) => ({ Key: `k${i}`, Value: '' }))))).toBe('TooManyTagsException');
  expect(await codeOf(client.send(new elb.DescribeTagsCommand({ ResourceArns: [`${arn}0`] })))).toBe('TargetGroupNotFoundException');

  const limits = await client.send(new elb.DescribeAccountLimitsCommand({}));
  expect(limits.Limits).toContainEqual({ Name: 'network-load-balancers', Max: '50' });
  const policies = await client.send(new elb.DescribeSSLPoliciesCommand({ Names: ['ELBSecurityPolicy-TLS13-1-3-2021-06'] }));
  expect(policies.SslPolicies![0]!.SslProtocols).toEqual(['TLSv1.3']);
});
