import type { ClusterRole, PolicyRule } from '../api/generated/types.ts';
import { resources } from '../api/generated/resources.ts';
import { labelSelectorMatches } from '../api/selectors.ts';
import { semanticEqual } from './canonical.ts';
import type { Controller, ControllerContext } from './controller.ts';
import { startReconciler } from './reconciler.ts';

/** ClusterRoles with an aggregationRule: their rules are those of the roles that it selects. Watches ClusterRoles. */
export function startClusterRoleAggregationController(context: ControllerContext): Controller {
  const { client, informers } = context;
  const roles = informers.informer(resources.clusterroles);
  roles.addIndex('aggregating', (role) => (role.aggregationRule ? ['all'] : []));
  const loop = startReconciler(context, { name: 'clusterrole-aggregation-controller', workers: 5, waitFor: [roles], reconcile });
  const enqueue = (role: ClusterRole) => {
    if (role.aggregationRule) loop.enqueue(role.metadata.name);
    for (const above of roles.byIndex('aggregating', 'all')) if (selects(above, role)) loop.enqueue(above.metadata.name);
  };
  roles.addHandlers({
    onAdd: enqueue,
    onUpdate(before, after) {
      if (!semanticEqual(before.metadata.labels, after.metadata.labels)) enqueue(before);
      enqueue(after);
    },
    onDelete: enqueue,
  });
  return loop;

  async function reconcile(name: string): Promise<void> {
    const role = roles.get(name);
    if (!role?.aggregationRule) return;
    const rules: PolicyRule[] = [];
    const all = roles.list().sort((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1));
    for (const selector of role.aggregationRule.clusterRoleSelectors ?? []) {
      for (const source of all) {
        if (source.metadata.name === name || !labelSelectorMatches(selector, source.metadata.labels)) continue;
        for (const rule of source.rules ?? []) if (!rules.some((r) => semanticEqual(r, rule))) rules.push(rule);
      }
    }
    if (semanticEqual(rules, role.rules)) return;
    await client.update(resources.clusterroles, { ...role, rules }, { fieldManager: 'clusterrole-aggregation-controller' });
  }
}

const selects = (above: ClusterRole, role: ClusterRole): boolean =>
  (above.aggregationRule?.clusterRoleSelectors ?? []).some((s) => labelSelectorMatches(s, role.metadata.labels));
