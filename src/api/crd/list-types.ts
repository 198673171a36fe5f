import { canonicalJson } from '../equality.ts';
import type { FieldError } from '../errors.ts';
import { child, isObject, itemsOf, type JsonSchema, propertyOf, valuesOf } from './json-schema.ts';

/** Items that occur again in a list with x-kubernetes-list-type set or map. */
export function validateListTypes(schema: JsonSchema | undefined, value: unknown, path = ''): FieldError[] {
  if (!schema) return [];
  if (Array.isArray(value)) {
    const errors: FieldError[] = [];
    if (schema['x-kubernetes-list-type'] === 'set') {
      for (const i of repeated(value)) errors.push({ type: 'FieldValueDuplicate', field: `${path}[${i}]`, value: value[i], detail: '' });
    } else if (schema['x-kubernetes-list-type'] === 'map') errors.push(...validateListMap(schema, value, path));
    const items = itemsOf(schema);
    if (items) value.forEach((item, i) => errors.push(...validateListTypes(items, item, `${path}[${i}]`)));
    return errors;
  }
  if (!isObject(value)) return [];
  const values = valuesOf(schema);
  return Object.keys(value).flatMap((key) => {
    const property = propertyOf(schema, key);
    if (property) return validateListTypes(property, value[key], child(path, key));
    return values ? validateListTypes(values, value[key], `${path}[${key}]`) : [];
  });
}

function validateListMap(schema: JsonSchema, list: unknown[], path: string): FieldError[] {
  const wrong = list.findIndex((item) => item !== null && !isObject(item));
  if (wrong >= 0) {
    const detail = 'must be an object for an array of list-type map';
    return [{ type: 'FieldValueInvalid', field: `${path}[${wrong}]`, value: list[wrong], detail }];
  }
  const keys = list.map((item) => {
    const key: Record<string, unknown> = {};
    if (isObject(item)) for (const name of schema['x-kubernetes-list-map-keys'] ?? []) if (Object.hasOwn(item, name)) key[name] = item[name];
    return key;
  });
  return repeated(keys).map((i) => ({ type: 'FieldValueDuplicate', field: `${path}[${i}]`, value: keys[i], detail: '' }));
}

/** The index of the second of each value that occurs several times. */
function repeated(list: unknown[]): number[] {
  const seen = new Map<string, number>();
  const found: number[] = [];
  list.forEach((item, i) => {
    const text = canonicalJson(item);
    const times = seen.get(text) ?? 0;
    if (times === 1) found.push(i);
    seen.set(text, times + 1);
  });
  return found;
}
