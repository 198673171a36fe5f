import { labelSelectorMatches } from '../api/selectors.ts';
import { type KubeObject, keyOf, type ResourceType } from '../api/object.ts';
import type { LabelSelector, Pod, PodTemplateSpec, ReplicaSetCondition } from '../api/generated/types.ts';
import { isConflict, isNotFound } from '../api/errors.ts';
import { resources } from '../api/generated/resources.ts';
import { semanticEqual } from './canonical.ts';
import type { Controller, ControllerContext } from './controller.ts';
import { Expectations, slowStart } from './expectations.ts';
import { claim, controlledBy, controllerOf, indexByController } from './ownership.ts';
import { createPod, deletePod, isNamespaceTerminating, podFromTemplate } from './pod-control.ts';
import { inDeletionOrder, isPodActive, isPodAvailable, isPodReady, isPodTerminal, podCondition } from './pod-facts.ts';
import { startReconciler } from './reconciler.ts';
import { millis, timestamp } from './timestamps.ts';

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
  const loop = startReconciler(context, { name: kind.name, workers: 5, waitFor: [owners, pods], reconcile });

  const ownerOf = (pod: Pod): T | undefined => {
    const ref = controllerOf(pod);
    if (ref?.kind !== kind.type.kind) return undefined;
    const owner = owners.get(`${pod.metadata.namespace}/${ref.name}`);
    return owner?.metadata.uid === ref.uid ? owner : undefined;
  };
  const enqueue = (owner: T | undefined) => {
    if (owner) loop.enqueue(keyOf(owner));
  };
  const enqueueAdopters = (pod: Pod) => {
    if (controllerOf(pod) || !pod.metadata.labels) return;
    for (const owner of owners.list(pod.metadata.namespace)) {
      if (labelSelectorMatches(kind.selectorOf(owner), pod.metadata.labels)) enqueue(owner);
    }
  };
  const podGone = (pod: Pod) => {
    const owner = ownerOf(pod);
    if (owner) expectations.deletionObserved(keyOf(owner), pod.metadata.uid);
    enqueue(owner);
  };

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
  pods.addHandlers({
    onAdd(pod) {
      if (pod.metadata.deletionTimestamp) return podGone(pod);
      const owner = ownerOf(pod);
      if (owner) expectations.creationObserved(keyOf(owner));
      enqueue(owner);
      enqueueAdopters(pod);
    },
    onUpdate(before, after) {
      if (after.metadata.deletionTimestamp && !before.metadata.deletionTimestamp) podGone(after);
      const owner = ownerOf(after);
      if (controllerOf(before)?.uid !== controllerOf(after)?.uid) enqueue(ownerOf(before));
      enqueue(owner);
      if (!owner && (before.metadata.labels !== after.metadata.labels || controllerOf(before))) enqueueAdopters(after);
      // A pod that has just become ready becomes available without a further event.
      const wait = owner?.spec.minReadySeconds ?? 0;
      if (wait > 0 && isPodReady(after) && !isPodReady(before)) loop.enqueueAfter(keyOf(owner!), wait * 1000 + 1000);
    },
    onDelete: podGone,
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
    const fresh = await writeStatus(owner, active, all.filter(isTerminating), failure);
    if (failure && !isNamespaceTerminating(failure)) throw failure;
    // A recheck in case the update that starts the clock was the last one.
    const { readyReplicas = 0, availableReplicas = 0 } = fresh;
    const wait = owner.spec.minReadySeconds ?? 0;
    if (wait > 0 && readyReplicas > availableReplicas) loop.enqueueAfter(key, nextAvailability(active, wait));
  }

  function nextAvailability(active: Pod[], wait: number): number {
    const times = active.filter(isPodReady).map((p) => millis(podCondition(p, 'Ready')?.lastTransitionTime) + wait * 1000 - clock.now());
    return Math.max(1000, Math.min(...times.filter((ms) => ms > 0), wait * 1000));
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
            await deletePod(context, owner, pod);
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

  /** Writes the status where it differs; returns what now holds. */
  async function writeStatus(owner: T, active: Pod[], terminating: Pod[], failure: unknown): Promise<ReplicaOwnerStatus> {
    let current = owner;
    for (let attempt = 0; ; attempt++) {
      const status = statusOf(current, active, terminating, failure);
      if (semanticEqual(status, current.status)) return status;
      try {
        await client.update(kind.type, { ...current, status }, { subresource: 'status' });
        return status;
      } catch (error) {
        if (isNotFound(error)) return status;
        if (!isConflict(error) || attempt >= 2) throw error;
        current = await client.get(kind.type, owner.metadata);
        if (current.metadata.uid !== owner.metadata.uid) return status;
      }
    }
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
