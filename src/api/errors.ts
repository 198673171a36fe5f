import type { Status } from './generated/types.ts';

/**
 * An error in the form of the Kubernetes API: carries the Status that clients see.
 * Reasons, codes and messages follow apimachinery's api/errors.
 */
export class StatusError extends Error {
  readonly status: Status & { code: number; reason: string };
  /** Extra response headers, such as Retry-After. */
  readonly headers: Record<string, string>;

  constructor(code: number, reason: string, message: string, details?: Status['details'], headers: Record<string, string> = {}) {
    super(message);
    this.name = 'StatusError';
    this.headers = headers;
    this.status = { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Failure', message, reason, ...(details ? { details } : {}), code };
  }
  get code(): number {
    return this.status.code;
  }
  get reason(): string {
    return this.status.reason;
  }
  static fromStatus(status: Status): StatusError {
    return new StatusError(status.code ?? 500, status.reason ?? '', status.message ?? 'unknown error', status.details);
  }
}

/** What an error is about, as `pods` or `deployments.apps`. */
export interface Subject {
  group: string;
  resource: string;
}

const qualified = (s: Subject) => (s.group ? `${s.resource}.${s.group}` : s.resource);
const detailsOf = (s: Subject, name?: string): Status['details'] => ({
  ...(name ? { name } : {}),
  ...(s.group ? { group: s.group } : {}),
  kind: s.resource,
});

export const notFound = (s: Subject, name: string) => new StatusError(404, 'NotFound', `${qualified(s)} "${name}" not found`, detailsOf(s, name));
export const alreadyExists = (s: Subject, name: string) =>
  new StatusError(409, 'AlreadyExists', `${qualified(s)} "${name}" already exists`, detailsOf(s, name));
export const conflict = (s: Subject, name: string, why: string) =>
  new StatusError(409, 'Conflict', `Operation cannot be fulfilled on ${qualified(s)} "${name}": ${why}`, detailsOf(s, name));
export const modified = (s: Subject, name: string) =>
  conflict(s, name, 'the object has been modified; please apply your changes to the latest version and try again');
export const badRequest = (message: string) => new StatusError(400, 'BadRequest', message);
export const unauthorized = (message = 'Unauthorized') => new StatusError(401, 'Unauthorized', message);
export const forbidden = (s: Subject, name: string, why: string) =>
  new StatusError(403, 'Forbidden', `${qualified(s)}${name ? ` "${name}"` : ''} is forbidden: ${why}`, detailsOf(s, name));
export const methodNotSupported = (s: Subject, verb: string) =>
  new StatusError(405, 'MethodNotAllowed', `${verb} is not supported on resources of kind "${qualified(s)}"`, detailsOf(s));
export const gone = (message: string) => new StatusError(410, 'Expired', message);
export const tooLarge = (message: string) => new StatusError(413, 'RequestEntityTooLarge', message);
export const unsupportedMediaType = (message: string) => new StatusError(415, 'UnsupportedMediaType', message);
export const notAcceptable = (message: string) => new StatusError(406, 'NotAcceptable', message);
export const tooManyRequests = (message: string, retryAfterSeconds = 1) =>
  new StatusError(429, 'TooManyRequests', message, { retryAfterSeconds }, { 'retry-after': String(retryAfterSeconds) });
export const internalError = (message: string) =>
  new StatusError(500, 'InternalError', `Internal error occurred: ${message}`, { causes: [{ message }] });
export const serviceUnavailable = (message: string) => new StatusError(503, 'ServiceUnavailable', message);
export const timeout = (message: string) => new StatusError(504, 'Timeout', message);

/** One finding of validation, as apimachinery's field.Error. */
export interface FieldError {
  type:
    | 'FieldValueNotFound'
    | 'FieldValueRequired'
    | 'FieldValueDuplicate'
    | 'FieldValueInvalid'
    | 'FieldValueNotSupported'
    | 'FieldValueForbidden'
    | 'FieldValueTooLong'
    | 'FieldValueTooMany'
    | 'InternalError'
    | 'FieldValueTypeInvalid';
  field: string;
  /** The bad value, shown in the message where the type does so. */
  value?: unknown;
  detail: string;
}

/** A bad value whose text in messages is given, not made of JSON; null leaves the value out. */
export class ShownValue {
  readonly text: string | null;
  constructor(text: string | null) {
    this.text = text;
  }
}

const shown = (v: unknown): string =>
  v instanceof ShownValue ? goJson(v.text ?? '') : v === undefined ? 'null' : typeof v === 'string' ? JSON.stringify(v) : typeof v === 'object' ? goJson(JSON.stringify(v, mapsSorted)) : String(v);
/** Go writes maps in the order of their keys, and structs in that of their fields; those within objects that messages show are labels and selectors. */
const mapsSorted = (key: string, value: unknown): unknown =>
  ['matchLabels', 'labels', 'annotations'].includes(key) && typeof value === 'object' && value !== null
    ? Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)))
    : key === 'matchExpressions' && Array.isArray(value)
      ? value.map((e) => ({ key: e?.key, operator: e?.operator, values: e?.values, ...e }))
      : value;
/** JSON as Go writes it: harmless within HTML. */
const goJson = (json: string): string => json.replace(/[<>&]/g, (c) => ({ '<': '\\u003c', '>': '\\u003e' })[c] ?? '\\u0026');

/** The text after the field's path, in the wording of field.Error.ErrorBody. */
export function fieldErrorBody(e: FieldError): string {
  const detail = e.detail ? `: ${e.detail}` : '';
  switch (e.type) {
    case 'FieldValueRequired':
      return `Required value${detail}`;
    case 'FieldValueForbidden':
      return `Forbidden${detail}`;
    case 'FieldValueTooLong':
      return `Too long${detail}`;
    case 'FieldValueTooMany':
      return `Too many${e.value === undefined ? '' : `: ${shown(e.value)}`}${detail}`;
    case 'InternalError':
      return `Internal error${detail}`;
    case 'FieldValueNotSupported':
      return `Unsupported value: ${shown(e.value)}${detail}`;
    case 'FieldValueDuplicate':
      return `Duplicate value: ${shown(e.value)}${detail}`;
    case 'FieldValueNotFound':
      return `Not found: ${shown(e.value)}${detail}`;
    default:
      if (e.value instanceof ShownValue && e.value.text === null) return `Invalid value${detail}`;
      return `Invalid value: ${shown(e.value)}${detail}`;
  }
}

/** 422 Invalid: `Deployment.apps "x" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0`. */
export function invalid(kind: { group: string; kind: string }, name: string, errors: FieldError[]): StatusError {
  // The message says each thing once; causes are all there.
  const texts = [...new Set(errors.map((e) => `${e.field}: ${fieldErrorBody(e)}`))];
  const list = texts.length === 1 ? texts[0] : `[${texts.join(', ')}]`;
  const causes = errors.map((e) => ({ reason: e.type, message: fieldErrorBody(e), field: e.field }));
  return new StatusError(422, 'Invalid', `${kind.group ? `${kind.kind}.${kind.group}` : kind.kind} "${name}" is invalid: ${list}`, {
    ...(name ? { name } : {}),
    ...(kind.group ? { group: kind.group } : {}),
    kind: kind.kind,
    causes,
  });
}

const hasReason =
  (reason: string) =>
  (e: unknown): e is StatusError =>
    e instanceof StatusError && e.reason === reason;
export const isNotFound = hasReason('NotFound');
export const isAlreadyExists = hasReason('AlreadyExists');
export const isConflict = hasReason('Conflict');
export const isInvalid = hasReason('Invalid');
export const isForbidden = hasReason('Forbidden');
export const isGone = (e: unknown): e is StatusError => e instanceof StatusError && e.code === 410;
export const isTooManyRequests = hasReason('TooManyRequests');
