import { keyOf } from '../api/object.ts';
import type { Pod, PodAffinityTerm } from '../api/generated/types.ts';
import { type Amounts, podRequests, scoreRequests } from './requests.ts';

/** A pod with what scheduling reads of it again and again, computed once. */
export interface PodInfo {
  pod: Pod;
  key: string;
  uid: string;
  priority: number;
  requests: Amounts;
  /** CPU and memory as counted in scores: never zero. */
  score: { cpu: number; memory: number };
  hostPorts: HostPort[];
  affinity: PodAffinityTerm[];
  antiAffinity: PodAffinityTerm[];
  /** Names of the PersistentVolumeClaims, of generic ephemeral volumes too. */
  claims: string[];
}

export interface HostPort {
  ip: string;
  protocol: string;
  port: number;
}

const known = new WeakMap<Pod, PodInfo>();

export function podInfo(pod: Pod): PodInfo {
  let info = known.get(pod);
  if (!info) known.set(pod, (info = compute(pod)));
  return info;
}

function compute(pod: Pod): PodInfo {
  const { affinity } = pod.spec;
  return {
    pod,
    key: keyOf(pod),
    uid: pod.metadata.uid,
    priority: pod.spec.priority ?? 0,
    requests: podRequests(pod),
    score: scoreRequests(pod),
    hostPorts: hostPortsOf(pod),
    affinity: affinity?.podAffinity?.requiredDuringSchedulingIgnoredDuringExecution ?? [],
    antiAffinity: affinity?.podAntiAffinity?.requiredDuringSchedulingIgnoredDuringExecution ?? [],
    claims: claimsOf(pod),
  };
}

function hostPortsOf(pod: Pod): HostPort[] {
  const sidecars = (pod.spec.initContainers ?? []).filter((c) => c.restartPolicy === 'Always');
  return [...pod.spec.containers, ...sidecars].flatMap((c) =>
    (c.ports ?? []).filter((p) => p.hostPort).map((p) => ({ ip: p.hostIP || '0.0.0.0', protocol: p.protocol ?? 'TCP', port: p.hostPort! })),
  );
}

function claimsOf(pod: Pod): string[] {
  const names: string[] = [];
  for (const volume of pod.spec.volumes ?? []) {
    if (volume.persistentVolumeClaim) names.push(volume.persistentVolumeClaim.claimName);
    else if (volume.ephemeral) names.push(`${pod.metadata.name}-${volume.name}`);
  }
  return names;
}
