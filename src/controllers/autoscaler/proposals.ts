import type { HorizontalPodAutoscaler, LabelSelector, MetricSpec, MetricStatus, MetricTarget, Pod } from '../../api/generated/types.ts';
import { formatQuantity, parseQuantity } from '../../api/quantity.ts';
import { formatLabelSelector } from '../../api/selectors.ts';
import type { MetricsClient } from './metrics.ts';
import { byAverage, byUtilization, byValue, byValuePerPod, type Tolerance } from './replicas.ts';

export interface ProposalInput {
  hpa: HorizontalPodAutoscaler;
  metrics: MetricsClient;
  /** The scale's selector, and the pods that it finds. */
  selector: string;
  pods: Pod[];
  current: number;
  statusReplicas: number;
  tolerance: Tolerance;
  now: number;
  /** The plural of an object's kind, with its group. */
  resourceOf(object: { kind: string; apiVersion?: string }): Promise<string>;
}

export interface MetricProposal {
  replicas: number;
  /** The metric as messages call it. */
  name: string;
  status: MetricStatus;
}

/** What a metric asks for could not be told; reason is that of the condition ScalingActive. */
export class MetricError extends Error {
  readonly reason: string;
  readonly detail: string;

  constructor(reason: string, message: string, detail: string) {
    super(message);
    this.reason = reason;
    this.detail = detail;
  }
}

const milli = (text: unknown): number => Number(parseQuantity(text as string).nano / 1_000_000n);
const quantity = (value: number, format: 'DecimalSI' | 'BinarySI' = 'DecimalSI'): string =>
  formatQuantity({ nano: BigInt(Math.round(value)) * 1_000_000n, format });
const shownSelector = (selector: LabelSelector | undefined) => (selector ? formatLabelSelector(selector) : '<nil>');

/** How many pods one of the autoscaler's metrics asks for. Throws MetricError. */
export async function propose(input: ProposalInput, spec: MetricSpec): Promise<MetricProposal> {
  const [reason, what] = namesOf(spec);
  try {
    switch (spec.type) {
      case 'Resource':
        return await byResource(input, spec.resource!.name, spec.resource!.target, undefined);
      case 'ContainerResource':
        return await byResource(input, spec.containerResource!.name, spec.containerResource!.target, spec.containerResource!.container);
      case 'Pods':
        return await byPods(input, spec);
      case 'Object':
        return await byObject(input, spec);
      case 'External':
        return await byExternal(input, spec);
    }
  } catch (error) {
    const detail = (error as Error).message;
    throw new MetricError(reason, `failed to get ${what} metric value: ${detail}`, detail);
  }
  const detail = `unknown metric source type ${JSON.stringify(spec.type)}`;
  throw new MetricError('InvalidMetricSourceType', detail, detail);
}

function namesOf(spec: MetricSpec): [reason: string, what: string] {
  switch (spec.type) {
    case 'Resource':
      return ['FailedGetResourceMetric', `${spec.resource?.name} resource`];
    case 'ContainerResource':
      return ['FailedGetContainerResourceMetric', `${spec.containerResource?.container} container`];
    case 'Pods':
      return ['FailedGetPodsMetric', 'pods'];
    case 'Object':
      return ['FailedGetObjectMetric', 'object'];
    default:
      return ['FailedGetExternalMetric', `${spec.external?.metric.name} external`];
  }
}

async function fetched<T>(what: string, from: Promise<T>): Promise<T> {
  try {
    return await from;
  } catch (error) {
    throw new Error(`unable to get ${what}: ${(error as Error).message}`);
  }
}

async function byResource(input: ProposalInput, resource: string, target: MetricTarget, container: string | undefined): Promise<MetricProposal> {
  const { hpa, pods, current, tolerance, now, selector } = input;
  const perPercent = target.averageValue === undefined;
  if (perPercent && target.averageUtilization === undefined)
    throw new Error('invalid resource metric source: neither an average utilization target nor an average value (usage) target was set');
  try {
    const metrics = await fetched(`metrics for resource ${resource}`, input.metrics.resource(resource, hpa.metadata.namespace, selector, container));
    const base = { pods, metrics, resource, current, tolerance, now };
    const format = resource === 'memory' ? 'BinarySI' : 'DecimalSI';
    const statusOf = (value: object): MetricStatus =>
      container === undefined
        ? { type: 'Resource', resource: { name: resource, current: value } }
        : { type: 'ContainerResource', containerResource: { name: resource, container, current: value } };
    if (!perPercent) {
      const { replicas, average } = byAverage(base, milli(target.averageValue));
      return { replicas, name: `${resource} resource`, status: statusOf({ averageValue: quantity(average, format) }) };
    }
    const { replicas, utilization, average } = byUtilization(base, target.averageUtilization!, container);
    const name = `${resource} ${container === undefined ? '' : 'container '}resource utilization (percentage of request)`;
    return { replicas, name, status: statusOf({ averageUtilization: utilization, averageValue: quantity(average, format) }) };
  } catch (error) {
    throw new Error(`failed to get ${resource} ${perPercent ? 'utilization' : 'usage'}: ${(error as Error).message}`);
  }
}

async function byPods(input: ProposalInput, { pods: source }: MetricSpec): Promise<MetricProposal> {
  const { hpa, pods, current, tolerance, now, selector } = input;
  const { metric, target } = source!;
  const metrics = await fetched(`metric ${metric.name}`, input.metrics.pods(metric.name, hpa.metadata.namespace, selector, metric.selector));
  const { replicas, average } = byAverage({ pods, metrics, resource: '', current, tolerance, now }, milli(target.averageValue));
  const status: MetricStatus = { type: 'Pods', pods: { metric, current: { averageValue: quantity(average) } } };
  return { replicas, name: `pods metric ${metric.name}`, status };
}

async function byObject(input: ProposalInput, { object: source }: MetricSpec): Promise<MetricProposal> {
  const { hpa, statusReplicas, tolerance } = input;
  const { metric, target, describedObject } = source!;
  const { namespace } = hpa.metadata;
  const resource = await input.resourceOf(describedObject);
  const value = await fetched(
    `metric ${metric.name} on ${describedObject.kind} ${namespace}/${describedObject.name}`,
    input.metrics.object(metric.name, namespace, describedObject, resource, metric.selector),
  );
  const statusOf = (current: object): MetricStatus => ({ type: 'Object', object: { describedObject, metric, current } });
  if (target.type === 'Value' && target.value !== undefined) {
    const replicas = byValue(input, value, milli(target.value));
    return { replicas, name: `${describedObject.kind} metric ${metric.name}`, status: statusOf({ value: quantity(value) }) };
  }
  if (target.type === 'AverageValue' && target.averageValue !== undefined) {
    const { replicas, average } = byValuePerPod(statusReplicas, tolerance, value, milli(target.averageValue));
    return { replicas, name: `external metric ${metric.name}(${shownSelector(metric.selector)})`, status: statusOf({ averageValue: quantity(average) }) };
  }
  throw new Error('invalid object metric source: neither a value target nor an average value target was set');
}

async function byExternal(input: ProposalInput, { external: source }: MetricSpec): Promise<MetricProposal> {
  const { hpa, statusReplicas, tolerance } = input;
  const { metric, target } = source!;
  const { namespace } = hpa.metadata;
  if (target.averageValue === undefined && target.value === undefined)
    throw new Error('invalid external metric source: neither a value target nor an average value target was set');
  const name = `external metric ${metric.name}(${shownSelector(metric.selector)})`;
  const what = `external metric ${namespace}/${metric.name}/${shownSelector(metric.selector)}`;
  const value = await fetched(what, input.metrics.external(metric.name, namespace, metric.selector));
  const statusOf = (current: object): MetricStatus => ({ type: 'External', external: { metric, current } });
  if (target.averageValue !== undefined) {
    const { replicas, average } = byValuePerPod(statusReplicas, tolerance, value, milli(target.averageValue));
    return { replicas, name, status: statusOf({ averageValue: quantity(average) }) };
  }
  return { replicas: byValue(input, value, milli(target.value)), name, status: statusOf({ value: quantity(value) }) };
}
