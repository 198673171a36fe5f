import type { Container, Pod } from '../api/generated/types.ts';
import { toBytes, toMilli } from '../api/quantity.ts';
import type { LinuxResources } from '../runtime/cri.ts';

export type QosClass = 'Guaranteed' | 'Burstable' | 'BestEffort';

const isZero = (quantity: string | undefined) => quantity === undefined || toMilli(quantity) === 0;

/** The pod's quality of service, by cpu and memory of its init and regular containers. */
export function qosClassOf(pod: Pod): QosClass {
  const all = [...(pod.spec.initContainers ?? []), ...pod.spec.containers];
  const pieces = pod.spec.resources ? [pod.spec.resources] : all.map((c) => c.resources);
  let any = false;
  let guaranteed = true;
  for (const resources of pieces)
    for (const name of ['cpu', 'memory']) {
      const request = resources?.requests?.[name] ?? resources?.limits?.[name];
      const limit = resources?.limits?.[name];
      if (!isZero(request) || !isZero(limit)) any = true;
      if (isZero(limit) || isZero(request) || toMilli(limit!) !== toMilli(request!)) guaranteed = false;
    }
  return !any ? 'BestEffort' : guaranteed ? 'Guaranteed' : 'Burstable';
}

const cpuPeriod = 100_000;
export const sharesFor = (milli: number): number => (milli <= 0 ? 2 : Math.min(262_144, Math.max(2, Math.floor((milli * 1024) / 1000))));
export const quotaFor = (milli: number): number => Math.max(1000, Math.floor((milli * cpuPeriod) / 1000));

const cpuOf = (c: Container) => toMilli(c.resources?.requests?.['cpu'] ?? c.resources?.limits?.['cpu'] ?? '0');

/** A container's cgroup limits. memoryCapacity (bytes) scales the OOM score of burstable pods. */
export function containerResources(pod: Pod, container: Container, memoryCapacity: number): LinuxResources {
  const limits = container.resources?.limits;
  const resources: LinuxResources = { cpuShares: sharesFor(cpuOf(container)), oomScoreAdj: oomScoreAdj(pod, container, memoryCapacity) };
  if (!isZero(limits?.['cpu'])) {
    resources.cpuPeriod = cpuPeriod;
    resources.cpuQuota = quotaFor(toMilli(limits!['cpu']!));
  }
  if (!isZero(limits?.['memory'])) resources.memoryLimitInBytes = toBytes(limits!['memory']!);
  return resources;
}

export function oomScoreAdj(pod: Pod, container: Container, memoryCapacity: number): number {
  if ((pod.spec.priority ?? 0) >= 2_000_000_000) return -997;
  const qos = qosClassOf(pod);
  if (qos === 'Guaranteed') return -997;
  if (qos === 'BestEffort') return 1000;
  const request = toBytes(container.resources?.requests?.['memory'] ?? container.resources?.limits?.['memory'] ?? '0');
  const score = 1000 - Math.floor((1000 * request) / Math.max(1, memoryCapacity));
  return Math.min(999, Math.max(3, score));
}

/** Limits of the pod's own cgroup: sums where every container has one; undefined members are unlimited. */
export function podResources(pod: Pod): { cpuShares: number; cpuQuota?: number; cpuPeriod?: number; memoryLimitInBytes?: number } {
  const sidecars = (pod.spec.initContainers ?? []).filter((c) => c.restartPolicy === 'Always');
  const running = [...pod.spec.containers, ...sidecars];
  const once = (pod.spec.initContainers ?? []).filter((c) => c.restartPolicy !== 'Always');
  const limitSum = (name: string, read: (q: string) => number): number | undefined => {
    const ofPod = pod.spec.resources?.limits?.[name];
    if (!isZero(ofPod)) return read(ofPod!);
    if ([...running, ...once].some((c) => isZero(c.resources?.limits?.[name]))) return undefined;
    const sum = (cs: Container[]) => cs.reduce((total, c) => total + read(c.resources!.limits![name]!), 0);
    return Math.max(sum(running), ...once.map((c) => read(c.resources!.limits![name]!)));
  };
  const requested = pod.spec.resources?.requests?.['cpu'];
  const cpu = requested
    ? toMilli(requested)
    : Math.max(
        running.reduce((t, c) => t + cpuOf(c), 0),
        ...once.map(cpuOf),
        0,
      );
  const cpuLimit = limitSum('cpu', toMilli);
  const memory = limitSum('memory', toBytes);
  return {
    cpuShares: sharesFor(cpu),
    ...(cpuLimit === undefined ? {} : { cpuQuota: quotaFor(cpuLimit), cpuPeriod }),
    ...(memory === undefined ? {} : { memoryLimitInBytes: memory }),
  };
}
