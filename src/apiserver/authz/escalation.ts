import { sameJson } from '../../api/equality.ts';
import { forbidden } from '../../api/errors.ts';
import type { ClusterRole, PolicyRule, RoleBinding } from '../../api/generated/types.ts';
import type { AdmissionPlugin, AdmissionRequest } from '../admission/chain.ts';
import { mastersGroup } from '../authn/user.ts';
import { ruleAllows } from './rbac.ts';

const group = 'rbac.authorization.k8s.io';

/** Nobody can give away, by a role or a binding, what they do not have, unless they may `escalate` or `bind`. */
export const rbacEscalation: AdmissionPlugin = {
  name: 'RBACEscalation',
  async validate(request) {
    if (request.group !== group || request.subresource || (request.operation !== 'CREATE' && request.operation !== 'UPDATE')) return;
    const { user } = request.call;
    if (user.groups.includes(mastersGroup)) return;
    if (request.resource === 'roles' || request.resource === 'clusterroles') await checkRole(request);
    else if (request.resource === 'rolebindings' || request.resource === 'clusterrolebindings') await checkBinding(request);
  },
};

const may = async (r: AdmissionRequest, verb: string, resource: string, name: string) =>
  (await r.api.authorizer.authorize({ user: r.call.user, verb, group, resource, subresource: '', namespace: r.namespace, name })).allowed;

async function checkRole(r: AdmissionRequest): Promise<void> {
  const role = r.object as ClusterRole;
  const before = r.old as ClusterRole | undefined;
  if (before && sameJson(before.rules, role.rules) && sameJson(before.aggregationRule, role.aggregationRule)) return;
  if (await may(r, 'escalate', r.resource, r.name)) return;
  if (role.aggregationRule && !sameJson(before?.aggregationRule, role.aggregationRule)) {
    const everything = { verbs: ['*'], apiGroups: ['*'], resources: ['*'] };
    if (!covered([everything], r).length) return;
    throw forbidden({ group, resource: r.resource }, r.name, `must have cluster-admin privileges to use an aggregationRule`);
  }
  refuseMissing(r, role.rules ?? []);
}

async function checkBinding(r: AdmissionRequest): Promise<void> {
  const binding = r.object as RoleBinding;
  const before = r.old as RoleBinding | undefined;
  if (before && sameJson(before.roleRef, binding.roleRef) && sameJson(before.subjects, binding.subjects)) return;
  const resource = binding.roleRef.kind === 'ClusterRole' ? 'clusterroles' : 'roles';
  if (await may(r, 'bind', resource, binding.roleRef.name)) return;
  const rules = r.api.rbac.roleRules(binding.roleRef, r.namespace);
  if (!rules) throw forbidden({ group, resource: r.resource }, r.name, `${resource}.${group} "${binding.roleRef.name}" not found`);
  refuseMissing(r, rules);
}

function refuseMissing(r: AdmissionRequest, rules: PolicyRule[]): void {
  const missing = covered(rules, r);
  if (missing.length === 0) return;
  const { user } = r.call;
  const groups = user.groups.map((g) => JSON.stringify(g)).join(' ');
  throw forbidden(
    { group, resource: r.resource },
    r.name,
    `user ${JSON.stringify(user.name)} (groups=[${groups}]) is attempting to grant RBAC permissions not currently held:\n${missing.map(describe).join('\n')}`,
  );
}

/** The single permissions of rules that the user does not have. */
function covered(rules: PolicyRule[], r: AdmissionRequest): PolicyRule[] {
  const own = r.api.rbac.rulesFor(r.call.user, r.namespace);
  return rules.flatMap(singles).filter((single) => !own.some((rule) => covers(rule, single)));
}

function singles(rule: PolicyRule): PolicyRule[] {
  const out: PolicyRule[] = [];
  for (const verb of rule.verbs) {
    for (const url of rule.nonResourceURLs ?? []) out.push({ verbs: [verb], nonResourceURLs: [url] });
    for (const apiGroup of rule.apiGroups ?? []) {
      for (const resource of rule.resources ?? []) {
        if (!rule.resourceNames?.length) out.push({ verbs: [verb], apiGroups: [apiGroup], resources: [resource] });
        for (const name of rule.resourceNames ?? []) out.push({ verbs: [verb], apiGroups: [apiGroup], resources: [resource], resourceNames: [name] });
      }
    }
  }
  return out;
}

function covers(rule: PolicyRule, single: PolicyRule): boolean {
  const user = { name: '', groups: [] };
  const verb = single.verbs[0]!;
  if (single.nonResourceURLs)
    return ruleAllows(rule, { user, verb, path: single.nonResourceURLs[0]!, group: '', resource: '', subresource: '', namespace: '', name: '' });
  const [resource = '', subresource = ''] = single.resources![0]!.split('/');
  const wild = single.resources![0] === '*';
  if (wild && !rule.resources?.includes('*')) return false;
  if (single.apiGroups![0] === '*' && !rule.apiGroups?.includes('*')) return false;
  if (verb === '*' && !rule.verbs.includes('*')) return false;
  if (!single.resourceNames && rule.resourceNames?.length) return false;
  return ruleAllows(rule, { user, verb, group: single.apiGroups![0]!, resource, subresource, namespace: '', name: single.resourceNames?.[0] ?? '' });
}

function describe(rule: PolicyRule): string {
  const list = (values: string[]) => `[${values.map((v) => JSON.stringify(v)).join(' ')}]`;
  const parts: string[] = [];
  if (rule.apiGroups) parts.push(`APIGroups:${list(rule.apiGroups)}`);
  if (rule.resources) parts.push(`Resources:${list(rule.resources)}`);
  if (rule.resourceNames) parts.push(`ResourceNames:${list(rule.resourceNames)}`);
  if (rule.nonResourceURLs) parts.push(`NonResourceURLs:${list(rule.nonResourceURLs)}`);
  parts.push(`Verbs:${list(rule.verbs)}`);
  return `{${parts.join(', ')}}`;
}
