import type { Container, ContainerStatus, Pod, PodCondition } from '../api/generated/types.ts';
import { configMirrorAnnotation, configSourceAnnotation } from './labels.ts';

export type ContainerKind = 'init' | 'regular' | 'ephemeral';
/** One container of a pod's spec and where it stands there. Ephemeral containers have all the fields of others. */
export interface PodContainer {
  kind: ContainerKind;
  index: number;
  spec: Container;
  /** For ephemeral containers: whose process namespace to join. */
  target?: string;
}

export function containersOf(pod: Pod): PodContainer[] {
  return [
    ...(pod.spec.initContainers ?? []).map((spec, index): PodContainer => ({ kind: 'init', index, spec })),
    ...pod.spec.containers.map((spec, index): PodContainer => ({ kind: 'regular', index, spec })),
    ...(pod.spec.ephemeralContainers ?? []).map(
      (spec, index): PodContainer => ({ kind: 'ephemeral', index, spec, ...(spec.targetContainerName ? { target: spec.targetContainerName } : {}) }),
    ),
  ];
}

export const containerNamed = (pod: Pod, name: string): PodContainer | undefined => containersOf(pod).find((c) => c.spec.name === name);

/** A sidecar: an init container that goes on running beside the others. */
export const isSidecar = (container: Container): boolean => container.restartPolicy === 'Always';

export const isStaticPod = (pod: Pod): boolean => {
  const source = pod.metadata.annotations?.[configSourceAnnotation];
  return source !== undefined && source !== 'api';
};
export const isMirrorPod = (pod: Pod): boolean => pod.metadata.annotations?.[configMirrorAnnotation] !== undefined;

export const isTerminal = (phase: string | undefined): boolean => phase === 'Succeeded' || phase === 'Failed';

export const findCondition = (conditions: readonly PodCondition[] | undefined, type: string): PodCondition | undefined =>
  conditions?.find((c) => c.type === type);

export function containerStatusNamed(pod: Pod, name: string): ContainerStatus | undefined {
  const status = pod.status;
  return [...(status?.initContainerStatuses ?? []), ...(status?.containerStatuses ?? []), ...(status?.ephemeralContainerStatuses ?? [])].find(
    (s) => s.name === name,
  );
}

/** `name_namespace(uid)` as the kubelet's messages name a pod. */
export const describePod = (pod: Pod): string => `${pod.metadata.name}_${pod.metadata.namespace}(${pod.metadata.uid})`;

/** Milliseconds since the epoch as metav1.Time writes it. */
export const formatTime = (ms: number): string => `${new Date(ms).toISOString().slice(0, 19)}Z`;
export const formatMicroTime = (ms: number): string => `${new Date(ms).toISOString().slice(0, 23)}000Z`;

/** The numeric form of a port that may be named after one of the container's ports. */
export function resolvePort(port: number | string, container: Container): number {
  if (typeof port === 'number') return port;
  const named = container.ports?.find((p) => p.name === port);
  const number = named?.containerPort ?? Number(port);
  if (!Number.isInteger(number) || number <= 0 || number > 65535) throw new Error(`couldn't find port: ${port} in container ${container.name}`);
  return number;
}
