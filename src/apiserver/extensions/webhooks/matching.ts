import type { KubeObject } from '../../../api/object.ts';
import type { ServedResource } from '../../../api/scheme.ts';
import { type LabelSelector, labelSelectorMatches } from '../../../api/selectors.ts';
import type { AdmissionRequest } from '../../admission/chain.ts';
import { convertTo } from '../../storage/entry.ts';
import { clone } from '../../storage/json.ts';

/** Which requests something is asked about: a rule of a webhook or a policy. */
export interface Rule {
  operations?: string[];
  apiGroups?: string[];
  apiVersions?: string[];
  resources?: string[];
  resourceNames?: string[];
  scope?: string;
}

export interface Resource {
  group: string;
  version: string;
  resource: string;
}

export interface Kind {
  group: string;
  version: string;
  kind: string;
}

const has = (list: string[] | undefined, value: string): boolean => list?.includes('*') === true || list?.includes(value) === true;

function resourceFits(rule: Rule, resource: string, subresource: string): boolean {
  const whole = subresource ? `${resource}/${subresource}` : resource;
  return (rule.resources ?? []).some((wanted) => {
    if (wanted === '*/*' || wanted === whole) return true;
    if (wanted === '*') return !subresource;
    const [name = '', part] = wanted.split('/');
    return part !== undefined && subresource !== '' && (name === '*' || name === resource) && (part === '*' || part === subresource);
  });
}

/** Whether a rule is about a request, were it for this resource. */
export function ruleFits(rule: Rule, request: AdmissionRequest, at: Resource): boolean {
  const { served } = request.call.target;
  // A namespace counts as cluster-wide, whatever its request's namespace is.
  const namespaced = served.namespaced;
  if (rule.scope && rule.scope !== '*' && (rule.scope === 'Namespaced') !== namespaced) return false;
  if (rule.resourceNames?.length && !rule.resourceNames.includes(request.name)) return false;
  return (
    has(rule.operations, request.operation) &&
    has(rule.apiGroups, at.group) &&
    has(rule.apiVersions, at.version) &&
    resourceFits(rule, at.resource, request.subresource)
  );
}

/** The request's resource in the version in which a rule names it; undefined where no rule is about it. */
export function fittingResource(rules: Rule[], excluded: Rule[], matchPolicy: string | undefined, request: AdmissionRequest): ServedResource | undefined {
  const { served } = request.call.target;
  if (excluded.some((rule) => ruleFits(rule, request, served))) return undefined;
  if (rules.some((rule) => ruleFits(rule, request, served))) return served;
  if (matchPolicy === 'Exact') return undefined;
  for (const other of equivalents(request)) {
    if (excluded.some((rule) => ruleFits(rule, request, other))) return undefined;
    if (rules.some((rule) => ruleFits(rule, request, other))) return other;
  }
  return undefined;
}

/** The same objects in other versions or groups. */
function equivalents(request: AdmissionRequest): ServedResource[] {
  const { storage, served } = request.call.target;
  if (!storage) return [];
  return request.api.registry
    .all()
    .filter((r) => r.storage === storage && r.served !== served)
    .map((r) => r.served);
}

/** An object of the request in another version of its resource. */
export async function inVersion(object: any, from: ServedResource, to: ServedResource): Promise<any> {
  if (!object || from === to) return object;
  const { conversion } = to.custom ?? {};
  if (conversion) return (await conversion.convert([clone(object)], `${to.group}/${to.version}`))[0];
  return convertTo(object as KubeObject, from, to);
}

/** The kind of a request's body, were it made in this version. */
export function kindAt(request: AdmissionRequest, at: ServedResource): Kind {
  const part = request.subresource ? at.subresources.find((s) => s.name === request.subresource) : undefined;
  const { group, version, kind } = part ?? at;
  return { group, version, kind };
}

function namespaceLabels(request: AdmissionRequest): Record<string, string> | undefined {
  if (request.group === '' && request.resource === 'namespaces') return (request.object ?? request.old)?.metadata?.labels ?? {};
  if (!request.namespace) return undefined;
  const entry = request.api.registry.cache('', 'v1', 'namespaces').get(request.namespace);
  return (entry?.object.metadata.labels as Record<string, string> | undefined) ?? {};
}

/** Namespaces are judged by their own labels, what is in them by theirs; what is in none always fits. */
export function namespaceFits(selector: LabelSelector | undefined, request: AdmissionRequest): boolean {
  if (!selector || (!selector.matchLabels && !selector.matchExpressions)) return true;
  const labels = namespaceLabels(request);
  return labels === undefined || labelSelectorMatches(selector, labels);
}

/** The object as it is to be, or as it was, must have the labels. */
export function objectFits(selector: LabelSelector | undefined, request: AdmissionRequest): boolean {
  if (!selector || (!selector.matchLabels && !selector.matchExpressions)) return true;
  return [request.object, request.old].some((o) => o?.metadata !== undefined && labelSelectorMatches(selector, o.metadata.labels ?? {}));
}

const configurations = new Set([
  'mutatingwebhookconfigurations',
  'validatingwebhookconfigurations',
  'validatingadmissionpolicies',
  'validatingadmissionpolicybindings',
  'mutatingadmissionpolicies',
  'mutatingadmissionpolicybindings',
]);

/** What configures admission is exempt from it, so that a mistake can be mended. */
export const isExempt = (request: AdmissionRequest): boolean => request.group === 'admissionregistration.k8s.io' && configurations.has(request.resource);
