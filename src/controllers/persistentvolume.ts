import { isNotFound } from '../api/errors.ts';
import { keyOf } from '../api/object.ts';
import type { PersistentVolume, PersistentVolumeClaim, StorageClass } from '../api/generated/types.ts';
import { resources } from '../api/generated/resources.ts';
import { semanticEqual } from './canonical.ts';
import type { Controller, ControllerContext } from './controller.ts';
import { startReconciler } from './reconciler.ts';
import { millis } from './timestamps.ts';
import {
  BETA_STORAGE_PROVISIONER,
  BIND_COMPLETED,
  BOUND_BY_CONTROLLER,
  classOf,
  fits,
  isFor,
  PROVISIONED_BY,
  SELECTED_NODE,
  STORAGE_PROVISIONER,
  smallest,
} from './volumes.ts';

const DEFAULT_CLASS = 'storageclass.kubernetes.io/is-default-class';
const NO_PROVISIONER = 'kubernetes.io/no-provisioner';

/**
 * Binds claims to volumes, and keeps the phases of both. What no volume fits is left to the provisioner that the storage class names;
 * volumes given back are left to it too. Watches claims, volumes and storage classes.
 */
export function startPersistentVolumeBinder(context: ControllerContext): Controller {
  const { client, events, informers } = context;
  const claims = informers.informer(resources.persistentvolumeclaims);
  const volumes = informers.informer(resources.persistentvolumes);
  const classes = informers.informer(resources.storageclasses);
  volumes.addIndex('class', (volume) => [classOf(volume)]);
  volumes.addIndex('claim', (volume) => (volume.spec.claimRef ? [`${volume.spec.claimRef.namespace}/${volume.spec.claimRef.name}`] : []));
  claims.addIndex('pending', (claim) => (claim.metadata.annotations?.[BIND_COMPLETED] ? [] : [classOf(claim)]));
  // One worker: two claims must not choose one volume.
  const loop = startReconciler(context, { name: 'persistentvolume-binder-controller', waitFor: [claims, volumes, classes], reconcile });
  const enqueueClaim = (claim: PersistentVolumeClaim) => loop.enqueue(`claim/${keyOf(claim)}`);
  const onVolume = (volume: PersistentVolume) => {
    loop.enqueue(`volume/${volume.metadata.name}`);
    const ref = volume.spec.claimRef;
    if (ref) loop.enqueue(`claim/${ref.namespace}/${ref.name}`);
    else claims.byIndex('pending', classOf(volume)).forEach(enqueueClaim);
  };
  claims.addHandlers({
    onAdd: enqueueClaim,
    onUpdate: (_, after) => enqueueClaim(after),
    onDelete: (claim) => volumes.byIndex('claim', keyOf(claim)).forEach(onVolume),
  });
  volumes.addHandlers({ onAdd: onVolume, onUpdate: (_, after) => onVolume(after), onDelete: onVolume });
  const onClass = (storageClass: StorageClass) => {
    claims.byIndex('pending', storageClass.metadata.name).forEach(enqueueClaim);
    claims.byIndex('pending', '').forEach(enqueueClaim);
  };
  classes.addHandlers({ onAdd: onClass, onUpdate: (_, after) => onClass(after) });
  return loop;

  async function reconcile(key: string): Promise<void> {
    const slash = key.indexOf('/');
    const name = key.slice(slash + 1);
    if (key.startsWith('claim/')) {
      const claim = claims.get(name);
      if (claim && !claim.metadata.deletionTimestamp) await syncClaim(claim);
    } else {
      const volume = volumes.get(name);
      if (volume) await syncVolume(volume);
    }
  }

  function syncClaim(claim: PersistentVolumeClaim): Promise<unknown> {
    return claim.metadata.annotations?.[BIND_COMPLETED] ? syncBoundClaim(claim) : syncUnboundClaim(claim);
  }

  async function syncUnboundClaim(claim: PersistentVolumeClaim): Promise<unknown> {
    if (!claim.spec.volumeName) {
      const delayed = isDelayed(claim);
      const candidates = volumes.byIndex('class', classOf(claim)).filter((v) => fits(v, claim) && (!delayed || isFor(v, claim)));
      const volume = smallest(candidates, claim);
      if (volume) return bind(volume, claim);
      await setPhase(await provisionOrSayWhy(claim, delayed), 'Pending');
      return undefined;
    }
    const volume = volumes.get(claim.spec.volumeName);
    if (!volume) return setPhase(claim, 'Pending');
    if (!volume.spec.claimRef && !fits(volume, claim)) {
      events.event(claim, 'Warning', 'VolumeMismatch', `Cannot bind to requested volume "${volume.metadata.name}": it does not match the claim`);
      return setPhase(claim, 'Pending');
    }
    if (!volume.spec.claimRef || isFor(volume, claim)) return bind(volume, claim);
    events.event(claim, 'Warning', 'FailedBinding', `volume "${volume.metadata.name}" already bound to a different claim.`);
    return setPhase(claim, 'Pending');
  }

  /** Whether the scheduler has to choose a node first. */
  function isDelayed(claim: PersistentVolumeClaim): boolean {
    return classes.get(classOf(claim))?.volumeBindingMode === 'WaitForFirstConsumer' && !claim.metadata.annotations?.[SELECTED_NODE];
  }

  async function provisionOrSayWhy(claim: PersistentVolumeClaim, delayed: boolean): Promise<PersistentVolumeClaim> {
    if (delayed) {
      events.event(claim, 'Normal', 'WaitForFirstConsumer', 'waiting for first consumer to be created before binding');
      return claim;
    }
    const name = classOf(claim);
    if (!name) {
      const fallback = claim.spec.storageClassName === undefined ? defaultClass() : undefined;
      if (fallback)
        return client.update(resources.persistentvolumeclaims, { ...claim, spec: { ...claim.spec, storageClassName: fallback.metadata.name } });
      events.event(claim, 'Normal', 'FailedBinding', 'no persistent volumes available for this claim and no storage class is set');
      return claim;
    }
    const provisioner = classes.get(name)?.provisioner;
    if (!provisioner) {
      events.event(claim, 'Warning', 'ProvisioningFailed', `storageclass.storage.k8s.io "${name}" not found`);
      return claim;
    }
    if (provisioner === NO_PROVISIONER) {
      events.event(claim, 'Normal', 'FailedBinding', 'no persistent volumes available for this claim and no storage class is set');
      return claim;
    }
    events.event(
      claim,
      'Normal',
      'ExternalProvisioning',
      `Waiting for a volume to be created either by the external provisioner '${provisioner}' or manually by the system administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered.`,
    );
    if (claim.metadata.annotations?.[STORAGE_PROVISIONER] === provisioner) return claim;
    const annotations = { ...claim.metadata.annotations, [STORAGE_PROVISIONER]: provisioner, [BETA_STORAGE_PROVISIONER]: provisioner };
    return client.update(resources.persistentvolumeclaims, { ...claim, metadata: { ...claim.metadata, annotations } });
  }

  /** The youngest of the classes that are marked as default. */
  function defaultClass(): StorageClass | undefined {
    const marked = classes.list().filter((c) => c.metadata.annotations?.[DEFAULT_CLASS] === 'true');
    return marked.sort(
      (a, b) => millis(b.metadata.creationTimestamp) - millis(a.metadata.creationTimestamp) || (a.metadata.name < b.metadata.name ? -1 : 1),
    )[0];
  }

  async function syncBoundClaim(claim: PersistentVolumeClaim): Promise<unknown> {
    if (!claim.spec.volumeName) return lose(claim, 'ClaimLost', 'Bound claim has lost reference to PersistentVolume. Data on the volume is lost!');
    const volume = volumes.get(claim.spec.volumeName) ?? (await liveVolume(claim.spec.volumeName));
    if (!volume) return lose(claim, 'ClaimLost', 'Bound claim has lost its PersistentVolume. Data on the volume is lost!');
    if (!volume.spec.claimRef || isFor(volume, claim)) return bind(volume, claim);
    return lose(claim, 'ClaimMisbound', 'Two claims are bound to the same volume, this one is bound incorrectly');
  }

  async function liveVolume(name: string): Promise<PersistentVolume | undefined> {
    try {
      return await client.get(resources.persistentvolumes, { name });
    } catch (error) {
      if (isNotFound(error)) return undefined;
      throw error;
    }
  }

  async function lose(claim: PersistentVolumeClaim, reason: string, message: string): Promise<void> {
    if (claim.status?.phase === 'Lost') return;
    await setPhase(claim, 'Lost');
    events.event(claim, 'Warning', reason, message);
  }

  /** Ties the two together. Four writes, each of which is left out where it has happened already. */
  async function bind(volume: PersistentVolume, claim: PersistentVolumeClaim): Promise<void> {
    const boundVolume = await refer(volume, claim);
    await setVolumePhase(boundVolume, 'Bound');
    let bound = claim;
    const annotations = {
      ...claim.metadata.annotations,
      [BIND_COMPLETED]: 'yes',
      ...(claim.spec.volumeName ? {} : { [BOUND_BY_CONTROLLER]: 'yes' }),
    };
    if (claim.spec.volumeName !== volume.metadata.name || !semanticEqual(annotations, claim.metadata.annotations)) {
      const spec = { ...claim.spec, volumeName: volume.metadata.name };
      bound = await client.update(resources.persistentvolumeclaims, { ...claim, metadata: { ...claim.metadata, annotations }, spec });
    }
    const { accessModes, capacity } = volume.spec;
    const status = {
      ...bound.status,
      phase: 'Bound',
      accessModes,
      capacity: bound.status?.phase === 'Bound' ? (bound.status.capacity ?? capacity) : capacity,
    };
    if (!semanticEqual(status, bound.status)) await client.update(resources.persistentvolumeclaims, { ...bound, status }, { subresource: 'status' });
  }

  async function refer(volume: PersistentVolume, claim: PersistentVolumeClaim): Promise<PersistentVolume> {
    const ref = volume.spec.claimRef;
    if (ref && ref.uid === claim.metadata.uid) return volume;
    const { name, namespace, uid, resourceVersion } = claim.metadata;
    const claimRef = { ...ref, apiVersion: 'v1', kind: 'PersistentVolumeClaim', name, namespace, uid, resourceVersion };
    const annotations = ref ? volume.metadata.annotations : { ...volume.metadata.annotations, [BOUND_BY_CONTROLLER]: 'yes' };
    return client.update(resources.persistentvolumes, {
      ...volume,
      metadata: { ...volume.metadata, annotations },
      spec: { ...volume.spec, claimRef },
    });
  }

  async function setPhase(claim: PersistentVolumeClaim, phase: string): Promise<void> {
    if (claim.status?.phase === phase) return;
    const status = phase === 'Bound' ? { ...claim.status, phase } : { phase };
    await client.update(resources.persistentvolumeclaims, { ...claim, status }, { subresource: 'status' });
  }

  async function setVolumePhase(volume: PersistentVolume, phase: string, message?: string): Promise<void> {
    if (volume.status?.phase === phase) return;
    const status = { phase, ...(message ? { message } : {}) };
    await client.update(resources.persistentvolumes, { ...volume, status }, { subresource: 'status' });
  }

  async function syncVolume(volume: PersistentVolume): Promise<void> {
    const ref = volume.spec.claimRef;
    if (volume.metadata.deletionTimestamp) return;
    // Reserved for a claim that has not come yet.
    if (!ref?.uid) return setVolumePhase(volume, 'Available');
    const claim = await claimOf(volume);
    if (!claim) {
      if (volume.status?.phase !== 'Failed') await setVolumePhase(volume, 'Released');
      return;
    }
    if (claim.spec.volumeName === volume.metadata.name) return setVolumePhase(volume, 'Bound');
    // Its claim is told by the handlers, and binds it.
    if (!claim.spec.volumeName) return;
    // The claim went with another volume.
    const { [BOUND_BY_CONTROLLER]: byUs, ...annotations } = volume.metadata.annotations ?? {};
    if (annotations[PROVISIONED_BY] && volume.spec.persistentVolumeReclaimPolicy === 'Delete') return setVolumePhase(volume, 'Released');
    const { claimRef, ...spec } = volume.spec;
    const { uid: _, resourceVersion: __, ...reserved } = claimRef!;
    const unbound = { ...volume, metadata: { ...volume.metadata, annotations }, spec: byUs ? spec : { ...spec, claimRef: reserved } };
    await setVolumePhase(await client.update(resources.persistentvolumes, unbound), 'Available');
  }

  /** The claim that the volume names; one that is not in the cache is asked for, since a volume must not be given back by mistake. */
  async function claimOf(volume: PersistentVolume): Promise<PersistentVolumeClaim | undefined> {
    const { namespace, name = '', uid } = volume.spec.claimRef!;
    const cached = claims.get(`${namespace}/${name}`);
    if (cached?.metadata.uid === uid) return cached;
    try {
      const live = await client.get(resources.persistentvolumeclaims, { namespace, name });
      return live.metadata.uid === uid ? live : undefined;
    } catch (error) {
      if (isNotFound(error)) return undefined;
      throw error;
    }
  }
}
