import { forbidden } from '../../api/errors.ts';
import type { Pod, RuntimeClass, Toleration } from '../../api/generated/types.ts';
import type { AdmissionPlugin, AdmissionRequest } from './chain.ts';

/** A pod of a RuntimeClass gets its overhead and the nodes that have it. One of a class that does not exist is refused. */
export const runtimeClass: AdmissionPlugin = {
  name: 'RuntimeClass',
  async admit(request) {
    if (!isNewPod(request)) return;
    const found = await classOf(request);
    if (!found) return;
    const { spec } = request.object as Pod;
    if (found.overhead?.podFixed) {
      if (spec.overhead && !sameQuantities(spec.overhead, found.overhead.podFixed))
        throw refusal(request, "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead");
      spec.overhead = structuredClone(found.overhead.podFixed) as typeof spec.overhead;
    }
    const { nodeSelector, tolerations } = found.scheduling ?? {};
    for (const [key, value] of Object.entries(nodeSelector ?? {})) {
      const own = spec.nodeSelector?.[key];
      if (own !== undefined && own !== value) {
        throw refusal(request, `conflict: runtimeClass.scheduling.nodeSelector[${key}] = ${value}; pod.spec.nodeSelector[${key}] = ${own}`);
      }
      spec.nodeSelector = { ...spec.nodeSelector, [key]: value };
    }
    if (tolerations?.length) spec.tolerations = merged(spec.tolerations ?? [], tolerations);
  },
  async validate(request) {
    if (!isNewPod(request)) return;
    const found = await classOf(request);
    const { spec } = request.object as Pod;
    if (spec.overhead && !found?.overhead) throw refusal(request, 'pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead');
  },
};

const isNewPod = (r: AdmissionRequest) => r.group === '' && r.resource === 'pods' && !r.subresource && r.operation === 'CREATE' && r.object?.spec;
const refusal = (r: AdmissionRequest, why: string) => forbidden(r.call.target.subject, r.name, why);

async function classOf(request: AdmissionRequest): Promise<RuntimeClass | undefined> {
  const name = (request.object as Pod).spec.runtimeClassName;
  if (!name) return undefined;
  const cache = request.api.registry.cache('node.k8s.io', 'v1', 'runtimeclasses');
  if (!cache.get(name)) await request.api.hub.current(request.call.signal);
  const found = cache.get(name)?.object as unknown as RuntimeClass | undefined;
  if (!found) throw refusal(request, `pod rejected: RuntimeClass "${name}" not found`);
  return found;
}

const sameQuantities = (a: Record<string, unknown>, b: Record<string, unknown>) =>
  Object.keys({ ...a, ...b }).every((key) => String(a[key]) === String(b[key]));

function merged(own: Toleration[], more: Toleration[]): Toleration[] {
  const key = (t: Toleration) => JSON.stringify([t.key, t.operator ?? 'Equal', t.value ?? '', t.effect ?? '', t.tolerationSeconds]);
  const known = new Set(own.map(key));
  return [...own, ...more.filter((t) => !known.has(key(t)))];
}
