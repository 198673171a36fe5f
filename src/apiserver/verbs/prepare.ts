import { checkTypes, strictDecodingError, unknownFields } from '../../api/decode.ts';
import { applyDefaults } from '../../api/defaults.ts';
import { badRequest, StatusError } from '../../api/errors.ts';
import { apiVersionOf, type KubeObject, type ObjectMeta } from '../../api/object.ts';
import { type RequestContext, scheme, type ServedResource } from '../../api/scheme.ts';
import { type Api, type Call, timestamp } from '../api.ts';

/** A body as parsed: any JSON value, and the paths of members that stood there twice. */
export interface ParsedBody {
  object: unknown;
  duplicates: string[];
}

/** Checks a body against the type it must have; unknown fields are removed and reported as fieldValidation asks. Mutates. */
export function checkBody<T>(call: Call, body: ParsedBody, type: { group: string; version: string; kind: string; definition: string }): T {
  const { object } = body;
  if (typeof object !== 'object' || object === null || Array.isArray(object)) {
    throw badRequest(
      `couldn't get version/kind; json parse error: json: cannot unmarshal ${jsonType(object)} into Go value of type struct { APIVersion string "json:\\"apiVersion,omitempty\\""; Kind string "json:\\"kind,omitempty\\"" }`,
    );
  }
  const typed = object as { apiVersion?: unknown; kind?: unknown };
  const expected = apiVersionOf(type);
  const told = { apiVersion: String(typed.apiVersion || expected), kind: String(typed.kind || type.kind) };
  if (told.apiVersion !== expected || told.kind !== type.kind) {
    const version = told.apiVersion.slice(told.apiVersion.indexOf('/') + 1);
    const group = told.apiVersion.includes('/') ? told.apiVersion.slice(0, told.apiVersion.indexOf('/')) : '';
    if (!scheme.findKind(group, version, told.kind) && !call.target.served.custom)
      throw badRequest(
        `${told.kind} in version "${version}" cannot be handled as a ${type.kind}: no kind "${told.kind}" is registered for version "${told.apiVersion}" in scheme "pkg/runtime/scheme.go:111"`,
      );
  }
  if (typed.apiVersion !== undefined && typed.apiVersion !== '' && typed.apiVersion !== expected) {
    throw badRequest(`the API version in the data (${typed.apiVersion}) does not match the expected API version (${expected})`);
  }
  if (typed.kind !== undefined && typed.kind !== '' && typed.kind !== type.kind) {
    throw badRequest(
      `${typed.kind} in version "${type.version}" cannot be handled as a ${type.kind}: no kind "${typed.kind}" is registered for the expected type`,
    );
  }
  typed.apiVersion = expected;
  typed.kind = type.kind;
  checkTypes(type.definition, object, type);
  const unknown = unknownFields(type.definition, object);
  if (call.fieldValidation !== 'Ignore' && (unknown.length > 0 || body.duplicates.length > 0)) {
    if (call.fieldValidation === 'Strict') throw strictDecodingError(type, unknown, body.duplicates);
    for (const path of unknown) call.warnings.push(`unknown field "${path}"`);
    for (const path of body.duplicates) call.warnings.push(`duplicate field "${path}"`);
  }
  return object as T;
}

/** A body as an object of the resource itself: checked, with defaults. */
export function decodeObject(call: Call, body: ParsedBody): KubeObject {
  const { served } = call.target;
  const object = checkBody<KubeObject>(call, body, served);
  (object as { metadata?: unknown }).metadata ??= {};
  if (object.metadata === null) (object as { metadata: unknown }).metadata = {};
  completeObject(served, object);
  return object;
}

/** Canonical form and defaults. A list of managed fields that is empty gives them all up, and must not be lost. */
export function completeObject(served: ServedResource, object: KubeObject, done?: ReadonlySet<string>): void {
  const reset = (object.metadata as { managedFields?: unknown[] } | undefined)?.managedFields?.length === 0;
  applyDefaults(served, object, done);
  if (reset) (object.metadata as { managedFields?: unknown[] }).managedFields = [{}];
}

const jsonType = (value: unknown): string => (Array.isArray(value) ? 'array' : value === null ? 'null' : typeof value);

export function requestContext(api: Api, call: Call, verb: 'create' | 'update' | 'patch'): RequestContext {
  return {
    verb,
    user: call.user.name,
    now: timestamp(api),
    ...(call.subresource ? { subresource: call.subresource } : {}),
    ...(call.name ? { name: call.name } : {}),
    ...(call.namespace ? { namespace: call.namespace } : {}),
  };
}

/** The object's namespace must be the path's; an empty one is filled in. */
export function matchNamespace(call: Call, object: KubeObject): void {
  const metadata: Partial<ObjectMeta> = object.metadata;
  if (!call.target.served.namespaced) {
    delete metadata.namespace;
    return;
  }
  metadata.namespace ||= call.namespace;
  if (metadata.namespace !== call.namespace) {
    throw badRequest(`the namespace of the provided object does not match the namespace sent on the request`);
  }
}

export function internal(message: string): StatusError {
  return new StatusError(500, 'InternalError', message);
}
