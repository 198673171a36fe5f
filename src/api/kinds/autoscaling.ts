import type { FieldError } from '../errors.ts';
import { parseQuantity } from '../quantity.ts';
import type { KindStrategy } from '../scheme.ts';
import { labelProblems, pathSegmentProblems } from '../validation.ts';
import { column, columns } from './column.ts';
import { validateResourceName } from './container-validation.ts';
import { Findings } from './findings.ts';
import { specAndStatus } from './spec-and-status.ts';

const defaultUtilization = 80;
const longestWindow = 3600;
const longestPeriod = 1800;

/** The kinds of metrics in the order in which upstream looks at them. */
const sources = ['object', 'external', 'pods', 'resource', 'containerResource'];
const types = ['ContainerResource', 'External', 'Object', 'Pods', 'Resource'];

function validateReference(found: Findings, ref: any, at: string, coreToo: boolean): void {
  for (const field of ['kind', 'name']) {
    if (!ref?.[field]) found.required(`${at}.${field}`);
    else found.problems(`${at}.${field}`, ref[field], pathSegmentProblems);
  }
  const version: string = ref?.apiVersion ?? '';
  if (version.split('/').length > 2) found.invalid(`${at}.apiVersion`, version, `unexpected GroupVersion string: ${version}`);
  else if (!coreToo && !version.includes('/')) found.invalid(`${at}.apiVersion`, version, 'apiVersion must specify API group');
}

const isPositive = (amount: string) => parseQuantity(amount).nano > 0n;

function validateTarget(found: Findings, target: any, at: string): void {
  if (!target.type) found.required(`${at}.type`, 'must specify a metric target type');
  if (!['Utilization', 'Value', 'AverageValue'].includes(target.type))
    found.invalid(`${at}.type`, target.type ?? '', 'must be either Utilization, Value, or AverageValue');
  for (const field of ['value', 'averageValue'])
    if (target[field] !== undefined && !isPositive(target[field])) found.invalid(`${at}.${field}`, target[field], 'must be positive');
  if (target.averageUtilization < 1) found.invalid(`${at}.averageUtilization`, target.averageUtilization, 'must be greater than 0');
}

function validateSource(found: Findings, kind: string, source: any, at: string): void {
  const target = source.target ?? {};
  const { value, averageValue, averageUtilization } = target;
  if (kind === 'object') validateReference(found, source.describedObject, `${at}.describedObject`, true);
  if (kind === 'resource' || kind === 'containerResource') {
    if (!source.name) found.required(`${at}.name`, 'must specify a resource name');
    else if (kind === 'containerResource') validateResourceName(found, source.name, `${at}.name`);
    if (kind === 'containerResource') {
      if (!source.container) found.required(`${at}.container`, 'must specify a container');
      else found.problems(`${at}.container`, source.container, labelProblems);
    }
    validateTarget(found, target, `${at}.target`);
    if (averageUtilization === undefined && averageValue === undefined)
      found.required(`${at}.target.averageUtilization`, 'must set either a target raw value or a target utilization');
    if (averageUtilization !== undefined && averageValue !== undefined)
      found.forbidden(`${at}.target.averageValue`, 'may not set both a target raw value and a target utilization');
    return;
  }
  if (!source.metric?.name) found.required(`${at}.metric.name`, 'must specify a metric name');
  else found.problems(`${at}.metric.name`, source.metric.name, pathSegmentProblems);
  validateTarget(found, target, `${at}.target`);
  const none = value === undefined && averageValue === undefined;
  if (kind === 'object' && none) found.required(`${at}.target.averageValue`, 'must set either a target value or averageValue');
  if (kind === 'external' && none) found.required(`${at}.target.averageValue`, 'must set either a target value for metric or a per-pod target');
  if (kind === 'external' && value !== undefined && averageValue !== undefined)
    found.forbidden(`${at}.target.value`, 'may not set both a target value for metric and a per-pod target');
  if (kind === 'pods' && averageValue === undefined) found.required(`${at}.target.averageValue`, 'must specify a positive target averageValue');
}

function validateMetric(found: Findings, metric: any, at: string): void {
  const type = metric.type ?? '';
  if (!type) found.required(`${at}.type`, 'must specify a metric source type');
  found.oneOf(`${at}.type`, type, types);
  const present = sources.filter((kind) => metric[kind]);
  if (present[0]) validateSource(found, present[0], metric[present[0]], `${at}.${present[0]}`);
  const expected = types.includes(type) ? `${type[0]!.toLowerCase()}${type.slice(1)}` : '';
  if (!expected) found.oneOf(`${at}.type`, type, types);
  else if (!metric[expected]) found.required(`${at}.${expected}`, 'must populate information for the given metric source');
  if (present.length === 1) return;
  for (const kind of present) if (kind !== expected) found.forbidden(`${at}.${kind}`, 'must populate the given metric source only');
}

function validateRules(found: Findings, rules: any, at: string): void {
  if (!rules) return;
  const window = rules.stabilizationWindowSeconds;
  if (window < 0) found.invalid(`${at}.stabilizationWindowSeconds`, window, 'must be greater than or equal to zero');
  if (window > longestWindow) found.invalid(`${at}.stabilizationWindowSeconds`, window, `must be less than or equal to ${longestWindow}`);
  if (rules.selectPolicy !== undefined) found.oneOf(`${at}.selectPolicy`, rules.selectPolicy, ['Disabled', 'Max', 'Min']);
  if (!rules.policies?.length) found.required(`${at}.policies`, 'must specify at least one Policy');
  (rules.policies ?? []).forEach((policy: any, i: number) => {
    const path = `${at}.policies[${i}]`;
    found.oneOf(`${path}.type`, policy.type ?? '', ['Percent', 'Pods']);
    if (!(policy.value > 0)) found.invalid(`${path}.value`, policy.value ?? 0, 'must be greater than zero');
    if (!(policy.periodSeconds > 0)) found.invalid(`${path}.periodSeconds`, policy.periodSeconds ?? 0, 'must be greater than zero');
    if (policy.periodSeconds > longestPeriod)
      found.invalid(`${path}.periodSeconds`, policy.periodSeconds, `must be less than or equal to ${longestPeriod}`);
  });
  if (rules.tolerance !== undefined && parseQuantity(rules.tolerance).nano < 0n)
    found.invalid(`${at}.tolerance`, rules.tolerance, 'must be greater than or equal to 0');
}

function validateAutoscaler(o: any): FieldError[] {
  const found = new Findings();
  const declared = new Findings();
  const s = o.spec ?? {};
  if (s.minReplicas < 0) declared.invalid('spec.minReplicas', s.minReplicas, 'must be greater than or equal to 0');
  const most = s.maxReplicas ?? 0;
  if (most === 0) declared.required('spec.maxReplicas');
  else if (most < 0) declared.invalid('spec.maxReplicas', most, 'must be greater than or equal to 1');
  if (s.minReplicas !== undefined && most < s.minReplicas)
    found.invalid('spec.maxReplicas', most, 'must be greater than or equal to `minReplicas`');
  validateReference(found, s.scaleTargetRef, 'spec.scaleTargetRef', false);
  const v1Target = s.targetCPUUtilizationPercentage;
  if (v1Target < 1) found.invalid('spec.metrics[0].resource.target.averageUtilization', v1Target, 'must be greater than 0');
  const metrics = s.metrics ?? [];
  metrics.forEach((metric: any, i: number) => {
    validateMetric(found, metric, `spec.metrics[${i}]`);
  });
  if (s.minReplicas === 0 && !metrics.some((m: any) => m.type === 'Object' || m.type === 'External'))
    found.forbidden('spec.metrics', 'must specify at least one Object or External metric to support scaling to zero replicas');
  validateRules(found, s.behavior?.scaleUp, 'spec.behavior.scaleUp');
  validateRules(found, s.behavior?.scaleDown, 'spec.behavior.scaleDown');
  return [...found.errors, ...declared.errors];
}

/** One metric as `current/target`. */
function shownMetric(metric: any, status: any): string {
  const kind = `${metric.type?.[0]?.toLowerCase() ?? ''}${metric.type?.slice(1) ?? ''}`;
  const source = metric[kind];
  if (!source) return '<unknown type>';
  const current = status?.[kind]?.current ?? {};
  const { averageValue, averageUtilization, value } = source.target ?? {};
  const unknown = '<unknown>';
  if (kind === 'resource' || kind === 'containerResource') {
    if (averageValue !== undefined) return `${source.name}: ${current.averageValue ?? unknown}/${averageValue}`;
    const now = current.averageUtilization === undefined ? unknown : `${current.averageUtilization}%`;
    return `${source.name}: ${now}/${averageUtilization === undefined ? '<auto>' : `${averageUtilization}%`}`;
  }
  if (kind === 'pods') return `${current.averageValue ?? unknown}/${averageValue}`;
  return averageValue === undefined ? `${current.value ?? unknown}/${value}` : `${current.averageValue ?? unknown}/${averageValue} (avg)`;
}

function shownMetrics(o: any): string {
  const s = o.spec ?? {};
  const status = o.status ?? {};
  if (o.apiVersion === 'autoscaling/v1') {
    const target = s.targetCPUUtilizationPercentage;
    if (target === undefined) return '<none>';
    const now = status.currentCPUUtilizationPercentage;
    return `cpu: ${now === undefined ? '<unknown>' : `${now}%`}/${target}%`;
  }
  if (!s.metrics?.length) return '<none>';
  const list = s.metrics.map((metric: any, i: number) => shownMetric(metric, status.currentMetrics?.[i]));
  return list.length > 2 ? `${list.slice(0, 2).join(', ')} + ${list.length - 2} more...` : list.join(', ');
}

const upRules = () => ({
  stabilizationWindowSeconds: 0,
  selectPolicy: 'Max',
  policies: [
    { type: 'Pods', value: 4, periodSeconds: 15 },
    { type: 'Percent', value: 100, periodSeconds: 15 },
  ],
});
const downRules = () => ({ selectPolicy: 'Max', policies: [{ type: 'Percent', value: 100, periodSeconds: 15 }] });

export const horizontalPodAutoscaler: KindStrategy = {
  ...specAndStatus,
  default(o) {
    const s = (o.spec ??= {});
    s.minReplicas ??= 1;
    if (o.apiVersion === 'autoscaling/v1') {
      s.targetCPUUtilizationPercentage ??= defaultUtilization;
      return;
    }
    if (!s.metrics?.length) {
      const target = { type: 'Utilization', averageUtilization: defaultUtilization };
      s.metrics = [{ type: 'Resource', resource: { name: 'cpu', target } }];
    }
    if (!s.behavior) return;
    s.behavior.scaleUp = { ...upRules(), ...s.behavior.scaleUp };
    s.behavior.scaleDown = { ...downRules(), ...s.behavior.scaleDown };
  },
  validate: validateAutoscaler,
  columns: columns(
    column('Reference', (o) => `${o.spec?.scaleTargetRef?.kind ?? ''}/${o.spec?.scaleTargetRef?.name ?? ''}`),
    column('Targets', shownMetrics),
    column('MinPods', (o) => (o.spec?.minReplicas === undefined ? '<unset>' : String(o.spec.minReplicas))),
    column('MaxPods', (o) => o.spec?.maxReplicas ?? 0),
    column('Replicas', (o) => o.status?.currentReplicas ?? 0),
  ),
};
