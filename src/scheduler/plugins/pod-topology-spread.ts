import { labelSelectorMatches } from '../../api/selectors.ts';
import type { LabelSelector, Pod, TopologySpreadConstraint } from '../../api/generated/types.ts';
import { podMayRunByAffinity, untolerated } from '../../controllers/node-matching.ts';
import { controllerOf } from '../../controllers/ownership.ts';
import type { Cache } from '../cache.ts';
import { type Handle, MAX_SCORE, type Plugin } from '../framework.ts';
import type { NodeInfo } from '../node-info.ts';

const HOSTNAME = 'kubernetes.io/hostname';
const ZONE = 'topology.kubernetes.io/zone';
const MISMATCH = "node(s) didn't match pod topology spread constraints";

type Constraint = TopologySpreadConstraint & { labelSelector: LabelSelector };

/** Spreads pods over hosts, zones or whatever a label names: as the pod asks, or by default pods of one Service or controller. */
export function podTopologySpread(handle: Handle): Plugin {
  return {
    name: 'PodTopologySpread',
    weight: 2,
    events: ['NodeAdd', 'NodeLabel', 'NodeTaint', 'AssignedPodAdd', 'AssignedPodUpdate', 'AssignedPodDelete'],
    prepare({ pod }, cache) {
      const own = pod.spec.topologySpreadConstraints ?? [];
      const hard = own.filter((c) => c.whenUnsatisfiable !== 'ScheduleAnyway').map((c) => withMatchLabelKeys(c, pod));
      const soft = own.length
        ? own.filter((c) => c.whenUnsatisfiable === 'ScheduleAnyway').map((c) => withMatchLabelKeys(c, pod))
        : defaults(handle, pod);
      if (!hard.length && !soft.length) return undefined;
      const spread = hard.length ? hardFilter(pod, hard, cache) : undefined;
      return { filter: spread, ...(soft.length ? softScore(pod, soft, cache, own.length > 0) : {}) };
    },
  };
}

function withMatchLabelKeys(c: TopologySpreadConstraint, pod: Pod): Constraint {
  const labels = pod.metadata.labels ?? {};
  const added = (c.matchLabelKeys ?? []).filter((key) => key in labels).map((key) => ({ key, operator: 'In', values: [labels[key]!] }));
  const selector = c.labelSelector ?? { matchExpressions: [{ key: 'nothing', operator: 'In', values: [] }] };
  return { ...c, labelSelector: added.length ? { ...selector, matchExpressions: [...(selector.matchExpressions ?? []), ...added] } : selector };
}

/** Upstream's system defaults, for pods that a Service or a controller selects. */
function defaults(handle: Handle, pod: Pod): Constraint[] {
  const selector = familySelector(handle, pod);
  if (!selector) return [];
  const anyway = { whenUnsatisfiable: 'ScheduleAnyway', labelSelector: selector };
  return [
    { ...anyway, topologyKey: HOSTNAME, maxSkew: 3 },
    { ...anyway, topologyKey: ZONE, maxSkew: 5 },
  ];
}

function familySelector(handle: Handle, pod: Pod): LabelSelector | undefined {
  const { namespace, labels } = pod.metadata;
  const matchLabels: Record<string, string> = {};
  for (const service of handle.services.list(namespace)) {
    const selector = service.spec.selector;
    if (selector && Object.keys(selector).length && labelSelectorMatches({ matchLabels: selector }, labels)) Object.assign(matchLabels, selector);
  }
  const owner = controllerOf(pod);
  const key = `${namespace}/${owner?.name}`;
  let matchExpressions: LabelSelector['matchExpressions'];
  if (owner?.kind === 'ReplicationController') Object.assign(matchLabels, handle.replicationControllers.get(key)?.spec.selector);
  else if (owner?.kind === 'ReplicaSet' || owner?.kind === 'StatefulSet') {
    const selector = (owner.kind === 'ReplicaSet' ? handle.replicaSets.get(key) : handle.statefulSets.get(key))?.spec.selector;
    Object.assign(matchLabels, selector?.matchLabels);
    matchExpressions = selector?.matchExpressions;
  }
  if (!Object.keys(matchLabels).length && !matchExpressions?.length) return undefined;
  return { matchLabels, ...(matchExpressions ? { matchExpressions } : {}) };
}

/** Whether the pods on a node count for the constraint. */
function counts(c: Constraint, pod: Pod, node: NodeInfo): boolean {
  if ((c.nodeAffinityPolicy ?? 'Honor') === 'Honor' && !podMayRunByAffinity(pod, node.node!)) return false;
  return c.nodeTaintsPolicy !== 'Honor' || !untolerated(node.node!.spec.taints, pod.spec.tolerations, ['NoSchedule', 'NoExecute']);
}

/** Matching pods of the namespace, by node name. One pass over the namespace for each constraint. */
function matchingPerNode(c: Constraint, pod: Pod, cache: Cache): Map<string, number> {
  const result = new Map<string, number>();
  for (const info of cache.podsIn(pod.metadata.namespace)) {
    if (info.pod.metadata.deletionTimestamp || !labelSelectorMatches(c.labelSelector, info.pod.metadata.labels)) continue;
    const node = cache.nodeOf(info.uid)?.name;
    if (node) result.set(node, (result.get(node) ?? 0) + 1);
  }
  return result;
}

function hardFilter(pod: Pod, constraints: Constraint[], cache: Cache) {
  const keys = constraints.map((c) => c.topologyKey);
  const looked = constraints.map((c) => {
    const matching = matchingPerNode(c, pod, cache);
    const domains = new Map<string, number>();
    for (const node of cache.nodes) {
      if (!keys.every((key) => key in node.labels) || !counts(c, pod, node)) continue;
      const value = node.labels[c.topologyKey]!;
      domains.set(value, (domains.get(value) ?? 0) + (matching.get(node.name) ?? 0));
    }
    const fewest = domains.size < (c.minDomains ?? 1) ? 0 : Math.min(...domains.values());
    return { c, domains, fewest, self: labelSelectorMatches(c.labelSelector, pod.metadata.labels) ? 1 : 0 };
  });
  return (node: NodeInfo) => {
    for (const { c, domains, fewest, self } of looked) {
      const value = node.labels[c.topologyKey];
      if (value === undefined) return { reasons: [`${MISMATCH} (missing required label)`], resolvable: false };
      if ((domains.get(value) ?? 0) + self - fewest > c.maxSkew) return { reasons: [MISMATCH], resolvable: true };
    }
    return undefined;
  };
}

function softScore(pod: Pod, constraints: Constraint[], cache: Cache, needsAllKeys: boolean) {
  const ignored = new Set<string>();
  let looked: { c: Constraint; weight: number; domains: Map<string, number>; matching: Map<string, number> }[] = [];
  const complete = (node: NodeInfo) => !needsAllKeys || constraints.every((c) => c.topologyKey in node.labels);
  return {
    preScore(nodes: NodeInfo[]): boolean {
      for (const node of nodes) if (!complete(node)) ignored.add(node.name);
      looked = constraints.map((c) => {
        const matching = matchingPerNode(c, pod, cache);
        const domains = new Map<string, number>();
        if (c.topologyKey === HOSTNAME) return { c, matching, domains, weight: Math.log(nodes.length - ignored.size + 2) };
        for (const node of nodes) if (!ignored.has(node.name)) domains.set(node.labels[c.topologyKey] ?? '', 0);
        for (const [name, count] of matching) {
          const node = cache.node(name);
          const value = node?.labels[c.topologyKey] ?? '';
          if (node && domains.has(value) && complete(node) && counts(c, pod, node)) domains.set(value, domains.get(value)! + count);
        }
        return { c, matching, domains, weight: Math.log(domains.size + 2) };
      });
      return true;
    },
    score(node: NodeInfo): number {
      if (ignored.has(node.name)) return 0;
      let score = 0;
      for (const { c, weight, domains, matching } of looked) {
        const value = node.labels[c.topologyKey];
        if (value === undefined) continue;
        const count = c.topologyKey === HOSTNAME ? (matching.get(node.name) ?? 0) : (domains.get(value) ?? 0);
        score += count * weight + (c.maxSkew - 1);
      }
      return Math.round(score);
    },
    normalize(scores: number[], nodes: NodeInfo[]): void {
      let min = Number.POSITIVE_INFINITY;
      let max = 0;
      for (const [i, node] of nodes.entries()) {
        if (ignored.has(node.name)) continue;
        min = Math.min(min, scores[i]!);
        max = Math.max(max, scores[i]!);
      }
      for (const [i, node] of nodes.entries()) {
        if (ignored.has(node.name)) scores[i] = 0;
        else scores[i] = max === 0 ? MAX_SCORE : Math.floor((MAX_SCORE * (max + min - scores[i]!)) / max);
      }
    },
  };
}
