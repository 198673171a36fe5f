import type * as elb from '@aws-sdk/client-elastic-load-balancing-v2';
import { type CallContext, now, type Operations } from '../cloud.ts';
import { dropTags } from '../ec2/tags.ts';
import { AwsError } from '../errors.ts';
import { elbId } from '../ids.ts';
import type { LoadBalancerRecord } from '../state/records.ts';
import { newBalancerAttributes } from './attributes.ts';
import { leave, placesOf, stand } from './interfaces.ts';
import { mostBalancers, mostSecurityGroups } from './limits.ts';
import { dropListener } from './listeners.ts';
import { arnOf, checkName, findBalancer, invalidConfiguration, page, validationError } from './names.ts';
import { addTags } from './tags.ts';

/** The hosted zone of load balancers in us-east-1, by type. */
const zoneIds: Record<string, string> = { network: 'Z26RNL4JYFTOTI', application: 'Z35SXDOTRQ7X7K' };

function view(record: LoadBalancerRecord): elb.LoadBalancer {
  const { attributes: _a, networkInterfaceIds: _n, ...shape } = record;
  return shape;
}

/** Security groups as ELB takes them: of the load balancer's VPC. Throws InvalidSecurityGroup. */
function checkGroups(call: CallContext, vpcId: string, ids: string[]): { GroupId: string; GroupName: string }[] {
  const wanted = [...new Set(ids)];
  if (wanted.length > mostSecurityGroups) throw invalidConfiguration(`A load balancer can have at most ${mostSecurityGroups} security groups`);
  return wanted.map((id) => {
    const group = call.tables.securityGroups.get(id);
    if (!group) throw new AwsError('InvalidSecurityGroup', `The security group '${id}' does not exist`);
    if (group.VpcId !== vpcId) throw new AwsError('InvalidSecurityGroup', `The security group '${id}' does not belong to VPC '${vpcId}'`);
    return { GroupId: group.GroupId, GroupName: group.GroupName };
  });
}

const sameSet = (a: string[], b: string[]) => a.length === b.length && a.every((one) => b.includes(one));

function checkAddressType(type: elb.IpAddressType | undefined): void {
  if (type === undefined || type === 'ipv4') return;
  if (!['dualstack', 'dualstack-without-public-ipv4'].includes(type)) throw validationError(`IP address type '${type}' is not valid`);
  throw invalidConfiguration('The subnets of the load balancer have no IPv6 CIDR blocks');
}

export const loadBalancerOperations = {
  CreateLoadBalancer(input: elb.CreateLoadBalancerInput, call: CallContext): elb.CreateLoadBalancerOutput {
    const name = checkName(input.Name, 'load balancer');
    const type = input.Type ?? 'application';
    if (type === 'gateway') throw validationError(`The embedded AWS has no load balancers of type 'gateway'`);
    if (type !== 'network' && type !== 'application') throw validationError(`Load balancer type '${type}' must be one of 'application, network'`);
    const scheme = input.Scheme ?? 'internet-facing';
    if (scheme !== 'internal' && scheme !== 'internet-facing') throw new AwsError('InvalidScheme', `The scheme '${scheme}' is not valid`);
    checkAddressType(input.IpAddressType);
    const [same] = call.tables.loadBalancers.by('name', name);
    if (same) {
      // Asked for again with the same settings, it is what there is; addresses that it took itself are not asked for again.
      const subnets = input.SubnetMappings?.length ? input.SubnetMappings.map((one) => one.SubnetId ?? '') : (input.Subnets ?? []);
      const groups = input.SecurityGroups?.length || same.Type === 'network' ? [...new Set(input.SecurityGroups ?? [])] : (same.SecurityGroups ?? []);
      const equal =
        same.Type === type &&
        same.Scheme === scheme &&
        sameSet(groups, same.SecurityGroups ?? []) &&
        sameSet(
          subnets,
          same.AvailabilityZones.map((zone) => zone.SubnetId ?? ''),
        );
      if (equal) return { LoadBalancers: [view(same)] };
      throw new AwsError('DuplicateLoadBalancerName', `A load balancer with the same name '${name}' exists, but with different settings`);
    }
    const places = placesOf(call, input, type, scheme);
    const vpcId = places[0]!.subnet.VpcId;
    if (call.tables.loadBalancers.values().filter((one) => one.Type === type).length >= mostBalancers) {
      throw new AwsError('TooManyLoadBalancers', `The limit of ${mostBalancers} load balancers of type '${type}' has been reached`);
    }
    let groups = checkGroups(call, vpcId, input.SecurityGroups ?? []).map((one) => one.GroupId);
    if (type === 'application' && groups.length === 0) {
      groups = call.tables.securityGroups
        .by('vpc', vpcId)
        .filter((one) => one.GroupName === 'default')
        .map((one) => one.GroupId);
    }
    if (scheme === 'internet-facing' && !call.tables.internetGateways.hasKey('vpc', vpcId)) {
      throw new AwsError('InvalidSubnet', `VPC ${vpcId} has no internet gateway`);
    }
    const id = elbId();
    const arn = arnOf(call, `loadbalancer/${type === 'network' ? 'net' : 'app'}/${name}/${id}`);
    const standing = stand(call, { LoadBalancerArn: arn, Type: type, Scheme: scheme, SecurityGroups: groups }, places);
    const internal = scheme === 'internal' ? 'internal-' : '';
    const record = call.tables.loadBalancers.put(arn, {
      LoadBalancerArn: arn,
      LoadBalancerName: name,
      DNSName: type === 'network' ? `${name}-${id}.elb.${call.region}.amazonaws.com` : `${internal}${name}-${id}.${call.region}.elb.amazonaws.com`,
      CanonicalHostedZoneId: zoneIds[type]!,
      CreatedTime: now(call),
      Scheme: scheme,
      VpcId: vpcId,
      State: { Code: 'provisioning' },
      Type: type,
      AvailabilityZones: standing.zones,
      SecurityGroups: groups,
      IpAddressType: 'ipv4',
      ...(type === 'network' && groups.length ? { EnforceSecurityGroupInboundRulesOnPrivateLinkTraffic: 'on' } : {}),
      attributes: newBalancerAttributes(type),
      networkInterfaceIds: standing.ids,
    });
    addTags(call, arn, input.Tags);
    return { LoadBalancers: [view(record)] };
  },

  DescribeLoadBalancers(input: elb.DescribeLoadBalancersInput, call: CallContext): elb.DescribeLoadBalancersOutput {
    const { loadBalancers } = call.tables;
    if (input.LoadBalancerArns?.length && input.Names?.length) {
      throw validationError('Load balancer names and load balancer ARNs cannot be specified at the same time');
    }
    let found = loadBalancers.values();
    if (input.LoadBalancerArns?.length) found = [...new Set(input.LoadBalancerArns)].map((arn) => findBalancer(call, arn));
    if (input.Names?.length) {
      const missing = input.Names.filter((name) => !loadBalancers.hasKey('name', name));
      if (missing.length) throw new AwsError('LoadBalancerNotFound', `Load balancers '[${missing.join(', ')}]' not found`);
      found = [...new Set(input.Names)].flatMap((name) => loadBalancers.by('name', name));
    }
    const { items, ...rest } = page(found, (one) => one.LoadBalancerArn, input);
    return { LoadBalancers: items.map(view), ...rest };
  },

  DeleteLoadBalancer(input: elb.DeleteLoadBalancerInput, call: CallContext): elb.DeleteLoadBalancerOutput {
    const record = call.tables.loadBalancers.get(input.LoadBalancerArn);
    // Deleting what is not there succeeds.
    if (!record) return {};
    const arn = record.LoadBalancerArn;
    if (record.attributes['deletion_protection.enabled'] === 'true') {
      throw new AwsError('OperationNotPermitted', `Load balancer '${arn}' cannot be deleted because deletion protection is enabled`);
    }
    for (const listener of call.tables.listeners.by('loadBalancer', arn)) dropListener(call, listener);
    leave(call, record.networkInterfaceIds);
    call.tables.loadBalancers.delete(arn);
    dropTags(call, arn);
    return {};
  },

  SetSecurityGroups(input: elb.SetSecurityGroupsInput, call: CallContext): elb.SetSecurityGroupsOutput {
    const record = findBalancer(call, input.LoadBalancerArn);
    if (record.Type === 'network' && !record.SecurityGroups?.length) {
      throw invalidConfiguration('You cannot add security groups to a Network Load Balancer that was created without any');
    }
    if (!input.SecurityGroups?.length) throw invalidConfiguration('A load balancer that has security groups must keep at least one');
    const groups = checkGroups(call, record.VpcId, input.SecurityGroups);
    for (const id of record.networkInterfaceIds) call.tables.networkInterfaces.change(id, { Groups: groups });
    const enforce =
      record.Type === 'network'
        ? { EnforceSecurityGroupInboundRulesOnPrivateLinkTraffic: input.EnforceSecurityGroupInboundRulesOnPrivateLinkTraffic ?? 'on' }
        : {};
    const ids = groups.map((one) => one.GroupId);
    call.tables.loadBalancers.change(record.LoadBalancerArn, { SecurityGroups: ids, ...enforce });
    return { SecurityGroupIds: ids, ...(enforce as Pick<elb.SetSecurityGroupsOutput, 'EnforceSecurityGroupInboundRulesOnPrivateLinkTraffic'>) };
  },

  SetSubnets(input: elb.SetSubnetsInput, call: CallContext): elb.SetSubnetsOutput {
    const record = findBalancer(call, input.LoadBalancerArn);
    checkAddressType(input.IpAddressType);
    const kept = new Map(record.AvailabilityZones.map((zone) => [zone.SubnetId ?? '', zone]));
    // Of a subnet where it stands already, its own Elastic IP may be named again.
    const mappings = input.SubnetMappings?.map((one) => (kept.has(one.SubnetId ?? '') ? { SubnetId: one.SubnetId } : one));
    const places = placesOf(call, { Subnets: input.Subnets, SubnetMappings: mappings }, record.Type, record.Scheme);
    if (places[0]!.subnet.VpcId !== record.VpcId) throw new AwsError('InvalidSubnet', `The subnets must belong to VPC '${record.VpcId}'`);
    const wanted = new Set(places.map((one) => one.subnet.SubnetId));
    const gone = record.networkInterfaceIds.filter((id) => !wanted.has(call.tables.networkInterfaces.get(id)?.SubnetId ?? ''));
    leave(call, gone);
    const added = stand(
      call,
      record,
      places.filter((one) => !kept.has(one.subnet.SubnetId)),
    );
    const zones = places.map(({ subnet: { SubnetId: id } }) => kept.get(id) ?? added.zones.find((zone) => zone.SubnetId === id)!);
    call.tables.loadBalancers.change(record.LoadBalancerArn, {
      AvailabilityZones: zones,
      networkInterfaceIds: [...record.networkInterfaceIds.filter((id) => !gone.includes(id)), ...added.ids],
    });
    return { AvailabilityZones: zones, IpAddressType: record.IpAddressType };
  },

  SetIpAddressType(input: elb.SetIpAddressTypeInput, call: CallContext): elb.SetIpAddressTypeOutput {
    const record = findBalancer(call, input.LoadBalancerArn);
    checkAddressType(input.IpAddressType);
    return { IpAddressType: record.IpAddressType };
  },
} satisfies Operations;
