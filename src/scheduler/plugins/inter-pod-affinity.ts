import { labelSelectorMatches } from '../../api/selectors.ts';
import type { Pod, PodAffinityTerm } from '../../api/generated/types.ts';
import type { Cache } from '../cache.ts';
import { type Handle, MAX_SCORE, type Plugin } from '../framework.ts';
import type { NodeInfo } from '../node-info.ts';
import type { PodInfo } from '../pod-info.ts';

/** The weight of an existing pod's required affinity to the incoming one, in scores. */
const HARD_AFFINITY_WEIGHT = 1;

/** Sums by topology key and value. */
class Topology {
  readonly #sums = new Map<string, Map<string, number>>();

  add(node: NodeInfo, key: string, amount: number): void {
    const value = node.labels[key];
    if (value === undefined) return;
    let values = this.#sums.get(key);
    if (!values) this.#sums.set(key, (values = new Map()));
    values.set(value, (values.get(value) ?? 0) + amount);
  }

  at(node: NodeInfo, key: string): number {
    const value = node.labels[key];
    return value === undefined ? 0 : (this.#sums.get(key)?.get(value) ?? 0);
  }

  get size(): number {
    return this.#sums.size;
  }

  keys(): Iterable<string> {
    return this.#sums.keys();
  }
}

/** Pods that want to be near, or far from, other pods. */
export function interPodAffinity(handle: Handle): Plugin {
  /** Whether the candidate is one that the term, of a pod in namespace `home`, is about. */
  const matches = (term: PodAffinityTerm, home: string, candidate: Pod): boolean => {
    const { namespaces, namespaceSelector, labelSelector } = term;
    const namespace = candidate.metadata.namespace;
    const named = namespaces?.length || namespaceSelector ? (namespaces ?? []).includes(namespace) : namespace === home;
    const inNamespace = named || (!!namespaceSelector && labelSelectorMatches(namespaceSelector, handle.namespaces.get(namespace)?.metadata.labels));
    return inNamespace && labelSelectorMatches(labelSelector, candidate.metadata.labels);
  };
  /** Existing pods that the terms could be about. */
  const candidates = (terms: PodAffinityTerm[], home: string, cache: Cache): Iterable<PodInfo> => {
    if (terms.some((t) => t.namespaceSelector)) return Array.from(cache.allPods(), (p) => p.info);
    const namespaces = new Set(terms.flatMap((t) => (t.namespaces?.length ? t.namespaces : [home])));
    return [...namespaces].flatMap((namespace) => [...cache.podsIn(namespace)]);
  };

  return {
    name: 'InterPodAffinity',
    weight: 2,
    events: ['NodeAdd', 'NodeLabel', 'AssignedPodAdd', 'AssignedPodUpdate', 'AssignedPodDelete', 'Namespace'],
    prepare(info, cache) {
      const { pod, affinity, antiAffinity } = info;
      const home = pod.metadata.namespace;
      const preferred = [
        ...(pod.spec.affinity?.podAffinity?.preferredDuringSchedulingIgnoredDuringExecution ?? []),
        ...(pod.spec.affinity?.podAntiAffinity?.preferredDuringSchedulingIgnoredDuringExecution ?? []).map((t) => ({ ...t, weight: -t.weight })),
      ];
      if (!affinity.length && !antiAffinity.length && !preferred.length && cache.withAffinity.size === 0) return undefined;

      const repelled = new Topology();
      for (const { info: other, node } of cache.withAffinity.values()) {
        if (!node.node) continue;
        for (const term of other.antiAffinity) if (matches(term, other.pod.metadata.namespace, pod)) repelled.add(node, term.topologyKey, 1);
      }
      const near = new Topology();
      const far = new Topology();
      if (affinity.length || antiAffinity.length) {
        for (const other of candidates([...affinity, ...antiAffinity], home, cache)) {
          const node = cache.nodeOf(other.uid);
          if (!node?.node) continue;
          if (affinity.length && affinity.every((term) => matches(term, home, other.pod)))
            for (const term of affinity) near.add(node, term.topologyKey, 1);
          for (const term of antiAffinity) if (matches(term, home, other.pod)) far.add(node, term.topologyKey, 1);
        }
      }
      // The first pod of a group that wants to be together may go anywhere.
      const isFirst = near.size === 0 && affinity.every((term) => matches(term, home, pod));

      const scores = new Topology();
      const score = () => {
        for (const { info: other, node } of cache.withAffinity.values()) {
          if (!node.node) continue;
          const theirs = other.pod.spec.affinity!;
          const from = other.pod.metadata.namespace;
          for (const term of other.affinity) if (matches(term, from, pod)) scores.add(node, term.topologyKey, HARD_AFFINITY_WEIGHT);
          for (const { podAffinityTerm: term, weight } of theirs.podAffinity?.preferredDuringSchedulingIgnoredDuringExecution ?? []) {
            if (matches(term, from, pod)) scores.add(node, term.topologyKey, weight);
          }
          for (const { podAffinityTerm: term, weight } of theirs.podAntiAffinity?.preferredDuringSchedulingIgnoredDuringExecution ?? []) {
            if (matches(term, from, pod)) scores.add(node, term.topologyKey, -weight);
          }
        }
        if (preferred.length === 0) return;
        const terms = preferred.map((p) => p.podAffinityTerm);
        for (const other of candidates(terms, home, cache)) {
          const node = cache.nodeOf(other.uid);
          if (!node?.node) continue;
          for (const { podAffinityTerm: term, weight } of preferred) if (matches(term, home, other.pod)) scores.add(node, term.topologyKey, weight);
        }
      };

      return {
        filter(node) {
          if (affinity.length) {
            const hasKeys = affinity.every((term) => term.topologyKey in node.labels);
            if (!hasKeys || (!isFirst && !affinity.every((term) => near.at(node, term.topologyKey) > 0))) {
              return { reasons: ["node(s) didn't match pod affinity rules"], resolvable: false };
            }
          }
          if (antiAffinity.some((term) => far.at(node, term.topologyKey) > 0)) {
            return { reasons: ["node(s) didn't match pod anti-affinity rules"], resolvable: true };
          }
          for (const key of repelled.keys()) {
            if (repelled.at(node, key) > 0) return { reasons: ["node(s) didn't satisfy existing pods anti-affinity rules"], resolvable: true };
          }
          return undefined;
        },
        preScore() {
          score();
          return scores.size > 0;
        },
        score(node) {
          let sum = 0;
          for (const key of scores.keys()) sum += scores.at(node, key);
          return sum;
        },
        normalize(values) {
          const min = Math.min(...values);
          const range = Math.max(...values) - min;
          for (let i = 0; i < values.length; i++) values[i] = range > 0 ? Math.floor((MAX_SCORE * (values[i]! - min)) / range) : 0;
        },
      };
    },
  };
}
