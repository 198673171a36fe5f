import { isAlreadyExists, isNotFound } from '../api/errors.ts';
import { type Draft, keyOf } from '../api/object.ts';
import type { CronJob, CronJobStatus, Job, ObjectReference } from '../api/generated/types.ts';
import { resources } from '../api/generated/resources.ts';
import { statusEqual } from './canonical.ts';
import type { Controller, ControllerContext } from './controller.ts';
import { dueNow, untilNext } from './cronjob/due.ts';
import { parseSchedule, type Schedule, zonedTimestamp } from './cronjob/schedule.ts';
import { ownerIn } from './followers.ts';
import { Freshness } from './freshness.ts';
import { finishedCondition } from './job/facts.ts';
import { controlledBy, controllerRef, indexByController, isControlledBy } from './ownership.ts';
import { isNamespaceTerminating } from './pod-control.ts';
import { startReconciler } from './reconciler.ts';
import { millis, rfc3339 } from './timestamps.ts';

/** CronJobs: starts Jobs at the times of a schedule. Watches CronJobs and Jobs; one timer a CronJob. */
export function startCronJobController(context: ControllerContext): Controller {
  const { client, clock, events, informers } = context;
  const cronJobs = informers.informer(resources.cronjobs);
  const jobs = informers.informer(resources.jobs);
  const freshness = new Freshness();
  indexByController(jobs);
  const loop = startReconciler(context, { name: 'cronjob-controller', workers: 5, waitFor: [cronJobs, jobs], reconcile });
  const enqueue = (cronJob: CronJob | undefined) => {
    if (cronJob) loop.enqueue(keyOf(cronJob));
  };
  const ownerOf = (job: Job) => ownerIn('CronJob', cronJobs, job);
  cronJobs.addHandlers({
    onAdd: enqueue,
    onUpdate: (_, after) => enqueue(after),
    onDelete: (cronJob) => freshness.forget(cronJob),
  });
  jobs.addHandlers({
    onAdd: (job) => enqueue(ownerOf(job)),
    onUpdate(before, after) {
      enqueue(ownerOf(before));
      enqueue(ownerOf(after));
    },
    onDelete: (job) => enqueue(ownerOf(job)),
  });
  return loop;

  async function reconcile(key: string): Promise<void> {
    const cronJob = cronJobs.get(key);
    // The event of our own write is still to come, and brings the key again.
    if (!cronJob || freshness.isStale(cronJob)) return;
    const children = controlledBy(jobs, cronJob.metadata.uid);
    const status: CronJobStatus = { ...cronJob.status, active: [...(cronJob.status?.active ?? [])] };
    await removeOldJobs(cronJob, status, children);
    let error: unknown;
    try {
      await takeStock(cronJob, status, children);
      if (!cronJob.metadata.deletionTimestamp) await startWhatIsDue(key, cronJob, status);
    } catch (e) {
      error = e;
    }
    if (!statusEqual(status, cronJob.status)) {
      freshness.wrote(await client.update(resources.cronjobs, { ...cronJob, status }, { subresource: 'status' }));
    }
    if (error) throw error;
  }

  /** Finished Jobs leave the list of active ones, and so do those that are gone. */
  async function takeStock(cronJob: CronJob, status: CronJobStatus, children: Job[]): Promise<void> {
    for (const job of children) {
      const active = status.active!.some((ref) => ref.uid === job.metadata.uid);
      const finished = finishedCondition(job);
      if (!finished && !active) {
        events.event(cronJob, 'Warning', 'UnexpectedJob', `Saw a job that the controller did not create or forgot: ${job.metadata.name}`);
      }
      if (finished && active) {
        drop(status, job.metadata.uid);
        events.event(cronJob, 'Normal', 'SawCompletedJob', `Saw completed job: ${job.metadata.name}, condition: ${finished.type}`);
      }
      const completed = job.status?.completionTime;
      if (finished?.type === 'Complete' && completed && millis(completed) > millis(status.lastSuccessfulTime)) status.lastSuccessfulTime = completed;
    }
    const known = new Set(children.map((j) => j.metadata.uid));
    for (const ref of status.active!) {
      if (known.has(ref.uid!) || (await findJob(ref))) continue;
      drop(status, ref.uid!);
      events.event(cronJob, 'Normal', 'MissingJob', `Active job went missing: ${ref.name}`);
    }
  }

  async function findJob({ namespace, name, uid }: ObjectReference): Promise<Job | undefined> {
    try {
      const job = await client.get(resources.jobs, { namespace, name: name! });
      return uid === undefined || job.metadata.uid === uid ? job : undefined;
    } catch (error) {
      if (isNotFound(error)) return undefined;
      throw error;
    }
  }

  async function startWhatIsDue(key: string, cronJob: CronJob, status: CronJobStatus): Promise<void> {
    if (cronJob.spec.suspend) return;
    const schedule = scheduleOf(cronJob);
    if (!schedule) return;
    const now = clock.now();
    const due = dueNow(cronJob, schedule, now);
    if (due.at !== undefined) await startAt(cronJob, status, due.at, due.tooMany, now);
    const wait = untilNext(schedule, now);
    if (wait !== undefined) loop.enqueueAfter(key, wait);
  }

  function scheduleOf(cronJob: CronJob): Schedule | undefined {
    const { schedule, timeZone } = cronJob.spec;
    if (schedule.includes('TZ')) {
      const why = 'is not officially supported, see https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details';
      events.event(cronJob, 'Warning', 'UnsupportedSchedule', `CRON_TZ or TZ used in schedule ${JSON.stringify(schedule)} ${why}`);
    }
    try {
      return parseSchedule(schedule, timeZone);
    } catch (error) {
      const why = (error as Error).message;
      if (why.startsWith('unknown time zone')) events.event(cronJob, 'Warning', 'UnknownTimeZone', `invalid timeZone: ${JSON.stringify(timeZone)}: ${why}`);
      else events.event(cronJob, 'Warning', 'UnparseableSchedule', `unparseable schedule: ${JSON.stringify(schedule)} : ${why}`);
      return undefined;
    }
  }

  async function startAt(cronJob: CronJob, status: CronJobStatus, at: number, tooMany: boolean, now: number): Promise<void> {
    const { startingDeadlineSeconds, concurrencyPolicy } = cronJob.spec;
    if (tooMany) {
      const message = 'too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew';
      events.event(cronJob, 'Warning', 'TooManyMissedTimes', message);
    }
    if (startingDeadlineSeconds !== undefined && at + Number(startingDeadlineSeconds) * 1000 < now) {
      events.event(cronJob, 'Warning', 'MissSchedule', `Missed scheduled time to start a job: ${rfc1123(at)}`);
      return;
    }
    const name = jobNameAt(cronJob, at);
    if (status.active!.some((ref) => ref.name === name) || millis(status.lastScheduleTime) === at) return;
    if (concurrencyPolicy === 'Forbid' && status.active!.length > 0) {
      const message = 'Not starting job because prior execution is running and concurrency policy is Forbid';
      events.event(cronJob, 'Normal', 'JobAlreadyActive', message);
      return;
    }
    if (concurrencyPolicy === 'Replace') {
      for (const ref of status.active!) {
        const job = await findJob(ref);
        if (job) await removeJob(cronJob, status, job);
        else drop(status, ref.uid!);
      }
    }
    const job = await createJob(cronJob, at);
    if (!job) return;
    const { apiVersion, kind, metadata } = job;
    const { namespace, uid, resourceVersion } = metadata;
    status.active!.push({ apiVersion, kind, namespace, name: metadata.name, uid, resourceVersion });
    status.lastScheduleTime = rfc3339(at);
  }

  /** The Job of that time: new, or ours from an attempt whose end was not written down. Undefined where somebody else's has the name. */
  async function createJob(cronJob: CronJob, at: number): Promise<Job | undefined> {
    const { metadata: template, spec } = cronJob.spec.jobTemplate;
    const { namespace } = cronJob.metadata;
    const draft: Draft<Job> = {
      apiVersion: 'batch/v1',
      kind: 'Job',
      metadata: {
        namespace,
        name: jobNameAt(cronJob, at),
        labels: { ...template?.labels },
        annotations: { ...template?.annotations, 'batch.kubernetes.io/cronjob-scheduled-timestamp': zonedTimestamp(at, cronJob.spec.timeZone) },
        ownerReferences: [controllerRef(cronJob)],
      },
      spec: structuredClone(spec!),
    };
    try {
      const job = await client.create(resources.jobs, draft);
      events.event(cronJob, 'Normal', 'SuccessfulCreate', `Created job ${job.metadata.name}`);
      return job;
    } catch (error) {
      if (isAlreadyExists(error)) {
        const job = await client.get(resources.jobs, { namespace, name: draft.metadata.name! });
        return isControlledBy(job, cronJob) && !finishedCondition(job) ? job : undefined;
      }
      if (!isNamespaceTerminating(error)) events.event(cronJob, 'Warning', 'FailedCreate', `Error creating job: ${(error as Error).message}`);
      throw error;
    }
  }

  async function removeOldJobs(cronJob: CronJob, status: CronJobStatus, children: Job[]): Promise<void> {
    const { successfulJobsHistoryLimit, failedJobsHistoryLimit } = cronJob.spec;
    const limits = { Complete: successfulJobsHistoryLimit, Failed: failedJobsHistoryLimit };
    for (const [type, limit] of Object.entries(limits)) {
      if (limit === undefined) continue;
      const ended = children.filter((j) => finishedCondition(j)?.type === type && !j.metadata.deletionTimestamp).sort(byStart);
      for (const job of ended.slice(0, Math.max(0, ended.length - limit))) await removeJob(cronJob, status, job);
    }
  }

  async function removeJob(cronJob: CronJob, status: CronJobStatus, job: Job): Promise<void> {
    const { uid, name } = job.metadata;
    try {
      await client.delete(resources.jobs, job.metadata, { preconditions: { uid }, propagationPolicy: 'Background' });
      events.event(cronJob, 'Normal', 'SuccessfulDelete', `Deleted job ${name}`);
    } catch (error) {
      if (!isNotFound(error)) {
        events.event(cronJob, 'Warning', 'FailedDelete', `Deleted job: ${(error as Error).message}`);
        throw error;
      }
    }
    drop(status, uid);
  }
}

const jobNameAt = (cronJob: CronJob, at: number) => `${cronJob.metadata.name}-${Math.floor(at / 60_000)}`;

function drop(status: CronJobStatus, uid: string): void {
  status.active = status.active!.filter((ref) => ref.uid !== uid);
}

/** The oldest first; those that never started last. */
function byStart(a: Job, b: Job): number {
  const at = (job: Job) => (job.status?.startTime ? millis(job.status.startTime) : Number.MAX_SAFE_INTEGER);
  return at(a) - at(b) || a.metadata.name.localeCompare(b.metadata.name);
}

/** As Go's RFC1123Z: Mon, 02 Jan 2006 15:04:05 +0000. */
const rfc1123 = (at: number) => new Date(at).toUTCString().replace('GMT', '+0000');
