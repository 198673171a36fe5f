import type { Logger } from 'pino';
import type { Client } from '../client/client.ts';
import type { Clock } from '../client/clock.ts';
import type { EventRecorder } from '../client/events.ts';
import type { Informer, InformerFactory } from '../client/informer.ts';
import { runWorkers, WorkQueue } from '../client/queue.ts';
import type { CloudProvider } from './provider.ts';

/** What a cloud controller sees of the world: the same as the other controllers, and a cloud. */
export interface ControllerContext {
  client: Client;
  informers: InformerFactory;
  clock: Clock;
  events: EventRecorder;
  log: Logger;
  /** Aborts when the process stops or loses its leadership. */
  signal: AbortSignal;
}

export interface CloudContext extends ControllerContext {
  cloud: CloudProvider;
  clusterName: string;
  /** Range of the pods. */
  clusterCidr: string;
}

/** A running controller; done resolves when its workers have ended after the signal aborted. */
export interface Controller {
  name: string;
  done: Promise<void>;
}

export interface ReconcilerOptions {
  name: string;
  workers: number;
  /** First and longest delay after a failure, milliseconds. */
  backoff?: { firstMs: number; longestMs: number };
  waitFor: Informer<any>[];
  // biome-ignore lint/suspicious/noConfusingVoidType: most reconcilers return nothing
  reconcile(key: string, signal: AbortSignal): Promise<{ requeueAfterMs?: number } | void>;
}

/** A queue whose workers begin when the informers have synced. */
export function startReconciler(context: ControllerContext, o: ReconcilerOptions): { controller: Controller; enqueue(key: string): void } {
  const log = context.log.child({ controller: o.name });
  const queue = new WorkQueue({ name: o.name, clock: context.clock, baseDelayMs: o.backoff?.firstMs ?? 100, maxDelayMs: o.backoff?.longestMs ?? 60_000 });
  const run = async () => {
    try {
      await Promise.all(o.waitFor.map((informer) => informer.synced(context.signal)));
    } catch {
      // Only the end of the process ends the wait.
      return;
    }
    await runWorkers({ queue, workers: o.workers, reconcile: o.reconcile, log, signal: context.signal });
  };
  return { controller: { name: o.name, done: run() }, enqueue: (key) => queue.add(key) };
}
