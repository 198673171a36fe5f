import { isNotFound } from '../api/errors.ts';
import { keyOf, splitKey } from '../api/object.ts';
import type { Job, Pod } from '../api/generated/types.ts';
import { resources } from '../api/generated/resources.ts';
import type { Controller, ControllerContext } from './controller.ts';
import { Expectations } from './expectations.ts';
import { followPods, ownerIn } from './followers.ts';
import { Freshness } from './freshness.ts';
import type { FailureRun } from './job/backoff.ts';
import { finishedCondition, isSuspended, isTracked, jobCondition, TRACKING_FINALIZER, withCondition } from './job/facts.ts';
import { deletePods, managePods, untrack } from './job/pods.ts';
import { type Tracking, track } from './job/tracking.ts';
import { type JobView, look, untilDeadline } from './job/view.ts';
import { claim, controlledBy, controllerOf, indexByController } from './ownership.ts';
import { startReconciler } from './reconciler.ts';
import { rfc3339 } from './timestamps.ts';

export interface JobOptions {
  /** How long the first failed pod delays the next one, milliseconds; doubled with every further failure. 10 s as upstream. */
  failureBackoffMs?: number;
}

/** Jobs: pods that run to their end. Watches Jobs and pods. */
export function startJobController(context: ControllerContext, { failureBackoffMs = 10_000 }: JobOptions = {}): Controller {
  const { client, clock, events, informers } = context;
  const jobs = informers.informer(resources.jobs);
  const pods = informers.informer(resources.pods);
  const expectations = new Expectations(clock);
  const freshness = new Freshness();
  /** By the Job's key: failures since the last success. */
  const runs = new Map<string, FailureRun>();
  /** By the Job's key: pods whose finalizer was taken off and whose event has not come yet. */
  const untracked = new Map<string, Set<string>>();
  indexByController(pods);
  const loop = startReconciler(context, { name: 'job-controller', workers: 5, waitFor: [jobs, pods], reconcile });
  const orphans = startReconciler(context, { name: 'job-controller-orphans', waitFor: [jobs, pods], reconcile: releaseOrphan });
  const enqueue = (job: Job) => loop.enqueue(keyOf(job));

  jobs.addHandlers({
    onAdd: enqueue,
    onUpdate(before, after) {
      if (before.metadata.uid !== after.metadata.uid) forget(before);
      enqueue(after);
    },
    onDelete(job) {
      forget(job);
      enqueue(job);
      for (const pod of controlledBy(pods, job.metadata.uid)) if (isTracked(pod)) orphans.enqueue(keyOf(pod));
    },
  });
  followPods<Job>({
    kind: 'Job',
    owners: jobs,
    pods,
    selectorOf: (job) => job.spec.selector,
    enqueue,
    onCreated: (job) => expectations.creationObserved(keyOf(job)),
    onGoing: (job, pod) => expectations.deletionObserved(keyOf(job), pod.metadata.uid),
  });
  pods.addHandlers({
    onAdd: enqueueIfOrphan,
    onUpdate(_, pod) {
      if (!isTracked(pod)) removalSeen(pod);
      enqueueIfOrphan(pod);
    },
    onDelete: removalSeen,
  });
  return { name: 'job-controller', done: Promise.all([loop.done, orphans.done]).then(() => {}) };

  function removalSeen(pod: Pod): void {
    const owner = controllerOf(pod);
    if (owner?.kind === 'Job') untracked.get(`${pod.metadata.namespace}/${owner.name}`)?.delete(pod.metadata.uid);
  }

  function forget(job: Job): void {
    expectations.forget(keyOf(job));
    untracked.delete(keyOf(job));
    freshness.forget(job);
    runs.delete(keyOf(job));
  }

  function enqueueIfOrphan(pod: Pod): void {
    if (isTracked(pod) && !ownerIn('Job', jobs, pod)) orphans.enqueue(keyOf(pod));
  }

  /** A pod that nobody will count any more must not be kept by its finalizer. */
  async function releaseOrphan(key: string): Promise<void> {
    const pod = pods.get(key);
    if (!pod || !isTracked(pod) || ownerIn('Job', jobs, pod)) return;
    const owner = controllerOf(pod);
    if (owner && owner.kind !== 'Job') return;
    if (owner) {
      // The cache may not know the Job yet.
      const live = await client.get(resources.jobs, { ...splitKey(key), name: owner.name }).catch((error) => {
        if (isNotFound(error)) return undefined;
        throw error;
      });
      if (live?.metadata.uid === owner.uid) return;
    } else if (jobs.list(pod.metadata.namespace).some((j) => pod.metadata.labels?.['batch.kubernetes.io/controller-uid'] === j.metadata.uid)) return;
    await client.patch(resources.pods, pod.metadata, 'strategic', untrack).catch((error) => {
      if (!isNotFound(error)) throw error;
    });
  }

  async function reconcile(key: string): Promise<void> {
    const job = jobs.get(key);
    if (!job) return expectations.forget(key);
    const { managedBy = 'kubernetes.io/job-controller', completionMode = 'NonIndexed' } = job.spec;
    if (managedBy !== 'kubernetes.io/job-controller') return;
    if (finishedCondition(job)) {
      runs.delete(key);
      untracked.delete(key);
      return;
    }
    if (freshness.isStale(job)) return;
    if (completionMode !== 'NonIndexed' && completionMode !== 'Indexed') {
      events.event(job, 'Warning', 'UnknownCompletionMode', 'Skipped Job sync because completion mode is unknown');
      return;
    }
    const settled = expectations.satisfied(key);
    const { selector } = job.spec;
    const removals = untracked.get(key) ?? new Set();
    untracked.set(key, removals);
    // As the cache is now: an event that comes while this runs must not bring a pod back that was counted.
    const known = new Set(removals);
    const owned = await claim({
      client,
      owner: job,
      ownerType: resources.jobs,
      type: resources.pods,
      informer: pods,
      selector,
      finalizer: TRACKING_FINALIZER,
    });
    const view = look(job, owned, known, runs.get(key), clock.now());
    const left = untilDeadline(view);
    if (left) loop.enqueueAfter(key, left);
    const { error, suspended } = await act(key, view, settled);
    const { status } = view;
    const changed =
      suspended || view.activeCount !== (status.active ?? 0) || view.ready !== status.ready || view.terminating !== status.terminating;
    Object.assign(status, { active: view.activeCount, ready: view.ready, terminating: view.terminating });
    const tracking: Tracking = {
      context,
      freshness,
      removing: (uids) => uids.forEach((uid) => removals.add(uid)),
      notRemoved: (uid) => removals.delete(uid),
      onCounted: ({ run }) => runs.set(key, run),
    };
    if (await track(tracking, view, changed)) announce(view);
    if (error) throw error;
  }

  /** Creates and deletes pods, and decides whether the Job is over. */
  async function act(key: string, view: JobView, settled: boolean): Promise<{ error?: unknown; suspended?: boolean }> {
    const { job } = view;
    if (view.outcome) {
      const active = view.activeCount;
      const { deleted, error } = await deletePods(context, view, view.active);
      // With pods that may be missing from the cache, the end would come too early.
      if (deleted !== active || !settled) view.outcome = undefined;
      return { error };
    }
    let error: unknown;
    const managed = settled && !job.metadata.deletionTimestamp;
    if (managed) {
      const result = await managePods(context, view, expectations, failureBackoffMs);
      if (result.againInMs !== undefined) loop.enqueueAfter(key, result.againInMs);
      error = result.error;
    }
    const { completions } = job.spec;
    const enough = completions === undefined ? view.succeeded > 0 : view.succeeded >= completions;
    if (enough && view.activeCount === 0) {
      view.outcome = jobCondition('SuccessCriteriaMet', 'True', 'CompletionsReached', 'Reached expected number of succeeded pods', view.now);
      return { error };
    }
    return { error, suspended: managed && noteSuspension(view) };
  }

  function noteSuspension(view: JobView): boolean {
    const { job, status, now } = view;
    const condition = isSuspended(job)
      ? jobCondition('Suspended', 'True', 'JobSuspended', 'Job suspended', now)
      : jobCondition('Suspended', 'False', 'JobResumed', 'Job resumed', now);
    const conditions = withCondition(status.conditions, condition);
    if (!conditions) return false;
    status.conditions = conditions;
    if (isSuspended(job)) delete status.startTime;
    else status.startTime = rfc3339(now);
    events.event(job, 'Normal', isSuspended(job) ? 'Suspended' : 'Resumed', condition.message!);
    return true;
  }

  function announce({ job, status, outcome }: JobView): void {
    if (outcome!.type !== 'Complete') return events.event(job, 'Warning', outcome!.reason!, outcome!.message!);
    if (job.spec.completions !== undefined && (status.succeeded ?? 0) > job.spec.completions)
      events.event(job, 'Warning', 'TooManySucceededPods', 'Too many succeeded pods running after completion count reached');
    events.event(job, 'Normal', 'Completed', 'Job completed');
  }
}
