import { randomUUID } from 'node:crypto';
import type { FieldError } from '../errors.ts';
import { compareQuantities, parseQuantity } from '../quantity.ts';
import type { KindStrategy } from '../scheme.ts';
import { qualifiedNameProblems } from '../validation.ts';
import { validateResourceName } from './container-validation.ts';
import { Findings } from './findings.ts';
import { specAndStatus } from './spec-and-status.ts';

const standardTypes = ['Pod', 'Container', 'PersistentVolumeClaim'];
const standardResources = ['cpu', 'memory', 'ephemeral-storage', 'storage', 'pods', 'services', 'replicationcontrollers', 'secrets'];
const moreStandardResources = [
  ...['configmaps', 'persistentvolumeclaims', 'resourcequotas', 'services.nodeports', 'services.loadbalancers'],
  ...['requests.cpu', 'requests.memory', 'requests.storage', 'requests.ephemeral-storage', 'limits.cpu', 'limits.memory', 'limits.ephemeral-storage'],
];
const isHugePages = (name: string) => name.startsWith('hugepages-') || name.startsWith('requests.hugepages-');

/** Findings about the name of any resource: what has no prefix must be one that everybody knows. */
function validateAnyResourceName(found: Findings, name: string, field: string): void {
  const problems = qualifiedNameProblems(name);
  for (const detail of problems) found.invalid(field, name, detail);
  if (problems.length || name.includes('/')) return;
  if (![...standardResources, ...moreStandardResources].includes(name) && !isHugePages(name))
    found.invalid(field, name, 'must be a standard resource type or fully qualified');
}

const compare = (a: string, b: string) => compareQuantities(a, b);

function validateLimit(found: Findings, limit: any, at: string): void {
  const checkName = (name: string, field: string) =>
    limit.type === 'Pod' || limit.type === 'Container' ? validateResourceName(found, name, field) : validateAnyResourceName(found, name, field);
  const names = new Set<string>();
  const lists = limit.type === 'Pod' ? ['max', 'min'] : ['max', 'min', 'default', 'defaultRequest'];
  const check = (list: string) => {
    for (const name of Object.keys(limit[list] ?? {}).sort()) {
      checkName(name, `${at}.${list}[${name}]`);
      names.add(name);
    }
  };
  for (const list of lists.slice(0, 2)) check(list);
  if (limit.type === 'Pod') {
    for (const list of ['default', 'defaultRequest'])
      if (Object.keys(limit[list] ?? {}).length) found.forbidden(`${at}.${list}`, "may not be specified when `type` is 'Pod'");
  } else for (const list of lists.slice(2)) check(list);
  if (limit.type === 'PersistentVolumeClaim' && limit.min?.storage === undefined && limit.max?.storage === undefined)
    found.required(`${at}.limits`, 'either minimum or maximum storage value is required, but neither was provided');
  check('maxLimitRequestRatio');
  for (const name of names) validateAmounts(found, limit, name, at);
}

function validateAmounts(found: Findings, limit: any, name: string, at: string): void {
  const pod = limit.type === 'Pod';
  const [min, max, ratio] = [limit.min?.[name], limit.max?.[name], limit.maxLimitRequestRatio?.[name]];
  const [normal, request] = pod ? [undefined, undefined] : [limit.default?.[name], limit.defaultRequest?.[name]];
  const above = (a: string | undefined, b: string | undefined) => a !== undefined && b !== undefined && compare(a, b) > 0;
  if (above(min, max)) found.invalid(`${at}.min[${name}]`, min, `min value ${min} is greater than max value ${max}`);
  if (above(min, request)) found.invalid(`${at}.defaultRequest[${name}]`, request, `min value ${min} is greater than default request value ${request}`);
  if (above(request, max)) found.invalid(`${at}.defaultRequest[${name}]`, request, `default request value ${request} is greater than max value ${max}`);
  if (above(request, normal))
    found.invalid(`${at}.defaultRequest[${name}]`, request, `default request value ${request} is greater than default limit value ${normal}`);
  if (above(min, normal)) found.invalid(`${at}.default[${name}]`, min, `min value ${min} is greater than default value ${normal}`);
  if (above(normal, max)) found.invalid(`${at}.default[${name}]`, max, `default value ${normal} is greater than max value ${max}`);
  if (ratio === undefined) return;
  if (compare(ratio, '1') < 0) found.invalid(`${at}.maxLimitRequestRatio[${name}]`, ratio, `ratio ${ratio} is less than 1`);
  if (min === undefined || max === undefined) return;
  const most = Number(parseQuantity(max).nano) / Number(parseQuantity(min).nano);
  if (Number(parseQuantity(ratio).nano) / 1e9 > most)
    found.invalid(`${at}.maxLimitRequestRatio[${name}]`, ratio, `ratio ${ratio} is greater than max/min = ${most.toFixed(6)}`);
}

function validateLimitRange(o: any): FieldError[] {
  const found = new Findings();
  const types = new Set<string>();
  (o.spec?.limits ?? []).forEach((limit: any, i: number) => {
    const at = `spec.limits[${i}]`;
    const type = limit.type ?? '';
    const problems = qualifiedNameProblems(type);
    for (const detail of problems) found.invalid(`${at}.type`, type, detail);
    if (!problems.length && !type.includes('/') && !standardTypes.includes(type))
      found.invalid(`${at}.type`, type, 'must be a standard limit type or fully qualified');
    if (types.has(type)) found.duplicate(`${at}.type`, type);
    types.add(type);
    validateLimit(found, limit, at);
  });
  return found.errors;
}

export const limitRange: KindStrategy = {
  default(o) {
    // The most is the default limit, that the default request, and the least only where there is neither.
    for (const item of o.spec?.limits ?? []) {
      if (item.type !== 'Container') continue;
      const limits = { ...item.max, ...item.default };
      if (Object.keys(limits).length) item.default = limits;
      const requests = { ...item.min, ...item.default, ...item.defaultRequest };
      if (Object.keys(requests).length) item.defaultRequest = requests;
    }
  },
  prepareForCreate(o) {
    // A name of its own, where the user gives none.
    o.metadata.name ||= randomUUID();
  },
  validate: validateLimitRange,
};

const scopes = ['Terminating', 'NotTerminating', 'BestEffort', 'NotBestEffort', 'PriorityClass', 'CrossNamespacePodAffinity', 'VolumeAttributesClass'];
const podResources = ['cpu', 'memory', 'ephemeral-storage', 'requests.cpu', 'requests.memory', 'requests.ephemeral-storage'];
const computeResources = ['pods', ...podResources, 'limits.cpu', 'limits.memory', 'limits.ephemeral-storage'];
const claimResources = ['persistentvolumeclaims', 'requests.storage'];
const quotaResources = [...standardResources.filter((r) => r !== 'storage'), ...moreStandardResources];

/** May a quota with this scope count that resource? */
function scopeCounts(scope: string, resource: string): boolean {
  switch (scope) {
    case 'BestEffort':
      return resource === 'pods';
    case 'VolumeAttributesClass':
      return claimResources.includes(resource);
    case 'Terminating':
    case 'NotTerminating':
    case 'NotBestEffort':
    case 'PriorityClass':
    case 'CrossNamespacePodAffinity':
      return computeResources.includes(resource);
    default:
      return true;
  }
}

function conflicting(found: Findings, given: Set<string>, shown: unknown): void {
  for (const pair of [
    ['BestEffort', 'NotBestEffort'],
    ['Terminating', 'NotTerminating'],
  ])
    if (pair.every((scope) => given.has(scope))) found.invalid('spec.scopes', shown, 'conflicting scopes');
}

/** A scope selector as upstream's internal type shows it in messages. */
const internalSelector = (expressions: any[]) => ({
  MatchExpressions: expressions.map((e) => ({ ScopeName: e.scopeName ?? '', Operator: e.operator ?? '', Values: e.values ?? null })),
});

function validateScopeSelector(found: Findings, expressions: any[], resources: string[], specScopes: unknown): void {
  const at = 'spec.scopeSelector.matchExpressions';
  for (const e of expressions) {
    const scope = e.scopeName ?? '';
    const operator = e.operator ?? '';
    if (!scopes.includes(scope)) found.invalid(`${at}.scopeName`, scope, 'unsupported scope');
    for (const resource of resources)
      if (!scopeCounts(scope, resource)) found.invalid(at, internalSelector(expressions), 'unsupported scope applied to resource');
    if (['BestEffort', 'NotBestEffort', 'Terminating', 'NotTerminating', 'CrossNamespacePodAffinity'].includes(scope) && operator !== 'Exists') {
      const detail =
        "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity";
      found.invalid(`${at}.operator`, operator, detail);
    }
    const count = (e.values ?? []).length;
    if (operator === 'In' || operator === 'NotIn') {
      if (!count) found.required(`${at}.values`, "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector");
    } else if (operator === 'Exists' || operator === 'DoesNotExist') {
      if (count) found.invalid(`${at}.values`, e.values, "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector");
    } else found.invalid(`${at}.operator`, operator, 'not a valid selector operator');
  }
  conflicting(found, new Set(expressions.map((e) => e.scopeName)), specScopes);
}

function validateResourceQuota(o: any): FieldError[] {
  const found = new Findings();
  const s = o.spec ?? {};
  const names = Object.keys(s.hard ?? {}).sort();
  for (const name of names) {
    const field = `spec.hard[${name}]`;
    validateAnyResourceName(found, name, field);
    if (!name.includes('/') && !quotaResources.includes(name) && !isHugePages(name))
      found.invalid(field, name, 'must be a standard resource for quota');
    const { nano } = parseQuantity(s.hard[name]);
    if (nano < 0n) found.invalid(field, s.hard[name], 'must be greater than or equal to 0');
    if (isCounted(name) && nano % 1_000_000_000n !== 0n) found.invalid(field, s.hard[name], 'must be an integer');
  }
  const standard = names.filter((name) => quotaResources.includes(name));
  for (const scope of s.scopes ?? []) {
    if (!scopes.includes(scope)) found.invalid('spec.scopes', s.scopes, 'unsupported scope');
    for (const resource of standard) if (!scopeCounts(scope, resource)) found.invalid('spec.scopes', s.scopes, 'unsupported scope applied to resource');
  }
  conflicting(found, new Set(s.scopes ?? []), s.scopes);
  if (s.scopeSelector) validateScopeSelector(found, s.scopeSelector.matchExpressions ?? [], standard, s.scopes ?? null);
  return found.errors;
}

const counted = [
  ...['pods', 'services', 'replicationcontrollers', 'secrets', 'configmaps', 'persistentvolumeclaims', 'resourcequotas'],
  ...['services.nodeports', 'services.loadbalancers'],
];
/** Things that there can only be whole numbers of. */
const isCounted = (name: string) => counted.includes(name) || (name.includes('/') && !/(^|[./])kubernetes\.io\//.test(name));

export const resourceQuota: KindStrategy = {
  prepareForCreate(o) {
    o.status = {};
  },
  prepareForUpdate(o, old) {
    o.status = old.status;
  },
  prepareForStatusUpdate: specAndStatus.prepareForStatusUpdate,
  validate: validateResourceQuota,
  validateUpdate(o, old) {
    const found = new Findings();
    const set = (list: string[] | undefined) => [...new Set(list ?? [])].sort().join();
    if (set(o.spec?.scopes) !== set(old.spec?.scopes)) found.invalid('spec.scopes', o.spec?.scopes ?? null, 'field is immutable');
    return found.errors;
  },
};
