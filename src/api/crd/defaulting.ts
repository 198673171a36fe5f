import { isObject, itemsOf, type JsonSchema, propertyOf, setOwn, valuesOf } from './json-schema.ts';

/** Schemas below which a default lies; the others are not visited. */
const reaching = new WeakMap<JsonSchema, boolean>();

export function hasDefaults(schema: JsonSchema | undefined): boolean {
  if (!schema) return false;
  const known = reaching.get(schema);
  if (known !== undefined) return known;
  const inner = [...Object.values(schema.properties ?? {}), valuesOf(schema), itemsOf(schema)];
  const found = schema.default !== undefined || inner.some(hasDefaults);
  reaching.set(schema, found);
  return found;
}

const isBareNull = (value: unknown, schema: JsonSchema): boolean => value === null && !schema.nullable;

/** Puts the schema's defaults into a value, in place. */
export function applySchemaDefaults(schema: JsonSchema | undefined, value: unknown): void {
  if (!schema || !hasDefaults(schema)) return;
  if (Array.isArray(value)) {
    const items = itemsOf(schema);
    if (!items) return;
    for (let i = 0; i < value.length; i++) {
      if (isBareNull(value[i], items) && items.default !== undefined) value[i] = structuredClone(items.default);
      applySchemaDefaults(items, value[i]);
    }
  } else if (isObject(value)) {
    for (const [name, property] of Object.entries(schema.properties ?? {})) {
      if (property.default === undefined) continue;
      if (!Object.hasOwn(value, name) || isBareNull(value[name], property)) setOwn(value, name, structuredClone(property.default));
    }
    const values = valuesOf(schema);
    for (const name of Object.keys(value)) {
      const property = propertyOf(schema, name);
      if (!property && values && isBareNull(value[name], values) && values.default !== undefined) setOwn(value, name, structuredClone(values.default));
      applySchemaDefaults(property ?? values, value[name]);
    }
  }
}
