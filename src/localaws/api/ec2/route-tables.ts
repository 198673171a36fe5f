import type {
  AssociateRouteTableRequest,
  AssociateRouteTableResult,
  CreateRouteRequest,
  CreateRouteResult,
  CreateRouteTableRequest,
  CreateRouteTableResult,
  DeleteRouteRequest,
  DeleteRouteTableRequest,
  DescribeRouteTablesRequest,
  DescribeRouteTablesResult,
  DisassociateRouteTableRequest,
  ReplaceRouteRequest,
  ReplaceRouteTableAssociationRequest,
  ReplaceRouteTableAssociationResult,
  Route,
  RouteTable,
} from '@aws-sdk/client-ec2';
import type { CallContext, Cloud, Operations } from '../cloud.ts';
import { AwsError, invalidParameter } from '../errors.ts';
import { ec2Id } from '../ids.ts';
import type { RouteTableRecord, VpcRecord } from '../state/records.ts';
import { contains, parseRange, rangeText } from './addresses.ts';
import { describe, find, notFound } from './describe.ts';
import { names } from './names.ts';
import { dropTags, putTags, specifiedTags, tagsOf } from './tags.ts';

/** Makes a route table with the local route; main is the one of subnets without their own. */
export function createRouteTable(call: CallContext, vpc: VpcRecord, main: boolean): RouteTableRecord {
  const id = ec2Id('rtb');
  return call.tables.routeTables.put(id, {
    RouteTableId: id,
    VpcId: vpc.VpcId,
    OwnerId: call.accountId,
    PropagatingVgws: [],
    Routes: [{ DestinationCidrBlock: vpc.CidrBlock, GatewayId: 'local', Origin: 'CreateRouteTable', State: 'active' }],
    Associations: main
      ? [{ RouteTableAssociationId: ec2Id('rtbassoc'), RouteTableId: id, Main: true, AssociationState: { State: 'associated' } }]
      : [],
  });
}

export function dropRouteTable(call: CallContext, id: string): void {
  call.tables.routeTables.delete(id);
  dropTags(call, id);
}

/** A route whose instance, interface or gateway is gone leads nowhere. */
function viewRoute(cloud: Cloud, route: Route): Route {
  const { networkInterfaces, internetGateways, natGateways, instances } = cloud.tables;
  let alive = true;
  if (route.NetworkInterfaceId) {
    const eni = networkInterfaces.get(route.NetworkInterfaceId);
    const owner = eni?.Attachment?.InstanceId;
    const state = owner ? instances.get(owner)?.instance.State.Name : undefined;
    alive = eni !== undefined && (!owner || state === 'pending' || state === 'running');
  } else if (route.GatewayId?.startsWith('igw-')) alive = (internetGateways.get(route.GatewayId)?.Attachments ?? []).length > 0;
  else if (route.NatGatewayId) alive = natGateways.has(route.NatGatewayId);
  return { ...route, State: alive ? 'active' : 'blackhole' };
}

export function viewRouteTable(cloud: Cloud, record: RouteTableRecord): RouteTable & { RouteTableId: string } {
  return { ...record, Routes: record.Routes.map((route) => viewRoute(cloud, route)), Tags: tagsOf(cloud, record.RouteTableId) };
}

const filters = {
  'route-table-id': (t: RouteTable) => t.RouteTableId,
  'vpc-id': (t: RouteTable) => t.VpcId,
  'owner-id': (t: RouteTable) => t.OwnerId,
  'association.main': (t: RouteTable) => t.Associations?.map((a) => String(a.Main ?? false)),
  'association.subnet-id': (t: RouteTable) => t.Associations?.map((a) => a.SubnetId),
  'association.route-table-id': (t: RouteTable) => t.Associations?.map((a) => a.RouteTableId),
  'association.route-table-association-id': (t: RouteTable) => t.Associations?.map((a) => a.RouteTableAssociationId),
  'route.destination-cidr-block': (t: RouteTable) => t.Routes?.map((r) => r.DestinationCidrBlock),
  'route.gateway-id': (t: RouteTable) => t.Routes?.map((r) => r.GatewayId),
  'route.instance-id': (t: RouteTable) => t.Routes?.map((r) => r.InstanceId),
  'route.nat-gateway-id': (t: RouteTable) => t.Routes?.map((r) => r.NatGatewayId),
  'route.origin': (t: RouteTable) => t.Routes?.map((r) => r.Origin),
  'route.state': (t: RouteTable) => t.Routes?.map((r) => r.State),
};

/** The route that a request describes, to a target that exists and belongs to the VPC. */
function routeOf(call: CallContext, table: RouteTableRecord, input: CreateRouteRequest | ReplaceRouteRequest): Route {
  const range = parseRange(input.DestinationCidrBlock ?? '');
  if (!range)
    throw invalidParameter(
      `Value (${input.DestinationCidrBlock ?? ''}) for parameter destinationCidrBlock is invalid. This is not a valid CIDR block.`,
    );
  const destination = rangeText(range);
  const base: Route = { DestinationCidrBlock: destination, Origin: 'CreateRoute' };
  const vpc = call.tables.vpcs.get(table.VpcId);
  const local = parseRange(vpc?.CidrBlock ?? '');
  if (local && contains(local, range) && range.prefix <= local.prefix)
    throw invalidParameter(`The destination CIDR block ${destination} is equal to or more specific than one of this VPC's CIDR blocks.`);
  const targets = [input.GatewayId, input.InstanceId, input.NetworkInterfaceId, input.NatGatewayId].filter((t) => t !== undefined);
  if (targets.length !== 1)
    throw new AwsError(
      targets.length ? 'InvalidParameterCombination' : 'MissingParameter',
      'The request must contain exactly one of gatewayId, natGatewayId, networkInterfaceId, instanceId',
    );
  if (input.GatewayId) {
    if (input.GatewayId === 'local') return { ...base, GatewayId: 'local' };
    const gateway = call.tables.internetGateways.get(input.GatewayId);
    if (!gateway) throw notFound({ ...names.internetGateway, code: 'InvalidGatewayID', noun: 'gateway' }, input.GatewayId);
    if (!gateway.Attachments?.some((a) => a.VpcId === table.VpcId))
      throw invalidParameter(`route table ${table.RouteTableId} and network gateway ${input.GatewayId} belong to different networks`);
    return { ...base, GatewayId: input.GatewayId };
  }
  if (input.NatGatewayId) {
    find(call.tables.natGateways, names.natGateway, input.NatGatewayId);
    return { ...base, NatGatewayId: input.NatGatewayId };
  }
  let interfaceId = input.NetworkInterfaceId;
  if (input.InstanceId) {
    find(call.tables.instances, names.instance, input.InstanceId);
    const own = call.tables.networkInterfaces.by('instance', input.InstanceId);
    if (own.length > 1)
      throw new AwsError(
        'InvalidInstanceID',
        `There are multiple interfaces attached to instance '${input.InstanceId}'. Please specify an interface ID for the operation instead.`,
      );
    interfaceId = own[0]?.NetworkInterfaceId;
  }
  const eni = find(call.tables.networkInterfaces, names.networkInterface, interfaceId);
  if (eni.VpcId !== table.VpcId)
    throw invalidParameter(`route table ${table.RouteTableId} and interface ${eni.NetworkInterfaceId} belong to different networks`);
  const instanceId = eni.Attachment?.InstanceId;
  return { ...base, NetworkInterfaceId: eni.NetworkInterfaceId, ...(instanceId ? { InstanceId: instanceId, InstanceOwnerId: call.accountId } : {}) };
}

function associationOf(call: CallContext, id: string | undefined) {
  for (const table of call.tables.routeTables.values()) {
    const association = table.Associations.find((a) => a.RouteTableAssociationId === id);
    if (association) return { table, association };
  }
  throw new AwsError('InvalidAssociationID.NotFound', `The association ID '${id ?? ''}' does not exist`);
}

const associated = { State: 'associated' as const };

export const routeTableOperations = {
  CreateRouteTable(input: CreateRouteTableRequest, call: CallContext): CreateRouteTableResult {
    const vpc = find(call.tables.vpcs, names.vpc, input.VpcId);
    const record = createRouteTable(call, vpc, false);
    putTags(call, record.RouteTableId, specifiedTags(input.TagSpecifications, 'route-table'));
    return { RouteTable: viewRouteTable(call, record) };
  },

  DeleteRouteTable(input: DeleteRouteTableRequest, call: CallContext) {
    const table = find(call.tables.routeTables, names.routeTable, input.RouteTableId);
    if (table.Associations.length)
      throw new AwsError('DependencyViolation', `The routeTable '${table.RouteTableId}' has dependencies and cannot be deleted.`);
    dropRouteTable(call, table.RouteTableId);
  },

  DescribeRouteTables(input: DescribeRouteTablesRequest, call: CallContext): DescribeRouteTablesResult {
    const page = describe(
      call.tables.routeTables,
      names.routeTable,
      (r) => viewRouteTable(call, r),
      (t) => t.RouteTableId,
      filters,
      input.RouteTableIds,
      input,
    );
    return { RouteTables: page.items, NextToken: page.NextToken };
  },

  CreateRoute(input: CreateRouteRequest, call: CallContext): CreateRouteResult {
    const table = find(call.tables.routeTables, names.routeTable, input.RouteTableId);
    const route = routeOf(call, table, input);
    const same = table.Routes.find((r) => r.DestinationCidrBlock === route.DestinationCidrBlock);
    // The same route once more is no error; another target for the destination is.
    if (
      same &&
      (same.GatewayId !== route.GatewayId || same.NetworkInterfaceId !== route.NetworkInterfaceId || same.NatGatewayId !== route.NatGatewayId)
    ) {
      throw new AwsError('RouteAlreadyExists', `The route identified by ${route.DestinationCidrBlock} already exists.`);
    }
    if (!same) call.tables.routeTables.change(table.RouteTableId, { Routes: [...table.Routes, route] });
    return { Return: true };
  },

  ReplaceRoute(input: ReplaceRouteRequest, call: CallContext) {
    const table = find(call.tables.routeTables, names.routeTable, input.RouteTableId);
    const route = routeOf(call, table, input);
    if (!table.Routes.some((r) => r.DestinationCidrBlock === route.DestinationCidrBlock)) {
      throw invalidParameter(`There is no route defined for '${route.DestinationCidrBlock}' in the route table. Use CreateRoute instead.`);
    }
    call.tables.routeTables.change(table.RouteTableId, {
      Routes: table.Routes.map((r) => (r.DestinationCidrBlock === route.DestinationCidrBlock ? route : r)),
    });
  },

  DeleteRoute(input: DeleteRouteRequest, call: CallContext) {
    const table = find(call.tables.routeTables, names.routeTable, input.RouteTableId);
    const range = parseRange(input.DestinationCidrBlock ?? '');
    const destination = range ? rangeText(range) : input.DestinationCidrBlock;
    const route = table.Routes.find((r) => r.DestinationCidrBlock === destination);
    if (!route)
      throw new AwsError('InvalidRoute.NotFound', `no route with destination-cidr-block ${destination} in route table ${table.RouteTableId}`);
    if (route.GatewayId === 'local') throw invalidParameter(`cannot remove local route ${destination} in route table ${table.RouteTableId}`);
    call.tables.routeTables.change(table.RouteTableId, { Routes: table.Routes.filter((r) => r !== route) });
  },

  AssociateRouteTable(input: AssociateRouteTableRequest, call: CallContext): AssociateRouteTableResult {
    const table = find(call.tables.routeTables, names.routeTable, input.RouteTableId);
    const subnet = find(call.tables.subnets, names.subnet, input.SubnetId);
    if (subnet.VpcId !== table.VpcId)
      throw invalidParameter(`route table ${table.RouteTableId} and subnet ${subnet.SubnetId} belong to different networks`);
    const [other] = call.tables.routeTables.by('subnet', subnet.SubnetId);
    if (other) {
      const mine = other.Associations.find((a) => a.SubnetId === subnet.SubnetId);
      if (other.RouteTableId === table.RouteTableId) return { AssociationId: mine?.RouteTableAssociationId, AssociationState: associated };
      throw new AwsError(
        'Resource.AlreadyAssociated',
        `the specified association for route table ${table.RouteTableId} conflicts with an existing association`,
      );
    }
    const id = ec2Id('rtbassoc');
    call.tables.routeTables.change(table.RouteTableId, {
      Associations: [
        ...table.Associations,
        { RouteTableAssociationId: id, RouteTableId: table.RouteTableId, SubnetId: subnet.SubnetId, Main: false, AssociationState: associated },
      ],
    });
    return { AssociationId: id, AssociationState: associated };
  },

  DisassociateRouteTable(input: DisassociateRouteTableRequest, call: CallContext) {
    const { table, association } = associationOf(call, input.AssociationId);
    if (association.Main) throw invalidParameter(`cannot disassociate the main route table association ${input.AssociationId}`);
    call.tables.routeTables.change(table.RouteTableId, { Associations: table.Associations.filter((a) => a !== association) });
  },

  ReplaceRouteTableAssociation(input: ReplaceRouteTableAssociationRequest, call: CallContext): ReplaceRouteTableAssociationResult {
    const { table, association } = associationOf(call, input.AssociationId);
    const target = find(call.tables.routeTables, names.routeTable, input.RouteTableId);
    call.tables.routeTables.change(table.RouteTableId, { Associations: table.Associations.filter((a) => a !== association) });
    const id = ec2Id('rtbassoc');
    const now = call.tables.routeTables.get(target.RouteTableId) as RouteTableRecord;
    call.tables.routeTables.change(target.RouteTableId, {
      Associations: [...now.Associations, { ...association, RouteTableAssociationId: id, RouteTableId: target.RouteTableId }],
    });
    return { NewAssociationId: id, AssociationState: associated };
  },
} satisfies Operations;
