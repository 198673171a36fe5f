import { forbidden } from '../../api/errors.ts';
import type { Pod, PriorityClass, Toleration } from '../../api/generated/types.ts';
import type { AdmissionPlugin, AdmissionRequest } from './chain.ts';

const isPod = (r: AdmissionRequest) => r.group === '' && r.resource === 'pods' && !r.subresource && r.object !== undefined;

/** Pods leave a node that is not ready or not reachable after five minutes, unless they say otherwise. */
export const defaultTolerationSeconds: AdmissionPlugin = {
  name: 'DefaultTolerationSeconds',
  admit(request) {
    if (!isPod(request)) return;
    const { spec } = request.object as Pod;
    if (!spec) return;
    for (const key of ['node.kubernetes.io/not-ready', 'node.kubernetes.io/unreachable']) {
      const tolerated = (spec.tolerations ?? []).some((t) => (t.key === key || !t.key) && (!t.effect || t.effect === 'NoExecute'));
      if (tolerated) continue;
      const toleration: Toleration = { key, operator: 'Exists', effect: 'NoExecute', tolerationSeconds: 300 };
      spec.tolerations = [...(spec.tolerations ?? []), toleration];
    }
  },
};

/** Resolves priorityClassName to a number. */
export const priority: AdmissionPlugin = {
  name: 'Priority',
  async admit(request) {
    if (!isPod(request)) return;
    const pod = request.object as Pod;
    const { spec } = pod;
    if (!spec) return;
    if (request.operation === 'UPDATE') {
      // What creation computed stays; validation refuses any other change.
      const before = (request.old as Pod | undefined)?.spec;
      if (spec.priority === undefined && before?.priority !== undefined) spec.priority = before.priority;
      if (spec.preemptionPolicy === undefined && before?.preemptionPolicy !== undefined) spec.preemptionPolicy = before.preemptionPolicy;
      return;
    }
    const cache = request.api.registry.cache('scheduling.k8s.io', 'v1', 'priorityclasses');
    let chosen: PriorityClass | undefined;
    if (spec.priorityClassName) {
      await request.api.hub.current();
      chosen = cache.get(spec.priorityClassName)?.object as unknown as PriorityClass | undefined;
      if (!chosen) throw forbidden(request.call.target.subject, request.name, `no PriorityClass with name ${spec.priorityClassName} was found`);
    } else {
      // The lowest of several global defaults, as upstream.
      for (const entry of cache.entries.values()) {
        const candidate = entry.object as unknown as PriorityClass;
        if (candidate.globalDefault && (!chosen || (candidate.value ?? 0) < (chosen.value ?? 0))) chosen = candidate;
      }
      if (chosen) spec.priorityClassName = chosen.metadata.name!;
    }
    const value = chosen?.value ?? 0;
    if (spec.priority !== undefined && spec.priority !== value) {
      throw forbidden(
        request.call.target.subject,
        request.name,
        `the integer value of priority (${spec.priority}) must not be provided in pod spec; priority admission controller computed ${value} from the given PriorityClass name`,
      );
    }
    spec.priority = value;
    const policy = chosen?.preemptionPolicy ?? 'PreemptLowerPriority';
    if (spec.preemptionPolicy !== undefined && spec.preemptionPolicy !== policy) {
      throw forbidden(
        request.call.target.subject,
        request.name,
        `the string value of PreemptionPolicy (${spec.preemptionPolicy}) must not be provided in pod spec; priority admission controller computed ${policy} from the given PriorityClass name`,
      );
    }
    spec.preemptionPolicy = policy;
  },
};
