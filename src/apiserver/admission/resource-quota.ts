import { forbidden } from '../../api/errors.ts';
import type { ResourceQuota } from '../../api/generated/types.ts';
import { addQuantities, canonicalQuantity, compareQuantities } from '../../api/quantity.ts';
import { isInScope, type Usage, usageOf } from '../../api/quota.ts';
import type { AdmissionPlugin, AdmissionRequest } from './chain.ts';

/**
 * Refuses what would exceed the namespace's quotas. What is used is counted from the objects themselves, so that it needs
 * no controller; two creations at the same instant may both fit where only one does.
 */
export const resourceQuota: AdmissionPlugin = {
  name: 'ResourceQuota',
  async validate(r) {
    if (r.operation !== 'CREATE' || r.subresource || !r.namespace || !r.call.target.storage) return;
    const cache = r.api.registry.cache('', 'v1', 'resourcequotas');
    const quotas = cache.list(r.namespace).map((e) => e.object as unknown as ResourceQuota);
    if (quotas.length === 0) return;
    await r.api.hub.current(r.call.signal);
    for (const quota of quotas) check(r, quota);
  },
};

function check(r: AdmissionRequest, quota: ResourceQuota): void {
  const hard = (quota.spec?.hard ?? {}) as Usage;
  if (!isInScope(quota, r, r.object)) return;
  const wanted = usageOf(r, r.object);
  const exceeded: { name: string; used: string }[] = [];
  const names = Object.keys(hard).filter((name) => wanted[name] !== undefined);
  if (r.group === '' && r.resource === 'pods') {
    // A quota on computing means that every pod must say what it takes.
    const missing = Object.keys(hard).filter((n) => /^(requests\.|limits\.)?(cpu|memory)$/.test(n) && wanted[n] === undefined);
    if (missing.length > 0)
      throw forbidden(
        r.call.target.subject,
        r.object.metadata.name ?? '',
        `failed quota: ${quota.metadata.name}: must specify ${missing.sort().join(',')}`,
      );
  }
  if (names.length === 0) return;
  const used: Usage = {};
  for (const { object } of r.call.target.storage!.cache.list(r.namespace)) {
    if (!isInScope(quota, r, object)) continue;
    const one = usageOf(r, object);
    for (const name of names) used[name] = addQuantities(used[name] ?? '0', one[name] ?? '0');
  }
  for (const name of names) {
    if (compareQuantities(addQuantities(used[name] ?? '0', wanted[name]!), hard[name]!) > 0)
      exceeded.push({ name, used: canonicalQuantity(used[name] ?? '0') });
  }
  if (exceeded.length === 0) return;
  const shown = (values: Usage) =>
    exceeded
      .map(({ name }) => `${name}=${values[name]}`)
      .sort()
      .join(',');
  const usedShown = Object.fromEntries(exceeded.map((e) => [e.name, e.used]));
  throw forbidden(
    r.call.target.subject,
    r.object.metadata.name ?? '',
    `exceeded quota: ${quota.metadata.name}, requested: ${shown(wanted)}, used: ${shown(usedShown)}, limited: ${shown(hard)}`,
  );
}
