import {
  AssociateRouteTableCommand,
  AttachInternetGatewayCommand,
  AuthorizeSecurityGroupIngressCommand,
  CreateInternetGatewayCommand,
  CreateNetworkInterfaceCommand,
  CreateRouteCommand,
  CreateRouteTableCommand,
  CreateSecurityGroupCommand,
  CreateSubnetCommand,
  CreateTagsCommand,
  CreateVpcCommand,
  DeleteInternetGatewayCommand,
  DeleteNetworkInterfaceCommand,
  DeleteRouteCommand,
  DeleteRouteTableCommand,
  DeleteSecurityGroupCommand,
  DeleteSubnetCommand,
  DeleteTagsCommand,
  DeleteVpcCommand,
  DescribeRouteTablesCommand,
  DescribeSecurityGroupRulesCommand,
  DescribeSecurityGroupsCommand,
  DescribeSubnetsCommand,
  DetachInternetGatewayCommand,
  DisassociateRouteTableCommand,
  type EC2Client,
  type IpPermission,
  ReplaceRouteCommand,
  RevokeSecurityGroupEgressCommand,
  RevokeSecurityGroupIngressCommand,
} from '@aws-sdk/client-ec2';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { codeOf, TestEndpoint } from '../testing.ts';

let endpoint: TestEndpoint;
let ec2: EC2Client;
let VpcId: string;

beforeEach(async () => {
  endpoint = await TestEndpoint.start();
  ec2 = endpoint.ec2();
  VpcId = (await ec2.send(new CreateVpcCommand({ CidrBlock: '10.0.0.0/16' }))).Vpc!.VpcId!;
});
afterEach(() => endpoint.end());

const subnet = async (CidrBlock: string, more = {}) => (await ec2.send(new CreateSubnetCommand({ VpcId, CidrBlock, ...more }))).Subnet!.SubnetId!;

test('blocks of subnets: inside their VPC, apart from one another, in a zone that exists', async () => {
  const first = await subnet('10.0.0.0/20');
  expect(await codeOf(subnet('10.0.8.0/24'))).toBe('InvalidSubnet.Conflict');
  expect(await codeOf(subnet('10.1.0.0/24'))).toBe('InvalidSubnet.Range');
  expect(await codeOf(subnet('10.0.16.0/29'))).toBe('InvalidSubnet.Range');
  expect(await codeOf(subnet('10.0.16.1/24'))).toBe('InvalidParameterValue');
  expect(await codeOf(subnet('10.0.16.0/24', { AvailabilityZone: 'us-east-1z' }))).toBe('InvalidParameterValue');
  await subnet('10.0.16.0/24', { AvailabilityZone: 'us-east-1b' });
  const { Subnets } = await ec2.send(new DescribeSubnetsCommand({ Filters: [{ Name: 'availability-zone', Values: ['us-east-1a'] }] }));
  expect(Subnets!.map((one) => [one.SubnetId, one.AvailableIpAddressCount, one.AvailabilityZoneId])).toEqual([[first, 4091, 'use1-az1']]);
  expect(await codeOf(ec2.send(new DeleteVpcCommand({ VpcId })))).toBe('DependencyViolation');
});

test('routes: to what belongs to the VPC, one for each destination, and to nowhere when their target is gone', async () => {
  const SubnetId = await subnet('10.0.0.0/20');
  const gateway = (await ec2.send(new CreateInternetGatewayCommand({}))).InternetGateway!.InternetGatewayId!;
  const table = (await ec2.send(new CreateRouteTableCommand({ VpcId }))).RouteTable!.RouteTableId!;
  const create = (DestinationCidrBlock: string, target: object) =>
    ec2.send(new CreateRouteCommand({ RouteTableId: table, DestinationCidrBlock, ...target }));
  expect(await codeOf(create('0.0.0.0/0', { GatewayId: gateway }))).toBe('InvalidParameterValue');
  await ec2.send(new AttachInternetGatewayCommand({ InternetGatewayId: gateway, VpcId }));
  expect(await codeOf(ec2.send(new AttachInternetGatewayCommand({ InternetGatewayId: gateway, VpcId })))).toBe('Resource.AlreadyAssociated');
  await create('0.0.0.0/0', { GatewayId: gateway });
  const eni = (await ec2.send(new CreateNetworkInterfaceCommand({ SubnetId }))).NetworkInterface!.NetworkInterfaceId!;
  await create('10.244.0.0/24', { NetworkInterfaceId: eni });
  expect(await codeOf(create('10.244.0.0/24', { GatewayId: gateway }))).toBe('RouteAlreadyExists');
  expect(await codeOf(create('10.0.0.0/16', { GatewayId: gateway }))).toBe('InvalidParameterValue');
  expect(await codeOf(create('10.9.0.0/16', { GatewayId: 'igw-00000000000000000' }))).toBe('InvalidGatewayID.NotFound');
  expect(await codeOf(create('10.9.0.0/16', {}))).toBe('MissingParameter');
  expect(await codeOf(create('not a range', { GatewayId: gateway }))).toBe('InvalidParameterValue');
  const { AssociationId } = await ec2.send(new AssociateRouteTableCommand({ RouteTableId: table, SubnetId }));
  expect((await ec2.send(new AssociateRouteTableCommand({ RouteTableId: table, SubnetId }))).AssociationId).toBe(AssociationId);
  expect(await codeOf(ec2.send(new DeleteRouteTableCommand({ RouteTableId: table })))).toBe('DependencyViolation');

  await ec2.send(new DeleteNetworkInterfaceCommand({ NetworkInterfaceId: eni }));
  const states = async () => {
    const shown = (await ec2.send(new DescribeRouteTablesCommand({ RouteTableIds: [table] }))).RouteTables![0]!.Routes!;
    return Object.fromEntries(shown.map((one) => [one.DestinationCidrBlock, one.State]));
  };
  expect(await states()).toEqual({ '10.0.0.0/16': 'active', '0.0.0.0/0': 'active', '10.244.0.0/24': 'blackhole' });
  await ec2.send(new ReplaceRouteCommand({ RouteTableId: table, DestinationCidrBlock: '10.244.0.0/24', GatewayId: gateway }));
  expect((await states())['10.244.0.0/24']).toBe('active');
  await ec2.send(new DeleteRouteCommand({ RouteTableId: table, DestinationCidrBlock: '10.244.0.0/24' }));
  const again = ec2.send(new DeleteRouteCommand({ RouteTableId: table, DestinationCidrBlock: '10.244.0.0/24' }));
  expect(await codeOf(again)).toBe('InvalidRoute.NotFound');

  expect(await codeOf(ec2.send(new DeleteInternetGatewayCommand({ InternetGatewayId: gateway })))).toBe('DependencyViolation');
  await ec2.send(new DetachInternetGatewayCommand({ InternetGatewayId: gateway, VpcId }));
  await ec2.send(new DeleteInternetGatewayCommand({ InternetGatewayId: gateway }));
  await ec2.send(new DisassociateRouteTableCommand({ AssociationId: AssociationId! }));
  await ec2.send(new DeleteRouteTableCommand({ RouteTableId: table }));
  await ec2.send(new DeleteSubnetCommand({ SubnetId }));
  await ec2.send(new DeleteVpcCommand({ VpcId }));
  expect((await ec2.send(new DescribeRouteTablesCommand({}))).RouteTables).toEqual([]);
});

test('rules of security groups: put together by ports, once each, and revoked by what they say or by their ids', async () => {
  const create = async (GroupName: string) =>
    (await ec2.send(new CreateSecurityGroupCommand({ VpcId, GroupName, Description: 'for a test' }))).GroupId!;
  const [web, nodes] = [await create('web'), await create('nodes')];
  expect(await codeOf(create('web'))).toBe('InvalidGroup.Duplicate');
  const http = (...ranges: string[]): IpPermission => ({
    IpProtocol: 'tcp',
    FromPort: 80,
    ToPort: 80,
    IpRanges: ranges.map((CidrIp) => ({ CidrIp, Description: CidrIp })),
  });
  const allow = (GroupId: string, ...IpPermissions: IpPermission[]) => ec2.send(new AuthorizeSecurityGroupIngressCommand({ GroupId, IpPermissions }));
  await allow(web, http('0.0.0.0/0', '10.0.0.0/8'));
  await allow(nodes, { IpProtocol: '-1', UserIdGroupPairs: [{ GroupId: web }] });
  expect(await codeOf(allow(web, http('10.0.0.0/8')))).toBe('InvalidPermission.Duplicate');
  expect(await codeOf(allow(web, http('10.0.0.0/33')))).toBe('InvalidParameterValue');
  expect(await codeOf(allow(web, { IpProtocol: 'tcp', IpRanges: [{ CidrIp: '10.0.0.0/8' }] }))).toBe('InvalidParameterValue');
  expect(await codeOf(allow(web, { ...http('10.9.0.0/16'), FromPort: 90 }))).toBe('InvalidParameterValue');
  // All of a request's rules, or none.
  expect(await codeOf(allow(web, http('10.7.0.0/16'), http('10.0.0.0/8')))).toBe('InvalidPermission.Duplicate');
  const shown = async (id: string) => (await ec2.send(new DescribeSecurityGroupsCommand({ GroupIds: [id] }))).SecurityGroups![0]!;
  expect((await shown(web)).IpPermissions).toEqual([
    {
      ...http('0.0.0.0/0', '10.0.0.0/8'),
      UserIdGroupPairs: [],
      Ipv6Ranges: [],
      PrefixListIds: [],
    },
  ]);
  expect((await shown(web)).IpPermissionsEgress?.[0]?.IpRanges).toEqual([{ CidrIp: '0.0.0.0/0' }]);
  expect(await codeOf(ec2.send(new DeleteSecurityGroupCommand({ GroupId: web })))).toBe('DependencyViolation');

  const revoke = (more: object) => ec2.send(new RevokeSecurityGroupIngressCommand({ GroupId: web, ...more }));
  await revoke({ IpPermissions: [http('10.0.0.0/8')] });
  expect(await codeOf(revoke({ IpPermissions: [http('10.0.0.0/8')] }))).toBe('InvalidPermission.NotFound');
  const rules = await ec2.send(new DescribeSecurityGroupRulesCommand({ Filters: [{ Name: 'group-id', Values: [web] }] }));
  const byEgress = (egress: boolean) => rules.SecurityGroupRules!.filter((one) => one.IsEgress === egress).map((one) => one.SecurityGroupRuleId!);
  await revoke({ SecurityGroupRuleIds: byEgress(false) });
  await ec2.send(new RevokeSecurityGroupEgressCommand({ GroupId: web, SecurityGroupRuleIds: byEgress(true) }));
  expect([(await shown(web)).IpPermissions, (await shown(web)).IpPermissionsEgress]).toEqual([[], []]);
  await ec2.send(
    new RevokeSecurityGroupIngressCommand({ GroupId: nodes, IpPermissions: [{ IpProtocol: '-1', UserIdGroupPairs: [{ GroupId: web }] }] }),
  );
  await ec2.send(new DeleteSecurityGroupCommand({ GroupId: web }));
  const [first] = (await ec2.send(new DescribeSecurityGroupsCommand({ Filters: [{ Name: 'group-name', Values: ['default'] }] }))).SecurityGroups!;
  expect(await codeOf(ec2.send(new DeleteSecurityGroupCommand({ GroupId: first!.GroupId! })))).toBe('CannotDelete');
});

test('tags: replaced by key, removed by key or value, limited, and never of nothing', async () => {
  const tag = (...Tags: { Key: string; Value: string }[]) => ec2.send(new CreateTagsCommand({ Resources: [VpcId], Tags }));
  await tag({ Key: 'a', Value: '1' }, { Key: 'b', Value: '2' });
  await tag({ Key: 'a', Value: '3' });
  const now = async () => endpoint.aws.source.read().then((state) => state.vpcs[0]!.Tags!.map((one) => `${one.Key}=${one.Value}`));
  expect(await now()).toEqual(['a=3', 'b=2']);
  await ec2.send(new DeleteTagsCommand({ Resources: [VpcId], Tags: [{ Key: 'a', Value: '1' }] }));
  expect(await now()).toEqual(['a=3', 'b=2']);
  await ec2.send(new DeleteTagsCommand({ Resources: [VpcId], Tags: [{ Key: 'a' }] }));
  expect(await now()).toEqual(['b=2']);
  expect(await codeOf(tag({ Key: 'aws:mine', Value: 'x' }))).toBe('InvalidParameterValue');
  expect(await codeOf(tag({ Key: 'k'.repeat(129), Value: 'x' }))).toBe('InvalidParameterValue');
  expect(await codeOf(tag(...Array.from({ length: 50 }, (_, n) => ({ Key: `k${n}`, Value: 'x' }))))).toBe('TagLimitExceeded');
  expect(await now()).toEqual(['b=2']);
  const nothing = ec2.send(new CreateTagsCommand({ Resources: ['vpc-00000000000000000'], Tags: [{ Key: 'a', Value: 'b' }] }));
  expect(await codeOf(nothing)).toBe('InvalidVpcID.NotFound');
});
