import { canonicalJson } from '../equality.ts';
import type { FieldError } from '../errors.ts';
import { internalForm } from '../internal-form.ts';
import { qualifiedNameProblems, subdomainProblems, validateAnnotations, validateLabels } from '../validation.ts';
import {
  type DeviceFindings,
  longNameProblems,
  requestNameProblems,
  validateBindingConditions,
  validateConfiguration,
  validateDeviceToleration,
  validateFullAttributeName,
  validateItems,
  validatePoolName,
  validateSelectors,
} from './device-names.ts';
import { Findings } from './findings.ts';
import { validateNodeSelector } from './scheduling-validation.ts';

const collect = (check: (to: DeviceFindings) => void): FieldError[] => {
  const to = { found: new Findings(), later: new Findings() };
  check(to);
  return [...to.found.errors, ...to.later.errors];
};

/** Requests of a claim by name, with the names of their alternatives. */
function requestNames(devices: any): Map<string, Set<string> | undefined> {
  return new Map(
    (devices?.requests ?? []).map((r: any) => [r.name ?? '', r.firstAvailable?.length ? new Set<string>(r.firstAvailable.map((s: any) => s.name ?? '')) : undefined]),
  );
}

function validateReference({ found }: DeviceFindings, name: string, at: string, names: Map<string, Set<string> | undefined>): void {
  const [request = '', alternative, ...more] = name.split('/');
  const detail = "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";
  if (more.length) return found.invalid(at, name, detail);
  for (const part of name.split('/')) found.problems(at, part, requestNameProblems);
  if (!names.has(request) || (alternative !== undefined && !names.get(request)?.has(alternative))) found.invalid(at, name, detail);
}

function validateAsk(to: DeviceFindings, ask: any, at: string, isAlternative: boolean): void {
  const { found, later } = to;
  const field = `${at}.deviceClassName`;
  const where = isAlternative ? later : found;
  if (!ask.deviceClassName) where.required(field);
  else where.problems(field, ask.deviceClassName, isAlternative ? longNameProblems : subdomainProblems);
  validateSelectors(to, `${at}.selectors`, ask.selectors);
  if (ask.allocationMode === 'All') {
    if (ask.count) found.invalid(`${at}.count`, ask.count, "must not be specified when allocationMode is 'All'");
  } else if (ask.allocationMode === 'ExactCount') {
    if (!(ask.count > 0)) found.invalid(`${at}.count`, ask.count ?? 0, 'must be greater than zero');
  } else later.unsupported(`${at}.allocationMode`, ask.allocationMode ?? '', ['All', 'ExactCount']);
  (ask.tolerations ?? []).forEach((toleration: any, i: number) => {
    validateDeviceToleration(to, toleration, `${at}.tolerations[${i}]`);
  });
}

function validateRequest(to: DeviceFindings, request: any, at: string): void {
  const { found } = to;
  found.problems(`${at}.name`, request.name ?? '', requestNameProblems);
  const several = request.firstAvailable?.length > 0;
  const what = 'exactly one of `exactly` or `firstAvailable` is required';
  if (!several && !request.exactly) return found.required(at, what);
  if (several && request.exactly) found.invalid(at, null, `${what}, but multiple fields are set`);
  else if (request.exactly) return validateAsk(to, request.exactly, `${at}.exactly`, false);
  // What is declared of alternatives holds for them wherever they stand.
  const part: DeviceFindings = request.exactly ? { found: new Findings(), later: to.later } : to;
  validateItems(
    part,
    `${at}.firstAvailable`,
    request.firstAvailable,
    8,
    (sub: any, where) => {
      part.found.problems(`${where}.name`, sub.name ?? '', requestNameProblems);
      validateAsk(part, sub, where, true);
    },
    (sub: any) => sub.name ?? '',
  );
}

/** What a claim asks for, at a path such as `spec.devices`. */
function validateDevices(to: DeviceFindings, devices: any, path: string): void {
  const names = requestNames(devices);
  const reference = (name: string, at: string) => validateReference(to, name, at, names);
  const itself = (name: string) => name;
  validateItems(to, `${path}.requests`, devices?.requests, 32, (request: any, at) => validateRequest(to, request, at), (request: any) => request.name ?? '');
  validateItems(to, `${path}.constraints`, devices?.constraints, 32, (constraint: any, at) => {
    validateItems(to, `${at}.requests`, constraint.requests, 32, reference, itself);
    if (constraint.matchAttribute !== undefined) validateFullAttributeName(to.later, `${at}.matchAttribute`, constraint.matchAttribute);
    if (constraint.distinctAttribute !== undefined) validateFullAttributeName(to.later, `${at}.distinctAttribute`, constraint.distinctAttribute);
    if (constraint.matchAttribute === undefined && constraint.distinctAttribute === undefined)
      to.found.required(at, 'exactly one of "matchAttribute" or "distinctAttribute" is required, but multiple fields are set');
  });
  validateItems(to, `${path}.config`, devices?.config, 32, (config: any, at) => {
    validateItems(to, `${at}.requests`, config.requests, 32, reference, itself);
    validateConfiguration(to, at, config);
  });
}

export const validateResourceClaim = (claim: any): FieldError[] => collect((to) => validateDevices(to, claim.spec?.devices, 'spec.devices'));

export function validateResourceClaimUpdate(claim: any, old: any): FieldError[] {
  const found = new Findings();
  if (canonicalJson(claim.spec) !== canonicalJson(old.spec)) found.invalid('spec', null, 'field is immutable');
  return found.errors;
}

export const validateResourceClaimTemplate = (template: any, old?: any): FieldError[] =>
  collect((to) => {
    const { spec } = template;
    to.found.errors.push(...validateLabels(spec?.metadata?.labels, 'spec.metadata.labels'), ...validateAnnotations(spec?.metadata?.annotations, 'spec.metadata.annotations'));
    validateDevices(to, spec?.spec?.devices, 'spec.spec.devices');
    if (old && canonicalJson(spec) !== canonicalJson(old.spec)) to.found.invalid('spec', internalForm('resource.ResourceClaimTemplateSpec', spec), 'field is immutable');
  });

/** What an allocation may be, and what of a status may change. */
export const validateResourceClaimStatus = (claim: any, old: any): FieldError[] =>
  collect((to) => {
    const { found, later } = to;
    const status = claim.status ?? {};
    validateItems(
      to,
      'status.reservedFor',
      status.reservedFor,
      256,
      (consumer: any, at) => {
        for (const field of ['resource', 'name', 'uid']) if (!consumer[field]) found.required(`${at}.${field}`);
      },
      (consumer: any) => consumer.uid,
    );
    if (status.reservedFor?.length) {
      const before = new Set((old.status?.reservedFor ?? []).map((r: any) => canonicalJson(r)));
      if (!status.allocation) found.forbidden('status.reservedFor', 'may not be specified when `allocated` is not set');
      else if (claim.metadata.deletionTimestamp && status.reservedFor.some((r: any) => !before.has(canonicalJson(r))))
        found.forbidden('status.reservedFor', 'new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set');
    }
    if (!status.allocation) return;
    if (old.status?.allocation) {
      if (canonicalJson(status.allocation) !== canonicalJson(old.status.allocation)) later.invalid('status.allocation', null, 'field is immutable');
    } else validateAllocation(to, status.allocation, 'status.allocation', requestNames(claim.spec?.devices));
  });

function validateAllocation(to: DeviceFindings, allocation: any, path: string, names: Map<string, Set<string> | undefined>): void {
  const { found, later } = to;
  const at = `${path}.devices`;
  validateItems(to, `${at}.results`, allocation.devices?.results, 32, (result: any, where) => {
    validateReference(to, result.request ?? '', `${where}.request`, names);
    if (!result.driver) later.required(`${where}.driver`);
    validatePoolName(later, `${where}.pool`, result.pool);
    found.problems(`${where}.device`, result.device ?? '', requestNameProblems);
    validateBindingConditions(to, result, where);
    (result.tolerations ?? []).forEach((toleration: any, i: number) => {
      validateDeviceToleration(to, toleration, `${where}.tolerations[${i}]`);
    });
  });
  validateItems(to, `${at}.config`, allocation.devices?.config, 64, (config: any, where) => {
    if (!config.source) later.required(`${where}.source`);
    else later.oneOf(`${where}.source`, config.source, ['FromClaim', 'FromClass']);
    validateItems(to, `${where}.requests`, config.requests, 32, (name: string, reference) => validateReference(to, name, reference, names), (name: string) => name);
    validateConfiguration(to, where, config);
  });
  if (allocation.nodeSelector) validateNodeSelector(found, allocation.nodeSelector, `${path}.nodeSelector`);
}

export const validateDeviceClass = (object: any, old?: any): FieldError[] =>
  collect((to) => {
    const { selectors, config, extendedResourceName: name } = object.spec ?? {};
    validateSelectors(to, 'spec.selectors', selectors, old && canonicalJson(selectors) === canonicalJson(old.spec?.selectors));
    const stored = old && canonicalJson(config) === canonicalJson(old.spec?.config);
    validateItems(to, 'spec.config', config, 32, (one: any, at) => validateConfiguration(to, at, one, stored));
    if (name === undefined) return;
    const field = 'spec.extendedResourceName';
    if (!name.includes('/')) {
      to.later.invalid(field, name, "a name must be a domain-prefixed path, such as 'example.com/my-prop'");
      for (const problem of qualifiedNameProblems(name)) if (problem !== 'name part must be non-empty') to.later.invalid(field, name, problem);
    } else for (const problem of qualifiedNameProblems(name)) to.later.invalid(field, name, problem);
  });
