import { isEmbedded, itemsOf, type JsonSchema, preservesUnknown, propertyOf, valuesOf } from '../crd/json-schema.ts';
import { parseDuration, parseTimestamp } from './library/time.ts';
import { escapeName, withResourceFields } from './schema-types.ts';
import { CelError, type CelList, type CelMap, type Value } from './values.ts';

const noSchema: JsonSchema = { 'x-kubernetes-preserve-unknown-fields': true };

/** A JSON value as expressions see it, by its schema; its parts are adapted when they are asked for. */
export function adapt(value: unknown, schema: JsonSchema | undefined, isResource = false): Value {
  if (value === null || value === undefined) return null;
  if (!schema || (preservesUnknown(schema) && !schema.type)) return adaptAny(value);
  if (schema['x-kubernetes-int-or-string']) return adaptAny(value);
  if (Array.isArray(value)) return new JsonList(value, itemsOf(schema) ?? noSchema, schema);
  if (typeof value === 'object') {
    const values = valuesOf(schema);
    if (values) return new JsonMap(value as Record<string, unknown>, values);
    if (!schema.properties && !isResource) return preservesUnknown(schema) ? adaptAny(value) : new JsonObject(value as Record<string, unknown>, schema);
    return new JsonObject(value as Record<string, unknown>, isResource ? withResourceFields(schema) : schema);
  }
  if (typeof value === 'number') return schema.type === 'integer' ? BigInt(Math.trunc(value)) : value;
  if (typeof value === 'bigint') return schema.type === 'number' ? Number(value) : value;
  if (typeof value === 'string') return adaptText(value, schema.format);
  return value as boolean;
}

function adaptText(text: string, format: string | undefined): Value {
  switch (format) {
    case 'byte':
      return Buffer.from(text, 'base64');
    case 'duration': {
      const parsed = parseDuration(text);
      if (!parsed) throw new CelError(`Invalid duration ${text}`);
      return parsed;
    }
    case 'date':
    case 'date-time': {
      const parsed = parseTimestamp(format === 'date' ? `${text}T00:00:00Z` : text);
      if (!parsed) throw new CelError(`Invalid date formatted string ${text}`);
      return parsed;
    }
    default:
      return text;
  }
}

/** A JSON value without a schema: whole numbers are ints. */
export function adaptAny(value: unknown): Value {
  if (value === null || value === undefined) return null;
  if (typeof value === 'number') return Number.isInteger(value) ? BigInt(value) : value;
  if (Array.isArray(value)) return new JsonList(value, noSchema, noSchema);
  if (typeof value === 'object') return new JsonMap(value as Record<string, unknown>, noSchema);
  return value as string | boolean | bigint;
}

class JsonList implements CelList {
  readonly list = true;
  readonly #items: unknown[];
  readonly #schema: JsonSchema;
  readonly #adapted: Value[] = [];
  readonly listType?: 'set' | 'map';
  readonly mapKeys?: string[];
  constructor(items: unknown[], schema: JsonSchema, own: JsonSchema) {
    this.#items = items;
    this.#schema = schema;
    const type = own['x-kubernetes-list-type'];
    if (type === 'set' || type === 'map') this.listType = type;
    if (type === 'map') this.mapKeys = (own['x-kubernetes-list-map-keys'] ?? []).map((k) => escapeName(k) ?? k);
  }
  get length() {
    return this.#items.length;
  }
  at(index: number): Value {
    const known = this.#adapted[index];
    if (known !== undefined) return known;
    const made = adapt(this.#items[index], this.#schema, isEmbedded(this.#schema));
    this.#adapted[index] = made;
    return made;
  }
}

class JsonMap implements CelMap {
  readonly map = true;
  readonly #members: Record<string, unknown>;
  readonly #schema: JsonSchema;
  readonly #adapted = new Map<string, Value>();
  constructor(members: Record<string, unknown>, schema: JsonSchema) {
    this.#members = members;
    this.#schema = schema;
  }
  get size() {
    return Object.keys(this.#members).length;
  }
  get(key: Value): Value | undefined {
    if (typeof key !== 'string' || !Object.hasOwn(this.#members, key)) return undefined;
    const known = this.#adapted.get(key);
    if (known !== undefined) return known;
    const made = adapt(this.#members[key], this.#schema, isEmbedded(this.#schema));
    this.#adapted.set(key, made);
    return made;
  }
  keys(): Value[] {
    return Object.keys(this.#members);
  }
}

/** Names of properties by how expressions spell them, of each schema. */
const spellings = new WeakMap<JsonSchema, Map<string, string>>();

function spellingsOf(schema: JsonSchema): Map<string, string> {
  let known = spellings.get(schema);
  if (!known) {
    known = new Map();
    for (const name of Object.keys(schema.properties ?? {})) {
      const escaped = escapeName(name);
      if (escaped !== undefined) known.set(escaped, name);
    }
    spellings.set(schema, known);
  }
  return known;
}

class JsonObject implements CelMap {
  readonly map = true;
  readonly typeName = 'object';
  readonly #members: Record<string, unknown>;
  readonly #schema: JsonSchema;
  readonly #adapted = new Map<string, Value>();
  constructor(members: Record<string, unknown>, schema: JsonSchema) {
    this.#members = members;
    this.#schema = schema;
  }
  get size() {
    return this.keys().length;
  }
  get(key: Value): Value | undefined {
    if (typeof key !== 'string') return undefined;
    const name = spellingsOf(this.#schema).get(key);
    if (name === undefined || !Object.hasOwn(this.#members, name)) return undefined;
    const known = this.#adapted.get(name);
    if (known !== undefined) return known;
    const property = propertyOf(this.#schema, name);
    const made = adapt(this.#members[name], property, isEmbedded(property));
    this.#adapted.set(name, made);
    return made;
  }
  keys(): Value[] {
    return [...spellingsOf(this.#schema)].filter(([, name]) => Object.hasOwn(this.#members, name)).map(([escaped]) => escaped);
  }
}
