import type {
  CreateSubnetRequest,
  CreateSubnetResult,
  DeleteSubnetRequest,
  DescribeSubnetsRequest,
  DescribeSubnetsResult,
  ModifySubnetAttributeRequest,
  Subnet,
} from '@aws-sdk/client-ec2';
import type { CallContext, Cloud, Operations } from '../cloud.ts';
import { AwsError, invalidParameter } from '../errors.ts';
import { ec2Id } from '../ids.ts';
import type { SubnetRecord } from '../state/records.ts';
import { addressNumber, addressText, block, contains, keptFirst, keptLast, overlaps, parseRange, rangeText } from './addresses.ts';
import { describe, find } from './describe.ts';
import { names } from './names.ts';
import { dropTags, putTags, specifiedTags, tagsOf } from './tags.ts';
import { zoneId } from './zones.ts';

export function viewSubnet(cloud: Cloud, record: SubnetRecord): Subnet & { SubnetId: string } {
  let used = keptFirst + keptLast;
  for (const one of cloud.tables.networkInterfaces.by('subnet', record.SubnetId)) used += one.PrivateIpAddresses.length;
  return { ...record, AvailableIpAddressCount: parseRange(record.CidrBlock)!.size - used, Tags: tagsOf(cloud, record.SubnetId) };
}

const filters = {
  'subnet-id': (subnet: Subnet) => subnet.SubnetId,
  'vpc-id': (subnet: Subnet) => subnet.VpcId,
  'availability-zone': (subnet: Subnet) => subnet.AvailabilityZone,
  availabilityZone: (subnet: Subnet) => subnet.AvailabilityZone,
  'availability-zone-id': (subnet: Subnet) => subnet.AvailabilityZoneId,
  'available-ip-address-count': (subnet: Subnet) => subnet.AvailableIpAddressCount,
  cidr: (subnet: Subnet) => subnet.CidrBlock,
  cidrBlock: (subnet: Subnet) => subnet.CidrBlock,
  'cidr-block': (subnet: Subnet) => subnet.CidrBlock,
  'default-for-az': (subnet: Subnet) => subnet.DefaultForAz,
  defaultForAz: (subnet: Subnet) => subnet.DefaultForAz,
  'map-public-ip-on-launch': (subnet: Subnet) => subnet.MapPublicIpOnLaunch,
  'owner-id': (subnet: Subnet) => subnet.OwnerId,
  state: (subnet: Subnet) => subnet.State,
  'subnet-arn': (subnet: Subnet) => subnet.SubnetArn,
};

/** Where the search for a free address of a subnet begins: after the one given last, so that addresses are not reused at once. */
const cursors = new WeakMap<object, Map<string, number>>();

/** An address of a subnet that is free; wanted names one. Throws InvalidIPAddress.InUse and InsufficientFreeAddressesInSubnet. */
export function takeAddress(cloud: Cloud, subnet: SubnetRecord, wanted: string | undefined, taken: ReadonlySet<string> = new Set()): string {
  const { networkInterfaces } = cloud.tables;
  const range = parseRange(subnet.CidrBlock)!;
  const free = (address: string) => !networkInterfaces.hasKey('address', `${subnet.SubnetId} ${address}`) && !taken.has(address);
  const first = range.base + keptFirst;
  const last = range.base + range.size - keptLast - 1;
  if (wanted !== undefined) {
    const number = addressNumber(wanted);
    if (number === undefined) throw invalidParameter(`Value (${wanted}) for parameter privateIpAddress is invalid. Invalid IP address`);
    if (number < first || number > last) {
      throw invalidParameter(
        number >= range.base && number < range.base + range.size
          ? `Address ${wanted} is in subnet's reserved address range`
          : `Address ${wanted} does not fall within the subnet's address range`,
      );
    }
    if (!free(wanted)) throw new AwsError('InvalidIPAddress.InUse', `Address ${wanted} is in use.`);
    return wanted;
  }
  let perSubnet = cursors.get(networkInterfaces);
  if (!perSubnet) cursors.set(networkInterfaces, (perSubnet = new Map()));
  const start = perSubnet.get(subnet.SubnetId) ?? first;
  const count = last - first + 1;
  for (let i = 0; i < count; i++) {
    const number = first + ((start - first + i) % count);
    const address = addressText(number);
    if (!free(address)) continue;
    perSubnet.set(subnet.SubnetId, number === last ? first : number + 1);
    return address;
  }
  throw new AwsError(
    'InsufficientFreeAddressesInSubnet',
    `There are not enough free addresses in subnet '${subnet.SubnetId}' to satisfy the requested number of instances.`,
  );
}

export const subnetOperations = {
  CreateSubnet(input: CreateSubnetRequest, call: CallContext): CreateSubnetResult {
    const vpc = find(call.tables.vpcs, names.vpc, input.VpcId);
    if (!input.CidrBlock) throw new AwsError('MissingParameter', 'Either cidrBlock or ipv6CidrBlock should be provided.');
    const range = block(input.CidrBlock, 'InvalidSubnet.Range', 'subnet');
    if (!contains(parseRange(vpc.CidrBlock)!, range)) throw new AwsError('InvalidSubnet.Range', `The CIDR '${input.CidrBlock}' is invalid.`);
    if (call.tables.subnets.by('vpc', vpc.VpcId).some((other) => overlaps(parseRange(other.CidrBlock)!, range))) {
      throw new AwsError('InvalidSubnet.Conflict', `The CIDR '${input.CidrBlock}' conflicts with another subnet`);
    }
    let zone = input.AvailabilityZone;
    if (input.AvailabilityZoneId) zone ??= call.zones.find((name) => zoneId(call, name) === input.AvailabilityZoneId) ?? input.AvailabilityZoneId;
    zone ??= call.zones[0]!;
    if (!call.zones.includes(zone)) {
      throw invalidParameter(
        `Value (${zone}) for parameter availabilityZone is invalid. Subnets can currently only be created in the following availability zones: ${call.zones.join(', ')}.`,
      );
    }
    const subnetId = ec2Id('subnet');
    const record = call.tables.subnets.put(subnetId, {
      SubnetId: subnetId,
      SubnetArn: `arn:aws:ec2:${call.region}:${call.accountId}:subnet/${subnetId}`,
      VpcId: vpc.VpcId,
      OwnerId: call.accountId,
      CidrBlock: rangeText(range),
      AvailabilityZone: zone,
      AvailabilityZoneId: zoneId(call, zone),
      State: 'available',
      DefaultForAz: false,
      MapPublicIpOnLaunch: false,
      AssignIpv6AddressOnCreation: false,
      Ipv6CidrBlockAssociationSet: [],
      Ipv6Native: false,
      EnableDns64: false,
      MapCustomerOwnedIpOnLaunch: false,
      PrivateDnsNameOptionsOnLaunch: { HostnameType: 'ip-name', EnableResourceNameDnsARecord: false, EnableResourceNameDnsAAAARecord: false },
    });
    putTags(call, subnetId, specifiedTags(input.TagSpecifications, 'subnet'));
    return { Subnet: viewSubnet(call, record) };
  },

  DeleteSubnet(input: DeleteSubnetRequest, call: CallContext) {
    const { SubnetId: subnetId } = find(call.tables.subnets, names.subnet, input.SubnetId);
    if (call.tables.networkInterfaces.hasKey('subnet', subnetId)) {
      throw new AwsError('DependencyViolation', `The subnet '${subnetId}' has dependencies and cannot be deleted.`);
    }
    for (const table of call.tables.routeTables.by('subnet', subnetId)) {
      call.tables.routeTables.change(table.RouteTableId, {
        Associations: table.Associations.filter((association) => association.SubnetId !== subnetId),
      });
    }
    call.tables.subnets.delete(subnetId);
    dropTags(call, subnetId);
  },

  DescribeSubnets(input: DescribeSubnetsRequest, call: CallContext): DescribeSubnetsResult {
    const view = (record: SubnetRecord) => viewSubnet(call, record);
    const page = describe(call.tables.subnets, names.subnet, view, (subnet) => subnet.SubnetId, filters, input.SubnetIds, input);
    return { Subnets: page.items, NextToken: page.NextToken };
  },

  ModifySubnetAttribute(input: ModifySubnetAttributeRequest, call: CallContext) {
    const subnet = find(call.tables.subnets, names.subnet, input.SubnetId);
    const { subnets } = call.tables;
    if (input.MapPublicIpOnLaunch?.Value !== undefined) subnets.change(subnet.SubnetId, { MapPublicIpOnLaunch: input.MapPublicIpOnLaunch.Value });
    if (input.AssignIpv6AddressOnCreation?.Value) throw invalidParameter(`The subnet '${subnet.SubnetId}' has no IPv6 CIDR block`);
    const options = { ...subnet.PrivateDnsNameOptionsOnLaunch };
    if (input.PrivateDnsHostnameTypeOnLaunch) options.HostnameType = input.PrivateDnsHostnameTypeOnLaunch;
    if (input.EnableResourceNameDnsARecordOnLaunch?.Value !== undefined) {
      options.EnableResourceNameDnsARecord = input.EnableResourceNameDnsARecordOnLaunch.Value;
    }
    subnets.change(subnet.SubnetId, { PrivateDnsNameOptionsOnLaunch: options });
  },
} satisfies Operations;
