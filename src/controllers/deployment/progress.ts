import type { Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet } from '../../api/generated/types.ts';
import type { Clock } from '../../client/clock.ts';
import { millis, timestamp } from '../timestamps.ts';
import { conditionOf, maxUnavailableOf, replicasOf, sum, withCondition, withoutCondition } from './facts.ts';

export function newCondition(clock: Clock, type: string, status: string, reason: string, message: string): DeploymentCondition {
  const now = timestamp(clock);
  return { type, status, lastUpdateTime: now, lastTransitionTime: now, reason, message };
}

/** The status that follows from the ReplicaSets, with the condition Available. */
export function statusOf(d: Deployment, all: ReplicaSet[], newSet: ReplicaSet | undefined, clock: Clock): DeploymentStatus {
  const availableReplicas = sum(all, (rs) => rs.status?.availableReplicas);
  const enough = availableReplicas >= replicasOf(d) - maxUnavailableOf(d);
  const available = enough
    ? newCondition(clock, 'Available', 'True', 'MinimumReplicasAvailable', 'Deployment has minimum availability.')
    : newCondition(clock, 'Available', 'False', 'MinimumReplicasUnavailable', 'Deployment does not have minimum availability.');
  const { collisionCount } = d.status ?? {};
  return {
    observedGeneration: d.metadata.generation,
    replicas: sum(all, (rs) => rs.status?.replicas),
    updatedReplicas: newSet?.status?.replicas ?? 0,
    readyReplicas: sum(all, (rs) => rs.status?.readyReplicas),
    availableReplicas,
    unavailableReplicas: Math.max(0, sum(all, replicasOf) - availableReplicas),
    terminatingReplicas: sum(all, (rs) => rs.status?.terminatingReplicas),
    ...(collisionCount === undefined ? {} : { collisionCount }),
    conditions: withCondition(d.status?.conditions ?? [], available),
  };
}

export function isComplete(d: Deployment, status: DeploymentStatus): boolean {
  const wanted = replicasOf(d);
  return (
    (status.updatedReplicas ?? 0) === wanted &&
    (status.replicas ?? 0) === wanted &&
    (status.availableReplicas ?? 0) === wanted &&
    (status.observedGeneration ?? 0) >= (d.metadata.generation ?? 0)
  );
}

function isProgressing(before: DeploymentStatus, after: DeploymentStatus): boolean {
  const old = (s: DeploymentStatus) => (s.replicas ?? 0) - (s.updatedReplicas ?? 0);
  return (
    (after.updatedReplicas ?? 0) > (before.updatedReplicas ?? 0) ||
    old(after) < old(before) ||
    (after.readyReplicas ?? 0) > (before.readyReplicas ?? 0) ||
    (after.availableReplicas ?? 0) > (before.availableReplicas ?? 0)
  );
}

function hasTimedOut(d: Deployment, status: DeploymentStatus, now: number): boolean {
  const condition = conditionOf(status.conditions, 'Progressing');
  if (d.spec.progressDeadlineSeconds === undefined || !condition || condition.reason === 'NewReplicaSetAvailable') return false;
  if (condition.reason === 'ProgressDeadlineExceeded') return true;
  return millis(condition.lastUpdateTime) + d.spec.progressDeadlineSeconds * 1000 < now;
}

/** The conditions Progressing and ReplicaFailure of a rollout under way. */
export function withRolloutConditions(
  d: Deployment,
  all: ReplicaSet[],
  newSet: ReplicaSet | undefined,
  status: DeploymentStatus,
  clock: Clock,
): DeploymentStatus {
  let conditions = status.conditions ?? [];
  const subject = newSet ? `ReplicaSet "${newSet.metadata.name}"` : `Deployment "${d.metadata.name}"`;
  const current = conditionOf(conditions, 'Progressing');
  if (d.spec.progressDeadlineSeconds === undefined) conditions = withoutCondition(conditions, 'Progressing');
  else if (!(status.replicas === status.updatedReplicas && current?.reason === 'NewReplicaSetAvailable')) {
    if (isComplete(d, status)) {
      conditions = withCondition(
        conditions,
        newCondition(clock, 'Progressing', 'True', 'NewReplicaSetAvailable', `${subject} has successfully progressed.`),
      );
    } else if (isProgressing(d.status ?? {}, status)) {
      const condition = newCondition(clock, 'Progressing', 'True', 'ReplicaSetUpdated', `${subject} is progressing.`);
      // Set anew even where reason and status hold already: the deadline counts from the last progress.
      if (current?.status === 'True') condition.lastTransitionTime = current.lastTransitionTime;
      conditions = [...withoutCondition(conditions, 'Progressing'), condition];
    } else if (hasTimedOut(d, status, clock.now())) {
      conditions = withCondition(
        conditions,
        newCondition(clock, 'Progressing', 'False', 'ProgressDeadlineExceeded', `${subject} has timed out progressing.`),
      );
    }
  }
  const failure = replicaFailure(all, newSet);
  conditions = failure ? withCondition(conditions, failure) : withoutCondition(conditions, 'ReplicaFailure');
  return { ...status, conditions };
}

function replicaFailure(all: ReplicaSet[], newSet: ReplicaSet | undefined): DeploymentCondition | undefined {
  for (const rs of newSet ? [newSet, ...all] : all) {
    const c = rs.status?.conditions?.find((x) => x.type === 'ReplicaFailure');
    if (!c) continue;
    const { type, status, reason, message, lastTransitionTime } = c;
    return { type, status, reason, message, lastTransitionTime, lastUpdateTime: lastTransitionTime };
  }
  return undefined;
}

/** Milliseconds until the deadline is to be looked at again, or undefined where nothing is pending. */
export function untilDeadline(d: Deployment, status: DeploymentStatus, now: number): number | undefined {
  const condition = conditionOf(d.status?.conditions, 'Progressing');
  if (d.spec.progressDeadlineSeconds === undefined || !condition) return undefined;
  if (isComplete(d, status) || condition.reason === 'ProgressDeadlineExceeded' || condition.reason === 'NewReplicaSetAvailable') return undefined;
  return Math.max(1000, millis(condition.lastUpdateTime) + d.spec.progressDeadlineSeconds * 1000 - now + 1000);
}
