import type { Pod, PodCondition } from '../api/generated/types.ts';
import { resources } from '../api/generated/resources.ts';
import type { ControllerContext } from '../controllers/controller.ts';
import { podCondition } from '../controllers/pod-facts.ts';
import { timestamp } from '../controllers/timestamps.ts';

/** Writes the pod's condition (PodScheduled=False unless another is given) and nominated node, where they differ. */
export async function reportFailure(
  { client, clock }: ControllerContext,
  pod: Pod,
  reason: string,
  message: string,
  nominatedNodeName?: string,
  kind: { type: string; status: string } = { type: 'PodScheduled', status: 'False' },
): Promise<void> {
  const before = podCondition(pod, kind.type);
  const same = before?.status === kind.status && before?.reason === reason && before?.message === message;
  const renominated = nominatedNodeName !== undefined && nominatedNodeName !== pod.status?.nominatedNodeName;
  if (same && !renominated) return;
  const condition: PodCondition = {
    ...kind,
    observedGeneration: pod.metadata.generation,
    lastTransitionTime: before?.status === kind.status ? before?.lastTransitionTime : timestamp(clock),
    reason,
    message,
  };
  // Strategic: conditions are merged by type, so that what the kubelet wrote meanwhile stays.
  const status = { ...(same ? {} : { conditions: [condition] }), ...(renominated ? { nominatedNodeName } : {}) };
  await client.patch(resources.pods, pod.metadata, 'strategic', { metadata: { uid: pod.metadata.uid }, status }, { subresource: 'status' });
}
