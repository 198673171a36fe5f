import type { Node } from '../api/generated/types.ts';
import type { HostPort, PodInfo } from './pod-info.ts';
import { add, type Amounts, amountsOf } from './requests.ts';

/** A node and what runs on it, in the form that filters and scores read. */
export class NodeInfo {
  readonly name: string;
  /** Missing where pods name a node that is not known (yet, or any more). */
  node: Node | undefined;
  allocatable: Amounts = {};
  requested: Amounts = {};
  scored = { cpu: 0, memory: 0 };
  readonly pods = new Map<string, PodInfo>();
  readonly ports: HostPort[] = [];
  /** How many pods use a claim, by namespace/name. */
  readonly claims = new Map<string, number>();
  /** Image name to size in bytes. */
  images = new Map<string, number>();

  constructor(name: string) {
    this.name = name;
  }

  get labels(): Record<string, string> {
    return this.node?.metadata.labels ?? {};
  }

  setNode(node: Node | undefined): void {
    this.node = node;
    this.allocatable = amountsOf(node?.status?.allocatable);
    this.images = new Map((node?.status?.images ?? []).flatMap((image) => (image.names ?? []).map((name) => [name, image.sizeBytes ?? 0] as const)));
  }

  add(info: PodInfo): void {
    if (this.pods.has(info.uid)) this.remove(info.uid);
    this.pods.set(info.uid, info);
    this.#count(info, 1);
    this.ports.push(...info.hostPorts);
  }

  remove(uid: string): void {
    const info = this.pods.get(uid);
    if (!info) return;
    this.pods.delete(uid);
    this.#count(info, -1);
    for (const port of info.hostPorts) this.ports.splice(this.ports.indexOf(port), 1);
  }

  #count(info: PodInfo, sign: 1 | -1): void {
    add(this.requested, info.requests, sign);
    this.scored.cpu += sign * info.score.cpu;
    this.scored.memory += sign * info.score.memory;
    for (const claim of info.claims) {
      const key = `${info.pod.metadata.namespace}/${claim}`;
      const users = (this.claims.get(key) ?? 0) + sign;
      if (users > 0) this.claims.set(key, users);
      else this.claims.delete(key);
    }
  }

  /** A copy to try something out on. */
  clone(): NodeInfo {
    const copy = new NodeInfo(this.name);
    copy.node = this.node;
    copy.allocatable = this.allocatable;
    copy.images = this.images;
    for (const info of this.pods.values()) copy.add(info);
    return copy;
  }
}
