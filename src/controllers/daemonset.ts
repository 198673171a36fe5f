import { keyOf } from '../api/object.ts';
import type { DaemonSet, Node, Pod } from '../api/generated/types.ts';
import { resources } from '../api/generated/resources.ts';
import { Backoff } from './backoff.ts';
import { semanticEqual } from './canonical.ts';
import type { Controller, ControllerContext } from './controller.ts';
import { daemonPod, Placement, targetNodeOf } from './daemonset/placement.ts';
import { type DaemonPlan, type DaemonView, placementPlan, rollingPlan, statusOf } from './daemonset/plan.ts';
import { Expectations, slowStart } from './expectations.ts';
import { followPods } from './followers.ts';
import { claim, controllerOf, indexByController } from './ownership.ts';
import { createPod, deletePod, isNamespaceTerminating } from './pod-control.ts';
import { isPodTerminal, untilAvailable } from './pod-facts.ts';
import { startReconciler } from './reconciler.ts';
import { currentRevision, REVISION_LABEL, revisionsOf, truncateRevisions } from './revisions.ts';
import { writeStatus } from './status-writer.ts';

/** The most pods created or deleted by one reconciliation. */
const BURST = 250;
const ON_NODE = 'daemon-on-node';

/** DaemonSets: one pod on every node that fits. Watches DaemonSets, pods, nodes and ControllerRevisions. */
export function startDaemonSetController(context: ControllerContext): Controller {
  const { client, clock, events, informers } = context;
  const daemonSets = informers.informer(resources.daemonsets);
  const pods = informers.informer(resources.pods);
  const nodes = informers.informer(resources.nodes);
  const revisions = informers.informer(resources.controllerrevisions);
  const expectations = new Expectations(clock);
  const failures = new Backoff(clock, 1000, 15 * 60_000);
  indexByController(pods);
  indexByController(revisions);
  pods.addIndex(ON_NODE, (pod) => {
    const owner = controllerOf(pod);
    return owner?.kind === 'DaemonSet' ? [`${owner.uid}/${targetNodeOf(pod)}`] : [];
  });
  const waitFor = [daemonSets, pods, nodes, revisions];
  const loop = startReconciler(context, { name: 'daemonset-controller', workers: 2, waitFor, reconcile });
  const enqueue = (ds: DaemonSet) => loop.enqueue(keyOf(ds));

  daemonSets.addHandlers({
    onAdd: enqueue,
    onUpdate(before, after) {
      if (before.metadata.uid !== after.metadata.uid) expectations.forget(keyOf(before));
      enqueue(after);
    },
    onDelete(ds) {
      expectations.forget(keyOf(ds));
      failures.forget(ds.metadata.uid);
      enqueue(ds);
    },
  });
  followPods<DaemonSet>({
    kind: 'DaemonSet',
    owners: daemonSets,
    pods,
    selectorOf: (ds) => ds.spec.selector,
    enqueue,
    onCreated: (ds) => expectations.creationObserved(keyOf(ds)),
    onGoing: (ds, pod) => expectations.deletionObserved(keyOf(ds), pod.metadata.uid),
    onReady(ds) {
      if (ds.spec.minReadySeconds) loop.enqueueAfter(keyOf(ds), ds.spec.minReadySeconds * 1000 + 1000);
    },
  });
  nodes.addHandlers({
    onAdd: nodeChanged,
    onUpdate(before, after) {
      const same = semanticEqual(before.metadata.labels, after.metadata.labels) && semanticEqual(before.spec.taints, after.spec.taints);
      if (!same) nodeChanged(after);
    },
    onDelete(node) {
      for (const ds of daemonSets.list()) if (new Placement(ds).judge(node).goOn) enqueue(ds);
    },
  });
  return loop;

  function nodeChanged(node: Node): void {
    for (const ds of daemonSets.list()) {
      const { run, goOn } = new Placement(ds).judge(node);
      const there = pods.byIndex(ON_NODE, `${ds.metadata.uid}/${node.metadata.name}`).length > 0;
      // Where a pod is and may be, the node still counts as well placed or not.
      if (run !== there || (there && (!goOn || (ds.status?.numberMisscheduled ?? 0) > 0))) enqueue(ds);
    }
  }

  async function reconcile(key: string): Promise<void> {
    const ds = daemonSets.get(key);
    if (!ds) return expectations.forget(key);
    const { selector } = ds.spec;
    if (!Object.keys(selector.matchLabels ?? {}).length && !selector.matchExpressions?.length) {
      events.event(ds, 'Warning', 'SelectingAll', 'This daemon set is selecting all pods. A non-empty selector is required.');
      return;
    }
    if (ds.metadata.deletionTimestamp) return;
    const settled = expectations.satisfied(key);
    const history = await revisionsOf(context, ds, resources.daemonsets, revisions);
    const options = { hashLabel: REVISION_LABEL, collisionCount: ds.status?.collisionCount ?? 0 };
    const { revision, collisionCount } = await currentRevision(context, ds, history, options);
    const hash = revision.metadata.labels?.[REVISION_LABEL] ?? revision.metadata.name;
    let view = await look(ds, hash);
    let failure: unknown;
    if (settled) {
      const placing = placementPlan(view, mayGo(key, ds));
      const rolling = (ds.spec.updateStrategy?.type ?? 'RollingUpdate') === 'RollingUpdate';
      // One after the other: the second plan must see what the first one did.
      const plan = placing.create.length || placing.remove.length || !rolling ? placing : rollingPlan(view);
      failure = await carryOut(key, ds, hash, plan);
      view = await look(ds, hash);
    }
    await writeStatus(context, resources.daemonsets, ds, (current) => statusOf(view, current.status, collisionCount, settled));
    if (failure) throw failure;
    const owned = [...view.byNode.values()].flat();
    const used = new Set([hash, ...owned.map((p) => p.metadata.labels?.[REVISION_LABEL])]);
    await truncateRevisions(context, history, (r) => used.has(r.metadata.labels?.[REVISION_LABEL]), ds.spec.revisionHistoryLimit ?? 10);
    const wait = ds.spec.minReadySeconds ?? 0;
    if (wait > 0) loop.enqueueAfter(key, untilAvailable(owned, wait, clock.now()));
  }

  async function look(ds: DaemonSet, hash: string): Promise<DaemonView> {
    const { selector } = ds.spec;
    const owned = await claim({ client, owner: ds, ownerType: resources.daemonsets, type: resources.pods, informer: pods, selector });
    const byNode = new Map<string, Pod[]>();
    for (const pod of owned) {
      if (isPodTerminal(pod) && pod.metadata.deletionTimestamp) continue;
      const node = targetNodeOf(pod);
      if (node === undefined) continue;
      const there = byNode.get(node);
      if (there) there.push(pod);
      else byNode.set(node, [pod]);
    }
    return { ds, hash, nodes: nodes.list(), placement: new Placement(ds), byNode, now: clock.now() };
  }

  /** Ended pods are replaced; those that failed with growing delays, so that a node does not make and fail pods without end. */
  function mayGo(key: string, ds: DaemonSet): (pod: Pod, node: string) => boolean {
    return (pod, node) => {
      const { namespace, name } = pod.metadata;
      if (pod.status?.phase === 'Succeeded') {
        events.event(ds, 'Normal', 'SucceededDaemonPod', `Found succeeded daemon pod ${namespace}/${name} on node ${node}, will try to delete it`);
        return true;
      }
      const entry = `${ds.metadata.uid}/${ds.status?.observedGeneration ?? 0}/${node}`;
      const wait = failures.remaining(entry);
      if (wait > 0) {
        loop.enqueueAfter(key, wait);
        return false;
      }
      failures.next(entry);
      events.event(ds, 'Warning', 'FailedDaemonPod', `Found failed daemon pod ${namespace}/${name} on node ${node}, will try to kill it`);
      return true;
    };
  }

  /** Creates and deletes. Returns the first error. */
  async function carryOut(key: string, ds: DaemonSet, hash: string, plan: DaemonPlan): Promise<unknown> {
    const create = plan.create.slice(0, BURST);
    const remove = plan.remove.slice(0, BURST);
    if (!create.length && !remove.length) return undefined;
    expectations.expect(
      key,
      create.length,
      remove.map((p) => p.metadata.uid),
    );
    const { succeeded, error } = await slowStart(create.length, async (i) => {
      await createPod(context, ds, daemonPod(ds, create[i]!, hash));
    });
    if (succeeded < create.length) expectations.creationObserved(key, create.length - succeeded);
    const results = await Promise.allSettled(
      remove.map(async (pod) => {
        try {
          if (!(await deletePod(context, ds, pod))) expectations.deletionObserved(key, pod.metadata.uid);
        } catch (e) {
          expectations.deletionObserved(key, pod.metadata.uid);
          throw e;
        }
      }),
    );
    if (error && !isNamespaceTerminating(error)) return error;
    return results.find((r) => r.status === 'rejected')?.reason;
  }
}
