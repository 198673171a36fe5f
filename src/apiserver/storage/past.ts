import { StatusError } from '../../api/errors.ts';
import { CompactedError, prefixEnd, type Store, type StoreEvent } from '../../store/store.ts';
import type { CacheEvent, ResourceCache } from './cache.ts';

/** Changes of some caches after a revision and up to another, read in one go. */
interface Reading {
  after: number;
  upTo: number;
  events: Map<ResourceCache, CacheEvent[]>;
}

/** Milliseconds in which those that resume gather, so that one reading serves them all. */
const gatherMs = 5;
/** How long a reading is kept for those that come late. */
const keptMs = 10_000;

/**
 * Changes from before the caches' own histories, read from the store: what watches need that resume from an older revision, as all do
 * when a server has come back. However many resume, each change is read once: they gather for a moment, one reading reaches back to the
 * oldest revision that any of them asks for and no further forward than where the caches' histories begin, and what it found is kept, in
 * these histories as far as they have room and beside them for those that come a little later.
 */
export class Past {
  readonly #store: Store;
  readonly #caches: readonly ResourceCache[];
  readonly #cacheOf: (key: string) => ResourceCache | undefined;
  /** What others read of a shared store costs them and the network: there a reading is of one resource. */
  readonly #byCache: boolean;
  #gathering = new Map<ResourceCache | undefined, { after: number; asked: Set<ResourceCache>; reading: Promise<Reading> }>();
  #kept: Reading[] = [];
  #timer: NodeJS.Timeout | undefined;
  /** Readings that were made. */
  readings = 0;

  constructor(store: Store, caches: readonly ResourceCache[], cacheOf: (key: string) => ResourceCache | undefined) {
    this.#store = store;
    this.#caches = caches;
    this.#cacheOf = cacheOf;
    this.#byCache = store.shared === true;
  }

  /**
   * Changes of a cache after `since`, oldest first, up to a revision from which its own history goes on. CompactedError where the store
   * has forgotten them.
   */
  async changes(cache: ResourceCache, since: number, signal?: AbortSignal): Promise<{ events: CacheEvent[]; upTo: number }> {
    const events: CacheEvent[] = [];
    let from = since;
    while (!cache.reaches(from)) {
      const reading = await this.#reading(cache, from, signal);
      for (const event of reading.events.get(cache) ?? []) if (event.revision > from) events.push(event);
      from = Math.max(from, reading.upTo);
    }
    return { events, upTo: from };
  }

  async #reading(cache: ResourceCache, after: number, signal: AbortSignal | undefined): Promise<Reading> {
    const known = this.#kept.find((one) => one.after <= after && one.upTo > after && one.events.has(cache));
    if (known) return known;
    const of = this.#byCache ? cache : undefined;
    const gathering = this.#gathering.get(of);
    if (gathering) {
      gathering.after = Math.min(gathering.after, after);
      gathering.asked.add(cache);
      return this.#await(gathering.reading, cache, after, signal);
    }
    const next = { after, asked: new Set([cache]), reading: undefined as unknown as Promise<Reading> };
    next.reading = new Promise((resolve) => setTimeout(resolve, gatherMs)).then(() => {
      this.#gathering.delete(of);
      return this.#read(of ? [of] : [...this.#caches], next.asked, next.after);
    });
    this.#gathering.set(of, next);
    return this.#await(next.reading, cache, after, signal);
  }

  /** Whoever asked for what is still there is not refused because another asked for what is not. */
  async #await(reading: Promise<Reading>, cache: ResourceCache, after: number, signal: AbortSignal | undefined): Promise<Reading> {
    let abort = () => {};
    const gone = new Promise<never>((_, reject) => {
      abort = () => reject(new StatusError(499, 'ClientClosed', 'request was canceled'));
      if (signal?.aborted) abort();
      else signal?.addEventListener('abort', abort, { once: true });
    });
    try {
      return await Promise.race([reading, gone]);
    } catch (error) {
      if (error instanceof CompactedError && after + 1 >= error.compactedRevision) return this.#reading(cache, after, signal);
      throw error;
    } finally {
      signal?.removeEventListener('abort', abort);
    }
  }

  #read(caches: ResourceCache[], asked: Set<ResourceCache>, after: number): Promise<Reading> {
    this.readings++;
    const upTo = Math.max(after, ...[...asked].map((cache) => cache.historyFrom));
    const reading: Reading = { after, upTo, events: new Map(caches.map((cache) => [cache, []])) };
    const [only] = caches;
    const start = this.#byCache && only ? only.prefix : '/registry/';
    return new Promise((resolve, reject) => {
      const end = (error?: Error) => {
        watch.close();
        if (error) return reject(error);
        for (const [cache, events] of reading.events) if (cache.historyFrom <= upTo) cache.extendBack(events, after);
        this.#keep(reading);
        resolve(reading);
      };
      const take = (change: StoreEvent, revision: number) => {
        const cache = this.#byCache ? only : this.#cacheOf(change.item.key);
        if (cache) reading.events.get(cache)?.push(cache.eventOf(change, revision));
      };
      const watch = this.#store.watch({
        start,
        end: prefixEnd(start),
        startRevision: after + 1,
        onError: end,
        onEvents: ({ revision, events }) => {
          if (revision <= upTo) for (const event of events) take(event, revision);
          if (revision >= upTo) end();
        },
      });
    });
  }

  #keep(reading: Reading): void {
    this.#kept.push(reading);
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.#kept = [];
    }, keptMs).unref();
  }

  close(): void {
    clearTimeout(this.#timer);
    this.#kept = [];
  }
}
