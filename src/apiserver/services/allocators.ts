import type { Logger } from 'pino';
import { StatusError } from '../../api/errors.ts';
import type { Service } from '../../api/generated/types.ts';
import type { Client } from '../../client/client.ts';
import type { Registry } from '../registry.ts';
import type { CacheHub } from '../storage/hub.ts';
import { ClusterIps, clusterIpsOf, type ServiceName, type TakenAddress } from './cluster-ips.ts';
import type { Allocation } from './hooks.ts';
import { LocalNodePorts, type NodePorts, nodePortsOf } from './node-ports.ts';
import { SharedNodePorts } from './range-allocation.ts';

/** What services are given: addresses and node ports. */
export class ServiceAllocators {
  readonly ips: ClusterIps;
  readonly ports: NodePorts;
  /** The same, where they are kept in the store. */
  readonly sharedPorts: SharedNodePorts | undefined;

  /** Call when the caches are loaded; `client` is asked for when the first address is taken. */
  constructor(hub: CacheHub, registry: Registry, ports: readonly [number, number], client: () => Client, log: Logger) {
    const services = registry.cache('', 'v1', 'services');
    const caches = {
      services,
      cidrs: registry.cache('networking.k8s.io', 'v1', 'servicecidrs'),
      addresses: registry.cache('networking.k8s.io', 'v1', 'ipaddresses'),
    };
    this.ips = new ClusterIps(hub, caches, client, log);
    this.sharedPorts = hub.store.shared ? new SharedNodePorts(hub, services, ports, log) : undefined;
    this.ports = this.sharedPorts ?? new LocalNodePorts(hub, services, ports);
  }

  /** Gives back what a service had that is gone, or that has become `now`. */
  async release(service: Service, now?: Service): Promise<void> {
    const kept = new Set<string | number>(now ? [...clusterIpsOf(now), ...nodePortsOf(now)] : []);
    const owner = nameOf(service);
    await Promise.all([
      ...clusterIpsOf(service).flatMap((address) => (kept.has(address) ? [] : [this.ips.release(address, owner)])),
      this.ports.release(nodePortsOf(service).filter((port) => !kept.has(port))),
    ]);
  }
}

export const nameOf = ({ metadata }: Service): ServiceName => ({ namespace: metadata.namespace ?? '', name: metadata.name ?? '' });

/** What one write in flight has taken. */
export class Hold implements Allocation {
  readonly #allocators: ServiceAllocators;
  readonly #before: Service | undefined;
  readonly #after: Service;
  readonly #addresses: TakenAddress[] = [];
  #ports: number[] = [];
  /** A dry run takes nothing, and chooses its ports from here on. */
  readonly dryRun: boolean;
  readonly imagined: number[] = [];

  constructor(allocators: ServiceAllocators, after: Service, before: Service | undefined, dryRun: boolean) {
    this.#allocators = allocators;
    this.#after = after;
    this.#before = before;
    this.dryRun = dryRun;
  }

  address(taken: TakenAddress): void {
    this.#addresses.push(taken);
  }

  port(port: number): void {
    this.#ports.push(port);
  }

  async commit(revision: number): Promise<void> {
    const { ports } = this.#allocators;
    ports.written(this.#ports, revision);
    this.#ports = [];
    this.#addresses.length = 0;
    if (this.#before && !this.dryRun) await this.#allocators.release(this.#before, this.#after);
  }

  /** After what the write failed with. Where nobody knows whether it was done, what it took is left to the repair loops. */
  async release(error?: unknown): Promise<void> {
    if (error !== undefined && !(error instanceof StatusError) && this.#allocators.sharedPorts) return;
    const addresses = this.#addresses.splice(0);
    const ports = this.#ports.splice(0);
    await Promise.all([
      ...addresses.map((taken) => this.#allocators.ips.giveBack(taken)),
      ports.length ? this.#allocators.ports.giveBack(ports) : undefined,
    ]);
  }
}
