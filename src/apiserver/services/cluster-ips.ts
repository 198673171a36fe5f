import { isAlreadyExists, isConflict, isNotFound } from '../../api/errors.ts';
import { resources } from '../../api/generated/resources.ts';
import type { IPAddress, Service, ServiceCIDR } from '../../api/generated/types.ts';
import type { Logger } from 'pino';
import type { Client } from '../../client/client.ts';
import type { ResourceCache } from '../storage/cache.ts';
import type { CacheHub } from '../storage/hub.ts';
import { formatIpv4, givesOut, type Ipv4Range, ipv4Range, parseIpv4 } from './ipv4.ts';

export const familyLabel = 'ipaddress.kubernetes.io/ip-family';
export const managedByLabel = 'ipaddress.kubernetes.io/managed-by';
export const allocatorName = 'ipallocator.k8s.io';

/** The service that an address is for. */
export interface ServiceName {
  namespace: string;
  name: string;
}

/** An address that was taken: the IPAddress object's name and uid. */
export interface TakenAddress {
  address: string;
  uid: string;
}

/** Why an address was not given, in upstream's words. */
export class RefusedAddress extends Error {}

/** The IPAddress object by which a service has an address. */
export const ipAddressFor = (address: string, service: ServiceName) => ({
  apiVersion: 'networking.k8s.io/v1',
  kind: 'IPAddress',
  metadata: { name: address, labels: { [familyLabel]: address.includes(':') ? 'IPv6' : 'IPv4', [managedByLabel]: allocatorName } },
  spec: { parentRef: { group: '', resource: 'services', namespace: service.namespace, name: service.name } },
});

/**
 * Addresses of services. One is taken by creating its IPAddress object, which can succeed once, whoever else writes to the store;
 * the caches only say where it is worth trying. Ranges are those of ServiceCIDRs that are ready and not being deleted.
 */
export class ClusterIps {
  #hub: CacheHub;
  #client: () => Client;
  #cidrs: ResourceCache;
  #addresses: ResourceCache;
  #log: Logger;
  /** What IPAddress objects and services have, by how many of them. */
  #used = new Map<number, number>();
  /** What is being created now. */
  #pending = new Set<number>();
  #ranges: { cidr: string; range: Ipv4Range; ready: boolean }[] | undefined;

  constructor(hub: CacheHub, caches: { cidrs: ResourceCache; addresses: ResourceCache; services: ResourceCache }, client: () => Client, log: Logger) {
    this.#hub = hub;
    this.#client = client;
    this.#cidrs = caches.cidrs;
    this.#addresses = caches.addresses;
    this.#log = log;
    caches.cidrs.onChange(() => {
      this.#ranges = undefined;
    });
    this.#follow(caches.addresses, (object) => [(object as IPAddress).metadata.name]);
    // Services of a time before there were IPAddress objects for them have their addresses too.
    this.#follow(caches.services, (object) => clusterIpsOf(object as Service));
  }

  #follow(cache: ResourceCache, addressesOf: (object: unknown) => string[]): void {
    const count = (object: unknown, by: 1 | -1) => {
      for (const text of addressesOf(object)) {
        const address = parseIpv4(text);
        if (address === undefined) continue;
        const left = (this.#used.get(address) ?? 0) + by;
        if (left > 0) this.#used.set(address, left);
        else this.#used.delete(address);
      }
    };
    for (const entry of cache.entries.values()) count(entry.object, 1);
    cache.onChange(({ entry, previous, deleted }) => {
      if (previous) count(previous.object, -1);
      if (!deleted) count(entry.object, 1);
    });
  }

  #all(): { cidr: string; range: Ipv4Range; ready: boolean }[] {
    this.#ranges ??= [...this.#cidrs.entries.values()].flatMap(({ object }) => {
      const found = object as unknown as ServiceCIDR;
      const ready = !found.metadata.deletionTimestamp && found.status?.conditions?.find((c) => c.type === 'Ready')?.status !== 'False';
      return (found.spec?.cidrs ?? []).flatMap((cidr) => {
        const range = ipv4Range(cidr);
        return range ? [{ cidr, range, ready }] : [];
      });
    });
    return this.#ranges;
  }

  #ready() {
    return this.#all().filter((r) => r.ready);
  }

  /** Whether any ServiceCIDR, ready or not, holds the address. */
  inRange(address: string): boolean {
    const value = parseIpv4(address);
    return value !== undefined && this.#all().some(({ range }) => givesOut(range, value));
  }

  /** Any free address; undefined where every range is full. */
  async takeAny(service: ServiceName): Promise<TakenAddress | undefined> {
    for (let attempt = 0; ; attempt++) {
      for (const { range } of this.#ready()) {
        for (const address of candidates(range)) {
          if (this.#used.has(address) || this.#pending.has(address)) continue;
          const taken = await this.#create(formatIpv4(address), service);
          if (taken) return taken;
        }
      }
      // What the caches have not heard of yet, as a range that is new or an address given back, may help.
      if (attempt > 0) return undefined;
      await this.#hub.current();
    }
  }

  /** This address; RefusedAddress where it is not to be had. */
  async take(address: string, service: ServiceName): Promise<TakenAddress> {
    const value = parseIpv4(address);
    const isGiven = () => value !== undefined && this.#ready().some(({ range }) => givesOut(range, value));
    if (!isGiven()) {
      await this.#hub.current();
      if (!isGiven()) throw new RefusedAddress('the provided network does not match the current range');
    }
    const taken = await this.#create(address, service);
    if (!taken) throw new RefusedAddress('provided IP is already allocated');
    return taken;
  }

  /** What a dry run says: as upstream, the first range's own address, or only whether the wanted one lies in a range. */
  dryRun(address: string | undefined): string {
    const ranges = this.#ready();
    const value = address === undefined ? undefined : parseIpv4(address);
    if (address !== undefined) {
      if (value !== undefined && ranges.some(({ range }) => givesOut(range, value))) return address;
      throw new RefusedAddress(`the provided IP (${address}) is not in the valid range. The range of valid IPs is ${ranges[0]?.cidr ?? ''}`);
    }
    return ranges[0] ? formatIpv4(ranges[0].range.base) : '0.0.0.0';
  }

  async #create(address: string, service: ServiceName): Promise<TakenAddress | undefined> {
    const value = parseIpv4(address)!;
    this.#pending.add(value);
    try {
      const made = (await this.#client().create(resources.ipaddresses, ipAddressFor(address, service) as never)) as IPAddress;
      return { address, uid: made.metadata.uid! };
    } catch (error) {
      if (isAlreadyExists(error)) return undefined;
      throw error;
    } finally {
      this.#pending.delete(value);
    }
  }

  /** Gives back what was taken for a write that failed. What cannot be given back is left to the repair loop. */
  async giveBack({ address, uid }: TakenAddress): Promise<void> {
    try {
      await this.#client().delete(resources.ipaddresses, { name: address }, { preconditions: { uid } });
    } catch (error) {
      if (!isNotFound(error) && !isConflict(error)) this.#log.warn({ err: error, address }, 'a service address could not be given back');
    }
  }

  /** Gives back the address of a service that no longer has it; not one that is another's by now. */
  async release(address: string, service: ServiceName): Promise<void> {
    try {
      const known = this.#addresses.get(address)?.object as unknown as IPAddress | undefined;
      const found = known ?? ((await this.#client().get(resources.ipaddresses, { name: address })) as IPAddress);
      if (refersTo(found, service)) await this.giveBack({ address, uid: found.metadata.uid! });
    } catch (error) {
      if (!isNotFound(error)) this.#log.warn({ err: error, address }, 'a service address could not be given back');
    }
  }
}

export function refersTo(ip: IPAddress, service: ServiceName): boolean {
  const parent = ip.spec?.parentRef;
  return !!parent && !parent.group && parent.resource === 'services' && parent.namespace === service.namespace && parent.name === service.name;
}

/** The addresses that a service has; none of a headless one. */
export function clusterIpsOf(service: Service): string[] {
  const { clusterIP, clusterIPs } = service.spec ?? {};
  if (service.spec?.type === 'ExternalName' || !clusterIP || clusterIP === 'None') return [];
  return clusterIPs?.length ? clusterIPs : [clusterIP];
}

/** From a random place of the upper part first: requested addresses tend to be low, so they seldom clash. */
function* candidates({ base, size }: Ipv4Range): Generator<number> {
  const usable = size - 2;
  if (usable <= 0) return;
  const low = size <= 16 ? 0 : Math.min(Math.max(16, Math.floor(size / 16)), 256);
  const upper = usable - low;
  let start = Math.floor(Math.random() * upper);
  for (let i = 0; i < upper; i++) yield base + 1 + low + ((start + i) % upper);
  start = Math.floor(Math.random() * low);
  for (let i = 0; i < low; i++) yield base + 1 + ((start + i) % low);
}
