import type { Draft } from '../../api/object.ts';
import type { PersistentVolumeClaim, Pod, PodTemplateSpec, StatefulSet, Volume } from '../../api/generated/types.ts';
import { podFromTemplate } from '../pod-control.ts';
import { REVISION_LABEL } from '../revisions.ts';

const POD_NAME_LABEL = 'statefulset.kubernetes.io/pod-name';
const POD_INDEX_LABEL = 'apps.kubernetes.io/pod-index';

export const replicasOf = (set: StatefulSet): number => set.spec.replicas ?? 1;
export const firstOrdinal = (set: StatefulSet): number => set.spec.ordinals?.start ?? 0;
export const isParallel = (set: StatefulSet): boolean => set.spec.podManagementPolicy === 'Parallel';
export const strategyOf = (set: StatefulSet): string => set.spec.updateStrategy?.type ?? 'RollingUpdate';
export const podNameAt = (set: StatefulSet, ordinal: number): string => `${set.metadata.name}-${ordinal}`;
export const revisionNameOf = (pod: Pod): string | undefined => pod.metadata.labels?.[REVISION_LABEL];

/** The number at the end of a name such as web-3, and what stands before it; -1 where there is none. */
export function nameAndOrdinal(name: string): { parent: string; ordinal: number } {
  const m = /^(.*)-([0-9]+)$/.exec(name);
  const ordinal = m ? Number(m[2]) : -1;
  return { parent: m?.[1] ?? '', ordinal: ordinal > 2 ** 31 - 1 ? -1 : ordinal };
}

export const ordinalOf = (pod: Pod): number => nameAndOrdinal(pod.metadata.name).ordinal;
export const isMember = (set: StatefulSet, pod: Pod): boolean => nameAndOrdinal(pod.metadata.name).parent === set.metadata.name;

export function isInRange(set: StatefulSet, ordinal: number): boolean {
  const first = firstOrdinal(set);
  return ordinal >= first && ordinal < first + replicasOf(set);
}

export const claimNameAt = (set: StatefulSet, template: PersistentVolumeClaim, ordinal: number): string =>
  `${template.metadata.name}-${set.metadata.name}-${ordinal}`;

/** Whether the pod carries the labels of its place. */
export const identityMatches = (pod: Pod): boolean => pod.metadata.labels?.[POD_NAME_LABEL] === pod.metadata.name;

/** Whether the pod mounts the claims of its place. */
export function storageMatches(set: StatefulSet, pod: Pod): boolean {
  return (set.spec.volumeClaimTemplates ?? []).every((template) => {
    const volume = pod.spec.volumes?.find((v) => v.name === template.metadata.name);
    return volume?.persistentVolumeClaim?.claimName === claimNameAt(set, template, ordinalOf(pod));
  });
}

export const identityLabels = (set: StatefulSet, ordinal: number): Record<string, string> => ({
  [POD_NAME_LABEL]: podNameAt(set, ordinal),
  [POD_INDEX_LABEL]: String(ordinal),
});

/** The volumes with those of the claims in the place of others of their names. */
export function withClaims(set: StatefulSet, ordinal: number, volumes: Volume[] | undefined): Volume[] {
  const templates = set.spec.volumeClaimTemplates ?? [];
  const claims = templates.map((t) => ({ name: t.metadata.name, persistentVolumeClaim: { claimName: claimNameAt(set, t, ordinal) } }));
  const names = new Set(claims.map((c) => c.name));
  return [...claims, ...(volumes ?? []).filter((v) => !names.has(v.name))];
}

/** The pod of a place, made from the template of a revision. */
export function podAt(set: StatefulSet, template: PodTemplateSpec, revision: string, ordinal: number): Draft<Pod> {
  const draft = podFromTemplate(template, set);
  draft.metadata.name = podNameAt(set, ordinal);
  draft.metadata.labels = { ...draft.metadata.labels, ...identityLabels(set, ordinal), [REVISION_LABEL]: revision };
  const { serviceName } = set.spec;
  const volumes = withClaims(set, ordinal, draft.spec.volumes);
  draft.spec = { ...draft.spec, hostname: draft.metadata.name, ...(serviceName ? { subdomain: serviceName } : {}), ...(volumes.length ? { volumes } : {}) };
  return draft;
}
