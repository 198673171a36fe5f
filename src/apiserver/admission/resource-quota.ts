import { forbidden } from '../../api/errors.ts';
import type { PersistentVolumeClaim, Pod, ResourceQuota, Service } from '../../api/generated/types.ts';
import { addQuantities, canonicalQuantity, compareQuantities } from '../../api/quantity.ts';
import type { AdmissionPlugin, AdmissionRequest } from './chain.ts';

type Usage = Record<string, string>;

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
  if (r.resource === 'pods' && r.group === '' && !inScope(r.object, quota)) return;
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
    if (r.resource === 'pods' && (isDone(object as unknown as Pod) || !inScope(object, quota))) continue;
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

const isDone = (pod: Pod) => pod.status?.phase === 'Succeeded' || pod.status?.phase === 'Failed';

function inScope(object: unknown, quota: ResourceQuota): boolean {
  const pod = object as Pod;
  const bestEffort = [...(pod.spec?.containers ?? []), ...(pod.spec?.initContainers ?? [])].every(
    (c) => !Object.keys(c.resources?.requests ?? {}).length && !Object.keys(c.resources?.limits ?? {}).length,
  );
  return (quota.spec?.scopes ?? []).every((scope) => {
    switch (scope) {
      case 'Terminating':
        return pod.spec?.activeDeadlineSeconds !== undefined;
      case 'NotTerminating':
        return pod.spec?.activeDeadlineSeconds === undefined;
      case 'BestEffort':
        return bestEffort;
      case 'NotBestEffort':
        return !bestEffort;
      default:
        return true;
    }
  });
}

/** What one object counts for, by the names that quotas use. */
function usageOf(r: AdmissionRequest, object: unknown): Usage {
  const usage: Usage = { [`count/${r.resource}${r.group ? `.${r.group}` : ''}`]: '1' };
  if (r.group !== '') return usage;
  usage[r.resource] = '1';
  if (r.resource === 'pods') podUsage(object as Pod, usage);
  if (r.resource === 'services') {
    const { spec } = object as Service;
    if (spec?.type === 'LoadBalancer') usage['services.loadbalancers'] = '1';
    if (spec?.type === 'NodePort' || spec?.type === 'LoadBalancer') usage['services.nodeports'] = String((spec.ports ?? []).length);
  }
  if (r.resource === 'persistentvolumeclaims') {
    const { spec } = object as PersistentVolumeClaim;
    const storage = (spec?.resources?.requests as Usage | undefined)?.['storage'];
    if (storage) usage['requests.storage'] = storage;
    if (spec?.storageClassName) {
      const prefix = `${spec.storageClassName}.storageclass.storage.k8s.io`;
      usage[`${prefix}/persistentvolumeclaims`] = '1';
      if (storage) usage[`${prefix}/requests.storage`] = storage;
    }
  }
  return usage;
}

function podUsage(pod: Pod, usage: Usage): void {
  for (const kind of ['requests', 'limits'] as const) {
    const total: Usage = {};
    for (const container of pod.spec?.containers ?? []) {
      for (const [name, value] of Object.entries((container.resources?.[kind] ?? {}) as Usage))
        total[name] = total[name] === undefined ? value : addQuantities(total[name], value);
    }
    for (const container of pod.spec?.initContainers ?? []) {
      for (const [name, value] of Object.entries((container.resources?.[kind] ?? {}) as Usage)) {
        if (total[name] === undefined || compareQuantities(value, total[name]) > 0) total[name] = value;
      }
    }
    for (const [name, value] of Object.entries(total)) {
      usage[`${kind}.${name}`] = value;
      if (kind === 'requests' && (name === 'cpu' || name === 'memory' || name === 'ephemeral-storage')) usage[name] = value;
    }
  }
}
