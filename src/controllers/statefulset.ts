import { keyOf } from '../api/object.ts';
import type { StatefulSet } from '../api/generated/types.ts';
import { resources } from '../api/generated/resources.ts';
import type { Controller, ControllerContext } from './controller.ts';
import { Expectations } from './expectations.ts';
import { followPods } from './followers.ts';
import { claim, indexByController } from './ownership.ts';
import { untilAvailable } from './pod-facts.ts';
import { startReconciler } from './reconciler.ts';
import { currentRevision, revisionsOf, truncateRevisions } from './revisions.ts';
import { StatefulClaims } from './statefulset/claims.ts';
import { isMember, revisionNameOf } from './statefulset/identity.ts';
import { StatefulPods } from './statefulset/pods.ts';
import { step } from './statefulset/rollout.ts';
import { writeStatus } from './status-writer.ts';

/**
 * StatefulSets: pods with a lasting name, place and storage. Watches StatefulSets, pods, claims and ControllerRevisions.
 *
 * Never are there two pods of one identity: a pod is replaced only when its object is gone, and a pod on a node that does not
 * answer stays until somebody has made sure that it does not run (the node is deleted, or marked out of service).
 */
export function startStatefulSetController(context: ControllerContext): Controller {
  const { client, clock, informers } = context;
  const sets = informers.informer(resources.statefulsets);
  const pods = informers.informer(resources.pods);
  const claims = informers.informer(resources.persistentvolumeclaims);
  const revisions = informers.informer(resources.controllerrevisions);
  const expectations = new Expectations(clock);
  const control = new StatefulPods(context, expectations, new StatefulClaims(context, claims));
  indexByController(pods);
  indexByController(revisions);
  const waitFor = [sets, pods, claims, revisions];
  const loop = startReconciler(context, { name: 'statefulset-controller', workers: 5, waitFor, reconcile });
  const enqueue = (set: StatefulSet) => loop.enqueue(keyOf(set));

  sets.addHandlers({
    onAdd: enqueue,
    onUpdate(before, after) {
      if (before.metadata.uid !== after.metadata.uid) expectations.forget(keyOf(before));
      enqueue(after);
    },
    onDelete(set) {
      expectations.forget(keyOf(set));
      enqueue(set);
    },
  });
  followPods<StatefulSet>({
    kind: 'StatefulSet',
    owners: sets,
    pods,
    selectorOf: (set) => set.spec.selector,
    enqueue,
    onCreated: (set) => expectations.creationObserved(keyOf(set)),
    onGoing: (set, pod) => expectations.deletionObserved(keyOf(set), pod.metadata.uid),
    onReady(set) {
      if (set.spec.minReadySeconds) loop.enqueueAfter(keyOf(set), set.spec.minReadySeconds * 1000);
    },
  });
  return loop;

  async function reconcile(key: string): Promise<void> {
    const set = sets.get(key);
    if (!set) return expectations.forget(key);
    // The event that is missing enqueues the key; the timer is for one that never comes.
    if (!expectations.satisfied(key)) return loop.enqueueAfter(key, 60_000);
    const history = await revisionsOf(context, set, resources.statefulsets, revisions);
    const owned = await claim({
      client,
      owner: set,
      ownerType: resources.statefulsets,
      type: resources.pods,
      informer: pods,
      selector: set.spec.selector,
      filter: (pod) => isMember(set, pod),
    });
    const { revision: update, collisionCount } = await currentRevision(context, set, history, {
      hashLabel: 'controller.kubernetes.io/hash',
      collisionCount: set.status?.collisionCount ?? 0,
    });
    const current = history.find((r) => r.metadata.name === set.status?.currentRevision) ?? update;
    const now = clock.now();
    const { status, error } = await step({ set, current, update, collisionCount, pods: control, now }, owned);
    await writeStatus(context, resources.statefulsets, set, () => status);
    const used = new Set([current.metadata.name, update.metadata.name, ...owned.map(revisionNameOf)]);
    await truncateRevisions(context, history, (r) => used.has(r.metadata.name), set.spec.revisionHistoryLimit ?? 10);
    if (error) throw error;
    const wait = set.spec.minReadySeconds ?? 0;
    if (wait > 0 && status.readyReplicas !== status.availableReplicas) loop.enqueueAfter(key, untilAvailable(owned, wait, now));
  }
}
