import { isNotFound } from '../api/errors.ts';
import { keyOf } from '../api/object.ts';
import type { Node, Pod } from '../api/generated/types.ts';
import { resources } from '../api/generated/resources.ts';
import type { Controller, ControllerContext } from './controller.ts';
import { readyCondition } from './nodelifecycle.ts';
import { isPodTerminal } from './pod-facts.ts';
import { addPodCondition } from './pod-status.ts';
import { startReconciler } from './reconciler.ts';
import { millis } from './timestamps.ts';

export interface PodGcOptions {
  /** Ended pods kept at most; 12500. */
  terminatedPodThreshold?: number;
  /** How long a node has to be missing before its pods are taken away, in milliseconds. */
  quarantineMs?: number;
}

/**
 * Upstream waits 40 s and looks every 20 s. Here every pod's node is asked of the server before the pod goes, so that the time only
 * has to cover a Node that is deleted and made anew.
 */
const QUARANTINE = 5000;
/** A shutdown that someone vouches for: the node's pods and volumes may be taken from it. */
const OUT_OF_SERVICE = 'node.kubernetes.io/out-of-service';
/** The queue's key for ended pods, which are looked at together. */
const TERMINATED = '';
const TERMINATED_DELAY = 5000;

/** Deletes pods that nobody else will: of nodes that are gone or out of service, deleted before they had a node, and too many ended ones. Watches pods and nodes. */
export function startPodGcController(context: ControllerContext, options: PodGcOptions = {}): Controller {
  const { client, informers } = context;
  const { terminatedPodThreshold = 12_500, quarantineMs = QUARANTINE } = options;
  const pods = informers.informer(resources.pods);
  const nodes = informers.informer(resources.nodes);
  pods.addIndex('node', (pod) => (pod.spec.nodeName ? [pod.spec.nodeName] : []));
  pods.addIndex('ended', (pod) => (isPodTerminal(pod) ? ['yes'] : []));
  const loop = startReconciler(context, { name: 'pod-garbage-collector-controller', workers: 4, waitFor: [pods, nodes], reconcile });
  const onPod = (pod: Pod) => {
    const { nodeName } = pod.spec;
    if (isPodTerminal(pod)) loop.enqueueAfter(TERMINATED, TERMINATED_DELAY);
    if (nodeName && nodes.hasSynced && !nodes.get(nodeName)) loop.enqueueAfter(keyOf(pod), quarantineMs);
    else if (pod.metadata.deletionTimestamp) loop.enqueue(keyOf(pod));
  };
  pods.addHandlers({ onAdd: onPod, onUpdate: (_, after) => onPod(after) });
  nodes.addHandlers({
    onUpdate(_, after) {
      if (isOutOfService(after))
        for (const pod of pods.byIndex('node', after.metadata.name)) if (pod.metadata.deletionTimestamp) loop.enqueue(keyOf(pod));
    },
    onDelete(node) {
      for (const pod of pods.byIndex('node', node.metadata.name)) loop.enqueueAfter(keyOf(pod), quarantineMs);
    },
  });
  // Pods whose node went while nobody looked.
  void Promise.all([nodes.synced(context.signal), pods.synced(context.signal)]).then(
    () => pods.list().forEach(onPod),
    () => {},
  );
  return loop;

  async function reconcile(key: string): Promise<void> {
    if (key === TERMINATED) return dropTerminated();
    const pod = pods.get(key);
    if (!pod) return;
    const { nodeName } = pod.spec;
    if (!nodeName) {
      if (pod.metadata.deletionTimestamp) await forceDelete(pod);
      return;
    }
    const node = nodes.get(nodeName) ?? (await liveNode(nodeName));
    if (!node) {
      const condition = { type: 'DisruptionTarget', status: 'True', reason: 'DeletionByPodGC', message: 'PodGC: node no longer exists' };
      await forceDelete(pod, condition);
    } else if (pod.metadata.deletionTimestamp && isOutOfService(node)) await forceDelete(pod);
  }

  async function liveNode(name: string): Promise<Node | undefined> {
    try {
      return await client.get(resources.nodes, { name });
    } catch (error) {
      if (isNotFound(error)) return undefined;
      throw error;
    }
  }

  async function dropTerminated(): Promise<void> {
    const ended = pods.byIndex('ended', 'yes');
    if (ended.length <= terminatedPodThreshold) return;
    const oldest = ended.sort(
      (a, b) => millis(a.metadata.creationTimestamp) - millis(b.metadata.creationTimestamp) || (a.metadata.name < b.metadata.name ? -1 : 1),
    );
    for (const pod of oldest.slice(0, ended.length - terminatedPodThreshold)) await forceDelete(pod);
  }

  /** No kubelet is left to say that the pod has ended: it is marked Failed, so that owners count right, and removed at once. */
  async function forceDelete(pod: Pod, condition?: { type: string; status: string; reason: string; message: string }): Promise<void> {
    try {
      if (!isPodTerminal(pod)) {
        if (condition) await addPodCondition(context, pod, condition, 'Failed');
        else
          await client.patch(
            resources.pods,
            pod.metadata,
            'strategic',
            { metadata: { uid: pod.metadata.uid }, status: { phase: 'Failed' } },
            { subresource: 'status' },
          );
      }
      await client.delete(resources.pods, pod.metadata, { gracePeriodSeconds: 0, preconditions: { uid: pod.metadata.uid } });
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
  }
}

const isOutOfService = (node: Node): boolean => readyCondition(node)?.status !== 'True' && !!node.spec.taints?.some((t) => t.key === OUT_OF_SERVICE);
