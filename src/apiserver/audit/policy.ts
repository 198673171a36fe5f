import { parse } from 'yaml';
import type { UserInfo } from '../authn/user.ts';
import type { RequestInfo } from '../request.ts';

/** How much of a request is told; each includes what those before it tell. */
export type Level = 'None' | 'Metadata' | 'Request' | 'RequestResponse';
export type Stage = 'RequestReceived' | 'ResponseStarted' | 'ResponseComplete' | 'Panic';

export interface Rule {
  level: Level;
  users: string[];
  userGroups: string[];
  verbs: string[];
  resources: { group: string; resources: string[]; resourceNames: string[] }[];
  namespaces: string[];
  nonResourceURLs: string[];
  omitStages: Stage[];
  omitManagedFields: boolean;
}

export interface Policy {
  rules: Rule[];
}

const levels: Level[] = ['None', 'Metadata', 'Request', 'RequestResponse'];
const stages: Stage[] = ['RequestReceived', 'ResponseStarted', 'ResponseComplete', 'Panic'];

/** Reads a Policy of audit.k8s.io/v1, YAML or JSON. Throws with the path of what is wrong. */
export function parseAuditPolicy(text: string): Policy {
  const policy = parse(text);
  if (policy?.kind !== 'Policy' || policy.apiVersion !== 'audit.k8s.io/v1') throw new Error('not a Policy of audit.k8s.io/v1');
  if (!Array.isArray(policy.rules) || policy.rules.length === 0) throw new Error('rules: Required value: an audit policy needs at least one rule');
  const omitted = stagesOf(policy.omitStages, 'omitStages');
  return {
    rules: policy.rules.map((rule: any, i: number): Rule => {
      const path = `rules[${i}]`;
      if (!levels.includes(rule?.level)) throw new Error(`${path}.level: Unsupported value: ${JSON.stringify(rule?.level ?? '')}: supported values: ${levels.join(', ')}`);
      const resources = list(rule.resources, `${path}.resources`).map((r: any, j: number) => {
        const names = list(r?.resourceNames, `${path}.resources[${j}].resourceNames`);
        const kinds = list(r?.resources, `${path}.resources[${j}].resources`);
        if (names.length && !kinds.length) throw new Error(`${path}.resources[${j}].resourceNames: Invalid value: using resourceNames requires at least one resource`);
        return { group: r?.group ?? '', resources: kinds, resourceNames: names };
      });
      const nonResourceURLs = list(rule.nonResourceURLs, `${path}.nonResourceURLs`);
      if (nonResourceURLs.length && (resources.length || rule.namespaces?.length))
        throw new Error(`${path}.nonResourceURLs: Invalid value: rules cannot apply to both regular resources and non-resource URLs`);
      return {
        level: rule.level,
        users: list(rule.users, `${path}.users`),
        userGroups: list(rule.userGroups, `${path}.userGroups`),
        verbs: list(rule.verbs, `${path}.verbs`),
        resources,
        namespaces: list(rule.namespaces, `${path}.namespaces`),
        nonResourceURLs,
        omitStages: [...omitted, ...stagesOf(rule.omitStages, `${path}.omitStages`)],
        omitManagedFields: rule.omitManagedFields ?? policy.omitManagedFields ?? false,
      };
    }),
  };
}

function list(value: unknown, path: string): any[] {
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value)) throw new Error(`${path}: Invalid value: must be a list`);
  return value;
}

function stagesOf(value: unknown, path: string): Stage[] {
  const found = list(value, path);
  const bad = found.find((stage) => !stages.includes(stage));
  if (bad !== undefined) throw new Error(`${path}: Unsupported value: ${JSON.stringify(bad)}: supported values: ${stages.join(', ')}`);
  return found;
}

/** The first rule that fits; without one nothing is told. */
export function ruleFor(policy: Policy, info: RequestInfo, user: UserInfo): Rule | undefined {
  return policy.rules.find((rule) => fits(rule, info, user));
}

function fits(rule: Rule, info: RequestInfo, user: UserInfo): boolean {
  if (rule.users.length && !rule.users.includes(user.name)) return false;
  if (rule.userGroups.length && !rule.userGroups.some((group) => user.groups.includes(group))) return false;
  if (rule.verbs.length && !rule.verbs.includes(info.verb)) return false;
  if (!rule.namespaces.length && !rule.resources.length && !rule.nonResourceURLs.length) return true;
  return info.isResource ? fitsResource(rule, info) : rule.nonResourceURLs.some((url) => fitsPath(url, info.path));
}

function fitsResource(rule: Rule, info: RequestInfo): boolean {
  if (rule.nonResourceURLs.length) return false;
  if (rule.namespaces.length && !rule.namespaces.includes(info.namespace)) return false;
  if (!rule.resources.length) return true;
  const whole = info.subresource ? `${info.resource}/${info.subresource}` : info.resource;
  return rule.resources.some(({ group, resources, resourceNames }) => {
    if (group !== info.group) return false;
    if (!resources.length) return true;
    if (resourceNames.length && !resourceNames.includes(info.name)) return false;
    return resources.some((r) => r === '*' || r === whole || (info.subresource !== '' && (r === `*/${info.subresource}` || r === `${info.resource}/*`)));
  });
}

/** `*`, a path, or a path that ends in `*`. */
const fitsPath = (spec: string, path: string) => (spec.endsWith('*') ? path.startsWith(spec.slice(0, -1)) : path === spec);
