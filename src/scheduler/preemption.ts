import type { PodDisruptionBudget } from '../api/generated/types.ts';
import { labelSelectorMatches } from '../api/selectors.ts';
import { millis } from '../controllers/timestamps.ts';
import type { Cache } from './cache.ts';
import type { Plugin } from './framework.ts';
import type { NodeInfo } from './node-info.ts';
import type { PodInfo } from './pod-info.ts';
import { type Diagnosis, explain, filterNode, prepare } from './schedule.ts';

/** How many nodes are tried at most, beginning anywhere; upstream tries 10 % of the nodes, and at least 100. */
const MAX_CANDIDATES = 100;

interface Candidate {
  node: NodeInfo;
  victims: PodInfo[];
  /** Victims whose disruption budget does not allow it. */
  violations: number;
}

export type Preemption = { node: NodeInfo; victims: PodInfo[] } | { message: string };

/** Looks for the node where ending the fewest and least important pods makes room for the pod. */
export function preempt(plugins: readonly Plugin[], info: PodInfo, cache: Cache, diagnosis: Diagnosis, budgets: PodDisruptionBudget[]): Preemption {
  if (info.pod.spec.preemptionPolicy === 'Never') return { message: 'preemption: not eligible due to preemptionPolicy=Never.' };
  const nominated = cache.node(info.pod.status?.nominatedNodeName ?? '');
  const waits = nominated && [...nominated.pods.values()].some((p) => p.pod.metadata.deletionTimestamp && p.priority < info.priority);
  if (waits && diagnosis.byNode.get(nominated.name)?.resolvable)
    return { message: 'preemption: not eligible due to a terminating pod on the nominated node.' };

  const candidates: Candidate[] = [];
  const why: Diagnosis = { nodes: diagnosis.nodes, byNode: new Map(), plugins: new Set() };
  for (const node of cache.nodes) {
    if (!diagnosis.byNode.get(node.name)?.resolvable || candidates.length >= MAX_CANDIDATES) {
      why.byNode.set(node.name, { plugin: 'DefaultPreemption', reasons: ['Preemption is not helpful for scheduling'], resolvable: false });
      continue;
    }
    const candidate = tryNode(plugins, info, cache, node, budgets);
    if (candidate) candidates.push(candidate);
    else why.byNode.set(node.name, { plugin: 'DefaultPreemption', reasons: ['No preemption victims found for incoming pod'], resolvable: false });
  }
  if (candidates.length === 0) return { message: `preemption: ${explain(why)}` };
  return candidates.reduce((best, other) => (compare(other, best) < 0 ? other : best));
}

/** The victims on one node: all less important pods, less those that can stay. The cache is as before afterwards. */
function tryNode(plugins: readonly Plugin[], info: PodInfo, cache: Cache, node: NodeInfo, budgets: PodDisruptionBudget[]): Candidate | undefined {
  const lower = [...node.pods.values()].filter((p) => p.priority < info.priority);
  if (lower.length === 0) return undefined;
  const away = new Set(lower);
  for (const pod of lower) cache.removePod(pod.uid);
  try {
    if (!fitsNow(plugins, info, cache, node)) return undefined;
    const { violating, others } = byBudget(lower, budgets);
    let violations = 0;
    // The most important ones get their place back first, and those that a budget protects before all.
    for (const [group, isViolating] of [[violating, true] as const, [others, false] as const]) {
      for (const pod of group.sort(moreImportant)) {
        cache.assume(pod, node.name);
        away.delete(pod);
        if (fitsNow(plugins, info, cache, node)) continue;
        cache.removePod(pod.uid);
        away.add(pod);
        if (isViolating) violations++;
      }
    }
    return { node, victims: [...away].sort(moreImportant), violations };
  } finally {
    for (const pod of lower) {
      cache.removePod(pod.uid);
      if (pod.pod.spec.nodeName) cache.setPod(pod.pod);
      else cache.assume(pod, node.name);
    }
  }
}

function fitsNow(plugins: readonly Plugin[], info: PodInfo, cache: Cache, node: NodeInfo): boolean {
  const prepared = prepare(plugins, info, cache);
  return 'cycles' in prepared && !filterNode(prepared, node);
}

function byBudget(pods: PodInfo[], budgets: PodDisruptionBudget[]): { violating: PodInfo[]; others: PodInfo[] } {
  const left = new Map(budgets.map((b) => [b, b.status?.disruptionsAllowed ?? 0]));
  const violating: PodInfo[] = [];
  const others: PodInfo[] = [];
  for (const info of [...pods].sort(moreImportant)) {
    let violated = false;
    for (const [budget, allowed] of left) {
      if (budget.metadata.namespace !== info.pod.metadata.namespace || !labelSelectorMatches(budget.spec?.selector, info.pod.metadata.labels))
        continue;
      left.set(budget, allowed - 1);
      if (allowed <= 0) violated = true;
    }
    (violated ? violating : others).push(info);
  }
  return { violating, others };
}

const startOf = (p: PodInfo) => millis(p.pod.status?.startTime ?? p.pod.metadata.creationTimestamp);
const moreImportant = (a: PodInfo, b: PodInfo) => b.priority - a.priority || startOf(a) - startOf(b);

/** Fewest budget violations, lowest highest priority, lowest sum of priorities, fewest victims, youngest important victim. */
function compare(a: Candidate, b: Candidate): number {
  const sum = (c: Candidate) => c.victims.reduce((n, p) => n + p.priority + 2 ** 31, 0);
  const highest = (c: Candidate) => c.victims[0]?.priority ?? Number.NEGATIVE_INFINITY;
  const start = (c: Candidate) => Math.min(...c.victims.filter((p) => p.priority === highest(c)).map(startOf));
  const byHighest = highest(a) === highest(b) ? 0 : highest(a) - highest(b);
  return a.violations - b.violations || byHighest || sum(a) - sum(b) || a.victims.length - b.victims.length || start(b) - start(a);
}
