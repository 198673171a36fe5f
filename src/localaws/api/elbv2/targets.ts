import type * as elb from '@aws-sdk/client-elastic-load-balancing-v2';
import { type CallContext, type Cloud, now, type Operations } from '../cloud.ts';
import { addressNumber, parseRange } from '../ec2/addresses.ts';
import { AwsError } from '../errors.ts';
import type { TargetGroupRecord, TargetRecord } from '../state/records.ts';
import { balancersOf } from './forwards.ts';
import { mostTargets } from './limits.ts';
import { findGroup, validationError } from './names.ts';

const notInUse: elb.TargetHealth = {
  State: 'unused',
  Reason: 'Target.NotInUse',
  Description: 'Target group is not configured to receive traffic from the load balancer',
};
const notRegistered: elb.TargetHealth = {
  State: 'unused',
  Reason: 'Target.NotRegistered',
  Description: 'Target is not registered to the target group',
};
const registering: elb.TargetHealth = { State: 'initial', Reason: 'Elb.RegistrationInProgress', Description: 'Target registration is in progress' };
const draining: elb.TargetHealth = {
  State: 'draining',
  Reason: 'Target.DeregistrationInProgress',
  Description: 'Target deregistration is in progress',
};

/** After a change of listeners or rules: targets of a group that none forwards to are not in use, those of others begin anew. */
export function settleTargets(cloud: Cloud, arn: string): void {
  const group = cloud.tables.targetGroups.get(arn);
  if (!group?.targets.length) return;
  const used = balancersOf(cloud, arn).length > 0;
  let changed = false;
  const targets = group.targets.map((one): TargetRecord => {
    if (one.drainedAt !== undefined || (one.health.State === 'unused') === !used) return one;
    changed = true;
    return { ...one, health: used ? registering : notInUse };
  });
  if (changed) cloud.tables.targetGroups.change(arn, { targets });
}

const sameTarget = (group: TargetGroupRecord, a: elb.TargetDescription, b: elb.TargetDescription) =>
  a.Id === b.Id && (a.Port ?? group.Port) === (b.Port ?? group.Port);

/** Ranges outside of a VPC in which targets may be: RFC 1918 and RFC 6598. */
const privateRanges = ['10.0.0.0/8', '100.64.0.0/10', '172.16.0.0/12', '192.168.0.0/16'].map((cidr) => parseRange(cidr)!);

function checkAddress(call: CallContext, group: TargetGroupRecord, target: elb.TargetDescription): string | undefined {
  const number = addressNumber(target.Id ?? '');
  if (number === undefined) throw validationError(`The IP address '${target.Id ?? ''}' is not a valid IPv4 address`);
  const inside = (range: { base: number; size: number }) => number >= range.base && number < range.base + range.size;
  const vpc = call.tables.vpcs.get(group.VpcId);
  if (vpc && inside(parseRange(vpc.CidrBlock)!)) {
    const subnet = call.tables.subnets.by('vpc', vpc.VpcId).find((one) => inside(parseRange(one.CidrBlock)!));
    return target.AvailabilityZone ?? subnet?.AvailabilityZone;
  }
  if (!privateRanges.some(inside)) throw new AwsError('InvalidTarget', `The IP address '${target.Id}' is not within a private range`);
  if (target.AvailabilityZone !== 'all') {
    throw validationError(
      `You must specify the Availability Zone 'all' for the IP address '${target.Id}', which is outside of the VPC '${group.VpcId}'`,
    );
  }
  return 'all';
}

/** A target as it is kept. Throws InvalidTarget and ValidationError. */
function checkTarget(call: CallContext, group: TargetGroupRecord, target: elb.TargetDescription): TargetRecord['target'] {
  const id = target.Id ?? '';
  const port = target.Port ?? group.Port;
  if (port === undefined || !Number.isInteger(port) || port < 1 || port > 65_535)
    throw validationError(`Target port '${port}' must be between 1 and 65535`);
  if (group.TargetType === 'ip') {
    const zone = checkAddress(call, group, target);
    return { Id: id, Port: port, ...(zone === undefined ? {} : { AvailabilityZone: zone }) };
  }
  if (!/^i-[0-9a-f]{8}([0-9a-f]{9})?$/.test(id)) throw validationError(`Instance ID '${id}' is not valid`);
  const instance = call.tables.instances.get(id)?.instance;
  if (!instance) throw new AwsError('InvalidTarget', `The following targets are not valid instances: '${id}'`);
  if (instance.VpcId !== group.VpcId) {
    throw new AwsError('InvalidTarget', `The following targets are not in the target group VPC '${group.VpcId}': '${id}'`);
  }
  if (instance.State.Name !== 'running') {
    throw new AwsError('InvalidTarget', `The following targets are not in a running state and cannot be registered: '${id}'`);
  }
  return { Id: id, Port: port };
}

/** The health of a target as it is shown: an instance that does not run takes no traffic, whatever was found of it before. */
function healthOf(cloud: Cloud, group: TargetGroupRecord, record: TargetRecord): elb.TargetHealth {
  if (record.drainedAt !== undefined || group.TargetType !== 'instance') return record.health;
  const state = cloud.tables.instances.get(record.target.Id)?.instance.State.Name;
  if (state === 'running' || record.health.Reason === 'Target.NotInUse') return record.health;
  return { State: 'unused', Reason: 'Target.InvalidState', Description: `Target is in the ${state ?? 'terminated'} state` };
}

export const targetOperations = {
  RegisterTargets(input: elb.RegisterTargetsInput, call: CallContext): elb.RegisterTargetsOutput {
    const group = findGroup(call, input.TargetGroupArn);
    if (!input.Targets?.length) throw validationError('At least one target must be specified');
    const health = balancersOf(call, group.TargetGroupArn).length > 0 ? registering : notInUse;
    const targets = [...group.targets];
    for (const one of input.Targets) {
      const target = checkTarget(call, group, one);
      const at = targets.findIndex((other) => sameTarget(group, other.target, target));
      if (at < 0) targets.push({ target, health });
      // One that is draining is taken back.
      else if (targets[at]!.drainedAt !== undefined) targets[at] = { target, health };
    }
    if (targets.length > mostTargets) throw new AwsError('TooManyTargets', `The limit of ${mostTargets} targets per target group has been reached`);
    call.tables.targetGroups.change(group.TargetGroupArn, { targets });
    return {};
  },

  DeregisterTargets(input: elb.DeregisterTargetsInput, call: CallContext): elb.DeregisterTargetsOutput {
    const group = findGroup(call, input.TargetGroupArn);
    if (!input.Targets?.length) throw validationError('At least one target must be specified');
    const delay = Number(group.attributes['deregistration_delay.timeout_seconds'] ?? 300) * 1000;
    const used = balancersOf(call, group.TargetGroupArn).length > 0;
    const named = (target: elb.TargetDescription) =>
      input.Targets!.some((one) => one.Id === target.Id && (one.Port === undefined || one.Port === target.Port));
    let changed = false;
    const targets = group.targets.flatMap((one): TargetRecord[] => {
      if (one.drainedAt !== undefined || !named(one.target)) return [one];
      changed = true;
      // What takes no traffic has nothing to drain.
      if (!used || delay === 0 || healthOf(call, group, one).State === 'unused') return [];
      return [{ ...one, health: draining, drainedAt: new Date(now(call).getTime() + delay) }];
    });
    if (changed) call.tables.targetGroups.change(group.TargetGroupArn, { targets });
    return {};
  },

  DescribeTargetHealth(input: elb.DescribeTargetHealthInput, call: CallContext): elb.DescribeTargetHealthOutput {
    const group = findGroup(call, input.TargetGroupArn);
    const port = (target: elb.TargetDescription) =>
      group.HealthCheckPort === 'traffic-port' ? String(target.Port ?? group.Port) : group.HealthCheckPort;
    const shown = (one: TargetRecord): elb.TargetHealthDescription => ({
      Target: one.target,
      HealthCheckPort: port(one.target),
      TargetHealth: healthOf(call, group, one),
    });
    if (!input.Targets?.length) return { TargetHealthDescriptions: group.targets.map(shown) };
    return {
      TargetHealthDescriptions: input.Targets.map((target) => {
        const known = group.targets.find((one) => sameTarget(group, one.target, target));
        return known
          ? shown(known)
          : { Target: { ...target, Port: target.Port ?? group.Port }, HealthCheckPort: port(target), TargetHealth: notRegistered };
      }),
    };
  },
} satisfies Operations;
