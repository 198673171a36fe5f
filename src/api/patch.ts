import jsonpatch from 'fast-json-patch';
import { badRequest, StatusError, unsupportedMediaType } from './errors.ts';
import { type Definition, definitionOf, type Field, type Shape } from './schema.ts';

const unprocessable = (message: string) => new StatusError(422, 'Invalid', message, {});

/** RFC 6902. Returns a new document. A test that fails, or a path that is not there, is a 422 as upstream's. */
export function applyJsonPatch(doc: any, patch: unknown): any {
  if (!Array.isArray(patch)) throw badRequest('error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp');
  try {
    return jsonpatch.applyPatch(structuredClone(doc), structuredClone(patch), true, true, true).newDocument;
  } catch {
    throw unprocessable('the server rejected our request due to an error in our request');
  }
}

const isObject = (v: unknown): v is Record<string, any> => typeof v === 'object' && v !== null && !Array.isArray(v);
/** Assignment that makes an own property of any name. */
const set = (target: Record<string, any>, key: string, value: unknown) => {
  if (key === '__proto__') Object.defineProperty(target, key, { value, enumerable: true, configurable: true, writable: true });
  else target[key] = value;
};

/** RFC 7386. Returns a new document. */
export function applyMergePatch(doc: any, patch: unknown): any {
  if (!isObject(patch))
    throw badRequest(`error decoding patch: json: cannot unmarshal ${Array.isArray(patch) ? 'array' : typeof patch} into Go value of type map[string]interface {}`);
  const merge = (target: unknown, change: Record<string, any>): Record<string, any> => {
    const result: Record<string, any> = isObject(target) ? { ...target } : {};
    for (const [key, value] of Object.entries(change)) {
      if (value === null) delete result[key];
      else set(result, key, isObject(value) ? merge(Object.hasOwn(result, key) ? result[key] : undefined, value) : structuredClone(value));
    }
    return result;
  };
  return merge(structuredClone(doc), patch);
}

/**
 * Kubernetes' strategic merge patch with its directives: $patch (replace, delete, merge), $deleteFromPrimitiveList,
 * $setElementOrder, $retainKeys. Lists merge by the definition's patch merge key. Returns a new document.
 */
export function applyStrategicMergePatch(definition: string, doc: any, patch: unknown): any {
  if (definitionOf(definition)?.custom) throw unsupportedMediaType(noStrategicMerge);
  if (!isObject(patch))
    throw badRequest(`error decoding patch: json: cannot unmarshal ${Array.isArray(patch) ? 'array' : typeof patch} into Go value of type map[string]interface {}`);
  return mergeObject(structuredClone(doc) ?? {}, patch, definitionOf(definition));
}

/** Custom resources have no patch merge keys. */
const noStrategicMerge =
  'the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml';
const directive = '$patch';
const retainKeys = '$retainKeys';
const deleteFrom = '$deleteFromPrimitiveList/';
const order = '$setElementOrder/';

function mergeObject(
  target: Record<string, any>,
  patch: Record<string, any>,
  definition: Definition | undefined,
  values?: Shape,
): Record<string, any> {
  const what = patch[directive];
  if (what === 'replace') {
    const { [directive]: _, ...rest } = patch;
    return clean(rest);
  }
  if (what === 'delete') return {};
  if (what !== undefined && what !== 'merge') throw badRequest(`unrecognized patch type: ${JSON.stringify(what)}`);
  const result = { ...target };
  const retained = patch[retainKeys];
  if (Array.isArray(retained)) for (const key of Object.keys(result)) if (!retained.includes(key)) delete result[key];
  for (const [key, value] of Object.entries(patch)) {
    if (key === directive || key === retainKeys || key.startsWith(order)) continue;
    if (key.startsWith(deleteFrom)) {
      const name = key.slice(deleteFrom.length);
      if (Array.isArray(result[name]) && Array.isArray(value)) result[name] = result[name].filter((v: unknown) => !value.includes(v));
      continue;
    }
    if (value === null) {
      delete result[key];
      continue;
    }
    const field = definition?.fields.get(key);
    const shape = field?.shape ?? values;
    const current = Object.hasOwn(result, key) ? result[key] : undefined;
    if (isObject(value)) {
      const inner = shape?.kind === 'object' ? shape.definition : undefined;
      const innerValues = shape?.kind === 'map' ? shape.items : undefined;
      if (isObject(current)) set(result, key, mergeObject(current, value, inner, innerValues));
      else if (value[directive] !== 'delete') set(result, key, mergeObject({}, value, inner, innerValues));
    } else if (Array.isArray(value)) set(result, key, mergeList(Array.isArray(current) ? current : [], value, field, patch[`${order}${key}`]));
    else set(result, key, value);
  }
  // An order may be given for a list that the patch does not otherwise touch.
  for (const [key, wanted] of Object.entries(patch)) {
    if (!key.startsWith(order) || !Array.isArray(wanted)) continue;
    const name = key.slice(order.length);
    if (Array.isArray(result[name]) && !Array.isArray(patch[name])) result[name] = reorder(result[name], [], wanted, definition?.fields.get(name));
  }
  return result;
}

function mergeList(current: any[], patch: any[], field: Field | undefined, wantedOrder: unknown): any[] {
  if (!field?.patchStrategy.includes('merge'))
    return clean(patch.filter((p) => !isObject(p) || p[directive] === undefined || Object.keys(p).length > 1));
  if (patch.some((p) => isObject(p) && p[directive] === 'replace')) return clean(patch.filter((p) => !(isObject(p) && p[directive] === 'replace')));
  const mergeKey = field.patchMergeKey;
  if (!mergeKey) {
    const result = [...current];
    for (const value of patch) if (!result.includes(value)) result.push(value);
    return Array.isArray(wantedOrder) ? reorder(result, patch, wantedOrder, field) : result;
  }
  let result = [...current];
  const definition = field.shape.items?.definition;
  for (const item of patch) {
    if (!isObject(item)) throw badRequest(`list of ${field.name} takes objects`);
    const id = item[mergeKey];
    if (id === undefined) throw badRequest(`map: ${JSON.stringify(item)} does not contain declared merge key: ${mergeKey}`);
    if (item[directive] === 'delete') {
      result = result.filter((r) => r?.[mergeKey] !== id);
      continue;
    }
    const at = result.findIndex((r) => r?.[mergeKey] === id);
    if (at >= 0) result[at] = mergeObject(result[at], item, definition);
    else result.push(mergeObject({}, item, definition));
  }
  return Array.isArray(wantedOrder) ? reorder(result, patch, wantedOrder, field) : result;
}

/** Items named in the order come in that order; the server's own others keep their places relative to their neighbours. */
function reorder(items: any[], _patch: any[], wanted: any[], field: Field | undefined): any[] {
  const mergeKey = field?.patchMergeKey;
  const idOf = (item: any) => (mergeKey ? item?.[mergeKey] : item);
  const wantedIds = wanted.map(idOf);
  const named = wantedIds.map((id) => items.find((i) => idOf(i) === id)).filter((i) => i !== undefined);
  const others = items.filter((i) => !wantedIds.includes(idOf(i)));
  const result = [...named];
  for (const other of others) {
    const before = items.slice(0, items.indexOf(other)).reverse();
    const neighbour = before.find((b) => result.includes(b));
    result.splice(neighbour === undefined ? 0 : result.indexOf(neighbour) + 1, 0, other);
  }
  return result;
}

/** A patch's value as a document: without directives and nulls. */
function clean(value: any): any {
  if (Array.isArray(value)) return value.map(clean);
  if (!isObject(value)) return value;
  const result: Record<string, any> = {};
  for (const [key, inner] of Object.entries(value)) {
    if (inner === null || key === directive || key === retainKeys || key.startsWith(order) || key.startsWith(deleteFrom)) continue;
    set(result, key, clean(inner));
  }
  return result;
}
