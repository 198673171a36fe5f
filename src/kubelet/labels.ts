import { createHash } from 'node:crypto';
import type { Container, Pod } from '../api/generated/types.ts';

/**
 * Labels and annotations the kubelet puts on sandboxes and containers, by which it knows its own again after a restart.
 * The names are the upstream kubelet's, so that crictl and log collectors understand them; nodeLabel is ours.
 */
export const podNameLabel = 'io.kubernetes.pod.name';
export const podNamespaceLabel = 'io.kubernetes.pod.namespace';
export const podUidLabel = 'io.kubernetes.pod.uid';
export const containerNameLabel = 'io.kubernetes.container.name';
/** Whose sandboxes these are: the node's name. A kubelet leaves alone whatever lacks it. */
export const nodeLabel = 'io.kumulus.node';

export const hashAnnotation = 'io.kubernetes.container.hash';
export const restartCountAnnotation = 'io.kubernetes.container.restartCount';
export const terminationMessagePathAnnotation = 'io.kubernetes.container.terminationMessagePath';
export const terminationMessagePolicyAnnotation = 'io.kubernetes.container.terminationMessagePolicy';
/** The container's resources as its spec had them when it was made; ours. */
export const resourcesAnnotation = 'io.kumulus.container.resources';
export const podGraceAnnotation = 'io.kubernetes.pod.terminationGracePeriod';
export const configSourceAnnotation = 'kubernetes.io/config.source';
export const configHashAnnotation = 'kubernetes.io/config.hash';
export const configMirrorAnnotation = 'kubernetes.io/config.mirror';

export function sandboxLabels(pod: Pod, nodeName: string): Record<string, string> {
  return {
    ...pod.metadata.labels,
    [podNameLabel]: pod.metadata.name,
    [podNamespaceLabel]: pod.metadata.namespace,
    [podUidLabel]: pod.metadata.uid,
    [nodeLabel]: nodeName,
  };
}

export function sandboxAnnotations(pod: Pod): Record<string, string> {
  return { ...pod.metadata.annotations, [podGraceAnnotation]: String(pod.spec.terminationGracePeriodSeconds ?? 30) };
}

export function containerLabels(pod: Pod, container: Container, nodeName: string): Record<string, string> {
  return {
    [containerNameLabel]: container.name,
    [podNameLabel]: pod.metadata.name,
    [podNamespaceLabel]: pod.metadata.namespace,
    [podUidLabel]: pod.metadata.uid,
    [nodeLabel]: nodeName,
  };
}

export function containerAnnotations(pod: Pod, container: Container, restartCount: number): Record<string, string> {
  return {
    [hashAnnotation]: containerHash(container),
    [restartCountAnnotation]: String(restartCount),
    [resourcesAnnotation]: JSON.stringify(container.resources ?? {}),
    [terminationMessagePathAnnotation]: container.terminationMessagePath ?? '/dev/termination-log',
    [terminationMessagePolicyAnnotation]: container.terminationMessagePolicy ?? 'File',
    [podGraceAnnotation]: String(pod.spec.terminationGracePeriodSeconds ?? 30),
  };
}

/** What of a container's spec, when changed, makes the kubelet replace it: since 1.31 the name and the image. */
export function containerHash(container: Container): string {
  return createHash('sha256')
    .update(JSON.stringify([container.name, container.image ?? '']))
    .digest('hex')
    .slice(0, 8);
}
