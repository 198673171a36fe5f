import { isAlreadyExists } from '../api/errors.ts';
import { keyOf } from '../api/object.ts';
import type { Pod } from '../api/generated/types.ts';
import { resources } from '../api/generated/resources.ts';
import type { Controller, ControllerContext } from './controller.ts';
import { controllerRef, isControlledBy } from './ownership.ts';
import { startReconciler } from './reconciler.ts';

/** Creates the claims of pods' generic ephemeral volumes, owned by the pod. Watches pods and claims. */
export function startEphemeralVolumeController(context: ControllerContext): Controller {
  const { client, events, informers } = context;
  const pods = informers.informer(resources.pods);
  const claims = informers.informer(resources.persistentvolumeclaims);
  const loop = startReconciler(context, { name: 'ephemeral-volume-controller', workers: 2, waitFor: [pods, claims], reconcile });
  const enqueue = (pod: Pod) => {
    if (!pod.metadata.deletionTimestamp && pod.spec.volumes?.some((v) => v.ephemeral)) loop.enqueue(keyOf(pod));
  };
  pods.addHandlers({ onAdd: enqueue });
  claims.addHandlers({
    onDelete(claim) {
      const owner = claim.metadata.ownerReferences?.find((o) => o.kind === 'Pod');
      const pod = owner && pods.get(`${claim.metadata.namespace}/${owner.name}`);
      if (pod) enqueue(pod);
    },
  });
  return loop;

  async function reconcile(key: string): Promise<void> {
    const pod = pods.get(key);
    if (!pod || pod.metadata.deletionTimestamp) return;
    for (const volume of pod.spec.volumes ?? []) {
      const template = volume.ephemeral?.volumeClaimTemplate;
      if (!template) continue;
      const name = `${pod.metadata.name}-${volume.name}`;
      const existing = claims.get(`${pod.metadata.namespace}/${name}`);
      if (existing) {
        if (!isControlledBy(existing, pod))
          throw new Error(`PVC ${pod.metadata.namespace}/${name} was not created for pod ${key} (pod is not owner)`);
        continue;
      }
      const { labels, annotations } = template.metadata ?? {};
      const metadata = { name, namespace: pod.metadata.namespace, labels, annotations, ownerReferences: [controllerRef(pod)] };
      try {
        await client.create(resources.persistentvolumeclaims, { metadata, spec: structuredClone(template.spec) });
      } catch (error) {
        if (isAlreadyExists(error)) throw error;
        events.event(pod, 'Warning', 'EphemeralVolumeFailed', `ephemeral volume claim ${name}: ${(error as Error).message}`);
        throw error;
      }
    }
  }
}
