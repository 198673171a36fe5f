import type * as elb from '@aws-sdk/client-elastic-load-balancing-v2';
import type { CallContext } from '../cloud.ts';
import { AwsError } from '../errors.ts';
import type { LoadBalancerRecord, TargetGroupRecord } from '../state/records.ts';
import { balancersOf, targetGroupsOf } from './forwards.ts';
import { findGroup, invalidConfiguration, validationError } from './names.ts';

/** Protocols of target groups that a listener's protocol goes with. */
const fitting: Record<string, string[]> = {
  TCP: ['TCP', 'TCP_UDP'],
  UDP: ['UDP', 'TCP_UDP'],
  TCP_UDP: ['TCP_UDP'],
  TLS: ['TCP', 'TLS'],
  HTTP: ['HTTP', 'HTTPS'],
  HTTPS: ['HTTP', 'HTTPS'],
};

const mostGroups = 5;
/** Types of actions that end a rule, and what each of them needs. */
const ends: Record<string, (action: elb.Action) => unknown> = {
  forward: () => true,
  redirect: (action) => action.RedirectConfig,
  'fixed-response': (action) => action.FixedResponseConfig,
};
const before: Record<string, (action: elb.Action) => unknown> = {
  'authenticate-oidc': (action) => action.AuthenticateOidcConfig,
  'authenticate-cognito': (action) => action.AuthenticateCognitoConfig,
  'jwt-validation': (action) => action.JwtValidationConfig,
};

function checkGroup(call: CallContext, balancer: LoadBalancerRecord, protocol: string, group: TargetGroupRecord): void {
  const arn = group.TargetGroupArn;
  if (group.VpcId !== balancer.VpcId) {
    throw invalidConfiguration(`The following target groups are in a different VPC than load balancer '${balancer.LoadBalancerArn}': ${arn}`);
  }
  if (!fitting[protocol]?.includes(group.Protocol ?? '')) {
    throw new AwsError(
      'IncompatibleProtocols',
      `The listener and its associated target group '${arn}' have incompatible protocols: '${protocol}' and '${group.Protocol}'`,
    );
  }
  if (balancersOf(call, arn).some((other) => other !== balancer.LoadBalancerArn)) {
    throw new AwsError('TargetGroupAssociationLimit', `The following target groups cannot be associated with more than one load balancer: ${arn}`);
  }
}

function forward(call: CallContext, balancer: LoadBalancerRecord, protocol: string, action: elb.Action): elb.Action {
  const arns = targetGroupsOf([action]);
  if (!arns.length) throw validationError('A target group ARN must be specified');
  if (arns.length > mostGroups) throw invalidConfiguration(`An action can forward to at most ${mostGroups} target groups`);
  const { TargetGroups: given, TargetGroupStickinessConfig: stickiness } = action.ForwardConfig ?? {};
  if (given?.length && action.TargetGroupArn !== undefined && (given.length > 1 || given[0]!.TargetGroupArn !== action.TargetGroupArn)) {
    throw new AwsError('InvalidLoadBalancerAction', 'The target group ARN of an action must be the only one of its forward configuration');
  }
  for (const arn of arns) checkGroup(call, balancer, protocol, findGroup(call, arn));
  const weighted = (given?.length ? given : arns.map((TargetGroupArn): elb.TargetGroupTuple => ({ TargetGroupArn }))).map((one) => {
    const weight = one.Weight ?? 1;
    if (weight < 0 || weight > 999) throw validationError(`Target group weight '${weight}' must be between 0 and 999`);
    return { TargetGroupArn: one.TargetGroupArn, Weight: weight };
  });
  return {
    Type: 'forward',
    ...(action.Order === undefined ? {} : { Order: action.Order }),
    ...(arns.length === 1 ? { TargetGroupArn: arns[0] } : {}),
    ForwardConfig: {
      TargetGroups: weighted,
      ...(balancer.Type === 'application' ? { TargetGroupStickinessConfig: { Enabled: false, ...stickiness } } : {}),
    },
  };
}

/**
 * Actions of a listener or a rule as they are kept: a forward names its groups in both of its ways. Throws ValidationError,
 * InvalidLoadBalancerAction, TargetGroupNotFound, IncompatibleProtocols and what else ELB says to actions that cannot be.
 */
export function checkActions(call: CallContext, balancer: LoadBalancerRecord, protocol: string, actions: elb.Action[] | undefined): elb.Action[] {
  if (!actions?.length) throw validationError('At least one action must be specified');
  if (actions.length > 1 && balancer.Type === 'network') throw new AwsError('TooManyActions', 'A listener of a network load balancer has one action');
  const ordered = [...actions].sort((a, b) => (a.Order ?? 50_001) - (b.Order ?? 50_001));
  return ordered.map((action, i) => {
    const type = action.Type ?? '';
    const last = i === ordered.length - 1;
    if (balancer.Type === 'network' && type !== 'forward') {
      throw new AwsError('InvalidLoadBalancerAction', `Actions of type '${type}' are not supported with network load balancers`);
    }
    const kinds = last ? ends : before;
    if (!Object.hasOwn(kinds, type)) {
      throw new AwsError(
        'InvalidLoadBalancerAction',
        last ? `An action of type '${type}' cannot be the last one` : `An action of type '${type}' must be the last one`,
      );
    }
    if (!kinds[type]!(action)) throw validationError(`An action of type '${type}' needs its configuration`);
    return type === 'forward' ? forward(call, balancer, protocol, action) : action;
  });
}
