import type { Logger } from 'pino';
import { isAlreadyExists, isConflict, isNotFound } from '../../api/errors.ts';
import { resources } from '../../api/generated/resources.ts';
import type { IPAddress, Service } from '../../api/generated/types.ts';
import type { Client } from '../../client/client.ts';
import type { Clock } from '../../client/clock.ts';
import type { EventRecorder } from '../../client/events.ts';
import { keyFor } from '../api.ts';
import type { ResourceCache } from '../storage/cache.ts';
import { allocatorName, type ClusterIps, clusterIpsOf, familyLabel, ipAddressFor, managedByLabel, refersTo } from './cluster-ips.ts';
import { nameOf } from './allocators.ts';
import type { SharedNodePorts } from './range-allocation.ts';

/** How long an address may wait for its service to be written: as long as a request may take. Milliseconds. */
const graceMs = 60_000;
/** How long one waits where its service has another: the write that took it may be about to fail. Milliseconds. */
const revertMs = 5_000;
/** All of it is looked through again this often, milliseconds; changes are looked at when they happen. */
const intervalMs = 180_000;
const retryMs = 1_000;

export interface RepairOptions {
  client: Client;
  clock: Clock;
  log: Logger;
  events: EventRecorder;
  ips: ClusterIps;
  ports: SharedNodePorts | undefined;
  services: ResourceCache;
  addresses: ResourceCache;
  signal: AbortSignal;
}

/**
 * Keeps services and their IPAddress objects together, as upstream's ipallocator-repair-controller: makes what is missing, removes
 * what a server that died left behind. Node ports in the store are compared with the services in the same rounds.
 */
export class AllocationRepair {
  readonly #o: RepairOptions;
  readonly #queue = new Set<string>();
  readonly #waiting = new Map<string, () => void>();
  #working = false;

  constructor(o: RepairOptions) {
    this.#o = o;
  }

  /** The first round; then follows. Rejects where the first round fails. */
  async start(): Promise<void> {
    const { services, addresses, signal } = this.#o;
    await this.#round();
    const stops = [
      services.onChange(({ entry, deleted }) => {
        if (!deleted) this.#enqueue(`service ${entry.key}`);
      }),
      addresses.onChange(({ entry, previous, deleted }) => {
        if (!deleted) this.#enqueue(`address ${entry.key}`);
        // Whose address was taken away gets it back.
        const parent = (deleted ? ((previous?.object ?? entry.object) as unknown as IPAddress) : undefined)?.spec?.parentRef;
        if (parent?.resource === 'services') this.#enqueueAfter(`service ${keyFor(parent.namespace ?? '', parent.name)}`, retryMs);
      }),
    ];
    let cancel = () => {};
    const again = () => {
      cancel = this.#o.clock.after(intervalMs, () => {
        void this.#round().catch((error) => this.#o.log.warn({ err: error }, 'service allocations could not be repaired'));
        again();
      });
    };
    again();
    signal.addEventListener(
      'abort',
      () => {
        cancel();
        for (const stop of stops) stop();
        for (const stop of this.#waiting.values()) stop();
      },
      { once: true },
    );
  }

  async #round(): Promise<void> {
    for (const key of [...this.#o.services.entries.keys()]) await this.#service(key);
    for (const key of [...this.#o.addresses.entries.keys()]) await this.#address(key);
    await this.#o.ports?.repair();
  }

  #enqueue(item: string): void {
    this.#queue.add(item);
    if (!this.#working) void this.#work();
  }

  #enqueueAfter(item: string, ms: number): void {
    this.#waiting.get(item)?.();
    this.#waiting.set(
      item,
      this.#o.clock.after(ms, () => {
        this.#waiting.delete(item);
        this.#enqueue(item);
      }),
    );
  }

  async #work(): Promise<void> {
    this.#working = true;
    // Out of the stack of whoever tells of the change.
    await Promise.resolve();
    for (const item of this.#queue) {
      this.#queue.delete(item);
      if (this.#o.signal.aborted) break;
      const key = item.slice(item.indexOf(' ') + 1);
      try {
        const work = item.startsWith('service ') ? this.#service(key) : this.#address(key);
        if (work) await work;
      } catch (error) {
        if (this.#o.signal.aborted) break;
        this.#o.log.warn({ err: error, item }, 'a service allocation could not be repaired yet');
        this.#enqueueAfter(item, retryMs);
      }
    }
    this.#working = false;
  }

  #service(key: string): Promise<void> | undefined {
    const service = this.#o.services.get(key)?.object as unknown as Service | undefined;
    if (!service) return undefined;
    const wrong = clusterIpsOf(service).filter((address) => {
      const ip = this.#o.addresses.get(address)?.object as unknown as IPAddress | undefined;
      return !ip || !refersTo(ip, nameOf(service)) || !hasLabels(ip);
    });
    return wrong.length ? this.#repairService(service, wrong) : undefined;
  }

  async #repairService(service: Service, addresses: string[]): Promise<void> {
    const { events, ips, services } = this.#o;
    const { namespace, name } = nameOf(service);
    const warn = (reason: string, message: string) => events.event(service as never, 'Warning', reason, message);
    for (const address of addresses) {
      const family = address.includes(':') ? 'IPv6' : 'IPv4';
      if (!ips.inRange(address)) {
        // An IPv6 address of before is nobody's to give here.
        if (family === 'IPv4')
          warn('ClusterIPOutOfRange', `Cluster IP [${family}]: ${address} is not within any configured Service CIDR; please recreate service`);
        continue;
      }
      const ip = this.#o.addresses.get(address)?.object as unknown as IPAddress | undefined;
      if (!ip) {
        warn('ClusterIPNotAllocated', `Cluster IP [${family}]: ${address} is not allocated; repairing`);
        await this.#make(address, service);
        continue;
      }
      const parent = ip.spec?.parentRef;
      const other =
        parent && !parent.group && parent.resource === 'services' && !refersTo(ip, { namespace, name })
          ? (services.get(keyFor(parent.namespace ?? '', parent.name))?.object as unknown as Service | undefined)
          : undefined;
      if (other && clusterIpsOf(other).includes(address)) {
        warn('ClusterIPAlreadyAllocated', `Cluster IP [${family}]:${address} was assigned to multiple services; please recreate service`);
        continue;
      }
      if (!refersTo(ip, { namespace, name }))
        warn('ClusterIPNotAllocated', `the ClusterIP [${family}]: ${address} for Service ${namespace}/${name} has a wrong reference; repairing`);
      await this.#remove(ip);
      await this.#make(address, service);
    }
  }

  async #make(address: string, service: Service): Promise<void> {
    try {
      await this.#o.client.create(resources.ipaddresses, ipAddressFor(address, nameOf(service)) as never);
    } catch (error) {
      // Another server was faster; what it made is looked at when it is heard of.
      if (!isAlreadyExists(error)) throw error;
    }
  }

  async #remove(ip: IPAddress): Promise<void> {
    try {
      await this.#o.client.delete(resources.ipaddresses, { name: ip.metadata.name }, { preconditions: { uid: ip.metadata.uid! } });
    } catch (error) {
      if (!isNotFound(error) && !isConflict(error)) throw error;
    }
  }

  #address(key: string): Promise<void> | undefined {
    const ip = this.#o.addresses.get(key)?.object as unknown as IPAddress | undefined;
    if (ip?.metadata.labels?.[managedByLabel] !== allocatorName) return undefined;
    const { events, clock } = this.#o;
    const parent = ip.spec?.parentRef;
    const warn = (reason: string, message: string) => events.event(ip as never, 'Warning', reason, message);
    if (!parent || parent.group || parent.resource !== 'services') {
      warn('IPAddressNotAllocated', `IPAddress ${key} appears to have been modified, not referencing a Service: cleaning up`);
      return this.#remove(ip);
    }
    const owner = `${parent.namespace}/${parent.name}`;
    const service = this.#o.services.get(keyFor(parent.namespace ?? '', parent.name))?.object as unknown as Service | undefined;
    if (service && clusterIpsOf(service).includes(key)) return undefined;
    const age = clock.now() - Date.parse(ip.metadata.creationTimestamp ?? '');
    const grace = !service || service.spec?.type === 'ExternalName' ? graceMs : revertMs;
    if (age < grace) {
      this.#enqueueAfter(`address ${key}`, grace - age);
      return undefined;
    }
    if (service) warn('IPAddressWrongReference', `IPAddress: ${key} for Service ${owner} has a wrong reference; cleaning up`);
    else warn('IPAddressNotAllocated', `IPAddress: ${key} for Service ${owner} appears to have leaked: cleaning up`);
    return this.#remove(ip);
  }
}

function hasLabels(ip: IPAddress): boolean {
  const { labels } = ip.metadata;
  return labels?.[managedByLabel] === allocatorName && labels[familyLabel] === (ip.metadata.name.includes(':') ? 'IPv6' : 'IPv4');
}
