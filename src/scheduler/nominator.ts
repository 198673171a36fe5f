import type { PodInfo } from './pod-info.ts';

/** Which pods have been promised a node from which others are being preempted. */
export class Nominator {
  readonly byNode = new Map<string, Map<string, PodInfo>>();
  readonly #nodes = new Map<string, string>();

  set(info: PodInfo, node: string): void {
    this.delete(info.uid);
    this.#nodes.set(info.uid, node);
    let pods = this.byNode.get(node);
    if (!pods) this.byNode.set(node, (pods = new Map()));
    pods.set(info.uid, info);
  }

  delete(uid: string): void {
    const node = this.#nodes.get(uid);
    if (node === undefined) return;
    this.#nodes.delete(uid);
    const pods = this.byNode.get(node)!;
    pods.delete(uid);
    if (pods.size === 0) this.byNode.delete(node);
  }

  nodeOf(uid: string): string | undefined {
    return this.#nodes.get(uid);
  }
}
