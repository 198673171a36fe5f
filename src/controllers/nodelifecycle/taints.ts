import type { Node, Taint } from '../../api/generated/types.ts';

export const NOT_READY = 'node.kubernetes.io/not-ready';
export const UNREACHABLE = 'node.kubernetes.io/unreachable';
const UNSCHEDULABLE = 'node.kubernetes.io/unschedulable';

/** Condition and status to the key of the taint NoSchedule that says so. */
const CONDITION_TAINTS: Record<string, Record<string, string>> = {
  Ready: { False: NOT_READY, Unknown: UNREACHABLE },
  MemoryPressure: { True: 'node.kubernetes.io/memory-pressure' },
  DiskPressure: { True: 'node.kubernetes.io/disk-pressure' },
  PIDPressure: { True: 'node.kubernetes.io/pid-pressure' },
  NetworkUnavailable: { True: 'node.kubernetes.io/network-unavailable' },
};
const OURS = new Set([UNSCHEDULABLE, ...Object.values(CONDITION_TAINTS).flatMap((keys) => Object.values(keys))]);

/** The node's taints as its conditions and spec.unschedulable want them; the same array where they are so. Others' taints stay. */
export function withConditionTaints(node: Node): Taint[] {
  const before = node.spec.taints ?? [];
  const wanted = new Set<string>();
  for (const { type, status } of node.status?.conditions ?? []) {
    const key = CONDITION_TAINTS[type]?.[status];
    if (key) wanted.add(key);
  }
  if (node.spec.unschedulable) wanted.add(UNSCHEDULABLE);
  const isOurs = (t: Taint) => t.effect === 'NoSchedule' && OURS.has(t.key);
  const there = new Set(before.filter(isOurs).map((t) => t.key));
  const kept = before.filter((t) => !isOurs(t) || wanted.has(t.key));
  const added = [...wanted].filter((key) => !there.has(key)).map((key) => ({ key, effect: 'NoSchedule' }));
  return kept.length === before.length && added.length === 0 ? before : [...kept, ...added];
}

/** The taints with exactly this one of not-ready and unreachable NoExecute (or none); the same array where they are so. */
export function withEvictionTaint(before: Taint[], key: string | undefined, now: string): Taint[] {
  const isOurs = (t: Taint) => t.effect === 'NoExecute' && (t.key === NOT_READY || t.key === UNREACHABLE);
  const there = before.some((t) => isOurs(t) && t.key === key);
  const kept = before.filter((t) => !isOurs(t) || t.key === key);
  if (kept.length === before.length && (there || !key)) return before;
  return there || !key ? kept : [...kept, { key, effect: 'NoExecute', timeAdded: now }];
}
