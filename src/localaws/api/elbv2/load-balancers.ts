import type * as elb from '@aws-sdk/client-elastic-load-balancing-v2';
import { type CallContext, now, type Operations } from '../cloud.ts';
import { createInterface, dropInterface, groupsOf } from '../ec2/network-interfaces.ts';
import { dropTags, putTags } from '../ec2/tags.ts';
import { AwsError } from '../errors.ts';
import { elbId } from '../ids.ts';
import type { LoadBalancerRecord, SubnetRecord } from '../state/records.ts';
import { dropListener } from './listeners.ts';
import { arnOf, checkName, findBalancer, page, validationError } from './names.ts';

/** The hosted zone of load balancers in us-east-1, by type. */
const zoneIds = { network: 'Z26RNL4JYFTOTI', application: 'Z35SXDOTRQ7X7K' };

function view(record: LoadBalancerRecord): elb.LoadBalancer {
  const { attributes: _a, networkInterfaceIds: _n, ...shape } = record;
  return shape;
}

function subnetsOf(
  call: CallContext,
  input: { Subnets?: string[] | undefined; SubnetMappings?: elb.SubnetMapping[] | undefined },
): { subnet: SubnetRecord; address: string | undefined }[] {
  const wanted = input.SubnetMappings?.length
    ? input.SubnetMappings.map((one) => ({ id: one.SubnetId ?? '', address: one.PrivateIPv4Address }))
    : (input.Subnets ?? []).map((id) => ({ id, address: undefined }));
  if (!wanted.length) throw validationError('At least one subnet must be specified');
  const found = wanted.map(({ id, address }) => {
    const subnet = call.tables.subnets.get(id);
    if (!subnet) throw new AwsError('SubnetNotFound', `The subnet ID '${id}' does not exist`);
    return { subnet, address };
  });
  if (new Set(found.map((one) => one.subnet.VpcId)).size > 1) throw validationError('All subnets must belong to the same VPC');
  if (new Set(found.map((one) => one.subnet.AvailabilityZone)).size < found.length) {
    throw new AwsError('InvalidConfigurationRequest', 'A load balancer cannot be attached to multiple subnets in the same Availability Zone');
  }
  return found;
}

/** The interfaces by which a load balancer stands in its subnets, and what is shown of them. */
function stand(
  call: CallContext,
  path: string,
  type: string,
  subnets: { subnet: SubnetRecord; address: string | undefined }[],
  groups: string[] | undefined,
  internal: boolean,
) {
  const networkInterfaceIds: string[] = [];
  const zones = subnets.map(({ subnet, address }) => {
    const eni = createInterface(call, {
      subnet,
      address,
      groups,
      description: `ELB ${path}`,
      sourceDestCheck: false,
      publicIp: !internal,
      requester: { id: 'amazon-elb', type: type === 'network' ? 'network_load_balancer' : 'interface' },
    });
    // A load balancer without groups takes all; its interfaces do not fall under the VPC's default group.
    call.tables.networkInterfaces.change(eni.NetworkInterfaceId, { Status: 'in-use', ...(groups?.length ? {} : { Groups: [] }) });
    networkInterfaceIds.push(eni.NetworkInterfaceId);
    return { ZoneName: subnet.AvailabilityZone, SubnetId: subnet.SubnetId, LoadBalancerAddresses: [{ PrivateIPv4Address: eni.PrivateIpAddress }] };
  });
  return { networkInterfaceIds, zones };
}

const defaults: Record<string, Record<string, string>> = {
  network: {
    'access_logs.s3.enabled': 'false',
    'access_logs.s3.bucket': '',
    'access_logs.s3.prefix': '',
    'deletion_protection.enabled': 'false',
    'load_balancing.cross_zone.enabled': 'false',
    'dns_record.client_routing_policy': 'any_availability_zone',
    'ipv6.deny_all_igw_traffic': 'false',
    'zonal_shift.config.enabled': 'false',
  },
  application: {
    'access_logs.s3.enabled': 'false',
    'deletion_protection.enabled': 'false',
    'idle_timeout.timeout_seconds': '60',
    'routing.http2.enabled': 'true',
    'load_balancing.cross_zone.enabled': 'true',
  },
};

export const loadBalancerOperations = {
  CreateLoadBalancer(input: elb.CreateLoadBalancerInput, call: CallContext): elb.CreateLoadBalancerOutput {
    const name = checkName(input.Name, 'load balancer');
    const type = input.Type ?? 'application';
    if (type !== 'network' && type !== 'application') throw validationError(`Load balancers of type '${type}' are not supported`);
    const scheme = input.Scheme ?? 'internet-facing';
    const subnets = subnetsOf(call, input);
    if (type === 'application' && subnets.length < 2)
      throw validationError('At least two subnets in two different Availability Zones must be specified');
    const [same] = call.tables.loadBalancers.by('name', name);
    if (same) {
      const equal =
        same.Type === type &&
        same.Scheme === scheme &&
        subnets.every((one) => same.AvailabilityZones.some((zone) => zone.SubnetId === one.subnet.SubnetId));
      if (equal && subnets.length === same.AvailabilityZones.length) return { LoadBalancers: [view(same)] };
      throw new AwsError('DuplicateLoadBalancerName', `A load balancer with the same name '${name}' exists, but with different settings`);
    }
    const vpcId = subnets[0]!.subnet.VpcId;
    const groups = input.SecurityGroups?.length ? groupsOf(call, vpcId, input.SecurityGroups).map((one) => one.GroupId) : undefined;
    if (scheme === 'internet-facing' && !call.tables.internetGateways.hasKey('vpc', vpcId)) {
      throw new AwsError('InvalidSubnet', `VPC ${vpcId} has no internet gateway`);
    }
    const id = elbId();
    const path = `${type === 'network' ? 'net' : 'app'}/${name}/${id}`;
    const arn = arnOf(call, `loadbalancer/${path}`);
    const standing = stand(call, path, type, subnets, groups, scheme === 'internal');
    const prefix = scheme === 'internal' && type === 'application' ? 'internal-' : '';
    const record = call.tables.loadBalancers.put(arn, {
      LoadBalancerArn: arn,
      LoadBalancerName: name,
      DNSName: type === 'network' ? `${name}-${id}.elb.${call.region}.amazonaws.com` : `${prefix}${name}-${id}.${call.region}.elb.amazonaws.com`,
      CanonicalHostedZoneId: zoneIds[type],
      CreatedTime: now(call),
      Scheme: scheme,
      VpcId: vpcId,
      State: { Code: 'provisioning' },
      Type: type,
      AvailabilityZones: standing.zones,
      SecurityGroups: groups ?? [],
      IpAddressType: input.IpAddressType ?? 'ipv4',
      attributes: { ...defaults[type] },
      networkInterfaceIds: standing.networkInterfaceIds,
    });
    putTags(call, arn, input.Tags ?? []);
    return { LoadBalancers: [view(record)] };
  },

  DescribeLoadBalancers(input: elb.DescribeLoadBalancersInput, call: CallContext): elb.DescribeLoadBalancersOutput {
    if (input.LoadBalancerArns?.length && input.Names?.length)
      throw validationError('Load balancer names and load balancer ARNs cannot be specified at the same time');
    let found = call.tables.loadBalancers.values();
    if (input.LoadBalancerArns?.length) found = input.LoadBalancerArns.map((arn) => findBalancer(call, arn));
    if (input.Names?.length) {
      const missing = input.Names.filter((name) => !call.tables.loadBalancers.hasKey('name', name));
      if (missing.length) throw new AwsError('LoadBalancerNotFound', `Load balancers '[${missing.join(', ')}]' not found`);
      found = input.Names.flatMap((name) => call.tables.loadBalancers.by('name', name));
    }
    const { items, NextMarker } = page(found, input);
    return { LoadBalancers: items.map(view), ...(NextMarker ? { NextMarker } : {}) };
  },

  DeleteLoadBalancer(input: elb.DeleteLoadBalancerInput, call: CallContext): elb.DeleteLoadBalancerOutput {
    const record = call.tables.loadBalancers.get(input.LoadBalancerArn);
    // Deleting what is not there succeeds.
    if (!record) return {};
    if (record.attributes['deletion_protection.enabled'] === 'true') {
      throw new AwsError(
        'OperationNotPermitted',
        `Load balancer '${record.LoadBalancerArn}' cannot be deleted because deletion protection is enabled`,
      );
    }
    for (const listener of call.tables.listeners.by('loadBalancer', record.LoadBalancerArn)) dropListener(call, listener);
    for (const id of record.networkInterfaceIds) dropInterface(call, id);
    call.tables.loadBalancers.delete(record.LoadBalancerArn);
    dropTags(call, record.LoadBalancerArn);
    return {};
  },

  DescribeLoadBalancerAttributes(input: elb.DescribeLoadBalancerAttributesInput, call: CallContext): elb.DescribeLoadBalancerAttributesOutput {
    return { Attributes: Object.entries(findBalancer(call, input.LoadBalancerArn).attributes).map(([Key, Value]) => ({ Key, Value })) };
  },

  ModifyLoadBalancerAttributes(input: elb.ModifyLoadBalancerAttributesInput, call: CallContext): elb.ModifyLoadBalancerAttributesOutput {
    const record = findBalancer(call, input.LoadBalancerArn);
    const attributes = { ...record.attributes };
    for (const { Key, Value } of input.Attributes ?? []) {
      if (!Key || !(Key in attributes)) throw validationError(`Load balancer attribute key '${Key ?? ''}' is not recognized`);
      attributes[Key] = Value ?? '';
    }
    call.tables.loadBalancers.change(record.LoadBalancerArn, { attributes });
    return { Attributes: Object.entries(attributes).map(([Key, Value]) => ({ Key, Value })) };
  },

  SetSecurityGroups(input: elb.SetSecurityGroupsInput, call: CallContext): elb.SetSecurityGroupsOutput {
    const record = findBalancer(call, input.LoadBalancerArn);
    if (record.Type === 'network' && !record.SecurityGroups?.length) {
      throw new AwsError('InvalidConfigurationRequest', 'You cannot add security groups to a Network Load Balancer that was created without any');
    }
    const groups = groupsOf(call, record.VpcId, input.SecurityGroups);
    for (const id of record.networkInterfaceIds) call.tables.networkInterfaces.change(id, { Groups: groups });
    const ids = groups.map((one) => one.GroupId);
    call.tables.loadBalancers.change(record.LoadBalancerArn, { SecurityGroups: ids });
    return { SecurityGroupIds: ids };
  },

  SetSubnets(input: elb.SetSubnetsInput, call: CallContext): elb.SetSubnetsOutput {
    const record = findBalancer(call, input.LoadBalancerArn);
    const wanted = subnetsOf(call, input);
    const has = (id: string) => record.AvailabilityZones.some((zone) => zone.SubnetId === id);
    const gone = record.AvailabilityZones.filter((zone) => !wanted.some((one) => one.subnet.SubnetId === zone.SubnetId));
    const path = record.LoadBalancerArn.split(':loadbalancer/')[1]!;
    const added = stand(
      call,
      path,
      record.Type,
      wanted.filter((one) => !has(one.subnet.SubnetId)),
      record.SecurityGroups,
      record.Scheme === 'internal',
    );
    const dropped = record.networkInterfaceIds.filter((id) => gone.some((zone) => zone.SubnetId === call.tables.networkInterfaces.get(id)?.SubnetId));
    for (const id of dropped) dropInterface(call, id);
    const zones = [...record.AvailabilityZones.filter((zone) => !gone.includes(zone)), ...added.zones];
    call.tables.loadBalancers.change(record.LoadBalancerArn, {
      AvailabilityZones: zones,
      networkInterfaceIds: [...record.networkInterfaceIds.filter((id) => !dropped.includes(id)), ...added.networkInterfaceIds],
    });
    return { AvailabilityZones: zones, IpAddressType: record.IpAddressType };
  },

  SetIpAddressType(input: elb.SetIpAddressTypeInput, call: CallContext): elb.SetIpAddressTypeOutput {
    const record = findBalancer(call, input.LoadBalancerArn);
    if (input.IpAddressType !== 'ipv4')
      throw new AwsError('InvalidConfigurationRequest', 'The subnets of the load balancer have no IPv6 CIDR blocks');
    return { IpAddressType: record.IpAddressType };
  },
} satisfies Operations;
