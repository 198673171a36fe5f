import type { FlowSchema } from '../../api/generated/types.ts';
import { parseServiceAccountName, type UserInfo } from '../authn/user.ts';
import type { RequestInfo } from '../request.ts';

/** What of a request flow schemas go by. */
export type Classified = Pick<RequestInfo, 'isResource' | 'verb' | 'path' | 'group' | 'resource' | 'subresource' | 'namespace'>;

interface Rules {
  users: Set<string>;
  groups: Set<string>;
  accounts: { namespace: string; name: string }[];
  resourceRules: { verbs: Set<string>; groups: Set<string>; resources: Set<string>; namespaces: Set<string>; clusterScope: boolean }[];
  pathRules: { verbs: Set<string>; paths: string[] }[];
}

/** A FlowSchema's rules, made for matching. */
export function compileRules(schema: FlowSchema): Rules[] {
  return (schema.spec?.rules ?? []).map((rule) => ({
    users: new Set(rule.subjects.flatMap((s) => (s.kind === 'User' && s.user ? [s.user.name] : []))),
    groups: new Set(rule.subjects.flatMap((s) => (s.kind === 'Group' && s.group ? [s.group.name] : []))),
    accounts: rule.subjects.flatMap((s) => (s.kind === 'ServiceAccount' && s.serviceAccount ? [s.serviceAccount] : [])),
    resourceRules: (rule.resourceRules ?? []).map((r) => ({
      verbs: new Set(r.verbs),
      groups: new Set(r.apiGroups),
      resources: new Set(r.resources),
      namespaces: new Set(r.namespaces),
      clusterScope: r.clusterScope ?? false,
    })),
    pathRules: (rule.nonResourceRules ?? []).map((r) => ({ verbs: new Set(r.verbs), paths: r.nonResourceURLs })),
  }));
}

const has = (set: Set<string>, value: string): boolean => set.has(value) || set.has('*');

export function rulesMatch(rules: Rules[], user: UserInfo, request: Classified): boolean {
  for (const one of rules) if (subjectMatches(one, user) && requestMatches(one, request)) return true;
  return false;
}

function subjectMatches(rules: Rules, user: UserInfo): boolean {
  for (const group of user.groups) if (rules.groups.has(group)) return true;
  if (rules.groups.has('*') || has(rules.users, user.name)) return true;
  if (rules.accounts.length === 0) return false;
  const account = parseServiceAccountName(user.name);
  return account !== undefined && rules.accounts.some((a) => a.namespace === account.namespace && (a.name === '*' || a.name === account.name));
}

function requestMatches(rules: Rules, r: Classified): boolean {
  if (!r.isResource) return rules.pathRules.some((rule) => has(rule.verbs, r.verb) && rule.paths.some((path) => pathMatches(path, r.path)));
  const resource = r.subresource ? `${r.resource}/${r.subresource}` : r.resource;
  for (const rule of rules.resourceRules) {
    if (!has(rule.verbs, r.verb) || !has(rule.groups, r.group) || !has(rule.resources, resource)) continue;
    if (r.namespace ? has(rule.namespaces, r.namespace) : rule.clusterScope) return true;
  }
  return false;
}

function pathMatches(wanted: string, path: string): boolean {
  if (wanted === '*' || wanted === path) return true;
  return wanted.endsWith('/*') && path.startsWith(wanted.slice(0, -1));
}
