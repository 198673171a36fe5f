import { forbidden } from '../../api/errors.ts';
import type { ResourceQuota } from '../../api/generated/types.ts';
import { addQuantities, canonicalQuantity, compareQuantities } from '../../api/quantity.ts';
import { isInScope, type Usage, usageOf } from '../../api/quota.ts';
import { keyFor } from '../api.ts';
import type { AdmissionPlugin, AdmissionRequest } from './chain.ts';

/** An object that was let through and is not in the caches yet. */
interface Admitted {
  object: any;
  until: number;
}

/** How long an object that was let through counts although it does not appear: its creation failed then. */
const admittedMs = 5000;
/** By the cache of the resource, then by namespace/name. */
const admitted = new WeakMap<object, Map<string, Admitted>>();

/**
 * Refuses what would exceed the namespace's quotas. What is used is counted from the objects themselves and those on their
 * way, so that it needs no controller. API servers that share a store do not see what is on its way in another.
 */
export const resourceQuota: AdmissionPlugin = {
  name: 'ResourceQuota',
  async validate(r) {
    if (r.operation !== 'CREATE' || r.subresource || !r.namespace || !r.call.target.storage) return;
    const cache = r.api.registry.cache('', 'v1', 'resourcequotas');
    const quotas = cache.list(r.namespace).map((e) => e.object as unknown as ResourceQuota);
    if (quotas.length === 0) return;
    await r.api.hub.current(r.call.signal);
    // Nothing awaits from here on: of several at once, each counts those before it.
    const coming = onTheirWay(r);
    for (const quota of quotas) check(r, quota, coming);
    if (!r.call.dryRun) remember(r);
  },
};

function onTheirWay(r: AdmissionRequest): any[] {
  const { cache } = r.call.target.storage!;
  const waiting = admitted.get(cache);
  if (!waiting) return [];
  const now = r.api.clock.now();
  const coming: any[] = [];
  for (const [key, { object, until }] of waiting) {
    if (until < now) waiting.delete(key);
    else if (object.metadata.namespace === r.namespace) coming.push(object);
  }
  return coming;
}

function remember(r: AdmissionRequest): void {
  const { cache } = r.call.target.storage!;
  let waiting = admitted.get(cache);
  if (!waiting) {
    const fresh = new Map<string, Admitted>();
    // From the moment the cache has it, it counts there, and when it goes it goes from there.
    cache.onChange(({ entry }) => fresh.delete(entry.key));
    admitted.set(cache, (waiting = fresh));
  }
  waiting.set(keyFor(r.namespace, r.object.metadata.name), { object: r.object, until: r.api.clock.now() + admittedMs });
}

function check(r: AdmissionRequest, quota: ResourceQuota, coming: any[]): void {
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
  const there = r.call.target.storage!.cache.list(r.namespace).map((entry) => entry.object as any);
  for (const object of [...there, ...coming]) {
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
