import type * as elb from '@aws-sdk/client-elastic-load-balancing-v2';
import { type CallContext, type Cloud, now, type Operations } from '../cloud.ts';
import { dropTags, putTags } from '../ec2/tags.ts';
import { AwsError } from '../errors.ts';
import { elbId } from '../ids.ts';
import type { TargetGroupRecord, TargetRecord } from '../state/records.ts';
import { balancersOf } from '../source.ts';
import { arnOf, checkName, findBalancer, findGroup, page, validationError } from './names.ts';

function view(cloud: Cloud, record: TargetGroupRecord): elb.TargetGroup {
  const { attributes: _a, targets: _t, ...shape } = record;
  return { ...shape, LoadBalancerArns: balancersOf(cloud, record.TargetGroupArn) };
}

const attributesOf = (network: boolean): Record<string, string> => ({
  'deregistration_delay.timeout_seconds': '300',
  'stickiness.enabled': 'false',
  'stickiness.type': network ? 'source_ip' : 'lb_cookie',
  'load_balancing.cross_zone.enabled': 'use_load_balancer_configuration',
  ...(network
    ? {
        'deregistration_delay.connection_termination.enabled': 'false',
        'preserve_client_ip.enabled': 'true',
        'proxy_protocol_v2.enabled': 'false',
        'target_group_health.dns_failover.minimum_healthy_targets.count': '1',
        'target_group_health.dns_failover.minimum_healthy_targets.percentage': 'off',
        'target_health_state.unhealthy.connection_termination.enabled': 'true',
        'target_health_state.unhealthy.draining_interval_seconds': '0',
      }
    : { 'slow_start.duration_seconds': '0', 'load_balancing.algorithm.type': 'round_robin', 'stickiness.lb_cookie.duration_seconds': '86400' }),
});

type HealthCheck = Pick<
  elb.TargetGroup,
  | 'HealthCheckProtocol'
  | 'HealthCheckPort'
  | 'HealthCheckEnabled'
  | 'HealthCheckPath'
  | 'HealthCheckIntervalSeconds'
  | 'HealthCheckTimeoutSeconds'
  | 'HealthyThresholdCount'
  | 'UnhealthyThresholdCount'
  | 'Matcher'
>;

function checkHealth(given: HealthCheck): HealthCheck {
  const within = (value: number | undefined, least: number, most: number, noun: string) => {
    if (value !== undefined && (value < least || value > most)) throw validationError(`${noun} '${value}' must be between ${least} and ${most}`);
  };
  within(given.HealthCheckIntervalSeconds, 5, 300, 'Health check interval');
  within(given.HealthCheckTimeoutSeconds, 2, 120, 'Health check timeout');
  within(given.HealthyThresholdCount, 2, 10, 'Healthy threshold count');
  within(given.UnhealthyThresholdCount, 2, 10, 'Unhealthy threshold count');
  if (
    given.HealthCheckTimeoutSeconds !== undefined &&
    given.HealthCheckIntervalSeconds !== undefined &&
    given.HealthCheckTimeoutSeconds > given.HealthCheckIntervalSeconds
  ) {
    throw validationError('Health check timeout must be at most the health check interval');
  }
  if (
    given.HealthCheckPort !== undefined &&
    given.HealthCheckPort !== 'traffic-port' &&
    !(Number(given.HealthCheckPort) >= 1 && Number(given.HealthCheckPort) <= 65_535)
  ) {
    throw validationError(`Health check port '${given.HealthCheckPort}' is not valid`);
  }
  return given;
}

function healthDefaults(network: boolean, input: elb.CreateTargetGroupInput): HealthCheck {
  const protocol = input.HealthCheckProtocol ?? (network ? 'TCP' : 'HTTP');
  const http = protocol === 'HTTP' || protocol === 'HTTPS';
  return checkHealth({
    HealthCheckProtocol: protocol,
    HealthCheckPort: input.HealthCheckPort ?? 'traffic-port',
    HealthCheckEnabled: input.HealthCheckEnabled ?? true,
    HealthCheckIntervalSeconds: input.HealthCheckIntervalSeconds ?? 30,
    HealthCheckTimeoutSeconds: input.HealthCheckTimeoutSeconds ?? (network ? (http ? 6 : 10) : 5),
    HealthyThresholdCount: input.HealthyThresholdCount ?? 5,
    UnhealthyThresholdCount: input.UnhealthyThresholdCount ?? 2,
    ...(http ? { HealthCheckPath: input.HealthCheckPath ?? '/', Matcher: input.Matcher ?? { HttpCode: network ? '200-399' : '200' } } : {}),
  });
}

/** Targets of a group that no listener forwards to are not looked at; those of others begin anew. */
export function settleTargets(call: CallContext, arn: string): void {
  const group = call.tables.targetGroups.get(arn);
  if (!group) return;
  const used = balancersOf(call, arn).length > 0;
  const targets = group.targets.map((one): TargetRecord => {
    if (one.drainedAt !== undefined) return one;
    if (!used) return { ...one, health: unused };
    return one.health.State === 'unused' ? { ...one, health: initial } : one;
  });
  call.tables.targetGroups.change(arn, { targets });
}

const unused: elb.TargetHealth = {
  State: 'unused',
  Reason: 'Target.NotInUse',
  Description: 'Target group is not configured to receive traffic from the load balancer',
};
const initial: elb.TargetHealth = { State: 'initial', Reason: 'Elb.RegistrationInProgress', Description: 'Target registration is in progress' };

const sameTarget = (group: TargetGroupRecord, a: elb.TargetDescription, b: elb.TargetDescription) =>
  a.Id === b.Id && (a.Port ?? group.Port) === (b.Port ?? group.Port);

function checkTarget(call: CallContext, group: TargetGroupRecord, target: elb.TargetDescription): TargetRecord['target'] {
  const id = target.Id ?? '';
  if (group.TargetType === 'instance') {
    const instance = call.tables.instances.get(id)?.instance;
    if (!instance) throw new AwsError('InvalidTarget', `The following targets are not valid instances: '${id}'`);
    if (instance.VpcId !== group.VpcId)
      throw new AwsError('InvalidTarget', `The following targets are not in the target group VPC '${group.VpcId}': '${id}'`);
    if (instance.State.Name !== 'running')
      throw new AwsError('InvalidTarget', `The following targets are not in a running state and cannot be registered: '${id}'`);
  } else if (group.TargetType === 'ip') {
    if (!/^\d{1,3}(\.\d{1,3}){3}$/.test(id)) throw validationError(`The IP address '${id}' is not a valid IPv4 address`);
  }
  return { ...target, Id: id, Port: target.Port ?? group.Port };
}

export const targetGroupOperations = {
  CreateTargetGroup(input: elb.CreateTargetGroupInput, call: CallContext): elb.CreateTargetGroupOutput {
    const name = checkName(input.Name, 'target group');
    const type = input.TargetType ?? 'instance';
    if (type === 'lambda' || type === 'alb') throw validationError(`Target type '${type}' is not supported`);
    const protocol = input.Protocol;
    if (!protocol || !['TCP', 'UDP', 'TCP_UDP', 'TLS', 'HTTP', 'HTTPS'].includes(protocol)) throw validationError('A protocol must be specified');
    if (input.Port === undefined || input.Port < 1 || input.Port > 65_535) throw validationError('A port must be specified');
    if (!call.tables.vpcs.has(input.VpcId ?? '')) throw validationError(`The VPC ID '${input.VpcId ?? ''}' is not found`);
    const network = protocol !== 'HTTP' && protocol !== 'HTTPS';
    const settings = {
      Protocol: protocol,
      Port: input.Port,
      VpcId: input.VpcId as string,
      TargetType: type,
      IpAddressType: 'ipv4' as const,
      ...(network ? {} : { ProtocolVersion: input.ProtocolVersion ?? 'HTTP1' }),
      ...healthDefaults(network, input),
    };
    const [same] = call.tables.targetGroups.by('name', name);
    if (same) {
      if (Object.entries(settings).every(([key, value]) => JSON.stringify(same[key as keyof TargetGroupRecord]) === JSON.stringify(value)))
        return { TargetGroups: [view(call, same)] };
      throw new AwsError('DuplicateTargetGroupName', `A target group with the same name '${name}' exists, but with different settings`);
    }
    const arn = arnOf(call, `targetgroup/${name}/${elbId()}`);
    const record = call.tables.targetGroups.put(arn, {
      TargetGroupArn: arn,
      TargetGroupName: name,
      ...settings,
      attributes: attributesOf(network),
      targets: [],
    });
    putTags(call, arn, input.Tags ?? []);
    return { TargetGroups: [view(call, record)] };
  },

  DescribeTargetGroups(input: elb.DescribeTargetGroupsInput, call: CallContext): elb.DescribeTargetGroupsOutput {
    let found = call.tables.targetGroups.values();
    if (input.TargetGroupArns?.length) found = input.TargetGroupArns.map((arn) => findGroup(call, arn));
    else if (input.Names?.length) {
      const missing = input.Names.filter((name) => !call.tables.targetGroups.hasKey('name', name));
      if (missing.length) throw new AwsError('TargetGroupNotFound', 'One or more target groups not found');
      found = input.Names.flatMap((name) => call.tables.targetGroups.by('name', name));
    } else if (input.LoadBalancerArn) {
      const { LoadBalancerArn } = findBalancer(call, input.LoadBalancerArn);
      found = found.filter((one) => balancersOf(call, one.TargetGroupArn).includes(LoadBalancerArn));
    }
    const { items, NextMarker } = page(found, input);
    return { TargetGroups: items.map((one) => view(call, one)), ...(NextMarker ? { NextMarker } : {}) };
  },

  ModifyTargetGroup(input: elb.ModifyTargetGroupInput, call: CallContext): elb.ModifyTargetGroupOutput {
    const group = findGroup(call, input.TargetGroupArn);
    const { TargetGroupArn: _, ...given } = input;
    const changes = checkHealth(Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)));
    checkHealth({ ...group, ...changes });
    return { TargetGroups: [view(call, call.tables.targetGroups.change(group.TargetGroupArn, changes))] };
  },

  DeleteTargetGroup(input: elb.DeleteTargetGroupInput, call: CallContext): elb.DeleteTargetGroupOutput {
    const group = call.tables.targetGroups.get(input.TargetGroupArn);
    if (!group) return {};
    if (balancersOf(call, group.TargetGroupArn).length) {
      throw new AwsError('ResourceInUse', `Target group '${group.TargetGroupArn}' is currently in use by a listener or a rule`);
    }
    call.tables.targetGroups.delete(group.TargetGroupArn);
    dropTags(call, group.TargetGroupArn);
    return {};
  },

  DescribeTargetGroupAttributes(input: elb.DescribeTargetGroupAttributesInput, call: CallContext): elb.DescribeTargetGroupAttributesOutput {
    return { Attributes: Object.entries(findGroup(call, input.TargetGroupArn).attributes).map(([Key, Value]) => ({ Key, Value })) };
  },

  ModifyTargetGroupAttributes(input: elb.ModifyTargetGroupAttributesInput, call: CallContext): elb.ModifyTargetGroupAttributesOutput {
    const group = findGroup(call, input.TargetGroupArn);
    const attributes = { ...group.attributes };
    for (const { Key, Value } of input.Attributes ?? []) {
      if (!Key || !(Key in attributes)) throw validationError(`Target group attribute key '${Key ?? ''}' is not recognized`);
      attributes[Key] = Value ?? '';
    }
    call.tables.targetGroups.change(group.TargetGroupArn, { attributes });
    return { Attributes: Object.entries(attributes).map(([Key, Value]) => ({ Key, Value })) };
  },

  RegisterTargets(input: elb.RegisterTargetsInput, call: CallContext): elb.RegisterTargetsOutput {
    const group = findGroup(call, input.TargetGroupArn);
    const used = balancersOf(call, group.TargetGroupArn).length > 0;
    let targets = group.targets;
    for (const one of input.Targets ?? []) {
      const target = checkTarget(call, group, one);
      const known = targets.find((other) => sameTarget(group, other.target, target));
      if (known && known.drainedAt === undefined) continue;
      targets = [...targets.filter((other) => other !== known), { target, health: used ? initial : unused }];
    }
    call.tables.targetGroups.change(group.TargetGroupArn, { targets });
    return {};
  },

  DeregisterTargets(input: elb.DeregisterTargetsInput, call: CallContext): elb.DeregisterTargetsOutput {
    const group = findGroup(call, input.TargetGroupArn);
    const delay = Number(group.attributes['deregistration_delay.timeout_seconds'] ?? 300) * 1000;
    const used = balancersOf(call, group.TargetGroupArn).length > 0;
    const targets = group.targets.flatMap((one): TargetRecord[] => {
      const named = (input.Targets ?? []).some((other) => other.Id === one.target.Id && (other.Port === undefined || other.Port === one.target.Port));
      if (!named || one.drainedAt !== undefined) return [one];
      // What takes no traffic has nothing to drain.
      if (!used || delay === 0 || (one.health.State !== 'healthy' && one.health.State !== 'unhealthy')) return [];
      return [
        {
          ...one,
          health: { State: 'draining', Reason: 'Target.DeregistrationInProgress', Description: 'Target deregistration is in progress' },
          drainedAt: new Date(now(call).getTime() + delay),
        },
      ];
    });
    call.tables.targetGroups.change(group.TargetGroupArn, { targets });
    return {};
  },

  DescribeTargetHealth(input: elb.DescribeTargetHealthInput, call: CallContext): elb.DescribeTargetHealthOutput {
    const group = findGroup(call, input.TargetGroupArn);
    const port = (target: elb.TargetDescription) =>
      String(group.HealthCheckPort === 'traffic-port' ? (target.Port ?? group.Port) : group.HealthCheckPort);
    const shown = (one: TargetRecord) => ({ Target: one.target, HealthCheckPort: port(one.target), TargetHealth: one.health });
    if (!input.Targets?.length) return { TargetHealthDescriptions: group.targets.map(shown) };
    return {
      TargetHealthDescriptions: input.Targets.map((target) => {
        const known = group.targets.find((one) => sameTarget(group, one.target, target));
        if (known) return shown(known);
        return {
          Target: target,
          HealthCheckPort: port(target),
          TargetHealth: {
            State: 'unused' as const,
            Reason: 'Target.NotRegistered' as const,
            Description: 'Target is not registered to the target group',
          },
        };
      }),
    };
  },
} satisfies Operations;
