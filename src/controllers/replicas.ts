import { type KubeObject, keyOf, type ResourceType } from '../api/object.ts';
import type { LabelSelector, Pod, PodTemplateSpec, ReplicaSetCondition } from '../api/generated/types.ts';
import { resources } from '../api/generated/resources.ts';
import type { Controller, ControllerContext } from './controller.ts';
import { Expectations, slowStart } from './expectations.ts';
import { followPods } from './followers.ts';
import { claim, controlledBy, indexByController } from './ownership.ts';
import { createPod, deletePod, isNamespaceTerminating, podFromTemplate } from './pod-control.ts';
import { inDeletionOrder, isPodActive, isPodAvailable, isPodReady, isPodTerminal, untilAvailable } from './pod-facts.ts';
import { startReconciler } from './reconciler.ts';
import { writeStatus } from './status-writer.ts';
import { timestamp } from './timestamps.ts';

/** What ReplicaSets and ReplicationControllers have in common. */
export interface ReplicaOwner extends KubeObject {
  spec: { replicas?: number; minReadySeconds?: number; template?: PodTemplateSpec };
  status?: ReplicaOwnerStatus;
}

export interface ReplicaOwnerStatus {
  replicas: number;
  fullyLabeledReplicas?: number;
  readyReplicas?: number;
  availableReplicas?: number;
  terminatingReplicas?: number;
  observedGeneration?: number;
  conditions?: ReplicaSetCondition[];
}

export interface ReplicaKind<T extends ReplicaOwner> {
  name: string;
  type: ResourceType<T>;
  selectorOf(owner: T): LabelSelector | undefined;
  /** Owners whose pods count as one family when pods are chosen for deletion. */
  family(owner: T): T[];
  reportsTerminating: boolean;
}

/** The most pods created or deleted by one reconciliation. */
const BURST = 500;

/**
 * Keeps as many pods as spec.replicas says. Watches its owners and pods. One implementation for ReplicaSets and
 * ReplicationControllers, which differ in the form of their selector only.
 */
export function startReplicaController<T extends ReplicaOwner>(context: ControllerContext, kind: ReplicaKind<T>): Controller {
  const { client, clock, informers } = context;
  const owners = informers.informer(kind.type);
  const pods = informers.informer(resources.pods);
  const expectations = new Expectations(clock);
  indexByController(pods);
  // Workers mostly wait for the API server: with many, their writes share its commits.
  const loop = startReconciler(context, { name: kind.name, workers: 20, waitFor: [owners, pods], reconcile });

  const enqueue = (owner: T) => loop.enqueue(keyOf(owner));

  owners.addHandlers({
    onAdd: enqueue,
    onUpdate(before, after) {
      if (before.metadata.uid !== after.metadata.uid) expectations.forget(keyOf(before));
      enqueue(after);
    },
    onDelete(owner) {
      expectations.forget(keyOf(owner));
      enqueue(owner);
    },
  });
  followPods<T>({
    kind: kind.type.kind,
    owners,
    pods,
    selectorOf: (owner) => kind.selectorOf(owner),
    enqueue,
    onCreated: (owner) => expectations.creationObserved(keyOf(owner)),
    onGoing: (owner, pod) => expectations.deletionObserved(keyOf(owner), pod.metadata.uid),
    // A pod that has just become ready becomes available without a further event.
    onReady(owner) {
      const wait = owner.spec.minReadySeconds ?? 0;
      if (wait > 0) loop.enqueueAfter(keyOf(owner), wait * 1000 + 1000);
    },
  });
  return loop;

  async function reconcile(key: string): Promise<void> {
    const owner = owners.get(key);
    if (!owner) return expectations.forget(key);
    const selector = kind.selectorOf(owner);
    const settled = expectations.satisfied(key);
    const all = await claim({ client, owner, ownerType: kind.type, type: resources.pods, informer: pods, selector, filter: isCountable });
    const active = all.filter(isPodActive);
    let failure: unknown;
    if (settled && !owner.metadata.deletionTimestamp) failure = await manage(key, owner, active);
    const fresh = await writeStatus(context, kind.type, owner, (current) => statusOf(current, active, all.filter(isTerminating), failure));
    if (failure && !isNamespaceTerminating(failure)) throw failure;
    // A recheck in case the update that starts the clock was the last one.
    const { readyReplicas = 0, availableReplicas = 0 } = fresh.status ?? {};
    const wait = owner.spec.minReadySeconds ?? 0;
    if (wait > 0 && readyReplicas > availableReplicas) loop.enqueueAfter(key, untilAvailable(active, wait, clock.now()));
  }

  /** Creates or deletes the difference. Returns the first error: what was done still counts in the status. */
  async function manage(key: string, owner: T, active: Pod[]): Promise<unknown> {
    const surplus = active.length - (owner.spec.replicas ?? 1);
    if (surplus < 0) {
      const count = Math.min(-surplus, BURST);
      expectations.expect(key, count);
      const { succeeded, error } = await slowStart(count, async () => {
        await createPod(context, owner, podFromTemplate(owner.spec.template!, owner));
      });
      if (succeeded < count) expectations.creationObserved(key, count - succeeded);
      return error;
    }
    if (surplus > 0) {
      const victims = chooseVictims(owner, active, Math.min(surplus, BURST));
      expectations.expect(
        key,
        0,
        victims.map((p) => p.metadata.uid),
      );
      const results = await Promise.allSettled(
        victims.map(async (pod) => {
          try {
            if (!(await deletePod(context, owner, pod))) expectations.deletionObserved(key, pod.metadata.uid);
          } catch (error) {
            expectations.deletionObserved(key, pod.metadata.uid);
            throw error;
          }
        }),
      );
      return results.find((r) => r.status === 'rejected')?.reason;
    }
    return undefined;
  }

  function chooseVictims(owner: T, active: Pod[], count: number): Pod[] {
    if (count >= active.length) return active;
    const onNode = new Map<string, number>();
    for (const member of kind.family(owner)) {
      for (const pod of controlledBy(pods, member.metadata.uid)) {
        if (isPodActive(pod) && pod.spec.nodeName) onNode.set(pod.spec.nodeName, (onNode.get(pod.spec.nodeName) ?? 0) + 1);
      }
    }
    return inDeletionOrder(active, (pod) => onNode.get(pod.spec.nodeName ?? '') ?? 0, clock.now()).slice(0, count);
  }

  function statusOf(owner: T, active: Pod[], terminating: Pod[], failure: unknown): ReplicaOwnerStatus {
    const wanted = Object.entries(owner.spec.template?.metadata?.labels ?? {});
    const minReady = owner.spec.minReadySeconds ?? 0;
    const ready = active.filter(isPodReady);
    return {
      ...owner.status,
      replicas: active.length,
      fullyLabeledReplicas: active.filter((p) => wanted.every(([k, v]) => p.metadata.labels?.[k] === v)).length,
      readyReplicas: ready.length,
      availableReplicas: ready.filter((p) => isPodAvailable(p, minReady, clock.now())).length,
      ...(kind.reportsTerminating ? { terminatingReplicas: terminating.length } : {}),
      observedGeneration: owner.metadata.generation,
      conditions: conditionsOf(owner, active.length, failure),
    };
  }

  function conditionsOf(owner: T, count: number, failure: unknown): ReplicaSetCondition[] {
    const others = (owner.status?.conditions ?? []).filter((c) => c.type !== 'ReplicaFailure');
    if (!failure) return others;
    const reason = count < (owner.spec.replicas ?? 1) ? 'FailedCreate' : 'FailedDelete';
    const before = owner.status?.conditions?.find((c) => c.type === 'ReplicaFailure');
    if (before?.reason === reason) return [...others, before];
    const message = (failure as Error).message;
    return [...others, { type: 'ReplicaFailure', status: 'True', lastTransitionTime: timestamp(clock), reason, message }];
  }
}

const isTerminating = (pod: Pod): boolean => !!pod.metadata.deletionTimestamp && !isPodTerminal(pod);
const isCountable = (pod: Pod): boolean => isPodActive(pod) || isTerminating(pod);
