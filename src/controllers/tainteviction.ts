import { isNotFound } from '../api/errors.ts';
import { keyOf } from '../api/object.ts';
import type { Node, Pod, Taint } from '../api/generated/types.ts';
import { resources } from '../api/generated/resources.ts';
import { semanticEqual } from './canonical.ts';
import type { Controller, ControllerContext } from './controller.ts';
import { tolerates } from './node-matching.ts';
import { isPodTerminal } from './pod-facts.ts';
import { addPodCondition } from './pod-status.ts';
import { startReconciler } from './reconciler.ts';
import { millis } from './timestamps.ts';

/** Deletes pods from nodes with a taint NoExecute that they do not tolerate, or no longer. Watches nodes and pods. */
export function startTaintEvictionController(context: ControllerContext): Controller {
  const { client, clock, events, informers } = context;
  const nodes = informers.informer(resources.nodes);
  const pods = informers.informer(resources.pods);
  /** Pods whose eviction has been announced for later, by key. */
  const announced = new Set<string>();
  pods.addIndex('node', (pod) => (pod.spec.nodeName ? [pod.spec.nodeName] : []));
  const loop = startReconciler(context, { name: 'taint-eviction-controller', workers: 8, waitFor: [nodes, pods], reconcile });
  const enqueuePods = (node: Node) => {
    for (const pod of pods.byIndex('node', node.metadata.name)) loop.enqueue(keyOf(pod));
  };
  nodes.addHandlers({
    onAdd(node) {
      if (evictingTaints(node).length > 0) enqueuePods(node);
    },
    onUpdate(before, after) {
      if (!semanticEqual(evictingTaints(before), evictingTaints(after))) enqueuePods(after);
    },
  });
  const onPod = (pod: Pod) => {
    if (pod.spec.nodeName && evictingTaints(nodes.get(pod.spec.nodeName)).length > 0) loop.enqueue(keyOf(pod));
  };
  pods.addHandlers({
    onAdd: onPod,
    onUpdate(before, after) {
      if (before.spec.nodeName !== after.spec.nodeName || before.metadata.generation !== after.metadata.generation) onPod(after);
    },
    onDelete: (pod) => void announced.delete(keyOf(pod)),
  });
  return loop;

  async function reconcile(key: string): Promise<void> {
    const pod = pods.get(key);
    if (!pod?.spec.nodeName || pod.metadata.deletionTimestamp || isPodTerminal(pod)) return;
    const taints = evictingTaints(nodes.get(pod.spec.nodeName));
    const end = evictionTime(pod, taints, clock.now());
    if (end === undefined) {
      if (announced.delete(key)) events.event(pod, 'Normal', 'TaintManagerEviction', `Cancelling deletion of Pod ${key}`);
      return;
    }
    if (end > clock.now()) {
      announced.add(key);
      return loop.enqueueAfter(key, end - clock.now());
    }
    announced.delete(key);
    events.event(pod, 'Normal', 'TaintManagerEviction', `Marking for deletion Pod ${key}`);
    try {
      const message = 'Taint manager: deleting due to NoExecute taint';
      await addPodCondition(context, pod, { type: 'DisruptionTarget', status: 'True', reason: 'DeletionByTaintManager', message });
      await client.delete(resources.pods, pod.metadata, { preconditions: { uid: pod.metadata.uid } });
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
  }
}

const evictingTaints = (node: Node | undefined): Taint[] => (node?.spec.taints ?? []).filter((t) => t.effect === 'NoExecute');

/** When the pod has to go, in milliseconds since the epoch; undefined: it may stay. Time counts from when taint and pod came together. */
function evictionTime(pod: Pod, taints: Taint[], now: number): number | undefined {
  if (taints.length === 0) return undefined;
  let seconds = Number.POSITIVE_INFINITY;
  for (const taint of taints) {
    const used = (pod.spec.tolerations ?? []).filter((t) => tolerates(t, taint));
    if (used.length === 0) return now;
    for (const { tolerationSeconds } of used) if (tolerationSeconds !== undefined) seconds = Math.min(seconds, Math.max(0, Number(tolerationSeconds)));
  }
  if (seconds === Number.POSITIVE_INFINITY) return undefined;
  const since = Math.max(millis(pod.metadata.creationTimestamp), ...taints.map((t) => millis(t.timeAdded)));
  return since + seconds * 1000;
}
