import { type Type, typeText } from './types.ts';

/** An evaluation that failed. && and || absorb it where the other side decides. */
export class CelError extends Error {}

/** The evaluation cost more than it may. Nothing absorbs it. */
export class CostExceededError extends Error {
  constructor() {
    super('operation cancelled: actual cost limit exceeded');
  }
}

/** An unsigned integer: bigint alone is an int. */
export class Uint {
  readonly value: bigint;
  constructor(value: bigint) {
    if (value < 0n || value > 0xffff_ffff_ffff_ffffn) throw new CelError('unsigned integer overflow');
    this.value = value;
  }
}

/** A moment, in nanoseconds since the epoch. */
export class Timestamp {
  readonly ns: bigint;
  constructor(ns: bigint) {
    this.ns = ns;
  }
}

/** A span of time in nanoseconds. */
export class Duration {
  readonly ns: bigint;
  constructor(ns: bigint) {
    this.ns = ns;
  }
}

export class Optional {
  static readonly none = new Optional(undefined);
  readonly value: Value | undefined;
  constructor(value: Value | undefined) {
    this.value = value;
  }
}

/** A type as a value: type(x). */
export class TypeValue {
  readonly name: string;
  constructor(name: string) {
    this.name = name;
  }
}

/** A value of a library's own type, such as Quantity or IP. */
export abstract class Opaque {
  abstract readonly type: Type;
  abstract equals(other: Opaque): boolean;
}

export interface CelList {
  readonly list: true;
  readonly length: number;
  at(index: number): Value;
  /** How lists of custom resources are compared and joined. */
  readonly listType?: 'set' | 'map' | undefined;
  readonly mapKeys?: readonly string[];
  /** What a comprehension gathers its result in. */
  push?: (value: Value) => void;
}

export interface CelMap {
  readonly map: true;
  readonly size: number;
  get(key: Value): Value | undefined;
  keys(): Value[];
  /** Objects of a schema have a name and fields; their keys are no values. */
  readonly typeName?: string;
}

export type Value =
  | null
  | boolean
  | bigint
  | number
  | string
  | Uint
  | Uint8Array
  | Timestamp
  | Duration
  | Optional
  | TypeValue
  | Opaque
  | CelList
  | CelMap;

export const isList = (v: unknown): v is CelList => typeof v === 'object' && v !== null && (v as CelList).list === true;
export const isMap = (v: unknown): v is CelMap => typeof v === 'object' && v !== null && (v as CelMap).map === true;

class ArrayList implements CelList {
  readonly list = true;
  readonly #items: Value[];
  push?: (value: Value) => void;
  constructor(items: Value[], mutable = false) {
    this.#items = items;
    if (mutable) this.push = (value) => void items.push(value);
  }
  get length() {
    return this.#items.length;
  }
  at(index: number) {
    return this.#items[index] as Value;
  }
}

export const listOf = (items: Value[]): CelList => new ArrayList(items);
export const growingList = (): CelList => new ArrayList([], true);

export function* itemsOfList(list: CelList): Generator<Value> {
  for (let i = 0; i < list.length; i++) yield list.at(i);
}

/** Keys that are equal have the same text, whatever their numeric type. */
function keyText(key: Value): string | undefined {
  switch (typeof key) {
    case 'string':
      return `s${key}`;
    case 'bigint':
      return `n${key}`;
    case 'boolean':
      return `b${key}`;
    case 'number':
      return Number.isInteger(key) ? `n${BigInt(key)}` : undefined;
    default:
      return key instanceof Uint ? `n${key.value}` : undefined;
  }
}

class EntryMap implements CelMap {
  readonly map = true;
  readonly #entries: Map<string, [Value, Value]>;
  constructor(entries: Map<string, [Value, Value]>) {
    this.#entries = entries;
  }
  get size() {
    return this.#entries.size;
  }
  get(key: Value) {
    const text = keyText(key);
    return text === undefined ? undefined : this.#entries.get(text)?.[1];
  }
  keys() {
    return [...this.#entries.values()].map(([key]) => key);
  }
}

/** CelError where a key occurs twice, or is none. */
export function mapOf(entries: [Value, Value][]): CelMap {
  const map = new Map<string, [Value, Value]>();
  for (const [key, value] of entries) {
    const text = keyText(key);
    if (text === undefined) throw new CelError(`unsupported key type: ${typeNameOf(key)}`);
    if (map.has(text)) throw new CelError(`Failed with repeated key`);
    map.set(text, [key, value]);
  }
  return new EntryMap(map);
}

export function typeNameOf(value: Value): string {
  switch (typeof value) {
    case 'string':
      return 'string';
    case 'bigint':
      return 'int';
    case 'number':
      return 'double';
    case 'boolean':
      return 'bool';
  }
  if (value === null) return 'null_type';
  if (value instanceof Uint) return 'uint';
  if (value instanceof Uint8Array) return 'bytes';
  if (value instanceof Timestamp) return 'google.protobuf.Timestamp';
  if (value instanceof Duration) return 'google.protobuf.Duration';
  if (value instanceof Optional) return 'optional_type';
  if (value instanceof TypeValue) return 'type';
  if (value instanceof Opaque) return typeText(value.type);
  if (isList(value)) return 'list';
  return value.typeName ?? 'map';
}

const isNumeric = (v: Value): v is bigint | number | Uint => typeof v === 'bigint' || typeof v === 'number' || v instanceof Uint;
const plain = (v: bigint | number | Uint): bigint | number => (v instanceof Uint ? v.value : v);

/** -1, 0 or 1; undefined where the two have no order. */
export function compareValues(a: Value, b: Value): number | undefined {
  if (isNumeric(a) && isNumeric(b)) {
    const x = plain(a);
    const y = plain(b);
    if (Number.isNaN(x) || Number.isNaN(y)) return undefined;
    // bigint and number compare by value.
    return x < y ? -1 : x > y ? 1 : 0;
  }
  if (typeof a === 'string' && typeof b === 'string') return compareTexts(a, b);
  if (typeof a === 'boolean' && typeof b === 'boolean') return a === b ? 0 : a ? 1 : -1;
  if ((a instanceof Timestamp && b instanceof Timestamp) || (a instanceof Duration && b instanceof Duration))
    return a.ns < b.ns ? -1 : a.ns > b.ns ? 1 : 0;
  if (a instanceof Uint8Array && b instanceof Uint8Array) return Math.sign(Buffer.compare(a, b));
  return undefined;
}

/** By code points, as Go compares bytes of UTF-8. */
function compareTexts(a: string, b: string): number {
  if (a === b) return 0;
  return Math.sign(Buffer.compare(Buffer.from(a), Buffer.from(b)));
}

export function valuesEqual(a: Value, b: Value): boolean {
  if (a === b) return true;
  if (typeof a === 'string' || typeof b === 'string' || a === null || b === null) return false;
  if (isNumeric(a) && isNumeric(b)) return compareValues(a, b) === 0;
  if (isList(a)) return isList(b) && listsEqual(a, b);
  if (isMap(a)) {
    if (!isMap(b) || a.size !== b.size) return false;
    return a.keys().every((key) => {
      const x = a.get(key);
      const y = b.get(key);
      return x !== undefined && y !== undefined && valuesEqual(x, y);
    });
  }
  if (a instanceof Optional && b instanceof Optional)
    return a.value === undefined ? b.value === undefined : b.value !== undefined && valuesEqual(a.value, b.value);
  if (a instanceof TypeValue && b instanceof TypeValue) return a.name === b.name;
  if (a instanceof Opaque && b instanceof Opaque) return a.type.name === b.type.name && a.equals(b);
  return compareValues(a, b) === 0;
}

function listsEqual(a: CelList, b: CelList): boolean {
  if (a.length !== b.length) return false;
  const listType = a.listType ?? b.listType;
  const mapKeys = a.mapKeys ?? b.mapKeys ?? [];
  if (listType === 'set' || listType === 'map') {
    const rest = [...itemsOfList(b)];
    return [...itemsOfList(a)].every((item) => {
      const found = rest.findIndex((r) => (listType === 'map' ? sameKeys(item, r, mapKeys) && valuesEqual(item, r) : valuesEqual(item, r)));
      if (found < 0) return false;
      rest.splice(found, 1);
      return true;
    });
  }
  for (let i = 0; i < a.length; i++) if (!valuesEqual(a.at(i), b.at(i))) return false;
  return true;
}

export function sameKeys(a: Value, b: Value, keys: readonly string[]): boolean {
  if (!isMap(a) || !isMap(b)) return false;
  return keys.every((key) => {
    const x = a.get(key);
    const y = b.get(key);
    return x === undefined || y === undefined ? x === y : valuesEqual(x, y);
  });
}

/** Two lists as one; sets and maps of custom resources merge. */
export function joinLists(a: CelList, b: CelList): CelList {
  if (a.push) {
    for (const item of itemsOfList(b)) a.push(item);
    return a;
  }
  const items = [...itemsOfList(a)];
  for (const item of itemsOfList(b)) {
    if (a.listType === 'set') {
      if (!items.some((i) => valuesEqual(i, item))) items.push(item);
    } else if (a.listType === 'map') {
      const at = items.findIndex((i) => sameKeys(i, item, a.mapKeys ?? []));
      if (at < 0) items.push(item);
      else items[at] = item;
    } else items.push(item);
  }
  if (!a.listType) return listOf(items);
  return Object.assign(listOf(items), { listType: a.listType, mapKeys: a.mapKeys ?? [] });
}

/** What functions that cost by size go by: characters, bytes, items; 1 for everything else. */
export function sizeOf(value: Value): number {
  if (typeof value === 'string') return runeCount(value);
  if (value instanceof Uint8Array || isList(value)) return value.length;
  if (isMap(value)) return value.size;
  if (value instanceof Optional && value.value !== undefined) return sizeOf(value.value);
  return 1;
}

/** Characters as Go counts them. */
export function runeCount(text: string): number {
  let count = text.length;
  for (let i = 1; i < text.length; i++) if ((text.charCodeAt(i) & 0xfc00) === 0xdc00 && (text.charCodeAt(i - 1) & 0xfc00) === 0xd800) count--;
  return count;
}

/** Whether a value can be given where a type is asked for. */
export function hasType(value: Value, type: Type): boolean {
  switch (type.kind) {
    case 'dyn':
    case 'param':
      return true;
    case 'bool':
      return typeof value === 'boolean';
    case 'int':
      return typeof value === 'bigint';
    case 'uint':
      return value instanceof Uint;
    case 'double':
      return typeof value === 'number';
    case 'string':
      return typeof value === 'string';
    case 'bytes':
      return value instanceof Uint8Array;
    case 'null':
      return value === null;
    case 'timestamp':
      return value instanceof Timestamp;
    case 'duration':
      return value instanceof Duration;
    case 'type':
      return value instanceof TypeValue;
    case 'list':
      return isList(value);
    case 'map':
    case 'object':
      return isMap(value);
    case 'optional':
      return value instanceof Optional;
    case 'opaque':
      return value instanceof Opaque && value.type.name === type.name;
    default:
      return false;
  }
}

