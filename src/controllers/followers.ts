import type { KubeObject } from '../api/object.ts';
import type { LabelSelector, Pod } from '../api/generated/types.ts';
import { labelSelectorMatches } from '../api/selectors.ts';
import type { Informer } from '../client/informer.ts';
import { controllerOf } from './ownership.ts';
import { isPodReady } from './pod-facts.ts';

/** What a pod's events mean to the controller that owns pods of its kind. */
export interface PodFollower<T extends KubeObject> {
  kind: string;
  owners: Informer<T>;
  pods: Informer<Pod>;
  selectorOf(owner: T): LabelSelector | undefined;
  enqueue(owner: T): void;
  /** The owner's new pod is in the cache. */
  onCreated?(owner: T, pod: Pod): void;
  /** The pod is on its way out, or gone. Called once or twice a pod. */
  onGoing?(owner: T, pod: Pod): void;
  onReady?(owner: T, pod: Pod): void;
  onChanged?(owner: T, before: Pod, after: Pod): void;
}

/** The owner of that kind that manages the object, as far as the cache knows it. */
export function ownerIn<T extends KubeObject>(kind: string, owners: Informer<T>, object: KubeObject): T | undefined {
  const ref = controllerOf(object);
  if (ref?.kind !== kind) return undefined;
  const owner = owners.get(`${object.metadata.namespace}/${ref.name}`);
  return owner?.metadata.uid === ref.uid ? owner : undefined;
}

/** Enqueues the owners that a pod's events concern: its own, the one it left, and where it is an orphan those that select it. */
export function followPods<T extends KubeObject>(f: PodFollower<T>): void {
  const ownerOf = (pod: Pod) => ownerIn(f.kind, f.owners, pod);
  const enqueueAdopters = (pod: Pod) => {
    if (controllerOf(pod) || !pod.metadata.labels) return;
    for (const owner of f.owners.list(pod.metadata.namespace)) {
      if (labelSelectorMatches(f.selectorOf(owner), pod.metadata.labels)) f.enqueue(owner);
    }
  };
  const going = (pod: Pod) => {
    const owner = ownerOf(pod);
    if (!owner) return;
    f.onGoing?.(owner, pod);
    f.enqueue(owner);
  };
  f.pods.addHandlers({
    onAdd(pod) {
      if (pod.metadata.deletionTimestamp) return going(pod);
      const owner = ownerOf(pod);
      if (!owner) return enqueueAdopters(pod);
      f.onCreated?.(owner, pod);
      f.enqueue(owner);
    },
    onUpdate(before, after) {
      const owner = ownerOf(after);
      if (after.metadata.deletionTimestamp && !before.metadata.deletionTimestamp) going(after);
      if (controllerOf(before)?.uid !== controllerOf(after)?.uid) {
        const former = ownerOf(before);
        if (former) f.enqueue(former);
      }
      if (!owner) {
        if (before.metadata.labels !== after.metadata.labels || controllerOf(before)) enqueueAdopters(after);
        return;
      }
      f.onChanged?.(owner, before, after);
      f.enqueue(owner);
      if (isPodReady(after) && !isPodReady(before)) f.onReady?.(owner, after);
    },
    onDelete: going,
  });
}
