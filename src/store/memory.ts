import type { Backend } from './backend.ts';
import { StoreEngine } from './engine.ts';
import type { StoreClock } from './leases.ts';
import { SortedKeys } from './sorted-keys.ts';
import type { KeyValue, RangeRequest, RangeResult, Store, StoreEvent, StoreEvents } from './store.ts';

/** A store that lives and dies with the process: for tests. */
export function openMemoryStore(options: { clock?: StoreClock } = {}): Store {
  return new StoreEngine(new MemoryBackend(), options);
}

interface Entry {
  current: KeyValue | undefined;
  /** Changes that are not compacted, oldest first: what was there before each. */
  changes: { revision: number; previous: KeyValue | undefined }[];
}

class MemoryBackend implements Backend {
  #revision = 1;
  #compacted = 0;
  readonly #entries = new Map<string, Entry>();
  /** Keys of #entries. */
  readonly #keys = new SortedKeys();
  /** Transactions, oldest first; those before #logStart are forgotten. */
  #log: StoreEvents[] = [];
  #logStart = 0;
  readonly #leases = new Map<number, { ttlSeconds: number; keys: Set<string> }>();
  #bytes = 0;

  revision(): number {
    return this.#revision;
  }

  compactedRevision(): number {
    return this.#compacted;
  }

  current(key: string): KeyValue | undefined {
    return this.#entries.get(key)?.current;
  }

  at(key: string, revision: number): KeyValue | undefined {
    const entry = this.#entries.get(key);
    return entry && itemAt(entry, revision);
  }

  async range(request: RangeRequest): Promise<RangeResult> {
    const { start, end, revision = this.#revision, limit = 0, countOnly = false } = request;
    const items: KeyValue[] = [];
    let count = 0;
    for (const key of this.#keys.range(start, end)) {
      const item = itemAt(this.#entries.get(key)!, revision);
      if (!item) continue;
      count++;
      if (!countOnly && (limit === 0 || items.length < limit)) items.push(item);
    }
    return { items, count, more: !countOnly && count > items.length, revision: this.#revision };
  }

  history(from: number, limit: number): StoreEvents[] {
    const found: StoreEvents[] = [];
    let events = 0;
    for (let i = this.#logIndex(from); i < this.#log.length && events < limit; i++) {
      found.push(this.#log[i]!);
      events += this.#log[i]!.events.length;
    }
    return found;
  }

  async commit(work: () => void): Promise<void> {
    work();
  }

  record(event: StoreEvent): void {
    const { item, previous } = event;
    let entry = this.#entries.get(item.key);
    if (!entry) {
      entry = { current: undefined, changes: [] };
      this.#entries.set(item.key, entry);
      this.#keys.add(item.key);
    }
    entry.current = event.type === 'put' ? item : undefined;
    entry.changes.push({ revision: item.modRevision, previous });
    if (previous?.lease) this.#leases.get(previous.lease)?.keys.delete(item.key);
    if (item.lease) this.#leases.get(item.lease)?.keys.add(item.key);
    const last = this.#log[this.#log.length - 1];
    if (last?.revision === item.modRevision) last.events.push(event);
    else this.#log.push({ revision: item.modRevision, events: [event] });
    this.#bytes += item.key.length + item.value.length;
  }

  setRevision(revision: number): void {
    this.#revision = revision;
  }

  setCompactedRevision(revision: number): void {
    this.#compacted = revision;
  }

  dropHistory(before: number, limit: number): boolean {
    let dropped = 0;
    while (this.#logStart < this.#log.length && this.#log[this.#logStart]!.revision < before && dropped < limit) {
      for (const { item, previous } of this.#log[this.#logStart]!.events) {
        const entry = this.#entries.get(item.key);
        if (!entry) continue;
        while (entry.changes[0] && entry.changes[0].revision < before) entry.changes.shift();
        if (!entry.current && entry.changes.length === 0) {
          this.#entries.delete(item.key);
          this.#keys.delete(item.key);
        }
        this.#bytes -= previous ? previous.key.length + previous.value.length : 0;
        dropped++;
      }
      this.#logStart++;
    }
    const done = this.#logStart >= this.#log.length || this.#log[this.#logStart]!.revision >= before;
    if (done) {
      this.#log = this.#log.slice(this.#logStart);
      this.#logStart = 0;
    }
    return done;
  }

  saveLease(id: number, ttlSeconds: number): void {
    this.#leases.set(id, { ttlSeconds, keys: new Set() });
  }

  removeLease(id: number): void {
    this.#leases.delete(id);
  }

  leases(): { id: number; ttlSeconds: number }[] {
    return [...this.#leases].map(([id, { ttlSeconds }]) => ({ id, ttlSeconds }));
  }

  leaseKeys(id: number): string[] {
    return [...(this.#leases.get(id)?.keys ?? [])];
  }

  async releaseReserve(): Promise<void> {}

  async takeReserve(): Promise<boolean> {
    return true;
  }

  async size(): Promise<number> {
    return this.#bytes;
  }

  async close(): Promise<void> {}

  /** Index of the first transaction at or after a revision. */
  #logIndex(revision: number): number {
    let low = this.#logStart;
    let high = this.#log.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#log[middle]!.revision < revision) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

function itemAt(entry: Entry, revision: number): KeyValue | undefined {
  if (entry.current && entry.current.modRevision <= revision) return entry.current;
  for (const change of entry.changes) if (change.revision > revision) return change.previous;
  return entry.current;
}
