import { setMaxListeners } from 'node:events';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Logger } from 'pino';
import { isGone, StatusError } from '../api/errors.ts';
import { type KubeObject, keyOf, type ResourceType } from '../api/object.ts';
import type { Client, WatchEvent } from './client.ts';
import { type Clock, sleep } from './clock.ts';
import { deepFreeze } from './freeze.ts';
import type { Informer, InformerFactory, InformerHandlers } from './informer.ts';
import { ObjectCache } from './object-cache.ts';

export interface InformerFactoryOptions {
  log: Logger;
  clock: Clock;
  /** Ends all informers when it aborts. */
  signal: AbortSignal;
  /** Objects per page of a list. */
  pageSize?: number;
}

interface Selection {
  namespace?: string;
  labelSelector?: string;
  fieldSelector?: string;
}

export function createInformerFactory(client: Client, options: InformerFactoryOptions): InformerFactory {
  const stopping = new AbortController();
  const signal = AbortSignal.any([options.signal, stopping.signal]);
  // Every informer listens; Node before 24 takes eleven listeners for a leak.
  setMaxListeners(0, signal);
  const informers = new Map<string, SharedInformer<any>>();
  return {
    informer<T>(type: ResourceType<T>, selection: Selection = {}): Informer<T> {
      const { namespace = '', labelSelector = '', fieldSelector = '' } = selection;
      const key = [type.group, type.version, type.resource, namespace, labelSelector, fieldSelector].join('|');
      let found = informers.get(key) as SharedInformer<T> | undefined;
      if (!found) {
        const log = options.log.child({ informer: type.group ? `${type.resource}.${type.group}` : type.resource });
        found = new SharedInformer(client, type, { namespace, labelSelector, fieldSelector }, { ...options, signal, log });
        informers.set(key, found);
        void found.run();
      }
      return found;
    },
    async allSynced(until) {
      await Promise.all([...informers.values()].map((i) => i.synced(until)));
    },
    stop() {
      stopping.abort(new Error('the informers have been stopped'));
    },
  };
}

/** Delay before the first new attempt after an error; doubled up to the longest. */
const firstBackoffMs = 200;
const longestBackoffMs = 30_000;
/** Objects whose handlers run before others get a turn. */
const deliverChunk = 200;

class SharedInformer<T> implements Informer<T> {
  readonly #client: Client;
  readonly #type: ResourceType<T>;
  readonly #selection: Selection;
  readonly #log: Logger;
  readonly #clock: Clock;
  readonly #signal: AbortSignal;
  readonly #pageSize: number;
  readonly #cache: ObjectCache<T>;
  readonly #handlers = new Set<InformerHandlers<T>>();
  readonly #waiting = new Set<() => void>();
  /** Up to where the cache is current; undefined when it must be listed anew. */
  #resourceVersion: string | undefined;
  #backoffMs = firstBackoffMs;
  hasSynced = false;

  constructor(client: Client, type: ResourceType<T>, selection: Selection, options: InformerFactoryOptions) {
    this.#client = client;
    this.#type = type;
    this.#selection = Object.fromEntries(Object.entries(selection).filter(([, value]) => value));
    this.#log = options.log;
    this.#clock = options.clock;
    this.#signal = options.signal;
    this.#pageSize = options.pageSize ?? 500;
    this.#cache = new ObjectCache(options.log);
  }

  addHandlers(handlers: InformerHandlers<T>): () => void {
    // A registration of its own, so that the same handlers may be added twice and each be removed.
    const registration = {
      ...handlers,
      onAdd: handlers.onAdd?.bind(handlers),
      onUpdate: handlers.onUpdate?.bind(handlers),
      onDelete: handlers.onDelete?.bind(handlers),
    };
    this.#handlers.add(registration);
    for (const object of this.#cache.list()) this.#call(registration, 'onAdd', object);
    return () => this.#handlers.delete(registration);
  }

  get(key: string): T | undefined {
    return this.#cache.get(key);
  }

  list(namespace?: string): T[] {
    return this.#cache.list(namespace);
  }

  addIndex(name: string, indexer: (object: T) => string[]): void {
    this.#cache.addIndex(name, indexer);
  }

  byIndex(name: string, value: string): T[] {
    return this.#cache.byIndex(name, value);
  }

  synced(until?: AbortSignal): Promise<void> {
    if (this.hasSynced) return Promise.resolve();
    const signal = until ? AbortSignal.any([until, this.#signal]) : this.#signal;
    return new Promise((resolve, reject) => {
      const onAbort = () => {
        this.#waiting.delete(onSynced);
        reject(new Error(`stopped waiting for the first list of ${this.#type.resource}`, { cause: signal.reason }));
      };
      const onSynced = () => {
        signal.removeEventListener('abort', onAbort);
        resolve();
      };
      if (signal.aborted) return onAbort();
      signal.addEventListener('abort', onAbort, { once: true });
      this.#waiting.add(onSynced);
    });
  }

  /** Lists and watches until the signal aborts; errors are logged and tried again. */
  async run(): Promise<void> {
    while (!this.#signal.aborted) {
      try {
        if (this.#resourceVersion === undefined) await this.#relist();
        const startedAt = this.#clock.now();
        const events = await this.#watch();
        // A server that ends watches at once must not be asked again at once, for ever.
        if (events === 0 && this.#clock.now() - startedAt < 1000) await this.#backOff();
      } catch (error) {
        if (this.#signal.aborted) return;
        if (isGone(error)) {
          this.#log.info({ err: error }, 'the watch is too old, listing anew');
          this.#resourceVersion = undefined;
          if (this.#backoffMs > firstBackoffMs) await this.#backOff();
          else this.#backoffMs *= 2;
          continue;
        }
        this.#log.warn({ err: error, retryInMs: this.#backoffMs }, 'list or watch failed, trying again');
        await this.#backOff();
      }
    }
  }

  async #backOff(): Promise<void> {
    const ms = this.#backoffMs * (1 + Math.random());
    this.#backoffMs = Math.min(this.#backoffMs * 2, longestBackoffMs);
    await sleep(this.#clock, ms, this.#signal).catch(() => {});
  }

  async #relist(): Promise<void> {
    const { items, resourceVersion } = await this.#list();
    const gone = new Set(this.#cache.keys());
    let delivered = 0;
    for (const object of items) {
      gone.delete(keyOf(object as KubeObject));
      this.#upsert(object);
      if (++delivered % deliverChunk === 0) await nextTurn();
    }
    for (const key of gone) {
      const last = this.#cache.delete(key)!;
      this.#dispatch('onDelete', last);
      if (++delivered % deliverChunk === 0) await nextTurn();
    }
    this.#signal.throwIfAborted();
    this.#resourceVersion = resourceVersion;
    this.hasSynced = true;
    for (const onSynced of this.#waiting) onSynced();
    this.#waiting.clear();
  }

  async #list(): Promise<{ items: T[]; resourceVersion: string }> {
    const items: T[] = [];
    let next: string | undefined;
    let limit: number | undefined = this.#pageSize;
    for (;;) {
      try {
        const page = await this.#client.list(this.#type, { ...this.#selection, limit, continue: next, signal: this.#signal });
        for (const object of page.items) items.push(object);
        next = page.metadata.continue;
        if (!next) return { items, resourceVersion: page.metadata.resourceVersion };
      } catch (error) {
        // Compaction overtook the paging: all at once then, which cannot be overtaken.
        if (!isGone(error) || !next) throw error;
        items.length = 0;
        next = undefined;
        limit = undefined;
      }
    }
  }

  /** One watch, to its end; the number of events it brought. */
  async #watch(): Promise<number> {
    let count = 0;
    const events = this.#client.watch(this.#type, {
      ...this.#selection,
      resourceVersion: this.#resourceVersion,
      allowWatchBookmarks: true,
      // Spread, so that not all watches of a cluster end together.
      timeoutSeconds: Math.round(300 + Math.random() * 300),
      signal: this.#signal,
    });
    for await (const event of events) {
      if (this.#signal.aborted) break;
      this.#apply(event);
      count++;
      this.#backoffMs = firstBackoffMs;
    }
    return count;
  }

  #apply(event: WatchEvent<T>): void {
    if (event.type === 'ERROR') throw StatusError.fromStatus(event.object);
    const object = event.object;
    const { metadata } = object as KubeObject;
    if (event.type === 'DELETED') {
      const before = this.#cache.delete(keyOf(object as KubeObject));
      if (before) this.#dispatch('onDelete', deepFreeze(object));
    } else if (event.type !== 'BOOKMARK') this.#upsert(object);
    this.#resourceVersion = metadata.resourceVersion;
  }

  #upsert(object: T): void {
    deepFreeze(object);
    const key = keyOf(object as KubeObject);
    const known = this.#cache.get(key) as KubeObject | undefined;
    const { uid, resourceVersion } = (object as KubeObject).metadata;
    if (known && known.metadata.resourceVersion === resourceVersion && known.metadata.uid === uid) return;
    if (known && known.metadata.uid !== uid) {
      // Deleted and made anew while nobody was watching: two objects, and handlers are told so.
      this.#cache.delete(key);
      this.#dispatch('onDelete', known as T);
    }
    const before = this.#cache.set(object);
    if (before) this.#dispatch('onUpdate', before, object);
    else this.#dispatch('onAdd', object);
  }

  #dispatch(method: 'onAdd' | 'onDelete', object: T): void;
  #dispatch(method: 'onUpdate', before: T, after: T): void;
  #dispatch(method: keyof InformerHandlers<T>, object: T, after?: T): void {
    for (const handlers of [...this.#handlers]) this.#call(handlers, method, object, after);
  }

  #call(handlers: InformerHandlers<T>, method: keyof InformerHandlers<T>, object: T, after?: T): void {
    try {
      if (method === 'onUpdate') handlers.onUpdate?.(object, after!);
      else handlers[method]?.(object);
    } catch (error) {
      this.#log.error({ err: error, method, key: keyOf(object as KubeObject) }, 'informer handler failed');
    }
  }
}
