import { isNotFound } from '../api/errors.ts';
import { resources } from '../api/generated/resources.ts';
import type { Controller, ControllerContext } from '../controllers/controller.ts';
import { Cache } from './cache.ts';
import type { Handle, Plugin } from './framework.ts';
import type { PodInfo } from './pod-info.ts';
import { preempt } from './preemption.ts';
import { defaultPlugins } from './plugins/registry.ts';
import { SchedulerMetrics } from './metrics.ts';
import { Nominator } from './nominator.ts';
import { type Diagnosis, explain, type Prepared, Scheduler } from './schedule.ts';
import { type QueuedPod, SchedulingQueue } from './queue.ts';
import type { NodeInfo } from './node-info.ts';
import { reportFailure } from './status.ts';
import { watchCluster } from './watch.ts';

export interface SchedulerOptions {
  /** Pods with this spec.schedulerName are ours; default-scheduler where left out. */
  schedulerName?: string;
  /** Breaks ties between nodes of equal score: a number from 0 up to 1. */
  random?: () => number;
}

/** The longest synchronous piece of scheduling, in milliseconds; then others get a turn. */
const SLICE = 5;

/**
 * kube-scheduler: gives every pod that has none a node. Watches pods, nodes, and what the plugins look at.
 * A cycle (filter, score, assume) is synchronous; binding goes on beside later cycles.
 */
export function startScheduler(context: ControllerContext, options: SchedulerOptions = {}): Controller {
  const { client, clock, events, informers, signal } = context;
  const schedulerName = options.schedulerName ?? 'default-scheduler';
  const log = context.log.child({ controller: 'kube-scheduler' });
  const handle: Handle = {
    client,
    clock,
    claims: informers.informer(resources.persistentvolumeclaims),
    volumes: informers.informer(resources.persistentvolumes),
    storageClasses: informers.informer(resources.storageclasses),
    csiNodes: informers.informer(resources.csinodes),
    volumeAttachments: informers.informer(resources.volumeattachments),
    namespaces: informers.informer(resources.namespaces),
    services: informers.informer(resources.services),
    replicaSets: informers.informer(resources.replicasets),
    replicationControllers: informers.informer(resources.replicationcontrollers),
    statefulSets: informers.informer(resources.statefulsets),
    resourceClaims: informers.informer(resources.resourceclaims),
    resourceSlices: informers.informer(resources.resourceslices),
    deviceClasses: informers.informer(resources.deviceclasses),
    deviceTaintRules: informers.informer(resources.devicetaintrules),
  };
  const pods = informers.informer(resources.pods);
  const nodes = informers.informer(resources.nodes);
  const budgets = informers.informer(resources.poddisruptionbudgets);
  const plugins: Plugin[] = defaultPlugins(handle);
  const eventsOf = new Map(plugins.map((p) => [p.name, p.events]));
  const cache = new Cache();
  const nominator = new Nominator();
  const queue = new SchedulingQueue(
    clock,
    (name) => eventsOf.get(name) ?? [],
    () => wake(),
  );
  const scheduler = new Scheduler(plugins, cache, nominator.byNode, options.random);
  const metrics = new SchedulerMetrics(schedulerName, queue, cache);
  const bindings = new Set<Promise<void>>();
  let started = false;
  let running = false;

  watchCluster({ pods, nodes, handle, cache, queue, nominator, schedulerName });
  const ended = new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
  const run = async () => {
    await Promise.all([...Object.values(handle).filter(isInformer), pods, nodes, budgets].map((i) => i.synced(signal)));
    started = true;
    wake();
    await ended;
    metrics.close();
    queue.stop();
    await Promise.allSettled(bindings);
  };
  const done = run().catch((error) => {
    if (!signal.aborted) log.error({ err: error }, 'scheduler ended');
  });
  return { name: 'kube-scheduler', done };

  function wake(): void {
    if (!started || running) return;
    running = true;
    setImmediate(pump);
  }

  function pump(): void {
    const until = performance.now() + SLICE;
    while (!signal.aborted && queue.hasActive && performance.now() < until) attempt(queue.pop()!);
    running = false;
    if (!signal.aborted && queue.hasActive) wake();
  }

  function attempt(queued: QueuedPod): void {
    const { info } = queued;
    const current = pods.get(info.key);
    if (current?.metadata.uid !== info.uid || current.metadata.deletionTimestamp || cache.isPlaced(info.uid)) return;
    const started = performance.now();
    try {
      const placement = scheduler.place(info);
      metrics.placed(started);
      if ('node' in placement) start(queued, placement.node, placement.prepared, started);
      else {
        noRoom(queued, placement.diagnosis);
        metrics.attempted('unschedulable', started);
      }
    } catch (error) {
      metrics.attempted('error', started);
      log.error({ pod: info.key, err: error }, 'scheduling failed');
      failed(queued, 'SchedulerError', (error as Error).message);
    }
  }

  function start(queued: QueuedPod, node: NodeInfo, prepared: Prepared, started: number): void {
    const { info } = queued;
    cache.assume(info, node.name);
    nominator.delete(info.uid);
    for (const { cycle } of prepared.cycles) cycle.reserve?.(node);
    const binding = bind(info, node, prepared)
      .then(() => metrics.scheduled(queued, started, clock.now()))
      .catch((error) => {
        cache.forget(info.uid);
        for (const { cycle } of prepared.cycles) cycle.unreserve?.(node);
        queue.happened('AssignedPodDelete');
        if (isNotFound(error) || signal.aborted || !pods.get(info.key)) return;
        metrics.attempted('error', started);
        log.warn({ pod: info.key, node: node.name, err: error }, 'binding failed');
        failed(queued, 'SchedulerError', `binding rejected: ${(error as Error).message}`);
      })
      .finally(() => bindings.delete(binding));
    bindings.add(binding);
  }

  async function bind(info: PodInfo, node: NodeInfo, prepared: Prepared): Promise<void> {
    const { name, namespace, uid } = info.pod.metadata;
    for (const { cycle } of prepared.cycles) await cycle.preBind?.(node, signal);
    await client.createSubresource(resources.pods, { name, namespace }, 'binding', {
      apiVersion: 'v1',
      kind: 'Binding',
      metadata: { name, namespace, uid },
      target: { kind: 'Node', name: node.name },
    });
    events.event(info.pod, 'Normal', 'Scheduled', `Successfully assigned ${namespace}/${name} to ${node.name}`);
  }

  function noRoom(queued: QueuedPod, diagnosis: Diagnosis): void {
    const { info } = queued;
    if (diagnosis.general?.quiet) return queue.park(queued, new Set(diagnosis.plugins));
    const preemption = diagnosis.nodes > 0 ? preempt(plugins, info, cache, diagnosis, budgets.list()) : undefined;
    const message = explain(diagnosis, preemption && 'message' in preemption ? preemption.message : undefined);
    queue.park(queued, new Set(diagnosis.plugins));
    const chosen = preemption && 'node' in preemption ? preemption : undefined;
    if (preemption) metrics.preempted(chosen?.victims.length ?? 0);
    if (chosen) nominator.set(info, chosen.node.name);
    const nominatedNodeName = chosen?.node.name ?? nominator.nodeOf(info.uid);
    events.event(info.pod, 'Warning', 'FailedScheduling', message);
    background(reportFailure(context, info.pod, 'Unschedulable', message, nominatedNodeName), info);
    for (const victim of chosen?.victims ?? []) background(evict(victim, info, chosen!.node), info);
  }

  async function evict(victim: PodInfo, by: PodInfo, node: NodeInfo): Promise<void> {
    const text = `Preempted by pod ${by.uid} on node ${node.name}`;
    await reportDisruption(victim);
    await client.delete(resources.pods, victim.pod.metadata, { preconditions: { uid: victim.uid } });
    events.event(victim.pod, 'Normal', 'Preempted', text);
  }

  async function reportDisruption(victim: PodInfo): Promise<void> {
    const message = `${schedulerName}: preempting to accommodate a higher priority pod`;
    await reportFailure(context, victim.pod, 'PreemptionByScheduler', message, undefined, { type: 'DisruptionTarget', status: 'True' });
  }

  function failed(queued: QueuedPod, reason: string, message: string): void {
    queue.retry(queued);
    events.event(queued.info.pod, 'Warning', 'FailedScheduling', message);
    background(reportFailure(context, queued.info.pod, reason, message, nominator.nodeOf(queued.info.uid)), queued.info);
  }

  function background(work: Promise<void>, info: PodInfo): void {
    const guarded: Promise<void> = work
      .catch((error) => {
        if (!isNotFound(error) && !signal.aborted) log.warn({ pod: info.key, err: error }, 'could not report on a pod');
      })
      .finally(() => bindings.delete(guarded));
    bindings.add(guarded);
  }
}

const isInformer = (value: unknown): value is { synced(signal?: AbortSignal): Promise<void> } =>
  typeof (value as { synced?: unknown }).synced === 'function';
