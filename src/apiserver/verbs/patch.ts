import { checkTypes, unknownFields } from '../../api/decode.ts';
import { badRequest, type FieldError, fieldErrorBody, methodNotSupported, StatusError } from '../../api/errors.ts';
import type { ManagedFieldsEntry } from '../../api/generated/types.ts';
import { apiVersionOf, type KubeObject } from '../../api/object.ts';
import { applyJsonPatch, applyMergePatch, applyStrategicMergePatch } from '../../api/patch.ts';
import { goText } from '../../api/strategic-merge.ts';
import type { PatchType } from '../../client/client.ts';
import type { Api, Call } from '../api.ts';
import { clone } from '../storage/json.ts';
import type { Written } from '../storage/transactions.ts';
import { applyTo } from './managed-fields.ts';
import { completeObject } from './prepare.ts';
import { updateWith } from './update.ts';

const patchTypes: Record<string, PatchType> = {
  'application/json-patch+json': 'json',
  'application/merge-patch+json': 'merge',
  'application/strategic-merge-patch+json': 'strategic',
  'application/apply-patch+yaml': 'apply',
};

export function patchTypeOf(contentType: string): PatchType {
  const type = patchTypes[contentType.split(';')[0]!.trim().toLowerCase()];
  // The words of the router in front of upstream's handlers.
  if (!type) throw new StatusError(415, 'UnsupportedMediaType', '415: Unsupported Media Type', {});
  return type;
}

/** What a patch asks for: its document, and for server-side apply whether others lose what they own. */
export interface PatchBody {
  object: unknown;
  duplicates?: string[];
  duplicateLines?: number[];
  force?: boolean;
}

/** Applies a patch to any document of the given definition, which is not changed. */
export function applyPatch(type: PatchType, definition: string, document: unknown, patch: unknown): unknown {
  switch (type) {
    case 'json':
      return applyJsonPatch(document, patch);
    case 'merge':
      return applyMergePatch(document, patch);
    case 'strategic':
      return applyStrategicMergePatch(definition, document, patch);
    default:
      throw new Error('an apply is no patch of a document');
  }
}

/** PATCH of an object or of a subresource of the same kind. */
export async function patch(api: Api, call: Call, type: PatchType, body: PatchBody): Promise<Written> {
  const { served, storage, subject } = call.target;
  if (!storage || !served.verbs.includes('patch')) throw methodNotSupported(subject, 'patch');
  if (type === 'apply') return apply(api, call, body);
  // Whoever does not speak of managedFields neither reads nor writes them.
  const aboutFields = JSON.stringify(body.object ?? null).includes('managedFields');
  return updateWith(api, call, 'patch', (current) => {
    const base = aboutFields ? current : withoutManagedFields(current!);
    const result = applyPatch(type, served.definition, base, body.object);
    const untouched = sharedMembers(result, base);
    const patched = clone(result) as KubeObject;
    const shown = () => (type === 'strategic' ? goText(body.object) : shownDocument(applyPatch(type, served.definition, base, body.object)));
    decodePatched(call, patched, untouched, problemsOf(type, body), shown, type === 'strategic' ? restored : (text) => text);
    checkNames(call, patched);
    // The current version is the base of the patch: only a version that the patch itself names is a precondition.
    if (patched.metadata.resourceVersion === current?.metadata.resourceVersion)
      delete (patched.metadata as { resourceVersion?: string }).resourceVersion;
    return patched;
  });
}

/** Members that a patch left as they are stored: checked, and complete. */
function sharedMembers(result: unknown, base: unknown): ReadonlySet<string> {
  const shared = new Set<string>();
  if (typeof result !== 'object' || result === null) return shared;
  for (const [name, value] of Object.entries(result))
    if (name !== 'metadata' && typeof value === 'object' && value !== null && value === (base as Record<string, unknown>)[name]) shared.add(name);
  return shared;
}

/** Server-side apply: creates what is not there. */
async function apply(api: Api, call: Call, body: PatchBody): Promise<Written> {
  const { served } = call.target;
  const config = body.object as KubeObject;
  checkConfigurationType(call, config);
  return updateWith(
    api,
    call,
    'patch',
    (current) => {
      const merged = applyTo(api, call, current, config, body.force === true);
      return merged instanceof Promise ? merged.then(complete) : complete(merged);
    },
    { apply: true },
  );
  function complete(merged: KubeObject): KubeObject {
    reportDuplicates(call, body);
    const { managedFields } = merged.metadata;
    // Below this, managedFields are what was just made, and shared with the cache where nothing changed.
    const object = clone(withoutManagedFields(merged));
    checkTypes(served.definition, object, served);
    unknownFields(served.definition, object);
    completeObject(served, object);
    object.metadata ??= {} as KubeObject['metadata'];
    if (!(config.metadata as { resourceVersion?: string } | undefined)?.resourceVersion)
      delete (object.metadata as { resourceVersion?: string }).resourceVersion;
    if (served.namespaced) (object.metadata as { namespace: string }).namespace ||= call.namespace;
    checkNames(call, object);
    if (managedFields) (object.metadata as { managedFields?: ManagedFieldsEntry[] }).managedFields = managedFields;
    return object;
  }
}

function withoutManagedFields(object: KubeObject): KubeObject {
  if (!object.metadata?.managedFields) return object;
  const { managedFields: _, ...metadata } = object.metadata;
  return { ...object, metadata: metadata as KubeObject['metadata'] };
}

function checkConfigurationType(call: Call, config: KubeObject): void {
  const { served } = call.target;
  if (typeof config !== 'object' || config === null || Array.isArray(config)) {
    const found = Array.isArray(config) ? 'array' : config === null ? 'null' : typeof config;
    throw badRequest(
      `error decoding patch: error unmarshaling JSON: while decoding JSON: json: cannot unmarshal ${found} into Go value of type map[string]interface {}`,
    );
  }
  const { apiVersion = '', kind = '' } = config;
  if (typeof apiVersion === 'string' && apiVersion !== '' && typeof kind === 'string' && kind !== '') {
    if (apiVersion === apiVersionOf(served) && kind === served.kind) return;
  }
  throw badRequest(`invalid object type: ${String(apiVersion).includes('/') ? apiVersion : `/${apiVersion}`}, Kind=${kind}`);
}

/** Keys given twice fail or warn as fieldValidation asks. */
function reportDuplicates(call: Call, { duplicates = [], duplicateLines = [] }: PatchBody): void {
  if (duplicates.length === 0 || call.fieldValidation === 'Ignore') return;
  const at = (i: number) => (duplicateLines[i] ? `line ${duplicateLines[i]}: ` : '');
  const lines = duplicates.map((path, i) => `${at(i)}key ${JSON.stringify(path.slice(path.lastIndexOf('.') + 1))} already set in map`);
  const problem = `error converting YAML to JSON: yaml: unmarshal errors:\n  ${lines.join('\n  ')}`;
  if (call.fieldValidation === 'Strict') throw badRequest(`error strict decoding patch: ${problem}`);
  call.warnings.push(problem);
}

/** What the converter of strategic patches says where the decoder has its own words. */
function restored(message: string): string {
  const [, from, to = ''] = /cannot unmarshal (\S+).* of type (\S+)$/.exec(message) ?? [];
  if (!from) return message;
  const given = { array: 'slice', number: 'int64', object: 'map' }[from] ?? from;
  if (to.startsWith('map[')) return `cannot restore map from ${given}`;
  if (to.startsWith('[]')) return `cannot restore slice from ${given}`;
  return /^[a-z]+\d*$/.test(to) ? `cannot convert ${given} to ${to}` : `cannot restore struct from: ${given}`;
}

/** What strict decoding finds in the patch itself. */
function problemsOf(type: PatchType, { object, duplicates = [] }: PatchBody): string[] {
  const prefix = type === 'json' ? 'json patch ' : '';
  const problems = duplicates.map((path) => `${prefix}duplicate field "${path}"`);
  if (type !== 'json' || !Array.isArray(object)) return problems;
  const known = ['op', 'path', 'from', 'value'];
  for (const [i, operation] of object.entries())
    for (const key of Object.keys(operation)) if (!known.includes(key)) problems.push(`json patch unknown field "[${i}].${key}"`);
  return problems;
}

/** A document with its members in the order in which upstream's library keeps them. */
function shownDocument(document: unknown): string {
  if (typeof document !== 'object' || document === null || Array.isArray(document)) return JSON.stringify(document);
  const members = Object.entries(document).sort(([a], [b]) => (a < b ? -1 : 1));
  return JSON.stringify(Object.fromEntries(members));
}

/** What a patch made is no object of the type: the fault is the patch's, which `shown` shows. */
const invalidPatch = (shown: () => string, detail: string): StatusError => {
  const error: FieldError = { type: 'FieldValueInvalid', field: 'patch', value: shown(), detail };
  const message = fieldErrorBody(error);
  return new StatusError(422, 'Invalid', ` "" is invalid: patch: ${message}`, { causes: [{ reason: error.type, message, field: 'patch' }] });
};

/** Type, unknown fields and defaults of what a patch made. */
function decodePatched(call: Call, patched: KubeObject, untouched: ReadonlySet<string>, ownProblems: string[], shown: () => string, worded: (text: string) => string): void {
  const { served } = call.target;
  if (typeof patched !== 'object' || patched === null || Array.isArray(patched)) throw invalidPatch(shown, 'a patch must leave an object');
  const { apiVersion, kind } = patched;
  if ((apiVersion ?? apiVersionOf(served)) !== apiVersionOf(served) || (kind ?? served.kind) !== served.kind)
    throw invalidPatch(
      shown,
      `no kind ${JSON.stringify(kind)} is registered for version ${JSON.stringify(apiVersion)} in scheme "pkg/runtime/scheme.go:111"`,
    );
  Object.assign(patched, { apiVersion: apiVersionOf(served), kind: served.kind });
  try {
    checkTypes(served.definition, patched, served, untouched);
  } catch (error) {
    if (!(error instanceof StatusError)) throw error;
    const detail = error.message.replace(`${served.kind} in version "${served.version}" cannot be handled as a ${served.kind}: `, '');
    throw invalidPatch(shown, worded(detail));
  }
  const unknown = unknownFields(served.definition, patched, untouched);
  const problems = [...ownProblems, ...unknown.map((path) => `unknown field "${path}"`)];
  if (problems.length > 0) {
    if (call.fieldValidation === 'Strict') throw invalidPatch(shown, `strict decoding error: ${problems.join(', ')}`);
    if (call.fieldValidation === 'Warn') call.warnings.push(...problems);
  }
  completeObject(served, patched, untouched);
  patched.metadata ??= {} as KubeObject['metadata'];
}

function checkNames(call: Call, object: KubeObject): void {
  const { served } = call.target;
  if (!object.metadata.name) throw badRequest(`the name of the object (${call.name} based on URL) was undeterminable: name must be provided`);
  if (object.metadata.name !== call.name) {
    throw badRequest(`the name of the object (${object.metadata.name}) does not match the name on the URL (${call.name})`);
  }
  if (served.namespaced && object.metadata.namespace !== call.namespace) {
    throw badRequest('the namespace of the provided object does not match the namespace sent on the request');
  }
}
