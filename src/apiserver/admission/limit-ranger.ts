import { forbidden } from '../../api/errors.ts';
import type { Container, LimitRange, PersistentVolumeClaim, Pod, ResourceRequirements } from '../../api/generated/types.ts';
import { addQuantities, compareQuantities, toMilli } from '../../api/quantity.ts';
import type { AdmissionPlugin, AdmissionRequest } from './chain.ts';

type Quantities = Record<string, string>;
type Item = NonNullable<LimitRange['spec']>['limits'][number];

const rangesOf = (r: AdmissionRequest): Item[] =>
  r.api.registry
    .cache('', 'v1', 'limitranges')
    .list(r.namespace)
    .flatMap((e) => (e.object as unknown as LimitRange).spec?.limits ?? []);

const isPod = (r: AdmissionRequest) => r.group === '' && r.resource === 'pods' && !r.subresource && r.operation === 'CREATE';
const isClaim = (r: AdmissionRequest) => r.group === '' && r.resource === 'persistentvolumeclaims' && !r.subresource && r.operation === 'CREATE';

/** Gives containers the namespace's default requests and limits, and refuses what is outside of its bounds. */
export const limitRanger: AdmissionPlugin = {
  name: 'LimitRanger',
  admit(r) {
    if (!isPod(r)) return;
    const limits = rangesOf(r).filter((item) => item.type === 'Container');
    if (limits.length === 0) return;
    const { spec } = r.object as Pod;
    for (const container of [...(spec?.initContainers ?? []), ...(spec?.containers ?? [])]) for (const item of limits) fill(container, item);
  },
  validate(r) {
    if (isPod(r)) checkPod(r);
    else if (isClaim(r)) checkClaim(r);
  },
};

function fill(container: Container, item: Item): void {
  const defaults = (item.default ?? {}) as Quantities;
  const requests = (item.defaultRequest ?? item.default ?? {}) as Quantities;
  const resources: ResourceRequirements = (container.resources ??= {});
  for (const [name, value] of Object.entries(defaults)) {
    if ((resources.limits as Quantities | undefined)?.[name] === undefined) resources.limits = { ...resources.limits, [name]: value };
  }
  for (const [name, value] of Object.entries(requests)) {
    if ((resources.requests as Quantities | undefined)?.[name] !== undefined) continue;
    // A limit that is given is the request, as everywhere, unless the range says otherwise.
    resources.requests = { ...resources.requests, [name]: value };
  }
}

function checkPod(r: AdmissionRequest): void {
  const items = rangesOf(r);
  if (items.length === 0) return;
  const pod = r.object as Pod;
  const problems: string[] = [];
  const containers = [...(pod.spec?.containers ?? []), ...(pod.spec?.initContainers ?? [])];
  for (const item of items) {
    if (item.type === 'Container') for (const c of containers) check(item, 'Container', c.resources ?? {}, problems);
    if (item.type === 'Pod') check(item, 'Pod', sumOf(pod.spec?.containers ?? []), problems);
  }
  refuse(r, problems);
}

function checkClaim(r: AdmissionRequest): void {
  const claim = r.object as PersistentVolumeClaim;
  const problems: string[] = [];
  for (const item of rangesOf(r)) {
    if (item.type !== 'PersistentVolumeClaim') continue;
    const requests = (claim.spec?.resources?.requests ?? {}) as Quantities;
    check(item, 'PersistentVolumeClaim', { requests, limits: requests } as ResourceRequirements, problems);
  }
  refuse(r, problems);
}

function refuse(r: AdmissionRequest, problems: string[]): void {
  if (problems.length === 0) return;
  throw forbidden(r.call.target.subject, r.object.metadata.name ?? '', problems.length === 1 ? problems[0]! : `[${problems.join(', ')}]`);
}

function sumOf(containers: Container[]): ResourceRequirements {
  const total: Record<'requests' | 'limits', Quantities> = { requests: {}, limits: {} };
  for (const kind of ['requests', 'limits'] as const) {
    for (const c of containers) {
      for (const [name, value] of Object.entries((c.resources?.[kind] ?? {}) as Quantities)) {
        const before = total[kind][name];
        total[kind][name] = before === undefined ? value : addQuantities(before, value);
      }
    }
  }
  return total as ResourceRequirements;
}

function check(item: Item, what: string, resources: ResourceRequirements, problems: string[]): void {
  const requests = (resources.requests ?? {}) as Quantities;
  const limits = (resources.limits ?? {}) as Quantities;
  for (const [name, min] of Object.entries((item.min ?? {}) as Quantities)) {
    const has = requests[name];
    if (has === undefined) problems.push(`minimum ${name} usage per ${what} is ${min}.  No request is specified`);
    else if (compareQuantities(has, min) < 0) problems.push(`minimum ${name} usage per ${what} is ${min}, but request is ${has}`);
  }
  for (const [name, max] of Object.entries((item.max ?? {}) as Quantities)) {
    const has = limits[name];
    if (has === undefined) problems.push(`maximum ${name} usage per ${what} is ${max}.  No limit is specified`);
    else if (compareQuantities(has, max) > 0) problems.push(`maximum ${name} usage per ${what} is ${max}, but limit is ${has}`);
  }
  for (const [name, ratio] of Object.entries((item.maxLimitRequestRatio ?? {}) as Quantities)) {
    const [limit, request] = [limits[name], requests[name]];
    if (limit === undefined || request === undefined)
      problems.push(
        `${name} max limit to request ratio per ${what} is ${ratio}, but no ${request === undefined ? 'request' : 'limit'} is specified or request is 0`,
      );
    else if (toMilli(limit) / toMilli(request) > Number(ratio))
      problems.push(
        `${name} max limit to request ratio per ${what} is ${ratio}, but provided ratio is ${(toMilli(limit) / toMilli(request)).toFixed(6)}`,
      );
  }
}
