import { canonicalJson, sameJson } from '../equality.ts';
import { isObject, itemsOf, type JsonSchema, propertyOf, valuesOf } from './json-schema.ts';

/**
 * A value and what it was before the update, where the two can be told to be the same thing: fields of objects by name, items of lists
 * only where x-kubernetes-list-type is map.
 */
export class Correlated {
  readonly value: unknown;
  readonly old: unknown;
  readonly schema: JsonSchema;
  #oldItems: Map<string, unknown> | undefined;
  #unchanged: boolean | undefined;

  constructor(value: unknown, old: unknown, schema: JsonSchema) {
    this.value = value;
    this.old = old;
    this.schema = schema;
  }

  /** Whether the value is what it was. */
  get unchanged(): boolean {
    return (this.#unchanged ??= sameJson(this.value, this.old));
  }

  field(name: string): Correlated | undefined {
    const schema = propertyOf(this.schema, name) ?? valuesOf(this.schema);
    if (!schema || !isObject(this.value) || !isObject(this.old)) return undefined;
    if (!Object.hasOwn(this.value, name) || !Object.hasOwn(this.old, name)) return undefined;
    return new Correlated(this.value[name], this.old[name], schema);
  }

  item(index: number): Correlated | undefined {
    const items = itemsOf(this.schema);
    if (!items || this.schema['x-kubernetes-list-type'] !== 'map' || !Array.isArray(this.value) || !Array.isArray(this.old)) return undefined;
    const keys = this.schema['x-kubernetes-list-map-keys'] ?? [];
    if (!this.#oldItems) {
      this.#oldItems = new Map();
      for (const item of this.old) {
        const id = idOf(item, keys);
        if (id !== undefined && !this.#oldItems.has(id)) this.#oldItems.set(id, item);
      }
    }
    const id = idOf(this.value[index], keys);
    const old = id === undefined ? undefined : this.#oldItems.get(id);
    return old === undefined ? undefined : new Correlated(this.value[index], old, items);
  }
}

const idOf = (item: unknown, keys: string[]): string | undefined => (isObject(item) ? canonicalJson(keys.map((k) => item[k] ?? null)) : undefined);
