import { sameJson } from '../equality.ts';
import type { FieldError } from '../errors.ts';
import { compileSchemaRules } from './rule-compilation.ts';
import { applySchemaDefaults, hasDefaults } from './defaulting.ts';
import { isEmbedded, isObject, itemsOf, type JsonSchema, valuesOf } from './json-schema.ts';
import { validateEmbedded } from './metadata.ts';
import { pruneUnknown } from './pruning.ts';
import { validateAgainstSchema } from './schema-validation.ts';
import { internalForm } from '../internal-form.ts';
import { structuralErrors, unsupportedPart } from './structural.ts';

const required = (field: string, detail: string): FieldError => ({ type: 'FieldValueRequired', field, detail });
const forbidden = (field: string, detail: string): FieldError => ({ type: 'FieldValueForbidden', field, detail });
const wrong = (field: string, value: unknown, detail: string): FieldError => ({ type: 'FieldValueInvalid', field, value, detail });

export interface SchemaContext {
  /** The version has a status subresource, so that its root must be an object of fields. */
  withStatus: boolean;
  /** The version had this very schema before: costs of its rules are not judged again. */
  unchanged: boolean;
  /** All schemas of the definition before the update: what was wrong there may stay wrong. */
  old: JsonSchema[];
}

const allowedAtRoot = [
  'Description', 'Type', 'Format', 'Title', 'Maximum', 'ExclusiveMaximum', 'Minimum', 'ExclusiveMinimum', 'MaxLength', 'MinLength', 'Pattern',
  'MaxItems', 'MinItems', 'UniqueItems', 'MultipleOf', 'Required', 'Items', 'Properties', 'ExternalDocs', 'Example',
  'XPreserveUnknownFields', 'XValidations',
];

const pointers = new Set(['XPreserveUnknownFields', 'Ref', 'XListType', 'XMapType']);

/** What is wrong with the schema of a version; `path` is that of the schema's owner, such as spec.validation. */
export function validateSchema(schema: JsonSchema, path: string, context: SchemaContext): FieldError[] {
  const errors: FieldError[] = [];
  const at = `${path}.openAPIV3Schema`;
  if (context.withStatus) {
    const shown = internalForm('apiextensions.JSONSchemaProps', schema) as Record<string, unknown>;
    for (const [name, value] of Object.entries(shown)) {
      // Pointers to false and to "" are more than nothing.
      if (value === null || (!pointers.has(name) && (value === false || value === ''))) continue;
      if (name === 'Type') {
        if (schema.type === 'object') continue;
        const detail = 'only "object" is allowed as the type at the root of the schema if the status subresource is enabled';
        errors.push(wrong(`${at}.type`, schema.type, detail));
        break;
      }
      if (!allowedAtRoot.includes(name)) {
        const detail = `only [${allowedAtRoot.join(' ')}] fields are allowed at the root of the schema if the status subresource is enabled`;
        errors.push(wrong(at, shown, detail));
        break;
      }
    }
  }
  if (schema.nullable) errors.push(forbidden(`${at}.nullable`, 'nullable cannot be true at the root'));
  // What has no structure at all is only said where nothing else is wrong.
  const unsupported = unsupportedPart(schema);
  const structural = unsupported ? [] : structuralErrors(schema, at);
  errors.push(...structural);
  const defaults = unsupported || structural.length ? [] : defaultErrors(schema, at);
  errors.push(...defaults);
  const found: FieldError[] = [];
  check(schema, at, found, { root: true, insideMetadata: false, noDefaults: undefined });
  errors.push(...found);
  if (unsupported) return errors.length ? errors : [wrong(at, '', unsupported)];
  if (structural.length === 0 && defaults.length === 0 && found.length === 0) errors.push(...compileSchemaRules(schema, at, context));
  return errors;
}

const types = ['array', 'boolean', 'integer', 'number', 'object', 'string'];

interface Place {
  root: boolean;
  insideMetadata: boolean;
  /** Why defaults are not allowed here. */
  noDefaults: string | undefined;
}

function check(schema: JsonSchema, path: string, errors: FieldError[], place: Place): void {
  standard(schema, path, errors, place);
  if (schema.uniqueItems)
    errors.push(forbidden(`${path}.uniqueItems`, 'uniqueItems cannot be set to true since the runtime complexity becomes quadratic'));
  if (schema.additionalProperties !== undefined) {
    if (Object.keys(schema.properties ?? {}).length && schema.additionalProperties !== true)
      errors.push(forbidden(`${path}.additionalProperties`, 'additionalProperties and properties are mutual exclusive'));
    const values = valuesOf(schema);
    const noDefaults = place.insideMetadata ? 'inside additionalProperties applying to object metadata' : place.noDefaults;
    if (values) check(values, `${path}.additionalProperties`, errors, { root: false, insideMetadata: place.insideMetadata, noDefaults });
  }
  for (const [name, property] of Object.entries(schema.properties ?? {})) {
    const isMeta = (place.root || isEmbedded(schema)) && ['metadata', 'kind', 'apiVersion'].includes(name);
    check(property, `${path}.properties[${name}]`, errors, {
      root: false,
      insideMetadata: place.insideMetadata || isMeta,
      noDefaults: place.root && isMeta ? `in top-level ${name}` : place.noDefaults,
    });
  }
  const inner: Place = { ...place, root: false };
  if (schema.not) check(schema.not, `${path}.not`, errors, inner);
  for (const name of ['allOf', 'oneOf', 'anyOf'] as const) schema[name]?.forEach((one, i) => check(one, `${path}.${name}[${i}]`, errors, inner));
  for (const [name, one] of Object.entries(schema.definitions ?? {})) check(one, `${path}.definitions[${name}]`, errors, inner);
  const items = itemsOf(schema);
  if (items) check(items, `${path}.items`, errors, inner);
  else if (Array.isArray(schema.items)) schema.items.forEach((one, i) => check(one, `${path}.items[${i}]`, errors, inner));
  for (const [name, one] of Object.entries(schema.dependencies ?? {})) if (isObject(one)) check(one, `${path}.dependencies[${name}]`, errors, inner);
  if (schema['x-kubernetes-preserve-unknown-fields'] === false)
    errors.push(wrong(`${path}.x-kubernetes-preserve-unknown-fields`, false, 'must be true or undefined'));
  mapType(schema, path, errors);
  listType(schema, path, errors);
  ruleFields(schema, path, errors);
}

/** What OpenAPI v3 as CRDs have it does not know. */
function standard(schema: JsonSchema, path: string, errors: FieldError[], place: Place): void {
  const more = schema as Record<string, unknown>;
  if (schema.type && schema.type !== 'null' && !types.includes(schema.type)) {
    const detail = `supported values: ${types.map((t) => JSON.stringify(t)).join(', ')}`;
    errors.push({ type: 'FieldValueNotSupported', field: `${path}.type`, value: schema.type, detail });
  }
  if (schema.default !== undefined && place.noDefaults !== undefined) errors.push(forbidden(`${path}.default`, `must not be set ${place.noDefaults}`));
  for (const name of ['id', 'additionalItems', 'patternProperties', 'definitions', 'dependencies', '$ref'])
    if (more[name] !== undefined && (more[name] !== '' || name === '$ref')) errors.push(forbidden(`${path}.${name}`, `${name} is not supported`));
  if (schema.type === 'null') errors.push(forbidden(`${path}.type`, 'type cannot be set to null, use nullable as an alternative'));
  if (Array.isArray(schema.items) && schema.items.length) errors.push(forbidden(`${path}.items`, 'items must be a schema object and not an array'));
  if (place.insideMetadata && isEmbedded(schema))
    errors.push(forbidden(`${path}.x-kubernetes-embedded-resource`, 'must not be used inside of resource meta'));
}

function mapType(schema: JsonSchema, path: string, errors: FieldError[]): void {
  const type = schema['x-kubernetes-map-type'];
  if (type === undefined) return;
  if (schema.type !== 'object') {
    const detail = 'must be object if x-kubernetes-map-type is specified';
    errors.push(schema.type ? wrong(`${path}.type`, schema.type, detail) : required(`${path}.type`, detail));
  }
  if (type !== 'atomic' && type !== 'granular') {
    const detail = 'supported values: "atomic", "granular"';
    errors.push({ type: 'FieldValueNotSupported', field: `${path}.x-kubernetes-map-type`, value: type, detail });
  }
}

function listType(schema: JsonSchema, path: string, errors: FieldError[]): void {
  const type = schema['x-kubernetes-list-type'];
  const keys = schema['x-kubernetes-list-map-keys'] ?? [];
  const items = itemsOf(schema);
  const at = `${path}.x-kubernetes-list-type`;
  if (type !== undefined && schema.type !== 'array') {
    const detail = 'must be array if x-kubernetes-list-type is specified';
    errors.push(schema.type ? wrong(`${path}.type`, schema.type, detail) : required(`${path}.type`, detail));
  } else if (type === 'set' && items) {
    const detail = 'must be atomic as item of a list with x-kubernetes-list-type=set';
    const inner = items['x-kubernetes-list-type'];
    if (items.type === 'array' && inner !== undefined && inner !== 'atomic') errors.push(wrong(`${path}.items.x-kubernetes-list-type`, inner, detail));
    if (items.type === 'object' && items['x-kubernetes-map-type'] !== 'atomic')
      errors.push(wrong(`${path}.items.x-kubernetes-map-type`, inner, detail));
  }
  if (type !== undefined && !['atomic', 'set', 'map'].includes(type)) {
    const detail = 'supported values: "atomic", "set", "map"';
    errors.push({ type: 'FieldValueNotSupported', field: at, value: type, detail });
  }
  if (keys.length && type !== 'map') {
    const detail = 'must be map if x-kubernetes-list-map-keys is non-empty';
    errors.push(type === undefined ? required(at, detail) : wrong(at, type, detail));
  }
  if ((type === 'set' || type === 'map') && items?.nullable)
    errors.push(forbidden(`${path}.items.nullable`, `cannot be nullable when x-kubernetes-list-type is ${type}`));
  if (type === 'map') listMap(schema, keys, items, path, errors);
}

function listMap(schema: JsonSchema, keys: string[], items: JsonSchema | undefined, path: string, errors: FieldError[]): void {
  const at = `${path}.x-kubernetes-list-map-keys`;
  if (keys.length === 0) errors.push(required(at, 'must not be empty if x-kubernetes-list-type is map'));
  if (!schema.items) errors.push(required(`${path}.items`, 'must have a schema if x-kubernetes-list-type is map'));
  if (!items) return;
  if (items.type !== 'object') {
    errors.push(wrong(`${path}.items.type`, items.type ?? '', "must be object if parent array's x-kubernetes-list-type is map"));
    return;
  }
  keys.forEach((key, i) => {
    const property = items.properties && Object.hasOwn(items.properties, key) ? items.properties[key] : undefined;
    const where = `${path}.items.properties[${key}]`;
    if (!property) errors.push(wrong(at, keys, 'entries must all be names of item properties'));
    else {
      if (property.type === 'array' || property.type === 'object')
        errors.push(wrong(`${where}.type`, items.type, "must be a scalar type if parent array's x-kubernetes-list-type is map"));
      if (!items.required?.includes(key) && property.default === undefined) {
        const detail = 'this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property';
        errors.push(required(`${where}.default`, detail));
      }
      if (property.nullable) errors.push(forbidden(`${where}.nullable`, 'this property is in x-kubernetes-list-map-keys, so it cannot be nullable'));
    }
    if (keys.indexOf(key) < i) errors.push(wrong(at, keys, 'must not contain duplicate entries'));
  });
}

const reasons = ['FieldValueDuplicate', 'FieldValueForbidden', 'FieldValueInvalid', 'FieldValueRequired'];
const hasLineBreak = (text: string | undefined) => /[\n\r]/.test(text ?? '');

function ruleFields(schema: JsonSchema, path: string, errors: FieldError[]): void {
  schema['x-kubernetes-validations']?.forEach((rule, i) => {
    const at = `${path}.x-kubernetes-validations[${i}]`;
    const message = rule.message?.trim();
    if (!rule.rule?.trim()) errors.push(required(`${at}.rule`, 'rule is not specified'));
    else if (rule.message && !message) errors.push(wrong(`${at}.message`, rule.message, 'must be non-empty if specified'));
    else if (hasLineBreak(message)) errors.push(wrong(`${at}.message`, rule.message, 'must not contain line breaks'));
    else if (hasLineBreak(rule.rule.trim()) && !message)
      errors.push(required(`${at}.message`, 'message must be specified if rule contains line breaks'));
    if (rule.messageExpression && !rule.messageExpression.trim())
      errors.push(required(`${at}.messageExpression`, 'messageExpression must be non-empty if specified'));
    if (rule.reason !== undefined && !reasons.includes(rule.reason)) {
      const detail = `supported values: ${reasons.map((r) => JSON.stringify(r)).join(', ')}`;
      errors.push({ type: 'FieldValueNotSupported', field: `${at}.reason`, value: rule.reason, detail });
    }
    if (rule.fieldPath) {
      if (!rule.fieldPath.trim()) errors.push(wrong(`${at}.fieldPath`, rule.fieldPath, 'must be non-empty if specified'));
      if (hasLineBreak(rule.fieldPath)) errors.push(wrong(`${at}.fieldPath`, rule.fieldPath, 'must not contain line breaks'));
      if (!isPathOf(schema, rule.fieldPath)) errors.push(wrong(`${at}.fieldPath`, rule.fieldPath, 'must be a valid path'));
    }
  });
}

/** The names of a path such as `.a['b.c'].d`; undefined where it is none. */
export function pathNames(path: string): string[] | undefined {
  const names: string[] = [];
  const step = /\.([A-Za-z_][A-Za-z0-9_-]*)|\['((?:\\.|[^'\\])*)'\]/y;
  while (step.lastIndex < path.length) {
    const found = step.exec(path);
    if (!found) return undefined;
    names.push(found[1] ?? (found[2] as string).replace(/\\(.)/g, '$1'));
  }
  return names.length ? names : undefined;
}

function isPathOf(schema: JsonSchema, path: string): boolean {
  let current: JsonSchema | undefined = schema;
  for (const name of pathNames(path) ?? ['']) {
    if (!current) return false;
    current = (current.properties && Object.hasOwn(current.properties, name) ? current.properties[name] : undefined) ?? valuesOf(current);
  }
  return current !== undefined;
}

/** Defaults must be valid, and known to the schema to the last field. */
function defaultErrors(schema: JsonSchema, path: string): FieldError[] {
  if (!hasDefaults(schema)) return [];
  const errors: FieldError[] = [];
  if (schema.default !== undefined) {
    const at = `${path}.default`;
    const value = structuredClone(schema.default);
    if (isObject(value) || Array.isArray(value)) {
      const pruned = structuredClone(value);
      const holder: JsonSchema = { type: 'object', properties: { default: schema } };
      pruneUnknown(holder, { default: pruned });
      if (!sameJson(pruned, value)) errors.push(wrong(at, schema.default, 'must not have unknown fields'));
    }
    applySchemaDefaults(schema, value);
    const embedded = validateEmbedded(schema, value, at);
    errors.push(...(embedded.length ? embedded : validateAgainstSchema(schema, value, at)));
  }
  for (const [name, property] of Object.entries(schema.properties ?? {})) errors.push(...defaultErrors(property, `${path}.properties[${name}]`));
  const items = itemsOf(schema);
  if (items) errors.push(...defaultErrors(items, `${path}.items`));
  const values = valuesOf(schema);
  if (values) errors.push(...defaultErrors(values, `${path}.additionalProperties`));
  return errors;
}

