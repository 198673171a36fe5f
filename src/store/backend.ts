import type { KeyValue, RangeRequest, RangeResult, StoreEvent, StoreEvents } from './store.ts';

/**
 * What a store keeps its data in. The engine (engine.ts) does the rest: revisions, compares, watches, leases' ends.
 *
 * A backend keeps the current items and, for every change after the compacted revision, what was there before (an undo
 * log). The state at an old revision is the current one with the later changes taken back.
 */
export interface Backend {
  /** As reads see it now; inside of commit's work, with what the work has done so far. */
  revision(): number;
  compactedRevision(): number;
  current(key: string): KeyValue | undefined;
  /** The item at a revision that the engine has found to be readable. */
  at(key: string, revision: number): KeyValue | undefined;
  range(request: RangeRequest): Promise<RangeResult>;
  /** Whole transactions from a revision on, about limit events of them, oldest first. Empty when there are none. */
  history(from: number, limit: number): StoreEvents[];

  /** Runs work in one durable transaction, all or nothing; resolves when it is safe. NoSpaceError when the disk is full. */
  commit(work: () => void): Promise<void>;
  // The following are called only inside of commit's work.
  record(event: StoreEvent, sub: number): void;
  setRevision(revision: number): void;
  setCompactedRevision(revision: number): void;
  /** Forgets about limit changes made before revision; true when there are none left. */
  dropHistory(before: number, limit: number): boolean;
  saveLease(id: number, ttlSeconds: number): void;
  removeLease(id: number): void;
  // Until here.

  leases(): { id: number; ttlSeconds: number }[];
  leaseKeys(id: number): string[];
  /** Called when a commit met a full disk: frees what is kept in reserve, so that deletes can go on. */
  releaseReserve(): Promise<void>;
  /** Takes the reserve again; false while the disk is still too full for it. */
  takeReserve(): Promise<boolean>;
  size(): Promise<number>;
  close(): Promise<void>;
}
