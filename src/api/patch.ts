import { badRequest, unsupportedMediaType } from './errors.ts';
import { definitionOf } from './schema.ts';
import { applyStrategicMergePatch as mergeStrategically } from './strategic-merge.ts';

/**
 * Patches of documents. All answer a new document, which may share parts with the old one and with the patch: clone it before
 * changing it in place.
 */
export { applyJsonPatch } from './json-patch.ts';

const isObject = (v: unknown): v is Record<string, any> => typeof v === 'object' && v !== null && !Array.isArray(v);
/** Assignment that makes an own property of any name. */
const set = (target: Record<string, any>, key: string, value: unknown) => {
  if (key === '__proto__') Object.defineProperty(target, key, { value, enumerable: true, configurable: true, writable: true });
  else target[key] = value;
};

/** RFC 7386. */
export function applyMergePatch(doc: any, patch: unknown): any {
  if (patch === null) throw badRequest('Invalid JSON Patch');
  if (!isObject(patch)) {
    const found = Array.isArray(patch) ? 'array' : typeof patch === 'boolean' ? 'bool' : typeof patch;
    throw badRequest(`error decoding patch: json: cannot unmarshal ${found} into Go value of type map[string]interface {}`);
  }
  const merge = (target: unknown, change: Record<string, any>): Record<string, any> => {
    const result: Record<string, any> = isObject(target) ? { ...target } : {};
    for (const [key, value] of Object.entries(change)) {
      if (value === null) delete result[key];
      else set(result, key, isObject(value) ? merge(Object.hasOwn(result, key) ? result[key] : undefined, value) : value);
    }
    return result;
  };
  return merge(doc, patch);
}

/** Custom resources have no patch merge keys. */
const noStrategicMerge =
  'the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml';

/** Kubernetes' strategic merge patch. StatusError 415 for custom resources. */
export function applyStrategicMergePatch(definition: string, doc: any, patch: unknown): any {
  if (definitionOf(definition)?.custom) throw unsupportedMediaType(noStrategicMerge);
  return mergeStrategically(definition, doc, patch);
}
