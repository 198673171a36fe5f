import { isEmbedded, itemsOf, type JsonSchema, valuesOf } from '../crd/json-schema.ts';
import { t, type Type } from './types.ts';

/** Bytes of the largest request that is taken. */
export const maxRequestBytes = 3 * 1024 * 1024;

const keywords = new Set(
  'true false null in as break const continue else for function if import let loop package namespace return var void while'.split(' '),
);

/** A property's name as expressions spell it; undefined where it cannot be spelled. */
export function escapeName(name: string): string | undefined {
  if (keywords.has(name)) return `__${name}__`;
  if (!/^[a-zA-Z_][a-zA-Z0-9_./-]*$/.test(name)) return undefined;
  return name.replace(/__|[./-]/g, (c) => ({ __: '__underscores__', '.': '__dot__', '/': '__slash__', '-': '__dash__' })[c] as string);
}

const metadata: JsonSchema = { type: 'object', properties: { name: { type: 'string' }, generateName: { type: 'string' } } };

/** The schema with what expressions may say of every resource. */
export function withResourceFields(schema: JsonSchema): JsonSchema {
  let whole = resources.get(schema);
  if (!whole) {
    whole = { ...schema, properties: { ...schema.properties, kind: { type: 'string' }, apiVersion: { type: 'string' }, metadata } };
    resources.set(schema, whole);
  }
  return whole;
}

const resources = new WeakMap<JsonSchema, JsonSchema>();

const longest = maxRequestBytes - 2;

function stringSize(schema: JsonSchema): number {
  if (schema.maxLength !== undefined) return Math.max(0, schema.maxLength) * 4;
  if (schema.enum?.length) return Math.max(0, ...schema.enum.map((v) => (typeof v === 'string' ? Buffer.byteLength(v) : 0)));
  return longest;
}

let count = 0;

/** The type of values of a schema, with the sizes that they can have; undefined where expressions cannot speak of them. */
export function typeOfSchema(schema: JsonSchema, isResource: boolean, name = `selfType${++count}`): Type | undefined {
  if (schema['x-kubernetes-int-or-string']) return { ...t.dyn, max: schema.maxLength === undefined ? longest : Math.max(0, schema.maxLength) * 4, least: 1 };
  const whole = isResource ? withResourceFields(schema) : schema;
  switch (whole.type) {
    case 'array': {
      const items = itemsOf(whole);
      const elem = items && typeOfSchema(items, isEmbedded(items), `${name}.@idx`);
      if (!elem) return undefined;
      return { ...t.list(elem), max: Math.max(0, whole.maxItems ?? Math.floor(longest / ((elem.least ?? 0) + 1))), least: 2 };
    }
    case 'object':
      return objectType(whole, name);
    case 'string':
      return stringType(whole);
    case 'boolean':
      return t.bool;
    case 'number':
      return t.double;
    case 'integer':
      return t.int;
    default:
      return undefined;
  }
}

function stringType(schema: JsonSchema): Type {
  switch (schema.format) {
    case 'byte':
      return { ...t.bytes, max: Math.max(0, schema.maxLength ?? longest) };
    case 'duration':
      return { ...t.duration, max: 32 };
    case 'date':
      return { ...t.timestamp, max: 12, least: 12 };
    case 'date-time':
      return { ...t.timestamp, max: 32 };
    default:
      return { ...t.string, max: stringSize(schema) };
  }
}

function objectType(schema: JsonSchema, name: string): Type | undefined {
  const values = valuesOf(schema);
  if (values) {
    const elem = typeOfSchema(values, isEmbedded(values), `${name}.@elem`);
    if (!elem) return undefined;
    return { ...t.map(t.string, elem), max: Math.max(0, schema.maxProperties ?? Math.floor(longest / ((elem.least ?? 0) + 6))), least: 2 };
  }
  const fields = new Map<string, Type>();
  let least = 2;
  for (const [property, inner] of Object.entries(schema.properties ?? {})) {
    const type = typeOfSchema(inner, isEmbedded(inner), `${name}.${property}`);
    if (!type) continue;
    const escaped = escapeName(property);
    if (escaped !== undefined) fields.set(escaped, type);
    if (schema.required?.includes(property) && inner.default === undefined) least += property.length + (type.least ?? 0) + 4;
  }
  return { ...t.object(name, fields), least };
}
