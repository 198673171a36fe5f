import { runWorkers, WorkQueue } from '../client/queue.ts';
import type { Controller, ControllerContext } from './controller.ts';
import { queueNameOf } from './queue-names.ts';

export interface ReconcilerOptions {
  name: string;
  /** How many keys are worked on at the same time; 1 where left out. */
  workers?: number;
  /** Informers that have to be complete before the first key is worked on. */
  waitFor: readonly { synced(signal?: AbortSignal): Promise<void> }[];
  /** Brings one key in order. Throwing means: again later, with growing delay. */
  reconcile(key: string): Promise<void>;
}

/** A controller with its queue: keys put in are reconciled, each by one worker at a time. */
export interface Reconciler extends Controller {
  enqueue(key: string): void;
  /** Again in so many milliseconds, unless something enqueues the key sooner. */
  enqueueAfter(key: string, ms: number): void;
  /** For work outside reconcile that failed: again with growing delay. */
  enqueueRateLimited(key: string): void;
}

export function startReconciler(context: ControllerContext, options: ReconcilerOptions): Reconciler {
  const { clock, signal } = context;
  const log = context.log.child({ controller: options.name });
  const queue = new WorkQueue({ clock, name: queueNameOf(options.name) });
  const run = async () => {
    try {
      await Promise.all(options.waitFor.map((informer) => informer.synced(signal)));
    } catch (error) {
      if (signal.aborted) return;
      throw error;
    }
    await runWorkers({ queue, workers: options.workers ?? 1, reconcile: (key) => options.reconcile(key), log, signal });
  };
  const done = run().catch((error) => log.error({ err: error }, 'controller ended'));
  return {
    name: options.name,
    done,
    enqueue: (key) => queue.add(key),
    enqueueAfter: (key, ms) => queue.addAfter(key, ms),
    enqueueRateLimited: (key) => queue.addRateLimited(key),
  };
}
