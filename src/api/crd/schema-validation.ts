import { RE2JS } from 're2js';
import { sameJson } from '../equality.ts';
import type { FieldError } from '../errors.ts';
import type { Correlated } from './correlation.ts';
import { isKnownFormat, matchesFormat } from './formats.ts';
import { isObject, itemsOf, type JsonSchema, propertyOf, valuesOf } from './json-schema.ts';

/** Errors of a value against a schema, and how many checks it passed (which alternative of anyOf comes nearest). */
interface Result {
  errors: FieldError[];
  passed: number;
}

/**
 * Checks a value against a schema, in the words and with the paths of kube-openapi's validator as kube-apiserver reports them. With a
 * correlation, what is wrong in parts that the update leaves as they were is no error (ratcheting). `base` stands before all paths.
 */
export function validateAgainstSchema(schema: JsonSchema, value: unknown, base = '', correlated?: Correlated): FieldError[] {
  const { errors } = check(schema, value, '', correlated);
  if (!base) return errors.map((e) => (e.field === '' ? { ...e, field: '<nil>' } : e));
  return errors.map((e) => ({ ...e, field: e.field === '' || e.field === '<nil>' ? base : `${base}.${e.field}` }));
}

function check(schema: JsonSchema, value: unknown, path: string, correlated: Correlated | undefined): Result {
  const result = checkWhole(schema, value, path, correlated);
  return result.errors.length > 0 && correlated?.unchanged ? { errors: [], passed: result.passed } : result;
}

const named = (path: string): string => path.replace(/^\./, '');

function checkWhole(schema: JsonSchema, value: unknown, path: string, correlated: Correlated | undefined): Result {
  const result: Result = { errors: [], passed: 0 };
  const merge = (other: Result) => {
    result.errors.push(...other.errors);
    result.passed += other.passed;
  };
  const one = (errors: FieldError[]) => merge({ errors, passed: errors.length ? 0 : 1 });
  one(typeErrors(schema, value, path));
  if (value !== null) {
    merge(alternatives(schema, value, path));
    if (typeof value === 'string') one(stringErrors(schema, value, path));
    else if (typeof value === 'number' || typeof value === 'bigint') one(numberErrors(schema, value, path));
    else if (Array.isArray(value)) merge(checkList(schema, value, path, correlated));
  }
  if (schema.enum && !schema.enum.some((allowed) => sameJson(allowed, value))) {
    const supported = schema.enum.map((v) => JSON.stringify(typeof v === 'string' ? v : JSON.stringify(v))).join(', ');
    one([{ type: 'FieldValueNotSupported', field: named(path), value, detail: `supported values: ${supported}` }]);
  }
  if (isObject(value)) merge(checkObject(schema, value, path, correlated));
  return result;
}

const jsonType = (value: unknown): string => {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'array';
  if (typeof value === 'number') return Number.isInteger(value) ? 'integer' : 'number';
  if (typeof value === 'bigint') return 'integer';
  return typeof value;
};

function typeErrors(schema: JsonSchema, value: unknown, path: string): FieldError[] {
  const types = schema['x-kubernetes-int-or-string'] ? ['integer', 'string'] : schema.type ? [schema.type] : [];
  if (types.length === 0) return [];
  const actual = jsonType(value);
  if (value === null ? schema.nullable : types.includes(actual) || (actual === 'integer' && types.includes('number'))) return [];
  const field = named(path);
  return [
    { type: 'FieldValueTypeInvalid', field, value: actual, detail: `${field} in body must be of type ${types.join(',')}: ${JSON.stringify(actual)}` },
  ];
}

const patterns = new Map<string, RE2JS | undefined>();

/** A pattern of Go's syntax; undefined where it is none. */
export function compilePattern(pattern: string): RE2JS | undefined {
  if (patterns.has(pattern)) return patterns.get(pattern);
  let compiled: RE2JS | undefined;
  try {
    compiled = RE2JS.compile(pattern);
  } catch {
    compiled = undefined;
  }
  if (patterns.size > 5000) patterns.clear();
  patterns.set(pattern, compiled);
  return compiled;
}

/** Characters as Go counts them. */
function runeCount(text: string): number {
  let count = text.length;
  for (let i = 0; i < text.length; i++) if ((text.charCodeAt(i) & 0xfc00) === 0xdc00 && i > 0 && (text.charCodeAt(i - 1) & 0xfc00) === 0xd800) count--;
  return count;
}

function stringErrors(schema: JsonSchema, value: string, path: string): FieldError[] {
  const field = named(path);
  const { maxLength, minLength, pattern, format } = schema;
  if (maxLength !== undefined && runeCount(value) > maxLength)
    return [{ type: 'FieldValueTooLong', field, detail: `may not be more than ${maxLength} byte${maxLength === 1 ? '' : 's'}` }];
  const wrong = (detail: string): FieldError[] => [{ type: 'FieldValueInvalid', field, value, detail: `${field} in body ${detail}` }];
  if (minLength !== undefined && runeCount(value) < minLength) return wrong(`should be at least ${minLength} chars long`);
  if (pattern && !compilePattern(pattern)?.matcher(value).find()) return wrong(`should match '${pattern}'`);
  if (format && isKnownFormat(schema.type, format) && !matchesFormat(format, value))
    return [{ type: 'FieldValueTypeInvalid', field, value, detail: `${field} in body must be of type ${format}: ${JSON.stringify(value)}` }];
  return [];
}

function numberErrors(schema: JsonSchema, value: number | bigint, path: string): FieldError[] {
  const field = named(path);
  const errors: FieldError[] = [];
  const wrong = (detail: string) => errors.push({ type: 'FieldValueInvalid', field, value, detail: `${field} in body ${detail}` });
  const { multipleOf, maximum, minimum, format } = schema;
  if (schema.type === 'integer' && format === 'int32' && (value > 2_147_483_647 || value < -2_147_483_648)) {
    const detail = `Checked value must be of type integer with format int32 in ${path}`;
    errors.push({ type: 'FieldValueInvalid', field: '<nil>', value: '', detail });
  }
  if (multipleOf !== undefined) {
    // Upstream compares whole numbers with the factor's whole part.
    const factor = typeof value === 'bigint' || Number.isInteger(value) ? Math.trunc(multipleOf) : multipleOf;
    if (factor <= 0) {
      const detail = `factor MultipleOf declared for ${field} must be positive: ${factor}`;
      errors.push({ type: 'FieldValueInvalid', field, value: factor, detail });
    } else if (!isMultiple(value, factor)) wrong(`should be a multiple of ${factor}`);
  }
  if (maximum !== undefined && (schema.exclusiveMaximum ? value >= maximum : value > maximum))
    wrong(`should be less than ${schema.exclusiveMaximum ? '' : 'or equal to '}${maximum}`);
  if (minimum !== undefined && (schema.exclusiveMinimum ? value <= minimum : value < minimum))
    wrong(`should be greater than ${schema.exclusiveMinimum ? '' : 'or equal to '}${minimum}`);
  return errors;
}

const mostItems = (most: number): string => `must have at most ${most} item${most === 1 ? '' : 's'}`;

const isMultiple = (value: number | bigint, factor: number): boolean =>
  typeof value === 'bigint' ? value % BigInt(factor) === 0n : Number.isInteger(factor < 1 ? (1 / factor) * value : value / factor);

function alternatives(schema: JsonSchema, value: unknown, path: string): Result {
  const result: Result = { errors: [], passed: 0 };
  const merge = (other: Result) => {
    result.errors.push(...other.errors);
    result.passed += other.passed;
  };
  const composite = (detail: string) => result.errors.push({ type: 'FieldValueInvalid', field: '<nil>', value: '', detail });
  const shown = JSON.stringify(path);
  const nearest = (results: Result[]) => results.reduce((best, r) => (r.passed > best.passed ? r : best));
  if (schema.anyOf?.length) {
    const tried: Result[] = [];
    let found: Result | undefined;
    for (const one of schema.anyOf) {
      const outcome = check(one, value, path, undefined);
      if (outcome.errors.length === 0) {
        found = outcome;
        break;
      }
      tried.push(outcome);
    }
    if (!found) composite(`${shown} must validate at least one schema (anyOf)`);
    merge(found ?? nearest(tried));
  }
  if (schema.oneOf?.length) {
    const outcomes = schema.oneOf.map((one) => check(one, value, path, undefined));
    const valid = outcomes.filter((r) => r.errors.length === 0);
    if (valid.length === 1) merge(valid[0] as Result);
    else {
      const how = valid.length === 0 ? 'Found none valid' : `Found ${valid.length} valid alternatives`;
      composite(`${shown} must validate one and only one schema (oneOf). ${how}`);
      if (valid.length === 0) merge(nearest(outcomes));
    }
  }
  if (schema.allOf?.length) {
    const outcomes = schema.allOf.map((one) => check(one, value, path, undefined));
    for (const outcome of outcomes) merge(outcome);
    const valid = outcomes.filter((r) => r.errors.length === 0).length;
    if (valid !== outcomes.length) composite(`${shown} must validate all the schemas (allOf)${valid === 0 ? '. None validated' : ''}`);
  }
  if (schema.not && check(schema.not, value, path, undefined).errors.length === 0) composite(`${shown} must not validate the schema (not)`);
  result.passed++;
  return result;
}

function checkList(schema: JsonSchema, value: unknown[], path: string, correlated: Correlated | undefined): Result {
  const result: Result = { errors: [], passed: 1 };
  const items = itemsOf(schema);
  if (items) {
    value.forEach((item, i) => {
      const inner = check(items, item, `${path}[${i}]`, correlated?.item(i));
      result.errors.push(...inner.errors);
      result.passed += inner.passed;
    });
  }
  const field = named(path);
  if (schema.minItems !== undefined && value.length < schema.minItems) {
    const detail = `${field} in body should have at least ${schema.minItems} items`;
    result.errors.push({ type: 'FieldValueInvalid', field, value: value.length, detail });
  }
  if (schema.maxItems !== undefined && value.length > schema.maxItems)
    result.errors.push({ type: 'FieldValueTooMany', field, value: value.length, detail: mostItems(schema.maxItems) });
  if (schema.uniqueItems && value.some((item, i) => value.slice(0, i).some((before) => sameJson(before, item))))
    result.errors.push({ type: 'FieldValueInvalid', field, value, detail: `${field} in body shouldn't contain duplicates` });
  return result;
}

function checkObject(schema: JsonSchema, value: Record<string, unknown>, path: string, correlated: Correlated | undefined): Result {
  const result: Result = { errors: [], passed: 0 };
  const field = named(path);
  const keys = Object.keys(value);
  if (schema.minProperties !== undefined && keys.length < schema.minProperties) {
    const detail = `${field} in body should have at least ${schema.minProperties} properties`;
    result.errors.push({ type: 'FieldValueInvalid', field, value: keys.length, detail });
  }
  if (schema.maxProperties !== undefined && keys.length > schema.maxProperties)
    result.errors.push({ type: 'FieldValueTooMany', field, value: keys.length, detail: mostItems(schema.maxProperties) });
  const values = valuesOf(schema);
  for (const key of keys) {
    const property = propertyOf(schema, key);
    const inner = property ?? values;
    if (!inner) {
      if (schema.additionalProperties === false) {
        const detail = `${field}.${key} in body is a forbidden property`;
        result.errors.push({ type: 'FieldValueInvalid', field, value: '', detail });
      }
      continue;
    }
    const typeField = path === '' && (key === 'kind' || key === 'apiVersion');
    const outcome = check(inner, value[key], property && path === '' ? key : `${path}.${key}`, typeField ? undefined : correlated?.field(key));
    result.errors.push(...outcome.errors);
    result.passed += outcome.passed;
  }
  for (const name of schema.required ?? [])
    if (!Object.hasOwn(value, name)) result.errors.push({ type: 'FieldValueRequired', field: named(`${path}.${name}`), detail: '' });
  return result;
}
