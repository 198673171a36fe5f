import type { Container, Pod } from '../../api/generated/types.ts';
import { parseQuantity } from '../../api/quantity.ts';
import { podResources } from '../../api/quota.ts';
import { isPodReady, podCondition } from '../pod-facts.ts';
import { millis } from '../timestamps.ts';
import type { PodMetrics } from './metrics.ts';

/** How long after its start a pod's use of cpu is not trusted, milliseconds. */
const CPU_INITIALIZATION = 5 * 60_000;
/** How long a pod may take to become ready for the first time, milliseconds. */
const INITIAL_READINESS = 30_000;

export interface Tolerance {
  up: number;
  down: number;
}

/** Whether use is so near the target that nothing is done. */
const isNear = (ratio: number, { up, down }: Tolerance) => 1 - down <= ratio && ratio <= 1 + up;
const ceil = (n: number) => Math.min(2 ** 31 - 1, Math.ceil(n - 1e-9));

interface Groups {
  ready: number;
  unready: string[];
  missing: string[];
}

/** Sorts pods by how far their metrics count; takes those out of metrics that do not. */
function group(pods: Pod[], metrics: PodMetrics, resource: string, now: number): Groups {
  const groups: Groups = { ready: 0, unready: [], missing: [] };
  for (const pod of pods) {
    const { name, deletionTimestamp } = pod.metadata;
    const metric = metrics.get(name);
    if (deletionTimestamp || pod.status?.phase === 'Failed') metrics.delete(name);
    else if (pod.status?.phase === 'Pending' || (metric && resource === 'cpu' && isStarting(pod, metric, now))) {
      groups.unready.push(name);
      metrics.delete(name);
    } else if (!metric) groups.missing.push(name);
    else groups.ready++;
  }
  return groups;
}

function isStarting(pod: Pod, metric: { at: number; windowMs: number }, now: number): boolean {
  const ready = podCondition(pod, 'Ready');
  const started = millis(pod.status?.startTime);
  if (!ready || !started) return true;
  const changed = millis(ready.lastTransitionTime);
  if (started + CPU_INITIALIZATION > now) return ready.status === 'False' || metric.at < changed + metric.windowMs;
  return ready.status === 'False' && started + INITIAL_READINESS > changed;
}

interface Calculation {
  pods: Pod[];
  metrics: PodMetrics;
  resource: string;
  current: number;
  tolerance: Tolerance;
  now: number;
  /** Use against the target, and what there is to say of it. Throws where it cannot be told. */
  ratioOf(metrics: PodMetrics): { ratio: number; shown: number; average: number };
  /** What a pod without a metric is taken to use when there is less use than wanted. */
  assumedWhenLow(pod: string): number;
}

/** How many pods bring the use to the target. Cautious: pods whose use is not known never are a reason to change the number. */
function calculate(c: Calculation): { replicas: number; shown: number; average: number } {
  if (!c.pods.length) throw new Error('no pods returned by selector while calculating replica count');
  const { ready, unready, missing } = group(c.pods, c.metrics, c.resource, c.now);
  if (!c.metrics.size) throw new Error('did not receive metrics for targeted pods (pods might be unready)');
  const { ratio, shown, average } = c.ratioOf(c.metrics);
  const withUnready = unready.length > 0 && ratio > 1;
  if (!withUnready && !missing.length) return { replicas: isNear(ratio, c.tolerance) ? c.current : ceil(ratio * ready), shown, average };
  const assume = (pod: string, value: number) => c.metrics.set(pod, { value, at: 0, windowMs: 0 });
  for (const pod of missing) {
    if (ratio < 1) assume(pod, c.assumedWhenLow(pod));
    else if (ratio > 1) assume(pod, 0);
  }
  if (withUnready) for (const pod of unready) assume(pod, 0);
  const again = c.ratioOf(c.metrics).ratio;
  if (isNear(again, c.tolerance) || (ratio < 1 && again > 1) || (ratio > 1 && again < 1)) return { replicas: c.current, shown, average };
  const replicas = ceil(again * c.metrics.size);
  const wrongWay = (again < 1 && replicas > c.current) || (again > 1 && replicas < c.current);
  return { replicas: wrongWay ? c.current : replicas, shown, average };
}

type Base = Pick<Calculation, 'pods' | 'metrics' | 'resource' | 'current' | 'tolerance' | 'now'>;

/** By use in percent of what the pods ask for. */
export function byUtilization(base: Base, target: number, container?: string): { replicas: number; utilization: number; average: number } {
  const requests = new Map<string, number>();
  const ratioOf = (metrics: PodMetrics) => {
    if (!requests.size) for (const pod of base.pods) requests.set(pod.metadata.name, requestOf(pod, base.resource, container));
    let used = 0;
    let requested = 0;
    let count = 0;
    for (const [pod, { value }] of metrics) {
      const request = requests.get(pod);
      if (request === undefined) continue;
      used += value;
      requested += request;
      count++;
    }
    if (requested === 0) throw new Error('no metrics returned matched known pods');
    const shown = Math.trunc((used * 100) / requested);
    return { ratio: shown / target, shown, average: Math.trunc(used / count) };
  };
  const assumedWhenLow = (pod: string) => Math.trunc(((requests.get(pod) ?? 0) * Math.max(100, target)) / 100);
  const { replicas, shown, average } = calculate({ ...base, ratioOf, assumedWhenLow });
  return { replicas, utilization: shown, average };
}

/** By the average of a value, in thousandths. */
export function byAverage(base: Base, target: number): { replicas: number; average: number } {
  const ratioOf = (metrics: PodMetrics) => {
    const average = Math.trunc([...metrics.values()].reduce((sum, m) => sum + m.value, 0) / metrics.size);
    return { ratio: average / target, shown: average, average };
  };
  const { replicas, average } = calculate({ ...base, ratioOf, assumedWhenLow: () => target });
  return { replicas, average };
}

/** By one value for all, against a target for all. */
export function byValue(base: Omit<Base, 'metrics' | 'resource'>, value: number, target: number): number {
  const ratio = value / target;
  if (base.current === 0) return ceil(ratio);
  if (isNear(ratio, base.tolerance)) return base.current;
  if (!base.pods.length) throw new Error('unable to calculate ready pods: no pods returned by selector while calculating replica count');
  return ceil(ratio * base.pods.filter((p) => p.status?.phase === 'Running' && isPodReady(p)).length);
}

/** By one value for all, against a target for each pod. */
export function byValuePerPod(statusReplicas: number, tolerance: Tolerance, value: number, target: number): { replicas: number; average: number } {
  const near = isNear(value / (target * statusReplicas), tolerance);
  return { replicas: near ? statusReplicas : ceil(value / target), average: statusReplicas ? Math.ceil(value / statusReplicas) : value };
}

/** What the pod, or one of its containers, asks for, in thousandths. */
function requestOf(pod: Pod, resource: string, container: string | undefined): number {
  const milli = (text: string | number) => Number(parseQuantity(text).nano / 1_000_000n);
  const { name } = pod.metadata;
  if (container === undefined && pod.spec.resources?.requests) {
    const whole = podResources(pod, 'requests')[resource];
    if (whole === undefined) throw new Error(`missing pod-level request for ${resource} in Pod ${name}`);
    return milli(whole);
  }
  const sidecars = (pod.spec.initContainers ?? []).filter((c) => c.restartPolicy === 'Always');
  const counted: Container[] = [...pod.spec.containers, ...sidecars].filter((c) => container === undefined || c.name === container);
  if (container !== undefined && !counted.length) throw new Error(`container ${container} not found in Pod ${name}`);
  return counted.reduce((sum, c) => {
    const request = (c.resources?.requests as Record<string, string> | undefined)?.[resource];
    if (request === undefined) throw new Error(`missing request for ${resource} in container ${c.name} of Pod ${name}`);
    return sum + milli(request);
  }, 0);
}
