import type { Job, JobCondition, JobStatus, Pod } from '../../api/generated/types.ts';
import { isPodActive, isPodReady, isPodTerminal } from '../pod-facts.ts';
import { rfc3339 } from '../timestamps.ts';
import { continued, type FailureRun } from './backoff.ts';
import {
  backoffLimitOf,
  failuresBefore,
  finishedAt,
  holds,
  ignoredFailuresBefore,
  indexOf,
  isIndexed,
  isIndexValid,
  isPodFailed,
  isSuspended,
  isTracked,
  jobCondition,
  perIndex,
} from './facts.ts';
import { IndexSet } from './indexes.ts';
import { judgeFailure, successPolicyMet } from './policies.ts';

/** One look at a Job and its pods, with what follows from them. `job` and `status` move on with what is written. */
export interface JobView {
  job: Job;
  /** What the status is to say; a copy that may be changed. */
  status: JobStatus & { conditions: JobCondition[]; uncountedTerminatedPods: { succeeded: string[]; failed: string[] } };
  pods: Pod[];
  active: Pod[];
  /** Pods whose finalizer this process has taken off, though the cache does not show it yet. */
  untracked: ReadonlySet<string>;
  activeCount: number;
  ready: number;
  terminating: number;
  succeeded: number;
  failed: number;
  /** Those the status had. */
  countedIndexes: IndexSet;
  succeededIndexes: IndexSet;
  failedIndexes?: IndexSet;
  /** By index: the failed pod that keeps its finalizer until it is replaced, since it carries the count of failures. */
  delayed: Map<number, Pod>;
  run: FailureRun;
  /** How the Job ends, once that is clear. */
  outcome?: JobCondition;
  now: number;
}

export function statusCopy(job: Job): JobView['status'] {
  const status = structuredClone(job.status ?? {});
  const { succeeded = [], failed = [] } = status.uncountedTerminatedPods ?? {};
  return { ...status, conditions: status.conditions ?? [], uncountedTerminatedPods: { succeeded, failed } };
}

export function look(job: Job, pods: Pod[], untracked: ReadonlySet<string>, run: FailureRun | undefined, now: number): JobView {
  const status = statusCopy(job);
  const { uncountedTerminatedPods: uncounted } = status;
  const active = pods.filter(isPodActive);
  const counted = (uids: string[]) => {
    const known = new Set(uids);
    return (pod: Pod) => isTracked(pod) && !known.has(pod.metadata.uid) && !untracked.has(pod.metadata.uid) && isIndexValid(job, pod);
  };
  const newSucceeded = pods.filter((p) => p.status?.phase === 'Succeeded').filter(counted(uncounted.succeeded));
  const newFailed = pods.filter((p) => isPodFailed(job, p)).filter(counted(uncounted.failed));
  const counting = newFailed.filter((p) => judgeFailure(job.spec.podFailurePolicy, p).counts);
  if (!status.startTime && !isSuspended(job)) status.startTime = rfc3339(now);
  const view: JobView = {
    job,
    status,
    pods,
    active,
    untracked,
    activeCount: active.length,
    ready: active.filter(isPodReady).length,
    terminating: pods.filter((p) => p.metadata.deletionTimestamp && !isPodTerminal(p)).length,
    succeeded: (status.succeeded ?? 0) + newSucceeded.length + uncounted.succeeded.length,
    failed: (status.failed ?? 0) + counting.length + uncounted.failed.length,
    countedIndexes: IndexSet.parse(status.completedIndexes, job.spec.completions),
    succeededIndexes: IndexSet.empty,
    delayed: new Map(),
    run: continued(run, newSucceeded, newFailed),
    now,
  };
  if (isIndexed(job)) lookAtIndexes(view);
  view.outcome = outcomeOf(view);
  return view;
}

function lookAtIndexes(view: JobView): void {
  const { job, pods } = view;
  const valid = pods.filter((p) => isIndexValid(job, p) && isTracked(p));
  view.succeededIndexes = view.countedIndexes.union(IndexSet.of(valid.filter((p) => p.status?.phase === 'Succeeded').map(indexOf)));
  view.succeeded = view.succeededIndexes.size;
  if (!perIndex(job)) return;
  view.failedIndexes = IndexSet.parse(view.status.failedIndexes, job.spec.completions).union(
    IndexSet.of(valid.filter((p) => isIndexFailed(job, p)).map(indexOf)),
  );
  const activeIndexes = new Set(view.active.map(indexOf));
  for (const pod of valid) {
    const index = indexOf(pod);
    if (view.untracked.has(pod.metadata.uid) || !isPodFailed(job, pod)) continue;
    if (view.succeededIndexes.has(index) || view.failedIndexes.has(index) || activeIndexes.has(index)) continue;
    const known = view.delayed.get(index);
    const failures = (p: Pod) => failuresBefore(p) + ignoredFailuresBefore(p);
    if (!known || (failures(known) <= failures(pod) && finishedAt(pod) >= finishedAt(known))) view.delayed.set(index, pod);
  }
}

function isIndexFailed(job: Job, pod: Pod): boolean {
  if (!isPodFailed(job, pod)) return false;
  const { counts, action } = judgeFailure(job.spec.podFailurePolicy, pod);
  return action === 'FailIndex' || (counts && failuresBefore(pod) >= job.spec.backoffLimitPerIndex!);
}

const asFailed = (target: JobCondition, now: number) => jobCondition('Failed', 'True', target.reason ?? '', target.message ?? '', now);

/** How the Job ends: decided earlier, or now; undefined while it goes on. */
function outcomeOf(view: JobView): JobCondition | undefined {
  const { job, status, pods, now } = view;
  const met = holds(status.conditions, 'SuccessCriteriaMet');
  if (met) return met;
  const target = holds(status.conditions, 'FailureTarget');
  if (target) return asFailed(target, now);
  const fails = (reason: string, message: string) => jobCondition('FailureTarget', 'True', reason, message, now);
  if (job.spec.podFailurePolicy) {
    const message = pods.filter((p) => isPodFailed(job, p)).map((p) => judgeFailure(job.spec.podFailurePolicy, p).message).find(Boolean);
    if (message) return fails('PodFailurePolicy', message);
  }
  if (view.failed > backoffLimitOf(job) || restartedTooOften(job, pods))
    return fails('BackoffLimitExceeded', 'Job has reached the specified backoff limit');
  if (untilDeadline(view) === 0) return fails('DeadlineExceeded', 'Job was active longer than specified deadline');
  if (!isIndexed(job)) return undefined;
  const { failedIndexes, succeededIndexes } = view;
  if (failedIndexes) {
    const { maxFailedIndexes, completions = 0 } = job.spec;
    if (maxFailedIndexes !== undefined && failedIndexes.size > maxFailedIndexes)
      return fails('MaxFailedIndexesExceeded', 'Job has exceeded the specified maximal number of failed indexes');
    if (failedIndexes.size > 0 && failedIndexes.size + succeededIndexes.size >= completions) return fails('FailedIndexes', 'Job has failed indexes');
  }
  const message = successPolicyMet(job, succeededIndexes);
  return message === undefined ? undefined : jobCondition('SuccessCriteriaMet', 'True', 'SuccessPolicy', message, now);
}

/** Milliseconds left of activeDeadlineSeconds; undefined without one, or while suspended. */
export function untilDeadline({ job, now }: JobView): number | undefined {
  const { activeDeadlineSeconds } = job.spec;
  const started = job.status?.startTime;
  if (activeDeadlineSeconds === undefined || isSuspended(job)) return undefined;
  return Math.max(0, (started ? Date.parse(started) : now) + Number(activeDeadlineSeconds) * 1000 - now);
}

/** With restartPolicy OnFailure it is the containers' restarts that count. */
function restartedTooOften(job: Job, pods: Pod[]): boolean {
  if (job.spec.template.spec?.restartPolicy !== 'OnFailure') return false;
  let restarts = 0;
  for (const { status } of pods) {
    if (status?.phase !== 'Running' && status?.phase !== 'Pending') continue;
    for (const s of [...(status.initContainerStatuses ?? []), ...(status.containerStatuses ?? [])]) restarts += s.restartCount;
  }
  const limit = backoffLimitOf(job);
  return limit === 0 ? restarts > 0 : restarts >= limit;
}

