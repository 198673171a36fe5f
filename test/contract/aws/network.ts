import * as sdk from '@aws-sdk/client-ec2';
import { expect } from 'vitest';
import { type Check, type Peer, refusal } from './peer.ts';

/** A VPC with two subnets, a security group, and a way out: what the other checks stand on. */
export function network(peer: Peer) {
  return peer.once('network', async () => {
    const { ec2 } = peer;
    const tags = (ResourceType: sdk.ResourceType) => [{ ResourceType, Tags: [{ Key: 'kubernetes.io/cluster/contract', Value: 'owned' }] }];
    const vpcId = (await ec2.send(new sdk.CreateVpcCommand({ CidrBlock: '10.0.0.0/16', TagSpecifications: tags('vpc') }))).Vpc!.VpcId!;
    const subnetIds: string[] = [];
    for (const [i, zone] of ['us-east-1a', 'us-east-1b'].entries()) {
      const input = { VpcId: vpcId, CidrBlock: `10.0.${i * 16}.0/20`, AvailabilityZone: zone, TagSpecifications: tags('subnet') };
      subnetIds.push((await ec2.send(new sdk.CreateSubnetCommand(input))).Subnet!.SubnetId!);
    }
    const gatewayId = (await ec2.send(new sdk.CreateInternetGatewayCommand({}))).InternetGateway!.InternetGatewayId!;
    await ec2.send(new sdk.AttachInternetGatewayCommand({ VpcId: vpcId, InternetGatewayId: gatewayId }));
    const group = { VpcId: vpcId, GroupName: 'nodes', Description: 'nodes', TagSpecifications: tags('security-group') };
    const groupId = (await ec2.send(new sdk.CreateSecurityGroupCommand(group))).GroupId!;
    const routeTableId = (await ec2.send(new sdk.CreateRouteTableCommand({ VpcId: vpcId }))).RouteTable!.RouteTableId!;
    return { vpcId, subnetIds, gatewayId, groupId, routeTableId };
  });
}

const byTag = [{ Name: 'tag:kubernetes.io/cluster/contract', Values: ['owned'] }];

export const networkChecks: Check[] = [
  {
    name: 'a VPC and its subnets are found by their tags, and have what was asked for',
    async run(peer) {
      const { vpcId, subnetIds } = await network(peer);
      const vpcs = await peer.ec2.send(new sdk.DescribeVpcsCommand({ Filters: byTag }));
      expect(vpcs.Vpcs!.map((one) => one.VpcId)).toEqual([vpcId]);
      const subnets = await peer.ec2.send(new sdk.DescribeSubnetsCommand({ Filters: [...byTag, { Name: 'vpc-id', Values: [vpcId] }] }));
      expect(subnets.Subnets!.map((one) => one.SubnetId).sort()).toEqual([...subnetIds].sort());
      const attribute = { VpcId: vpcId, EnableDnsHostnames: { Value: true } };
      await peer.ec2.send(new sdk.ModifyVpcAttributeCommand(attribute));
      const shown = await peer.ec2.send(new sdk.DescribeVpcAttributeCommand({ VpcId: vpcId, Attribute: 'enableDnsHostnames' }));
      expect(shown.EnableDnsHostnames?.Value).toBe(true);
      await peer.ec2.send(new sdk.ModifySubnetAttributeCommand({ SubnetId: subnetIds[0], MapPublicIpOnLaunch: { Value: true } }));
      const mapped = await peer.ec2.send(new sdk.DescribeSubnetsCommand({ SubnetIds: [subnetIds[0]!] }));
      expect(mapped.Subnets![0]!.MapPublicIpOnLaunch).toBe(true);
    },
  },
  {
    name: 'ranges of subnets that overlap, or are not of the VPC, are refused',
    async run(peer) {
      const { vpcId } = await network(peer);
      const subnet = (CidrBlock: string) => refusal(peer.ec2.send(new sdk.CreateSubnetCommand({ VpcId: vpcId, CidrBlock })));
      expect(await subnet('10.0.8.0/24')).toBe('InvalidSubnet.Conflict');
      expect(await subnet('192.168.0.0/24')).toBe('InvalidSubnet.Range');
    },
  },
  {
    name: 'what a VPC has in it keeps it from being deleted',
    async run(peer) {
      const { vpcId } = await network(peer);
      expect(await refusal(peer.ec2.send(new sdk.DeleteVpcCommand({ VpcId: vpcId })))).toBe('DependencyViolation');
    },
  },
  {
    name: 'what does not exist is answered with NotFound',
    async run(peer) {
      const ec2 = peer.ec2;
      const id = '0123456789abcdef0';
      expect(await refusal(ec2.send(new sdk.DescribeVpcsCommand({ VpcIds: [`vpc-${id}`] })))).toBe('InvalidVpcID.NotFound');
      expect(await refusal(ec2.send(new sdk.DescribeSubnetsCommand({ SubnetIds: [`subnet-${id}`] })))).toBe('InvalidSubnetID.NotFound');
      expect(await refusal(ec2.send(new sdk.DescribeSecurityGroupsCommand({ GroupIds: [`sg-${id}`] })))).toBe('InvalidGroup.NotFound');
      expect(await refusal(ec2.send(new sdk.DescribeRouteTablesCommand({ RouteTableIds: [`rtb-${id}`] })))).toBe('InvalidRouteTableID.NotFound');
    },
  },
  {
    name: 'an internet gateway is attached once, shown as available, and not deleted before it is detached',
    async run(peer) {
      const { vpcId, gatewayId } = await network(peer);
      const InternetGatewayIds = [gatewayId];
      const { InternetGateways } = await peer.ec2.send(new sdk.DescribeInternetGatewaysCommand({ InternetGatewayIds }));
      expect(InternetGateways![0]!.Attachments).toEqual([{ VpcId: vpcId, State: 'available' }]);
      const remove = () => peer.ec2.send(new sdk.DeleteInternetGatewayCommand({ InternetGatewayId: gatewayId }));
      expect(await refusal(remove())).toBe('DependencyViolation');
    },
  },
  {
    name: 'routes: to the gateway, one for each destination, replaced, and gone',
    async run(peer) {
      const { gatewayId, routeTableId, subnetIds } = await network(peer);
      const route = { RouteTableId: routeTableId, DestinationCidrBlock: '0.0.0.0/0', GatewayId: gatewayId };
      await peer.ec2.send(new sdk.CreateRouteCommand(route));
      await peer.ec2.send(new sdk.ReplaceRouteCommand(route));
      const { AssociationId } = await peer.ec2.send(new sdk.AssociateRouteTableCommand({ RouteTableId: routeTableId, SubnetId: subnetIds[0] }));
      const { RouteTables } = await peer.ec2.send(new sdk.DescribeRouteTablesCommand({ RouteTableIds: [routeTableId] }));
      expect(RouteTables![0]!.Routes).toContainEqual(
        expect.objectContaining({ DestinationCidrBlock: '0.0.0.0/0', GatewayId: gatewayId, State: 'active' }),
      );
      expect(RouteTables![0]!.Associations!.map((one) => one.SubnetId)).toContain(subnetIds[0]);
      await peer.ec2.send(new sdk.DisassociateRouteTableCommand({ AssociationId }));
      const gone = { RouteTableId: routeTableId, DestinationCidrBlock: '0.0.0.0/0' };
      await peer.ec2.send(new sdk.DeleteRouteCommand(gone));
      expect(await refusal(peer.ec2.send(new sdk.DeleteRouteCommand(gone)))).toBe('InvalidRoute.NotFound');
    },
  },
  {
    name: 'another route to the same destination is refused',
    async run(peer) {
      const { gatewayId, routeTableId } = await network(peer);
      const route = { RouteTableId: routeTableId, DestinationCidrBlock: '198.51.100.0/24', GatewayId: gatewayId };
      await peer.ec2.send(new sdk.CreateRouteCommand(route));
      const { subnetIds, groupId } = await network(peer);
      const input = { SubnetId: subnetIds[0], Groups: [groupId] };
      const eni = (await peer.ec2.send(new sdk.CreateNetworkInterfaceCommand(input))).NetworkInterface!.NetworkInterfaceId;
      const other = { RouteTableId: routeTableId, DestinationCidrBlock: '198.51.100.0/24', NetworkInterfaceId: eni };
      const code = await refusal(peer.ec2.send(new sdk.CreateRouteCommand(other))).finally(() =>
        peer.ec2.send(new sdk.DeleteNetworkInterfaceCommand({ NetworkInterfaceId: eni })),
      );
      expect(code).toBe('RouteAlreadyExists');
    },
  },
  {
    name: 'rules of a security group have ids and descriptions, are there once, and are revoked by id',
    async run(peer) {
      const { groupId } = await network(peer);
      const IpPermissions = [{ IpProtocol: 'tcp', FromPort: 80, ToPort: 80, IpRanges: [{ CidrIp: '0.0.0.0/0', Description: 'web' }] }];
      const authorize = () => peer.ec2.send(new sdk.AuthorizeSecurityGroupIngressCommand({ GroupId: groupId, IpPermissions }));
      await authorize();
      expect(await refusal(authorize())).toBe('InvalidPermission.Duplicate');
      const Filters = [{ Name: 'group-id', Values: [groupId] }];
      const rules = async () => {
        const found = await peer.ec2.send(new sdk.DescribeSecurityGroupRulesCommand({ Filters }));
        return found.SecurityGroupRules!.filter((one) => !one.IsEgress);
      };
      const [rule] = await rules();
      expect(rule).toMatchObject({ GroupId: groupId, IpProtocol: 'tcp', FromPort: 80, ToPort: 80, CidrIpv4: '0.0.0.0/0', Description: 'web' });
      await peer.ec2.send(new sdk.RevokeSecurityGroupIngressCommand({ GroupId: groupId, SecurityGroupRuleIds: [rule!.SecurityGroupRuleId!] }));
      expect(await rules()).toEqual([]);
      const again = { GroupName: 'nodes', Description: 'again', VpcId: (await network(peer)).vpcId };
      expect(await refusal(peer.ec2.send(new sdk.CreateSecurityGroupCommand(again)))).toBe('InvalidGroup.Duplicate');
    },
  },
  {
    name: 'an interface has the address, groups and tags that were asked for, and no two have one address',
    async run(peer) {
      const { subnetIds, groupId } = await network(peer);
      const input = {
        SubnetId: subnetIds[0],
        PrivateIpAddress: '10.0.0.10',
        Groups: [groupId],
        TagSpecifications: [{ ResourceType: 'network-interface' as const, Tags: [{ Key: 'a', Value: 'b' }] }],
      };
      const made = (await peer.ec2.send(new sdk.CreateNetworkInterfaceCommand(input))).NetworkInterface!;
      const NetworkInterfaceId = made.NetworkInterfaceId!;
      try {
        const Filters = [{ Name: 'tag:a', Values: ['b'] }];
        const { NetworkInterfaces } = await peer.ec2.send(new sdk.DescribeNetworkInterfacesCommand({ Filters }));
        expect(NetworkInterfaces![0]).toMatchObject({ NetworkInterfaceId, PrivateIpAddress: '10.0.0.10', Groups: [{ GroupId: groupId }] });
        await peer.ec2.send(new sdk.ModifyNetworkInterfaceAttributeCommand({ NetworkInterfaceId, SourceDestCheck: { Value: false } }));
        expect(await refusal(peer.ec2.send(new sdk.CreateNetworkInterfaceCommand(input)))).toBe('InvalidIPAddress.InUse');
      } finally {
        await peer.ec2.send(new sdk.DeleteNetworkInterfaceCommand({ NetworkInterfaceId }));
      }
      expect(await refusal(peer.ec2.send(new sdk.DeleteNetworkInterfaceCommand({ NetworkInterfaceId })))).toBe('InvalidNetworkInterfaceID.NotFound');
    },
  },
  {
    name: 'tags are put and taken away later too',
    async run(peer) {
      const { vpcId } = await network(peer);
      const Tags = [{ Key: 'later', Value: 'x' }];
      await peer.ec2.send(new sdk.CreateTagsCommand({ Resources: [vpcId], Tags }));
      const Filters = [{ Name: 'tag:later', Values: ['x'] }];
      expect((await peer.ec2.send(new sdk.DescribeVpcsCommand({ Filters }))).Vpcs).toHaveLength(1);
      await peer.ec2.send(new sdk.DeleteTagsCommand({ Resources: [vpcId], Tags }));
      expect((await peer.ec2.send(new sdk.DescribeVpcsCommand({ Filters }))).Vpcs).toEqual([]);
    },
  },
];

/** Runs last: everything goes in its order. */
export const networkRemoval: Check = {
  name: 'a network goes, in its order',
  async run(peer) {
    const { vpcId, subnetIds, gatewayId, groupId, routeTableId } = await network(peer);
    await peer.ec2.send(new sdk.DetachInternetGatewayCommand({ VpcId: vpcId, InternetGatewayId: gatewayId }));
    await peer.ec2.send(new sdk.DeleteInternetGatewayCommand({ InternetGatewayId: gatewayId }));
    for (const SubnetId of subnetIds) await peer.ec2.send(new sdk.DeleteSubnetCommand({ SubnetId }));
    await peer.ec2.send(new sdk.DeleteRouteTableCommand({ RouteTableId: routeTableId }));
    await peer.ec2.send(new sdk.DeleteSecurityGroupCommand({ GroupId: groupId }));
    await peer.ec2.send(new sdk.DeleteVpcCommand({ VpcId: vpcId }));
    expect(await refusal(peer.ec2.send(new sdk.DeleteVpcCommand({ VpcId: vpcId })))).toBe('InvalidVpcID.NotFound');
  },
};
