import type { ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject } from '../../api/generated/types.ts';
import { labelSelectorMatches } from '../../api/selectors.ts';
import { serviceAccountName, type UserInfo } from '../authn/user.ts';
import type { Registry } from '../registry.ts';
import type { ResourceCache } from '../storage/cache.ts';
import type { Attributes, Decision } from './authorizer.ts';

interface Binding {
  /** For the reason: `ClusterRoleBinding "x"`. */
  described: string;
  role: RoleRef;
  subject: Subject;
}

const group = 'rbac.authorization.k8s.io';

/** Role bindings by the users and groups they name, kept current by the caches. */
export class RbacIndex {
  #roles: ResourceCache;
  #clusterRoles: ResourceCache;
  /** Namespace ('' for cluster bindings) and subject to bindings. */
  #bindings = new Map<string, Map<string, Binding[]>>();
  #aggregates = new Map<string, PolicyRule[]>();
  #aggregatedAt = -1;

  constructor(registry: Registry) {
    this.#roles = registry.cache(group, 'v1', 'roles');
    this.#clusterRoles = registry.cache(group, 'v1', 'clusterroles');
    for (const resource of ['rolebindings', 'clusterrolebindings']) {
      const cache = registry.cache(group, 'v1', resource);
      for (const entry of cache.entries.values()) this.#add(entry.key, entry.object as unknown as RoleBinding);
      cache.onChange(({ entry, previous, deleted }) => {
        if (previous) this.#remove(entry.key, previous.object as unknown as RoleBinding);
        if (!deleted) this.#add(entry.key, entry.object as unknown as RoleBinding);
      });
    }
  }

  #add(key: string, binding: RoleBinding | ClusterRoleBinding): void {
    const namespace = binding.metadata.namespace ?? '';
    const described = namespace ? `RoleBinding "${binding.metadata.name}/${namespace}"` : `ClusterRoleBinding "${binding.metadata.name}"`;
    let bySubject = this.#bindings.get(namespace);
    if (!bySubject) this.#bindings.set(namespace, (bySubject = new Map()));
    for (const subject of binding.subjects ?? []) {
      const id = subjectId(subject, namespace);
      const held: Binding & { key: string } = { described, role: binding.roleRef, subject, key };
      const list = bySubject.get(id);
      if (list) list.push(held);
      else bySubject.set(id, [held]);
    }
  }

  #remove(key: string, binding: RoleBinding | ClusterRoleBinding): void {
    const namespace = binding.metadata.namespace ?? '';
    const bySubject = this.#bindings.get(namespace);
    if (!bySubject) return;
    for (const subject of binding.subjects ?? []) {
      const id = subjectId(subject, namespace);
      const left = (bySubject.get(id) ?? []).filter((b) => (b as Binding & { key: string }).key !== key);
      if (left.length > 0) bySubject.set(id, left);
      else bySubject.delete(id);
    }
    if (bySubject.size === 0) this.#bindings.delete(namespace);
  }

  /** The rules of the role that a binding names; undefined where there is no such role. */
  roleRules(ref: RoleRef, namespace: string): PolicyRule[] | undefined {
    if (ref.kind !== 'ClusterRole') {
      const entry = this.#roles.get(`${namespace}/${ref.name}`);
      return entry && ((entry.object as unknown as Role).rules ?? []);
    }
    const role = this.#clusterRoles.get(ref.name)?.object as unknown as ClusterRole | undefined;
    if (!role) return undefined;
    return role.aggregationRule ? this.#aggregated(role) : (role.rules ?? []);
  }

  /** An aggregated role holds what the roles that its selectors find hold, also before a controller has written that down. */
  #aggregated(role: ClusterRole): PolicyRule[] {
    if (this.#aggregatedAt !== this.#clusterRoles.lastChange) {
      this.#aggregates.clear();
      this.#aggregatedAt = this.#clusterRoles.lastChange;
    }
    const name = role.metadata.name ?? '';
    const known = this.#aggregates.get(name);
    if (known) return known;
    const all = this.#clusterRoles.list().map((e) => e.object as unknown as ClusterRole);
    const rules = aggregate(role, all);
    this.#aggregates.set(name, rules);
    return rules;
  }

  /** Calls visit with every rule that holds for the user in the namespace, until it answers true. */
  visit(user: UserInfo, namespace: string, visit: (rule: PolicyRule, binding: Binding) => boolean): boolean {
    const ids = [`User ${user.name}`, ...user.groups.map((g) => `Group ${g}`)];
    for (const scope of namespace ? ['', namespace] : ['']) {
      const bySubject = this.#bindings.get(scope);
      if (!bySubject) continue;
      for (const id of ids) {
        for (const binding of bySubject.get(id) ?? []) {
          for (const rule of this.roleRules(binding.role, scope) ?? []) if (visit(rule, binding)) return true;
        }
      }
    }
    return false;
  }

  rulesFor(user: UserInfo, namespace: string): PolicyRule[] {
    const rules: PolicyRule[] = [];
    this.visit(user, namespace, (rule) => {
      rules.push(rule);
      return false;
    });
    return rules;
  }

  authorize(a: Attributes): Decision | undefined {
    let reason = '';
    const allowed = this.visit(a.user, a.namespace, (rule, binding) => {
      if (!ruleAllows(rule, a)) return false;
      const { subject, role } = binding;
      const who = subject.kind === 'ServiceAccount' ? `"${subject.name}/${subject.namespace}"` : `"${subject.name}"`;
      reason = `RBAC: allowed by ${binding.described} of ${role.kind} "${role.name}" to ${subject.kind} ${who}`;
      return true;
    });
    return allowed ? { allowed: true, reason } : undefined;
  }
}

/** The rules that a role's aggregation gathers from all roles, aggregated ones among them, each rule once. */
export function aggregate(role: ClusterRole, all: ClusterRole[], seen = new Set<string>()): PolicyRule[] {
  const rules = new Map<string, PolicyRule>();
  seen.add(role.metadata.name ?? '');
  for (const other of all) {
    const name = other.metadata.name ?? '';
    if (seen.has(name)) continue;
    if (!role.aggregationRule?.clusterRoleSelectors?.some((s) => labelSelectorMatches(s as never, other.metadata.labels))) continue;
    const more = other.aggregationRule ? aggregate(other, all, new Set(seen)) : (other.rules ?? []);
    for (const rule of more) rules.set(JSON.stringify(rule), rule);
  }
  return [...rules.values()];
}

function subjectId(subject: Subject, namespace: string): string {
  if (subject.kind === 'ServiceAccount') return `User ${serviceAccountName(subject.namespace ?? namespace, subject.name)}`;
  return `${subject.kind} ${subject.name}`;
}

export function ruleAllows(rule: PolicyRule, a: Attributes): boolean {
  if (!matches(rule.verbs, a.verb)) return false;
  if (a.path !== undefined) {
    return (rule.nonResourceURLs ?? []).some((url) => url === '*' || url === a.path || (url.endsWith('*') && a.path!.startsWith(url.slice(0, -1))));
  }
  if (!matches(rule.apiGroups, a.group)) return false;
  const combined = a.subresource ? `${a.resource}/${a.subresource}` : a.resource;
  const resources = rule.resources ?? [];
  const resource = resources.some((r) => r === '*' || r === combined || (a.subresource !== '' && r === `*/${a.subresource}`));
  if (!resource) return false;
  return !rule.resourceNames?.length || rule.resourceNames.includes(a.name);
}

const matches = (list: string[] | undefined, value: string) => list !== undefined && (list.includes(value) || list.includes('*'));
