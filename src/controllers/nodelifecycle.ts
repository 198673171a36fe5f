import { isNotFound } from '../api/errors.ts';
import type { Lease, Node, NodeCondition, Pod } from '../api/generated/types.ts';
import { resources } from '../api/generated/resources.ts';
import { semanticEqual } from './canonical.ts';
import type { Controller, ControllerContext } from './controller.ts';
import { NOT_READY, UNREACHABLE, withConditionTaints, withEvictionTaint } from './nodelifecycle/taints.ts';
import { Zones } from './nodelifecycle/zones.ts';
import { isPodReady } from './pod-facts.ts';
import { startReconciler } from './reconciler.ts';
import { timestamp } from './timestamps.ts';

export interface NodeLifecycleOptions {
  /** How long a node may be silent, in milliseconds; 50 s. */
  gracePeriodMs?: number;
  /** The same for one that never reported; 60 s. */
  startupGracePeriodMs?: number;
}

/** Conditions that a silent kubelet can no longer vouch for. */
const REPORTED = ['Ready', 'MemoryPressure', 'DiskPressure', 'PIDPressure'];
const LABEL_COPIES = [
  ['kubernetes.io/os', 'beta.kubernetes.io/os'],
  ['kubernetes.io/arch', 'beta.kubernetes.io/arch'],
] as const;

interface Health {
  /** When the node was last heard, by our clock: clocks of nodes do not count. */
  heardAt: number;
  renewTime?: string;
  heartbeat?: string;
  /** Its pods have been marked not ready. */
  marked: boolean;
}

export const readyCondition = (node: Node): NodeCondition | undefined => node.status?.conditions?.find((c) => c.type === 'Ready');

/**
 * Health of nodes. A node is heard when its Lease or its status is renewed; one silent for too long turns Unknown. Conditions
 * become taints, and pods of a node that is not ready are marked so. Watches nodes, node leases and pods.
 */
export function startNodeLifecycleController(context: ControllerContext, options: NodeLifecycleOptions = {}): Controller {
  const { client, clock, events, informers } = context;
  const { gracePeriodMs = 50_000, startupGracePeriodMs = 60_000 } = options;
  const nodes = informers.informer(resources.nodes);
  const leases = informers.informer(resources.leases, { namespace: 'kube-node-lease' });
  const pods = informers.informer(resources.pods);
  const healths = new Map<string, Health>();
  const zones = new Zones();
  pods.addIndex('node', (pod) => (pod.spec.nodeName ? [pod.spec.nodeName] : []));
  const loop = startReconciler(context, { name: 'node-lifecycle-controller', workers: 8, waitFor: [nodes, leases, pods], reconcile });

  const noteZone = (node: Node) => {
    const toggled = zones.note(node, readyCondition(node)?.status === 'True');
    if (toggled) for (const other of nodes.list()) loop.enqueue(other.metadata.name);
  };
  nodes.addHandlers({
    onAdd(node) {
      hear(node.metadata.name, { heartbeat: readyCondition(node)?.lastHeartbeatTime });
      noteZone(node);
      events.event(node, 'Normal', 'RegisteredNode', `Node ${node.metadata.name} event: Registered Node ${node.metadata.name} in Controller`);
      loop.enqueue(node.metadata.name);
    },
    onUpdate(before, after) {
      hear(after.metadata.name, { heartbeat: readyCondition(after)?.lastHeartbeatTime });
      noteZone(after);
      const face = (n: Node) => [n.spec, n.metadata.labels, n.status?.conditions?.map((c) => [c.type, c.status])];
      if (!semanticEqual(face(before), face(after))) loop.enqueue(after.metadata.name);
    },
    onDelete(node) {
      healths.delete(node.metadata.name);
      if (zones.forget(node.metadata.name)) for (const other of nodes.list()) loop.enqueue(other.metadata.name);
      events.event(node, 'Normal', 'RemovingNode', `Node ${node.metadata.name} event: Removing Node ${node.metadata.name} from Controller`);
    },
  });
  const onLease = (lease: Lease) => {
    if (nodes.get(lease.metadata.name)) hear(lease.metadata.name, { renewTime: lease.spec?.renewTime });
  };
  leases.addHandlers({ onAdd: onLease, onUpdate: (_, after) => onLease(after) });
  return loop;

  /** Resets the clock of a node when what it renews has changed. */
  function hear(name: string, sign: { renewTime?: string; heartbeat?: string }): Health {
    let health = healths.get(name);
    if (!health) healths.set(name, (health = { heardAt: clock.now(), marked: false, ...sign }));
    else if ((sign.renewTime && sign.renewTime !== health.renewTime) || (sign.heartbeat && sign.heartbeat !== health.heartbeat)) {
      Object.assign(health, sign);
      health.heardAt = clock.now();
    }
    return health;
  }

  async function reconcile(name: string): Promise<void> {
    let node = nodes.get(name);
    if (!node) return;
    const health = hear(name, { renewTime: leases.get(`kube-node-lease/${name}`)?.spec?.renewTime });
    const grace = readyCondition(node) ? gracePeriodMs : startupGracePeriodMs;
    const left = health.heardAt + grace - clock.now();
    if (left <= 0 && (await isSilent(name, health))) node = await markUnknown(node);
    // Also for one found silent: a renewal would come without an event for us.
    loop.enqueueAfter(name, left > 0 ? left + 1 : grace);
    const ready = readyCondition(node)?.status;
    if (ready === undefined) return applyTaints(node, undefined);
    if (ready === 'True') health.marked = false;
    await applyTaints(node, ready === 'True' ? undefined : ready === 'False' ? NOT_READY : UNREACHABLE);
    if (ready !== 'True' && !health.marked) {
      events.event(node, 'Normal', 'NodeNotReady', `Node ${name} status is now: NodeNotReady`);
      await markPodsNotReady(name);
      health.marked = true;
    }
    await copyLabels(node);
  }

  /** Asks the server: our informer may be what lags. */
  async function isSilent(name: string, health: Health): Promise<boolean> {
    try {
      const lease = await client.get(resources.leases, { namespace: 'kube-node-lease', name });
      if (lease.spec?.renewTime === health.renewTime) return true;
      hear(name, { renewTime: lease.spec?.renewTime });
      return false;
    } catch (error) {
      if (isNotFound(error)) return true;
      throw error;
    }
  }

  async function markUnknown(node: Node): Promise<Node> {
    const now = timestamp(clock);
    const conditions = [...(node.status?.conditions ?? [])];
    for (const type of REPORTED) {
      const at = conditions.findIndex((c) => c.type === type);
      const known = conditions[at];
      if (!known) {
        const lastHeartbeatTime = node.metadata.creationTimestamp;
        conditions.push({
          type,
          status: 'Unknown',
          reason: 'NodeStatusNeverUpdated',
          message: 'Kubelet never posted node status.',
          lastHeartbeatTime,
          lastTransitionTime: now,
        });
      } else if (known.status !== 'Unknown') {
        conditions[at] = {
          ...known,
          status: 'Unknown',
          reason: 'NodeStatusUnknown',
          message: 'Kubelet stopped posting node status.',
          lastTransitionTime: now,
        };
      }
    }
    if (semanticEqual(conditions, node.status?.conditions)) return node;
    return client.update(resources.nodes, { ...node, status: { ...node.status, conditions } }, { subresource: 'status' });
  }

  async function applyTaints(node: Node, eviction: string | undefined): Promise<void> {
    const before = node.spec.taints ?? [];
    let taints = withConditionTaints(node);
    const tainted = withEvictionTaint(taints, zones.isAllDown() ? undefined : eviction, timestamp(clock));
    // Changing one eviction taint for the other, or taking it away, is not an eviction.
    const isNew =
      eviction !== undefined && tainted !== taints && !taints.some((t) => t.effect === 'NoExecute' && (t.key === NOT_READY || t.key === UNREACHABLE));
    const wait = isNew && !zones.isAllDown() ? zones.untilEviction(node.metadata.name, clock.now()) : 0;
    if (wait === 0) taints = tainted;
    else if (wait !== undefined) loop.enqueueAfter(node.metadata.name, wait);
    if (taints === before) return;
    const { resourceVersion, uid } = node.metadata;
    await client.patch(resources.nodes, node.metadata, 'merge', { metadata: { resourceVersion, uid }, spec: { taints } });
  }

  async function markPodsNotReady(name: string): Promise<void> {
    for (const pod of pods.byIndex('node', name)) if (isPodReady(pod)) await markPodNotReady(pod);
  }

  async function markPodNotReady(pod: Pod): Promise<void> {
    const conditions = pod.status!.conditions!.map((c) => (c.type === 'Ready' ? { ...c, status: 'False', lastTransitionTime: timestamp(clock) } : c));
    try {
      await client.update(resources.pods, { ...pod, status: { ...pod.status, conditions } }, { subresource: 'status' });
      events.event(pod, 'Warning', 'NodeNotReady', 'Node is not ready');
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
  }

  async function copyLabels(node: Node): Promise<void> {
    const labels: Record<string, string> = {};
    for (const [from, to] of LABEL_COPIES) {
      const value = node.metadata.labels?.[from];
      if (value && node.metadata.labels?.[to] !== value) labels[to] = value;
    }
    if (Object.keys(labels).length > 0) await client.patch(resources.nodes, node.metadata, 'merge', { metadata: { uid: node.metadata.uid, labels } });
  }
}
