import { checkTypes, strictDecodingError, unknownFields } from '../../api/decode.ts';
import { applyDefaults } from '../../api/defaults.ts';
import { badRequest, invalid, methodNotSupported, unsupportedMediaType } from '../../api/errors.ts';
import { apiVersionOf, type KubeObject } from '../../api/object.ts';
import { applyJsonPatch, applyMergePatch, applyStrategicMergePatch } from '../../api/patch.ts';
import type { PatchType } from '../../client/client.ts';
import type { Api, Call } from '../api.ts';
import { clone } from '../storage/json.ts';
import type { Written } from '../storage/transactions.ts';
import { updateWith } from './update.ts';

const patchTypes: Record<string, PatchType> = {
  'application/json-patch+json': 'json',
  'application/merge-patch+json': 'merge',
  'application/strategic-merge-patch+json': 'strategic',
  'application/apply-patch+yaml': 'apply',
  'application/apply-patch+cbor': 'apply',
};

export function patchTypeOf(contentType: string): PatchType {
  const type = patchTypes[contentType.split(';')[0]!.trim().toLowerCase()];
  if (!type) {
    throw unsupportedMediaType(
      `the body of the request was in an unknown format - accepted media types include: ${['application/json-patch+json', 'application/merge-patch+json', 'application/strategic-merge-patch+json'].join(', ')}`,
    );
  }
  return type;
}

/** Applies a patch to any document of the given definition. */
export function applyPatch(type: PatchType, definition: string, document: unknown, patch: unknown): unknown {
  switch (type) {
    case 'json':
      if (!Array.isArray(patch)) throw badRequest('json: cannot unmarshal object into Go value of type jsonpatch.Patch');
      return applyJsonPatch(document, patch);
    case 'merge':
      return applyMergePatch(document, patch);
    case 'strategic':
      return applyStrategicMergePatch(definition, document, patch);
    default:
      throw unsupportedMediaType(
        'this server does not support server-side apply (application/apply-patch+yaml); use client-side apply or another patch type',
      );
  }
}

/** PATCH of an object or of a subresource of the same kind. */
export async function patch(api: Api, call: Call, type: PatchType, body: unknown, duplicates: string[] = []): Promise<Written> {
  const { served, storage, subject } = call.target;
  if (!storage || !served.verbs.includes('patch')) throw methodNotSupported(subject, 'patch');
  return updateWith(api, call, 'patch', (current) => {
    const patched = applyPatch(type, served.definition, clone(current), clone(body)) as KubeObject;
    if (typeof patched !== 'object' || patched === null || Array.isArray(patched)) throw badRequest('a patch must leave an object');
    if (patched.apiVersion !== apiVersionOf(served) || patched.kind !== served.kind) {
      throw badRequest(`the patch would change the object's type to ${patched.apiVersion}, Kind=${patched.kind}`);
    }
    checkTypes(served.definition, patched, served);
    const unknown = unknownFields(served.definition, patched);
    if (unknown.length > 0 || duplicates.length > 0) {
      if (call.fieldValidation === 'Strict') throw strictDecodingError(served, unknown, duplicates);
      if (call.fieldValidation === 'Warn') {
        for (const path of unknown) call.warnings.push(`unknown field "${path}"`);
        for (const path of duplicates) call.warnings.push(`duplicate field "${path}"`);
      }
    }
    applyDefaults(served, patched);
    patched.metadata ??= {} as KubeObject['metadata'];
    if (patched.metadata.name !== call.name) {
      throw invalid(served, call.name, [
        { type: 'FieldValueInvalid', field: 'metadata.name', value: patched.metadata.name, detail: 'field is immutable' },
      ]);
    }
    if (served.namespaced && patched.metadata.namespace !== call.namespace) {
      throw badRequest('the namespace of the provided object does not match the namespace sent on the request');
    }
    // The current version is the base of the patch: only a version that the patch itself names is a precondition.
    if (patched.metadata.resourceVersion === current?.metadata.resourceVersion)
      delete (patched.metadata as { resourceVersion?: string }).resourceVersion;
    return patched;
  });
}
