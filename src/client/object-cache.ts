import type { Logger } from 'pino';
import { keyOf } from '../api/object.ts';

interface Index<T> {
  indexer: (object: T) => string[];
  values: Map<string, Map<string, T>>;
}

type Named = { metadata: { name: string; namespace?: string } };

/** Objects by namespace/name, by namespace, and by any further index. */
export class ObjectCache<T> {
  readonly #objects = new Map<string, T>();
  readonly #byNamespace = new Map<string, Map<string, T>>();
  readonly #indexes = new Map<string, Index<T>>();
  readonly #log: Logger;

  constructor(log: Logger) {
    this.#log = log;
  }

  get size(): number {
    return this.#objects.size;
  }

  keys(): IterableIterator<string> {
    return this.#objects.keys();
  }

  get(key: string): T | undefined {
    return this.#objects.get(key);
  }

  list(namespace?: string): T[] {
    return [...((namespace === undefined || namespace === '' ? this.#objects : this.#byNamespace.get(namespace))?.values() ?? [])];
  }

  /** Returns what was there before. */
  set(object: T): T | undefined {
    const key = keyOf(object as Named);
    const before = this.#objects.get(key);
    this.#objects.set(key, object);
    const { namespace } = (object as Named).metadata;
    if (namespace) place(this.#byNamespace, namespace, key, object);
    for (const [name, index] of this.#indexes) {
      if (before) for (const value of this.#valuesOf(name, index, before)) displace(index.values, value, key);
      for (const value of this.#valuesOf(name, index, object)) place(index.values, value, key, object);
    }
    return before;
  }

  delete(key: string): T | undefined {
    const before = this.#objects.get(key);
    if (!before) return undefined;
    this.#objects.delete(key);
    const { namespace } = (before as unknown as Named).metadata;
    if (namespace) displace(this.#byNamespace, namespace, key);
    for (const [name, index] of this.#indexes) for (const value of this.#valuesOf(name, index, before)) displace(index.values, value, key);
    return before;
  }

  addIndex(name: string, indexer: (object: T) => string[]): void {
    if (this.#indexes.has(name)) return;
    const index: Index<T> = { indexer, values: new Map() };
    this.#indexes.set(name, index);
    for (const [key, object] of this.#objects) for (const value of this.#valuesOf(name, index, object)) place(index.values, value, key, object);
  }

  byIndex(name: string, value: string): T[] {
    const index = this.#indexes.get(name);
    if (!index) throw new Error(`there is no index ${name}`);
    return [...(index.values.get(value)?.values() ?? [])];
  }

  #valuesOf(name: string, index: Index<T>, object: T): string[] {
    try {
      return index.indexer(object);
    } catch (error) {
      this.#log.error({ err: error, index: name, key: keyOf(object as Named) }, 'indexer failed; the object is left out of the index');
      return [];
    }
  }
}

function place<T>(values: Map<string, Map<string, T>>, value: string, key: string, object: T): void {
  const found = values.get(value);
  if (found) found.set(key, object);
  else values.set(value, new Map([[key, object]]));
}

function displace<T>(values: Map<string, Map<string, T>>, value: string, key: string): void {
  const found = values.get(value);
  if (found?.delete(key) && found.size === 0) values.delete(value);
}
