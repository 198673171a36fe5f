import type { Logger } from 'pino';
import { sameJson } from '../../api/equality.ts';
import { isAlreadyExists, isConflict, isInvalid, isNotFound } from '../../api/errors.ts';
import { resources } from '../../api/generated/resources.ts';
import type { Endpoints, EndpointSlice, Service } from '../../api/generated/types.ts';
import type { Draft } from '../../api/object.ts';
import { decodeProtobuf } from '../../api/protobuf.ts';
import type { Client } from '../../client/client.ts';
import type { Clock } from '../../client/clock.ts';
import { LeaseNotFoundError, prefixEnd, type Store, type StoreWatch } from '../../store/store.ts';
import type { ResourceCache } from '../storage/cache.ts';
import { firstAddress } from './ipv4.ts';

/** Where upstream's API servers say that they are alive: a key each, named for its address, that goes with its lease. */
export const serverLeases = '/registry/masterleases/';
/** Seconds after which a server that is silent is no endpoint; upstream's. */
const leaseSeconds = 15;
const renewMs = 5_000;
const retryMs = 1_000;

export interface KubernetesServiceOptions {
  store: Store;
  client: Client;
  clock: Clock;
  log: Logger;
  serviceCidr: string;
  /** Where this server is reached; without it the endpoints are left to others. */
  advertise: { address: string; port: number } | undefined;
  /** Services, Endpoints and EndpointSlices. */
  caches: ResourceCache[];
  leaseSeconds?: number;
  renewMs?: number;
}

/**
 * The service default/kubernetes and its endpoints: every API server that shares the store. Each holds a lease there, as upstream's do,
 * and brings the endpoints to what the leases say when one comes or goes. Where the store is not shared, there is this server alone.
 */
export class KubernetesService {
  readonly #o: KubernetesServiceOptions;
  #lease: number | undefined;
  #watch: StoreWatch | undefined;
  #cancel = () => {};
  #cancelRetry = () => {};
  #stops: (() => void)[] = [];
  #stopping = false;
  #dirty = false;
  #working: Promise<void> | undefined;

  constructor(o: KubernetesServiceOptions) {
    this.#o = o;
  }

  /** Makes the service and this server one of its endpoints, then keeps both. */
  async start(): Promise<void> {
    await this.#renew();
    await this.#reconcile();
    if (this.#stopping) return;
    const { caches, store, advertise } = this.#o;
    for (const cache of caches)
      this.#stops.push(
        cache.onChange(({ entry }) => {
          if (entry.key === 'default/kubernetes') this.#soon();
        }),
      );
    if (store.shared && advertise) {
      this.#followLeases();
      this.#renewLater();
    }
  }

  /** Gives up this server's place among the endpoints, where there can be others. */
  async stop(): Promise<void> {
    this.#stopping = true;
    this.#cancel();
    this.#cancelRetry();
    this.#watch?.close();
    for (const stop of this.#stops) stop();
    await this.#working;
    const lease = this.#lease;
    if (lease === undefined) return;
    this.#lease = undefined;
    await this.#o.store.revokeLease(lease);
    await this.#reconcileEndpoints(await this.#servers());
  }

  async #renew(): Promise<void> {
    const { store, advertise } = this.#o;
    if (!store.shared || !advertise) return;
    if (this.#lease !== undefined) {
      try {
        return await store.keepLeaseAlive(this.#lease);
      } catch (error) {
        if (!(error instanceof LeaseNotFoundError)) throw error;
      }
    }
    const lease = await store.grantLease(this.#o.leaseSeconds ?? leaseSeconds);
    const object = {
      apiVersion: 'v1',
      kind: 'Endpoints',
      metadata: { creationTimestamp: null },
      subsets: [{ addresses: [{ ip: advertise.address }] }],
    };
    await store.transaction([], [{ type: 'put', key: serverLeases + advertise.address, value: Buffer.from(JSON.stringify(object)), lease }]);
    this.#lease = lease;
  }

  #renewLater(): void {
    this.#cancel = this.#o.clock.after(this.#o.renewMs ?? renewMs, () => {
      void this.#renew()
        .catch((error) => this.#o.log.warn({ err: error }, 'the lease of this API server could not be renewed'))
        .then(() => {
          if (!this.#stopping) this.#renewLater();
        });
    });
  }

  #followLeases(): void {
    this.#watch = this.#o.store.watch({
      start: serverLeases,
      end: prefixEnd(serverLeases),
      previous: false,
      onEvents: ({ events }) => {
        if (events.length > 0) this.#soon();
      },
      onError: (error) => {
        if (this.#stopping) return;
        this.#o.log.warn({ err: error }, 'the watch of the API servers ended');
        this.#cancelRetry = this.#o.clock.after(retryMs, () => {
          this.#followLeases();
          this.#soon();
        });
      },
    });
    // What happened before the watch began.
    this.#soon();
  }

  #soon(): void {
    this.#dirty = true;
    this.#working ??= this.#work().finally(() => {
      this.#working = undefined;
      if (this.#dirty && !this.#stopping) this.#soon();
    });
  }

  async #work(): Promise<void> {
    await Promise.resolve();
    while (this.#dirty && !this.#stopping) {
      this.#dirty = false;
      try {
        await this.#reconcile();
      } catch (error) {
        if (this.#stopping) return;
        this.#o.log.warn({ err: error }, 'the endpoints of default/kubernetes could not be written');
        this.#cancelRetry = this.#o.clock.after(retryMs, () => this.#soon());
        return;
      }
    }
  }

  async #reconcile(): Promise<void> {
    await this.#ensureService();
    if (!this.#o.advertise) return;
    const servers = await this.#servers();
    // This server has just written its own: none at all is no state to believe.
    if (servers.length === 0) throw new Error('no API server is listed in the store: the endpoints are left as they are');
    await this.#reconcileEndpoints(servers);
  }

  async #servers(): Promise<string[]> {
    const { store, advertise } = this.#o;
    if (!store.shared) return [advertise!.address];
    const { items } = await store.range({ start: serverLeases, end: prefixEnd(serverLeases) });
    const found = items.map(({ value }) => {
      const isProtobuf = value.length > 4 && value.readUInt32BE(0) === 0x6b387300;
      const object = (isProtobuf ? decodeProtobuf(value, 'io.k8s.api.core.v1.Endpoints') : JSON.parse(value.toString('utf8'))) as Endpoints;
      return object.subsets?.[0]?.addresses?.[0]?.ip;
    });
    return [...new Set(found.filter((ip) => ip !== undefined))].sort();
  }

  async #ensureService(): Promise<void> {
    const { client, serviceCidr, advertise } = this.#o;
    try {
      await client.get(resources.services, { namespace: 'default', name: 'kubernetes' });
      return;
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
    const service: Draft<Service> = {
      metadata: { name: 'kubernetes', namespace: 'default', labels: { component: 'apiserver', provider: 'kubernetes' } },
      spec: {
        type: 'ClusterIP',
        clusterIP: firstAddress(serviceCidr),
        ports: [{ name: 'https', port: 443, protocol: 'TCP', targetPort: advertise?.port ?? 6443 }],
        ipFamilyPolicy: 'SingleStack',
        sessionAffinity: 'None',
      },
    };
    await client.create(resources.services, service).catch((error) => {
      if (!isAlreadyExists(error)) throw error;
    });
  }

  async #reconcileEndpoints(servers: string[]): Promise<void> {
    const { client, advertise } = this.#o;
    const port = { name: 'https', port: advertise!.port, protocol: 'TCP' as const };
    const key = { namespace: 'default', name: 'kubernetes' };
    const endpoints = await found(client.get(resources.endpoints, key));
    const subsets = servers.length ? [{ addresses: servers.map((ip) => ({ ip })), ports: [port] }] : [];
    if (!endpoints) {
      if (this.#stopping) return;
      const labels = { 'endpointslice.kubernetes.io/skip-mirror': 'true' };
      await client.create(resources.endpoints, { metadata: { ...key, labels }, subsets } as Draft<Endpoints>);
    } else if (!isAsWanted(endpoints, subsets) || endpoints.metadata.labels?.['endpointslice.kubernetes.io/skip-mirror'] !== 'true') {
      const labels = { ...endpoints.metadata.labels, 'endpointslice.kubernetes.io/skip-mirror': 'true' };
      await client.update(resources.endpoints, { ...endpoints, metadata: { ...endpoints.metadata, labels }, subsets });
    }
    const slice = await found(client.get(resources.endpointslices, key));
    const wanted = {
      addressType: 'IPv4',
      endpoints: servers.map((ip) => ({ addresses: [ip], conditions: { ready: true } })),
      ports: servers.length ? [port] : [],
    };
    const labels = { 'kubernetes.io/service-name': 'kubernetes' };
    if (!slice) {
      if (this.#stopping) return;
      await client.create(resources.endpointslices, { metadata: { ...key, labels }, ...wanted } as Draft<EndpointSlice>);
    } else if (
      !sameJson(slice.endpoints ?? [], wanted.endpoints) ||
      !sameJson(slice.ports ?? [], wanted.ports) ||
      !sameJson(slice.metadata.labels, labels)
    ) {
      await client.update(resources.endpointslices, { ...slice, ...wanted, metadata: { ...slice.metadata, labels } } as EndpointSlice);
    }
  }
}

/** The same addresses in any order, and the same ports. */
function isAsWanted(found: Endpoints, wanted: { addresses: { ip: string }[]; ports: unknown[] }[]): boolean {
  const [has] = found.subsets ?? [];
  const [wants] = wanted;
  if ((found.subsets?.length ?? 0) !== wanted.length) return false;
  if (!has || !wants) return true;
  return (
    sameJson(
      (has.addresses ?? []).map((a) => a.ip).sort(),
      wants.addresses.map((a) => a.ip),
    ) && sameJson(has.ports, wants.ports)
  );
}

async function found<T>(work: Promise<T>): Promise<T | undefined> {
  try {
    return await work;
  } catch (error) {
    if (isNotFound(error)) return undefined;
    throw error;
  }
}

/** Whether another server's write at the same time is the reason, so that trying again helps. */
export const isRace = (error: unknown): boolean =>
  isConflict(error) || isAlreadyExists(error) || (isInvalid(error) && error.message.includes('already allocated'));
