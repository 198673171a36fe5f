import type { Pod, PodCondition } from '../api/generated/types.ts';
import { millis } from './timestamps.ts';

export function podCondition(pod: Pod, type: string): PodCondition | undefined {
  return pod.status?.conditions?.find((c) => c.type === type);
}

export const isPodReady = (pod: Pod): boolean => podCondition(pod, 'Ready')?.status === 'True';

/** Ready for minReadySeconds already, at `now` (milliseconds). */
export function isPodAvailable(pod: Pod, minReadySeconds: number, now: number): boolean {
  const ready = podCondition(pod, 'Ready');
  if (ready?.status !== 'True') return false;
  return minReadySeconds === 0 || (!!ready.lastTransitionTime && millis(ready.lastTransitionTime) + minReadySeconds * 1000 <= now);
}

/** Milliseconds until the next of the ready pods becomes available, one second at least. */
export function untilAvailable(pods: Pod[], minReadySeconds: number, now: number): number {
  const times = pods.filter(isPodReady).map((p) => millis(podCondition(p, 'Ready')?.lastTransitionTime) + minReadySeconds * 1000 - now);
  return Math.max(1000, Math.min(...times.filter((ms) => ms > 0), minReadySeconds * 1000));
}

/** Has ended and will not run again. */
export const isPodTerminal = (pod: Pod): boolean => pod.status?.phase === 'Succeeded' || pod.status?.phase === 'Failed';

/** Neither ended nor on its way out. */
export const isPodActive = (pod: Pod): boolean => !isPodTerminal(pod) && !pod.metadata.deletionTimestamp;

const PHASES: Record<string, number> = { Pending: 0, Unknown: 1, Running: 2 };
export const maxRestarts = (pod: Pod): number => Math.max(0, ...(pod.status?.containerStatuses ?? []).map((s) => s.restartCount));
const deletionCost = (pod: Pod) => Number.parseInt(pod.metadata.annotations?.['controller.kubernetes.io/pod-deletion-cost'] ?? '0', 10) || 0;

/** Ages are compared by their power of two, so that which of two pods of nearly one age goes is not always the younger one. */
function compareAges(a: string | undefined, b: string | undefined, now: number): number {
  const log = (t: string | undefined) => (t ? Math.floor(Math.log2(Math.max(1, now - millis(t)))) : -1);
  return log(a) - log(b);
}

/**
 * The pods of a set in the order in which to delete them (upstream's ActivePodsWithRanks): unassigned, pending, not ready,
 * cheapest, most crowded node, last ready, most restarted, youngest. rank is how many pods of the family run on the pod's node.
 */
export function inDeletionOrder(pods: Pod[], rank: (pod: Pod) => number, now: number): Pod[] {
  return [...pods].sort((a, b) => {
    const assigned = (p: Pod) => (p.spec.nodeName ? 1 : 0);
    const ready = (p: Pod) => (isPodReady(p) ? 1 : 0);
    const readySince = (p: Pod) => (isPodReady(p) ? podCondition(p, 'Ready')?.lastTransitionTime : undefined);
    return (
      assigned(a) - assigned(b) ||
      (PHASES[a.status?.phase ?? 'Pending'] ?? 0) - (PHASES[b.status?.phase ?? 'Pending'] ?? 0) ||
      ready(a) - ready(b) ||
      deletionCost(a) - deletionCost(b) ||
      rank(b) - rank(a) ||
      compareAges(readySince(a), readySince(b), now) ||
      maxRestarts(b) - maxRestarts(a) ||
      compareAges(a.metadata.creationTimestamp, b.metadata.creationTimestamp, now) ||
      (a.metadata.uid < b.metadata.uid ? -1 : 1)
    );
  });
}
