import type { Service } from '../../api/generated/types.ts';
import type { ResourceCache } from '../storage/cache.ts';
import type { CacheHub } from '../storage/hub.ts';
import type { Allocation } from './hooks.ts';

/** Addresses of an IPv4 range, as numbers. The first is the network, the last the broadcast address: neither is given out. */
export interface Ipv4Range {
  base: number;
  size: number;
}

export function parseCidr(cidr: string): Ipv4Range {
  const [address = '', bits = ''] = cidr.split('/');
  const size = 2 ** (32 - Number(bits));
  const base = parseIpv4(address);
  if (base === undefined || !(Number(bits) >= 8 && Number(bits) <= 30)) throw new Error(`${cidr} is not an IPv4 range of /8 to /30`);
  return { base: base - (base % size), size };
}

export function parseIpv4(text: string): number | undefined {
  const parts = text.split('.');
  if (parts.length !== 4) return undefined;
  let value = 0;
  for (const part of parts) {
    if (!/^(0|[1-9]\d{0,2})$/.test(part) || Number(part) > 255) return undefined;
    value = value * 256 + Number(part);
  }
  return value;
}

export const formatIpv4 = (value: number): string => [24, 16, 8, 0].map((shift) => Math.floor(value / 2 ** shift) % 256).join('.');

/** The first address that services get: the API server's own. */
export const firstAddress = (cidr: string): string => formatIpv4(parseCidr(cidr).base + 1);

/**
 * Which service addresses and node ports are in use: what the cache of services says, and what writes in flight hold.
 * One process writes services, so this is the truth.
 */
export class ServiceAllocators {
  readonly range: Ipv4Range;
  readonly cidr: string;
  readonly ports: readonly [number, number];
  #hub: CacheHub;
  /** Numeric address to the keys of services that have it. */
  #addresses = new Map<number, Set<string>>();
  #nodePorts = new Map<string, Set<string>>();
  #pendingAddresses = new Map<number, number>();
  #pendingPorts = new Map<string, number>();
  #next = 0;

  constructor(hub: CacheHub, cidr: string, ports: readonly [number, number]) {
    this.#hub = hub;
    this.cidr = cidr;
    this.range = parseCidr(cidr);
    this.ports = ports;
  }

  /** Follows the services; call after the caches are loaded. */
  follow(services: ResourceCache): void {
    for (const entry of services.entries.values()) this.#count(entry.key, entry.object as unknown as Service, 1);
    services.onChange(({ entry, previous, deleted }) => {
      if (previous) this.#count(entry.key, previous.object as unknown as Service, -1);
      if (!deleted) this.#count(entry.key, entry.object as unknown as Service, 1);
    });
  }

  #count(key: string, service: Service, by: 1 | -1): void {
    const change = <K>(map: Map<K, Set<string>>, id: K) => {
      const keys = map.get(id);
      if (by > 0) {
        if (keys) keys.add(key);
        else map.set(id, new Set([key]));
      } else if (keys) {
        keys.delete(key);
        if (keys.size === 0) map.delete(id);
      }
    };
    const address = service.spec?.clusterIP ? parseIpv4(service.spec.clusterIP) : undefined;
    if (address !== undefined) change(this.#addresses, address);
    for (const id of nodePortsOf(service)) change(this.#nodePorts, id);
  }

  addressInUse(address: number): boolean {
    return this.#addresses.has(address) || this.#pendingAddresses.has(address);
  }

  contains(address: number): boolean {
    return address > this.range.base && address < this.range.base + this.range.size - 1;
  }

  /** Allocated dynamically: from the upper part first, so that requested addresses, which tend to be low, seldom clash. */
  takeAddress(hold: Hold): string | undefined {
    const { base, size } = this.range;
    const usable = size - 2;
    const low = Math.min(Math.max(16, Math.floor(size / 16)), 256, Math.floor(usable / 2));
    const upper = usable - low;
    const start = this.#next || Math.floor(Math.random() * upper);
    for (let i = 0; i < upper; i++) {
      const offset = low + ((start + i) % upper) + 1;
      if (this.addressInUse(base + offset)) continue;
      this.#next = (start + i + 1) % upper;
      hold.address(base + offset);
      return formatIpv4(base + offset);
    }
    for (let offset = 1; offset <= low; offset++) {
      if (this.addressInUse(base + offset)) continue;
      hold.address(base + offset);
      return formatIpv4(base + offset);
    }
    return undefined;
  }

  portInUse(protocol: string, port: number): boolean {
    const id = `${protocol}/${port}`;
    return this.#nodePorts.has(id) || this.#pendingPorts.has(id);
  }

  takePort(protocols: string[], hold: Hold): number | undefined {
    const [from, to] = this.ports;
    const count = to - from + 1;
    const start = Math.floor(Math.random() * count);
    for (let i = 0; i < count; i++) {
      const port = from + ((start + i) % count);
      if (protocols.some((p) => this.portInUse(p, port))) continue;
      for (const p of protocols) hold.port(p, port);
      return port;
    }
    return undefined;
  }

  hold(): Hold {
    return new Hold(this.#pendingAddresses, this.#pendingPorts, this.#hub);
  }
}

/** What one write in flight has taken. */
export class Hold implements Allocation {
  #addresses: Map<number, number>;
  #ports: Map<string, number>;
  #hub: CacheHub;
  #releases: (() => void)[] = [];

  constructor(addresses: Map<number, number>, ports: Map<string, number>, hub: CacheHub) {
    this.#addresses = addresses;
    this.#ports = ports;
    this.#hub = hub;
  }

  address(address: number): void {
    this.#take(this.#addresses, address);
  }

  port(protocol: string, port: number): void {
    this.#take(this.#ports, `${protocol}/${port}`);
  }

  #take<K>(map: Map<K, number>, id: K): void {
    map.set(id, (map.get(id) ?? 0) + 1);
    this.#releases.push(() => {
      const left = (map.get(id) ?? 1) - 1;
      if (left > 0) map.set(id, left);
      else map.delete(id);
    });
  }

  /** From the moment the caches show the write they count it themselves. */
  commit(revision: number): void {
    if (this.#releases.length === 0) return;
    const wait = this.#hub.waitFor(revision);
    if (!wait) this.release();
    else
      void wait.then(
        () => this.release(),
        () => this.release(),
      );
  }

  release(): void {
    for (const release of this.#releases) release();
    this.#releases = [];
  }
}

/** protocol/port of every node port a service has. */
export function nodePortsOf(service: Service): string[] {
  const ids = (service.spec?.ports ?? []).filter((p) => p.nodePort).map((p) => `${p.protocol ?? 'TCP'}/${p.nodePort}`);
  if (service.spec?.healthCheckNodePort) ids.push(`TCP/${service.spec.healthCheckNodePort}`);
  return ids;
}
