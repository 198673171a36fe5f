import type { PersistentVolumeClaim, Pod } from '../api/generated/types.ts';
import { keyOf } from '../api/object.ts';
import type { Informer } from '../client/informer.ts';

/** namespace/name of the claims that a pod uses, those of its generic ephemeral volumes too. */
export function claimKeysOf(pod: Pod): string[] {
  const keys: string[] = [];
  for (const volume of pod.spec.volumes ?? []) {
    if (volume.persistentVolumeClaim) keys.push(`${pod.metadata.namespace}/${volume.persistentVolumeClaim.claimName}`);
    else if (volume.ephemeral) keys.push(`${pod.metadata.namespace}/${pod.metadata.name}-${volume.name}`);
  }
  return keys;
}

/** Indexes pods by the claims that they use. */
export const indexByClaim = (pods: Informer<Pod>): void => pods.addIndex('claim', claimKeysOf);

export const podsUsing = (pods: Informer<Pod>, claim: PersistentVolumeClaim): Pod[] => pods.byIndex('claim', keyOf(claim));
