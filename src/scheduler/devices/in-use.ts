import type { AllocationResult, ResourceV1ResourceClaim as ResourceClaim } from '../../api/generated/types.ts';
import { toMilli } from '../../api/quantity.ts';
import { deviceId } from './pools.ts';

/** What claims have of one device. */
interface Use {
  /** Claims that have it for themselves. */
  exclusive: Set<string>;
  /** Capacity taken by claims that share it, in thousandths: one map for each share. */
  shares: Map<string, Record<string, number>>;
}

/** Devices that are given away, by claims as they are known and by placements whose claims are still to be written. */
export class DevicesInUse {
  readonly #uses = new Map<string, Use>();
  readonly #byClaim = new Map<string, string[]>();
  /** Allocations under way: claim uid to what it is about to get. */
  readonly #pending = new Map<string, AllocationResult>();

  /** As the API shows the claim; undefined: it is gone. */
  observe(uid: string, claim: ResourceClaim | undefined): void {
    if (claim?.status?.allocation) this.#pending.delete(uid);
    else if (this.#pending.has(uid) && claim) return;
    if (!claim) this.#pending.delete(uid);
    this.#set(uid, claim?.status?.allocation);
  }

  /** A placement that is to be written. */
  assume(uid: string, allocation: AllocationResult): void {
    this.#pending.set(uid, allocation);
    this.#set(uid, allocation);
  }

  /** The placement came to nothing. */
  forget(uid: string): void {
    if (this.#pending.delete(uid)) this.#set(uid, undefined);
  }

  isPending(uid: string): boolean {
    return this.#pending.has(uid);
  }

  isTaken(id: string): boolean {
    return (this.#uses.get(id)?.exclusive.size ?? 0) > 0;
  }

  isUsed(id: string): boolean {
    return this.#uses.has(id);
  }

  /** Thousandths of a capacity that shares have. */
  consumed(id: string, capacity: string): number {
    let sum = 0;
    for (const share of this.#uses.get(id)?.shares.values() ?? []) sum += share[capacity] ?? 0;
    return sum;
  }

  #set(uid: string, allocation: AllocationResult | undefined): void {
    for (const id of this.#byClaim.get(uid) ?? []) {
      const use = this.#uses.get(id);
      if (!use) continue;
      use.exclusive.delete(uid);
      for (const key of use.shares.keys()) if (key.startsWith(`${uid}/`)) use.shares.delete(key);
      if (!use.exclusive.size && !use.shares.size) this.#uses.delete(id);
    }
    this.#byClaim.delete(uid);
    const results = (allocation?.devices?.results ?? []).filter((r) => !r.adminAccess);
    if (results.length === 0) return;
    const ids: string[] = [];
    for (const r of results) {
      const id = deviceId(r.driver, r.pool, r.device);
      ids.push(id);
      let use = this.#uses.get(id);
      if (!use) this.#uses.set(id, (use = { exclusive: new Set(), shares: new Map() }));
      if (!r.shareID) use.exclusive.add(uid);
      else
        use.shares.set(
          `${uid}/${r.shareID}`,
          Object.fromEntries(Object.entries(r.consumedCapacity ?? {}).map(([name, q]) => [name, toMilli(String(q))])),
        );
    }
    this.#byClaim.set(uid, ids);
  }
}
