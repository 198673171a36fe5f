import { checkTypes, type GroupVersionKind, unknownFields } from '../decode.ts';
import { badRequest } from '../errors.ts';
import { child, isEmbedded, isObject, itemsOf, type JsonSchema, metaFields, preservesUnknown, propertyOf, valuesOf } from './json-schema.ts';

const metadataDefinition = 'io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta';

/**
 * Removes what the schema does not know, in place, and answers the paths of what was removed. Metadata of the object and of embedded
 * resources is held to ObjectMeta.
 */
export function pruneUnknown(schema: JsonSchema, object: unknown): string[] {
  const found: string[] = [];
  const metadataOf = (value: Record<string, unknown>, path: string): void => {
    if (!isObject(value['metadata'])) return;
    for (const field of unknownFields(metadataDefinition, value['metadata'])) found.push(`${child(path, 'metadata')}.${field}`);
  };
  const prune = (value: unknown, at: JsonSchema | undefined, path: string, embedded: boolean): void => {
    const keepUnknown = preservesUnknown(at);
    if (Array.isArray(value)) {
      // Items of a list whose unknown fields are kept are looked at with the list's own leniency.
      const items = itemsOf(at);
      value.forEach((item, i) => {
        if (keepUnknown) keep(item, items, `${path}[${i}]`);
        else prune(item, items, `${path}[${i}]`, isEmbedded(items));
      });
    } else if (isObject(value)) {
      if (embedded) metadataOf(value, path);
      for (const key of Object.keys(value)) {
        if (embedded && metaFields.has(key)) continue;
        const inner = propertyOf(at, key) ?? valuesOf(at);
        const where = child(path, key);
        if (inner || at?.additionalProperties === true) prune(value[key], inner ?? { 'x-kubernetes-preserve-unknown-fields': true }, where, isEmbedded(inner));
        else if (!keepUnknown) {
          if (!metaFields.has(key) || path) found.push(where);
          delete value[key];
        }
      }
    }
  };
  const keep = (value: unknown, at: JsonSchema | undefined, path: string): void => {
    if (at) prune(value, { ...at, 'x-kubernetes-preserve-unknown-fields': true }, path, isEmbedded(at));
  };
  prune(object, schema, '', true);
  return found.sort();
}

/** Removes nulls where the schema neither allows them nor has a default to put in their place. */
export function pruneNulls(schema: JsonSchema | undefined, value: unknown): void {
  if (Array.isArray(value)) {
    const items = itemsOf(schema);
    for (const item of value) pruneNulls(items, item);
  } else if (isObject(value)) {
    for (const key of Object.keys(value)) {
      const inner = propertyOf(schema, key) ?? valuesOf(schema);
      if (value[key] === null && inner && !inner.nullable && inner.default === undefined) delete value[key];
      else pruneNulls(inner, value[key]);
    }
  }
}

/** StatusError 400 where type fields or metadata of the object, or of an embedded resource, have types of their own. */
export function checkMetadata(schema: JsonSchema, object: unknown, gvk: GroupVersionKind): void {
  const check = (value: unknown, at: JsonSchema | undefined, path: string, embedded: boolean): void => {
    if (Array.isArray(value)) {
      const items = itemsOf(at);
      if (items) value.forEach((item, i) => check(item, items, `${path}[${i}]`, isEmbedded(items)));
      return;
    }
    if (!isObject(value)) return;
    if (embedded) {
      for (const field of ['apiVersion', 'kind'])
        if (Object.hasOwn(value, field) && typeof value[field] !== 'string')
          throw badRequest(`${gvk.kind} in version "${gvk.version}" cannot be handled as a ${gvk.kind}: ${child(path, field)}: Invalid value: ${JSON.stringify(value[field])}: must be a string`);
      if (value['metadata'] === null && path) delete value['metadata'];
      if (value['metadata'] !== undefined && value['metadata'] !== null) checkTypes(metadataDefinition, value['metadata'], gvk);
    }
    for (const key of Object.keys(value)) {
      const inner = propertyOf(at, key) ?? valuesOf(at);
      if (inner) check(value[key], inner, child(path, key), isEmbedded(inner));
    }
  };
  check(object, schema, '', true);
}
