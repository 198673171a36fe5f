import fastJsonPatch from 'fast-json-patch';
import { badRequest } from '../api/errors.ts';
import { type BuiltinResource, groupVersionOf, type KubeObject, type ResourceType } from '../api/object.ts';
import { builtinResources } from '../api/generated/resources.ts';
import type { PatchType } from './client.ts';

/** An object as the fake handles it inside: anything may be there. */
export type AnyObject = KubeObject & { spec?: any; status?: any; [field: string]: any };

const table = new Map(builtinResources.map((r) => [`${r.group}/${r.resource}`, r]));
const byKind = new Map(builtinResources.map((r) => [`${r.group}/${r.kind}`, r]));

export const builtin = (type: { group: string; resource: string }): BuiltinResource | undefined => table.get(`${type.group}/${type.resource}`);

/** The resource of an object that says only apiVersion and kind; kinds that are not built in get the regular plural. */
export function resourceOf(object: { apiVersion?: string; kind?: string; metadata: { namespace?: string } }): ResourceType {
  const { group, version } = groupVersionOf(object.apiVersion ?? '');
  const kind = object.kind ?? '';
  if (!version || !kind) throw new Error('initial objects need apiVersion and kind');
  const known = byKind.get(`${group}/${kind}`);
  if (known) return { ...known, version };
  return { group, version, kind, resource: `${kind.toLowerCase()}s`, namespaced: Boolean(object.metadata.namespace) };
}

export const hasStatus = (type: { group: string; resource: string }): boolean => builtin(type)?.subresources.some((s) => s.name === 'status') ?? true;

/** What the API server's strategies do to the kinds that the controllers depend on. */
export function prepareForCreate(type: ResourceType<any>, object: AnyObject): void {
  const kind = builtin(type)?.kind;
  // Nodes bring their status along when they register.
  if (hasStatus(type) && kind !== 'Node') delete object.status;
  if (kind === 'Pod') object.status = { phase: 'Pending', qosClass: 'BestEffort' };
  if (kind === 'Namespace') {
    object.spec = { ...object.spec, finalizers: [...new Set([...(object.spec?.finalizers ?? []), 'kubernetes'])] };
    object.status = { phase: 'Active' };
  }
}

/** The field selectors of every kind, and those of the kinds that have more. */
export function selectableField(object: AnyObject, field: string): string {
  let value: unknown = object;
  for (const part of field.split('.')) value = (value as Record<string, unknown> | undefined)?.[part];
  return value === undefined || value === null ? '' : String(value);
}

export function applyPatch(type: ResourceType<any>, object: AnyObject, patchType: PatchType, patch: unknown): AnyObject {
  const copy = structuredClone(object);
  switch (patchType) {
    case 'json':
      try {
        return fastJsonPatch.applyPatch(copy, structuredClone(patch) as fastJsonPatch.Operation[], true).newDocument;
      } catch (error) {
        throw badRequest(`the server rejected our request due to an error in our request: ${(error as Error).message}`);
      }
    case 'merge':
      return mergePatch(copy, patch) as AnyObject;
    case 'strategic':
      return strategicMerge(copy, patch) as AnyObject;
    case 'apply':
      return applyDeclared(copy, { ...(patch as object), kind: type.kind }) as AnyObject;
  }
}

type Fields = Record<string, unknown>;
const isFields = (value: unknown): value is Fields => typeof value === 'object' && value !== null && !Array.isArray(value);

/** RFC 7386. */
export function mergePatch(target: unknown, patch: unknown): unknown {
  if (!isFields(patch)) return structuredClone(patch);
  const result: Fields = isFields(target) ? target : {};
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete result[key];
    else result[key] = mergePatch(result[key], value);
  }
  return result;
}

/** Keys by which lists of the built-in kinds are merged, the first that all items have. */
const mergeKeys = ['name', 'type', 'uid', 'containerPort', 'port', 'mountPath', 'devicePath', 'ip', 'key', 'topologyKey'];

function mergeKeyOf(lists: unknown[][]): string | undefined {
  const items = lists.flat();
  if (!items.every(isFields)) return undefined;
  return mergeKeys.find((key) => items.every((item) => key in item || '$patch' in item));
}

function strategicMerge(target: unknown, patch: unknown): unknown {
  if (Array.isArray(patch)) {
    const current = Array.isArray(target) ? target : [];
    const key = mergeKeyOf([current, patch]);
    if (!key) return structuredClone(patch);
    const result = [...current] as Fields[];
    for (const item of patch as Fields[]) {
      const i = result.findIndex((existing) => existing[key] === item[key]);
      if (item['$patch'] === 'delete') {
        if (i >= 0) result.splice(i, 1);
      } else if (i >= 0) result[i] = strategicMerge(result[i], item) as Fields;
      else result.push(structuredClone(item));
    }
    return result;
  }
  if (!isFields(patch)) return patch;
  if (patch['$patch'] === 'replace') {
    const { $patch: _, ...rest } = patch;
    return structuredClone(rest);
  }
  const result: Fields = isFields(target) ? target : {};
  for (const [key, value] of Object.entries(patch)) {
    if (key.startsWith('$setElementOrder/') || key === '$retainKeys') continue;
    if (key.startsWith('$deleteFromPrimitiveList/')) {
      const list = key.slice('$deleteFromPrimitiveList/'.length);
      const gone = new Set(value as unknown[]);
      if (Array.isArray(result[list])) result[list] = result[list].filter((item) => !gone.has(item));
    } else if (value === null) delete result[key];
    else if (isFields(value) && value['$patch'] === 'delete') delete result[key];
    else if (key === 'finalizers' && Array.isArray(value)) result[key] = [...new Set([...((result[key] as unknown[]) ?? []), ...value])];
    else result[key] = strategicMerge(result[key], value);
  }
  return result;
}

/** Server-side apply without ownership: what is declared is set, nothing is taken away. */
function applyDeclared(target: unknown, declared: unknown): unknown {
  return strategicMerge(target, declared);
}
