import type { Logger } from 'pino';
import { StatusError, timeout } from '../../api/errors.ts';
import type { ServedResource } from '../../api/scheme.ts';
import { CompactedError, prefixEnd, type Store, type StoreEvents, type StoreWatch } from '../../store/store.ts';
import { type CacheEvent, ResourceCache } from './cache.ts';
import { Entry } from './entry.ts';
import { Past } from './past.ts';

const root = '/registry/';
const waitLimitMs = 3000;

/** Holds one cache per stored resource, all at one revision, fed by a single watch of the store. */
export class CacheHub {
  readonly store: Store;
  /** Every change up to this revision is in the caches. */
  revision = 0;
  readonly caches: ResourceCache[] = [];
  readonly past: Past;
  /** Is told of what is asked of the store for requests. */
  observer: { stored(operation: string, group: string, resource: string, started: number, failed?: boolean): void } | undefined;
  #byPath = new Map<string, ResourceCache>();
  #log: Logger;
  #watch: StoreWatch | undefined;
  #waiting: { revision: number; resolve: () => void }[] = [];
  #progress = new Set<(revision: number) => void>();
  #closed = false;
  #failed: Error | undefined;

  constructor(store: Store, log: Logger) {
    this.store = store;
    this.#log = log;
    this.past = new Past(store, this.caches, (key) => this.#cacheOfKey(key));
  }

  /** The cache where objects of this (storage version's) resource are kept; made on first call, before start. */
  cacheOf(resource: ServedResource): ResourceCache {
    let cache = this.#byPath.get(resource.registryPath);
    if (!cache) {
      cache = new ResourceCache(resource);
      this.#byPath.set(resource.registryPath, cache);
      this.caches.push(cache);
    }
    return cache;
  }

  /** The cache of a resource that is added while the server runs, filled from the store. */
  async addCache(resource: ServedResource): Promise<ResourceCache> {
    const known = this.#byPath.get(resource.registryPath);
    if (known) return known;
    const cache = new ResourceCache(resource);
    cache.holdChanges();
    this.#byPath.set(resource.registryPath, cache);
    this.caches.push(cache);
    const revision = this.store.revision();
    const entries: Entry[] = [];
    let start = cache.prefix;
    const end = prefixEnd(cache.prefix);
    for (;;) {
      const page = await this.store.range({ start, end, revision, limit: 2000 });
      for (const item of page.items) entries.push(Entry.fromStore(resource, item.key.slice(cache.prefix.length), item.modRevision, item.value));
      if (!page.more) break;
      start = `${page.items.at(-1)!.key}\0`;
    }
    cache.load(entries, revision);
    return cache;
  }

  /** Forgets a resource that is no longer served and ends its watches. */
  removeCache(registryPath: string): void {
    const cache = this.#byPath.get(registryPath);
    if (!cache) return;
    this.#byPath.delete(registryPath);
    this.caches.splice(this.caches.indexOf(cache), 1);
    cache.endWatches();
  }

  /** Reads everything at one revision, then follows. */
  async start(): Promise<void> {
    const { revision, found } = await this.#readAll();
    for (const cache of this.caches) cache.load(found.get(cache) ?? [], revision);
    this.revision = revision;
    this.#follow(revision + 1);
  }

  async #readAll(): Promise<{ revision: number; found: Map<ResourceCache, Entry[]> }> {
    const revision = (await this.store.latestRevision?.()) ?? this.store.revision();
    const found = new Map<ResourceCache, Entry[]>();
    let start = root;
    const end = prefixEnd(root);
    for (;;) {
      const page = await this.store.range({ start, end, revision, limit: 2000 });
      for (const item of page.items) {
        const cache = this.#cacheOfKey(item.key);
        if (!cache) continue;
        const entry = Entry.fromStore(cache.resource, item.key.slice(cache.prefix.length), item.modRevision, item.value);
        const list = found.get(cache);
        if (list) list.push(entry);
        else found.set(cache, [entry]);
      }
      if (!page.more) break;
      start = `${page.items.at(-1)!.key}\0`;
    }
    return { revision, found };
  }

  #follow(startRevision: number): void {
    this.#watch = this.store.watch({
      start: root,
      end: prefixEnd(root),
      startRevision,
      previous: false,
      onEvents: (events) => this.#onEvents(events),
      onError: (error) => this.#onError(error),
    });
  }

  #onEvents({ revision, events }: StoreEvents): void {
    if (this.#closed) return;
    for (const event of events) {
      try {
        this.#cacheOfKey(event.item.key)?.apply(event, revision);
      } catch (error) {
        this.#log.error({ err: error, key: event.item.key }, 'a stored value cannot be read');
      }
    }
    this.#moved(revision);
  }

  #moved(revision: number): void {
    if (revision > this.revision) this.revision = revision;
    if (this.#waiting.length > 0) {
      const due = this.#waiting.filter((w) => w.revision <= this.revision);
      if (due.length > 0) {
        this.#waiting = this.#waiting.filter((w) => w.revision > this.revision);
        for (const w of due) w.resolve();
      }
    }
    for (const listener of this.#progress) listener(this.revision);
  }

  #onError(error: Error): void {
    if (this.#closed) return;
    this.#failed = error;
    this.#log.error({ err: error }, 'the watch of the store ended');
    for (const cache of this.caches) cache.endWatches(error);
    // The store failed, or compaction overtook us (after an outage that was longer than history is kept).
    if (error instanceof CompactedError) void this.#reload();
  }

  /** Reads everything anew and tells indexes what has changed meanwhile; clients list again, since their watches ended. */
  async #reload(): Promise<void> {
    for (let attempt = 0; !this.#closed; attempt++) {
      try {
        const { revision, found } = await this.#readAll();
        for (const cache of this.caches) cache.replace(found.get(cache) ?? [], revision);
        this.#failed = undefined;
        this.#follow(revision + 1);
        this.#moved(revision);
        this.#log.info({ revision }, 'the caches are filled anew');
        return;
      } catch (error) {
        this.#log.error({ err: error }, 'the caches cannot be filled anew yet');
        await new Promise((resolve) => setTimeout(resolve, Math.min(5000, 200 * 2 ** attempt)));
      }
    }
  }

  get failure(): Error | undefined {
    return this.#failed;
  }

  #cacheOfKey(key: string): ResourceCache | undefined {
    const one = key.indexOf('/', root.length);
    if (one < 0) return undefined;
    const single = this.#byPath.get(key.slice(root.length, one));
    if (single) return single;
    const two = key.indexOf('/', one + 1);
    return two < 0 ? undefined : this.#byPath.get(key.slice(root.length, two));
  }

  /** Resolves when the caches hold everything that the store has acknowledged until now, to whomever. */
  current(signal?: AbortSignal): Promise<void> | undefined {
    if (this.store.latestRevision) return this.store.latestRevision().then((latest) => this.waitFor(latest, signal));
    const revision = this.store.revision();
    return this.revision >= revision ? undefined : this.waitFor(revision, signal);
  }

  /** Resolves when the caches have reached revision; StatusError 504 after 3 s. */
  waitFor(revision: number, signal?: AbortSignal): Promise<void> | undefined {
    if (this.revision >= revision) return undefined;
    return new Promise((resolve, reject) => {
      const waiter = {
        revision,
        resolve: () => {
          done();
          resolve();
        },
      };
      const done = () => {
        clearTimeout(timer);
        signal?.removeEventListener('abort', onAbort);
      };
      const fail = (error: Error) => {
        done();
        this.#waiting = this.#waiting.filter((w) => w !== waiter);
        reject(error);
      };
      const onAbort = () => fail(signal!.reason instanceof Error ? signal!.reason : new StatusError(499, 'ClientClosed', 'request was canceled'));
      const timer = setTimeout(() => fail(tooLargeResourceVersion(revision, this.revision)), waitLimitMs);
      signal?.addEventListener('abort', onAbort, { once: true });
      this.#waiting.push(waiter);
    });
  }

  /**
   * Changes of one resource after a revision, from the store's history, up to where the cache's own goes on: where that does not reach
   * back, as after a restart. CompactedError where the store has forgotten them.
   */
  replay(cache: ResourceCache, after: number, signal?: AbortSignal): Promise<{ events: CacheEvent[]; upTo: number }> {
    return this.past.changes(cache, after, signal);
  }

  /** Called with the revision whenever it has moved. */
  onProgress(listener: (revision: number) => void): () => void {
    this.#progress.add(listener);
    return () => this.#progress.delete(listener);
  }

  close(): void {
    this.#closed = true;
    this.#watch?.close();
    this.past.close();
    for (const cache of this.caches) cache.endWatches();
  }
}

export function tooLargeResourceVersion(wanted: number, current: number): StatusError {
  const error = timeout(`Timeout: Too large resource version: ${wanted}, current: ${current}`);
  error.status.details = { retryAfterSeconds: 1, causes: [{ reason: 'ResourceVersionTooLarge', message: 'Too large resource version' }] };
  error.headers['retry-after'] = '1';
  return error;
}
