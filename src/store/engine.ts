import { randomInt } from 'node:crypto';
import type { Backend } from './backend.ts';
import { LeaseTimers, type StoreClock, systemStoreClock } from './leases.ts';
import {
  type Compare,
  CompactedError,
  FutureRevisionError,
  type KeyValue,
  LeaseNotFoundError,
  NoSpaceError,
  type Operation,
  type RangeRequest,
  type RangeResult,
  type Store,
  type StoreEvent,
  type StoreEvents,
  type StoreWatch,
  type TransactionResult,
  type WatchRequest,
} from './store.ts';
import { WatchHub } from './watch-hub.ts';

export interface EngineOptions {
  clock?: StoreClock;
  /** Longest key in bytes. */
  maxKeyLength?: number;
}

/** Transactions in one commit: bounds how long the event loop is held (about 15 µs each). */
const groupLimit = 256;
/** Changes forgotten in one commit of a compaction. */
const compactionChunk = 500;
/** While the disk is full, writes ask for room at most this often. */
const spaceCheckInterval = 2_000;

/** One unit of work in the commit queue. */
interface Job {
  /** Writes; refused while there is no space. */
  needsSpace: boolean;
  run(): StoreEvents | undefined;
  resolve(): void;
  reject(error: Error): void;
}

/**
 * A Store over a Backend. Writes queue up while a commit is under way and go together in the next (group commit), in the
 * order of the calls; each is acknowledged, and its events published, when that commit is durable.
 */
export class StoreEngine implements Store {
  readonly #backend: Backend;
  readonly #hub: WatchHub;
  readonly #leases: LeaseTimers;
  /** Leases whose end is on its way to the disk: nothing may be put with them. */
  readonly #ending = new Set<number>();
  readonly #clock: StoreClock;
  readonly #maxKeyLength: number;
  #revision: number;
  #queue: Job[] = [];
  #pumping: Promise<void> | undefined;
  #compactedRevision: number;
  #compaction: Promise<void> = Promise.resolve();
  #closed = false;
  #full: NoSpaceError | undefined;
  #nextSpaceCheck = 0;

  constructor(backend: Backend, options: EngineOptions = {}) {
    this.#backend = backend;
    this.#clock = options.clock ?? systemStoreClock;
    this.#maxKeyLength = options.maxKeyLength ?? 1024;
    this.#revision = backend.revision();
    this.#compactedRevision = backend.compactedRevision();
    this.#hub = new WatchHub({
      revision: () => this.#revision,
      compactedRevision: () => this.#compactedRevision,
      history: (from, limit) => backend.history(from, limit),
    });
    this.#leases = new LeaseTimers(this.#clock, (id) => void this.#endLease(id).catch(() => {}));
    for (const lease of backend.leases()) this.#leases.add(lease.id, lease.ttlSeconds);
    // What a compaction before a crash has left.
    if (this.#compactedRevision > 0) this.#compaction = this.#dropHistory(this.#compactedRevision).catch(() => {});
  }

  revision(): number {
    return this.#revision;
  }

  compactedRevision(): number {
    return this.#compactedRevision;
  }

  async get(key: string, revision?: number): Promise<KeyValue | undefined> {
    this.#assertOpen();
    if (!revision) return this.#backend.current(key);
    this.#assertReadable(revision);
    return this.#backend.at(key, revision);
  }

  async range(request: RangeRequest): Promise<RangeResult> {
    this.#assertOpen();
    if (request.revision) this.#assertReadable(request.revision);
    return this.#backend.range(request.revision ? request : { ...request, revision: undefined });
  }

  transaction(compares: Compare[], success: Operation[], failure: Operation[] = []): Promise<TransactionResult> {
    try {
      this.#assertOpen();
      this.#check(success);
      this.#check(failure);
    } catch (error) {
      return Promise.reject(error);
    }
    const result: TransactionResult = { succeeded: false, revision: 0, gets: [] };
    const needsSpace = success.some((o) => o.type === 'put') || failure.some((o) => o.type === 'put');
    return this.#enqueue(needsSpace, () => {
      result.gets = [];
      result.succeeded = compares.every((c) => (this.#backend.current(c.key)?.modRevision ?? 0) === c.modRevision);
      const events = this.#execute(result.succeeded ? success : failure, result.gets);
      result.revision = this.#backend.revision();
      return events;
    }).then(() => result);
  }

  watch(request: WatchRequest): StoreWatch {
    this.#assertOpen();
    return this.#hub.watch(request);
  }

  async grantLease(ttlSeconds: number): Promise<number> {
    this.#assertOpen();
    if (!(ttlSeconds > 0)) throw new Error(`a lease needs a positive time to live, not ${ttlSeconds}`);
    let id = 0;
    do id = randomInt(1, 2 ** 47);
    while (this.#leases.has(id));
    await this.#enqueue(true, () => {
      this.#backend.saveLease(id, ttlSeconds);
      return undefined;
    });
    this.#leases.add(id, ttlSeconds);
    return id;
  }

  async keepLeaseAlive(id: number): Promise<void> {
    this.#assertOpen();
    if (!this.#leases.renew(id)) throw new LeaseNotFoundError(id);
  }

  async revokeLease(id: number): Promise<void> {
    this.#assertOpen();
    if (!this.#leases.has(id)) throw new LeaseNotFoundError(id);
    await this.#endLease(id);
  }

  async compact(revision: number): Promise<void> {
    this.#assertOpen();
    if (revision > this.#revision) throw new FutureRevisionError(revision);
    if (revision <= this.#compactedRevision) throw new CompactedError(this.#compactedRevision);
    await this.#enqueue(false, () => {
      if (revision > this.#backend.compactedRevision()) this.#backend.setCompactedRevision(revision);
      return undefined;
    });
    this.#compactedRevision = Math.max(this.#compactedRevision, revision);
    this.#compaction = this.#compaction.catch(() => {}).then(() => this.#dropHistory(revision));
    await this.#compaction;
  }

  async advanceRevision(revision: number): Promise<void> {
    this.#assertOpen();
    await this.#enqueue(true, () => {
      if (revision <= this.#backend.revision()) return undefined;
      this.#backend.setRevision(revision);
      return { revision, events: [] };
    });
  }

  size(): Promise<number> {
    return this.#backend.size();
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#leases.stop();
    this.#hub.closeAll();
    while (this.#pumping) await this.#pumping;
    await this.#compaction.catch(() => {});
    await this.#backend.close();
  }

  #assertOpen(): void {
    if (this.#closed) throw new Error('the store is closed');
  }

  #assertReadable(revision: number): void {
    // The backend may have committed what is not acknowledged yet: a revision it gave out must be readable.
    if (revision > this.#revision && revision > this.#backend.revision()) throw new FutureRevisionError(revision);
    if (revision < this.#compactedRevision) throw new CompactedError(this.#compactedRevision);
  }

  #check(operations: Operation[]): void {
    const written = new Set<string>();
    for (const operation of operations) {
      if (operation.key === '') throw new Error('key is not provided');
      if (operation.type === 'get') continue;
      if (Buffer.byteLength(operation.key) > this.#maxKeyLength) {
        throw new Error(`key is too long: ${operation.key.slice(0, 40)}… has more than ${this.#maxKeyLength} bytes`);
      }
      if (written.has(operation.key)) throw new Error(`duplicate key given in txn request: ${operation.key}`);
      written.add(operation.key);
    }
  }

  #execute(operations: Operation[], gets: (KeyValue | undefined)[]): StoreEvents | undefined {
    for (const o of operations) if (o.type === 'put' && o.lease && !this.#hasLease(o.lease)) throw new LeaseNotFoundError(o.lease);
    const revision = this.#backend.revision() + 1;
    const events: StoreEvent[] = [];
    for (const operation of operations) {
      const { key } = operation;
      const previous = this.#backend.current(key);
      if (operation.type === 'get') {
        gets.push(previous);
        continue;
      }
      if (operation.type === 'delete' && !previous) continue;
      const item: KeyValue =
        operation.type === 'put'
          ? {
              key,
              value: operation.value,
              createRevision: previous?.createRevision ?? revision,
              modRevision: revision,
              version: (previous?.version ?? 0) + 1,
              lease: operation.lease ?? 0,
            }
          : { key, value: Buffer.alloc(0), createRevision: 0, modRevision: revision, version: 0, lease: 0 };
      const event: StoreEvent = { type: operation.type, item, previous };
      this.#backend.record(event, events.length);
      events.push(event);
    }
    if (events.length === 0) return undefined;
    this.#backend.setRevision(revision);
    return { revision, events };
  }

  async #endLease(id: number): Promise<void> {
    try {
      await this.#enqueue(false, () => {
        this.#ending.add(id);
        const keys = this.#backend.leaseKeys(id);
        const events = this.#execute(
          keys.map((key) => ({ type: 'delete', key })),
          [],
        );
        this.#backend.removeLease(id);
        return events;
      });
      this.#leases.remove(id);
    } finally {
      this.#ending.delete(id);
    }
  }

  #hasLease(id: number): boolean {
    return this.#leases.has(id) && !this.#ending.has(id);
  }

  async #dropHistory(before: number): Promise<void> {
    let done = false;
    while (!done) {
      await this.#enqueue(
        false,
        () => {
          done = this.#backend.dropHistory(before, compactionChunk);
          return undefined;
        },
        true,
      );
      await new Promise((resolve) => setImmediate(resolve));
      if (this.#closed) return;
    }
  }

  #enqueue(needsSpace: boolean, run: () => StoreEvents | undefined, whileClosing = false): Promise<void> {
    if (this.#closed && !whileClosing) return Promise.reject(new Error('the store is closed'));
    return new Promise((resolve, reject) => {
      this.#queue.push({ needsSpace, run, resolve, reject });
      this.#pumping ??= this.#pump();
    });
  }

  async #pump(): Promise<void> {
    // A moment later, so that what is written on this turn goes together.
    await Promise.resolve();
    while (this.#queue.length > 0) await this.#commitGroup(this.#queue.splice(0, groupLimit));
    this.#pumping = undefined;
  }

  /** Never throws: what goes wrong is told to the jobs. */
  async #commitGroup(group: Job[]): Promise<void> {
    try {
      if (this.#full) await this.#lookForSpace();
      await this.#commit(group);
    } catch (error) {
      if (!(error instanceof NoSpaceError) || this.#full) {
        for (const job of group) job.reject(error as Error);
        return;
      }
      // Once more without the writes that need room: deletes and compaction are what makes some.
      this.#full = error;
      this.#nextSpaceCheck = this.#clock.now() + spaceCheckInterval;
      await this.#backend.releaseReserve().catch(() => {});
      this.#queue.unshift(...group);
    }
  }

  async #commit(group: Job[]): Promise<void> {
    const failed = new Map<Job, Error>();
    let published: StoreEvents[] = [];
    const jobs = group.filter((job) => {
      if (!job.needsSpace || !this.#full) return true;
      job.reject(this.#full);
      return false;
    });
    if (jobs.length === 0) return;
    await this.#backend.commit(() => {
      published = [];
      failed.clear();
      for (const job of jobs) {
        try {
          const events = job.run();
          if (events) published.push(events);
        } catch (error) {
          // A job throws before its first write, unless the backend itself fails: then the whole commit does.
          if (error instanceof LeaseNotFoundError) failed.set(job, error);
          else throw error;
        }
      }
    });
    this.#revision = Math.max(this.#revision, published[published.length - 1]?.revision ?? 0);
    this.#hub.publish(published);
    for (const job of jobs) {
      const error = failed.get(job);
      if (error) job.reject(error);
      else job.resolve();
    }
  }

  async #lookForSpace(): Promise<void> {
    if (this.#clock.now() < this.#nextSpaceCheck) return;
    this.#nextSpaceCheck = this.#clock.now() + spaceCheckInterval;
    if (await this.#backend.takeReserve().catch(() => false)) this.#full = undefined;
  }
}
