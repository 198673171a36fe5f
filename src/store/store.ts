/**
 * The store's contract: etcd's, as far as Kubernetes needs it. One global revision grows by one with every
 * transaction that writes; keys are ordered as bytes (keys here are ASCII).
 *
 * Every backend passes the suite in store.contract.ts. A promise that resolves after a write means that the write
 * survives SIGKILL and power loss (the memory backend excepted).
 */
export interface KeyValue {
  key: string;
  value: Buffer;
  /** Revision of the transaction that created this key. */
  createRevision: number;
  /** Revision of the transaction that last wrote it. */
  modRevision: number;
  /** Number of writes since creation, from 1. */
  version: number;
  /** Lease id, 0 where none. */
  lease: number;
}

export type Compare =
  /** modRevision 0: the key must not exist. */
  { key: string; modRevision: number };

/** A value is kept as it is handed over, and comes to watches as the same buffer: whoever wrote it must not change it. */
export type Operation = { type: 'put'; key: string; value: Buffer; lease?: number } | { type: 'delete'; key: string } | { type: 'get'; key: string };

export interface TransactionResult {
  succeeded: boolean;
  /** The store's revision after this transaction. */
  revision: number;
  /** What each `get` of the executed branch found, in order of the operations. */
  gets: (KeyValue | undefined)[];
}

export interface RangeRequest {
  /** First key, included. */
  start: string;
  /** Key after the last, excluded. prefixEnd(prefix) gives it for a prefix. */
  end: string;
  /** At this revision; the current one by default. */
  revision?: number;
  limit?: number;
  countOnly?: boolean;
}

export interface RangeResult {
  items: KeyValue[];
  /** All keys in the range at that revision, also beyond limit. */
  count: number;
  more: boolean;
  /** The store's current revision when the range was read. */
  revision: number;
}

export interface StoreEvent {
  type: 'put' | 'delete';
  /** For a delete: key and modRevision of the delete, empty value. */
  item: KeyValue;
  /** What was there before, where there was something that is not compacted. */
  previous: KeyValue | undefined;
}

/**
 * Events of one transaction, or (with no events) word that the watch is complete up to revision. The latter comes when a
 * watch has caught up with history, and after every round of delivery to watches whose range had no part in it.
 */
export interface StoreEvents {
  revision: number;
  events: StoreEvent[];
}

export interface WatchRequest {
  start: string;
  end: string;
  /** Events of this revision and later are delivered; revision()+1 by default. CompactedError below the compacted one. */
  startRevision?: number;
  /** Whether events carry what was there before; true. A store on etcd saves work without. */
  previous?: boolean;
  /** Called in order, never concurrently, outside of the caller's own stack. */
  onEvents: (events: StoreEvents) => void;
  /** The watch has ended and will deliver no more: compaction overtook it, or the store failed. */
  onError: (error: Error) => void;
}

export interface StoreWatch {
  close(): void;
}

export interface Store {
  /** Whether other processes write too: then revision() is only what this one has heard of. */
  readonly shared?: boolean;
  /** Revision of the last write. Starts at 1, as etcd's. */
  revision(): number;
  /** Revision of the last write of any process, asked of the quorum; only where shared. */
  latestRevision?(): Promise<number>;
  compactedRevision(): number;
  get(key: string, revision?: number): Promise<KeyValue | undefined>;
  range(request: RangeRequest): Promise<RangeResult>;
  /** Executes `success` if all compares hold, else `failure`, as one revision. */
  transaction(compares: Compare[], success: Operation[], failure?: Operation[]): Promise<TransactionResult>;
  watch(request: WatchRequest): StoreWatch;
  /** Grants a lease of ttl seconds; keys put with it are deleted when it ends. */
  grantLease(ttlSeconds: number): Promise<number>;
  keepLeaseAlive(id: number): Promise<void>;
  revokeLease(id: number): Promise<void>;
  /** History before revision is forgotten; reads and watches below it answer CompactedError. */
  compact(revision: number): Promise<void>;
  /** Whether a value should be written again although nothing changes, as with an old encryption key. */
  isStale?(key: string): boolean;
  /** Counts on to this revision without a write; only where the store is this process's own. */
  advanceRevision?(revision: number): Promise<void>;
  /** Bytes on disk or in memory. */
  size(): Promise<number>;
  close(): Promise<void>;
}

export class CompactedError extends Error {
  readonly compactedRevision: number;
  constructor(compactedRevision: number) {
    super(`required revision has been compacted (compacted revision ${compactedRevision})`);
    this.name = 'CompactedError';
    this.compactedRevision = compactedRevision;
  }
}

export class FutureRevisionError extends Error {
  constructor(revision: number) {
    super(`required revision ${revision} is a future revision`);
    this.name = 'FutureRevisionError';
  }
}

/** A lease that was never granted, has ended or was revoked. */
export class LeaseNotFoundError extends Error {
  constructor(id: number) {
    super(`requested lease not found: ${id}`);
    this.name = 'LeaseNotFoundError';
  }
}

/** The disk is full or the map size is reached: writes are refused, reads and deletes go on. */
export class NoSpaceError extends Error {
  constructor(detail: string) {
    super(`database space exceeded: ${detail}`);
    this.name = 'NoSpaceError';
  }
}

/** The first key after all keys that begin with prefix. */
export function prefixEnd(prefix: string): string {
  return prefix.slice(0, -1) + String.fromCharCode(prefix.charCodeAt(prefix.length - 1) + 1);
}
