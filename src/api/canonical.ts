import { formatQuantity, parseQuantity, roundUpToMilli } from './quantity.ts';
import { type Definition, definitionOf, type Shape } from './schema.ts';
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

const isEmpty = (value: unknown, shape: Shape): boolean =>
  shape.kind === 'array' ? Array.isArray(value) && value.length === 0 : shape.kind === 'map' && Object.keys(value as object).length === 0;

function visit(object: any, definition: Definition): void {
  for (const key of Object.keys(object)) {
    const field = definition.fields.get(key);
    if (!field) continue;
    const value = object[key];
    // undefined: what JSON leaves out, from a client in this process.
    if (value === null || value === undefined || (!field.required && isEmpty(value, field.shape))) delete object[key];
    else if (field.shape.kind !== 'string' || field.shape.special) object[key] = canonicalOf(value, field.shape);
  }
}

/**
 * Brings an object whose types have been checked into the form in which the API server keeps it, in place: quantities and times in
 * their canonical texts, no nulls, no optional lists and maps that are empty.
 */
export function canonicalize(definition: string, object: unknown): void {
  const root = definitionOf(definition);
  if (root && !root.open && typeof object === 'object' && object !== null) visit(object, root);
}
