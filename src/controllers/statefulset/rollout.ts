import type { ControllerRevision, Pod, StatefulSet, StatefulSetStatus } from '../../api/generated/types.ts';
import { scaledValue } from '../deployment/facts.ts';
import { slowStart } from '../expectations.ts';
import { isPodAvailable, isPodReady, isPodTerminal } from '../pod-facts.ts';
import { templateOf } from '../revisions.ts';
import { firstOrdinal, isInRange, isParallel, ordinalOf, replicasOf, revisionNameOf, strategyOf } from './identity.ts';
import type { StatefulPods } from './pods.ts';

/** A place in the sequence, and the pod that has it. */
interface Place {
  ordinal: number;
  pod?: Pod;
}

export interface StatefulRollout {
  set: StatefulSet;
  /** The revision that pods below the partition are made from, and the one that all others are. */
  current: ControllerRevision;
  update: ControllerRevision;
  collisionCount: number;
  pods: StatefulPods;
  /** Milliseconds since the epoch. */
  now: number;
}

/** One step towards what the set wants. Returns what the status should say now, and the error that ended the step early. */
export async function step(rollout: StatefulRollout, owned: Pod[]): Promise<{ status: StatefulSetStatus; error?: unknown }> {
  const { set } = rollout;
  const places: Place[] = Array.from({ length: replicasOf(set) }, (_, i) => ({ ordinal: firstOrdinal(set) + i }));
  const condemned: Pod[] = [];
  for (const pod of owned) {
    const ordinal = ordinalOf(pod);
    if (isInRange(set, ordinal)) places[ordinal - firstOrdinal(set)]!.pod = pod;
    else if (ordinal >= 0) condemned.push(pod);
  }
  condemned.sort((a, b) => ordinalOf(b) - ordinalOf(a));
  let error: unknown;
  let deleted = 0;
  if (!set.metadata.deletionTimestamp) {
    try {
      const done = (await fill(rollout, places)) && (await fixClaims(rollout, condemned)) && (await shrink(rollout, places, condemned));
      if (done && strategyOf(set) === 'RollingUpdate') deleted = await replaceOutdated(rollout, places);
    } catch (e) {
      error = e;
    }
  }
  const all = [...places.flatMap((p) => p.pod ?? []), ...condemned];
  return { status: statusOf(rollout, all, deleted), error };
}

/** Runs for each in turn until one says stop, or for all at once where the set is parallel. False where something has to be waited for. */
async function forEach<T>(rollout: StatefulRollout, items: T[], act: (item: T) => Promise<'go on' | 'stop'>): Promise<boolean> {
  if (isParallel(rollout.set)) {
    const { error } = await slowStart(items.length, async (i) => void (await act(items[i]!)));
    if (error) throw error;
    return true;
  }
  for (const item of items) if ((await act(item)) === 'stop') return false;
  return true;
}

const isTerminating = (pod: Pod) => !!pod.metadata.deletionTimestamp;
const isRunningAndReady = (pod: Pod) => pod.status?.phase === 'Running' && isPodReady(pod);
const isAvailable = (r: StatefulRollout, pod: Pod | undefined) => !!pod && isPodAvailable(pod, r.set.spec.minReadySeconds ?? 0, r.now);
const isUnavailable = (r: StatefulRollout, pod: Pod | undefined) => !pod || !isAvailable(r, pod) || isTerminating(pod);

/** Creates missing pods, replaces those that have ended; in order, each only when the one before is available. */
function fill(rollout: StatefulRollout, places: Place[]): Promise<boolean> {
  const { set, pods } = rollout;
  return forEach(rollout, places, async (place) => {
    const { pod, ordinal } = place;
    if (!pod) {
      if (pods.claims.isStale(set, { metadata: { name: `${set.metadata.name}-${ordinal}`, namespace: set.metadata.namespace } })) return 'stop';
      const revision = isBelowPartition(set, ordinal) ? rollout.current : rollout.update;
      place.pod = await pods.create(set, { template: templateOf(revision), revision: revision.metadata.name, ordinal });
      return 'stop';
    }
    if (isPodTerminal(pod)) {
      if (!isTerminating(pod)) await pods.delete(set, pod);
      return 'stop';
    }
    if (pod.status?.phase === 'Pending') await pods.completeClaims(set, pod);
    if (!isParallel(set) && (isTerminating(pod) || !isRunningAndReady(pod) || !isAvailable(rollout, pod))) return 'stop';
    await pods.repair(set, pod);
    return 'go on';
  });
}

/** New pods below the partition come from the current revision. Without a rollingUpdate section those do that had it before. */
function isBelowPartition(set: StatefulSet, ordinal: number): boolean {
  const { rollingUpdate } = set.spec.updateStrategy ?? {};
  if (rollingUpdate) return ordinal < firstOrdinal(set) + (rollingUpdate.partition ?? 0);
  return strategyOf(set) === 'RollingUpdate' && ordinal < firstOrdinal(set) + (set.status?.currentReplicas ?? 0);
}

function fixClaims(rollout: StatefulRollout, condemned: Pod[]): Promise<boolean> {
  const { set, pods } = rollout;
  return forEach(rollout, condemned, async (pod) => {
    if (!pods.claims.retentionMatches(set, pod)) await pods.claims.applyRetention(set, pod);
    return 'go on';
  });
}

/** Deletes pods beyond the range, the highest first; in order, each only while all others are available. */
function shrink(rollout: StatefulRollout, places: Place[], condemned: Pod[]): Promise<boolean> {
  const { set, pods } = rollout;
  const firstUnhealthy = places.find((p) => isUnavailable(rollout, p.pod))?.pod ?? [...condemned].reverse().find((p) => isUnavailable(rollout, p));
  return forEach(rollout, condemned, async (pod) => {
    if (isTerminating(pod)) return 'stop';
    const healthy = isRunningAndReady(pod) && isAvailable(rollout, pod);
    if (!isParallel(set) && !healthy && pod !== firstUnhealthy) return 'stop';
    await pods.delete(set, pod);
    return 'stop';
  });
}

/** Deletes pods of another revision, the highest first, as many as maxUnavailable leaves room for. Returns how many. */
async function replaceOutdated(rollout: StatefulRollout, places: Place[]): Promise<number> {
  const { set, pods } = rollout;
  const { partition = 0, maxUnavailable } = set.spec.updateStrategy?.rollingUpdate ?? {};
  const isOld = (pod: Pod | undefined): pod is Pod => !!pod && revisionNameOf(pod) !== rollout.update.metadata.name;
  let room = Math.max(1, scaledValue(maxUnavailable ?? 1, replicasOf(set), false));
  room -= places.filter((p) => isUnavailable(rollout, p.pod)).length;
  const candidates = places.slice(partition).reverse();
  let deleted = 0;
  const remove = async (pod: Pod) => {
    await pods.delete(set, pod);
    if (revisionNameOf(pod) === rollout.current.metadata.name) deleted++;
  };
  if (isParallel(set)) {
    // Those that serve nobody go first, and cost nothing.
    for (const { pod } of candidates) if (isOld(pod) && !isAvailable(rollout, pod) && !isTerminating(pod)) await remove(pod);
  }
  for (const { pod } of candidates) {
    if (room <= 0) break;
    if (!isOld(pod) || isTerminating(pod) || (isParallel(set) && isUnavailable(rollout, pod))) continue;
    await remove(pod);
    room--;
  }
  return deleted;
}

function statusOf({ set, current, update, collisionCount, now }: StatefulRollout, pods: Pod[], deleted: number): StatefulSetStatus {
  const minReady = set.spec.minReadySeconds ?? 0;
  const ready = pods.filter(isRunningAndReady);
  const ofRevision = (name: string) => pods.filter((p) => !isTerminating(p) && revisionNameOf(p) === name).length;
  const status: StatefulSetStatus = {
    observedGeneration: set.metadata.generation,
    replicas: pods.length,
    readyReplicas: ready.length,
    availableReplicas: ready.filter((p) => isPodAvailable(p, minReady, now)).length,
    currentReplicas: Math.max(0, ofRevision(current.metadata.name) - deleted),
    updatedReplicas: ofRevision(update.metadata.name),
    currentRevision: current.metadata.name,
    updateRevision: update.metadata.name,
    collisionCount,
    conditions: set.status?.conditions,
  };
  const wanted = replicasOf(set);
  // With the last pod updated, the new revision is the current one.
  if (status.updatedReplicas === wanted && status.readyReplicas === wanted && status.replicas === wanted) {
    status.currentReplicas = status.updatedReplicas;
    status.currentRevision = status.updateRevision;
  }
  return status;
}
