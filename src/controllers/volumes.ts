import { compareQuantities } from '../api/quantity.ts';
import { labelSelectorMatches } from '../api/selectors.ts';
import type { PersistentVolume, PersistentVolumeClaim } from '../api/generated/types.ts';

/** Annotations of claims and volumes, as upstream's component-helpers/storage names them. */
export const BIND_COMPLETED = 'pv.kubernetes.io/bind-completed';
export const BOUND_BY_CONTROLLER = 'pv.kubernetes.io/bound-by-controller';
export const PROVISIONED_BY = 'pv.kubernetes.io/provisioned-by';
export const SELECTED_NODE = 'volume.kubernetes.io/selected-node';
export const STORAGE_PROVISIONER = 'volume.kubernetes.io/storage-provisioner';
export const BETA_STORAGE_PROVISIONER = 'volume.beta.kubernetes.io/storage-provisioner';
const BETA_CLASS = 'volume.beta.kubernetes.io/storage-class';

/** The storage class of a claim or a volume; '' for none. */
export const classOf = (o: PersistentVolumeClaim | PersistentVolume): string => o.metadata.annotations?.[BETA_CLASS] ?? o.spec.storageClassName ?? '';

/** Whether the volume's claimRef names this claim; a uid in it has to agree. */
export function isFor(volume: PersistentVolume, claim: PersistentVolumeClaim): boolean {
  const ref = volume.spec.claimRef;
  return ref?.name === claim.metadata.name && ref?.namespace === claim.metadata.namespace && (!ref.uid || ref.uid === claim.metadata.uid);
}

/** Whether an unclaimed (or for this claim reserved) volume can serve the claim: class, size, modes, labels. */
export function fits(volume: PersistentVolume, claim: PersistentVolumeClaim): boolean {
  if (volume.metadata.deletionTimestamp || (volume.spec.claimRef && !isFor(volume, claim))) return false;
  if (!volume.spec.claimRef && volume.status?.phase !== 'Available' && volume.status?.phase !== undefined) return false;
  if ((volume.spec.volumeMode ?? 'Filesystem') !== (claim.spec.volumeMode ?? 'Filesystem')) return false;
  if (classOf(volume) !== classOf(claim)) return false;
  if ((volume.spec.volumeAttributesClassName ?? '') !== (claim.spec.volumeAttributesClassName ?? '')) return false;
  if (claim.spec.selector && !labelSelectorMatches(claim.spec.selector, volume.metadata.labels)) return false;
  if (!(claim.spec.accessModes ?? []).every((mode) => volume.spec.accessModes?.includes(mode))) return false;
  return compareQuantities(volume.spec.capacity?.['storage'] ?? '0', claim.spec.resources?.requests?.['storage'] ?? '0') >= 0;
}

/** Of volumes that fit: the one reserved for the claim, else the smallest. */
export function smallest(volumes: PersistentVolume[], claim: PersistentVolumeClaim): PersistentVolume | undefined {
  const reserved = volumes.find((v) => v.spec.claimRef && isFor(v, claim));
  if (reserved) return reserved;
  return volumes.reduce<PersistentVolume | undefined>((best, v) => {
    if (!best) return v;
    return compareQuantities(v.spec.capacity?.['storage'] ?? '0', best.spec.capacity?.['storage'] ?? '0') < 0 ? v : best;
  }, undefined);
}
