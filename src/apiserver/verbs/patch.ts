import { checkTypes, strictDecodingError, unknownFields } from '../../api/decode.ts';
import { badRequest, invalid, methodNotSupported, StatusError } from '../../api/errors.ts';
import type { ManagedFieldsEntry } from '../../api/generated/types.ts';
import { apiVersionOf, type KubeObject } from '../../api/object.ts';
import { applyJsonPatch, applyMergePatch, applyStrategicMergePatch } from '../../api/patch.ts';
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
  if (!type) {
    throw new StatusError(415, 'UnsupportedMediaType', '415: Unsupported Media Type', {});
  }
  return type;
}

/** What a patch asks for: its document, and for server-side apply whether others lose what they own. */
export interface PatchBody {
  object: unknown;
  duplicates?: string[];
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

/** 422 of a patch whose result is no object of the kind. */
function badPatch(value: string, detail: string): StatusError {
  const { status } = invalid({ group: '', kind: '' }, '', [{ type: 'FieldValueInvalid', field: 'patch', value, detail }]);
  return new StatusError(422, 'Invalid', status.message ?? '', { causes: status.details?.causes ?? [] });
}

/** A JSON value as Go prints a map: strategic patches are shown so. */
function goText(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(goText).join(' ')}]`;
  if (value === null) return '<nil>';
  if (typeof value !== 'object') return String(value);
  const pairs = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return `map[${pairs.map(([k, v]) => `${k}:${goText(v)}`).join(' ')}]`;
}

/** What the converter of strategic patches says where the decoder has its own words. */
function restored(message: string): string {
  const [, from, to = ''] = /cannot unmarshal (\S+).* of type (\S+)$/.exec(message) ?? [];
  if (!from) return message.replace(/^.*? cannot be handled as a \w+: /, '');
  const given = { array: 'slice', number: 'int64', object: 'map' }[from] ?? from;
  if (to.startsWith('map[')) return `cannot restore map from ${given}`;
  if (to.startsWith('[]')) return `cannot restore slice from ${given}`;
  return /^[a-z]+\d*$/.test(to) ? `cannot convert ${given} to ${to}` : `cannot restore struct from: ${given}`;
}

/** PATCH of an object or of a subresource of the same kind. */
export async function patch(api: Api, call: Call, type: PatchType, body: PatchBody): Promise<Written> {
  const { served, storage, subject } = call.target;
  if (!storage || !served.verbs.includes('patch')) throw methodNotSupported(subject, 'patch');
  if (type === 'apply') return apply(api, call, body);
  // Whoever does not speak of managedFields neither reads nor writes them.
  const aboutFields = JSON.stringify(body.object ?? null).includes('managedFields');
  return updateWith(api, call, 'patch', (current) => {
    const patched = applyPatch(type, served.definition, aboutFields ? current : withoutManagedFields(current!), body.object) as KubeObject;
    checkPatched(call, patched);
    decodePatched(call, patched, body.duplicates ?? [], type === 'strategic' ? body.object : undefined);
    checkNames(call, patched);
    // The current version is the base of the patch: only a version that the patch itself names is a precondition.
    if (patched.metadata.resourceVersion === current?.metadata.resourceVersion)
      delete (patched.metadata as { resourceVersion?: string }).resourceVersion;
    return patched;
  });
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
      reportDuplicates(call, body.duplicates ?? []);
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
    },
    { apply: true },
  );
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
function reportDuplicates(call: Call, duplicates: string[]): void {
  if (duplicates.length === 0 || call.fieldValidation === 'Ignore') return;
  const lines = duplicates.map((path) => `key ${JSON.stringify(path.slice(path.lastIndexOf('.') + 1))} already set in map`);
  const problem = `error converting YAML to JSON: yaml: unmarshal errors:\n  ${lines.join('\n  ')}`;
  if (call.fieldValidation === 'Strict') throw badRequest(`error strict decoding patch: ${problem}`);
  call.warnings.push(problem);
}

function checkPatched(call: Call, patched: KubeObject): void {
  const { served } = call.target;
  if (typeof patched !== 'object' || patched === null || Array.isArray(patched)) throw badRequest('a patch must leave an object');
  if (patched.apiVersion !== apiVersionOf(served) || patched.kind !== served.kind) {
    throw badPatch(
      JSON.stringify(patched),
      `no kind "${patched.kind}" is registered for version "${patched.apiVersion}" in scheme "pkg/runtime/scheme.go:111"`,
    );
  }
}

/** Types, unknown fields and defaults of what a patch made; errors about strategic patches show the patch, not its result. */
function decodePatched(call: Call, patched: KubeObject, duplicates: string[], strategic: unknown): void {
  const { served } = call.target;
  const fail = (message: string) => {
    throw badPatch(strategic === undefined ? JSON.stringify(patched) : goText(strategic), message);
  };
  try {
    checkTypes(served.definition, patched, served);
  } catch (error) {
    const { message } = error as Error;
    fail(strategic === undefined ? message.replace(/^.*? cannot be handled as a \w+: /, '') : restored(message));
  }
  const unknown = unknownFields(served.definition, patched);
  if (unknown.length > 0 || duplicates.length > 0) {
    if (call.fieldValidation === 'Strict')
      fail(strictDecodingError(served, unknown, duplicates).message.replace(/^.*?(?=strict decoding error)/, ''));
    if (call.fieldValidation === 'Warn') {
      for (const path of unknown) call.warnings.push(`unknown field "${path}"`);
      for (const path of duplicates) call.warnings.push(`duplicate field "${path}"`);
    }
  }
  completeObject(served, patched);
  patched.metadata ??= {} as KubeObject['metadata'];
}

function checkNames(call: Call, object: KubeObject): void {
  const { served } = call.target;
  if (object.metadata.name !== call.name) {
    throw badRequest(`the name of the object (${object.metadata.name ?? ''}) does not match the name on the URL (${call.name})`);
  }
  if (served.namespaced && object.metadata.namespace !== call.namespace) {
    throw badRequest('the namespace of the provided object does not match the namespace sent on the request');
  }
}
