import { isNotFound } from '../../api/errors.ts';
import { type Draft, keyOf } from '../../api/object.ts';
import type { Container, Job, Pod } from '../../api/generated/types.ts';
import { resources } from '../../api/generated/resources.ts';
import type { ControllerContext } from '../controller.ts';
import { type Expectations, slowStart } from '../expectations.ts';
import { createPod, deletePod, isNamespaceTerminating, podFromTemplate } from '../pod-control.ts';
import { inDeletionOrder, isPodReady } from '../pod-facts.ts';
import { remaining } from './backoff.ts';
import {
  FAILURE_COUNT,
  failuresBefore,
  finishedAt,
  IGNORED_FAILURE_COUNT,
  INDEX_ANNOTATION,
  ignoredFailuresBefore,
  indexOf,
  isIndexed,
  isSuspended,
  isTracked,
  parallelismOf,
  perIndex,
  replacesOnlyFailed,
  TRACKING_FINALIZER,
} from './facts.ts';
import { IndexSet } from './indexes.ts';
import { judgeFailure } from './policies.ts';
import type { JobView } from './view.ts';

/** The most pods created or deleted by one reconciliation. */
const BURST = 500;
const NAME_LIMIT = 58;

/** The patch that takes the tracking finalizer off. */
export const untrack = { metadata: { '$deleteFromPrimitiveList/finalizers': [TRACKING_FINALIZER] } };

/** Deletes pods and counts them out of the view. Returns the first error; what was deleted is counted all the same. */
export async function deletePods(
  context: ControllerContext,
  view: JobView,
  pods: Pod[],
  expectations?: Expectations,
): Promise<{ deleted: number; error?: unknown }> {
  const { job } = view;
  const key = keyOf(job);
  if (expectations && pods.length) {
    expectations.raise(
      key,
      0,
      pods.map((p) => p.metadata.uid),
    );
  }
  const results = await Promise.allSettled(
    pods.map(async (pod) => {
      try {
        // A pod that only is too many does not count as failed: its finalizer goes first.
        if (expectations && isTracked(pod)) await context.client.patch(resources.pods, pod.metadata, 'strategic', untrack);
        if (!(await deletePod(context, job, pod))) expectations?.deletionObserved(key, pod.metadata.uid);
      } catch (error) {
        expectations?.deletionObserved(key, pod.metadata.uid);
        if (!isNotFound(error)) throw error;
      }
      if (isPodReady(pod)) view.ready--;
    }),
  );
  const deleted = results.filter((r) => r.status === 'fulfilled').length;
  view.activeCount -= deleted;
  view.terminating += deleted;
  return { deleted, error: results.find((r) => r.status === 'rejected')?.reason };
}

/** Which active pods go, where at least so many have to: those of no valid or a double index first. */
function surplus(job: Job, active: Pod[], atLeast: number, now: number): Pod[] {
  const order = (pods: Pod[]) => inDeletionOrder(pods, () => 0, now);
  const gone: Pod[] = [];
  let left = active;
  if (isIndexed(job)) {
    left = [];
    for (const [index, pods] of Map.groupBy(active, indexOf)) {
      const ordered = order(pods);
      if (index < 0 || index >= (job.spec.completions ?? 0)) gone.push(...pods);
      else {
        gone.push(...ordered.slice(0, -1));
        left.push(ordered.at(-1)!);
      }
    }
  }
  return gone.length >= atLeast ? gone : [...gone, ...order(left).slice(0, atLeast - gone.length)];
}

/** Brings the number of active pods in line with what the Job wants. Returns the first error, and when to look again. */
export async function managePods(
  context: ControllerContext,
  view: JobView,
  expectations: Expectations,
  firstBackoffMs: number,
): Promise<{ error?: unknown; againInMs?: number }> {
  const { job, active, now } = view;
  const parallelism = parallelismOf(job);
  if (isSuspended(job)) return deletePods(context, view, surplus(job, active, active.length, now), expectations);
  const { completions } = job.spec;
  let wanted: number;
  if (completions === undefined) wanted = view.succeeded > 0 ? active.length : parallelism;
  else wanted = Math.max(0, Math.min(parallelism, completions - view.succeeded));
  const tooMany = surplus(job, active, Math.max(0, active.length - wanted), now).slice(0, BURST);
  if (tooMany.length) return deletePods(context, view, tooMany, expectations);
  const missing = Math.min(BURST, wanted - active.length - (replacesOnlyFailed(job) ? view.terminating : 0));
  if (missing <= 0) return {};
  if (!perIndex(job)) {
    const wait = remaining(view.run, firstBackoffMs, now);
    if (wait > 0) return { againInMs: wait };
  }
  let indexes: number[] | undefined;
  if (isIndexed(job)) {
    indexes = pendingIndexes(view, missing);
    if (perIndex(job)) {
      const waits = new Map(indexes.map((i) => [i, waitOf(view.delayed.get(i), firstBackoffMs, now)]));
      const due = indexes.filter((i) => waits.get(i) === 0);
      if (!due.length && indexes.length) return { againInMs: Math.min(...waits.values()) };
      indexes = due;
      if (due.length < waits.size) {
        const { error } = await createPods(context, view, expectations, due.length, due);
        return { error, againInMs: Math.min(...[...waits.values()].filter((ms) => ms > 0)) };
      }
    }
  }
  return createPods(context, view, expectations, indexes?.length ?? missing, indexes);
}

/** How long the index has to wait after its last failure. */
function waitOf(last: Pod | undefined, firstBackoffMs: number, now: number): number {
  if (!last) return 0;
  return remaining({ failures: failuresBefore(last) + ignoredFailuresBefore(last) + 1, lastAt: finishedAt(last) }, firstBackoffMs, now);
}

function pendingIndexes(view: JobView, count: number): number[] {
  const { job, active, pods } = view;
  const taken = active.map(indexOf);
  if (replacesOnlyFailed(job)) {
    const ended = (p: Pod) => p.status?.phase === 'Succeeded' || p.status?.phase === 'Failed';
    taken.push(...pods.filter((p) => p.metadata.deletionTimestamp && !ended(p)).map(indexOf));
  }
  const busy = IndexSet.of(taken.filter((i) => i >= 0));
  return view.succeededIndexes
    .union(busy)
    .union(view.failedIndexes ?? IndexSet.empty)
    .gaps(count, job.spec.completions ?? 0);
}

async function createPods(context: ControllerContext, view: JobView, expectations: Expectations, count: number, indexes?: number[]) {
  const { job } = view;
  const key = keyOf(job);
  expectations.raise(key, count);
  const { succeeded, error } = await slowStart(count, async (i) => {
    await createPod(context, job, draftOf(view, indexes?.[i]));
  });
  view.activeCount += succeeded;
  if (succeeded < count) expectations.creationObserved(key, count - succeeded);
  return { error: error && !isNamespaceTerminating(error) ? error : undefined };
}

function draftOf({ job, delayed }: JobView, index: number | undefined): Draft<Pod> {
  const draft = podFromTemplate(job.spec.template, job);
  const finalizers = draft.metadata.finalizers ?? [];
  draft.metadata.finalizers = finalizers.includes(TRACKING_FINALIZER) ? finalizers : [...finalizers, TRACKING_FINALIZER];
  if (index === undefined) return draft;
  const suffix = `-${index}-`;
  draft.metadata.generateName = `${job.metadata.name.slice(0, NAME_LIMIT - suffix.length)}${suffix}`;
  draft.metadata.labels = { ...draft.metadata.labels, [INDEX_ANNOTATION]: String(index) };
  draft.metadata.annotations = { ...draft.metadata.annotations, [INDEX_ANNOTATION]: String(index), ...failureCounts(job, delayed.get(index)) };
  draft.spec = {
    ...draft.spec,
    hostname: `${job.metadata.name}-${index}`,
    containers: draft.spec.containers.map(withIndex),
    ...(draft.spec.initContainers ? { initContainers: draft.spec.initContainers.map(withIndex) } : {}),
  };
  return draft;
}

function failureCounts(job: Job, replaced: Pod | undefined): Record<string, string> {
  if (!perIndex(job)) return {};
  if (!replaced) return { [FAILURE_COUNT]: '0' };
  const { counts } = judgeFailure(job.spec.podFailurePolicy, replaced);
  const ignored = ignoredFailuresBefore(replaced) + (counts ? 0 : 1);
  return {
    [FAILURE_COUNT]: String(failuresBefore(replaced) + (counts ? 1 : 0)),
    ...(ignored ? { [IGNORED_FAILURE_COUNT]: String(ignored) } : {}),
  };
}

function withIndex(container: Container): Container {
  if (container.env?.some((e) => e.name === 'JOB_COMPLETION_INDEX')) return container;
  const valueFrom = { fieldRef: { fieldPath: `metadata.labels['${INDEX_ANNOTATION}']` } };
  return { ...container, env: [...(container.env ?? []), { name: 'JOB_COMPLETION_INDEX', valueFrom }] };
}
