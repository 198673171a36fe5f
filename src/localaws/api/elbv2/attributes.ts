import type * as elb from '@aws-sdk/client-elastic-load-balancing-v2';
import type { CallContext, Operations } from '../cloud.ts';
import type { ListenerRecord, LoadBalancerRecord, TargetGroupRecord } from '../state/records.ts';
import { findBalancer, findGroup, findListener, validationError } from './names.ts';

/** What an attribute is when nobody sets it, and which values it takes. */
interface Attribute {
  value: string;
  accepts(value: string): boolean;
}
type Attributes = Record<string, Attribute>;

const flag = (value: boolean): Attribute => oneOf(String(value), 'true', 'false');
const oneOf = (value: string, ...others: string[]): Attribute => ({ value, accepts: (given) => given === value || others.includes(given) });
const text = (value = ''): Attribute => ({ value, accepts: (given) => given.length <= 1024 });
const number = (value: number, least: number, most: number, word?: string): Attribute => ({
  value: String(value),
  accepts: (given) => given === word || (/^\d{1,9}$/.test(given) && Number(given) >= least && Number(given) <= most),
});

const accessLogs: Attributes = { 'access_logs.s3.enabled': flag(false), 'access_logs.s3.bucket': text(), 'access_logs.s3.prefix': text() };

const balancerAttributes: Record<string, Attributes> = {
  network: {
    ...accessLogs,
    'deletion_protection.enabled': flag(false),
    'ipv6.deny_all_igw_traffic': flag(false),
    'load_balancing.cross_zone.enabled': flag(false),
    'dns_record.client_routing_policy': oneOf('any_availability_zone', 'availability_zone_affinity', 'partial_availability_zone_affinity'),
    'secondary_ips.auto_assigned.per_subnet': number(0, 0, 7),
    'zonal_shift.config.enabled': flag(false),
  },
  application: {
    ...accessLogs,
    'connection_logs.s3.enabled': flag(false),
    'connection_logs.s3.bucket': text(),
    'connection_logs.s3.prefix': text(),
    'client_keep_alive.seconds': number(3600, 60, 604_800),
    'deletion_protection.enabled': flag(false),
    'idle_timeout.timeout_seconds': number(60, 1, 4000),
    'ipv6.deny_all_igw_traffic': flag(false),
    'load_balancing.cross_zone.enabled': flag(true),
    'routing.http.desync_mitigation_mode': oneOf('defensive', 'monitor', 'strictest'),
    'routing.http.drop_invalid_header_fields.enabled': flag(false),
    'routing.http.preserve_host_header.enabled': flag(false),
    'routing.http.x_amzn_tls_version_and_cipher_suite.enabled': flag(false),
    'routing.http.xff_client_port.enabled': flag(false),
    'routing.http.xff_header_processing.mode': oneOf('append', 'preserve', 'remove'),
    'routing.http2.enabled': flag(true),
    'waf.fail_open.enabled': flag(false),
    'zonal_shift.config.enabled': flag(false),
  },
};

const groupAttributes = (network: boolean, type: string, udp: boolean): Attributes => ({
  'deregistration_delay.timeout_seconds': number(300, 0, 3600),
  'stickiness.enabled': flag(false),
  'stickiness.type': network ? oneOf('source_ip', 'source_ip_dest_ip', 'source_ip_dest_ip_proto') : oneOf('lb_cookie', 'app_cookie'),
  'load_balancing.cross_zone.enabled': oneOf('use_load_balancer_configuration', 'true', 'false'),
  'target_group_health.dns_failover.minimum_healthy_targets.count': number(1, 1, 1000, 'off'),
  'target_group_health.dns_failover.minimum_healthy_targets.percentage': { value: 'off', accepts: percentage },
  'target_group_health.unhealthy_state_routing.minimum_healthy_targets.count': number(1, 1, 1000),
  'target_group_health.unhealthy_state_routing.minimum_healthy_targets.percentage': { value: 'off', accepts: percentage },
  ...(network
    ? {
        'deregistration_delay.connection_termination.enabled': flag(udp),
        'preserve_client_ip.enabled': flag(type === 'instance' || udp),
        'proxy_protocol_v2.enabled': flag(false),
        'target_health_state.unhealthy.connection_termination.enabled': flag(true),
        'target_health_state.unhealthy.draining_interval_seconds': number(0, 0, 360_000),
      }
    : {
        'load_balancing.algorithm.anomaly_mitigation': oneOf('off', 'on'),
        'load_balancing.algorithm.type': oneOf('round_robin', 'least_outstanding_requests', 'weighted_random'),
        'slow_start.duration_seconds': number(0, 0, 900),
        'stickiness.app_cookie.cookie_name': text(),
        'stickiness.app_cookie.duration_seconds': number(86_400, 1, 604_800),
        'stickiness.lb_cookie.duration_seconds': number(86_400, 1, 604_800),
      }),
});

function percentage(value: string): boolean {
  return value === 'off' || (/^\d{1,3}$/.test(value) && Number(value) >= 1 && Number(value) <= 100);
}

const listenerAttributes = (balancerType: string, protocol: string | undefined): Attributes => {
  if (balancerType === 'network') return protocol === 'TCP' ? { 'tcp.idle_timeout.seconds': number(350, 60, 6000) } : {};
  return { 'routing.http.response.server.enabled': flag(true) };
};

const initial = (attributes: Attributes) => Object.fromEntries(Object.entries(attributes).map(([key, one]) => [key, one.value]));
const kindOfGroup = (group: Pick<TargetGroupRecord, 'Protocol' | 'TargetType'>): Attributes =>
  groupAttributes(group.Protocol !== 'HTTP' && group.Protocol !== 'HTTPS', group.TargetType, /UDP/.test(group.Protocol ?? ''));

export const newBalancerAttributes = (type: string) => initial(balancerAttributes[type]!);
export const newGroupAttributes = (group: Pick<TargetGroupRecord, 'Protocol' | 'TargetType'>) => initial(kindOfGroup(group));
export const newListenerAttributes = (balancerType: string, protocol: string | undefined) => initial(listenerAttributes(balancerType, protocol));

/** The attributes with the changes asked for. Throws ValidationError for one that is not known, and for a value that it does not take. */
function changed(
  noun: string,
  known: Attributes,
  old: Record<string, string>,
  changes: { Key?: string; Value?: string }[] | undefined,
): Record<string, string> {
  const attributes = { ...old };
  const seen = new Set<string>();
  for (const { Key: key = '', Value: value = '' } of changes ?? []) {
    if (!Object.hasOwn(known, key)) throw validationError(`${noun} attribute key '${key}' is not recognized`);
    if (seen.has(key)) throw validationError(`${noun} attribute key '${key}' is specified more than once`);
    if (!known[key]!.accepts(value)) throw validationError(`${noun} attribute value '${value}' is not valid for key '${key}'`);
    seen.add(key);
    attributes[key] = value;
  }
  return attributes;
}

const list = (attributes: Record<string, string>) => Object.entries(attributes).map(([Key, Value]) => ({ Key, Value }));
/** With what newer releases added to the kind. */
const current = (known: Attributes, record: LoadBalancerRecord | TargetGroupRecord | ListenerRecord) => ({ ...initial(known), ...record.attributes });

export const attributeOperations = {
  DescribeLoadBalancerAttributes(input: elb.DescribeLoadBalancerAttributesInput, call: CallContext): elb.DescribeLoadBalancerAttributesOutput {
    const record = findBalancer(call, input.LoadBalancerArn);
    return { Attributes: list(current(balancerAttributes[record.Type]!, record)) };
  },

  ModifyLoadBalancerAttributes(input: elb.ModifyLoadBalancerAttributesInput, call: CallContext): elb.ModifyLoadBalancerAttributesOutput {
    const record = findBalancer(call, input.LoadBalancerArn);
    const known = balancerAttributes[record.Type]!;
    const attributes = changed('Load balancer', known, current(known, record), input.Attributes);
    call.tables.loadBalancers.change(record.LoadBalancerArn, { attributes });
    return { Attributes: list(attributes) };
  },

  DescribeTargetGroupAttributes(input: elb.DescribeTargetGroupAttributesInput, call: CallContext): elb.DescribeTargetGroupAttributesOutput {
    const record = findGroup(call, input.TargetGroupArn);
    return { Attributes: list(current(kindOfGroup(record), record)) };
  },

  ModifyTargetGroupAttributes(input: elb.ModifyTargetGroupAttributesInput, call: CallContext): elb.ModifyTargetGroupAttributesOutput {
    const record = findGroup(call, input.TargetGroupArn);
    const known = kindOfGroup(record);
    const attributes = changed('Target group', known, current(known, record), input.Attributes);
    call.tables.targetGroups.change(record.TargetGroupArn, { attributes });
    return { Attributes: list(attributes) };
  },

  DescribeListenerAttributes(input: elb.DescribeListenerAttributesInput, call: CallContext): elb.DescribeListenerAttributesOutput {
    return { Attributes: list(findListener(call, input.ListenerArn).attributes) };
  },

  ModifyListenerAttributes(input: elb.ModifyListenerAttributesInput, call: CallContext): elb.ModifyListenerAttributesOutput {
    const record = findListener(call, input.ListenerArn);
    const { Type } = findBalancer(call, record.LoadBalancerArn);
    const attributes = changed('Listener', listenerAttributes(Type, record.Protocol), record.attributes, input.Attributes);
    call.tables.listeners.change(record.ListenerArn, { attributes });
    return { Attributes: list(attributes) };
  },
} satisfies Operations;
