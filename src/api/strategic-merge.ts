import { badRequest } from './errors.ts';
import { type Definition, definitionOf, type Field, type Shape } from './schema.ts';

/**
 * Kubernetes' strategic merge patch with its directives: $patch (replace, delete), $deleteFromPrimitiveList, $setElementOrder,
 * $retainKeys. Lists merge by the definition's patch merge key.
 */

type Json = any;
const isObject = (v: unknown): v is Record<string, Json> => typeof v === 'object' && v !== null && !Array.isArray(v);
/** Assignment that makes an own property of any name. */
const set = (target: Record<string, Json>, key: string, value: unknown) => {
  if (key === '__proto__') Object.defineProperty(target, key, { value, enumerable: true, configurable: true, writable: true });
  else target[key] = value;
};

const directive = '$patch';
const retainKeys = '$retainKeys';
const deleteFrom = '$deleteFromPrimitiveList/';
const order = '$setElementOrder/';

/** A value in Go's %v form, as upstream's messages show patches. */
export function goText(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(goText).join(' ')}]`;
  if (isObject(value))
    return `map[${Object.keys(value)
      .sort()
      .map((key) => `${key}:${goText(value[key])}`)
      .join(' ')}]`;
  return value === null || value === undefined ? '<nil>' : String(value);
}

/** Applies a patch; returns a new document that shares what is not changed. StatusError 400 for what is no patch of this kind. */
export function applyStrategicMergePatch(definition: string, doc: Json, patch: unknown): Json {
  if (!isObject(patch)) {
    const found = Array.isArray(patch) ? 'array' : patch === null ? 'null' : typeof patch;
    throw badRequest(`json: cannot unmarshal ${found} into Go value of type map[string]interface {}`);
  }
  return mergeObject(doc ?? {}, patch, { definition: definitionOf(definition), values: undefined });
}

/** What is known of the members of an object. */
interface Members {
  definition: Definition | undefined;
  /** Of maps. */
  values: Shape | undefined;
}

const membersOf = (shape: Shape | undefined): Members => ({
  definition: shape?.kind === 'object' ? shape.definition : undefined,
  values: shape?.kind === 'map' ? shape.items : undefined,
});

function mergeObject(target: Record<string, Json>, patch: Record<string, Json>, members: Members): Record<string, Json> {
  const what = patch[directive];
  if (what === 'replace') {
    const { [directive]: _, ...rest } = patch;
    return clean(rest);
  }
  if (what === 'delete') return {};
  if (what !== undefined) throw badRequest(`unknown patch type: ${goText(what)} in map: ${goText(patch)}`);
  const result = retained(target, patch);
  const ordered = new Set<string>();
  for (const [key, wanted] of Object.entries(patch)) {
    if (!key.startsWith(order)) continue;
    if (!Array.isArray(wanted)) throw badRequest('invalid patch format of setElementOrder list');
    const name = key.slice(order.length);
    ordered.add(name);
    orderMember(result, name, patch, wanted, members.definition?.fields.get(name));
  }
  for (const [key, value] of Object.entries(patch)) {
    if (key === retainKeys || key.startsWith(order) || ordered.has(key)) continue;
    if (key.startsWith(deleteFrom)) {
      const name = key.slice(deleteFrom.length);
      // What is no list takes nothing away.
      if (Array.isArray(value) && Array.isArray(result[name])) result[name] = result[name].filter((v: unknown) => !value.includes(v));
      continue;
    }
    if (value === null) {
      delete result[key];
      continue;
    }
    const field = members.definition?.fields.get(key);
    const shape = field?.shape ?? members.values;
    const current = Object.hasOwn(result, key) ? result[key] : undefined;
    if (isObject(value)) {
      if (isObject(current)) set(result, key, mergeObject(current, value, membersOf(shape)));
      else if (value[directive] === 'delete') delete result[key];
      else set(result, key, mergeObject({}, value, membersOf(shape)));
    } else if (Array.isArray(value)) set(result, key, Array.isArray(current) ? mergeList(current, value, field) : withoutDirectives(value));
    else set(result, key, value);
  }
  return result;
}

/** A copy of the target with only the keys that $retainKeys lists, where it is given. */
function retained(target: Record<string, Json>, patch: Record<string, Json>): Record<string, Json> {
  const result = { ...target };
  if (!Object.hasOwn(patch, retainKeys)) return result;
  const keys = patch[retainKeys];
  const bad = () => badRequest('invalid patch format of retainKeys');
  if (!Array.isArray(keys)) throw bad();
  for (const [key, value] of Object.entries(patch)) {
    if (key === retainKeys || value === null || key.startsWith(deleteFrom) || key.startsWith(order)) continue;
    if (!keys.includes(key)) throw bad();
  }
  for (const key of Object.keys(result)) if (!keys.includes(key)) delete result[key];
  return result;
}

const identity = (field: Field | undefined) => {
  const mergeKey = field?.patchMergeKey;
  return (item: Json) => (mergeKey ? item?.[mergeKey] : item);
};

/** Merges a list's change, and puts what is named into the order that was given. */
function orderMember(result: Record<string, Json>, name: string, patch: Record<string, Json>, wanted: Json[], field: Field | undefined): void {
  const current = Array.isArray(result[name]) ? (result[name] as Json[]) : undefined;
  const change = Array.isArray(patch[name]) ? (patch[name] as Json[]) : undefined;
  if (!current && !change) return;
  const idOf = identity(field);
  if (change) checkOrder(change, wanted, idOf);
  const merged = current && change ? mergeList(current, change, field) : (current ?? withoutDirectives(change as Json[]));
  result[name] = arranged(merged, wanted.map(idOf), (current ?? []).map(idOf), idOf);
}

/** The order must name everything in the change, in the same order. */
function checkOrder(change: Json[], wanted: Json[], idOf: (item: Json) => unknown): void {
  const ids = wanted.map(idOf);
  let at = 0;
  for (const item of change) {
    if (isObject(item) && item[directive] !== undefined) continue;
    const found = ids.indexOf(idOf(item), at);
    if (found < 0) throw badRequest(`The order in patch list:\n${goText(change)}\n doesn't match $setElementOrder list:\n${goText(wanted)}\n`);
    at = found + 1;
  }
}

function mergeList(current: Json[], patch: Json[], field: Field | undefined): Json[] {
  if (!field?.patchStrategy.includes('merge')) return withoutDirectives(patch);
  if (current.length === 0 && patch.length === 0) return current;
  const { patchMergeKey: mergeKey } = field;
  const idOf = identity(field);
  const kinds = new Set([...current, ...patch].map((item) => (isObject(item) ? 'map' : Array.isArray(item) ? 'list' : typeof item)));
  if (kinds.size > 1) throw badRequest(`list element types are not identical: [${goText(current)} ${goText(patch)}]`);
  if (!kinds.has('map')) return arranged([...new Set([...current, ...patch])], patch, current, idOf);
  if (!mergeKey) throw badRequest(`cannot merge lists without merge key for ${field.name}`);
  let result = [...current];
  const changes: Record<string, Json>[] = [];
  let replace = false;
  for (const item of patch as Record<string, Json>[]) {
    const what = item[directive];
    if (what === undefined) changes.push(item);
    else if (what === 'replace') replace = true;
    else if (what === 'delete') {
      const id = keyOf(item, mergeKey);
      result = result.filter((r) => r?.[mergeKey] !== id);
    } else if (what === 'merge') throw badRequest('merging lists cannot yet be specified in the patch');
    else throw badRequest(`unknown patch type: ${goText(what)} in map: ${goText(item)}`);
  }
  if (replace) return withoutDirectives(changes);
  const members = membersOf(field.shape.items);
  const before = result.map(idOf);
  for (const item of changes) {
    const id = keyOf(item, mergeKey);
    const at = result.findIndex((r) => r?.[mergeKey] === id);
    if (at >= 0) result[at] = mergeObject(result[at], item, members);
    else result.push(mergeObject({}, item, members));
  }
  return arranged(result, changes.map(idOf), before, idOf);
}

function keyOf(item: Record<string, Json>, mergeKey: string): unknown {
  if (!Object.hasOwn(item, mergeKey)) throw badRequest(`map: ${goText(item)} does not contain declared merge key: ${mergeKey}`);
  return item[mergeKey];
}

/**
 * Items that the patch names in its order; the others in the live list's, each before the first named item that the live list has
 * behind it.
 */
function arranged(items: Json[], named: unknown[], live: unknown[], idOf: (item: Json) => unknown): Json[] {
  const rank = (ids: unknown[], item: Json) => ids.indexOf(idOf(item));
  const sorted = (some: Json[], ids: unknown[]) => [...some].sort((a, b) => rank(ids, a) - rank(ids, b));
  const patched = sorted(
    items.filter((item) => rank(named, item) >= 0),
    named,
  );
  const others = sorted(
    items.filter((item) => rank(named, item) < 0),
    live,
  );
  const result: Json[] = [];
  let o = 0;
  for (const item of patched) {
    const place = rank(live, item);
    while (o < others.length && place >= 0 && rank(live, others[o]) >= 0 && rank(live, others[o]) < place) result.push(others[o++]);
    result.push(item);
  }
  return [...result, ...others.slice(o)];
}

/** A list that takes another's place. */
const withoutDirectives = (list: Json[]): Json[] => clean(list.filter((item) => !isObject(item) || item[directive] === undefined));

/** A patch's value as a document: without directives and nulls. */
function clean(value: Json): Json {
  if (Array.isArray(value)) return value.map(clean);
  if (!isObject(value)) return value;
  const result: Record<string, Json> = {};
  for (const [key, inner] of Object.entries(value)) {
    if (inner === null || key === directive || key === retainKeys || key.startsWith(order) || key.startsWith(deleteFrom)) continue;
    set(result, key, clean(inner));
  }
  return result;
}
