import type { LabelSelector, Pod } from '../api/generated/types.ts';
import { keyOf } from '../api/object.ts';
import { labelSelectorMatches } from '../api/selectors.ts';
import type { Informer } from '../client/informer.ts';

interface Selection {
  namespace: string;
  selector: LabelSelector | undefined;
  /** By namespace/name. */
  pods: Map<string, Pod>;
}

/**
 * The pods that label selectors match, kept by the pods' events: an event costs one match per selector of its namespace,
 * and nobody has to look through all pods.
 */
export class SelectedPods {
  readonly #pods: Informer<Pod>;
  readonly #selections = new Map<string, Selection>();
  readonly #byNamespace = new Map<string, Set<string>>();

  /** onChange hears of every event of a pod that a selector matches, or matched before. */
  constructor(pods: Informer<Pod>, onChange: (key: string, before: Pod | undefined, after: Pod | undefined) => void) {
    this.#pods = pods;
    const event = (before: Pod | undefined, after: Pod | undefined) => {
      const pod = (after ?? before)!;
      const podKey = keyOf(pod);
      for (const key of this.#byNamespace.get(pod.metadata.namespace) ?? []) {
        const selection = this.#selections.get(key)!;
        const was = selection.pods.has(podKey);
        const is = after !== undefined && labelSelectorMatches(selection.selector, after.metadata.labels);
        if (is) selection.pods.set(podKey, after);
        else selection.pods.delete(podKey);
        if (was || is) onChange(key, was ? before : undefined, is ? after : undefined);
      }
    };
    pods.addHandlers({ onAdd: (pod) => event(undefined, pod), onUpdate: event, onDelete: (pod) => event(pod, undefined) });
  }

  /** Follows a selector under a key, which is that of an object of the namespace. */
  set(key: string, namespace: string, selector: LabelSelector | undefined): void {
    const known = this.#selections.get(key);
    if (known && JSON.stringify(known.selector) === JSON.stringify(selector)) return;
    const matching = this.#pods.list(namespace).filter((p) => labelSelectorMatches(selector, p.metadata.labels));
    this.#selections.set(key, { namespace, selector, pods: new Map(matching.map((p) => [keyOf(p), p])) });
    const keys = this.#byNamespace.get(namespace);
    if (keys) keys.add(key);
    else this.#byNamespace.set(namespace, new Set([key]));
  }

  delete(key: string): void {
    const selection = this.#selections.get(key);
    if (!selection) return;
    this.#selections.delete(key);
    const keys = this.#byNamespace.get(selection.namespace)!;
    keys.delete(key);
    if (keys.size === 0) this.#byNamespace.delete(selection.namespace);
  }

  /** The keys whose selectors match the pod. */
  keysOf(pod: Pod): string[] {
    const podKey = keyOf(pod);
    return [...(this.#byNamespace.get(pod.metadata.namespace) ?? [])].filter((key) => this.#selections.get(key)!.pods.has(podKey));
  }

  of(key: string): Pod[] {
    return [...(this.#selections.get(key)?.pods.values() ?? [])];
  }
}
