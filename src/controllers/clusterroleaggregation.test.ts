import { afterEach, describe, expect, test } from 'vitest';
import type { ClusterRole } from '../api/generated/types.ts';
import { resources } from '../api/generated/resources.ts';
import { startClusterRoleAggregationController } from './clusterroleaggregation.ts';
import { type Bench, backends } from './testing/backends.ts';
import { eventually } from './testing.ts';

let bench: Bench;
afterEach(() => bench?.stop());

const rule = (resource: string) => ({ apiGroups: ['example.com'], resources: [resource], verbs: ['get'] });

describe.each(backends)('aggregation of ClusterRoles on $name', ({ open }) => {
  const rules = async () => ((await bench.get<ClusterRole>(resources.clusterroles, 'sum')).rules ?? []).map((r) => r.resources![0]);

  test('the rules follow the roles that the selectors match', async () => {
    bench = await open();
    startClusterRoleAggregationController(bench.as('clusterrole-aggregation-controller'));
    await bench.create(resources.clusterroles, { metadata: { name: 'b', labels: { to: 'sum' } }, rules: [rule('bs'), rule('shared')] });
    await bench.create(resources.clusterroles, { metadata: { name: 'other' }, rules: [rule('others')] });
    await bench.create(resources.clusterroles, {
      metadata: { name: 'sum' },
      aggregationRule: { clusterRoleSelectors: [{ matchLabels: { to: 'sum' } }] },
      rules: [rule('by-hand')],
    });
    await eventually('the rules', async () => (await rules()).join() === 'bs,shared');
    await bench.create(resources.clusterroles, { metadata: { name: 'a', labels: { to: 'sum' } }, rules: [rule('shared'), rule('as')] });
    await eventually('both', async () => (await rules()).join() === 'shared,as,bs');
    await bench.patch(resources.clusterroles, 'a', { metadata: { labels: { to: null } } });
    await eventually('one', async () => (await rules()).join() === 'bs,shared');
    await bench.remove(resources.clusterroles, 'b');
    await eventually('none', async () => (await rules()).length === 0);
    expect((await bench.get<ClusterRole>(resources.clusterroles, 'other')).rules).toEqual([rule('others')]);
  });
});
