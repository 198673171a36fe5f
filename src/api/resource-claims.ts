import type { Pod, PodResourceClaim } from './generated/types.ts';

/** The name of the claim that one of a pod's entries means; undefined while none was made from its template, null where none is needed. */
export function claimNameOf(pod: Pod, entry: PodResourceClaim): string | undefined | null {
  if (entry.resourceClaimName) return entry.resourceClaimName;
  const status = pod.status?.resourceClaimStatuses?.find((one) => one.name === entry.name);
  return status ? (status.resourceClaimName ?? null) : undefined;
}
