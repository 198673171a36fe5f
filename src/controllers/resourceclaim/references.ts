import type { Pod, ResourceClaimConsumerReference, ResourceV1ResourceClaim as ResourceClaim } from '../../api/generated/types.ts';
import { isPodTerminal } from '../pod-facts.ts';

/** Keeps a claim that is allocated from going. */
export const ALLOCATION_FINALIZER = 'resource.kubernetes.io/delete-protection';
/** On a claim made from a template: which of its pod's claims it is. */
export const POD_CLAIM_ANNOTATION = 'resource.kubernetes.io/pod-claim-name';
/** How many may use one claim. */
const MAX_CONSUMERS = 256;

export const isOwnedBy = (claim: ResourceClaim, pod: Pod): boolean =>
  claim.metadata.ownerReferences?.some((owner) => owner.controller === true && owner.uid === pod.metadata.uid) ?? false;

export const isReservedFor = (claim: ResourceClaim, pod: Pod): boolean =>
  claim.status?.reservedFor?.some((consumer) => consumer.uid === pod.metadata.uid) ?? false;

/** The users of a claim, with the pod. */
export const reservedWith = (claim: ResourceClaim, pod: Pod): ResourceClaimConsumerReference[] => [
  ...(claim.status?.reservedFor ?? []),
  { resource: 'pods', name: pod.metadata.name, uid: pod.metadata.uid },
];

export const canBeReserved = (claim: ResourceClaim): boolean => (claim.status?.reservedFor?.length ?? 0) < MAX_CONSUMERS;

/** Whether a pod needs its claims no more. */
export const isPodDone = (pod: Pod): boolean => isPodTerminal(pod) || (pod.metadata.deletionTimestamp !== undefined && !pod.spec.nodeName);
