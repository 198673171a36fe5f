import {
  AssociateRouteTableCommand,
  AttachInternetGatewayCommand,
  CreateInternetGatewayCommand,
  CreateRouteCommand,
  CreateRouteTableCommand,
  CreateSubnetCommand,
  CreateVpcCommand,
  DeleteInternetGatewayCommand,
  DeleteRouteTableCommand,
  DeleteSubnetCommand,
  DeleteVpcCommand,
  DescribeInternetGatewaysCommand,
  DescribeRouteTablesCommand,
  DescribeSubnetsCommand,
  DescribeVpcsCommand,
  DetachInternetGatewayCommand,
  DisassociateRouteTableCommand,
  ModifySubnetAttributeCommand,
  ModifyVpcAttributeCommand,
  ReplaceRouteCommand,
} from '@aws-sdk/client-ec2';
import { hasCode } from '../clients.ts';
import { ownershipFilters, tagSpecification } from '../tags.ts';
import type { Existing, ResourceHandler } from './handler.ts';

const existing = (id: string | undefined, attributes: Record<string, string> = {}): Existing | undefined => (id ? { id, attributes } : undefined);
const made = (id: string | undefined, attributes: Record<string, string> = {}): Existing => {
  if (!id) throw new Error('the endpoint answered without an id');
  return { id, attributes };
};

export const vpc: ResourceHandler<{ CidrBlock: string; EnableDnsHostnames: boolean }> = {
  async find({ clients, cluster }, logicalId) {
    const found = await (await clients.ec2()).send(new DescribeVpcsCommand({ Filters: ownershipFilters(cluster, logicalId) }));
    return existing(found.Vpcs?.[0]?.VpcId);
  },
  async create({ clients }, _logicalId, p, tags) {
    const answer = await (await clients.ec2()).send(
      new CreateVpcCommand({ CidrBlock: p.CidrBlock, TagSpecifications: tagSpecification('vpc', tags) }),
    );
    return made(answer.Vpc?.VpcId);
  },
  async repair({ clients }, { id }, p) {
    await (await clients.ec2()).send(new ModifyVpcAttributeCommand({ VpcId: id, EnableDnsHostnames: { Value: p.EnableDnsHostnames } }));
  },
  async remove({ clients }, { id }) {
    await (await clients.ec2()).send(new DeleteVpcCommand({ VpcId: id })).catch(ignore('InvalidVpcID.NotFound'));
  },
};

/** Swallows these AWS error codes, for calls whose aim is already reached. */
export function ignore(...codes: string[]): (error: unknown) => undefined {
  return (error) => {
    if (!hasCode(error, ...codes)) throw error;
    return undefined;
  };
}

export const internetGateway: ResourceHandler<{ VpcId: string }> = {
  async find({ clients, cluster }, logicalId) {
    const found = await (await clients.ec2()).send(new DescribeInternetGatewaysCommand({ Filters: ownershipFilters(cluster, logicalId) }));
    return existing(found.InternetGateways?.[0]?.InternetGatewayId);
  },
  async create({ clients }, _logicalId, _p, tags) {
    const answer = await (await clients.ec2()).send(
      new CreateInternetGatewayCommand({ TagSpecifications: tagSpecification('internet-gateway', tags) }),
    );
    return made(answer.InternetGateway?.InternetGatewayId);
  },
  async repair({ clients }, { id }, p) {
    await (await clients.ec2())
      .send(new AttachInternetGatewayCommand({ InternetGatewayId: id, VpcId: p.VpcId }))
      .catch(ignore('Resource.AlreadyAssociated'));
  },
  async remove({ clients }, { id }, p) {
    const ec2 = await clients.ec2();
    await ec2
      .send(new DetachInternetGatewayCommand({ InternetGatewayId: id, VpcId: p.VpcId }))
      .catch(ignore('Gateway.NotAttached', 'InvalidInternetGatewayID.NotFound', 'InvalidVpcID.NotFound'));
    await ec2.send(new DeleteInternetGatewayCommand({ InternetGatewayId: id })).catch(ignore('InvalidInternetGatewayID.NotFound'));
  },
};

export const subnet: ResourceHandler<{ VpcId: string; CidrBlock: string; AvailabilityZone: string; MapPublicIpOnLaunch: boolean }> = {
  async find({ clients, cluster }, logicalId) {
    const found = await (await clients.ec2()).send(new DescribeSubnetsCommand({ Filters: ownershipFilters(cluster, logicalId) }));
    return existing(found.Subnets?.[0]?.SubnetId);
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
    return made(answer.Subnet?.SubnetId);
  },
  async repair({ clients }, { id }, p) {
    await (await clients.ec2()).send(new ModifySubnetAttributeCommand({ SubnetId: id, MapPublicIpOnLaunch: { Value: p.MapPublicIpOnLaunch } }));
  },
  async remove({ clients }, { id }) {
    await (await clients.ec2()).send(new DeleteSubnetCommand({ SubnetId: id })).catch(ignore('InvalidSubnetID.NotFound'));
  },
};

export interface RouteTableProperties {
  VpcId: string;
  Routes: { DestinationCidrBlock: string; GatewayId: string }[];
  SubnetIds: string[];
}

export const routeTable: ResourceHandler<RouteTableProperties> = {
  async find({ clients, cluster }, logicalId) {
    const found = await (await clients.ec2()).send(new DescribeRouteTablesCommand({ Filters: ownershipFilters(cluster, logicalId) }));
    return existing(found.RouteTables?.[0]?.RouteTableId);
  },
  async create({ clients }, _logicalId, p, tags) {
    const answer = await (await clients.ec2()).send(
      new CreateRouteTableCommand({ VpcId: p.VpcId, TagSpecifications: tagSpecification('route-table', tags) }),
    );
    return made(answer.RouteTable?.RouteTableId);
  },
  /** Routes and associations declared here are made; others (the pod routes of the route controller) stay. */
  async repair({ clients }, { id }, p) {
    const ec2 = await clients.ec2();
    const table = (await ec2.send(new DescribeRouteTablesCommand({ RouteTableIds: [id] }))).RouteTables?.[0];
    for (const route of p.Routes) {
      const current = table?.Routes?.find((r) => r.DestinationCidrBlock === route.DestinationCidrBlock);
      if (!current) await ec2.send(new CreateRouteCommand({ RouteTableId: id, ...route })).catch(ignore('RouteAlreadyExists'));
      else if (current.GatewayId !== route.GatewayId) await ec2.send(new ReplaceRouteCommand({ RouteTableId: id, ...route }));
    }
    for (const SubnetId of p.SubnetIds) {
      if (table?.Associations?.some((a) => a.SubnetId === SubnetId)) continue;
      await ec2.send(new AssociateRouteTableCommand({ RouteTableId: id, SubnetId })).catch(ignore('Resource.AlreadyAssociated'));
    }
  },
  async remove({ clients }, { id }) {
    const ec2 = await clients.ec2();
    const answer = await ec2.send(new DescribeRouteTablesCommand({ RouteTableIds: [id] })).catch(ignore('InvalidRouteTableID.NotFound'));
    for (const association of answer?.RouteTables?.[0]?.Associations ?? []) {
      if (!association.Main && association.RouteTableAssociationId) {
        await ec2
          .send(new DisassociateRouteTableCommand({ AssociationId: association.RouteTableAssociationId }))
          .catch(ignore('InvalidAssociationID.NotFound'));
      }
    }
    await ec2.send(new DeleteRouteTableCommand({ RouteTableId: id })).catch(ignore('InvalidRouteTableID.NotFound'));
  },
};
