import type { Node, Pod } from '../api/generated/types.ts';
import type { Informer } from '../client/informer.ts';
import { semanticEqual } from '../controllers/canonical.ts';
import { isPodTerminal } from '../controllers/pod-facts.ts';
import { classOf } from '../controllers/volumes.ts';
import type { Cache } from './cache.ts';
import type { ClusterEvent, Handle } from './framework.ts';
import type { Nominator } from './nominator.ts';
import { podInfo } from './pod-info.ts';
import type { SchedulingQueue } from './queue.ts';

interface Parts {
  pods: Informer<Pod>;
  nodes: Informer<Node>;
  handle: Handle;
  cache: Cache;
  queue: SchedulingQueue;
  nominator: Nominator;
  schedulerName: string;
}

/** Keeps the cache current, queues pods that need a node, and tells the queue what happened. */
export function watchCluster({ pods, nodes, handle, cache, queue, nominator, schedulerName }: Parts): void {
  const isOurs = (pod: Pod) => (pod.spec.schedulerName || 'default-scheduler') === schedulerName;
  const isWaiting = (pod: Pod) =>
    !pod.spec.nodeName && isOurs(pod) && !isPodTerminal(pod) && !pod.metadata.deletionTimestamp && !pod.spec.schedulingGates?.length;

  const gone = (pod: Pod) => {
    queue.delete(pod.metadata.uid);
    nominator.delete(pod.metadata.uid);
    if (cache.removePod(pod.metadata.uid)) queue.happened('AssignedPodDelete');
  };
  pods.addHandlers({
    onAdd(pod) {
      if (pod.spec.nodeName && !isPodTerminal(pod)) {
        cache.setPod(pod);
        queue.happened('AssignedPodAdd');
      } else if (isWaiting(pod)) {
        if (pod.status?.nominatedNodeName) nominator.set(podInfo(pod), pod.status.nominatedNodeName);
        queue.add(podInfo(pod));
      }
    },
    onUpdate(before, after) {
      const { uid } = after.metadata;
      if (after.spec.nodeName) {
        if (isPodTerminal(after)) return gone(after);
        queue.delete(uid);
        nominator.delete(uid);
        cache.setPod(after);
        if (!before.spec.nodeName) queue.happened('AssignedPodAdd');
        else if (before.spec !== after.spec || before.metadata.labels !== after.metadata.labels) {
          const changed = !semanticEqual(before.metadata.labels, after.metadata.labels) || !semanticEqual(before.spec, after.spec);
          if (changed || (after.metadata.deletionTimestamp && !before.metadata.deletionTimestamp)) queue.happened('AssignedPodUpdate');
        }
        return;
      }
      if (!isWaiting(after)) return gone(after);
      if (cache.isPlaced(uid)) return;
      const info = podInfo(after);
      const matters =
        before.metadata.generation !== after.metadata.generation ||
        !semanticEqual(before.metadata.labels, after.metadata.labels) ||
        !isWaiting(before) ||
        !semanticEqual(before.status?.resourceClaimStatuses, after.status?.resourceClaimStatuses) ||
        !semanticEqual(before.spec, after.spec);
      if (matters) queue.add(info);
      else if (queue.has(uid)) queue.replace(info);
    },
    onDelete: gone,
  });

  nodes.addHandlers({
    onAdd(node) {
      cache.setNode(node);
      queue.happened('NodeAdd');
    },
    onUpdate(before, after) {
      cache.setNode(after);
      for (const event of nodeChanges(before, after)) queue.happened(event);
    },
    onDelete: (node) => cache.removeNode(node.metadata.name),
  });

  handle.volumes.addIndex('class', (volume) => [classOf(volume)]);
  handle.volumeAttachments.addIndex('node', (attachment) => [attachment.spec.nodeName]);
  const watched: [{ addHandlers(h: { onAdd(): void; onUpdate(): void; onDelete(): void }): unknown }, ClusterEvent][] = [
    [handle.claims, 'Claim'],
    [handle.volumes, 'Volume'],
    [handle.storageClasses, 'StorageClass'],
    [handle.csiNodes, 'CSINode'],
    [handle.volumeAttachments, 'VolumeAttachment'],
    [handle.namespaces, 'Namespace'],
    [handle.resourceClaims, 'ResourceClaim'],
    [handle.resourceSlices, 'ResourceSlice'],
    [handle.deviceClasses, 'DeviceClass'],
    [handle.deviceTaintRules, 'DeviceTaintRule'],
  ];
  for (const [informer, event] of watched) {
    const happened = () => queue.happened(event);
    informer.addHandlers({ onAdd: happened, onUpdate: happened, onDelete: happened });
  }
}

/** Heartbeats change nothing that matters here. */
function nodeChanges(before: Node, after: Node): ClusterEvent[] {
  const changes: ClusterEvent[] = [];
  if (!semanticEqual(before.status?.allocatable, after.status?.allocatable)) changes.push('NodeAllocatable');
  if (!semanticEqual(before.metadata.labels, after.metadata.labels)) changes.push('NodeLabel');
  if (!semanticEqual(before.spec.taints, after.spec.taints) || before.spec.unschedulable !== after.spec.unschedulable) changes.push('NodeTaint');
  return changes;
}
