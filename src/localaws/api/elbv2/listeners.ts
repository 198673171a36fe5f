import type * as elb from '@aws-sdk/client-elastic-load-balancing-v2';
import type { CallContext, Operations } from '../cloud.ts';
import { dropTags } from '../ec2/tags.ts';
import { AwsError } from '../errors.ts';
import { elbId } from '../ids.ts';
import type { ListenerRecord, LoadBalancerRecord } from '../state/records.ts';
import { checkActions } from './actions.ts';
import { newListenerAttributes } from './attributes.ts';
import { targetGroupsOf } from './forwards.ts';
import { checkSslPolicy, defaultSslPolicy, mostListeners } from './limits.ts';
import { arnOf, findBalancer, findListener, page, pathOf, validationError } from './names.ts';
import { addTags } from './tags.ts';
import { settleTargets } from './targets.ts';

const protocols: Record<string, string[]> = { network: ['TLS', 'TCP', 'TCP_UDP', 'UDP'], application: ['HTTP', 'HTTPS'] };
const alpnPolicies = ['HTTP1Only', 'HTTP2Only', 'HTTP2Optional', 'HTTP2Preferred', 'None'];

function view(record: ListenerRecord): elb.Listener {
  const { attributes: _, ...shape } = record;
  return shape;
}

type Settings = Pick<ListenerRecord, 'Port' | 'Protocol' | 'Certificates' | 'SslPolicy' | 'AlpnPolicy'>;

/** Protocol, port and what belongs to TLS. Throws ValidationError, CertificateNotFound, SSLPolicyNotFound and ALPNPolicyNotFound. */
function checkSettings(balancer: LoadBalancerRecord, input: Partial<elb.CreateListenerInput>): Settings {
  const allowed = protocols[balancer.Type] ?? [];
  const protocol = input.Protocol;
  if (!protocol || !allowed.includes(protocol)) throw validationError(`Listener protocol '${protocol ?? ''}' must be one of '${allowed.join(', ')}'`);
  const port = input.Port;
  if (port === undefined || !Number.isInteger(port) || port < 1 || port > 65_535) {
    throw validationError(`Listener port '${port ?? ''}' must be between 1 and 65535`);
  }
  if (protocol !== 'TLS' && protocol !== 'HTTPS') {
    if (input.Certificates?.length) throw validationError(`Certificates cannot be specified for listeners of protocol '${protocol}'`);
    if (input.SslPolicy) throw validationError(`An SSL policy cannot be specified for listeners of protocol '${protocol}'`);
    return { Port: port, Protocol: protocol };
  }
  const [certificate, ...more] = input.Certificates ?? [];
  if (!certificate?.CertificateArn) throw validationError(`A certificate must be specified for ${protocol} listeners`);
  if (more.length) throw validationError('Exactly one default certificate can be specified');
  if (!/^arn:[a-z-]+:(acm:[a-z0-9-]+:\d{12}:certificate|iam::\d{12}:server-certificate)\/.+$/.test(certificate.CertificateArn)) {
    throw new AwsError('CertificateNotFound', `Certificate '${certificate.CertificateArn}' not found`);
  }
  const [alpn] = input.AlpnPolicy ?? [];
  if (alpn !== undefined && !alpnPolicies.includes(alpn)) throw new AwsError('ALPNPolicyNotFound', `ALPN policy '${alpn}' is not supported`);
  return {
    Port: port,
    Protocol: protocol,
    Certificates: [{ CertificateArn: certificate.CertificateArn }],
    SslPolicy: checkSslPolicy(input.SslPolicy ?? defaultSslPolicy),
    ...(alpn === undefined ? {} : { AlpnPolicy: [alpn] }),
  };
}

function checkPort(call: CallContext, balancer: LoadBalancerRecord, port: number, but?: string): void {
  const others = call.tables.listeners.by('loadBalancer', balancer.LoadBalancerArn);
  if (others.some((one) => one.Port === port && one.ListenerArn !== but)) {
    throw new AwsError('DuplicateListener', `A listener already exists on this port for this load balancer '${balancer.LoadBalancerArn}'`);
  }
}

/** Takes a listener away with its rules; the targets that it alone led to are not in use any more. */
export function dropListener(call: CallContext, listener: ListenerRecord): void {
  const { rules, listeners } = call.tables;
  const groups = new Set(targetGroupsOf(listener.DefaultActions));
  for (const rule of rules.by('listener', listener.ListenerArn)) {
    for (const arn of targetGroupsOf(rule.Actions)) groups.add(arn);
    rules.delete(rule.RuleArn);
    dropTags(call, rule.RuleArn);
  }
  listeners.delete(listener.ListenerArn);
  dropTags(call, listener.ListenerArn);
  for (const arn of groups) settleTargets(call, arn);
}

/** The rule that a listener has from the start. Its actions are the listener's default actions. */
function putDefaultRule(call: CallContext, listener: ListenerRecord): void {
  const { rules } = call.tables;
  const known = rules.by('listener', listener.ListenerArn).find((one) => one.IsDefault);
  const arn = known?.RuleArn ?? `${listener.ListenerArn.replace(':listener/', ':listener-rule/')}/${elbId()}`;
  rules.put(arn, {
    RuleArn: arn,
    listenerArn: listener.ListenerArn,
    Priority: 'default',
    Conditions: [],
    Actions: listener.DefaultActions,
    IsDefault: true,
  });
}

export const listenerOperations = {
  CreateListener(input: elb.CreateListenerInput, call: CallContext): elb.CreateListenerOutput {
    const balancer = findBalancer(call, input.LoadBalancerArn);
    const settings = checkSettings(balancer, input);
    const actions = checkActions(call, balancer, settings.Protocol, input.DefaultActions);
    const existing = call.tables.listeners.by('loadBalancer', balancer.LoadBalancerArn);
    const same = existing.find((one) => one.Port === settings.Port);
    if (same && same.Protocol === settings.Protocol && JSON.stringify(same.DefaultActions) === JSON.stringify(actions)) {
      return { Listeners: [view(same)] };
    }
    checkPort(call, balancer, settings.Port);
    if (existing.length >= mostListeners) {
      throw new AwsError('TooManyListeners', `Load balancer '${balancer.LoadBalancerArn}' has the maximum of ${mostListeners} listeners`);
    }
    const arn = arnOf(call, `listener/${pathOf(balancer.LoadBalancerArn)}/${elbId()}`);
    const record = call.tables.listeners.put(arn, {
      ListenerArn: arn,
      LoadBalancerArn: balancer.LoadBalancerArn,
      ...settings,
      DefaultActions: actions,
      attributes: newListenerAttributes(balancer.Type, settings.Protocol),
    });
    putDefaultRule(call, record);
    addTags(call, arn, input.Tags);
    for (const group of targetGroupsOf(actions)) settleTargets(call, group);
    return { Listeners: [view(record)] };
  },

  DescribeListeners(input: elb.DescribeListenersInput, call: CallContext): elb.DescribeListenersOutput {
    if (input.ListenerArns?.length && input.LoadBalancerArn !== undefined) {
      throw validationError('Listener ARNs and a load balancer ARN cannot be specified at the same time');
    }
    if (!input.ListenerArns?.length && input.LoadBalancerArn === undefined) {
      throw validationError('You must specify either listener ARNs or a load balancer ARN');
    }
    const found = input.ListenerArns?.length
      ? [...new Set(input.ListenerArns)].map((arn) => findListener(call, arn))
      : call.tables.listeners.by('loadBalancer', findBalancer(call, input.LoadBalancerArn).LoadBalancerArn);
    const { items, ...rest } = page(found, (one) => one.ListenerArn, input);
    return { Listeners: items.map(view), ...rest };
  },

  ModifyListener(input: elb.ModifyListenerInput, call: CallContext): elb.ModifyListenerOutput {
    const listener = findListener(call, input.ListenerArn);
    const balancer = findBalancer(call, listener.LoadBalancerArn);
    const protocol = input.Protocol ?? listener.Protocol;
    const secure = protocol === 'TLS' || protocol === 'HTTPS';
    const settings = checkSettings(balancer, {
      Port: input.Port ?? listener.Port,
      Protocol: protocol,
      // What belongs to TLS goes with it.
      Certificates: input.Certificates ?? (secure ? listener.Certificates : undefined),
      SslPolicy: input.SslPolicy ?? (secure ? listener.SslPolicy : undefined),
      AlpnPolicy: input.AlpnPolicy ?? (secure ? listener.AlpnPolicy : undefined),
    });
    checkPort(call, balancer, settings.Port, listener.ListenerArn);
    const actions = checkActions(call, balancer, settings.Protocol, input.DefaultActions ?? listener.DefaultActions);
    const changed = call.tables.listeners.put(listener.ListenerArn, {
      ListenerArn: listener.ListenerArn,
      LoadBalancerArn: listener.LoadBalancerArn,
      ...settings,
      DefaultActions: actions,
      attributes: settings.Protocol === listener.Protocol ? listener.attributes : newListenerAttributes(balancer.Type, settings.Protocol),
    });
    putDefaultRule(call, changed);
    for (const group of new Set([...targetGroupsOf(listener.DefaultActions), ...targetGroupsOf(actions)])) settleTargets(call, group);
    return { Listeners: [view(changed)] };
  },

  DeleteListener(input: elb.DeleteListenerInput, call: CallContext): elb.DeleteListenerOutput {
    dropListener(call, findListener(call, input.ListenerArn));
    return {};
  },

  DescribeListenerCertificates(input: elb.DescribeListenerCertificatesInput, call: CallContext): elb.DescribeListenerCertificatesOutput {
    const { Certificates } = findListener(call, input.ListenerArn);
    const { items, ...rest } = page(Certificates ?? [], (one) => one.CertificateArn ?? '', input);
    return { Certificates: items.map((one) => ({ ...one, IsDefault: true })), ...rest };
  },
} satisfies Operations;
