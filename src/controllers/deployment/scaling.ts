import type { Deployment, ReplicaSet } from '../../api/generated/types.ts';
import { resources } from '../../api/generated/resources.ts';
import type { ControllerContext } from '../controller.ts';
import { active, DESIRED_REPLICAS, isRolling, MAX_REPLICAS, maxSurgeOf, newestFirst, oldestFirst, replicasOf, sum } from './facts.ts';
import { allSets, type Rollout } from './replicasets.ts';

/** Gives a ReplicaSet a size, and notes what the Deployment wanted at that time. Returns the ReplicaSet as it is now. */
export async function resize({ client, events }: ControllerContext, rollout: Rollout, rs: ReplicaSet, size: number): Promise<ReplicaSet> {
  const d = rollout.deployment;
  const before = replicasOf(rs);
  const notes = { [DESIRED_REPLICAS]: String(replicasOf(d)), [MAX_REPLICAS]: String(replicasOf(d) + maxSurgeOf(d)) };
  const noted = Object.entries(notes).every(([k, v]) => rs.metadata.annotations?.[k] === v);
  if (before === size && noted) return rs;
  const metadata = { ...rs.metadata, annotations: { ...rs.metadata.annotations, ...notes } };
  const after = await client.update(resources.replicasets, { ...rs, metadata, spec: { ...rs.spec, replicas: size } });
  if (before !== size) {
    const direction = size > before ? 'up' : 'down';
    events.event(d, 'Normal', 'ScalingReplicaSet', `Scaled ${direction} replica set ${rs.metadata.name} from ${before} to ${size}`);
  }
  if (rollout.newSet?.metadata.uid === after.metadata.uid) rollout.newSet = after;
  else rollout.old = rollout.old.map((o) => (o.metadata.uid === after.metadata.uid ? after : o));
  return after;
}

/** True where spec.replicas changed since the ReplicaSets were last sized: then sizes follow before a rollout goes on. */
export function isScaling(rollout: Rollout): boolean {
  return active(allSets(rollout)).some((rs) => {
    const desired = rs.metadata.annotations?.[DESIRED_REPLICAS];
    return desired !== undefined && Number(desired) !== replicasOf(rollout.deployment);
  });
}

/** Brings the sizes in line with spec.replicas: the one active ReplicaSet, or all in proportion in the middle of a rollout. */
export async function scale(context: ControllerContext, rollout: Rollout): Promise<void> {
  const { deployment: d, newSet, old } = rollout;
  const only = activeOrLatest(rollout);
  if (only) {
    if (replicasOf(only) !== replicasOf(d)) await resize(context, rollout, only, replicasOf(d));
    return;
  }
  if (newSet && isSaturated(d, newSet)) {
    for (const rs of active(old)) await resize(context, rollout, rs, 0);
    return;
  }
  if (isRolling(d)) await scaleInProportion(context, rollout);
}

function activeOrLatest({ newSet, old }: Rollout): ReplicaSet | undefined {
  const candidates = active(newSet ? [newSet, ...old] : old);
  if (candidates.length === 1) return candidates[0];
  if (candidates.length > 1) return undefined;
  return newSet ?? [...old].sort(newestFirst)[0];
}

function isSaturated(d: Deployment, rs: ReplicaSet): boolean {
  const wanted = replicasOf(d);
  return Number(rs.metadata.annotations?.[DESIRED_REPLICAS]) === wanted && replicasOf(rs) === wanted && rs.status?.availableReplicas === wanted;
}

async function scaleInProportion(context: ControllerContext, rollout: Rollout): Promise<void> {
  const d = rollout.deployment;
  const allowed = replicasOf(d) > 0 ? replicasOf(d) + maxSurgeOf(d) : 0;
  const sets = active(allSets(rollout));
  const toAdd = allowed - sum(sets, replicasOf);
  // Growth goes to the larger and newer ones first, shrinking to the larger and older ones.
  sets.sort((a, b) => replicasOf(b) - replicasOf(a) || (toAdd > 0 ? newestFirst(a, b) : oldestFirst(a, b)));
  let added = 0;
  const sizes = sets.map((rs) => {
    const share = toAdd === 0 || toAdd === added ? 0 : proportionOf(rs, d, toAdd - added);
    added += share;
    return replicasOf(rs) + share;
  });
  // What rounding left over goes to the first.
  if (sizes.length && toAdd !== 0) sizes[0] = Math.max(0, sizes[0]! + toAdd - added);
  for (const [i, rs] of sets.entries()) await resize(context, rollout, rs, sizes[i]!);
}

function proportionOf(rs: ReplicaSet, d: Deployment, left: number): number {
  if (replicasOf(d) === 0) return Math.max(-replicasOf(rs), left);
  const maxBefore = Number(rs.metadata.annotations?.[MAX_REPLICAS]) || d.status?.replicas || 1;
  const size = Math.round((replicasOf(rs) * (replicasOf(d) + maxSurgeOf(d))) / maxBefore);
  const share = size - replicasOf(rs);
  return left > 0 ? Math.min(share, left) : Math.max(share, left);
}
