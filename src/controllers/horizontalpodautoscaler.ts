import { isConflict, isNotFound } from '../api/errors.ts';
import { groupVersionOf, keyOf, type KubeObject, type ResourceType } from '../api/object.ts';
import type {
  HorizontalPodAutoscaler,
  HorizontalPodAutoscalerCondition,
  HorizontalPodAutoscalerStatus,
  MetricSpec,
  MetricStatus,
} from '../api/generated/types.ts';
import { resources } from '../api/generated/resources.ts';
import { matchesSelector, parseLabelSelector } from '../api/selectors.ts';
import { decide, noteChange, type ScaleMemory } from './autoscaler/behavior.ts';
import { MetricsClient } from './autoscaler/metrics.ts';
import { MetricError, type MetricProposal, propose } from './autoscaler/proposals.ts';
import { statusEqual } from './canonical.ts';
import type { Controller, ControllerContext } from './controller.ts';
import { type DiscoveredResource, discover } from './discovery.ts';
import { Freshness } from './freshness.ts';
import { startReconciler } from './reconciler.ts';
import { timestamp } from './timestamps.ts';

/** Metrics come by asking only: so often each autoscaler does, milliseconds. */
const SYNC_PERIOD = 15_000;
const TOLERANCE = 0.1;
const defaultMetrics: MetricSpec[] = [{ type: 'Resource', resource: { name: 'cpu', target: { type: 'Utilization', averageUtilization: 80 } } }];

interface Scale extends KubeObject {
  spec?: { replicas?: number };
  status?: { replicas?: number; selector?: string };
}

/** HorizontalPodAutoscalers. Watches them and pods; asks the metrics APIs, and the subresource scale of their targets. */
export function startHorizontalPodAutoscaler(context: ControllerContext): Controller {
  const { client, clock, events, informers } = context;
  const autoscalers = informers.informer(resources.horizontalpodautoscalers);
  const pods = informers.informer(resources.pods);
  const metrics = new MetricsClient(client);
  const memories = new Map<string, ScaleMemory>();
  const selectors = new Map<string, string>();
  const freshness = new Freshness();
  let discovered: Promise<DiscoveredResource[]> | undefined;
  const name = 'horizontal-pod-autoscaler-controller';
  const loop = startReconciler(context, { name, workers: 5, waitFor: [autoscalers, pods], reconcile });
  autoscalers.addHandlers({
    onAdd: (hpa) => loop.enqueue(keyOf(hpa)),
    onUpdate(before, after) {
      if (before.metadata.generation !== after.metadata.generation) loop.enqueue(keyOf(after));
    },
    onDelete(hpa) {
      memories.delete(keyOf(hpa));
      selectors.delete(keyOf(hpa));
      freshness.forget(hpa);
    },
  });
  return loop;

  async function reconcile(key: string): Promise<void> {
    const hpa = autoscalers.get(key);
    if (!hpa) return;
    loop.enqueueAfter(key, SYNC_PERIOD);
    if (freshness.isStale(hpa)) return loop.enqueueAfter(key, 1000);
    const work = new Autoscaling(hpa, timestamp(clock));
    try {
      await scaleTarget(key, work);
    } catch (error) {
      // Said in the conditions and events; the next round tries again.
      context.log.debug({ key, err: error }, 'autoscaling failed');
    }
    if (statusEqual(work.status, hpa.status)) return;
    try {
      freshness.wrote(await client.update(resources.horizontalpodautoscalers, { ...hpa, status: work.status }, { subresource: 'status' }));
    } catch (error) {
      if (isNotFound(error)) return;
      if (!isConflict(error)) events.event(hpa, 'Warning', 'FailedUpdateStatus', (error as Error).message);
      throw error;
    }
  }

  async function scaleTarget(key: string, work: Autoscaling): Promise<void> {
    const { hpa } = work;
    const { kind, name } = hpa.spec.scaleTargetRef;
    const { scale, type } = await getScale(work);
    work.set('AbleToScale', 'True', 'SucceededGetScale', "the HPA controller was able to get the target's current scale");
    const current = scale.spec?.replicas ?? 0;
    const { maxReplicas, minReplicas = 1, behavior } = hpa.spec;
    let memory = memories.get(key);
    if (!memory) memories.set(key, (memory = { recommendations: [{ at: clock.now(), count: current }], ups: [], downs: [] }));
    const scaledToZero = work.conditions.some((c) => c.type === 'ScaledToZero' && c.status === 'True');
    const beyondPods = (hpa.spec.metrics ?? []).some((m) => m.type === 'Object' || m.type === 'External');
    let desired = current;
    let reason = '';
    let statuses: MetricStatus[] = [];
    if (current === 0 && !(scaledToZero && (minReplicas !== 0 || beyondPods))) {
      work.set('ScalingActive', 'False', 'ScalingDisabled', 'scaling is disabled since the replica count of the target is zero');
    } else if (current > maxReplicas) {
      desired = maxReplicas;
      reason = 'Current number of replicas above Spec.MaxReplicas';
    } else if (current !== 0 && current < minReplicas) {
      desired = minReplicas;
      reason = 'Current number of replicas below Spec.MinReplicas';
    } else {
      const found = await computeReplicas(key, work, scale);
      statuses = found.statuses;
      const verdict = decide(behavior, memory, { current, wanted: found.replicas, min: minReplicas, max: maxReplicas, now: clock.now() });
      work.set('AbleToScale', 'True', verdict.able.reason, verdict.able.message);
      work.set('ScalingLimited', verdict.limited.status, verdict.limited.reason, verdict.limited.message);
      if (found.replicas > current) reason = `${found.name} above target`;
      if (found.replicas < current) reason = 'All metrics below target';
      desired = verdict.replicas;
      if (current === 0 && desired < minReplicas) {
        desired = minReplicas;
        reason ||= 'Current number of replicas below Spec.MinReplicas';
      }
    }
    if (desired === current) return work.report(current, current, statuses);
    try {
      await setScale(type, scale, hpa, desired);
    } catch (error) {
      const why = (error as Error).message;
      events.event(hpa, 'Warning', 'FailedRescale', `New size: ${desired}; reason: ${reason}; error: ${why}`);
      work.set('AbleToScale', 'False', 'FailedUpdateScale', `the HPA controller was unable to update the target scale: ${why}`);
      work.report(current, work.status.desiredReplicas, statuses);
      throw new Error(`failed to rescale ${kind}/${hpa.metadata.namespace}/${name}: ${why}`);
    }
    work.set('AbleToScale', 'True', 'SucceededRescale', `the HPA controller was able to update the target scale to ${desired}`);
    events.event(hpa, 'Normal', 'SuccessfulRescale', `New size: ${desired}; reason: ${reason}`);
    noteChange(behavior, memory, current, desired, clock.now());
    if (desired === 0 && minReplicas === 0 && beyondPods) work.set('ScaledToZero', 'True', 'ScaledToZero', 'the HPA controller scaled the workload to zero');
    else work.set('ScaledToZero', 'False', 'NotScaledToZero', 'the HPA controller did not scale the workload to zero');
    work.report(current, desired, statuses);
    work.status.lastScaleTime = work.now;
  }

  async function typeOf(object: { kind: string; apiVersion?: string }): Promise<DiscoveredResource> {
    const { apiVersion = 'v1', kind } = object;
    const { group } = groupVersionOf(apiVersion);
    const find = async () => (await (discovered ??= discover(client, context.signal))).find((r) => r.group === group && r.kind === kind);
    const known = await find().catch(() => undefined);
    if (known) return known;
    // It may be newer than the last look.
    discovered = undefined;
    const found = await find();
    if (!found) throw new Error(`no matches for kind "${kind}" in group "${group}"`);
    return found;
  }

  async function getScale(work: Autoscaling): Promise<{ scale: Scale; type: ResourceType<Scale> }> {
    const { hpa } = work;
    const { name } = hpa.spec.scaleTargetRef;
    try {
      const type = await typeOf(hpa.spec.scaleTargetRef);
      const scale = await client.get<Scale>(type as ResourceType<Scale>, { namespace: hpa.metadata.namespace, name }, { subresource: 'scale' });
      return { scale, type: type as ResourceType<Scale> };
    } catch (error) {
      const why = (error as Error).message;
      events.event(hpa, 'Warning', 'FailedGetScale', why);
      work.set('AbleToScale', 'False', 'FailedGetScale', `the HPA controller was unable to get the target's current scale: ${why}`);
      throw error;
    }
  }

  async function setScale(type: ResourceType<Scale>, scale: Scale, hpa: HorizontalPodAutoscaler, replicas: number): Promise<void> {
    let latest = scale;
    for (let attempt = 0; ; attempt++) {
      try {
        await client.update(type, { ...latest, spec: { ...latest.spec, replicas } }, { subresource: 'scale' });
        return;
      } catch (error) {
        if (!isConflict(error) || attempt >= 4) throw error;
        const { name } = hpa.spec.scaleTargetRef;
        latest = await client.get<Scale>(type, { namespace: hpa.metadata.namespace, name }, { subresource: 'scale' });
      }
    }
  }

  /** What the metrics together ask for: the most. Where some cannot be read, they never lead to fewer pods. */
  async function computeReplicas(key: string, work: Autoscaling, scale: Scale): Promise<{ replicas: number; name: string; statuses: MetricStatus[] }> {
    const { hpa } = work;
    const selector = checkSelector(key, work, scale.status?.selector ?? '');
    const requirements = parseLabelSelector(selector);
    const selected = pods.list(hpa.metadata.namespace).filter((p) => matchesSelector(requirements, p.metadata.labels));
    const current = scale.spec?.replicas ?? 0;
    const { behavior } = hpa.spec;
    const specs = hpa.spec.metrics?.length ? hpa.spec.metrics : defaultMetrics;
    const proposals: MetricProposal[] = [];
    let firstError: MetricError | undefined;
    for (const spec of specs) {
      const input = {
        hpa,
        metrics,
        selector,
        pods: selected,
        current,
        statusReplicas: scale.status?.replicas ?? 0,
        tolerance: { up: Number(behavior?.scaleUp?.tolerance ?? TOLERANCE), down: Number(behavior?.scaleDown?.tolerance ?? TOLERANCE) },
        now: clock.now(),
        resourceOf: async (object: { kind: string; apiVersion?: string }) => {
          const { group, resource } = await typeOf(object);
          return group ? `${resource}.${group}` : resource;
        },
      };
      try {
        proposals.push(await propose(input, spec));
      } catch (error) {
        if (!(error instanceof MetricError)) throw error;
        events.event(hpa, 'Warning', error.reason, error.detail);
        firstError ??= error;
      }
    }
    const most = proposals.reduce<MetricProposal | undefined>((a, b) => (a && a.replicas >= b.replicas ? a : b), undefined);
    const statuses = proposals.map((p) => p.status);
    if (!most || (firstError && most.replicas < current)) {
      work.set('ScalingActive', 'False', firstError!.reason, `the HPA was unable to compute the replica count: ${firstError!.detail}`);
      work.report(current, work.status.desiredReplicas, statuses);
      const failed = specs.length - proposals.length;
      const message = `invalid metrics (${failed} invalid out of ${specs.length}), first error is: ${firstError!.message}`;
      events.event(hpa, 'Warning', 'FailedComputeMetricsReplicas', message);
      throw new Error(message);
    }
    work.set('ScalingActive', 'True', 'ValidMetricFound', `the HPA was able to successfully calculate a replica count from ${most.name}`);
    return { replicas: most.replicas, name: most.name, statuses };
  }

  /** The selector of the target; refused where another autoscaler has the same pods. */
  function checkSelector(key: string, work: Autoscaling, selector: string): string {
    const { hpa } = work;
    const refuse = (event: string, reason: string, message: string, condition = message): never => {
      events.event(hpa, 'Warning', event, message);
      work.set('ScalingActive', 'False', reason, condition);
      throw new Error(message);
    };
    if (!selector) refuse('SelectorRequired', 'InvalidSelector', 'selector is required', "the HPA target's scale is missing a selector");
    selectors.set(key, selector);
    const { namespace } = hpa.metadata;
    const own = parseLabelSelector(selector);
    const selected = pods.list(namespace).filter((p) => matchesSelector(own, p.metadata.labels));
    const rivals = [...selectors].filter(([other, text]) => {
      if (other === key || !other.startsWith(`${namespace}/`)) return false;
      const requirements = parseLabelSelector(text);
      return selected.some((p) => matchesSelector(requirements, p.metadata.labels));
    });
    if (rivals.length) {
      const names = [key, ...rivals.map(([other]) => other)].join(' ');
      const message = `pods by selector ${selector} are controlled by more than one HPA (e.g. [${names}])`;
      refuse('AmbiguousSelector', 'AmbiguousSelector', message);
    }
    return selector;
  }
}

/** One reconciliation: the autoscaler as it was read, and what its status is to say. */
class Autoscaling {
  readonly hpa: HorizontalPodAutoscaler;
  readonly now: string;
  readonly status: HorizontalPodAutoscalerStatus & { conditions: HorizontalPodAutoscalerCondition[] };

  constructor(hpa: HorizontalPodAutoscaler, now: string) {
    this.hpa = hpa;
    this.now = now;
    const { status } = hpa;
    const { currentReplicas = 0, desiredReplicas = 0, conditions = [] } = status ?? {};
    this.status = { ...status, currentReplicas, desiredReplicas, conditions: [...conditions] };
  }

  get conditions(): HorizontalPodAutoscalerCondition[] {
    return this.status.conditions;
  }

  set(type: string, status: 'True' | 'False', reason: string, message: string): void {
    const index = this.conditions.findIndex((c) => c.type === type);
    const before = this.conditions[index];
    const condition = { type, status, reason, message, lastTransitionTime: before?.status === status ? before.lastTransitionTime : this.now };
    if (index < 0) this.conditions.push(condition);
    else this.conditions[index] = condition;
  }

  report(current: number, desired: number, metrics: MetricStatus[]): void {
    const observedGeneration = this.hpa.metadata.generation;
    Object.assign(this.status, { currentReplicas: current, desiredReplicas: desired, observedGeneration });
    if (metrics.length) this.status.currentMetrics = metrics;
    else delete this.status.currentMetrics;
  }
}
