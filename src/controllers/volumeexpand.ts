import { keyOf } from '../api/object.ts';
import type { PersistentVolumeClaim } from '../api/generated/types.ts';
import { resources } from '../api/generated/resources.ts';
import { compareQuantities } from '../api/quantity.ts';
import type { Controller, ControllerContext } from './controller.ts';
import { startReconciler } from './reconciler.ts';

/**
 * Claims that ask for more than they have. Their volumes are CSI's: it is the driver's resizer that makes them larger, and this
 * controller says on the claim that it is waited for. Watches claims and volumes.
 */
export function startVolumeExpandController(context: ControllerContext): Controller {
  const { events, informers } = context;
  const claims = informers.informer(resources.persistentvolumeclaims);
  const volumes = informers.informer(resources.persistentvolumes);
  const name = 'persistentvolume-expander-controller';
  const loop = startReconciler(context, { name, workers: 2, waitFor: [claims, volumes], reconcile });
  const requested = (claim: PersistentVolumeClaim) => String(claim.spec.resources?.requests?.['storage'] ?? '0');
  const held = (claim: PersistentVolumeClaim) => String(claim.status?.capacity?.['storage'] ?? '0');
  claims.addHandlers({
    onUpdate(before, after) {
      if (compareQuantities(requested(after), requested(before)) > 0) loop.enqueue(keyOf(after));
    },
  });
  return loop;

  async function reconcile(key: string): Promise<void> {
    const claim = claims.get(key);
    const volume = claim?.spec.volumeName ? volumes.get(claim.spec.volumeName) : undefined;
    if (claim?.status?.phase !== 'Bound' || volume?.spec.claimRef?.uid !== claim.metadata.uid) return;
    if (compareQuantities(requested(claim), held(claim)) <= 0) return;
    events.event(claim, 'Normal', 'ExternalExpanding', 'waiting for an external controller to expand this PVC');
  }
}
