import {
  AssociateRouteTableCommand,
  CreateRouteCommand,
  CreateRouteTableCommand,
  DeleteRouteCommand,
  DeleteRouteTableCommand,
  DescribeRouteTablesCommand,
  DisassociateRouteTableCommand,
  ReplaceRouteCommand,
  type RouteTable,
} from '@aws-sdk/client-ec2';
import { hasCode, ignore } from '../clients.ts';
import { fromTags, ownershipFilters, tagSpecification } from '../tags.ts';
import { madeId, tagEc2 } from './ec2-tags.ts';
import type { HandlerContext, ResourceHandler } from './handler.ts';

export interface DeclaredRoute {
  DestinationCidrBlock: string;
  GatewayId: string;
}

export interface RouteTableProperties {
  VpcId: string;
  Routes: DeclaredRoute[];
  SubnetIds: string[];
}

async function look({ clients }: HandlerContext, id: string): Promise<RouteTable | undefined> {
  const answer = await (await clients.ec2())
    .send(new DescribeRouteTablesCommand({ RouteTableIds: [id] }))
    .catch(ignore('InvalidRouteTableID.NotFound'));
  return answer?.RouteTables?.[0];
}

/** Where a route leads: a gateway, or an instance. */
export type RouteTarget = { GatewayId: string } | { InstanceId: string };

/** A route in this table, in place of one that leads elsewhere. */
export async function putRoute({ clients }: HandlerContext, RouteTableId: string, DestinationCidrBlock: string, target: RouteTarget): Promise<void> {
  const ec2 = await clients.ec2();
  const route = { RouteTableId, DestinationCidrBlock, ...target };
  await ec2.send(new CreateRouteCommand(route)).catch(async (error) => {
    if (!hasCode(error, 'RouteAlreadyExists')) throw error;
    await ec2.send(new ReplaceRouteCommand(route));
  });
}

export async function dropRoute({ clients }: HandlerContext, RouteTableId: string, DestinationCidrBlock: string): Promise<void> {
  const ec2 = await clients.ec2();
  await ec2.send(new DeleteRouteCommand({ RouteTableId, DestinationCidrBlock })).catch(ignore('InvalidRoute.NotFound'));
}

/** Routes and associations declared here are made and taken away; others (the pod routes of the route controller) stay. */
export const routeTable: ResourceHandler<RouteTableProperties> = {
  async find({ clients, cluster }, logicalId) {
    const found = await (await clients.ec2()).send(new DescribeRouteTablesCommand({ Filters: ownershipFilters(cluster, logicalId) }));
    const id = found.RouteTables?.[0]?.RouteTableId;
    return id ? { id, attributes: {} } : undefined;
  },
  async create({ clients }, _logicalId, p, tags) {
    const answer = await (await clients.ec2()).send(
      new CreateRouteTableCommand({ VpcId: p.VpcId, TagSpecifications: tagSpecification('route-table', tags) }),
    );
    return { id: madeId(answer.RouteTable?.RouteTableId), attributes: {} };
  },
  async read(context, id, declared) {
    const table = await look(context, id);
    if (!table) return undefined;
    const routes = (table.Routes ?? []).flatMap((r) =>
      r.DestinationCidrBlock && r.GatewayId && r.GatewayId !== 'local'
        ? [{ DestinationCidrBlock: r.DestinationCidrBlock, GatewayId: r.GatewayId }]
        : [],
    );
    const associated = (table.Associations ?? []).flatMap((a) => (a.SubnetId && !a.Main ? [a.SubnetId] : []));
    return {
      id,
      attributes: {},
      properties: {
        VpcId: table.VpcId ?? '',
        // In the order of the declaration: AWS has an order of its own.
        Routes: declared
          ? declared.Routes.flatMap((d) => routes.find((r) => r.DestinationCidrBlock === d.DestinationCidrBlock) ?? [])
          : routes,
        SubnetIds: declared ? declared.SubnetIds.filter((s) => associated.includes(s)) : associated,
      },
      tags: fromTags(table.Tags),
    };
  },
  async repair(context, { id }, p, previous) {
    const ec2 = await context.clients.ec2();
    const table = await look(context, id);
    for (const route of p.Routes) {
      const current = table?.Routes?.find((r) => r.DestinationCidrBlock === route.DestinationCidrBlock);
      if (current?.GatewayId !== route.GatewayId) await putRoute(context, id, route.DestinationCidrBlock, { GatewayId: route.GatewayId });
    }
    for (const route of previous?.Routes ?? []) {
      if (p.Routes.some((r) => r.DestinationCidrBlock === route.DestinationCidrBlock)) continue;
      await dropRoute(context, id, route.DestinationCidrBlock);
    }
    for (const SubnetId of p.SubnetIds) {
      if (table?.Associations?.some((a) => a.SubnetId === SubnetId)) continue;
      await ec2.send(new AssociateRouteTableCommand({ RouteTableId: id, SubnetId })).catch(ignore('Resource.AlreadyAssociated'));
    }
    const dropped = (previous?.SubnetIds ?? []).filter((s) => !p.SubnetIds.includes(s));
    await disassociate(context, (table?.Associations ?? []).filter((a) => dropped.includes(a.SubnetId ?? '')));
  },
  tag: tagEc2,
  async remove(context, { id }) {
    const table = await look(context, id);
    await disassociate(context, (table?.Associations ?? []).filter((a) => !a.Main));
    await (await context.clients.ec2()).send(new DeleteRouteTableCommand({ RouteTableId: id })).catch(ignore('InvalidRouteTableID.NotFound'));
  },
};

async function disassociate({ clients }: HandlerContext, associations: NonNullable<RouteTable['Associations']>): Promise<void> {
  const ec2 = await clients.ec2();
  for (const { RouteTableAssociationId } of associations) {
    if (!RouteTableAssociationId) continue;
    await ec2
      .send(new DisassociateRouteTableCommand({ AssociationId: RouteTableAssociationId }))
      .catch(ignore('InvalidAssociationID.NotFound'));
  }
}
