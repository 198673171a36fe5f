import type { Node, Pod } from '../api/generated/types.ts';
import { NodeInfo } from './node-info.ts';
import { type PodInfo, podInfo } from './pod-info.ts';

/**
 * The cluster as the scheduler sees it: nodes in an array made for scanning, each with its pods, those included that were placed
 * and whose binding the informer does not show yet (assumed). A cycle is one synchronous piece of work, so it reads this directly.
 */
export class Cache {
  /** Nodes that exist, in the order in which they came. */
  readonly nodes: NodeInfo[] = [];
  readonly #byName = new Map<string, NodeInfo>();
  readonly #placed = new Map<string, { info: PodInfo; nodeName: string; assumed: boolean }>();
  readonly #byNamespace = new Map<string, Map<string, PodInfo>>();
  /** Pods that keep others away or draw them near, by uid, and where they are. */
  readonly withAffinity = new Map<string, { info: PodInfo; node: NodeInfo }>();

  /** Pods that have a node, and those of them that the API does not show there yet. */
  counts(): { pods: number; assumed: number } {
    let assumed = 0;
    for (const one of this.#placed.values()) if (one.assumed) assumed++;
    return { pods: this.#placed.size, assumed };
  }

  node(name: string): NodeInfo | undefined {
    const info = this.#byName.get(name);
    return info?.node && info;
  }

  setNode(node: Node): void {
    const info = this.#entry(node.metadata.name);
    if (!info.node) this.nodes.push(info);
    info.setNode(node);
  }

  removeNode(name: string): void {
    const info = this.#byName.get(name);
    if (!info?.node) return;
    this.nodes.splice(this.nodes.indexOf(info), 1);
    info.setNode(undefined);
    if (info.pods.size === 0) this.#byName.delete(name);
  }

  /** A pod that the API shows on a node; takes the place of the assumed one. */
  setPod(pod: Pod): void {
    this.#place(podInfo(pod), pod.spec.nodeName!, false);
  }

  assume(info: PodInfo, nodeName: string): void {
    this.#place(info, nodeName, true);
  }

  /** Takes back what was assumed, unless the binding has been seen since. */
  forget(uid: string): void {
    if (this.#placed.get(uid)?.assumed) this.removePod(uid);
  }

  removePod(uid: string): boolean {
    const placed = this.#placed.get(uid);
    if (!placed) return false;
    this.#placed.delete(uid);
    this.withAffinity.delete(uid);
    const namespace = placed.info.pod.metadata.namespace;
    const peers = this.#byNamespace.get(namespace);
    peers?.delete(uid);
    if (peers?.size === 0) this.#byNamespace.delete(namespace);
    const node = this.#byName.get(placed.nodeName);
    node?.remove(uid);
    if (node && !node.node && node.pods.size === 0) this.#byName.delete(placed.nodeName);
    return true;
  }

  /** Whether the pod has a place already, assumed or seen. */
  isPlaced(uid: string): boolean {
    return this.#placed.has(uid);
  }

  nodeOf(uid: string): NodeInfo | undefined {
    const placed = this.#placed.get(uid);
    return placed && this.#byName.get(placed.nodeName);
  }

  /** Pods of a namespace that have a node. */
  podsIn(namespace: string): Iterable<PodInfo> {
    return this.#byNamespace.get(namespace)?.values() ?? [];
  }

  allPods(): Iterable<{ info: PodInfo; nodeName: string }> {
    return this.#placed.values();
  }

  #entry(name: string): NodeInfo {
    let info = this.#byName.get(name);
    if (!info) this.#byName.set(name, (info = new NodeInfo(name)));
    return info;
  }

  #place(info: PodInfo, nodeName: string, assumed: boolean): void {
    const before = this.#placed.get(info.uid);
    if (before && before.nodeName !== nodeName) this.removePod(info.uid);
    const node = this.#entry(nodeName);
    node.add(info);
    this.#placed.set(info.uid, { info, nodeName, assumed });
    const namespace = info.pod.metadata.namespace;
    let peers = this.#byNamespace.get(namespace);
    if (!peers) this.#byNamespace.set(namespace, (peers = new Map()));
    peers.set(info.uid, info);
    const { affinity } = info.pod.spec;
    if (affinity?.podAffinity || affinity?.podAntiAffinity) this.withAffinity.set(info.uid, { info, node });
    else this.withAffinity.delete(info.uid);
  }
}
