import { gone } from '../../api/errors.ts';
import type { KubeObject } from '../../api/object.ts';
import type { ServedResource } from '../../api/scheme.ts';
import type { StoreEvent } from '../../store/store.ts';
import { Entry } from './entry.ts';

/** A change of one object. Encodings are kept on the event, so that every watcher is given the same bytes. */
export interface CacheEvent {
  revision: number;
  /** The new state; for a deletion the last state at the deletion's revision. */
  entry: Entry;
  previous: Entry | undefined;
  deleted: boolean;
  /** Encoded forms by format; filled by watches. */
  encoded: Map<string, Buffer>;
}

export interface CacheWatcher {
  /** Only changes where this field had or has this value are delivered; what an index over watchers can decide. */
  trigger?: { field: 'spec.nodeName' | 'metadata.name'; value: string };
  /** Called in order, synchronously: must only queue. */
  onEvent(event: CacheEvent): void;
  onEnd(error?: Error): void;
}

const historyLimit = 2000;

/**
 * All objects of one resource at the hub's revision, their recent history, and whoever watches them.
 * Fed by the hub; nothing else writes to it.
 */
export class ResourceCache {
  /** In the storage version; replaced when the definition of a custom resource changes. */
  resource: ServedResource;
  readonly prefix: string;
  /** By namespace/name. */
  readonly entries = new Map<string, Entry>();
  /** Changes that came from the store, and that watches and indexes were told of. */
  received = 0;
  dispatched = 0;
  /** No change in this resource is later than this revision. */
  lastChange = 0;
  #sorted: string[] = [];
  #history: CacheEvent[] = [];
  /** Changes after this revision are in history. */
  #historyFrom = 0;
  /** What the first read of the store held is not applied again. */
  #loadedAt = 0;
  /** Changes that come while the store is being read. */
  #pending: { change: StoreEvent; revision: number }[] | undefined;
  #watchers = new Set<CacheWatcher>();
  #triggered = new Map<string, Set<CacheWatcher>>();
  #listeners = new Set<(event: CacheEvent) => void>();
  /** What this process wrote, by the bytes handed to the store: saves parsing them again. */
  readonly known = new WeakMap<Buffer, KubeObject | Entry>();

  constructor(resource: ServedResource) {
    this.resource = resource;
    this.prefix = `/registry/${resource.registryPath}/`;
  }

  get size(): number {
    return this.entries.size;
  }

  get watcherCount(): number {
    let count = this.#watchers.size;
    for (const set of this.#triggered.values()) count += set.size;
    return count;
  }

  get(key: string): Entry | undefined {
    return this.entries.get(key);
  }

  /** In the order of keys, from the first key >= start, of one namespace or of all. */
  *range(namespace: string | undefined, start = ''): Generator<Entry> {
    const prefix = namespace ? `${namespace}/` : '';
    const from = start > prefix ? start : prefix;
    for (let i = lowerBound(this.#sorted, from); i < this.#sorted.length; i++) {
      const key = this.#sorted[i]!;
      if (prefix && !key.startsWith(prefix)) return;
      yield this.entries.get(key)!;
    }
  }

  /** The keys of one namespace (or all), as an array of its own. */
  list(namespace?: string): Entry[] {
    const out: Entry[] = [];
    const prefix = namespace ? `${namespace}/` : '';
    for (let i = prefix ? lowerBound(this.#sorted, prefix) : 0; i < this.#sorted.length; i++) {
      const key = this.#sorted[i]!;
      if (prefix && !key.startsWith(prefix)) break;
      out.push(this.entries.get(key)!);
    }
    return out;
  }

  /** Fills from a first read of the store at `revision`. */
  load(items: Entry[], revision: number): void {
    for (const entry of items) {
      this.entries.set(entry.key, entry);
      this.#sorted.push(entry.key);
    }
    // What was deleted before is not among them: any of these revisions may have been the last change.
    this.lastChange = revision;
    this.#sorted.sort(compareKeys);
    this.#historyFrom = revision;
    this.#loadedAt = revision;
    const pending = this.#pending ?? [];
    this.#pending = undefined;
    for (const { change, revision: at } of pending) this.apply(change, at);
  }

  /** Keeps changes back until load is called: for resources that are added while the server runs. */
  holdChanges(): void {
    this.#pending = [];
  }

  /** Takes over what a later read of the whole store found. History begins anew; indexes hear of every difference. */
  replace(items: Entry[], revision: number): void {
    const next = new Map(items.map((entry) => [entry.key, entry]));
    const tell = (event: CacheEvent) => {
      for (const listener of this.#listeners) listener(event);
    };
    for (const previous of [...this.entries.values()]) {
      if (next.has(previous.key)) continue;
      this.entries.delete(previous.key);
      tell({ revision, entry: previous.at(revision), previous, deleted: true, encoded: new Map() });
    }
    for (const entry of items) {
      const previous = this.entries.get(entry.key);
      if (previous?.revision === entry.revision) continue;
      this.entries.set(entry.key, entry);
      tell({ revision, entry, previous, deleted: false, encoded: new Map() });
    }
    this.#sorted = [...this.entries.keys()].sort(compareKeys);
    this.#history = [];
    this.#historyFrom = revision;
    this.lastChange = revision;
  }

  /** Applies one change of the store. */
  apply(change: StoreEvent, revision: number): void {
    if (this.#pending) {
      this.#pending.push({ change, revision });
      return;
    }
    if (revision <= this.#loadedAt) return;
    this.received++;
    const key = change.item.key.slice(this.prefix.length);
    const previous = this.entries.get(key);
    let event: CacheEvent;
    if (change.type === 'delete') {
      if (!previous) return;
      this.entries.delete(key);
      const at = lowerBound(this.#sorted, key);
      if (this.#sorted[at] === key) this.#sorted.splice(at, 1);
      event = { revision, entry: previous.at(revision), previous, deleted: true, encoded: new Map() };
    } else {
      const { value, modRevision } = change.item;
      const entry = this.entryOf(key, modRevision, value);
      this.entries.set(key, entry);
      if (!previous) this.#sorted.splice(lowerBound(this.#sorted, key), 0, key);
      event = { revision, entry, previous, deleted: false, encoded: new Map() };
    }
    this.lastChange = revision;
    this.#history.push(event);
    if (this.#history.length > historyLimit * 1.25) {
      const dropped = this.#history.splice(0, this.#history.length - historyLimit);
      this.#historyFrom = dropped.at(-1)!.revision;
    }
    for (const listener of this.#listeners) listener(event);
    for (const watcher of this.#watchers) watcher.onEvent(event);
    if (this.#triggered.size > 0) this.#deliverTriggered(event);
    this.dispatched++;
  }

  #deliverTriggered(event: CacheEvent): void {
    const told = new Set<CacheWatcher>();
    for (const entry of [event.entry, event.previous]) {
      if (!entry) continue;
      for (const field of ['spec.nodeName', 'metadata.name'] as const) {
        const set = this.#triggered.get(`${field}=${triggerValue(entry, field)}`);
        if (!set) continue;
        for (const watcher of set) {
          if (told.has(watcher)) continue;
          told.add(watcher);
          watcher.onEvent(event);
        }
      }
    }
  }

  /** The entry of a value that the store holds at a revision; made once for what this process wrote. */
  entryOf(key: string, revision: number, value: Buffer): Entry {
    const known = this.known.get(value);
    if (!known) return Entry.fromStore(this.resource, key, revision, value);
    if (known instanceof Entry && known.revision === revision && known.resource === this.resource) return known;
    const entry = Entry.fromObject(this.resource, key, revision, value, known instanceof Entry ? known.object : known);
    this.known.set(value, entry);
    return entry;
  }

  /** A change of the past, as the store tells it. */
  eventOf({ type, item, previous }: StoreEvent, revision: number): CacheEvent {
    const key = item.key.slice(this.prefix.length);
    const before = previous && Entry.fromStore(this.resource, key, previous.modRevision, previous.value);
    const deleted = type === 'delete';
    const entry = deleted && before ? before.at(revision) : Entry.fromStore(this.resource, key, item.modRevision, item.value);
    return { revision, entry, previous: before, deleted, encoded: new Map() };
  }

  /** History has every change after this revision. */
  get historyFrom(): number {
    return this.#historyFrom;
  }

  /** Takes changes from before the present beginning of history, all after `after`, as far as there is room: the latest of them. */
  extendBack(events: CacheEvent[], after: number): void {
    if (after >= this.#historyFrom) return;
    const older = events.filter((event) => event.revision <= this.#historyFrom);
    const room = Math.max(0, historyLimit - this.#history.length);
    if (room === 0) return;
    const kept = older.length > room ? older.slice(-room) : older;
    this.#history = [...kept, ...this.#history];
    this.#historyFrom = older.length > room ? older[older.length - room - 1]!.revision : after;
  }

  /** Whether history has every change after `revision`. */
  reaches(revision: number): boolean {
    return revision >= this.#historyFrom || revision >= this.lastChange;
  }

  /** Changes after `revision`, oldest first. StatusError 410 where history no longer reaches back. */
  since(revision: number): CacheEvent[] {
    if (!this.reaches(revision)) {
      throw gone(`too old resource version: ${revision} (${this.#historyFrom})`);
    }
    let i = this.#history.length;
    while (i > 0 && this.#history[i - 1]!.revision > revision) i--;
    return this.#history.slice(i);
  }

  addWatcher(watcher: CacheWatcher): () => void {
    if (!watcher.trigger) {
      this.#watchers.add(watcher);
      return () => this.#watchers.delete(watcher);
    }
    const id = `${watcher.trigger.field}=${watcher.trigger.value}`;
    let set = this.#triggered.get(id);
    if (!set) this.#triggered.set(id, (set = new Set()));
    set.add(watcher);
    return () => {
      set.delete(watcher);
      if (set.size === 0 && this.#triggered.get(id) === set) this.#triggered.delete(id);
    };
  }

  /** For indexes kept in this process: called with every change, before watchers. */
  onChange(listener: (event: CacheEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  endWatches(error?: Error): void {
    const all = [...this.#watchers, ...[...this.#triggered.values()].flatMap((set) => [...set])];
    for (const watcher of all) watcher.onEnd(error);
  }
}

function triggerValue(entry: Entry, field: 'spec.nodeName' | 'metadata.name'): string {
  if (field === 'metadata.name') return entry.key.slice(entry.key.indexOf('/') + 1);
  return ((entry.object as { spec?: { nodeName?: string } }).spec?.nodeName ?? '') as string;
}

const compareKeys = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0);

function lowerBound(keys: string[], key: string): number {
  let low = 0;
  let high = keys.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (keys[middle]! < key) low = middle + 1;
    else high = middle;
  }
  return low;
}
