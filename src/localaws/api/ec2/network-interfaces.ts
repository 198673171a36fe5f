import type {
  AttachNetworkInterfaceRequest,
  AttachNetworkInterfaceResult,
  CreateNetworkInterfaceRequest,
  CreateNetworkInterfaceResult,
  DeleteNetworkInterfaceRequest,
  DescribeNetworkInterfaceAttributeRequest,
  DescribeNetworkInterfaceAttributeResult,
  DescribeNetworkInterfacesRequest,
  DescribeNetworkInterfacesResult,
  DetachNetworkInterfaceRequest,
  ModifyNetworkInterfaceAttributeRequest,
  NetworkInterface,
  UnassignPrivateIpAddressesRequest,
  AssignPrivateIpAddressesRequest,
  AssignPrivateIpAddressesResult,
} from '@aws-sdk/client-ec2';
import { randomBytes } from 'node:crypto';
import { type CallContext, type Cloud, now, type Operations } from '../cloud.ts';
import { AwsError, invalidParameter } from '../errors.ts';
import { ec2Id } from '../ids.ts';
import type { NetworkInterfaceRecord, SubnetRecord } from '../state/records.ts';
import { describe, find } from './describe.ts';
import { names } from './names.ts';
import { takeAddress } from './subnets.ts';
import { dropTags, putTags, specifiedTags, tagsOf } from './tags.ts';

/** ip-10-0-0-5.ec2.internal, or ip-10-0-0-5.REGION.compute.internal outside us-east-1. */
export function privateDnsName(cloud: Cloud, address: string): string {
  return `ip-${address.replaceAll('.', '-')}.${cloud.region === 'us-east-1' ? 'ec2' : `${cloud.region}.compute`}.internal`;
}

function publicDnsName(cloud: Cloud, address: string): string {
  return `ec2-${address.replaceAll('.', '-')}.${cloud.region === 'us-east-1' ? 'compute-1' : `${cloud.region}.compute`}.amazonaws.com`;
}

/** The groups of ids, all of one VPC; the VPC's default group where none is named. */
export function groupsOf(cloud: Cloud, vpcId: string, ids: string[] | undefined): { GroupId: string; GroupName: string }[] {
  if (!ids?.length) {
    const group = cloud.tables.securityGroups.by('vpc', vpcId).find((one) => one.GroupName === 'default');
    return group ? [{ GroupId: group.GroupId, GroupName: group.GroupName }] : [];
  }
  return [...new Set(ids)].map((id) => {
    const group = find(cloud.tables.securityGroups, names.securityGroup, id);
    if (group.VpcId !== vpcId) throw invalidParameter(`Security group ${id} and subnet belong to different networks.`);
    return { GroupId: group.GroupId, GroupName: group.GroupName };
  });
}

export interface NewInterface {
  subnet: SubnetRecord;
  groups?: string[] | undefined;
  address?: string | undefined;
  /** Further addresses: which, or how many. */
  secondary?: number | string[] | undefined;
  description?: string | undefined;
  sourceDestCheck?: boolean;
  publicIp?: boolean;
  /** Of interfaces that AWS makes for itself, as for load balancers. */
  requester?: { id: string; type: NetworkInterface['InterfaceType'] };
}

/** Makes a network interface with an address of its subnet. Part of the caller's transaction. */
export function createInterface(cloud: Cloud, o: NewInterface): NetworkInterfaceRecord {
  const id = ec2Id('eni');
  const address = takeAddress(cloud, o.subnet, o.address);
  const taken = new Set([address]);
  const addresses = [{ PrivateIpAddress: address, Primary: true, PrivateDnsName: privateDnsName(cloud, address) }];
  const others = Array.isArray(o.secondary) ? o.secondary : Array.from({ length: o.secondary ?? 0 }, () => undefined);
  for (const wanted of others) {
    const more = takeAddress(cloud, o.subnet, wanted, taken);
    taken.add(more);
    addresses.push({ PrivateIpAddress: more, Primary: false, PrivateDnsName: privateDnsName(cloud, more) });
  }
  const mac = [0x06, ...randomBytes(5)].map((byte) => byte.toString(16).padStart(2, '0')).join(':');
  return cloud.tables.networkInterfaces.put(id, {
    NetworkInterfaceId: id,
    SubnetId: o.subnet.SubnetId,
    VpcId: o.subnet.VpcId,
    AvailabilityZone: o.subnet.AvailabilityZone,
    OwnerId: cloud.accountId,
    PrivateIpAddress: address,
    PrivateDnsName: privateDnsName(cloud, address),
    PrivateIpAddresses: addresses,
    Groups: groupsOf(cloud, o.subnet.VpcId, o.groups),
    Status: 'available',
    MacAddress: mac,
    SourceDestCheck: o.sourceDestCheck ?? true,
    Description: o.description ?? '',
    InterfaceType: o.requester?.type ?? 'interface',
    RequesterManaged: o.requester !== undefined,
    ...(o.requester ? { RequesterId: o.requester.id } : {}),
    Ipv6Addresses: [],
    ...(o.publicIp ? { publicIp: publicAddress(cloud), mapsPublicIp: true } : {}),
  });
}

/** An address of 54.0.0.0/8 that no interface has. */
function publicAddress(cloud: Cloud): string {
  const used = new Set(cloud.tables.networkInterfaces.values().map((one) => one.publicIp));
  for (;;) {
    const [a, b, c] = randomBytes(3);
    const address = `54.${a}.${b}.${Math.max(1, c!)}`;
    if (!used.has(address)) return address;
  }
}

/** What a stop takes away from an instance: the addresses that it has only while it runs. */
export function releasePublicAddresses(cloud: Cloud, instanceId: string): void {
  for (const eni of cloud.tables.networkInterfaces.by('instance', instanceId)) {
    if (eni.publicIp) cloud.tables.networkInterfaces.put(eni.NetworkInterfaceId, withoutPublicIp(eni));
  }
}

/** Gives an instance that starts new ones. */
export function takePublicAddresses(cloud: Cloud, instanceId: string): void {
  for (const eni of cloud.tables.networkInterfaces.by('instance', instanceId)) {
    if (eni.mapsPublicIp && !eni.publicIp) cloud.tables.networkInterfaces.change(eni.NetworkInterfaceId, { publicIp: publicAddress(cloud) });
  }
}

function withoutPublicIp(record: NetworkInterfaceRecord): NetworkInterfaceRecord {
  const { publicIp: _, ...rest } = record;
  return rest;
}

export function dropInterface(cloud: Cloud, id: string): void {
  for (const address of cloud.tables.addresses.values()) {
    if (address.NetworkInterfaceId !== id) continue;
    // An Elastic IP outlives what it was given to.
    const { AssociationId: _a, NetworkInterfaceId: _n, InstanceId: _i, PrivateIpAddress: _p, NetworkInterfaceOwnerId: _o, ...free } = address;
    cloud.tables.addresses.put(address.AllocationId, free);
  }
  cloud.tables.networkInterfaces.delete(id);
  dropTags(cloud, id);
}

/** The address by which the interface is known outside: given at launch, or an Elastic IP. */
export function association(
  cloud: Cloud,
  record: NetworkInterfaceRecord,
): { PublicIp: string; PublicDnsName: string; IpOwnerId: string } | undefined {
  const elastic = cloud.tables.addresses.values().find((one) => one.NetworkInterfaceId === record.NetworkInterfaceId);
  const address = elastic?.PublicIp ?? record.publicIp;
  return address ? { PublicIp: address, PublicDnsName: publicDnsName(cloud, address), IpOwnerId: elastic ? cloud.accountId : 'amazon' } : undefined;
}

export function viewInterface(cloud: Cloud, record: NetworkInterfaceRecord): NetworkInterface & { NetworkInterfaceId: string } {
  const { publicIp: _, mapsPublicIp: _m, ...shape } = record;
  const known = association(cloud, record);
  const addresses = known ? record.PrivateIpAddresses.map((one) => (one.Primary ? { ...one, Association: known } : one)) : record.PrivateIpAddresses;
  return { ...shape, ...(known ? { Association: known } : {}), PrivateIpAddresses: addresses, TagSet: tagsOf(cloud, record.NetworkInterfaceId) };
}

const filters = {
  'network-interface-id': (n: NetworkInterface) => n.NetworkInterfaceId,
  'subnet-id': (n: NetworkInterface) => n.SubnetId,
  'vpc-id': (n: NetworkInterface) => n.VpcId,
  'availability-zone': (n: NetworkInterface) => n.AvailabilityZone,
  description: (n: NetworkInterface) => n.Description,
  status: (n: NetworkInterface) => n.Status,
  'group-id': (n: NetworkInterface) => n.Groups?.map((g) => g.GroupId),
  'group-name': (n: NetworkInterface) => n.Groups?.map((g) => g.GroupName),
  'mac-address': (n: NetworkInterface) => n.MacAddress,
  'owner-id': (n: NetworkInterface) => n.OwnerId,
  'private-ip-address': (n: NetworkInterface) => n.PrivateIpAddress,
  'private-dns-name': (n: NetworkInterface) => n.PrivateDnsName,
  'addresses.private-ip-address': (n: NetworkInterface) => n.PrivateIpAddresses?.map((a) => a.PrivateIpAddress),
  'addresses.primary': (n: NetworkInterface) => n.PrivateIpAddresses?.map((a) => String(a.Primary)),
  'association.public-ip': (n: NetworkInterface) => n.Association?.PublicIp,
  'attachment.instance-id': (n: NetworkInterface) => n.Attachment?.InstanceId,
  'attachment.attachment-id': (n: NetworkInterface) => n.Attachment?.AttachmentId,
  'attachment.status': (n: NetworkInterface) => n.Attachment?.Status,
  'attachment.device-index': (n: NetworkInterface) => (n.Attachment ? String(n.Attachment.DeviceIndex) : undefined),
  'attachment.delete-on-termination': (n: NetworkInterface) => (n.Attachment ? String(n.Attachment.DeleteOnTermination) : undefined),
  'requester-id': (n: NetworkInterface) => n.RequesterId,
  'requester-managed': (n: NetworkInterface) => String(n.RequesterManaged ?? false),
  'source-dest-check': (n: NetworkInterface) => String(n.SourceDestCheck ?? true),
  'interface-type': (n: NetworkInterface) => n.InterfaceType,
};

/** Attaches an interface at once; the data plane follows. */
export function attach(
  cloud: Cloud,
  record: NetworkInterfaceRecord,
  instanceId: string,
  deviceIndex: number,
  deleteOnTermination: boolean,
): NetworkInterfaceRecord {
  return cloud.tables.networkInterfaces.change(record.NetworkInterfaceId, {
    Status: 'in-use',
    Attachment: {
      AttachmentId: ec2Id('eni-attach'),
      InstanceId: instanceId,
      InstanceOwnerId: cloud.accountId,
      DeviceIndex: deviceIndex,
      NetworkCardIndex: 0,
      Status: 'attached',
      AttachTime: now(cloud),
      DeleteOnTermination: deleteOnTermination,
    },
  });
}

/** Takes an interface off its instance. */
export function detach(cloud: Cloud, record: NetworkInterfaceRecord): void {
  const { Attachment: _, mapsPublicIp: _m, ...rest } = withoutPublicIp(record);
  cloud.tables.networkInterfaces.put(record.NetworkInterfaceId, { ...rest, Status: 'available' });
}

function own(call: CallContext, id: string | undefined): NetworkInterfaceRecord {
  const record = find(call.tables.networkInterfaces, names.networkInterface, id);
  if (record.RequesterManaged) {
    throw new AwsError(
      'OperationNotPermitted',
      `You are not allowed to manage '${record.Attachment?.AttachmentId ?? record.NetworkInterfaceId}' attachments.`,
    );
  }
  return record;
}

export const networkInterfaceOperations = {
  CreateNetworkInterface(input: CreateNetworkInterfaceRequest, call: CallContext): CreateNetworkInterfaceResult {
    const subnet = find(call.tables.subnets, names.subnet, input.SubnetId);
    const primary = input.PrivateIpAddresses?.find((one) => one.Primary);
    const others = input.PrivateIpAddresses?.filter((one) => one !== primary).map((one) => one.PrivateIpAddress!);
    const record = createInterface(call, {
      subnet,
      groups: input.Groups,
      address: input.PrivateIpAddress ?? primary?.PrivateIpAddress,
      secondary: others?.length ? others : input.SecondaryPrivateIpAddressCount,
      description: input.Description,
    });
    putTags(call, record.NetworkInterfaceId, specifiedTags(input.TagSpecifications, 'network-interface'));
    return { NetworkInterface: viewInterface(call, record), ...(input.ClientToken ? { ClientToken: input.ClientToken } : {}) };
  },

  DeleteNetworkInterface(input: DeleteNetworkInterfaceRequest, call: CallContext) {
    const record = own(call, input.NetworkInterfaceId);
    if (record.Attachment) {
      throw new AwsError('InvalidParameterValue', `Network interface '${record.NetworkInterfaceId}' is currently in use.`);
    }
    dropInterface(call, record.NetworkInterfaceId);
  },

  DescribeNetworkInterfaces(input: DescribeNetworkInterfacesRequest, call: CallContext): DescribeNetworkInterfacesResult {
    // The tags of interfaces stand under another name than those of everything else.
    const view = (record: NetworkInterfaceRecord) => ({ ...viewInterface(call, record), Tags: tagsOf(call, record.NetworkInterfaceId) });
    const page = describe(
      call.tables.networkInterfaces,
      names.networkInterface,
      view,
      (n) => n.NetworkInterfaceId,
      filters,
      input.NetworkInterfaceIds,
      input,
    );
    return { NetworkInterfaces: page.items, NextToken: page.NextToken };
  },

  AttachNetworkInterface(input: AttachNetworkInterfaceRequest, call: CallContext): AttachNetworkInterfaceResult {
    const record = own(call, input.NetworkInterfaceId);
    const { instance } = find(call.tables.instances, names.instance, input.InstanceId);
    if (record.Attachment) throw invalidParameter(`Interface: [${record.NetworkInterfaceId}] in use.`);
    if (record.VpcId !== instance.VpcId) throw invalidParameter('You may not attach a network interface to an instance in another network');
    if (record.AvailabilityZone !== instance.Placement?.AvailabilityZone)
      throw invalidParameter('You may not attach a network interface to an instance if they are not in the same availability zone');
    const index = input.DeviceIndex ?? 1;
    if (call.tables.networkInterfaces.by('instance', instance.InstanceId).some((n) => n.Attachment?.DeviceIndex === index)) {
      throw invalidParameter(`Instance '${instance.InstanceId}' already has an interface attached at device index '${index}'.`);
    }
    const state = instance.State.Name;
    if (state !== 'running' && state !== 'stopped' && state !== 'pending') {
      throw new AwsError('IncorrectState', `Instance '${instance.InstanceId}' is not 'running' or 'stopped'.`);
    }
    const attached = attach(call, record, instance.InstanceId, index, false);
    return { AttachmentId: attached.Attachment?.AttachmentId, NetworkCardIndex: 0 };
  },

  DetachNetworkInterface(input: DetachNetworkInterfaceRequest, call: CallContext) {
    const record = call.tables.networkInterfaces.values().find((n) => n.Attachment?.AttachmentId === input.AttachmentId);
    if (!record) throw new AwsError('InvalidAttachmentID.NotFound', `The attachment ID '${input.AttachmentId ?? ''}' does not exist`);
    if (record.Attachment?.DeviceIndex === 0) {
      throw new AwsError('OperationNotPermitted', `The network interface at device index 0 cannot be detached.`);
    }
    detach(call, own(call, record.NetworkInterfaceId));
  },

  DescribeNetworkInterfaceAttribute(input: DescribeNetworkInterfaceAttributeRequest, call: CallContext): DescribeNetworkInterfaceAttributeResult {
    const record = find(call.tables.networkInterfaces, names.networkInterface, input.NetworkInterfaceId);
    const answer = { NetworkInterfaceId: record.NetworkInterfaceId };
    switch (input.Attribute) {
      case 'description':
        return { ...answer, Description: { Value: record.Description ?? '' } };
      case 'groupSet':
        return { ...answer, Groups: record.Groups };
      case 'sourceDestCheck':
        return { ...answer, SourceDestCheck: { Value: record.SourceDestCheck ?? true } };
      case 'attachment':
        return { ...answer, ...(record.Attachment ? { Attachment: record.Attachment } : {}) };
      default:
        throw invalidParameter(`Value (${input.Attribute ?? ''}) for parameter attribute is invalid. Unknown attribute.`);
    }
  },

  ModifyNetworkInterfaceAttribute(input: ModifyNetworkInterfaceAttributeRequest, call: CallContext) {
    const record = find(call.tables.networkInterfaces, names.networkInterface, input.NetworkInterfaceId);
    const { networkInterfaces } = call.tables;
    if (input.SourceDestCheck?.Value !== undefined)
      networkInterfaces.change(record.NetworkInterfaceId, { SourceDestCheck: input.SourceDestCheck.Value });
    if (input.Description?.Value !== undefined) networkInterfaces.change(record.NetworkInterfaceId, { Description: input.Description.Value });
    if (input.Groups) networkInterfaces.change(record.NetworkInterfaceId, { Groups: groupsOf(call, record.VpcId, input.Groups) });
    if (input.Attachment?.DeleteOnTermination !== undefined && record.Attachment) {
      networkInterfaces.change(record.NetworkInterfaceId, {
        Attachment: { ...record.Attachment, DeleteOnTermination: input.Attachment.DeleteOnTermination },
      });
    }
  },

  AssignPrivateIpAddresses(input: AssignPrivateIpAddressesRequest, call: CallContext): AssignPrivateIpAddressesResult {
    const record = find(call.tables.networkInterfaces, names.networkInterface, input.NetworkInterfaceId);
    const subnet = find(call.tables.subnets, names.subnet, record.SubnetId);
    if (!input.PrivateIpAddresses?.length && !input.SecondaryPrivateIpAddressCount) {
      throw new AwsError('MissingParameter', 'Either privateIpAddresses or secondaryPrivateIpAddressCount should be provided.');
    }
    const wanted = input.PrivateIpAddresses ?? Array.from({ length: input.SecondaryPrivateIpAddressCount ?? 0 }, () => undefined);
    const taken = new Set<string>();
    const added = wanted.map((address) => {
      const given = takeAddress(call, subnet, address, taken);
      taken.add(given);
      return { PrivateIpAddress: given, Primary: false, PrivateDnsName: privateDnsName(call, given) };
    });
    call.tables.networkInterfaces.change(record.NetworkInterfaceId, { PrivateIpAddresses: [...record.PrivateIpAddresses, ...added] });
    return { NetworkInterfaceId: record.NetworkInterfaceId, AssignedPrivateIpAddresses: added.map(({ PrivateIpAddress }) => ({ PrivateIpAddress })) };
  },

  UnassignPrivateIpAddresses(input: UnassignPrivateIpAddressesRequest, call: CallContext) {
    const record = find(call.tables.networkInterfaces, names.networkInterface, input.NetworkInterfaceId);
    for (const address of input.PrivateIpAddresses ?? []) {
      if (!record.PrivateIpAddresses.some((one) => one.PrivateIpAddress === address && !one.Primary)) {
        throw invalidParameter(`Some of the specified addresses are not assigned to interface ${record.NetworkInterfaceId}`);
      }
    }
    call.tables.networkInterfaces.change(record.NetworkInterfaceId, {
      PrivateIpAddresses: record.PrivateIpAddresses.filter((one) => !input.PrivateIpAddresses?.includes(one.PrivateIpAddress ?? '')),
    });
  },
} satisfies Operations;
