import { isConflict, isNotFound } from '../api/errors.ts';
import { keyOf } from '../api/object.ts';
import type { Pod, PodDisruptionBudget, PodDisruptionBudgetStatus } from '../api/generated/types.ts';
import { resources } from '../api/generated/resources.ts';
import { formatLabelSelector } from '../api/selectors.ts';
import { statusEqual } from './canonical.ts';
import type { Controller, ControllerContext } from './controller.ts';
import { scaledValue } from './deployment/facts.ts';
import { ExpectedScale } from './disruption/scale.ts';
import { controllerOf } from './ownership.ts';
import { isPodReady, isPodTerminal, podCondition } from './pod-facts.ts';
import { addPodCondition } from './pod-status.ts';
import { startReconciler } from './reconciler.ts';
import { SelectedPods } from './selected-pods.ts';
import { millis, timestamp } from './timestamps.ts';

/** For so long after its eviction was allowed, a pod counts as gone although it is still there. Milliseconds. */
const DELETION_TIMEOUT = 2 * 60_000;
/** A pod that says it is being disrupted, and after so long is not, does not say so any more. Milliseconds. */
const STALE_DISRUPTION = 2 * 60_000;

/**
 * PodDisruptionBudgets: says in their status how many of the pods may be evicted now, which the eviction subresource acts on.
 * Watches budgets, pods, and the kinds that say how many pods there should be.
 */
export function startDisruptionController(context: ControllerContext): Controller {
  const { client, clock, events, informers } = context;
  const budgets = informers.informer(resources.poddisruptionbudgets);
  const pods = informers.informer(resources.pods);
  const scales = new ExpectedScale(context);
  const loop = startReconciler(context, { name: 'disruption-controller', workers: 2, waitFor: [budgets, pods, ...scales.informers], reconcile });
  const stale = startReconciler(context, { name: 'disruption-controller-stale', waitFor: [pods], reconcile: resetStaleCondition });
  const selected = new SelectedPods(pods, (key, before, after) => {
    if (!before || !after || matters(before, after)) loop.enqueue(key);
  });
  const follow = (budget: PodDisruptionBudget) => {
    selected.set(keyOf(budget), budget.metadata.namespace, budget.spec.selector);
    loop.enqueue(keyOf(budget));
  };
  budgets.addHandlers({
    onAdd: follow,
    onUpdate: (_, after) => follow(after),
    onDelete: (budget) => selected.delete(keyOf(budget)),
  });
  for (const informer of scales.informers) {
    informer.addHandlers({
      onUpdate(before, after) {
        // A percentage is one of what the controllers of the pods want.
        if (before.spec.replicas !== after.spec.replicas) for (const b of budgets.list(after.metadata.namespace)) loop.enqueue(keyOf(b));
      },
    });
  }
  const watchCondition = (pod: Pod) => {
    const wait = untilStale(pod);
    if (wait !== undefined) stale.enqueueAfter(keyOf(pod), wait);
  };
  pods.addHandlers({ onAdd: watchCondition, onUpdate: (_, pod) => watchCondition(pod) });
  return { name: 'disruption-controller', done: Promise.all([loop.done, stale.done]).then(() => {}) };

  async function reconcile(key: string): Promise<void> {
    const budget = budgets.get(key);
    if (!budget) return;
    let status: PodDisruptionBudgetStatus;
    let failure: unknown;
    try {
      status = await statusFor(key, budget);
    } catch (error) {
      if (isConflict(error)) throw error;
      // What cannot be counted must not be disrupted.
      failure = error;
      events.event(budget, 'Warning', 'CalculateExpectedPodCountFailed', `Failed to calculate the number of expected pods: ${(error as Error).message}`);
      status = { ...budget.status!, disruptionsAllowed: 0, conditions: conditionsOf(budget, 'False', 'SyncFailed', (error as Error).message) };
    }
    // A conflict is not overridden: an eviction may have taken one of the disruptions meanwhile.
    if (!statusEqual(status, budget.status)) await client.update(resources.poddisruptionbudgets, { ...budget, status }, { subresource: 'status' });
    if (failure) context.log.warn({ key, err: failure }, 'a disruption budget cannot be calculated');
  }

  async function statusFor(key: string, budget: PodDisruptionBudget): Promise<PodDisruptionBudgetStatus> {
    const covered = selected.of(key);
    if (!covered.length) events.event(budget, 'Normal', 'NoPods', 'No matching pods found');
    const { expected, desired } = await expectation(budget, covered);
    const { disrupted, againInMs } = stillDisrupted(budget, covered);
    if (againInMs !== undefined) loop.enqueueAfter(key, againInMs);
    const healthy = covered.filter((p) => !p.metadata.deletionTimestamp && !disrupted[p.metadata.name] && isPodReady(p)).length;
    const allowed = expected > 0 ? Math.max(0, healthy - desired) : 0;
    return {
      currentHealthy: healthy,
      desiredHealthy: desired,
      expectedPods: expected,
      disruptionsAllowed: allowed,
      ...(Object.keys(disrupted).length ? { disruptedPods: disrupted } : {}),
      observedGeneration: budget.metadata.generation,
      conditions: allowed > 0 ? conditionsOf(budget, 'True', 'SufficientPods', '') : conditionsOf(budget, 'False', 'InsufficientPods', ''),
    };
  }

  async function expectation(budget: PodDisruptionBudget, covered: Pod[]): Promise<{ expected: number; desired: number }> {
    const { minAvailable, maxUnavailable } = budget.spec;
    if (maxUnavailable === undefined && minAvailable === undefined) return { expected: 0, desired: 0 };
    if (maxUnavailable === undefined && typeof minAvailable === 'number') return { expected: covered.length, desired: minAvailable };
    const { count, unmanaged } = await scales.of(covered);
    if (unmanaged.length) {
      events.event(
        budget,
        'Warning',
        'UnmanagedPods',
        `Pods selected by this PodDisruptionBudget (selector: ${formatLabelSelector(budget.spec.selector)}) were found to be unmanaged. As a result, the status of the PDB cannot be calculated correctly, which may result in undefined behavior. To account for these pods please set ".spec.minAvailable" field of the PDB to an integer value.`,
      );
    }
    if (maxUnavailable !== undefined) return { expected: count, desired: Math.max(0, count - scaledValue(maxUnavailable, count, true)) };
    return { expected: count, desired: scaledValue(minAvailable, count, true) };
  }

  /** Pods whose eviction was allowed and that are still there, and when to look at them again. */
  function stillDisrupted(budget: PodDisruptionBudget, covered: Pod[]): { disrupted: Record<string, string>; againInMs?: number } {
    const noted = budget.status?.disruptedPods ?? {};
    const disrupted: Record<string, string> = {};
    let againInMs: number | undefined;
    for (const pod of covered) {
      const since = noted[pod.metadata.name];
      if (since === undefined || pod.metadata.deletionTimestamp) continue;
      const left = millis(since) + DELETION_TIMEOUT - clock.now();
      if (left < 0) {
        events.event(pod, 'Warning', 'NotDeleted', `Pod was expected by PDB ${keyOf(budget)} to be deleted but it wasn't`);
        continue;
      }
      disrupted[pod.metadata.name] = since;
      againInMs = Math.min(againInMs ?? Number.POSITIVE_INFINITY, left + 1);
    }
    return { disrupted, againInMs };
  }

  function conditionsOf(budget: PodDisruptionBudget, status: string, reason: string, message: string) {
    const conditions = budget.status?.conditions ?? [];
    const before = conditions.find((c) => c.type === 'DisruptionAllowed');
    const lastTransitionTime = before?.status === status ? before.lastTransitionTime : timestamp(clock);
    const observedGeneration = reason === 'SyncFailed' ? budget.status?.observedGeneration : budget.metadata.generation;
    return [
      ...conditions.filter((c) => c !== before),
      { type: 'DisruptionAllowed', status, reason, message, lastTransitionTime, ...(observedGeneration ? { observedGeneration } : {}) },
    ];
  }

  /** Milliseconds until the pod's condition DisruptionTarget is stale; undefined where it is none to look after. */
  function untilStale(pod: Pod): number | undefined {
    const condition = podCondition(pod, 'DisruptionTarget');
    if (pod.metadata.deletionTimestamp || condition?.status !== 'True' || condition.reason === 'TerminationByKubelet' || isPodTerminal(pod))
      return undefined;
    return Math.max(0, millis(condition.lastTransitionTime) + STALE_DISRUPTION - clock.now());
  }

  async function resetStaleCondition(key: string): Promise<void> {
    const pod = pods.get(key);
    const wait = pod && untilStale(pod);
    if (!pod || wait === undefined) return;
    if (wait > 0) return stale.enqueueAfter(key, wait);
    try {
      await addPodCondition(context, pod, { type: 'DisruptionTarget', status: 'False', reason: undefined, message: undefined });
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
  }
}

const matters = (before: Pod, after: Pod): boolean =>
  isPodReady(before) !== isPodReady(after) ||
  !before.metadata.deletionTimestamp !== !after.metadata.deletionTimestamp ||
  controllerOf(before)?.uid !== controllerOf(after)?.uid;
