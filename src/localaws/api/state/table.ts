/** A change to one record, kept so that a transaction can be undone and written. */
export interface Change {
  table: string;
  id: string;
  before: unknown;
}

interface Index<R> {
  keysOf(record: R): readonly string[];
  ids: Map<string, Set<string>>;
}

/**
 * Records of one kind by id, in the order of their creation. A record is replaced, never changed in place: what a transaction
 * undoes and what is being written to disk are the objects themselves.
 */
export class Table<R extends object> {
  readonly name: string;
  private readonly records = new Map<string, R>();
  private readonly indexes = new Map<string, Index<R>>();
  private readonly note: (change: Change) => void;

  constructor(name: string, note: (change: Change) => void, indexes: Record<string, (record: R) => readonly string[]> = {}) {
    this.name = name;
    this.note = note;
    for (const [index, keysOf] of Object.entries(indexes)) this.indexes.set(index, { keysOf, ids: new Map() });
  }

  get size(): number {
    return this.records.size;
  }

  get(id: string | undefined): R | undefined {
    return id === undefined ? undefined : this.records.get(id);
  }

  has(id: string): boolean {
    return this.records.has(id);
  }

  values(): R[] {
    return [...this.records.values()];
  }

  entries(): [string, R][] {
    return [...this.records.entries()];
  }

  /** The oldest records, at most count of them. */
  first(count: number): [string, R][] {
    const found: [string, R][] = [];
    for (const entry of this.records) {
      if (found.length >= count) break;
      found.push(entry);
    }
    return found;
  }

  /** The records that have a key in an index. */
  by(index: string, key: string | undefined): R[] {
    const ids = key === undefined ? undefined : this.index(index).ids.get(key);
    return ids ? [...ids].map((id) => this.records.get(id)!) : [];
  }

  /** Whether any record has a key in an index. */
  hasKey(index: string, key: string): boolean {
    return this.index(index).ids.has(key);
  }

  put(id: string, record: R): R {
    this.note({ table: this.name, id, before: this.records.get(id) });
    this.restore(id, record);
    return record;
  }

  /** Replaces some fields of a record. */
  change(id: string, fields: Partial<R>): R {
    const record = this.records.get(id);
    if (!record) throw new Error(`no ${id} in ${this.name}`);
    return this.put(id, { ...record, ...fields });
  }

  delete(id: string): void {
    const before = this.records.get(id);
    if (!before) return;
    this.note({ table: this.name, id, before });
    this.restore(id, undefined);
  }

  /** Sets or removes a record without a transaction's notice: for undoing and for loading. */
  restore(id: string, record: R | undefined): void {
    const before = this.records.get(id);
    for (const index of this.indexes.values()) {
      if (before) {
        for (const key of index.keysOf(before)) {
          const ids = index.ids.get(key);
          ids?.delete(id);
          if (ids?.size === 0) index.ids.delete(key);
        }
      }
      if (record) {
        for (const key of index.keysOf(record)) {
          const ids = index.ids.get(key);
          if (ids) ids.add(id);
          else index.ids.set(key, new Set([id]));
        }
      }
    }
    if (record) this.records.set(id, record);
    else this.records.delete(id);
  }

  private index(name: string): Index<R> {
    const index = this.indexes.get(name);
    if (!index) throw new Error(`${this.name} has no index ${name}`);
    return index;
  }
}
