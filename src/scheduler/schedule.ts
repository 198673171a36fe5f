import type { Cache } from './cache.ts';
import type { Cycle, Plugin, Rejection } from './framework.ts';
import type { NodeInfo } from './node-info.ts';
import type { PodInfo } from './pod-info.ts';

/** Why no node was found. */
export interface Diagnosis {
  /** All nodes, also those that were not looked at because the pod was rejected before. */
  nodes: number;
  /** The reason that holds for every node. */
  general?: Rejection;
  byNode: Map<string, Rejection>;
  plugins: Set<string>;
}

export interface Prepared {
  info: PodInfo;
  cycles: { plugin: Plugin; cycle: Cycle }[];
}

export type Placement = { node: NodeInfo; prepared: Prepared } | { diagnosis: Diagnosis; prepared?: Prepared };

/** Pods with a promised node (after preemption): node name to pods. */
export type Nominations = ReadonlyMap<string, ReadonlyMap<string, PodInfo>>;

/** Lets every plugin look at the pod. A rejection means that no node fits. */
export function prepare(plugins: readonly Plugin[], info: PodInfo, cache: Cache): Prepared | Rejection {
  const cycles: Prepared['cycles'] = [];
  for (const plugin of plugins) {
    const cycle = plugin.prepare(info, cache);
    if (!cycle) continue;
    if ('reject' in cycle)
      return { plugin: plugin.name, reasons: [cycle.reject], resolvable: cycle.resolvable ?? false, ...(cycle.quiet ? { quiet: true } : {}) };
    cycles.push({ plugin, cycle });
  }
  return { info, cycles };
}

/** The first plugin's reason why the pod cannot run on the node, or undefined. */
export function filterNode({ cycles }: Prepared, node: NodeInfo): Rejection | undefined {
  for (const { plugin, cycle } of cycles) {
    const no = cycle.filter?.(node);
    if (no) return { plugin: plugin.name, ...no };
  }
  return undefined;
}

/** Also where pods with a promise of the node, that are no less important, have come. */
function filterWithNominated(prepared: Prepared, node: NodeInfo, nominations: Nominations): Rejection | undefined {
  const promised = nominations.get(node.name);
  if (promised) {
    const others = [...promised.values()].filter((p) => p.uid !== prepared.info.uid && p.priority >= prepared.info.priority);
    if (others.length > 0) {
      const full = node.clone();
      for (const other of others) full.add(other);
      const no = filterNode(prepared, full);
      if (no) return no;
    }
  }
  return filterNode(prepared, node);
}

/** How many nodes that fit are enough to score: all of a small cluster, down to 5 % of a large one (upstream's percentageOfNodesToScore). */
function enough(nodes: number): number {
  if (nodes < 100) return nodes;
  const percentage = Math.max(5, 50 - Math.floor(nodes / 125));
  return Math.max(100, Math.floor((nodes * percentage) / 100));
}

/** Finds the best node for a pod. One synchronous piece of work. */
export class Scheduler {
  readonly #plugins: readonly Plugin[];
  readonly #cache: Cache;
  readonly #nominations: Nominations;
  readonly #random: () => number;
  /** Where to start looking, so that all nodes of a large cluster get their turn. */
  #next = 0;

  constructor(plugins: readonly Plugin[], cache: Cache, nominations: Nominations, random: () => number = Math.random) {
    this.#plugins = plugins;
    this.#cache = cache;
    this.#nominations = nominations;
    this.#random = random;
  }

  place(info: PodInfo): Placement {
    const { nodes } = this.#cache;
    const diagnosis: Diagnosis = { nodes: nodes.length, byNode: new Map(), plugins: new Set() };
    const prepared = prepare(this.#plugins, info, this.#cache);
    if (!('cycles' in prepared)) {
      diagnosis.plugins.add(prepared.plugin);
      return { diagnosis: { ...diagnosis, general: prepared } };
    }
    const feasible = this.#feasible(prepared, diagnosis);
    if (feasible.length === 0) return { diagnosis, prepared };
    return { node: feasible.length === 1 ? feasible[0]! : this.#best(prepared, feasible), prepared };
  }

  #feasible(prepared: Prepared, diagnosis: Diagnosis): NodeInfo[] {
    const { nodes } = this.#cache;
    // A promise is kept where it still holds, without looking further.
    const nominated = this.#cache.node(prepared.info.pod.status?.nominatedNodeName ?? '');
    if (nominated && !filterWithNominated(prepared, nominated, this.#nominations)) return [nominated];
    const feasible: NodeInfo[] = [];
    const wanted = enough(nodes.length);
    for (let i = 0; i < nodes.length && feasible.length < wanted; i++) {
      const node = nodes[this.#next++ % nodes.length]!;
      const rejection = filterWithNominated(prepared, node, this.#nominations);
      if (!rejection) feasible.push(node);
      else {
        diagnosis.byNode.set(node.name, rejection);
        diagnosis.plugins.add(rejection.plugin);
      }
    }
    this.#next %= Math.max(1, nodes.length);
    return feasible;
  }

  /** The node with the highest score; of several, any. */
  #best({ cycles }: Prepared, nodes: NodeInfo[]): NodeInfo {
    const totals = nodes.map(() => 0);
    for (const { plugin, cycle } of cycles) {
      if (!cycle.score || cycle.preScore?.(nodes) === false) continue;
      const scores = nodes.map((node) => cycle.score!(node));
      cycle.normalize?.(scores, nodes);
      for (let i = 0; i < totals.length; i++) totals[i]! += scores[i]! * (plugin.weight ?? 1);
    }
    let best = 0;
    let ties = 1;
    for (let i = 1; i < totals.length; i++) {
      if (totals[i]! > totals[best]!) {
        best = i;
        ties = 1;
      } else if (totals[i] === totals[best] && this.#random() * ++ties < 1) best = i;
    }
    return nodes[best]!;
  }
}

/** The text of the event FailedScheduling and of the condition PodScheduled, in upstream's form. */
export function explain({ nodes, general, byNode }: Diagnosis, afterwards?: string): string {
  if (nodes === 0 && !general) return 'no nodes available to schedule pods';
  let text = `0/${nodes} nodes are available:`;
  if (general) text += ` ${general.reasons.join(', ')}.`;
  else {
    const counts = new Map<string, number>();
    for (const { reasons } of byNode.values()) for (const reason of reasons) counts.set(reason, (counts.get(reason) ?? 0) + 1);
    const parts = Array.from(counts, ([reason, count]) => `${count} ${reason}`).sort();
    if (parts.length) text += ` ${parts.join(', ')}.`;
  }
  return afterwards ? `${text} ${afterwards}` : text;
}
