import { keyOf } from '../api/object.ts';
import { labelSelectorMatches } from '../api/selectors.ts';
import type { Deployment, DeploymentStatus, Pod, ReplicaSet } from '../api/generated/types.ts';
import { resources } from '../api/generated/resources.ts';
import { statusEqual } from './canonical.ts';
import type { Controller, ControllerContext } from './controller.ts';
import { conditionOf, findNewReplicaSet, isRolling } from './deployment/facts.ts';
import { newCondition, statusOf, untilDeadline, withRolloutConditions } from './deployment/progress.ts';
import { allSets, findSets, type Rollout, setCondition } from './deployment/replicasets.ts';
import { cleanUp, growNew, oldAreGone, rollOn } from './deployment/rollout.ts';
import { isScaling, scale } from './deployment/scaling.ts';
import { Freshness, noting } from './freshness.ts';
import { claim, controlledBy, controllerOf, indexByController } from './ownership.ts';
import { startReconciler } from './reconciler.ts';

/**
 * Deployments: keeps one ReplicaSet per pod template and moves pods from the old ones to the new one.
 * Watches Deployments and ReplicaSets, and pods for the strategy Recreate.
 */
export function startDeploymentController(shared: ControllerContext): Controller {
  const freshness = new Freshness();
  const client = noting(shared.client, freshness);
  const context: ControllerContext = { ...shared, client };
  const { clock, events, informers } = context;
  const deployments = informers.informer(resources.deployments);
  const replicaSets = informers.informer(resources.replicasets);
  const pods = informers.informer(resources.pods);
  indexByController(replicaSets);
  indexByController(pods);
  const loop = startReconciler(context, { name: 'deployment-controller', workers: 20, waitFor: [deployments, replicaSets, pods], reconcile });

  const ownerOf = (rs: ReplicaSet): Deployment | undefined => {
    const ref = controllerOf(rs);
    const owner = ref?.kind === 'Deployment' ? deployments.get(`${rs.metadata.namespace}/${ref.name}`) : undefined;
    return owner?.metadata.uid === ref?.uid ? owner : undefined;
  };
  const enqueue = (d: Deployment | undefined) => {
    if (d) loop.enqueue(keyOf(d));
  };
  const enqueueAdopters = (rs: ReplicaSet) => {
    if (controllerOf(rs)) return;
    for (const d of deployments.list(rs.metadata.namespace)) if (labelSelectorMatches(d.spec.selector, rs.metadata.labels)) enqueue(d);
  };
  const enqueueRecreating = (pod: Pod) => {
    const ref = controllerOf(pod);
    const rs = ref?.kind === 'ReplicaSet' ? replicaSets.get(`${pod.metadata.namespace}/${ref.name}`) : undefined;
    const d = rs && ownerOf(rs);
    if (d && !isRolling(d)) enqueue(d);
  };

  deployments.addHandlers({
    onAdd: enqueue,
    onUpdate: (_, after) => enqueue(after),
    onDelete(d) {
      freshness.forget(d);
      enqueue(d);
    },
  });
  replicaSets.addHandlers({
    onAdd(rs) {
      enqueue(ownerOf(rs));
      enqueueAdopters(rs);
    },
    onUpdate(before, after) {
      if (controllerOf(before)?.uid !== controllerOf(after)?.uid) enqueue(ownerOf(before));
      enqueue(ownerOf(after));
      enqueueAdopters(after);
    },
    onDelete(rs) {
      freshness.forget(rs);
      enqueue(ownerOf(rs));
    },
  });
  pods.addHandlers({ onDelete: enqueueRecreating });
  return loop;

  async function reconcile(key: string): Promise<void> {
    const deployment = deployments.get(key);
    if (!deployment) return;
    // What the cache does not show yet was written here, and its event brings the key again.
    if (freshness.isStale(deployment) || controlledBy(replicaSets, deployment.metadata.uid).some((rs) => freshness.isStale(rs))) return;
    const { selector } = deployment.spec;
    if (!Object.keys(selector.matchLabels ?? {}).length && !selector.matchExpressions?.length) {
      events.event(deployment, 'Warning', 'SelectingAll', 'This deployment is selecting all pods. A non-empty selector is required.');
      return;
    }
    const sets = await claim({
      client,
      owner: deployment,
      ownerType: resources.deployments,
      type: resources.replicasets,
      informer: replicaSets,
      selector,
    });
    let rollout = look(deployment, sets);
    if (deployment.metadata.deletionTimestamp) return writeStatus(key, rollout, false);
    await notePause(rollout);
    if (rollout.deployment.spec.paused || isScaling(rollout)) {
      rollout = await findSets(context, rollout.deployment, sets, false);
      await scale(context, rollout);
      if (rollout.deployment.spec.paused) await cleanUp(context, rollout);
      return writeStatus(key, rollout, false);
    }
    if (isRolling(deployment)) {
      rollout = await findSets(context, rollout.deployment, sets, true);
      await rollOn(context, rollout);
    } else {
      rollout = await findSets(context, rollout.deployment, sets, false);
      if (await oldAreGone(context, rollout, (rs) => controlledBy(pods, rs.metadata.uid))) {
        if (!rollout.newSet) rollout = await findSets(context, rollout.deployment, allSets(rollout), true);
        await growNew(context, rollout);
      }
    }
    await writeStatus(key, rollout, true);
  }

  /** What is there, without writing anything. */
  function look(deployment: Deployment, sets: ReplicaSet[]): Rollout {
    const newSet = findNewReplicaSet(deployment, sets);
    return { deployment, newSet, old: sets.filter((rs) => rs !== newSet) };
  }

  /** A pause stops the clock of progressDeadlineSeconds; the condition says since when. */
  async function notePause(rollout: Rollout): Promise<void> {
    const d = rollout.deployment;
    const condition = conditionOf(d.status?.conditions, 'Progressing');
    if (d.spec.progressDeadlineSeconds === undefined || condition?.reason === 'ProgressDeadlineExceeded') return;
    const noted = condition?.reason === 'DeploymentPaused';
    if (d.spec.paused && !noted)
      await setCondition(context, rollout, newCondition(clock, 'Progressing', 'Unknown', 'DeploymentPaused', 'Deployment is paused'));
    if (!d.spec.paused && noted)
      await setCondition(context, rollout, newCondition(clock, 'Progressing', 'Unknown', 'DeploymentResumed', 'Deployment is resumed'));
  }

  async function writeStatus(key: string, rollout: Rollout, rollingOut: boolean): Promise<void> {
    const { deployment: d, newSet } = rollout;
    let status: DeploymentStatus = statusOf(d, allSets(rollout), newSet, clock);
    if (rollingOut) status = withRolloutConditions(d, allSets(rollout), newSet, status, clock);
    if (!statusEqual(status, d.status)) {
      await client.update(resources.deployments, { ...d, status }, { subresource: 'status' });
    } else if (rollingOut) {
      const wait = untilDeadline(d, status, clock.now());
      if (wait !== undefined) loop.enqueueAfter(key, wait);
    }
  }
}
