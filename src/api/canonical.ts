import { formatQuantity, parseQuantity, roundUpToMilli } from './quantity.ts';
import { type Definition, definitionOf, type Field, type Shape } from './schema.ts';
import { rfc3339 } from './time.ts';

/** Fractions of a second as they were written: Date knows only three digits. */
function canonicalMicroTime(text: string): string {
  const fraction = /\.(\d+)/.exec(text)?.[1] ?? '';
  return `${new Date(text).toISOString().slice(0, 19)}.${fraction.slice(0, 6).padEnd(6, '0')}Z`;
}

/** A value as the API server keeps it; undefined where it keeps nothing. */
function canonicalOf(value: any, shape: Shape): any {
  switch (shape.special) {
    case 'quantity':
      return value === null ? '0' : formatQuantity(parseQuantity(value));
    case 'time':
      return rfc3339(new Date(value));
    case 'microTime':
      return canonicalMicroTime(value);
    case 'intOrString':
      return value;
  }
  switch (shape.kind) {
    case 'array':
      return value.map((item: unknown) => (item === null ? emptyOf(shape.items as Shape) : canonicalOf(item, shape.items as Shape)));
    case 'map':
      for (const [key, item] of Object.entries(value)) value[key] = mapValueOf(item, shape.items as Shape);
      return value;
    case 'object':
      if (shape.definition && !shape.definition.open) visit(value, shape.definition);
      return value;
    case 'bytes':
      if (Array.isArray(value)) return Buffer.from(value).toString('base64');
      return /[\r\n]/.test(value) ? value.replace(/[\r\n]/g, '') : value;
    default:
      return value;
  }
}

function mapValueOf(item: unknown, shape: Shape): unknown {
  // Maps of quantities are resource lists, which are no finer than thousandths.
  if (shape.special === 'quantity') return formatQuantity(roundUpToMilli(parseQuantity((item ?? '0') as string)));
  return item === null ? emptyOf(shape) : canonicalOf(item, shape);
}

/** What null is among values that cannot be missing. */
function emptyOf(shape: Shape): unknown {
  if (shape.special === 'quantity') return '0';
  if (shape.kind === 'string') return '';
  if (shape.kind === 'boolean') return false;
  if (shape.kind === 'int32' || shape.kind === 'int64' || shape.kind === 'number') return 0;
  return shape.kind === 'object' && !shape.definition?.open ? {} : null;
}

const isZero = (value: unknown): boolean => value === '' || value === 0 || value === false;
function isEmpty(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false;
  for (const _ in value) return false;
  return true;
}

/** Is this as good as no value, where the field stands? Lists and maps are when they are empty. */
function isNothing(value: unknown, field: Field): boolean {
  if (value === null || value === undefined) return true;
  if (field.shape.kind === 'array' || field.shape.kind === 'map') return isEmpty(value);
  if (field.shape.kind === 'bytes') return value === '';
  return field.omitZero === true && isZero(value);
}

function visit(object: any, definition: Definition, done?: ReadonlySet<string>): void {
  for (const key of Object.keys(object)) {
    if (done?.has(key)) continue;
    const field = definition.fields.get(key);
    if (!field) continue;
    const value = object[key];
    if (isNothing(value, field)) delete object[key];
    else if (field.shape.kind !== 'string' || field.shape.special) {
      object[key] = canonicalOf(value, field.shape);
      if (field.omitZero && isEmpty(object[key])) delete object[key];
    }
  }
}

/**
 * Brings an object whose types have been checked into the form in which the API server keeps it, in place: quantities and times in
 * their canonical texts, no nulls, nothing that is as good as no value. What must stand there all the same is added by `complete`.
 * `done` names members that have the form already.
 */
export function canonicalize(definition: string, object: unknown, done?: ReadonlySet<string>): void {
  const root = definitionOf(definition);
  if (root && !root.open && typeof object === 'object' && object !== null) visit(object, root, done);
}

interface Absent {
  name: string;
  /** What is written in place of nothing; an object stands for a new one. */
  none: unknown;
  /** An empty one is as good as none. */
  collection: boolean;
}
interface Child {
  name: string;
  shape: Shape;
}
interface Needs {
  absent: Absent[];
  children: Child[];
}
const needs = new Map<Definition, Needs>();
/** Definitions below which something may have to be added. */
const reaches = new Map<Definition, boolean>();

function reachesAbsent(shape: Shape, seen = new Set<Definition>()): boolean {
  if (shape.kind === 'array' || shape.kind === 'map') return reachesAbsent(shape.items as Shape, seen);
  const { definition } = shape;
  if (!definition || definition.open || seen.has(definition)) return false;
  const known = reaches.get(definition);
  if (known !== undefined) return known;
  seen.add(definition);
  let found = false;
  for (const field of definition.fields.values()) found ||= field.absent !== undefined || reachesAbsent(field.shape, seen);
  if (seen.size === 1 || found) reaches.set(definition, found);
  return found;
}

function needsOf(definition: Definition): Needs {
  let known = needs.get(definition);
  if (!known) {
    const fields = [...definition.fields];
    known = {
      absent: fields
        .filter(([, f]) => f.absent)
        .map(([name, f]) => ({ name, none: f.absent?.value, collection: f.shape.kind === 'array' || f.shape.kind === 'map' })),
      children: fields.filter(([, f]) => reachesAbsent(f.shape)).map(([name, f]) => ({ name, shape: f.shape })),
    };
    needs.set(definition, known);
  }
  return known;
}

// Run over every object that is written, twice: plain loops make no iterators.
function fill(object: any, definition: Definition): void {
  // What comes out of the store is frozen, and complete.
  if (Object.isFrozen(object)) return;
  const { absent, children } = needsOf(definition);
  for (let i = 0; i < absent.length; i++) {
    const { name, none, collection } = absent[i] as Absent;
    const value = object[name];
    if (value !== undefined && value !== null && !(collection && isEmpty(value))) continue;
    object[name] = none !== null && typeof none === 'object' ? {} : none;
  }
  for (let i = 0; i < children.length; i++) {
    const { name, shape } = children[i] as Child;
    const value = object[name];
    if (typeof value === 'object' && value !== null) fillAny(value, shape);
  }
}

function fillAny(value: any, shape: Shape): void {
  if (typeof value !== 'object' || value === null) return;
  if (shape.kind === 'array') {
    if (Array.isArray(value)) for (let i = 0; i < value.length; i++) fillAny(value[i], shape.items as Shape);
  } else if (shape.kind === 'map') for (const item of Object.values(value)) fillAny(item, shape.items as Shape);
  else if (shape.definition) fill(value, shape.definition);
}

/** Adds in place what the API server writes even where nobody gave a value: `resources: {}`, `rules: null`, `value: 0`. */
export function complete(definition: string, object: unknown): void {
  const root = definitionOf(definition);
  if (root && !root.open && typeof object === 'object' && object !== null) fill(object, root);
}
