import { isNotFound } from '../api/errors.ts';
import { keyOf, splitKey } from '../api/object.ts';
import type { Job } from '../api/generated/types.ts';
import { resources } from '../api/generated/resources.ts';
import type { Controller, ControllerContext } from './controller.ts';
import { finishedCondition } from './job/facts.ts';
import { startReconciler } from './reconciler.ts';
import { millis } from './timestamps.ts';

/** Deletes Jobs ttlSecondsAfterFinished after they have finished. Watches Jobs. */
export function startTtlAfterFinishedController(context: ControllerContext): Controller {
  const { client, clock, informers } = context;
  const jobs = informers.informer(resources.jobs);
  const loop = startReconciler(context, { name: 'ttl-after-finished-controller', workers: 5, waitFor: [jobs], reconcile });
  const enqueue = (job: Job) => {
    if (expiry(job) !== undefined) loop.enqueue(keyOf(job));
  };
  jobs.addHandlers({ onAdd: enqueue, onUpdate: (_, after) => enqueue(after) });
  return loop;

  async function reconcile(key: string): Promise<void> {
    const cached = jobs.get(key);
    if (!cached || !isDue(key, cached)) return;
    try {
      // The cache may be old, and the time to live raised since.
      const job = await client.get(resources.jobs, splitKey(key));
      if (!isDue(key, job)) return;
      await client.delete(resources.jobs, job.metadata, { propagationPolicy: 'Foreground', preconditions: { uid: job.metadata.uid } });
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
  }

  function isDue(key: string, job: Job): boolean {
    const at = expiry(job);
    if (at === undefined) return false;
    const left = at - clock.now();
    if (left > 0) loop.enqueueAfter(key, left);
    return left <= 0;
  }
}

/** When the Job is to go, milliseconds since the epoch; undefined where it is not. */
function expiry(job: Job): number | undefined {
  const { ttlSecondsAfterFinished } = job.spec;
  const finished = finishedCondition(job);
  if (ttlSecondsAfterFinished === undefined || !finished || job.metadata.deletionTimestamp) return undefined;
  return millis(finished.lastTransitionTime) + ttlSecondsAfterFinished * 1000;
}
