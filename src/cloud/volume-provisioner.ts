import { isAlreadyExists, isNotFound } from '../api/errors.ts';
import { resources } from '../api/generated/resources.ts';
import type { PersistentVolume, PersistentVolumeClaim, StorageClass } from '../api/generated/types.ts';
import { toBytes } from '../api/quantity.ts';
import { type CloudContext, type Controller, startReconciler } from './controller.ts';

const finalizer = 'external-provisioner.volume.kubernetes.io/finalizer';
const provisionedBy = 'pv.kubernetes.io/provisioned-by';
const selectedNode = 'volume.kubernetes.io/selected-node';
const zoneLabel = 'topology.kubernetes.io/zone';
const gibibyte = 1024 ** 3;
/** How long a volume that is still in use is left before its deletion is tried again, milliseconds. */
const busyMs = 5000;

/**
 * Makes a volume and its PersistentVolume for every claim of a storage class of this cloud's CSI driver, and deletes both when the claim has gone
 * and the reclaim policy says so: what the external-provisioner beside the EBS CSI driver does.
 */
export function startVolumeProvisioner(context: CloudContext): Controller {
  const { client, cloud, events, informers, log } = context;
  const { driver } = cloud.volumes;
  const claims = informers.informer(resources.persistentvolumeclaims);
  const volumes = informers.informer(resources.persistentvolumes);
  const classes = informers.informer(resources.storageclasses);
  const nodes = informers.informer(resources.nodes);
  const attachments = informers.informer(resources.volumeattachments);
  const loop = startReconciler(context, {
    name: 'volume-provisioner',
    workers: 10,
    backoff: { firstMs: 1000, longestMs: 300_000 },
    waitFor: [claims, volumes, classes, nodes, attachments],
    reconcile,
  });
  const onClaim = (claim: PersistentVolumeClaim) => {
    if (!claim.spec.volumeName && claim.metadata.deletionTimestamp === undefined)
      loop.enqueue(`claim/${claim.metadata.namespace}/${claim.metadata.name}`);
  };
  const onVolume = (volume: PersistentVolume) => {
    if (volume.spec.csi?.driver === driver) loop.enqueue(`volume/${volume.metadata.name}`);
  };
  claims.addHandlers({ onAdd: onClaim, onUpdate: (_, after) => onClaim(after) });
  volumes.addHandlers({ onAdd: onVolume, onUpdate: (_, after) => onVolume(after) });
  classes.addHandlers({ onAdd: () => claims.list().forEach(onClaim) });
  attachments.addHandlers({
    onDelete(attachment) {
      const name = attachment.spec.source.persistentVolumeName;
      if (name) loop.enqueue(`volume/${name}`);
    },
  });

  async function reconcile(key: string, signal: AbortSignal): Promise<{ requeueAfterMs: number } | undefined> {
    const slash = key.indexOf('/');
    const name = key.slice(slash + 1);
    if (key.startsWith('volume/')) return reclaim(name, signal);
    const claim = claims.get(name);
    if (claim && !claim.spec.volumeName && claim.metadata.deletionTimestamp === undefined) await provision(claim, signal);
    return undefined;
  }

  async function provision(claim: PersistentVolumeClaim, signal: AbortSignal): Promise<void> {
    const storageClass = classes.get(claim.spec.storageClassName ?? '');
    if (!storageClass || storageClass.provisioner !== driver) return;
    const chosen = claim.metadata.annotations?.[selectedNode];
    // The scheduler chooses first, where the class says so.
    if (storageClass.volumeBindingMode === 'WaitForFirstConsumer' && !chosen) return;
    const volumeName = `pvc-${claim.metadata.uid}`;
    if (volumes.get(volumeName)) return;
    try {
      await create(claim, storageClass, volumeName, chosen, signal);
    } catch (error) {
      events.event(
        claim,
        'Warning',
        'ProvisioningFailed',
        `failed to provision volume with StorageClass "${storageClass.metadata.name}": ${(error as Error).message}`,
      );
      throw error;
    }
  }

  function zoneFor(storageClass: StorageClass, chosen: string | undefined, claimName: string): string {
    const zone = chosen ? nodes.get(chosen)?.metadata.labels?.[zoneLabel] : undefined;
    if (zone) return zone;
    if (chosen) throw new Error(`node ${chosen} has no zone yet`);
    const allowed = storageClass.allowedTopologies?.flatMap((term) =>
      (term.matchLabelExpressions ?? []).filter((one) => one.key === zoneLabel).flatMap((one) => one.values),
    );
    const zones = [...new Set(nodes.list().map((node) => node.metadata.labels?.[zoneLabel] ?? ''))]
      .filter((one) => one && (!allowed?.length || allowed.includes(one)))
      .sort();
    if (!zones.length) throw new Error('no node is in a zone where the volume could be');
    // Claims spread over the zones, and those of a StatefulSet's replicas one after the other.
    const [, base = '', ordinal = '0'] = /^(.*?)(?:-(\d+))?$/.exec(claimName) ?? [];
    const start = [...base].reduce((hash, character) => (hash * 31 + character.charCodeAt(0)) >>> 0, 7);
    return zones[(start + Number(ordinal)) % zones.length] as string;
  }

  async function create(
    claim: PersistentVolumeClaim,
    storageClass: StorageClass,
    volumeName: string,
    chosen: string | undefined,
    signal: AbortSignal,
  ): Promise<void> {
    const { namespace = '', name, uid } = claim.metadata;
    if (claim.spec.accessModes?.some((mode) => mode !== 'ReadWriteOnce' && mode !== 'ReadWriteOncePod') && claim.spec.volumeMode !== 'Block') {
      throw new Error(`access mode ${claim.spec.accessModes.join(', ')} is not supported: EBS volumes are ReadWriteOnce`);
    }
    const zone = zoneFor(storageClass, chosen, name);
    const wanted = toBytes(String(claim.spec.resources?.requests?.['storage'] ?? '0'));
    const { 'csi.storage.k8s.io/fstype': fsType = 'ext4', ...parameters } = storageClass.parameters ?? {};
    events.event(claim, 'Normal', 'Provisioning', `External provisioner is provisioning volume for claim "${namespace}/${name}"`);
    const made = await cloud.volumes.create({
      name: volumeName,
      sizeBytes: wanted,
      zone,
      parameters,
      tags: {
        'kubernetes.io/created-for/pvc/name': name,
        'kubernetes.io/created-for/pvc/namespace': namespace,
        'kubernetes.io/created-for/pv/name': volumeName,
      },
    });
    const volume = {
      apiVersion: 'v1',
      kind: 'PersistentVolume',
      metadata: { name: volumeName, annotations: { [provisionedBy]: driver }, finalizers: ['kubernetes.io/pv-protection', finalizer] },
      spec: {
        capacity: { storage: `${Math.ceil(made.sizeBytes / gibibyte)}Gi` },
        accessModes: claim.spec.accessModes ?? ['ReadWriteOnce'],
        volumeMode: claim.spec.volumeMode ?? 'Filesystem',
        storageClassName: storageClass.metadata.name,
        persistentVolumeReclaimPolicy: storageClass.reclaimPolicy ?? 'Delete',
        ...(storageClass.mountOptions?.length ? { mountOptions: storageClass.mountOptions } : {}),
        claimRef: { apiVersion: 'v1', kind: 'PersistentVolumeClaim', namespace, name, uid, resourceVersion: claim.metadata.resourceVersion },
        csi: { driver, volumeHandle: made.volumeId, fsType, volumeAttributes: { 'storage.kubernetes.io/csiProvisionerIdentity': driver } },
        nodeAffinity: { required: { nodeSelectorTerms: [{ matchExpressions: [{ key: zoneLabel, operator: 'In', values: [made.zone] }] }] } },
      },
    };
    await client.create(resources.persistentvolumes, volume as never, { signal }).catch((error) => {
      // The volume's name is the claim's own: who made it before made it for the same claim.
      if (!isAlreadyExists(error)) throw error;
    });
    log.info({ claim: `${namespace}/${name}`, volume: made.volumeId, zone: made.zone }, 'provisioned a volume');
    events.event(claim, 'Normal', 'ProvisioningSucceeded', `Successfully provisioned volume ${volumeName}`);
  }

  /** Deletes what a claim has given back, when no node has it any more. */
  async function reclaim(name: string, signal: AbortSignal): Promise<{ requeueAfterMs: number } | undefined> {
    const volume = volumes.get(name);
    const csi = volume?.spec.csi;
    if (!volume || !csi || csi.driver !== driver || volume.metadata.annotations?.[provisionedBy] !== driver) return undefined;
    const released = volume.status?.phase === 'Released' && volume.spec.persistentVolumeReclaimPolicy === 'Delete';
    const deleted = volume.metadata.deletionTimestamp !== undefined;
    if (!released && !deleted) return undefined;
    // A volume whose claim is still bound is only deleted in name: pv-protection holds it.
    if (deleted && volume.status?.phase === 'Bound') return undefined;
    if (attachments.list().some((one) => one.spec.source.persistentVolumeName === name)) return { requeueAfterMs: busyMs };
    const reclaimPolicy = volume.spec.persistentVolumeReclaimPolicy;
    if (reclaimPolicy === 'Delete') {
      try {
        await cloud.volumes.delete(csi.volumeHandle);
      } catch (error) {
        events.event(volume, 'Warning', 'VolumeFailedDelete', (error as Error).message);
        throw error;
      }
    }
    if (!deleted)
      await client.delete(resources.persistentvolumes, { name }, { preconditions: { uid: volume.metadata.uid }, signal }).catch(ignoreMissing);
    const left = (volumes.get(name)?.metadata.finalizers ?? volume.metadata.finalizers ?? []).filter((one) => one !== finalizer);
    if (volume.metadata.finalizers?.includes(finalizer)) {
      await client
        .patch(
          resources.persistentvolumes,
          { name },
          'merge',
          { metadata: { uid: volume.metadata.uid, finalizers: left.length ? left : null } },
          { signal },
        )
        .catch(ignoreMissing);
    }
    return undefined;
  }
  return loop.controller;
}

const ignoreMissing = (error: unknown) => {
  if (!isNotFound(error)) throw error;
};
