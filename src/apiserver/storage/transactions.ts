import { sameJson } from '../../api/equality.ts';
import { alreadyExists, notFound, StatusError, type Subject, timeout } from '../../api/errors.ts';
import type { ManagedFieldsEntry } from '../../api/generated/types.ts';
import type { KubeObject } from '../../api/object.ts';
import type { Clock } from '../../client/clock.ts';
import { NoSpaceError, type Operation, type Store, type TransactionResult } from '../../store/store.ts';
import type { ResourceCache } from './cache.ts';
import { encodeForStore } from './encoding.ts';
import { Entry } from './entry.ts';
import type { CacheHub } from './hub.ts';

/** What a transaction makes of the current object. */
export type Outcome =
  | { put: KubeObject; dryRun?: boolean; ttlSeconds?: number }
  | { remove: true; dryRun?: boolean; last?: KubeObject }
  | { keep: true };

export interface Written {
  /** After the write; for a removal the last state. */
  entry: Entry;
  removed: boolean;
  /** Whether the object did not exist before. */
  created: boolean;
}

const attempts = 60;

/** Writes of one resource. All are compare-and-swap on the key's modRevision. */
export class ResourceStorage {
  readonly cache: ResourceCache;
  readonly subject: Subject;
  readonly hub: CacheHub;
  #store: Store;
  #leases: EventLeases;

  constructor(hub: CacheHub, cache: ResourceCache, subject: Subject, leases: EventLeases) {
    this.hub = hub;
    this.cache = cache;
    this.subject = subject;
    this.#store = hub.store;
    this.#leases = leases;
  }

  /** The entry that is current in the store, from the cache where that is known to be current. */
  async read(key: string): Promise<Entry | undefined> {
    await this.hub.current();
    return this.cache.get(key);
  }

  /** StatusError 409 AlreadyExists where the key is taken. */
  async create(key: string, object: KubeObject, options: { dryRun?: boolean; ttlSeconds?: number } = {}): Promise<Entry> {
    const name = object.metadata.name ?? '';
    if (options.dryRun) {
      if (await this.read(key)) throw alreadyExists(this.subject, name);
      return new DryRunEntry(this.cache, key, object).entry;
    }
    const value = encodeForStore(object);
    this.cache.known.set(value, object);
    const storeKey = this.cache.prefix + key;
    const lease = options.ttlSeconds ? await this.#leases.lease(options.ttlSeconds) : undefined;
    const result = await this.#commit(
      'create',
      [{ key: storeKey, modRevision: 0 }],
      [{ type: 'put', key: storeKey, value, ...(lease ? { lease } : {}) }],
      [{ type: 'get', key: storeKey }],
    );
    if (!result.succeeded) throw this.#taken(key, name, result);
    return this.cache.entryOf(key, result.revision, value);
  }

  /**
   * Reads, computes, writes; again where someone else wrote in between. `compute` may throw a StatusError: it is believed
   * only when it was given the store's current state. A put that changes nothing writes nothing.
   */
  async update(key: string, compute: (current: Entry | undefined) => Promise<Outcome> | Outcome): Promise<Written> {
    const storeKey = this.cache.prefix + key;
    let current = this.cache.get(key);
    let fresh = !this.#store.shared && this.hub.revision >= this.#store.revision();
    for (let attempt = 0; attempt < attempts; attempt++) {
      let outcome: Outcome;
      try {
        outcome = await compute(current);
      } catch (error) {
        if (fresh || !(error instanceof StatusError)) throw error;
        const read = await this.#read(key);
        if (read?.revision === current?.revision) throw error;
        current = read;
        fresh = true;
        continue;
      }
      if ('keep' in outcome || ('put' in outcome && current && same(outcome.put, current.object) && !this.#store.isStale?.(storeKey))) {
        if (!current) throw notFound(this.subject, key);
        if (!fresh) {
          const read = await this.#read(key);
          if (read?.revision !== current.revision) {
            current = read;
            fresh = true;
            continue;
          }
        }
        return { entry: current, removed: false, created: false };
      }
      if (outcome.dryRun) {
        const object = 'put' in outcome ? outcome.put : (outcome.last ?? current!.object);
        return { entry: new DryRunEntry(this.cache, key, object, current).entry, removed: 'remove' in outcome, created: !current };
      }
      const compares = [{ key: storeKey, modRevision: current?.revision ?? 0 }];
      const failure: Operation[] = [{ type: 'get', key: storeKey }];
      let result: TransactionResult;
      let value: Buffer | undefined;
      if ('put' in outcome) {
        value = encodeForStore(outcome.put);
        this.cache.known.set(value, outcome.put);
        const lease = outcome.ttlSeconds ? await this.#leases.lease(outcome.ttlSeconds) : undefined;
        result = await this.#commit(current ? 'update' : 'create', compares, [{ type: 'put', key: storeKey, value, ...(lease ? { lease } : {}) }], failure);
      } else {
        result = await this.#commit('delete', compares, [{ type: 'delete', key: storeKey }], failure);
      }
      if (result.succeeded) {
        if ('put' in outcome) {
          return { entry: this.cache.entryOf(key, result.revision, value!), removed: false, created: !current };
        }
        const last = outcome.last
          ? Entry.fromObject(this.cache.resource, key, result.revision, encodeForStore(outcome.last), outcome.last)
          : current!.at(result.revision);
        return { entry: last, removed: true, created: false };
      }
      const found = result.gets[0];
      current = found && Entry.fromStore(this.cache.resource, key, found.modRevision, found.value);
      fresh = true;
    }
    throw timeout(`${this.subject.resource} "${key}" was changed by others in each of ${attempts} attempts to write it`);
  }

  #taken(key: string, name: string, { gets: [found] }: TransactionResult): StatusError {
    const error = alreadyExists(this.subject, name);
    if (!found || !Entry.fromStore(this.cache.resource, key, found.modRevision, found.value).object.metadata.deletionTimestamp) return error;
    return new StatusError(409, 'AlreadyExists', `object is being deleted: ${error.message}`, error.status.details);
  }

  async #read(key: string): Promise<Entry | undefined> {
    const started = performance.now();
    const found = await this.#store.get(this.cache.prefix + key);
    this.hub.observer?.stored('get', this.subject.group, this.subject.resource, started);
    return found && Entry.fromStore(this.cache.resource, key, found.modRevision, found.value);
  }

  async #commit(operation: string, ...args: Parameters<Store['transaction']>): Promise<TransactionResult> {
    const started = performance.now();
    const { group, resource } = this.subject;
    try {
      const result = await this.#store.transaction(...args);
      this.hub.observer?.stored(operation, group, resource, started);
      return result;
    } catch (error) {
      this.hub.observer?.stored(operation, group, resource, started, true);
      if (error instanceof NoSpaceError) throw new StatusError(500, 'InternalError', `etcdserver: mvcc: ${error.message}`);
      throw error;
    }
  }
}

/** What a dry run answers: the object as it would be, at the revision it has (or none). */
class DryRunEntry {
  readonly entry: Entry;
  constructor(cache: ResourceCache, key: string, object: KubeObject, current?: Entry) {
    this.entry = Entry.fromObject(cache.resource, key, current?.revision ?? 0, encodeForStore(object), object);
  }
}

/** Whether a write would change nothing but the times at which fields were managed. */
function same(next: KubeObject, current: KubeObject): boolean {
  const { resourceVersion: _a, managedFields: fields, ...nextMeta } = next.metadata;
  const { resourceVersion: _c, managedFields: known, ...currentMeta } = current.metadata;
  if (!sameJson({ ...next, metadata: undefined }, { ...current, metadata: undefined }) || !sameJson(nextMeta, currentMeta)) return false;
  if (fields === known) return true;
  if (fields?.length !== known?.length) return false;
  return sameJson(fields?.map(withoutTime), known?.map(withoutTime));
}

const withoutTime = ({ time: _, ...entry }: ManagedFieldsEntry): Omit<ManagedFieldsEntry, 'time'> => entry;

/** Leases for objects with a time to live, shared by all that were written within a minute of each other. */
export class EventLeases {
  #store: Store;
  #clock: Clock;
  #current = new Map<number, { id: Promise<number>; until: number; uses: number }>();

  constructor(store: Store, clock: Clock) {
    this.#store = store;
    this.#clock = clock;
  }

  async lease(ttlSeconds: number): Promise<number> {
    const now = this.#clock.now();
    const held = this.#current.get(ttlSeconds);
    if (held && held.until > now && held.uses < 1000) {
      held.uses++;
      return held.id;
    }
    // A minute longer than asked: the last user of the lease still has its whole time.
    const id = this.#store.grantLease(ttlSeconds + 60);
    this.#current.set(ttlSeconds, { id, until: now + 60_000, uses: 1 });
    id.catch(() => this.#current.delete(ttlSeconds));
    return id;
  }
}
