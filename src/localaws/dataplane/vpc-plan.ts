import { createHash } from 'node:crypto';
import type { RouteTable } from '@aws-sdk/client-ec2';
import type { CloudState } from '../contract.ts';
import { contains, nth, parseBlock } from './addresses.ts';
import { filterText, type LocalEndpoint } from './firewall.ts';
import { type Interface, interfacesOf, wantsNetwork } from './interfaces.ts';
import { AWS_ADDRESS, METADATA_ADDRESS, RESOLVER_ADDRESS } from './names.ts';

/** A veth pair between an instance and the router of its VPC. */
export interface Link {
  name: string;
  instanceId: string;
  /** eth0 for the first interface. */
  device: string;
  mac?: string;
  /** With prefix length; the primary one first. */
  addresses: string[];
  /** The default gateway; only the first interface has one. */
  gateway?: string;
}

/** What the namespace of a VPC shall look like. Keys of `entries` name a thing, values are the rest of its `ip` command. */
export interface VpcPlan {
  vpcId: string;
  cidrs: string[];
  resolver: string;
  interfaces: Interface[];
  links: Link[];
  entries: Map<string, string>;
  /** The nftables table, as text for `nft -f`. */
  filter: string;
}

/** An address of a load balancer on the router. No groups: everything may reach it, as with a Network Load Balancer without any. */
export interface BalancerAddress {
  vpcId: string;
  address: string;
  groups: string[];
}

/** Plans for the VPCs that something needs: an instance, an interface held for the host, a load balancer. The others stay unmade. */
export function planVpcs(state: CloudState, balancers: BalancerAddress[]): VpcPlan[] {
  const interfaces = interfacesOf(state);
  const states = new Map(state.instances.map((instance) => [instance.InstanceId!, instance.State?.Name]));
  const plans: VpcPlan[] = [];
  for (const vpc of state.vpcs) {
    const here = interfaces.filter((one) => one.vpcId === vpc.VpcId);
    const joined = here.filter((one) => one.instanceId && wantsNetwork(states.get(one.instanceId)));
    const held = here.filter((one) => one.hostSocket && one.hostPort);
    const addresses = balancers.filter((one) => one.vpcId === vpc.VpcId);
    if (joined.length + held.length + addresses.length > 0) plans.push(planVpc(state, vpc.VpcId!, here, joined, held, addresses));
  }
  return plans;
}

function planVpc(
  state: CloudState,
  vpcId: string,
  interfaces: Interface[],
  joined: Interface[],
  held: Interface[],
  balancers: BalancerAddress[],
): VpcPlan {
  const vpc = state.vpcs.find((one) => one.VpcId === vpcId)!;
  const associated = (vpc.CidrBlockAssociationSet ?? []).filter((one) => one.CidrBlockState?.State !== 'disassociated').map((one) => one.CidrBlock!);
  const cidrs = [...new Set([vpc.CidrBlock!, ...associated])];
  const subnets = state.subnets.filter((one) => one.VpcId === vpcId);
  const tables = state.routeTables.filter((one) => one.VpcId === vpcId);
  const resolver = nth(vpc.CidrBlock!, 2);
  const gateways = [nth(vpc.CidrBlock!, 1), ...subnets.map((one) => nth(one.CidrBlock!, 1))];
  const entries = new Map<string, string>();
  const routerAddresses = [...gateways, resolver, METADATA_ADDRESS, RESOLVER_ADDRESS, AWS_ADDRESS];
  for (const address of [...routerAddresses, ...held.map((one) => one.addresses[0]), ...balancers.map((one) => one.address)]) {
    entries.set(`addr ${address}/32 dev lo`, 'scope global');
  }
  entries.set('route default table main metric 4278198272', 'unreachable');

  const links = joined.map((one): Link => {
    const subnet = subnets.find((candidate) => candidate.SubnetId === one.subnetId);
    const cidr = subnet?.CidrBlock ?? vpc.CidrBlock!;
    for (const address of one.addresses) {
      entries.set(`route ${address}/32 table main`, `dev ${one.link}`);
      if (one.mac) entries.set(`neigh ${address} dev ${one.link}`, `lladdr ${one.mac} nud permanent`);
    }
    const table = tableOfSubnet(tables, one.subnetId);
    if (table) entries.set(`rule iif ${one.link} pref 1000`, `lookup ${tableNumber(table)}`);
    return {
      name: one.link,
      instanceId: one.instanceId!,
      device: `eth${one.deviceIndex}`,
      mac: one.mac,
      addresses: one.addresses.map((address) => `${address}/${parseBlock(cidr).prefix}`),
      gateway: one.deviceIndex === 0 ? nth(cidr, 1) : undefined,
    };
  });
  for (const [key, spec] of routesOfTables(tables, cidrs, joined, state)) entries.set(key, spec);

  const local: LocalEndpoint[] = [
    ...held.map((one) => ({ address: one.addresses[0], groups: one.groups })),
    ...balancers.map((one) => ({ address: one.address, groups: one.groups.length ? one.groups : undefined })),
  ];
  const filter = filterText({ groups: state.securityGroups, interfaces: joined, local, gateways, resolver, hopLimits: hopLimits(state, joined) });
  return { vpcId, cidrs, resolver, interfaces, links, entries, filter };
}

/** An AWS route table as a Linux one: `throw` for what is local (so that the host routes of the main table decide), the rest as it stands. */
function routesOfTables(tables: RouteTable[], cidrs: string[], joined: Interface[], state: CloudState): Map<string, string> {
  const entries = new Map<string, string>();
  for (const table of tables) {
    const number = tableNumber(table);
    // What the router itself sends (health checks, connections into the VPC) tries each table in turn.
    entries.set(`rule iif lo pref ${2000 + (number % 20_000)}`, `lookup ${number}`);
    for (const cidr of cidrs) entries.set(`route ${cidr} table ${number}`, 'throw');
    for (const route of table.Routes ?? []) {
      const destination = route.DestinationCidrBlock;
      if (!destination || route.GatewayId === 'local') continue;
      const target =
        joined.find((one) => route.NetworkInterfaceId && one.id === route.NetworkInterfaceId) ??
        joined.find((one) => !route.NetworkInterfaceId && route.InstanceId && one.instanceId === route.InstanceId && one.deviceIndex === 0);
      const running = state.instances.some((one) => one.InstanceId === target?.instanceId && one.State?.Name !== 'stopping');
      const key = `route ${destination === '0.0.0.0/0' ? 'default' : destination} table ${number}`;
      if (target && running) entries.set(key, `via ${target.addresses[0]} dev ${target.link} onlink`);
      // Nothing leads out of a VPC: an internet or NAT gateway answers "unreachable" at once rather than let connections hang.
      else entries.set(key, route.NetworkInterfaceId || route.InstanceId ? 'blackhole' : 'unreachable');
    }
  }
  return entries;
}

/** The route table that a subnet is associated with, else the main one of its VPC. */
export function tableOfSubnet(tables: RouteTable[], subnetId: string): RouteTable | undefined {
  const associations = (table: RouteTable) => (table.Associations ?? []).filter((one) => one.AssociationState?.State !== 'disassociated');
  return (
    tables.find((table) => associations(table).some((one) => one.SubnetId === subnetId)) ??
    tables.find((table) => associations(table).some((one) => one.Main))
  );
}

function tableNumber(table: RouteTable): number {
  return 1000 + createHash('sha256').update(table.RouteTableId!).digest().readUIntBE(0, 3);
}

/** HttpPutResponseHopLimit by address, where version 2 of instance metadata is required (version 1 knows no limit). */
function hopLimits(state: CloudState, joined: Interface[]): Map<string, number> {
  const limits = new Map<string, number>();
  for (const one of joined) {
    const options = state.instances.find((instance) => instance.InstanceId === one.instanceId)?.MetadataOptions;
    if (options?.HttpTokens === 'required' && options.HttpPutResponseHopLimit) limits.set(one.addresses[0], options.HttpPutResponseHopLimit);
  }
  return limits;
}

/** The networks outside the VPC's own ranges that a route leads to an instance for, such as pod CIDRs. */
export function routedNetworks(state: CloudState, plan: VpcPlan): { cidr: string; instanceId: string }[] {
  const found = new Map<string, string>();
  for (const table of state.routeTables.filter((one) => one.VpcId === plan.vpcId)) {
    for (const route of table.Routes ?? []) {
      const owner = route.InstanceId ?? plan.interfaces.find((one) => one.id === route.NetworkInterfaceId)?.instanceId;
      const cidr = route.DestinationCidrBlock;
      if (owner && cidr && !plan.cidrs.some((own) => contains(own, cidr.split('/')[0]))) found.set(cidr, owner);
    }
  }
  return [...found].map(([cidr, instanceId]) => ({ cidr, instanceId }));
}
