import { isNotFound } from '../api/errors.ts';
import { resources } from '../api/generated/resources.ts';
import type { PersistentVolume, PersistentVolumeClaim } from '../api/generated/types.ts';
import { toBytes } from '../api/quantity.ts';
import { type CloudContext, type Controller, startReconciler } from './controller.ts';

const gibibyte = 1024 ** 3;

const storageOf = (quantities: Record<string, unknown> | undefined) => toBytes(String(quantities?.['storage'] ?? '0'));

/**
 * Makes volumes larger when their claims ask for more: what the external-resizer beside the EBS CSI driver does. A volume with a file system
 * is then left to the kubelet, which the condition FileSystemResizePending tells; of a raw block volume the claim has its size at once.
 */
export function startVolumeResizer(context: CloudContext): Controller {
  const { client, cloud, events, informers, log } = context;
  const { driver } = cloud.volumes;
  const claims = informers.informer(resources.persistentvolumeclaims);
  const volumes = informers.informer(resources.persistentvolumes);
  const loop = startReconciler(context, {
    name: 'volume-resizer',
    workers: 10,
    backoff: { firstMs: 1000, longestMs: 300_000 },
    waitFor: [claims, volumes],
    reconcile,
  });
  const enqueue = (claim: PersistentVolumeClaim) => {
    if (claim.status?.phase === 'Bound' && storageOf(claim.spec.resources?.requests) > storageOf(claim.status.capacity)) {
      loop.enqueue(`${claim.metadata.namespace}/${claim.metadata.name}`);
    }
  };
  claims.addHandlers({ onAdd: enqueue, onUpdate: (_, after) => enqueue(after) });

  async function reconcile(key: string, signal: AbortSignal): Promise<void> {
    const claim = claims.get(key);
    const volume = volumes.get(claim?.spec.volumeName ?? '');
    if (!claim || !volume || volume.spec.csi?.driver !== driver || claim.metadata.deletionTimestamp !== undefined) return;
    if (volume.spec.claimRef?.uid !== claim.metadata.uid) return;
    const wanted = storageOf(claim.spec.resources?.requests);
    const isBlock = volume.spec.volumeMode === 'Block';
    const pending = claim.status?.conditions?.some((one) => one.type === 'FileSystemResizePending' && one.status === 'True') ?? false;
    if (storageOf(volume.spec.capacity) >= wanted && (pending || storageOf(claim.status?.capacity) >= wanted)) return;
    try {
      const size = await grow(claim, volume, wanted, signal);
      await note(claim, size, isBlock, signal);
    } catch (error) {
      if (!isNotFound(error))
        events.event(claim, 'Warning', 'VolumeResizeFailed', `resize volume "${volume.metadata.name}" failed: ${(error as Error).message}`);
      throw error;
    }
  }

  /** The volume's capacity as a quantity, once it is there. */
  async function grow(claim: PersistentVolumeClaim, volume: PersistentVolume, wanted: number, signal: AbortSignal): Promise<string> {
    const { name } = volume.metadata;
    const known = volume.spec.capacity?.['storage'];
    if (known !== undefined && storageOf(volume.spec.capacity) >= wanted) return String(known);
    events.event(claim, 'Normal', 'Resizing', `External resizer is resizing volume ${name}`);
    const { sizeBytes } = await cloud.volumes.expand(volume.spec.csi!.volumeHandle, wanted);
    const storage = `${Math.floor(sizeBytes / gibibyte)}Gi`;
    await client.patch(resources.persistentvolumes, { name }, 'merge', { spec: { capacity: { storage } } }, { signal });
    log.info({ volume: name, storage }, 'resized a volume');
    return storage;
  }

  async function note(claim: PersistentVolumeClaim, storage: string, isBlock: boolean, signal: AbortSignal): Promise<void> {
    const { name, namespace = '' } = claim.metadata;
    const others = (claim.status?.conditions ?? []).filter((one) => one.type !== 'FileSystemResizePending' && one.type !== 'Resizing');
    const time = new Date(context.clock.now()).toISOString().replace(/\.\d+Z$/, 'Z');
    const waiting = {
      type: 'FileSystemResizePending',
      status: 'True',
      lastTransitionTime: time,
      message: 'Waiting for user to (re-)start a pod to finish file system resize of volume on node.',
    };
    const status = isBlock ? { capacity: { storage }, conditions: others.length ? others : null } : { conditions: [...others, waiting] };
    await client.patch(resources.persistentvolumeclaims, { name, namespace }, 'merge', { status }, { subresource: 'status', signal });
    if (isBlock) events.event(claim, 'Normal', 'VolumeResizeSuccessful', 'Resize volume succeeded');
    else events.event(claim, 'Normal', 'FileSystemResizeRequired', 'Require file system resize of volume on node');
  }
  return loop.controller;
}
