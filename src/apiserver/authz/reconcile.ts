import { sameJson } from '../../api/equality.ts';
import type { ClusterRole, PolicyRule } from '../../api/generated/types.ts';
import type { KubeObject } from '../../api/object.ts';
import type { Client } from '../../client/client.ts';
import type { ResourceType } from '../../api/object.ts';
import { defaultClusterRoleBindings, defaultClusterRoles, defaultRoleBindings, defaultRoles } from './default-roles.ts';
import { aggregate } from './rbac.ts';

const group = 'rbac.authorization.k8s.io';
const type = (resource: string, kind: string, namespaced: boolean): ResourceType => ({ group, version: 'v1', resource, kind, namespaced });
const autoupdate = 'rbac.authorization.kubernetes.io/autoupdate';

type WithRules = KubeObject & { rules?: PolicyRule[]; subjects?: unknown[]; aggregationRule?: unknown };

/** Creates the default roles and bindings, and gives existing ones what they lack, unless they say autoupdate=false. */
export async function reconcileDefaultRoles(client: Client): Promise<void> {
  const clusterRoles = defaultClusterRoles.map((role) =>
    role.aggregationRule ? { ...role, rules: aggregate(role, defaultClusterRoles) } : role,
  ) as ClusterRole[];
  await Promise.all([
    ...clusterRoles.map((o) => ensure(client, type('clusterroles', 'ClusterRole', false), o as unknown as WithRules)),
    ...defaultClusterRoleBindings.map((o) => ensure(client, type('clusterrolebindings', 'ClusterRoleBinding', false), o as unknown as WithRules)),
    ...defaultRoles.map((o) => ensure(client, type('roles', 'Role', true), o as unknown as WithRules)),
    ...defaultRoleBindings.map((o) => ensure(client, type('rolebindings', 'RoleBinding', true), o as unknown as WithRules)),
  ]);
}

async function ensure(client: Client, resource: ResourceType, wanted: WithRules): Promise<void> {
  const key = { name: wanted.metadata.name!, ...(wanted.metadata.namespace ? { namespace: wanted.metadata.namespace } : {}) };
  let found: WithRules;
  try {
    found = (await client.get(resource, key)) as WithRules;
  } catch (error) {
    if ((error as { reason?: string }).reason !== 'NotFound') throw error;
    await client.create(resource, wanted as never);
    return;
  }
  if (found.metadata.annotations?.[autoupdate] === 'false') return;
  const missing = <T>(has: T[] | undefined, wants: T[] | undefined) => (wants ?? []).filter((w) => !(has ?? []).some((h) => sameJson(h, w)));
  // Aggregated rules are added to, not replaced: labels of other roles bring more.
  const rules = missing(found.rules, wanted.rules);
  const subjects = missing(found.subjects, wanted.subjects);
  const labels = Object.entries(wanted.metadata.labels ?? {}).some(([k, v]) => found.metadata.labels?.[k] !== v);
  if (!rules.length && !subjects.length && !labels && sameJson(found.aggregationRule, wanted.aggregationRule)) return;
  const next = {
    ...found,
    metadata: {
      ...found.metadata,
      labels: { ...found.metadata.labels, ...wanted.metadata.labels },
      annotations: { ...found.metadata.annotations, ...wanted.metadata.annotations },
    },
    ...(wanted.rules ? { rules: [...(found.rules ?? []), ...rules] } : {}),
    ...(wanted.subjects ? { subjects: [...(found.subjects ?? []), ...subjects] } : {}),
    ...(wanted.aggregationRule ? { aggregationRule: wanted.aggregationRule } : {}),
  };
  await client.update(resource, next as never);
}
