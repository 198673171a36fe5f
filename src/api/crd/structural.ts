import { RE2JS } from 're2js';
import { sameJson } from '../equality.ts';
import type { FieldError } from '../errors.ts';
import { isEmbedded, itemsOf, type JsonSchema, preservesUnknown, valuesOf } from './json-schema.ts';

type Level = 'root' | 'item' | 'field';

const intOrString = [{ type: 'integer' }, { type: 'string' }];
const isIntOrStringAnyOf = (schema: JsonSchema): boolean => sameJson(schema.anyOf, intOrString);

/** What keeps a schema from being structural: types everywhere, value validation apart from structure. */
export function structuralErrors(schema: JsonSchema, path: string): FieldError[] {
  const errors: FieldError[] = [];
  invariants(schema, 'root', path, errors);
  completeness(schema, path, errors);
  const text = (e: FieldError) => `${e.field} ${e.type} ${e.detail}`;
  return errors.sort((a, b) => (text(a) < text(b) ? -1 : 1));
}

/** Why a schema cannot be read as a structure at all; undefined where it can. */
export function unsupportedPart(schema: JsonSchema): string | undefined {
  const more = schema as Record<string, unknown>;
  if (more['id']) return "OpenAPIV3Schema 'id' is not supported";
  if (more['$schema']) return "OpenAPIV3Schema 'schema' is not supported";
  for (const name of ['$ref', 'patternProperties', 'dependencies', 'additionalItems', 'definitions'])
    if (more[name] !== undefined && more[name] !== '') return `OpenAPIV3Schema '${name}' is not supported`;
  if (schema['x-kubernetes-preserve-unknown-fields'] === false) return "internal error: 'x-kubernetes-preserve-unknown-fields' must be true or undefined";
  if (Array.isArray(schema.items) && schema.items.length) return "OpenAPIV3Schema 'items' must be a schema, but is an array";
  const inner = [schema.not, ...(schema.allOf ?? []), ...(schema.anyOf ?? []), ...(schema.oneOf ?? []), itemsOf(schema), ...Object.values(schema.properties ?? {}), valuesOf(schema)];
  for (const one of inner) {
    const found = one && unsupportedPart(one);
    if (found) return found;
  }
  return undefined;
}

const required = (field: string, detail: string): FieldError => ({ type: 'FieldValueRequired', field, detail });
const forbidden = (field: string, detail: string): FieldError => ({ type: 'FieldValueForbidden', field, detail });
const wrong = (field: string, value: unknown, detail: string): FieldError => ({ type: 'FieldValueInvalid', field, value, detail });

function invariants(schema: JsonSchema, level: Level, path: string, errors: FieldError[]): void {
  const items = itemsOf(schema);
  if (schema.type === 'array' && !items) errors.push(required(`${path}.items`, 'must be specified'));
  if (items) invariants(items, 'item', `${path}.items`, errors);
  for (const [name, property] of Object.entries(schema.properties ?? {})) invariants(property, 'field', `${path}.properties[${name}]`, errors);
  if (schema.additionalProperties !== undefined) {
    if (level === 'root') errors.push(forbidden(`${path}.additionalProperties`, 'must not be used at the root'));
    const values = valuesOf(schema);
    if (values) invariants(values, 'field', `${path}.additionalProperties`, errors);
  }
  const embedded = isEmbedded(schema);
  const preserves = preservesUnknown(schema);
  if (schema['x-kubernetes-int-or-string'] && preserves)
    errors.push(wrong(`${path}.x-kubernetes-preserve-unknown-fields`, true, 'must be false if x-kubernetes-int-or-string is true'));
  if (schema['x-kubernetes-int-or-string'] && embedded)
    errors.push(wrong(`${path}.x-kubernetes-embedded-resource`, true, 'must be false if x-kubernetes-int-or-string is true'));
  valueValidation(schema, path, errors, isIntOrStringAnyOf(schema), schema.allOf?.[0] !== undefined && isIntOrStringAnyOf(schema.allOf[0]));
  if (embedded && schema.type !== 'object') {
    const detail = 'must be object if x-kubernetes-embedded-resource is true';
    errors.push(schema.type ? wrong(`${path}.type`, schema.type, detail) : required(`${path}.type`, detail));
  } else if (!schema.type && !schema['x-kubernetes-int-or-string'] && !preserves) {
    const where = { root: 'at the root', item: 'for specified array items', field: 'for specified object fields' }[level];
    errors.push(required(`${path}.type`, `must not be empty ${where}`));
  }
  if (embedded && schema.additionalProperties !== undefined)
    errors.push(forbidden(`${path}.additionalProperties`, 'must not be used if x-kubernetes-embedded-resource is set'));
  if (level === 'root' && schema.type && schema.type !== 'object') errors.push(wrong(`${path}.type`, schema.type, 'must be object at the root'));
  if (level === 'root' || embedded) {
    for (const name of ['kind', 'apiVersion']) {
      const property = schema.properties?.[name];
      if (property && property.type !== 'string') errors.push(wrong(`${path}.properties[${name}].type`, property.type ?? '', 'must be string'));
    }
  }
  const { metadata } = schema.properties ?? {};
  if (metadata) metadataInvariants(metadata, level, embedded, `${path}.properties[metadata]`, errors);
  if (embedded && !preserves && Object.keys(schema.properties ?? {}).length === 0) {
    const detail = 'must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields';
    errors.push(required(`${path}.properties`, detail));
  }
}

function metadataInvariants(metadata: JsonSchema, level: Level, embedded: boolean, path: string, errors: FieldError[]): void {
  if ((level === 'root' || embedded) && metadata.type !== 'object') errors.push(wrong(`${path}.type`, metadata.type ?? '', 'must be object'));
  if (level !== 'root') return;
  const names = Object.keys(metadata.properties ?? {});
  const { type: _type, default: _default, properties, ...rest } = metadata;
  const onlyNames = names.every((n) => n === 'name' || n === 'generateName');
  if ((properties && !onlyNames) || Object.values(rest).some((v) => v !== undefined && v !== false && v !== ''))
    errors.push(forbidden(path, 'must not specify anything other than name and generateName, but metadata is implicitly specified'));
}

function valueValidation(schema: JsonSchema, path: string, errors: FieldError[], skipAnyOf: boolean, skipFirstAllOf: boolean): void {
  if (!skipAnyOf) schema.anyOf?.forEach((inner, i) => nested(inner, `${path}.anyOf[${i}]`, errors));
  schema.allOf?.forEach((inner, i) => nested(inner, `${path}.allOf[${i}]`, errors, skipFirstAllOf && i === 0));
  schema.oneOf?.forEach((inner, i) => nested(inner, `${path}.oneOf[${i}]`, errors));
  if (schema.not) nested(schema.not, `${path}.not`, errors);
  if (!schema.pattern) return;
  try {
    RE2JS.compile(schema.pattern);
  } catch (error) {
    errors.push(wrong(`${path}.pattern`, schema.pattern, `must be a valid regular expression, but isn't: ${(error as Error).message}`));
  }
}

/** Schemas below allOf, anyOf, oneOf and not may only restrict values. */
function nested(schema: JsonSchema, path: string, errors: FieldError[], skipAnyOf = false): void {
  valueValidation(schema, path, errors, skipAnyOf, false);
  const items = itemsOf(schema);
  if (items) nested(items, `${path}.items`, errors);
  for (const [name, property] of Object.entries(schema.properties ?? {})) nested(property, `${path}.properties[${name}]`, errors);
  if (schema.type) errors.push(forbidden(`${path}.type`, 'must be empty to be structural'));
  if (schema.additionalProperties !== undefined)
    errors.push(forbidden(`${path}.additionalProperties`, 'must be undefined to be structural'));
  if (schema.default !== undefined) errors.push(forbidden(`${path}.default`, 'must be undefined to be structural'));
  for (const name of ['title', 'description'] as const) if (schema[name]) errors.push(forbidden(`${path}.${name}`, 'must be empty to be structural'));
  for (const name of ['nullable', 'x-kubernetes-preserve-unknown-fields', 'x-kubernetes-embedded-resource', 'x-kubernetes-int-or-string'] as const)
    if (schema[name]) errors.push(forbidden(`${path}.${name}`, 'must be false to be structural'));
  if (schema['x-kubernetes-list-map-keys']?.length) errors.push(forbidden(`${path}.x-kubernetes-list-map-keys`, 'must be empty to be structural'));
  for (const name of ['x-kubernetes-list-type', 'x-kubernetes-map-type'] as const)
    if (schema[name] !== undefined) errors.push(forbidden(`${path}.${name}`, 'must be undefined to be structural'));
  if (schema['x-kubernetes-validations']?.length) errors.push(forbidden(`${path}.x-kubernetes-validations`, 'must be empty to be structural'));
  if (schema.properties?.['metadata'])
    errors.push(forbidden(`${path}.properties[metadata]`, 'must not be specified in a nested context'));
}

/** Every field that value validation names must be declared outside of it. */
function completeness(schema: JsonSchema, path: string, errors: FieldError[]): void {
  const each = (inner: JsonSchema, where: string) => covered(inner, schema, path, where, errors);
  schema.anyOf?.forEach((inner, i) => each(inner, `${path}.anyOf[${i}]`));
  schema.allOf?.forEach((inner, i) => each(inner, `${path}.allOf[${i}]`));
  schema.oneOf?.forEach((inner, i) => each(inner, `${path}.oneOf[${i}]`));
  if (schema.not) each(schema.not, `${path}.not`);
}

function covered(inner: JsonSchema, structure: JsonSchema | undefined, structurePath: string, path: string, errors: FieldError[]): void {
  for (const [name, property] of Object.entries(inner.properties ?? {})) {
    const declared = structure?.properties && Object.hasOwn(structure.properties, name) ? structure.properties[name] : undefined;
    if (!declared) {
      errors.push(required(`${structurePath}.properties[${name}]`, `because it is defined in ${path}.properties[${name}]`));
    } else covered(property, declared, `${structurePath}.properties[${name}]`, `${path}.properties[${name}]`, errors);
  }
  const items = itemsOf(inner);
  if (items) {
    const declared = itemsOf(structure);
    if (!declared) errors.push(required(`${structurePath}.items`, `because it is defined in ${path}.items`));
    else covered(items, declared, `${structurePath}.items`, `${path}.items`, errors);
  }
  inner.anyOf?.forEach((one, i) => covered(one, structure, structurePath, `${path}.anyOf[${i}]`, errors));
  inner.allOf?.forEach((one, i) => covered(one, structure, structurePath, `${path}.allOf[${i}]`, errors));
  inner.oneOf?.forEach((one, i) => covered(one, structure, structurePath, `${path}.oneOf[${i}]`, errors));
  if (inner.not) covered(inner.not, structure, structurePath, `${path}.not`, errors);
}
