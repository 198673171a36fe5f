import type { Node } from '../../api/generated/types.ts';

/** A zone with so many silent nodes, and this share of them, is disturbed itself: nodes are evicted slowly or not at all. */
const PARTIAL_NODES = 2;
const PARTIAL_SHARE = 0.55;
/** Nodes a second from which pods are evicted, in a sound zone and in a disturbed large one. */
const EVICTION_RATE = 0.1;
const SLOW_RATE = 0.01;
const LARGE_ZONE = 50;

interface Zone {
  ready: Set<string>;
  unready: Set<string>;
  lastEviction: number;
}

/**
 * How many nodes of each zone are silent: many at once point to a broken network rather than to broken nodes, and moving all pods
 * would make it worse. As upstream's node lifecycle controller.
 */
export class Zones {
  readonly #zones = new Map<string, Zone>();
  readonly #zoneOf = new Map<string, string>();

  /** Notes the state of a node. Returns whether the cluster as a whole went out of, or came back into, reach. */
  note(node: Node, isReady: boolean): boolean {
    const before = this.isAllDown();
    const name = node.metadata.name;
    const labels = node.metadata.labels ?? {};
    const key = `${labels['topology.kubernetes.io/region'] ?? ''}/${labels['topology.kubernetes.io/zone'] ?? ''}`;
    if (this.#zoneOf.get(name) !== key) this.#drop(name);
    this.#zoneOf.set(name, key);
    let zone = this.#zones.get(key);
    if (!zone) this.#zones.set(key, (zone = { ready: new Set(), unready: new Set(), lastEviction: Number.NEGATIVE_INFINITY }));
    (isReady ? zone.unready : zone.ready).delete(name);
    (isReady ? zone.ready : zone.unready).add(name);
    return this.isAllDown() !== before;
  }

  forget(name: string): boolean {
    const before = this.isAllDown();
    this.#drop(name);
    return this.isAllDown() !== before;
  }

  #drop(name: string): void {
    const key = this.#zoneOf.get(name);
    if (key === undefined) return;
    this.#zoneOf.delete(name);
    const zone = this.#zones.get(key)!;
    zone.ready.delete(name);
    zone.unready.delete(name);
    if (zone.ready.size + zone.unready.size === 0) this.#zones.delete(key);
  }

  /** No node anywhere is ready: then it is more likely that we are cut off. */
  isAllDown(): boolean {
    if (this.#zones.size === 0) return false;
    for (const zone of this.#zones.values()) if (zone.ready.size > 0) return false;
    return true;
  }

  /** Milliseconds until pods of this node may be evicted, counted as begun when it is 0; undefined: not as things are. */
  untilEviction(name: string, now: number): number | undefined {
    const zone = this.#zones.get(this.#zoneOf.get(name) ?? '');
    if (!zone || this.isAllDown()) return undefined;
    const size = zone.ready.size + zone.unready.size;
    const partial = zone.ready.size > 0 && zone.unready.size > PARTIAL_NODES && zone.unready.size / size >= PARTIAL_SHARE;
    if (partial && size <= LARGE_ZONE) return undefined;
    const wait = zone.lastEviction + 1000 / (partial ? SLOW_RATE : EVICTION_RATE) - now;
    if (wait > 0) return wait;
    zone.lastEviction = now;
    return 0;
  }
}
