import { resources } from '../../api/generated/resources.ts';
import type { PersistentVolume, PersistentVolumeClaim, Pod } from '../../api/generated/types.ts';
import { toBytes } from '../../api/quantity.ts';
import type { Client } from '../../client/client.ts';
import type { EventRecorder } from '../../client/events.ts';
import { fileSystemOf, run } from './mounts.ts';

const storageOf = (capacity: Record<string, unknown> | undefined) => toBytes(String(capacity?.['storage'] ?? '0'));

/** Whether the volume has grown and the file system in it has not, as far as the claim says. */
export function isBehind(claim: PersistentVolumeClaim, pv: PersistentVolume): boolean {
  if (pv.spec?.volumeMode === 'Block' || !pv.spec?.csi || !claim.status?.capacity) return false;
  return storageOf(claim.status.capacity) < storageOf(pv.spec.capacity);
}

/** Makes a mounted file system as large as its device. ext4 needs CAP_SYS_RESOURCE for this; unmounted it does not. */
export async function growMounted(fsType: string, device: string, mountPoint: string): Promise<void> {
  if (fsType === 'xfs') await run('xfs_growfs', [mountPoint]);
  else if (fsType.startsWith('ext')) await run('resize2fs', [device]);
  else throw new Error(`resize of format ${fsType} is not supported for device ${device} mounted at ${mountPoint}`);
}

/** The same for one that is not mounted, where its format wants that; those that grow when mounted are left. */
export async function growUnmounted(device: string, signal: AbortSignal): Promise<void> {
  if (!(await fileSystemOf(device, signal)).startsWith('ext')) return;
  await run('e2fsck', ['-f', '-p', device]).catch((error: Error & { exitCode?: number }) => {
    // 1: what was wrong is mended.
    if (error.exitCode !== 1) throw error;
  });
  await run('resize2fs', [device]);
}

/** Says of a claim that its file system has the volume's size now, to the API server and its readers. */
export async function reportGrown(
  o: { client: Client; recorder: EventRecorder },
  pod: Pod,
  claim: PersistentVolumeClaim,
  pv: PersistentVolume,
  signal: AbortSignal,
): Promise<void> {
  const { name, namespace } = claim.metadata;
  const own = new Set(['FileSystemResizePending', 'Resizing', 'NodeResizeError', 'ControllerResizeError']);
  const conditions = (claim.status?.conditions ?? []).filter((one) => !own.has(one.type));
  const status = {
    capacity: { storage: pv.spec!.capacity!['storage'] },
    conditions: conditions.length ? conditions : null,
    ...(claim.status?.allocatedResourceStatuses ? { allocatedResourceStatuses: { storage: null } } : {}),
  };
  await o.client.patch(resources.persistentvolumeclaims, { namespace, name }, 'merge', { status }, { subresource: 'status', signal });
  const message = `MountVolume.NodeExpandVolume succeeded for volume "${pv.metadata.name}"`;
  for (const object of [pod, claim]) o.recorder.event(object, 'Normal', 'FileSystemResizeSuccessful', message);
}
