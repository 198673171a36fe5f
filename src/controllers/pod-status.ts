import type { Pod, PodCondition } from '../api/generated/types.ts';
import { resources } from '../api/generated/resources.ts';
import type { ControllerContext } from './controller.ts';
import { podCondition } from './pod-facts.ts';
import { timestamp } from './timestamps.ts';

/** Sets a condition of a pod where it differs, and its phase where one is given. Conditions of others stay as they are. */
export async function addPodCondition(
  { client, clock }: ControllerContext,
  pod: Pod,
  wanted: Omit<PodCondition, 'lastTransitionTime'>,
  phase?: string,
): Promise<void> {
  const before = podCondition(pod, wanted.type);
  const same = before?.status === wanted.status && before?.reason === wanted.reason && before?.message === wanted.message;
  if (same && (!phase || pod.status?.phase === phase)) return;
  const lastTransitionTime = before?.status === wanted.status ? before?.lastTransitionTime : timestamp(clock);
  const condition = { observedGeneration: pod.metadata.generation, ...wanted, lastTransitionTime };
  const status = { conditions: [condition], ...(phase ? { phase } : {}) };
  // Strategic: conditions are merged by type.
  await client.patch(resources.pods, pod.metadata, 'strategic', { metadata: { uid: pod.metadata.uid }, status }, { subresource: 'status' });
}
