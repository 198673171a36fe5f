import { isNotFound } from '../../api/errors.ts';
import type { Pod } from '../../api/generated/types.ts';
import { resources } from '../../api/generated/resources.ts';
import type { ControllerContext } from '../controller.ts';
import type { Freshness } from '../freshness.ts';
import { indexOf, isIndexed, isIndexValid, isPodFailed, isTracked, jobCondition, holds, withCondition } from './facts.ts';
import { IndexSet } from './indexes.ts';
import { untrack } from './pods.ts';
import { judgeFailure } from './policies.ts';
import { type JobView, statusCopy } from './view.ts';

/** Ended pods that are counted by one reconciliation at most: their uids stand in the status for a moment. */
const MOST_UNCOUNTED = 500;

export interface Tracking {
  context: ControllerContext;
  /** Notes that the finalizer of these pods is being taken off, or that this failed. */
  removing(uids: string[]): void;
  notRemoved(uid: string): void;
  freshness: Freshness;
  /** Called when the ended pods are in the status. */
  onCounted(view: JobView): void;
}

/**
 * Counts ended pods, each once, whatever fails in between: first their uids are written into the status, then their finalizers are
 * taken off, then they are counted and the uids leave the status. A pod is counted when its finalizer is gone and its uid is there.
 * Returns true when the Job is finished.
 */
export async function track(t: Tracking, view: JobView, changed: boolean): Promise<boolean> {
  const { pods, job } = view;
  const stillTracked = new Set(pods.filter((p) => isTracked(p) && !view.untracked.has(p.metadata.uid)).map((p) => p.metadata.uid));
  let flush = countUntracked(view, stillTracked) || changed;
  const { release, more, noted } = noteEnded(view);
  flush ||= noted;
  if (isIndexed(job)) flush = writeIndexes(view) || flush;
  flush = noteOutcome(view) || flush;
  if (flush) await save(t, view);
  t.onCounted(view);
  flush = false;
  const error = await removeFinalizers(t, release, stillTracked);
  flush = countUntracked(view, stillTracked);
  const finished = !error && !more && finish(view);
  if (flush || finished) await save(t, view);
  if (error) throw error;
  return finished;
}

/** Moves uids whose pods have no finalizer any more into the counters. */
function countUntracked({ status }: JobView, tracked: ReadonlySet<string>): boolean {
  const { uncountedTerminatedPods: uncounted } = status;
  let changed = false;
  for (const kind of ['succeeded', 'failed'] as const) {
    const left = uncounted[kind].filter((uid) => tracked.has(uid));
    if (left.length === uncounted[kind].length) continue;
    status[kind] = (status[kind] ?? 0) + uncounted[kind].length - left.length;
    uncounted[kind] = left;
    changed = true;
  }
  return changed;
}

function noteEnded(view: JobView): { release: Pod[]; more: boolean; noted: boolean } {
  const { job, status, outcome } = view;
  const { uncountedTerminatedPods: uncounted } = status;
  const release: Pod[] = [];
  const known = { succeeded: new Set(uncounted.succeeded), failed: new Set(uncounted.failed) };
  const newIndexes = new Set<number>();
  let noted = false;
  const failing = outcome !== undefined && outcome.type !== 'SuccessCriteriaMet';
  const ordered = isIndexed(job) ? [...view.pods].sort((a, b) => indexOf(a) - indexOf(b)) : view.pods;
  for (const pod of ordered) {
    const { uid } = pod.metadata;
    if (!isTracked(pod) || view.untracked.has(uid)) continue;
    const failed = isPodFailed(job, pod);
    if (!mayRelease(view, pod, failed)) continue;
    release.push(pod);
    if (pod.status?.phase === 'Succeeded' && !known.failed.has(uid)) {
      if (isIndexed(job)) {
        if (isIndexValid(job, pod) && !view.countedIndexes.has(indexOf(pod))) newIndexes.add(indexOf(pod));
      } else if (!known.succeeded.has(uid)) {
        uncounted.succeeded.push(uid);
        noted = true;
      }
    } else if ((failed || failing) && !known.failed.has(uid) && isIndexValid(job, pod) && judgeFailure(job.spec.podFailurePolicy, pod).counts) {
      uncounted.failed.push(uid);
      noted = true;
    }
    if (newIndexes.size + uncounted.succeeded.length + uncounted.failed.length >= MOST_UNCOUNTED) {
      view.countedIndexes = view.countedIndexes.union(IndexSet.of(newIndexes));
      return { release, more: true, noted: true };
    }
  }
  view.countedIndexes = view.countedIndexes.union(IndexSet.of(newIndexes));
  return { release, more: false, noted: noted || newIndexes.size > 0 };
}

function mayRelease(view: JobView, pod: Pod, failed: boolean): boolean {
  if (view.job.metadata.deletionTimestamp || view.outcome || pod.status?.phase === 'Succeeded') return true;
  return failed && view.delayed.get(indexOf(pod))?.metadata.uid !== pod.metadata.uid;
}

function writeIndexes({ status, countedIndexes, failedIndexes }: JobView): boolean {
  const completed = countedIndexes.toString();
  const failed = failedIndexes?.toString();
  const same = completed === (status.completedIndexes ?? '') && failed === status.failedIndexes;
  status.succeeded = countedIndexes.size;
  if (completed || status.completedIndexes !== undefined) status.completedIndexes = completed;
  if (failed !== undefined) status.failedIndexes = failed;
  return !same;
}

/** Writes down how the Job will end, before it does; the condition that ends it comes when all pods are counted and gone. */
function noteOutcome(view: JobView): boolean {
  const { status, outcome, now } = view;
  if (outcome?.type === 'FailureTarget') {
    status.conditions = [...status.conditions, outcome];
    view.outcome = jobCondition('Failed', 'True', outcome.reason ?? '', outcome.message ?? '', now);
    return true;
  }
  if (outcome?.type !== 'SuccessCriteriaMet') return false;
  view.outcome = jobCondition('Complete', 'True', outcome.reason ?? '', outcome.message ?? '', now);
  if (holds(status.conditions, 'SuccessCriteriaMet')) return false;
  status.conditions = [...status.conditions, outcome];
  return true;
}

async function removeFinalizers(t: Tracking, pods: Pod[], tracked: Set<string>): Promise<unknown> {
  t.removing(pods.map((p) => p.metadata.uid));
  const results = await Promise.allSettled(
    pods.map(async ({ metadata }) => {
      try {
        await t.context.client.patch(resources.pods, metadata, 'strategic', { ...untrack, metadata: { ...untrack.metadata, uid: metadata.uid } });
      } catch (error) {
        t.notRemoved(metadata.uid);
        if (!isNotFound(error)) throw error;
      }
      tracked.delete(metadata.uid);
    }),
  );
  return results.find((r) => r.status === 'rejected')?.reason;
}

function finish(view: JobView): boolean {
  const { status, outcome, terminating } = view;
  if (!outcome || terminating > 0) return false;
  const { succeeded, failed } = status.uncountedTerminatedPods;
  if (succeeded.length || failed.length) return false;
  status.conditions = withCondition(status.conditions, outcome) ?? status.conditions;
  if (outcome.type === 'Complete') status.completionTime = outcome.lastTransitionTime;
  return true;
}

async function save({ context, freshness }: Tracking, view: JobView): Promise<void> {
  const { job, status } = view;
  view.job = await context.client.update(resources.jobs, { ...job, status }, { subresource: 'status' });
  freshness.wrote(view.job);
  view.status = statusCopy(view.job);
}
