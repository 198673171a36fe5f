import type { Pod, ReplicaSet } from '../../api/generated/types.ts';
import { isNotFound } from '../../api/errors.ts';
import { resources } from '../../api/generated/resources.ts';
import type { ControllerContext } from '../controller.ts';
import { isPodTerminal } from '../pod-facts.ts';
import { active, maxUnavailableOf, newReplicaSetSize, oldestFirst, replicasOf, revisionOf, sum } from './facts.ts';
import { isComplete } from './progress.ts';
import { allSets, type Rollout } from './replicasets.ts';
import { resize } from './scaling.ts';

/** One step of a rolling update: grow the new ReplicaSet as far as the surge allows, else shrink the old ones as far as availability allows. */
export async function rollOn(context: ControllerContext, rollout: Rollout): Promise<void> {
  const { deployment: d, newSet } = rollout;
  const size = replicasOf(newSet!) > replicasOf(d) ? replicasOf(d) : newReplicaSetSize(d, allSets(rollout), replicasOf(newSet!));
  if (size !== replicasOf(newSet!)) {
    await resize(context, rollout, newSet!, size);
    return;
  }
  if (await shrinkOld(context, rollout)) return;
  if (isComplete(d, d.status ?? {})) await cleanUp(context, rollout);
}

async function shrinkOld(context: ControllerContext, rollout: Rollout): Promise<boolean> {
  const { deployment: d, newSet } = rollout;
  if (sum(rollout.old, replicasOf) === 0) return false;
  const minAvailable = replicasOf(d) - maxUnavailableOf(d);
  const newUnavailable = replicasOf(newSet!) - (newSet!.status?.availableReplicas ?? 0);
  const most = sum(allSets(rollout), replicasOf) - minAvailable - newUnavailable;
  if (most <= 0) return false;
  const unhealthy = await shrinkEach(context, rollout, most, (rs) => Math.max(0, replicasOf(rs) - (rs.status?.availableReplicas ?? 0)));
  const spare = sum(allSets(rollout), (rs) => rs.status?.availableReplicas) - minAvailable;
  const healthy = spare > 0 ? await shrinkEach(context, rollout, spare, replicasOf) : 0;
  return unhealthy + healthy > 0;
}

/** Takes up to `most` pods from the old ReplicaSets, oldest first, and from each at most what `from` says. */
async function shrinkEach(context: ControllerContext, rollout: Rollout, most: number, from: (rs: ReplicaSet) => number): Promise<number> {
  let taken = 0;
  for (const rs of active(rollout.old).sort(oldestFirst)) {
    const count = Math.min(most - taken, from(rs));
    if (count <= 0) continue;
    await resize(context, rollout, rs, replicasOf(rs) - count);
    taken += count;
  }
  return taken;
}

/** Recreate, first half: ends all old pods. True when none is left that still runs. */
export async function oldAreGone(context: ControllerContext, rollout: Rollout, podsOf: (rs: ReplicaSet) => Pod[]): Promise<boolean> {
  const running = active(rollout.old);
  for (const rs of running) await resize(context, rollout, rs, 0);
  if (running.length || sum(rollout.old, (rs) => rs.status?.replicas) > 0) return false;
  return !rollout.old.some((rs) => podsOf(rs).some((pod) => !isPodTerminal(pod)));
}

/** Recreate, second half: the new ReplicaSet at full size. */
export async function growNew(context: ControllerContext, rollout: Rollout): Promise<void> {
  const { deployment: d, newSet } = rollout;
  if (replicasOf(newSet!) !== replicasOf(d)) await resize(context, rollout, newSet!, replicasOf(d));
  else if (isComplete(d, d.status ?? {})) await cleanUp(context, rollout);
}

/** Deletes old ReplicaSets beyond revisionHistoryLimit, oldest revision first. */
export async function cleanUp({ client }: ControllerContext, { deployment, old }: Rollout): Promise<void> {
  const limit = deployment.spec.revisionHistoryLimit;
  if (limit === undefined || limit === 2147483647) return;
  const candidates = old.filter((rs) => !rs.metadata.deletionTimestamp).sort((a, b) => Number(revisionOf(a) - revisionOf(b)) || oldestFirst(a, b));
  for (const rs of candidates.slice(0, Math.max(0, candidates.length - limit))) {
    const busy = rs.status?.replicas || replicasOf(rs) || (rs.metadata.generation ?? 0) > (rs.status?.observedGeneration ?? 0);
    if (busy) continue;
    await client
      .delete(resources.replicasets, rs.metadata, { preconditions: { uid: rs.metadata.uid }, propagationPolicy: 'Background' })
      .catch((error) => {
        if (!isNotFound(error)) throw error;
      });
  }
}
