import { isConflict } from '../../api/errors.ts';
import { resources } from '../../api/generated/resources.ts';
import type { AllocationResult, Pod, ResourceV1ResourceClaim as ResourceClaim } from '../../api/generated/types.ts';
import { keyOf } from '../../api/object.ts';
import { claimNameOf } from '../../api/resource-claims.ts';
import { nodeSelectorMatches } from '../../controllers/node-matching.ts';
import { ALLOCATION_FINALIZER, canBeReserved, isOwnedBy, isReservedFor, reservedWith } from '../../controllers/resourceclaim/references.ts';
import { allocate } from '../devices/allocator.ts';
import { DevicesInUse } from '../devices/in-use.ts';
import { groupSlices, poolsOn } from '../devices/pools.ts';
import type { Cycle, Handle, Plugin } from '../framework.ts';

const attempts = 5;

/** Dynamic resource allocation: a pod's ResourceClaims are allocated from the devices of ResourceSlices, and reserved for the pod. */
export function dynamicResources(handle: Handle): Plugin {
  const inUse = new DevicesInUse();
  const observe = (claim: ResourceClaim) => inUse.observe(claim.metadata.uid, claim);
  handle.resourceClaims.addHandlers({
    onAdd: observe,
    onUpdate: (_, claim) => observe(claim),
    onDelete: (claim) => inUse.observe(claim.metadata.uid, undefined),
  });

  return {
    name: 'DynamicResources',
    events: ['NodeAdd', 'NodeLabel', 'ResourceClaim', 'ResourceSlice', 'DeviceClass', 'DeviceTaintRule'],
    prepare({ pod }) {
      if (!pod.spec.resourceClaims?.length) return undefined;
      const found = claimsOf(pod);
      if (typeof found === 'string') return { reject: found, quiet: true };
      for (const claim of found) {
        const problem = problemOf(pod, claim);
        if (problem) return { reject: problem };
      }
      return found.length ? cycleFor(pod, found) : undefined;
    },
  };

  function claimsOf(pod: Pod): ResourceClaim[] | string {
    const claims: ResourceClaim[] = [];
    for (const entry of pod.spec.resourceClaims ?? []) {
      const name = claimNameOf(pod, entry);
      if (name === null) continue;
      if (name === undefined) return `pod "${keyOf(pod)}": ResourceClaim not created yet`;
      const claim = handle.resourceClaims.get(`${pod.metadata.namespace}/${name}`);
      if (!claim) return `resourceclaim.resource.k8s.io "${name}" not found`;
      if (claim.metadata.deletionTimestamp) return `resourceclaim "${name}" is being deleted`;
      if (entry.resourceClaimTemplateName && !isOwnedBy(claim, pod))
        return `ResourceClaim ${keyOf(claim)} was not created for pod ${keyOf(pod)} (pod is not owner)`;
      claims.push(claim);
    }
    return claims;
  }

  function problemOf(pod: Pod, claim: ResourceClaim): string | undefined {
    if (claim.status?.allocation) return canBeReserved(claim) || isReservedFor(claim, pod) ? undefined : 'resourceclaim in use';
    if (inUse.isPending(claim.metadata.uid)) return `resource claim ${keyOf(claim)} is in the process of being allocated`;
    for (const request of claim.spec.devices?.requests ?? []) {
      const asks = request.exactly
        ? [{ name: request.name, of: request.exactly.deviceClassName }]
        : (request.firstAvailable ?? []).map((s) => ({ name: `${request.name}/${s.name}`, of: s.deviceClassName }));
      for (const { name, of } of asks) if (!handle.deviceClasses.get(of)) return `request ${name}: device class ${of} does not exist`;
    }
    return undefined;
  }

  function cycleFor(pod: Pod, claims: ResourceClaim[]): Cycle {
    const allocated = claims.filter((claim) => claim.status?.allocation);
    const open = claims.filter((claim) => !claim.status?.allocation);
    const slices = open.length ? groupSlices(handle.resourceSlices.list()) : [];
    const rules = open.length ? handle.deviceTaintRules.list() : [];
    const decisions = new Map<string, AllocationResult[]>();
    const forget = () => {
      for (const claim of open) inUse.forget(claim.metadata.uid);
    };
    return {
      filter({ name, node }) {
        if (allocated.some((claim) => !nodeSelectorMatches(claim.status!.allocation!.nodeSelector, node!)))
          return { reasons: ['resourceclaim not available on the node'], resolvable: false };
        if (open.length === 0) return undefined;
        const result = allocate({ claims: open, pools: poolsOn(node!, slices, rules), inUse, classOf: (of) => handle.deviceClasses.get(of) });
        if (!result) return { reasons: ['cannot allocate all claims'], resolvable: false };
        decisions.set(name, result);
        return undefined;
      },
      reserve(node) {
        for (const [index, claim] of open.entries()) inUse.assume(claim.metadata.uid, decisions.get(node.name)![index]!);
      },
      unreserve: forget,
      async preBind(node, signal) {
        const results = decisions.get(node.name) ?? [];
        for (const claim of allocated) if (!isReservedFor(claim, pod)) await write(pod, claim, undefined, signal);
        for (const [index, claim] of open.entries()) await write(pod, claim, results[index], signal);
      },
    };
  }

  /** Writes the allocation, where there is one to write, and the reservation. The finalizer comes first: an allocated claim must not go. */
  async function write(pod: Pod, known: ResourceClaim, allocation: AllocationResult | undefined, signal: AbortSignal): Promise<void> {
    let claim = known;
    for (let attempt = 1; ; attempt++) {
      try {
        if (allocation && claim.status?.allocation) throw new Error(`claim ${keyOf(claim)} got allocated elsewhere in the meantime`);
        if (!allocation && !claim.status?.allocation) throw new Error(`claim ${keyOf(claim)} got deallocated elsewhere in the meantime`);
        if (claim.metadata.deletionTimestamp) throw new Error(`claim ${keyOf(claim)} got deleted in the meantime`);
        if (allocation && !claim.metadata.finalizers?.includes(ALLOCATION_FINALIZER)) {
          const finalizers = [...(claim.metadata.finalizers ?? []), ALLOCATION_FINALIZER];
          claim = await handle.client.update(resources.resourceclaims, { ...claim, metadata: { ...claim.metadata, finalizers } }, { signal });
        }
        const status = { ...claim.status, ...(allocation ? { allocation } : {}), reservedFor: reservedWith(claim, pod) };
        await handle.client.update(resources.resourceclaims, { ...claim, status }, { subresource: 'status', signal });
        return;
      } catch (error) {
        if (!isConflict(error) || attempt === attempts) throw error;
        claim = await handle.client.get(resources.resourceclaims, claim.metadata, { signal });
      }
    }
  }
}
