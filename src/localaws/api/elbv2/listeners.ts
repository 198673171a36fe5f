import type * as elb from '@aws-sdk/client-elastic-load-balancing-v2';
import type { CallContext, Operations } from '../cloud.ts';
import { dropTags, putTags } from '../ec2/tags.ts';
import { AwsError } from '../errors.ts';
import { elbId } from '../ids.ts';
import type { ListenerRecord, LoadBalancerRecord, TargetGroupRecord } from '../state/records.ts';
import { balancersOf } from '../source.ts';
import { arnOf, findBalancer, findGroup, findListener, page, validationError } from './names.ts';
import { settleTargets } from './target-groups.ts';

const protocols: Record<string, string[]> = { network: ['TCP', 'UDP', 'TCP_UDP', 'TLS'], application: ['HTTP', 'HTTPS'] };

export function dropListener(call: CallContext, listener: ListenerRecord): void {
  const groups = groupsOf(listener.DefaultActions);
  for (const rule of call.tables.rules.by('listener', listener.ListenerArn)) call.tables.rules.delete(rule.RuleArn);
  call.tables.listeners.delete(listener.ListenerArn);
  dropTags(call, listener.ListenerArn);
  for (const arn of groups) settleTargets(call, arn);
}

function groupsOf(actions: elb.Action[]): string[] {
  return [
    ...new Set(actions.flatMap((one) => [one.TargetGroupArn, ...(one.ForwardConfig?.TargetGroups ?? []).map((group) => group.TargetGroupArn)])),
  ].filter((arn) => arn !== undefined);
}

/** Actions as they are kept: a forward names its group in both of its ways. */
function checkActions(call: CallContext, balancer: LoadBalancerRecord, actions: elb.Action[] | undefined): elb.Action[] {
  if (!actions?.length) throw validationError('At least one default action must be specified');
  return actions.map((action) => {
    if (action.Type !== 'forward') {
      if (balancer.Type === 'network') throw validationError(`Listeners of network load balancers can only forward`);
      return action;
    }
    const groups = groupsOf([action]).map((arn) => findGroup(call, arn));
    if (!groups.length) throw validationError('A target group ARN must be specified');
    for (const group of groups) checkGroup(call, balancer, group);
    const weighted = action.ForwardConfig?.TargetGroups ?? groups.map((group) => ({ TargetGroupArn: group.TargetGroupArn, Weight: 1 }));
    return {
      Type: 'forward',
      ...(action.Order === undefined ? {} : { Order: action.Order }),
      ...(groups.length === 1 ? { TargetGroupArn: groups[0]!.TargetGroupArn } : {}),
      ForwardConfig: {
        TargetGroups: weighted,
        ...(action.ForwardConfig?.TargetGroupStickinessConfig
          ? { TargetGroupStickinessConfig: action.ForwardConfig.TargetGroupStickinessConfig }
          : {}),
      },
    };
  });
}

function checkGroup(call: CallContext, balancer: LoadBalancerRecord, group: TargetGroupRecord): void {
  if (group.VpcId !== undefined && group.VpcId !== balancer.VpcId) {
    throw new AwsError(
      'InvalidConfigurationRequest',
      `The following target groups are in a different VPC than load balancer '${balancer.LoadBalancerArn}': ${group.TargetGroupArn}`,
    );
  }
  const fits = balancer.Type === 'network' ? ['TCP', 'UDP', 'TCP_UDP', 'TLS'] : ['HTTP', 'HTTPS'];
  if (!fits.includes(group.Protocol ?? '')) {
    throw new AwsError(
      'IncompatibleProtocols',
      `The protocol '${group.Protocol}' of target group '${group.TargetGroupArn}' does not fit a load balancer of type '${balancer.Type}'`,
    );
  }
  const others = balancersOf(call, group.TargetGroupArn).filter((arn) => arn !== balancer.LoadBalancerArn);
  if (others.length)
    throw new AwsError(
      'TargetGroupAssociationLimit',
      `The following target groups cannot be associated with more than one load balancer: ${group.TargetGroupArn}`,
    );
}

function view(record: ListenerRecord): elb.Listener {
  const { attributes: _, ...shape } = record;
  return shape;
}

function checkProtocol(
  balancer: LoadBalancerRecord,
  protocol: string | undefined,
  port: number | undefined,
  certificates: elb.Certificate[] | undefined,
): void {
  if (!protocols[balancer.Type]?.includes(protocol ?? '')) {
    throw new AwsError(
      'UnsupportedProtocol',
      `Listener protocol '${protocol ?? ''}' is not supported with a load balancer of type '${balancer.Type}'`,
    );
  }
  if (port === undefined || port < 1 || port > 65_535) throw validationError(`Listener port '${port ?? ''}' must be between 1 and 65535`);
  if ((protocol === 'TLS' || protocol === 'HTTPS') && !certificates?.length)
    throw validationError('A certificate must be specified for TLS and HTTPS listeners');
}

export const listenerOperations = {
  CreateListener(input: elb.CreateListenerInput, call: CallContext): elb.CreateListenerOutput {
    const balancer = findBalancer(call, input.LoadBalancerArn);
    checkProtocol(balancer, input.Protocol, input.Port, input.Certificates);
    const actions = checkActions(call, balancer, input.DefaultActions);
    const existing = call.tables.listeners.by('loadBalancer', balancer.LoadBalancerArn);
    const same = existing.find((one) => one.Port === input.Port);
    if (same) {
      if (same.Protocol === input.Protocol && JSON.stringify(groupsOf(same.DefaultActions)) === JSON.stringify(groupsOf(actions)))
        return { Listeners: [view(same)] };
      throw new AwsError('DuplicateListener', `A listener already exists on this port for this load balancer '${balancer.LoadBalancerArn}'`);
    }
    if (existing.length >= 50) throw new AwsError('TooManyListeners', `The maximum number of listeners per load balancer has been reached`);
    const arn = arnOf(call, `listener/${balancer.LoadBalancerArn.split(':loadbalancer/')[1]}/${elbId()}`);
    const record = call.tables.listeners.put(arn, {
      ListenerArn: arn,
      LoadBalancerArn: balancer.LoadBalancerArn,
      Port: input.Port as number,
      Protocol: input.Protocol as elb.ProtocolEnum,
      DefaultActions: actions,
      ...(input.Certificates ? { Certificates: input.Certificates } : {}),
      ...(input.SslPolicy ? { SslPolicy: input.SslPolicy } : {}),
      ...(input.AlpnPolicy ? { AlpnPolicy: input.AlpnPolicy } : {}),
      attributes: balancer.Type === 'network' ? { 'tcp.idle_timeout.seconds': '350' } : {},
    });
    putTags(call, arn, input.Tags ?? []);
    for (const group of groupsOf(actions)) settleTargets(call, group);
    return { Listeners: [view(record)] };
  },

  DescribeListeners(input: elb.DescribeListenersInput, call: CallContext): elb.DescribeListenersOutput {
    if (input.ListenerArns?.length) return { Listeners: input.ListenerArns.map((arn) => view(findListener(call, arn))) };
    const balancer = findBalancer(call, input.LoadBalancerArn);
    const { items, NextMarker } = page(call.tables.listeners.by('loadBalancer', balancer.LoadBalancerArn), input);
    return { Listeners: items.map(view), ...(NextMarker ? { NextMarker } : {}) };
  },

  ModifyListener(input: elb.ModifyListenerInput, call: CallContext): elb.ModifyListenerOutput {
    const listener = findListener(call, input.ListenerArn);
    const balancer = findBalancer(call, listener.LoadBalancerArn);
    const port = input.Port ?? listener.Port;
    const protocol = input.Protocol ?? listener.Protocol;
    checkProtocol(balancer, protocol, port, input.Certificates ?? listener.Certificates);
    if (
      call.tables.listeners.by('loadBalancer', balancer.LoadBalancerArn).some((one) => one.Port === port && one.ListenerArn !== listener.ListenerArn)
    ) {
      throw new AwsError('DuplicateListener', `A listener already exists on this port for this load balancer '${balancer.LoadBalancerArn}'`);
    }
    const actions = input.DefaultActions ? checkActions(call, balancer, input.DefaultActions) : listener.DefaultActions;
    const changed = call.tables.listeners.change(listener.ListenerArn, {
      Port: port,
      Protocol: protocol,
      DefaultActions: actions,
      ...(input.Certificates ? { Certificates: input.Certificates } : {}),
      ...(input.SslPolicy ? { SslPolicy: input.SslPolicy } : {}),
      ...(input.AlpnPolicy ? { AlpnPolicy: input.AlpnPolicy } : {}),
    });
    for (const group of new Set([...groupsOf(listener.DefaultActions), ...groupsOf(actions)])) settleTargets(call, group);
    return { Listeners: [view(changed)] };
  },

  DeleteListener(input: elb.DeleteListenerInput, call: CallContext): elb.DeleteListenerOutput {
    dropListener(call, findListener(call, input.ListenerArn));
    return {};
  },

  DescribeListenerAttributes(input: elb.DescribeListenerAttributesInput, call: CallContext): elb.DescribeListenerAttributesOutput {
    return { Attributes: Object.entries(findListener(call, input.ListenerArn).attributes).map(([Key, Value]) => ({ Key, Value })) };
  },

  ModifyListenerAttributes(input: elb.ModifyListenerAttributesInput, call: CallContext): elb.ModifyListenerAttributesOutput {
    const listener = findListener(call, input.ListenerArn);
    const attributes = { ...listener.attributes };
    for (const { Key, Value } of input.Attributes ?? []) {
      if (!Key || !(Key in attributes)) throw validationError(`Listener attribute key '${Key ?? ''}' is not recognized`);
      attributes[Key] = Value ?? '';
    }
    call.tables.listeners.change(listener.ListenerArn, { attributes });
    return { Attributes: Object.entries(attributes).map(([Key, Value]) => ({ Key, Value })) };
  },
} satisfies Operations;
