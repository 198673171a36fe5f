import { badRequest, type FieldError, invalid } from '../../api/errors.ts';
import type { PatchType } from '../../client/client.ts';
import type { Call } from '../api.ts';
import type { Permit } from '../authz/authorizer.ts';
import type { Registered } from '../registry.ts';
import type { RequestInfo } from '../request.ts';
import type { ListParameters } from '../verbs/list.ts';
import type { WatchParameters } from '../verbs/watch.ts';
import { type HttpRequest, header } from './exchange.ts';

const flag = (value: string | null): boolean => value !== null && value !== 'false' && value !== '0';

function number(query: URLSearchParams, name: string): number | undefined {
  const text = query.get(name);
  if (!text) return undefined;
  if (!/^-?\d+$/.test(text)) throw badRequest(`strconv.ParseInt: parsing ${JSON.stringify(text)}: invalid syntax`);
  return Number(text);
}

function selectors(query: URLSearchParams) {
  const labelSelector = query.get('labelSelector');
  const fieldSelector = query.get('fieldSelector');
  const resourceVersion = query.get('resourceVersion');
  const resourceVersionMatch = query.get('resourceVersionMatch');
  return {
    ...(labelSelector ? { labelSelector } : {}),
    ...(fieldSelector ? { fieldSelector } : {}),
    ...(resourceVersion ? { resourceVersion } : {}),
    ...(resourceVersionMatch ? { resourceVersionMatch } : {}),
  };
}

export function listParameters(query: URLSearchParams): ListParameters {
  const limit = number(query, 'limit');
  const next = query.get('continue');
  const initial = query.get('sendInitialEvents');
  return {
    ...selectors(query),
    ...(limit ? { limit } : {}),
    ...(next ? { continue: next } : {}),
    ...(initial === null ? {} : { sendInitialEvents: flag(initial) }),
  };
}

export function watchParameters(query: URLSearchParams): WatchParameters {
  const timeoutSeconds = number(query, 'timeoutSeconds');
  const initial = query.get('sendInitialEvents');
  return {
    ...selectors(query),
    allowWatchBookmarks: flag(query.get('allowWatchBookmarks')),
    ...(initial === null ? {} : { sendInitialEvents: flag(initial) }),
    ...(timeoutSeconds ? { timeoutSeconds } : {}),
  };
}

const managerLimit = 128;
const optionsOf: Record<string, string> = { create: 'CreateOptions', update: 'UpdateOptions' };

/** Who a write's changes are recorded for: what the query names, else the program that the client says it is. */
function fieldManagerOf(query: URLSearchParams, userAgent: string, verb: string): string {
  const named = query.get('fieldManager');
  if (!named) {
    const program = [...(userAgent.split('/')[0] ?? '')].filter((c) => isPrintable(c));
    let manager = '';
    for (const c of program) {
      if (Buffer.byteLength(manager) + Buffer.byteLength(c) > managerLimit) break;
      manager += c;
    }
    return manager;
  }
  const findings: FieldError[] = [];
  if (Buffer.byteLength(named) > managerLimit)
    findings.push({ type: 'FieldValueTooLong', field: 'fieldManager', detail: `may not be more than ${managerLimit} bytes` });
  [...named].forEach((c, i) => {
    if (isPrintable(c)) return;
    const detail = `invalid character U+${c.codePointAt(0)!.toString(16).toUpperCase().padStart(4, '0')} (at position ${i})`;
    findings.push({ type: 'FieldValueInvalid', field: 'fieldManager', value: named, detail });
  });
  if (findings.length > 0) throw invalid({ group: 'meta.k8s.io', kind: optionsOf[verb] ?? 'PatchOptions' }, '', findings);
  return named;
}

const isPrintable = (c: string): boolean => c === ' ' || !/^[\p{C}\p{Z}]$/u.test(c);

/** Whether an apply takes fields from others. StatusError 422 where the options do not fit the kind of patch. */
export function patchForce(query: URLSearchParams, type: PatchType): boolean {
  const findings: FieldError[] = [];
  const asked = query.get('force');
  if (type === 'apply') {
    if (!query.get('fieldManager')) findings.push({ type: 'FieldValueRequired', field: 'fieldManager', detail: 'is required for apply patch' });
  } else if (asked !== null) findings.push({ type: 'FieldValueForbidden', field: 'force', detail: 'may not be specified for non-apply patch' });
  if (findings.length > 0) throw invalid({ group: 'meta.k8s.io', kind: 'PatchOptions' }, '', findings);
  return flag(asked);
}

/** The call that a request makes, with what its query says about writing. */
export function callOf(request: HttpRequest, info: RequestInfo, target: Registered, permit: Permit): Call {
  const { query } = request;
  const writes = info.verb !== 'get' && info.verb !== 'list' && info.verb !== 'watch';
  let dryRun = false;
  let fieldValidation: Call['fieldValidation'] = 'Warn';
  if (writes) {
    const about = {
      group: 'meta.k8s.io',
      kind: info.verb === 'create' ? 'CreateOptions' : info.verb === 'update' ? 'UpdateOptions' : 'PatchOptions',
    };
    const wanted = query.getAll('dryRun').filter((v) => v !== '');
    for (const value of wanted) {
      if (value !== 'All')
        throw invalid(about, '', [{ type: 'FieldValueNotSupported', field: 'dryRun', value: wanted, detail: 'supported values: "All"' }]);
    }
    dryRun = wanted.length > 0;
    const validation = query.get('fieldValidation');
    if (validation) {
      if (validation !== 'Ignore' && validation !== 'Warn' && validation !== 'Strict') {
        throw invalid(about, '', [
          { type: 'FieldValueNotSupported', field: 'fieldValidation', value: validation, detail: 'supported values: "", "Ignore", "Strict", "Warn"' },
        ]);
      }
      fieldValidation = validation;
    }
  }
  return {
    permit,
    user: permit.user,
    target,
    verb: info.verb,
    namespace: target.served.namespaced ? info.namespace : '',
    name: info.name,
    subresource: info.subresource,
    dryRun,
    fieldValidation,
    fieldManager: writes ? fieldManagerOf(query, header(request, 'user-agent'), info.verb) : '',
    warnings: [],
    get signal() {
      return request.signal;
    },
  };
}
