import type { Deployment, DeploymentCondition, IntOrString, PodTemplateSpec, ReplicaSet } from '../../api/generated/types.ts';
import { semanticEqual } from '../canonical.ts';
import { millis } from '../timestamps.ts';

export const HASH_LABEL = 'pod-template-hash';
export const REVISION = 'deployment.kubernetes.io/revision';
export const REVISION_HISTORY = 'deployment.kubernetes.io/revision-history';
export const DESIRED_REPLICAS = 'deployment.kubernetes.io/desired-replicas';
export const MAX_REPLICAS = 'deployment.kubernetes.io/max-replicas';

export const replicasOf = (o: { spec: { replicas?: number } }): number => o.spec.replicas ?? 1;
export const sum = (sets: ReplicaSet[], count: (rs: ReplicaSet) => number | undefined): number => sets.reduce((n, rs) => n + (count(rs) ?? 0), 0);
export const isRolling = (d: Deployment): boolean => (d.spec.strategy?.type ?? 'RollingUpdate') === 'RollingUpdate';
export const active = (sets: ReplicaSet[]): ReplicaSet[] => sets.filter((rs) => replicasOf(rs) > 0);

/** A number, or a percentage of total (rounded up or down). */
export function scaledValue(value: IntOrString | undefined, total: number, roundUp: boolean): number {
  if (typeof value !== 'string') return value ?? 0;
  const part = (Number.parseInt(value, 10) * total) / 100;
  return roundUp ? Math.ceil(part) : Math.floor(part);
}

/** How many pods a rolling update may add and may take away. Never both 0: nothing would move. */
function fenceposts(d: Deployment): { surge: number; unavailable: number } {
  const { maxSurge = '25%', maxUnavailable = '25%' } = d.spec.strategy?.rollingUpdate ?? {};
  const surge = scaledValue(maxSurge, replicasOf(d), true);
  const unavailable = scaledValue(maxUnavailable, replicasOf(d), false);
  return { surge, unavailable: surge === 0 && unavailable === 0 ? 1 : unavailable };
}

export const maxSurgeOf = (d: Deployment): number => (isRolling(d) ? fenceposts(d).surge : 0);

export function maxUnavailableOf(d: Deployment): number {
  if (!isRolling(d) || replicasOf(d) === 0) return 0;
  return Math.min(fenceposts(d).unavailable, replicasOf(d));
}

/** Equality of templates but for the hash label that the controller adds. */
export function sameTemplate(a: PodTemplateSpec | undefined, b: PodTemplateSpec | undefined): boolean {
  const withoutHash = (t: PodTemplateSpec | undefined) => {
    const { [HASH_LABEL]: _, ...labels } = t?.metadata?.labels ?? {};
    return { ...t, metadata: { ...t?.metadata, labels } };
  };
  return semanticEqual(withoutHash(a), withoutHash(b));
}

const created = (rs: ReplicaSet) => millis(rs.metadata.creationTimestamp);
const byName = (a: ReplicaSet, b: ReplicaSet) => (a.metadata.name < b.metadata.name ? -1 : 1);
export const oldestFirst = (a: ReplicaSet, b: ReplicaSet): number => created(a) - created(b) || byName(a, b);
export const newestFirst = (a: ReplicaSet, b: ReplicaSet): number => created(b) - created(a) || byName(b, a);

export const findNewReplicaSet = (d: Deployment, sets: ReplicaSet[]): ReplicaSet | undefined =>
  [...sets].sort(oldestFirst).find((rs) => sameTemplate(rs.spec.template, d.spec.template));

/** Of 64 bits: whoever adopts a set may have numbered it as he liked. 0 where there is none. */
export const parseRevision = (text: string | undefined): bigint => (/^\d{1,19}$/.test(text ?? '') ? BigInt(text as string) : 0n);
export const revisionOf = (o: { metadata: { annotations?: Record<string, string> } }): bigint => parseRevision(o.metadata.annotations?.[REVISION]);

/** How large the new ReplicaSet may become now, given what the others hold. */
export function newReplicaSetSize(d: Deployment, all: ReplicaSet[], current: number): number {
  if (!isRolling(d)) return replicasOf(d);
  const room = replicasOf(d) + maxSurgeOf(d) - sum(all, replicasOf);
  return room <= 0 ? current : current + Math.min(room, replicasOf(d) - current);
}

export const conditionOf = (conditions: DeploymentCondition[] | undefined, type: string): DeploymentCondition | undefined =>
  conditions?.find((c) => c.type === type);

/** Conditions with this one set. Unchanged where status and reason already hold; the transition time moves only with the status. */
export function withCondition(conditions: DeploymentCondition[], set: DeploymentCondition): DeploymentCondition[] {
  const before = conditionOf(conditions, set.type!);
  if (before?.status === set.status && before?.reason === set.reason) return conditions;
  const lastTransitionTime = before?.status === set.status ? before?.lastTransitionTime : set.lastTransitionTime;
  return [...conditions.filter((c) => c.type !== set.type), { ...set, lastTransitionTime }];
}

export const withoutCondition = (conditions: DeploymentCondition[], type: string): DeploymentCondition[] => conditions.filter((c) => c.type !== type);
