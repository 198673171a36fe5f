import type { Container, PersistentVolumeClaim, Pod, ResourceQuota, ResourceRequirements, Service } from './generated/types.ts';
import { addQuantities, compareQuantities } from './quantity.ts';

/** Amounts by the names that ResourceQuotas use. */
export type Usage = Record<string, string>;

interface Resource {
  group: string;
  resource: string;
}

const core = (resource: string): Resource => ({ group: '', resource });
const counted = ['pods', 'services', 'secrets', 'configmaps', 'replicationcontrollers', 'resourcequotas', 'persistentvolumeclaims', 'resourceclaims'];

/** The resource whose objects a name counts. */
export function resourceCountedBy(name: string): Resource {
  const count = /^count\/([^.]+)(?:\.(.+))?$/.exec(name);
  if (count) return { group: count[2] ?? '', resource: count[1]! };
  if (counted.includes(name)) return core(name);
  if (name.startsWith('services.')) return core('services');
  if (name === 'requests.storage' || name.includes('.storageclass.storage.k8s.io/')) return core('persistentvolumeclaims');
  return core('pods');
}

const qualified = ({ group, resource }: Resource) => (group ? `${resource}.${group}` : resource);

/** What one object counts for. */
export function usageOf(type: Resource, object: unknown): Usage {
  const usage: Usage = { [`count/${qualified(type)}`]: '1' };
  if (type.group !== '') return usage;
  if (type.resource === 'pods') return { ...usage, ...podUsage(object as Pod) };
  usage[type.resource] = '1';
  if (type.resource === 'services') {
    const { type: kind, ports = [], allocateLoadBalancerNodePorts } = (object as Service).spec ?? {};
    if (kind === 'LoadBalancer') usage['services.loadbalancers'] = '1';
    const nodePorts = allocateLoadBalancerNodePorts === false ? ports.filter((p) => p.nodePort) : ports;
    if (kind === 'NodePort' || kind === 'LoadBalancer') usage['services.nodeports'] = String((kind === 'NodePort' ? ports : nodePorts).length);
  }
  if (type.resource === 'persistentvolumeclaims') {
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

/** An ended pod takes nothing any more but its place in the store. */
function podUsage(pod: Pod): Usage {
  const { phase } = pod.status ?? {};
  if (phase === 'Succeeded' || phase === 'Failed') return {};
  const usage: Usage = { pods: '1' };
  for (const kind of ['requests', 'limits'] as const) {
    for (const [name, value] of Object.entries(podResources(pod, kind))) {
      usage[`${kind}.${name}`] = value;
      if (kind === 'requests' && /^(cpu|memory|ephemeral-storage|hugepages-.*)$/.test(name)) usage[name] = value;
    }
  }
  return usage;
}

/** What a pod asks for or is limited to: its containers together, or what its start needs where that is more, and its overhead. */
export function podResources(pod: Pod, kind: 'requests' | 'limits'): Usage {
  const of = (c: { resources?: ResourceRequirements }) => (c.resources?.[kind] ?? {}) as Usage;
  const add = (a: Usage, b: Usage): Usage => {
    const sum = { ...a };
    for (const [name, value] of Object.entries(b)) sum[name] = sum[name] === undefined ? value : addQuantities(sum[name], value);
    return sum;
  };
  const most = (a: Usage, b: Usage): Usage => {
    const larger = { ...a };
    for (const [name, value] of Object.entries(b)) {
      if (larger[name] === undefined || compareQuantities(value, larger[name]) > 0) larger[name] = value;
    }
    return larger;
  };
  let running: Usage = {};
  for (const container of pod.spec?.containers ?? []) running = add(running, of(container));
  let sidecars: Usage = {};
  let starting: Usage = {};
  for (const container of (pod.spec?.initContainers ?? []) as Container[]) {
    if (container.restartPolicy === 'Always') {
      sidecars = add(sidecars, of(container));
      running = add(running, of(container));
      starting = most(starting, sidecars);
    } else starting = most(starting, add(sidecars, of(container)));
  }
  let total = most(running, starting);
  // What the pod says as a whole holds for what it names.
  total = { ...total, ...((pod.spec?.resources?.[kind] ?? {}) as Usage) };
  const overhead = (pod.spec?.overhead ?? {}) as Usage;
  if (kind === 'requests') return add(total, overhead);
  // An overhead does not make a limit where there is none.
  return add(total, Object.fromEntries(Object.entries(overhead).filter(([name]) => total[name] !== undefined)));
}

function isBestEffort(pod: Pod): boolean {
  const asks = (c: { resources?: ResourceRequirements }) =>
    [...Object.keys(c.resources?.requests ?? {}), ...Object.keys(c.resources?.limits ?? {})].some((n) => n === 'cpu' || n === 'memory');
  return ![...(pod.spec?.containers ?? []), ...(pod.spec?.initContainers ?? []), pod.spec ?? {}].some(asks);
}

const hasCrossNamespaceAffinity = (pod: Pod): boolean => {
  const { podAffinity, podAntiAffinity } = pod.spec?.affinity ?? {};
  return [podAffinity, podAntiAffinity].some((affinity) => {
    const terms = [
      ...(affinity?.requiredDuringSchedulingIgnoredDuringExecution ?? []),
      ...(affinity?.preferredDuringSchedulingIgnoredDuringExecution ?? []).map((w) => w.podAffinityTerm),
    ];
    return terms.some((term) => term.namespaces?.length || term.namespaceSelector !== undefined);
  });
};

/** Whether the quota's scopes take in the object. Scopes are about pods; other objects a quota with scopes does not count. */
export function isInScope(quota: ResourceQuota, type: Resource, object: unknown): boolean {
  const scopes = (quota.spec?.scopes ?? []).map((scopeName) => ({ scopeName, operator: 'Exists', values: undefined as string[] | undefined }));
  const expressions = quota.spec?.scopeSelector?.matchExpressions ?? [];
  if (!scopes.length && !expressions.length) return true;
  if (type.group !== '' || type.resource !== 'pods') return false;
  const pod = object as Pod;
  return [...scopes, ...expressions].every(({ scopeName, operator, values = [] }) => {
    switch (scopeName) {
      case 'Terminating':
        return pod.spec?.activeDeadlineSeconds !== undefined;
      case 'NotTerminating':
        return pod.spec?.activeDeadlineSeconds === undefined;
      case 'BestEffort':
        return isBestEffort(pod);
      case 'NotBestEffort':
        return !isBestEffort(pod);
      case 'CrossNamespacePodAffinity':
        return hasCrossNamespaceAffinity(pod);
      case 'PriorityClass': {
        const name = pod.spec?.priorityClassName;
        if (operator === 'Exists') return !!name;
        if (operator === 'DoesNotExist') return !name;
        return operator === 'In' ? !!name && values.includes(name) : !name || !values.includes(name);
      }
      default:
        return false;
    }
  });
}
