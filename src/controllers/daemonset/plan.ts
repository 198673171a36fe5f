import type { DaemonSet, DaemonSetStatus, Node, Pod } from '../../api/generated/types.ts';
import { scaledValue } from '../deployment/facts.ts';
import { isPodAvailable, isPodReady } from '../pod-facts.ts';
import { millis } from '../timestamps.ts';
import { isUpdated, type Placement } from './placement.ts';

/** What one look at a DaemonSet shows. */
export interface DaemonView {
  ds: DaemonSet;
  hash: string;
  nodes: Node[];
  placement: Placement;
  /** The pods by their node; those that have ended and are on their way out are left out. */
  byNode: Map<string, Pod[]>;
  /** Milliseconds since the epoch. */
  now: number;
}

/** What is to be done: nodes to make a pod for, and pods to delete. */
export interface DaemonPlan {
  create: string[];
  remove: Pod[];
}

const isRolling = (ds: DaemonSet) => (ds.spec.updateStrategy?.type ?? 'RollingUpdate') === 'RollingUpdate';
const maxSurgeOf = (ds: DaemonSet, nodes: number) =>
  isRolling(ds) ? scaledValue(ds.spec.updateStrategy?.rollingUpdate?.maxSurge ?? 0, nodes, true) : 0;
const maxUnavailableOf = (ds: DaemonSet, nodes: number) =>
  isRolling(ds) ? scaledValue(ds.spec.updateStrategy?.rollingUpdate?.maxUnavailable ?? 1, nodes, true) : 0;
const isAvailable = (v: DaemonView, pod: Pod) => isPodAvailable(pod, v.ds.spec.minReadySeconds ?? 0, v.now);

/** Those on a node first, then the oldest. */
const settledFirst = (a: Pod, b: Pod): number =>
  (a.spec.nodeName ? 0 : 1) - (b.spec.nodeName ? 0 : 1) ||
  millis(a.metadata.creationTimestamp) - millis(b.metadata.creationTimestamp) ||
  a.metadata.name.localeCompare(b.metadata.name);

/** What each node needs: a pod where there should be one, none where not. `ended` says whether a pod that has ended is to go now. */
export function placementPlan(v: DaemonView, ended: (pod: Pod, node: string) => boolean): DaemonPlan {
  const plan: DaemonPlan = { create: [], remove: [] };
  const known = new Set<string>();
  for (const node of v.nodes) {
    const name = node.metadata.name;
    known.add(name);
    const pods = v.byNode.get(name);
    const { run, goOn } = v.placement.judge(node);
    if (run && !pods) plan.create.push(name);
    else if (pods && !goOn) plan.remove.push(...pods.filter((p) => !p.metadata.deletionTimestamp));
    else if (pods) planNode(v, name, pods, run, ended, plan);
  }
  // The scheduler will never bind what waits for a node that is gone. What runs on one is the garbage collector's.
  for (const [name, pods] of v.byNode) if (!known.has(name)) plan.remove.push(...pods.filter((p) => !p.spec.nodeName));
  return plan;
}

function planNode(v: DaemonView, node: string, pods: Pod[], run: boolean, ended: (pod: Pod, node: string) => boolean, plan: DaemonPlan): void {
  const running: Pod[] = [];
  for (const pod of pods) {
    if (pod.metadata.deletionTimestamp) continue;
    const phase = pod.status?.phase;
    if (phase === 'Failed' || phase === 'Succeeded') {
      if (ended(pod, node)) plan.remove.push(pod);
    } else running.push(pod);
  }
  running.sort(settledFirst);
  if (maxSurgeOf(v.ds, 1) === 0) {
    plan.remove.push(...running.slice(1));
    return;
  }
  if (running.length === 0 && run) plan.create.push(node);
  if (running.length <= 1) return;
  // While surging, one old and one new pod share the node, until the new one has taken over.
  const isNew = (pod: Pod) => isUpdated(v.ds, pod, v.hash);
  const newest = running.find(isNew);
  const former = running.find((p) => !isNew(p));
  plan.remove.push(...running.filter((p) => p !== newest && p !== former));
  if (newest && former && (!isPodReady(former) || isAvailable(v, newest))) plan.remove.push(former);
}

/** The old and the new pod of a node; undefined where there are more than one of a kind, which placement has to put right first. */
function pairOn(v: DaemonView, pods: Pod[]): { fresh?: Pod; old?: Pod } | undefined {
  const pair: { fresh?: Pod; old?: Pod } = {};
  for (const pod of pods) {
    if (pod.metadata.deletionTimestamp) continue;
    const kind = isUpdated(v.ds, pod, v.hash) ? 'fresh' : 'old';
    if (pair[kind]) return undefined;
    pair[kind] = pod;
  }
  return pair;
}

/** One step of a rolling update. */
export function rollingPlan(v: DaemonView): DaemonPlan {
  const desired = v.nodes.filter((n) => v.placement.judge(n).run);
  const places = new Map(v.byNode);
  for (const { metadata } of desired) if (!places.has(metadata.name)) places.set(metadata.name, []);
  const maxSurge = maxSurgeOf(v.ds, desired.length);
  const maxUnavailable = maxUnavailableOf(v.ds, desired.length);
  return maxSurge === 0 ? replaceInPlace(v, places, Math.max(1, maxUnavailable)) : replaceBySurge(v, places, maxSurge, desired);
}

function replaceInPlace(v: DaemonView, places: Map<string, Pod[]>, maxUnavailable: number): DaemonPlan {
  let unavailable = 0;
  const free: Pod[] = [];
  const candidates: Pod[] = [];
  for (const pods of places.values()) {
    const pair = pairOn(v, pods);
    if (!pair || !pair.fresh === !pair.old) unavailable++;
    else if (pair.fresh) unavailable += isAvailable(v, pair.fresh) ? 0 : 1;
    else if (isAvailable(v, pair.old!)) candidates.push(pair.old!);
    else {
      // Serves nobody: replacing it costs nothing.
      free.push(pair.old!);
      unavailable++;
    }
  }
  return { create: [], remove: [...free, ...candidates.slice(0, Math.max(0, maxUnavailable - unavailable))] };
}

function replaceBySurge(v: DaemonView, places: Map<string, Pod[]>, maxSurge: number, desired: Node[]): DaemonPlan {
  const shouldRun = new Set(desired.map((n) => n.metadata.name));
  const plan: DaemonPlan = { create: [], remove: [] };
  const candidates: string[] = [];
  const misplaced: Pod[] = [];
  let surging = 0;
  let available = 0;
  for (const [node, pods] of places) {
    const pair = pairOn(v, pods);
    if (!pair) {
      surging++;
      continue;
    }
    const { fresh, old } = pair;
    const serving = old ?? fresh;
    if (serving && isAvailable(v, serving)) available++;
    if (!old) continue;
    if (fresh) {
      if (isAvailable(v, fresh)) plan.remove.push(old);
      else surging++;
    } else if (!isAvailable(v, old)) {
      if (shouldRun.has(node)) plan.create.push(node);
      else plan.remove.push(old);
    } else if (shouldRun.has(node)) candidates.push(node);
    else misplaced.push(old);
  }
  plan.remove.push(...misplaced.slice(0, Math.max(0, available - desired.length)));
  plan.create.push(...candidates.slice(0, Math.max(0, maxSurge - surging)));
  return plan;
}

export function statusOf(v: DaemonView, before: DaemonSetStatus | undefined, collisionCount: number, observed: boolean): DaemonSetStatus {
  const counts = { desired: 0, current: 0, misscheduled: 0, ready: 0, updated: 0, available: 0 };
  for (const node of v.nodes) {
    const pods = v.byNode.get(node.metadata.name) ?? [];
    if (!v.placement.judge(node).run) {
      if (pods.length) counts.misscheduled++;
      continue;
    }
    counts.desired++;
    const pod = [...pods].sort(settledFirst)[0];
    if (!pod) continue;
    counts.current++;
    if (isPodReady(pod)) counts.ready++;
    if (isAvailable(v, pod)) counts.available++;
    if (isUpdated(v.ds, pod, v.hash)) counts.updated++;
  }
  return {
    ...before,
    observedGeneration: observed ? v.ds.metadata.generation : before?.observedGeneration,
    desiredNumberScheduled: counts.desired,
    currentNumberScheduled: counts.current,
    numberMisscheduled: counts.misscheduled,
    numberReady: counts.ready,
    updatedNumberScheduled: counts.updated,
    numberAvailable: counts.available,
    numberUnavailable: counts.desired - counts.available,
    ...(collisionCount ? { collisionCount } : {}),
  };
}
