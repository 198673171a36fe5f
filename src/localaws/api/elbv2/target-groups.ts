import type * as elb from '@aws-sdk/client-elastic-load-balancing-v2';
import type { CallContext, Cloud, Operations } from '../cloud.ts';
import { dropTags } from '../ec2/tags.ts';
import { AwsError } from '../errors.ts';
import { elbId } from '../ids.ts';
import type { TargetGroupRecord } from '../state/records.ts';
import { newGroupAttributes } from './attributes.ts';
import { balancersOf } from './forwards.ts';
import { checkedHealth, withoutHealth } from './health-checks.ts';
import { mostTargetGroups } from './limits.ts';
import { arnOf, checkName, findBalancer, findGroup, page, validationError } from './names.ts';
import { addTags } from './tags.ts';

const protocols = ['HTTP', 'HTTPS', 'TCP', 'TLS', 'UDP', 'TCP_UDP'];
const isNetwork = (protocol: string | undefined) => protocol !== 'HTTP' && protocol !== 'HTTPS';

function view(cloud: Cloud, record: TargetGroupRecord): elb.TargetGroup {
  const { attributes: _a, targets: _t, ...shape } = record;
  return { ...shape, LoadBalancerArns: balancersOf(cloud, record.TargetGroupArn) };
}

/** What a target group is from its creation on. */
function settingsOf(call: CallContext, input: elb.CreateTargetGroupInput) {
  const type = input.TargetType ?? 'instance';
  if (type === 'lambda' || type === 'alb') throw validationError(`The embedded AWS has no target groups of target type '${type}'`);
  if (type !== 'instance' && type !== 'ip') throw validationError(`Target type '${type}' must be one of 'instance, ip'`);
  const { Protocol: protocol, Port: port, VpcId: vpcId } = input;
  if (!protocol) throw validationError('A protocol must be specified');
  if (!protocols.includes(protocol)) throw validationError(`Target group protocol '${protocol}' must be one of '${protocols.join(', ')}'`);
  if (port === undefined) throw validationError('A port must be specified');
  if (!Number.isInteger(port) || port < 1 || port > 65_535) throw validationError(`Target group port '${port}' must be between 1 and 65535`);
  if (!vpcId) throw validationError('A VPC ID must be specified');
  if (!call.tables.vpcs.has(vpcId)) throw validationError(`The VPC ID '${vpcId}' is not found`);
  if (input.IpAddressType !== undefined && input.IpAddressType !== 'ipv4') {
    throw validationError(`The embedded AWS has no target groups of IP address type '${input.IpAddressType}'`);
  }
  const network = isNetwork(protocol);
  if (input.ProtocolVersion !== undefined && network) {
    throw validationError(`A protocol version cannot be specified for target groups with the ${protocol} protocol`);
  }
  if (!network && !['HTTP1', 'HTTP2'].includes(input.ProtocolVersion ?? 'HTTP1')) {
    throw validationError(`Protocol version '${input.ProtocolVersion}' must be one of 'HTTP1, HTTP2'`);
  }
  return {
    Protocol: protocol,
    Port: port,
    VpcId: vpcId,
    TargetType: type,
    IpAddressType: 'ipv4' as const,
    ...(network ? {} : { ProtocolVersion: input.ProtocolVersion ?? 'HTTP1' }),
    ...checkedHealth(network, protocol, undefined, input),
  };
}

export const targetGroupOperations = {
  CreateTargetGroup(input: elb.CreateTargetGroupInput, call: CallContext): elb.CreateTargetGroupOutput {
    const { targetGroups } = call.tables;
    const name = checkName(input.Name, 'target group');
    const settings = settingsOf(call, input);
    const [same] = targetGroups.by('name', name);
    if (same) {
      const { TargetGroupArn: _a, TargetGroupName: _n, attributes: _t, targets: _g, ...others } = same;
      const equal = Object.entries(settings).every(([key, value]) => JSON.stringify(others[key as keyof typeof others]) === JSON.stringify(value));
      if (equal && Object.keys(others).length === Object.keys(settings).length) return { TargetGroups: [view(call, same)] };
      throw new AwsError('DuplicateTargetGroupName', `A target group with the same name '${name}' exists, but with different settings`);
    }
    if (targetGroups.size >= mostTargetGroups) {
      throw new AwsError('TooManyTargetGroups', `The limit of ${mostTargetGroups} target groups has been reached`);
    }
    const arn = arnOf(call, `targetgroup/${name}/${elbId()}`);
    const record = targetGroups.put(arn, {
      TargetGroupArn: arn,
      TargetGroupName: name,
      ...settings,
      attributes: newGroupAttributes(settings),
      targets: [],
    });
    addTags(call, arn, input.Tags);
    return { TargetGroups: [view(call, record)] };
  },

  DescribeTargetGroups(input: elb.DescribeTargetGroupsInput, call: CallContext): elb.DescribeTargetGroupsOutput {
    const { targetGroups, listeners, rules } = call.tables;
    const ways = [input.TargetGroupArns?.length, input.Names?.length, input.LoadBalancerArn].filter(Boolean).length;
    if (ways > 1) throw validationError('Target group ARNs, target group names and a load balancer ARN cannot be specified at the same time');
    let found = targetGroups.values();
    if (input.TargetGroupArns?.length) found = [...new Set(input.TargetGroupArns)].map((arn) => findGroup(call, arn));
    else if (input.Names?.length) {
      if (input.Names.some((name) => !targetGroups.hasKey('name', name))) {
        throw new AwsError('TargetGroupNotFound', 'One or more target groups not found');
      }
      found = [...new Set(input.Names)].flatMap((name) => targetGroups.by('name', name));
    } else if (input.LoadBalancerArn !== undefined) {
      const { LoadBalancerArn } = findBalancer(call, input.LoadBalancerArn);
      const own = listeners.by('loadBalancer', LoadBalancerArn).map((one) => one.ListenerArn);
      found = found.filter(
        ({ TargetGroupArn: arn }) =>
          listeners.by('group', arn).some((one) => own.includes(one.ListenerArn)) ||
          rules.by('group', arn).some((one) => own.includes(one.listenerArn)),
      );
    }
    const { items, ...rest } = page(found, (one) => one.TargetGroupArn, input);
    return { TargetGroups: items.map((one) => view(call, one)), ...rest };
  },

  ModifyTargetGroup(input: elb.ModifyTargetGroupInput, call: CallContext): elb.ModifyTargetGroupOutput {
    const group = findGroup(call, input.TargetGroupArn);
    const protocol = group.Protocol ?? 'TCP';
    const health = checkedHealth(isNetwork(protocol), protocol, group, input);
    const changed = call.tables.targetGroups.put(group.TargetGroupArn, { ...withoutHealth(group), ...health });
    return { TargetGroups: [view(call, changed)] };
  },

  DeleteTargetGroup(input: elb.DeleteTargetGroupInput, call: CallContext): elb.DeleteTargetGroupOutput {
    const group = call.tables.targetGroups.get(input.TargetGroupArn);
    // Deleting what is not there succeeds.
    if (!group) return {};
    if (balancersOf(call, group.TargetGroupArn).length) {
      throw new AwsError('ResourceInUse', `Target group '${group.TargetGroupArn}' is currently in use by a listener or a rule`);
    }
    call.tables.targetGroups.delete(group.TargetGroupArn);
    dropTags(call, group.TargetGroupArn);
    return {};
  },
} satisfies Operations;
