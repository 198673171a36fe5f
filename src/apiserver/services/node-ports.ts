import type { Service } from '../../api/generated/types.ts';
import type { ResourceCache } from '../storage/cache.ts';
import type { CacheHub } from '../storage/hub.ts';

/** Node ports of services, of whatever protocol: a number is one service's. */
export interface NodePorts {
  readonly range: readonly [first: number, last: number];
  isTaken(port: number): Promise<boolean>;
  /** Takes this port, or any; undefined where it is taken, or all are. */
  take(port?: number): Promise<number | undefined>;
  /** Gives back what was taken for a write that failed. */
  giveBack(ports: number[]): Promise<void>;
  /** The write that ports were taken for has this revision. */
  written(ports: number[], revision: number): void;
  /** A service no longer has these. */
  release(ports: number[]): Promise<void>;
}

/** Every node port a service has, once. */
export function nodePortsOf(service: Service): number[] {
  const ports = (service.spec?.ports ?? []).flatMap((p) => (p.nodePort ? [p.nodePort] : []));
  if (service.spec?.healthCheckNodePort) ports.push(service.spec.healthCheckNodePort);
  return [...new Set(ports)];
}

/** A free place of `count`: from a random one of the upper part first, as requested ports tend to be low. */
export function freePlace(count: number, isTaken: (place: number) => boolean): number | undefined {
  const low = count <= 16 ? 0 : Math.min(Math.max(16, Math.floor(count / 32)), 128);
  for (const [from, length] of [[low, count - low] as const, [0, low] as const]) {
    const start = Math.floor(Math.random() * length);
    for (let i = 0; i < length; i++) {
      const place = from + ((start + i) % length);
      if (!isTaken(place)) return place;
    }
  }
  return undefined;
}

/** Where this process alone writes to the store: what the cache of services says, and what writes in flight hold, is the truth. */
export class LocalNodePorts implements NodePorts {
  readonly range: readonly [number, number];
  #hub: CacheHub;
  #used = new Map<number, number>();
  #pending = new Map<number, number>();

  constructor(hub: CacheHub, services: ResourceCache, range: readonly [number, number]) {
    this.#hub = hub;
    this.range = range;
    const count = (object: unknown, by: 1 | -1) => {
      for (const port of nodePortsOf(object as Service)) add(this.#used, port, by);
    };
    for (const entry of services.entries.values()) count(entry.object, 1);
    services.onChange(({ entry, previous, deleted }) => {
      if (previous) count(previous.object, -1);
      if (!deleted) count(entry.object, 1);
    });
  }

  #isTaken(port: number): boolean {
    return this.#used.has(port) || this.#pending.has(port);
  }

  async isTaken(port: number): Promise<boolean> {
    await this.#hub.current();
    return this.#isTaken(port);
  }

  async take(wanted?: number): Promise<number | undefined> {
    const [first, last] = this.range;
    const find = () => {
      if (wanted !== undefined) return this.#isTaken(wanted) ? undefined : wanted;
      const place = freePlace(last - first + 1, (i) => this.#isTaken(first + i));
      return place === undefined ? undefined : first + place;
    };
    let port = find();
    if (port === undefined) {
      // It may have been given back a moment ago.
      await this.#hub.current();
      port = find();
    }
    if (port !== undefined) add(this.#pending, port, 1);
    return port;
  }

  async giveBack(ports: number[]): Promise<void> {
    for (const port of ports) add(this.#pending, port, -1);
  }

  /** From the moment the cache shows the write it counts the ports itself. */
  written(ports: number[], revision: number): void {
    if (ports.length === 0) return;
    const seen = () => this.giveBack(ports);
    const wait = this.#hub.waitFor(revision);
    if (wait) void wait.then(seen, seen);
    else void seen();
  }

  async release(): Promise<void> {}
}

function add(map: Map<number, number>, key: number, by: number): void {
  const left = (map.get(key) ?? 0) + by;
  if (left > 0) map.set(key, left);
  else map.delete(key);
}
