import {
  AttachInternetGatewayCommand,
  CreateInternetGatewayCommand,
  CreateSubnetCommand,
  CreateVpcCommand,
  DeleteInternetGatewayCommand,
  DeleteSubnetCommand,
  DeleteVpcCommand,
  DescribeInternetGatewaysCommand,
  DescribeSubnetsCommand,
  DescribeVpcAttributeCommand,
  DescribeVpcsCommand,
  DetachInternetGatewayCommand,
  ModifySubnetAttributeCommand,
  ModifyVpcAttributeCommand,
  type Subnet,
} from '@aws-sdk/client-ec2';
import { ignore } from '../clients.ts';
import { fromTags, ownershipFilters, tagSpecification } from '../tags.ts';
import { madeId, tagEc2 } from './ec2-tags.ts';
import { type Existing, type Found, isFound, type ResourceHandler } from './handler.ts';

const existing = (id: string | undefined): Existing | undefined => (id ? { id, attributes: {} } : undefined);

export interface VpcProperties {
  CidrBlock: string;
  EnableDnsHostnames: boolean;
}

export const vpc: ResourceHandler<VpcProperties> = {
  async find({ clients, cluster }, logicalId) {
    const found = await (await clients.ec2()).send(new DescribeVpcsCommand({ Filters: ownershipFilters(cluster, logicalId) }));
    return existing(found.Vpcs?.[0]?.VpcId);
  },
  async create({ clients }, _logicalId, p, tags) {
    const answer = await (await clients.ec2()).send(
      new CreateVpcCommand({ CidrBlock: p.CidrBlock, TagSpecifications: tagSpecification('vpc', tags) }),
    );
    // As VPCs are at first.
    return { id: madeId(answer.Vpc?.VpcId), attributes: {}, properties: { ...p, EnableDnsHostnames: false }, tags };
  },
  async read({ clients }, id) {
    const ec2 = await clients.ec2();
    const answer = await ec2.send(new DescribeVpcsCommand({ VpcIds: [id] })).catch(ignore('InvalidVpcID.NotFound'));
    const found = answer?.Vpcs?.[0];
    if (!found) return undefined;
    const names = await ec2.send(new DescribeVpcAttributeCommand({ VpcId: id, Attribute: 'enableDnsHostnames' }));
    return {
      id,
      attributes: {},
      properties: { CidrBlock: found.CidrBlock ?? '', EnableDnsHostnames: names.EnableDnsHostnames?.Value ?? false },
      tags: fromTags(found.Tags),
    };
  },
  async repair(context, known, p) {
    const found = isFound(known) ? known : await vpc.read(context, known.id);
    if (!found || found.properties.EnableDnsHostnames === p.EnableDnsHostnames) return undefined;
    const change = { VpcId: found.id, EnableDnsHostnames: { Value: p.EnableDnsHostnames } };
    await (await context.clients.ec2()).send(new ModifyVpcAttributeCommand(change));
    return undefined;
  },
  tag: tagEc2,
  async remove({ clients }, { id }) {
    await (await clients.ec2()).send(new DeleteVpcCommand({ VpcId: id })).catch(ignore('InvalidVpcID.NotFound'));
  },
};

export interface InternetGatewayProperties {
  VpcId: string;
}

export const internetGateway: ResourceHandler<InternetGatewayProperties> = {
  async find({ clients, cluster }, logicalId) {
    const found = await (await clients.ec2()).send(new DescribeInternetGatewaysCommand({ Filters: ownershipFilters(cluster, logicalId) }));
    return existing(found.InternetGateways?.[0]?.InternetGatewayId);
  },
  async create({ clients }, _logicalId, _p, tags) {
    const answer = await (await clients.ec2()).send(
      new CreateInternetGatewayCommand({ TagSpecifications: tagSpecification('internet-gateway', tags) }),
    );
    return { id: madeId(answer.InternetGateway?.InternetGatewayId), attributes: {} };
  },
  async read({ clients }, id) {
    const ec2 = await clients.ec2();
    const answer = await ec2
      .send(new DescribeInternetGatewaysCommand({ InternetGatewayIds: [id] }))
      .catch(ignore('InvalidInternetGatewayID.NotFound'));
    const found = answer?.InternetGateways?.[0];
    return found && { id, attributes: {}, properties: { VpcId: found.Attachments?.[0]?.VpcId ?? '' }, tags: fromTags(found.Tags) };
  },
  async repair(context, { id }, p) {
    const ec2 = await context.clients.ec2();
    const attached = (await internetGateway.read(context, id))?.properties.VpcId;
    if (attached === p.VpcId) return;
    if (attached) await ec2.send(new DetachInternetGatewayCommand({ InternetGatewayId: id, VpcId: attached })).catch(ignore('Gateway.NotAttached'));
    await ec2
      .send(new AttachInternetGatewayCommand({ InternetGatewayId: id, VpcId: p.VpcId }))
      .catch(ignore('Resource.AlreadyAssociated'));
  },
  tag: tagEc2,
  async remove({ clients }, { id }, p) {
    const ec2 = await clients.ec2();
    await ec2
      .send(new DetachInternetGatewayCommand({ InternetGatewayId: id, VpcId: p.VpcId }))
      .catch(ignore('Gateway.NotAttached', 'InvalidInternetGatewayID.NotFound', 'InvalidVpcID.NotFound'));
    await ec2.send(new DeleteInternetGatewayCommand({ InternetGatewayId: id })).catch(ignore('InvalidInternetGatewayID.NotFound'));
  },
};

export interface SubnetProperties {
  VpcId: string;
  CidrBlock: string;
  AvailabilityZone: string;
  MapPublicIpOnLaunch: boolean;
}

const foundSubnet = (one: Subnet): Found<SubnetProperties> => ({
  id: madeId(one.SubnetId),
  attributes: {},
  properties: {
    VpcId: one.VpcId ?? '',
    CidrBlock: one.CidrBlock ?? '',
    AvailabilityZone: one.AvailabilityZone ?? '',
    MapPublicIpOnLaunch: one.MapPublicIpOnLaunch ?? false,
  },
  tags: fromTags(one.Tags),
});

export const subnet: ResourceHandler<SubnetProperties> = {
  async find({ clients, cluster }, logicalId) {
    const answer = await (await clients.ec2()).send(new DescribeSubnetsCommand({ Filters: ownershipFilters(cluster, logicalId) }));
    const found = answer.Subnets?.[0];
    return found && foundSubnet(found);
  },
  async create({ clients }, _logicalId, p, tags) {
    const answer = await (await clients.ec2()).send(
      new CreateSubnetCommand({
        VpcId: p.VpcId,
        CidrBlock: p.CidrBlock,
        AvailabilityZone: p.AvailabilityZone,
        TagSpecifications: tagSpecification('subnet', tags),
      }),
    );
    return { id: madeId(answer.Subnet?.SubnetId), attributes: {}, properties: { ...p, MapPublicIpOnLaunch: false }, tags };
  },
  async read({ clients }, id) {
    const answer = await (await clients.ec2()).send(new DescribeSubnetsCommand({ SubnetIds: [id] })).catch(ignore('InvalidSubnetID.NotFound'));
    const found = answer?.Subnets?.[0];
    return found && foundSubnet(found);
  },
  async repair({ clients }, known, p) {
    if (isFound(known) && known.properties.MapPublicIpOnLaunch === p.MapPublicIpOnLaunch) return undefined;
    const change = { SubnetId: known.id, MapPublicIpOnLaunch: { Value: p.MapPublicIpOnLaunch } };
    await (await clients.ec2()).send(new ModifySubnetAttributeCommand(change));
    return undefined;
  },
  tag: tagEc2,
  async remove({ clients }, { id }) {
    await (await clients.ec2()).send(new DeleteSubnetCommand({ SubnetId: id })).catch(ignore('InvalidSubnetID.NotFound'));
  },
};
