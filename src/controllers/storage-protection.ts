import { isNotFound } from '../api/errors.ts';
import { keyOf } from '../api/object.ts';
import type { PersistentVolume, PersistentVolumeClaim, Pod, VolumeAttributesClass } from '../api/generated/types.ts';
import { resources } from '../api/generated/resources.ts';
import type { Controller, ControllerContext } from './controller.ts';
import { isPodTerminal } from './pod-facts.ts';
import { startReconciler } from './reconciler.ts';
import { claimKeysOf, indexByClaim, podsUsing } from './volume-users.ts';

const CLAIM_FINALIZER = 'kubernetes.io/pvc-protection';
const CLASS_FINALIZER = 'kubernetes.io/vac-protection';
const VOLUME_FINALIZER = 'kubernetes.io/pv-protection';

/** The finalizers with (or without) one; undefined where nothing changes. */
function withFinalizer(finalizers: string[] = [], name: string, wanted: boolean): string[] | undefined {
  if (finalizers.includes(name) === wanted) return undefined;
  return wanted ? [...finalizers, name] : finalizers.filter((f) => f !== name);
}

function ignoreNotFound(error: unknown): void {
  if (!isNotFound(error)) throw error;
}

/** Keeps a claim that is being deleted as long as pods use it. Watches claims and pods. */
export function startPvcProtectionController(context: ControllerContext): Controller {
  const { client, informers } = context;
  const claims = informers.informer(resources.persistentvolumeclaims);
  const pods = informers.informer(resources.pods);
  indexByClaim(pods);
  const loop = startReconciler(context, { name: 'persistentvolumeclaim-protection-controller', workers: 2, waitFor: [claims, pods], reconcile });
  const enqueue = (claim: PersistentVolumeClaim) => loop.enqueue(keyOf(claim));
  const enqueueOf = (pod: Pod) => {
    for (const key of claimKeysOf(pod)) if (claims.get(key)?.metadata.deletionTimestamp) loop.enqueue(key);
  };
  claims.addHandlers({ onAdd: enqueue, onUpdate: (_, after) => enqueue(after) });
  pods.addHandlers({ onUpdate: (_, after) => isPodTerminal(after) && enqueueOf(after), onDelete: enqueueOf });
  return loop;

  async function reconcile(key: string): Promise<void> {
    const claim = claims.get(key);
    if (!claim) return;
    const wanted = !claim.metadata.deletionTimestamp || (await isUsed(claim));
    const finalizers = withFinalizer(claim.metadata.finalizers, CLAIM_FINALIZER, wanted);
    // A finalizer cannot be added any more once the deletion has begun.
    if (!finalizers || (wanted && claim.metadata.deletionTimestamp)) return;
    const { uid, resourceVersion } = claim.metadata;
    await client
      .patch(resources.persistentvolumeclaims, claim.metadata, 'merge', { metadata: { uid, resourceVersion, finalizers } })
      .catch(ignoreNotFound);
  }

  /** Asks the server too: a pod may have been bound that the cache does not show. */
  async function isUsed(claim: PersistentVolumeClaim): Promise<boolean> {
    const uses = (pod: Pod) => !!pod.spec.nodeName && !isPodTerminal(pod);
    if (podsUsing(pods, claim).some(uses)) return true;
    const live = await client.list(resources.pods, { namespace: claim.metadata.namespace });
    return live.items.some((pod) => claimKeysOf(pod).includes(keyOf(claim)) && uses(pod));
  }
}

/** Keeps a volume that is being deleted as long as a claim is bound to it. Watches volumes. */
export function startPvProtectionController(context: ControllerContext): Controller {
  const { client, informers } = context;
  const volumes = informers.informer(resources.persistentvolumes);
  const loop = startReconciler(context, { name: 'persistentvolume-protection-controller', waitFor: [volumes], reconcile });
  const enqueue = (volume: PersistentVolume) => loop.enqueue(volume.metadata.name);
  volumes.addHandlers({ onAdd: enqueue, onUpdate: (_, after) => enqueue(after) });
  return loop;

  async function reconcile(name: string): Promise<void> {
    const volume = volumes.get(name);
    if (!volume) return;
    const wanted = !volume.metadata.deletionTimestamp || volume.status?.phase === 'Bound';
    const finalizers = withFinalizer(volume.metadata.finalizers, VOLUME_FINALIZER, wanted);
    if (!finalizers || (wanted && volume.metadata.deletionTimestamp)) return;
    const { uid, resourceVersion } = volume.metadata;
    await client.patch(resources.persistentvolumes, { name }, 'merge', { metadata: { uid, resourceVersion, finalizers } }).catch(ignoreNotFound);
  }
}

/** Keeps a VolumeAttributesClass that is being deleted as long as a volume has it or a claim wants it. Watches classes, claims and volumes. */
export function startVacProtectionController(context: ControllerContext): Controller {
  const { client, informers } = context;
  const classes = informers.informer(resources.volumeattributesclasses);
  const claims = informers.informer(resources.persistentvolumeclaims);
  const volumes = informers.informer(resources.persistentvolumes);
  const ofClaim = ({ spec, status }: PersistentVolumeClaim) => [
    spec.volumeAttributesClassName,
    status?.currentVolumeAttributesClassName,
    status?.modifyVolumeStatus?.targetVolumeAttributesClassName,
  ];
  const ofVolume = ({ spec }: PersistentVolume) => [spec.volumeAttributesClassName];
  const named = (names: (string | undefined)[]): string[] => names.filter((name): name is string => !!name);
  claims.addIndex('class', (claim) => named(ofClaim(claim)));
  volumes.addIndex('class', (volume) => named(ofVolume(volume)));
  const loop = startReconciler(context, {
    name: 'volumeattributesclass-protection-controller',
    waitFor: [classes, claims, volumes],
    reconcile,
  });
  const enqueue = (c: VolumeAttributesClass) => loop.enqueue(c.metadata.name);
  const enqueueAll = (names: (string | undefined)[]) => {
    for (const name of named(names)) if (classes.get(name)?.metadata.deletionTimestamp) loop.enqueue(name);
  };
  classes.addHandlers({ onAdd: enqueue, onUpdate: (_, after) => enqueue(after) });
  claims.addHandlers({ onUpdate: (before) => enqueueAll(ofClaim(before)), onDelete: (claim) => enqueueAll(ofClaim(claim)) });
  volumes.addHandlers({ onUpdate: (before) => enqueueAll(ofVolume(before)), onDelete: (volume) => enqueueAll(ofVolume(volume)) });
  return loop;

  async function reconcile(name: string): Promise<void> {
    const found = classes.get(name);
    if (!found) return;
    const used = claims.byIndex('class', name).length > 0 || volumes.byIndex('class', name).length > 0;
    const wanted = !found.metadata.deletionTimestamp || used;
    const finalizers = withFinalizer(found.metadata.finalizers, CLASS_FINALIZER, wanted);
    if (!finalizers || (wanted && found.metadata.deletionTimestamp)) return;
    const { uid, resourceVersion } = found.metadata;
    await client
      .patch(resources.volumeattributesclasses, { name }, 'merge', { metadata: { uid, resourceVersion, finalizers } })
      .catch(ignoreNotFound);
  }
}
