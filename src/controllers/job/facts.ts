import type { Job, JobCondition, Pod } from '../../api/generated/types.ts';
import { podCondition } from '../pod-facts.ts';
import { millis, rfc3339 } from '../timestamps.ts';

export const TRACKING_FINALIZER = 'batch.kubernetes.io/job-tracking';
export const INDEX_ANNOTATION = 'batch.kubernetes.io/job-completion-index';
export const FAILURE_COUNT = 'batch.kubernetes.io/job-index-failure-count';
export const IGNORED_FAILURE_COUNT = 'batch.kubernetes.io/job-index-ignored-failure-count';

export const isTracked = (pod: Pod): boolean => pod.metadata.finalizers?.includes(TRACKING_FINALIZER) ?? false;
export const isIndexed = (job: Job): boolean => job.spec.completionMode === 'Indexed';
export const isSuspended = (job: Job): boolean => job.spec.suspend ?? false;
export const perIndex = (job: Job): boolean => job.spec.backoffLimitPerIndex !== undefined;
/** Whether a pod is replaced only when it has ended, and not already when it is on its way out. */
export const replacesOnlyFailed = (job: Job): boolean => job.spec.podReplacementPolicy === 'Failed';
export const parallelismOf = (job: Job): number => job.spec.parallelism ?? 1;
export const backoffLimitOf = (job: Job): number => job.spec.backoffLimit ?? (perIndex(job) ? 2 ** 31 - 1 : 6);

/** The pod's completion index, or -1. */
export function indexOf(pod: Pod): number {
  const text = pod.metadata.annotations?.[INDEX_ANNOTATION];
  return text !== undefined && /^\d+$/.test(text) ? Number(text) : -1;
}

/** Whether the index is one of the Job's; true where it has none. */
export const isIndexValid = (job: Job, pod: Pod): boolean => !isIndexed(job) || (indexOf(pod) >= 0 && indexOf(pod) < (job.spec.completions ?? 0));

export function isPodFailed(job: Job, pod: Pod): boolean {
  if (pod.status?.phase === 'Failed') return true;
  return !replacesOnlyFailed(job) && !!pod.metadata.deletionTimestamp && pod.status?.phase !== 'Succeeded';
}

const count = (pod: Pod, annotation: string) => {
  const text = pod.metadata.annotations?.[annotation];
  return text !== undefined && /^\d{1,9}$/.test(text) ? Number(text) : 0;
};
/** How often the index failed before this pod. */
export const failuresBefore = (pod: Pod): number => count(pod, FAILURE_COUNT);
export const ignoredFailuresBefore = (pod: Pod): number => count(pod, IGNORED_FAILURE_COUNT);

/** When the pod ended, milliseconds since the epoch: by its containers, else its condition Ready, else its deletion. */
export function finishedAt(pod: Pod): number {
  const sidecars = new Set((pod.spec.initContainers ?? []).filter((c) => c.restartPolicy === 'Always').map((c) => c.name));
  const statuses = [...(pod.status?.containerStatuses ?? []), ...(pod.status?.initContainerStatuses ?? []).filter((s) => sidecars.has(s.name))];
  const times = statuses.map((s) => millis(s.state?.terminated?.finishedAt));
  if (times.length && times.every((t) => t > 0)) return Math.max(...times);
  const ready = podCondition(pod, 'Ready');
  if (ready?.status === 'False' && ready.lastTransitionTime) return millis(ready.lastTransitionTime);
  const { deletionTimestamp, deletionGracePeriodSeconds = 0, creationTimestamp } = pod.metadata;
  return deletionTimestamp ? millis(deletionTimestamp) - Number(deletionGracePeriodSeconds) * 1000 : millis(creationTimestamp);
}

export function jobCondition(type: string, status: string, reason: string, message: string, now: number): JobCondition {
  const time = rfc3339(now);
  return { type, status, lastProbeTime: time, lastTransitionTime: time, reason, message };
}

export const conditionOf = (conditions: JobCondition[] | undefined, type: string): JobCondition | undefined =>
  conditions?.find((c) => c.type === type);
export const holds = (conditions: JobCondition[] | undefined, type: string): JobCondition | undefined =>
  conditions?.find((c) => c.type === type && c.status === 'True');

/** The condition that says that the Job is over. */
export const finishedCondition = (job: Job): JobCondition | undefined =>
  holds(job.status?.conditions, 'Complete') ?? holds(job.status?.conditions, 'Failed');

/** Sets a condition. One that would be False is not added where there is none. Undefined where nothing changes. */
export function withCondition(conditions: JobCondition[], set: JobCondition): JobCondition[] | undefined {
  const before = conditionOf(conditions, set.type);
  if (!before) return set.status === 'False' ? undefined : [...conditions, set];
  if (before.status === set.status && before.reason === set.reason && before.message === set.message) return undefined;
  return conditions.map((c) => (c === before ? set : c));
}
