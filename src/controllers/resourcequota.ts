import { keyOf, type KubeObject, type ResourceType } from '../api/object.ts';
import type { ResourceQuota } from '../api/generated/types.ts';
import { resources } from '../api/generated/resources.ts';
import { formatQuantity, parseQuantity, type Quantity } from '../api/quantity.ts';
import { isInScope, resourceCountedBy, type Usage, usageOf } from '../api/quota.ts';
import type { Informer } from '../client/informer.ts';
import { semanticEqual } from './canonical.ts';
import type { Controller, ControllerContext } from './controller.ts';
import { discover } from './discovery.ts';
import { startReconciler } from './reconciler.ts';

/** How long an unknown resource is left alone before discovery is asked again, milliseconds. */
const DISCOVERY_INTERVAL = 30_000;

/** What one quota counts: a sum per name, kept up to date object by object. */
class Tally {
  readonly quota: ResourceQuota;
  readonly #sums = new Map<string, Quantity>();
  readonly #objects = new Map<string, Usage>();

  constructor(quota: ResourceQuota) {
    this.quota = quota;
  }

  /** Takes an object in as it is now, or out. True where a sum has changed. */
  set(id: string, usage: Usage | undefined): boolean {
    const before = this.#objects.get(id);
    if (semanticEqual(before, usage)) return false;
    for (const [name, value] of Object.entries(before ?? {})) this.#add(name, value, -1n);
    for (const [name, value] of Object.entries(usage ?? {})) this.#add(name, value, 1n);
    if (usage) this.#objects.set(id, usage);
    else this.#objects.delete(id);
    return true;
  }

  #add(name: string, value: string, sign: bigint): void {
    const { nano, format } = parseQuantity(value);
    const sum = this.#sums.get(name);
    this.#sums.set(name, { nano: (sum?.nano ?? 0n) + sign * nano, format: sum && sum.nano !== 0n ? sum.format : format });
  }

  used(): Usage {
    const used: Usage = {};
    for (const name of Object.keys(this.quota.spec?.hard ?? {})) used[name] = formatQuantity(this.#sums.get(name) ?? { nano: 0n, format: 'DecimalSI' });
    return used;
  }
}

/**
 * ResourceQuotas: says in their status how much is used. Watches quotas, and those resources that some quota counts. Every event
 * of an object changes the sums by that object only.
 */
export function startResourceQuotaController(context: ControllerContext): Controller {
  const { client, clock, informers, log } = context;
  const quotas = informers.informer(resources.resourcequotas);
  const tallies = new Map<string, Tally>();
  const byNamespace = new Map<string, Set<Tally>>();
  const monitors = new Map<string, Informer<KubeObject>>();
  let discoveredAt = 0;
  const discovered = new Map<string, ResourceType<any>>();
  const loop = startReconciler(context, { name: 'resourcequota-controller', workers: 5, waitFor: [quotas], reconcile });
  const enqueue = (quota: ResourceQuota) => loop.enqueue(keyOf(quota));
  quotas.addHandlers({ onAdd: enqueue, onUpdate: (_, after) => enqueue(after), onDelete: enqueue });
  return loop;

  async function reconcile(key: string): Promise<void> {
    const quota = quotas.get(key);
    if (!quota || quota.metadata.deletionTimestamp) return forget(key);
    let tally = tallies.get(key);
    const sameSpec = tally?.quota.metadata.uid === quota.metadata.uid && semanticEqual(tally.quota.spec, quota.spec);
    if (!tally || !sameSpec) tally = await count(key, quota);
    const { hard = {} } = quota.spec ?? {};
    const status = { hard, used: tally.used() };
    if (semanticEqual(status, quota.status)) return;
    await client.update(resources.resourcequotas, { ...quota, status: status as never }, { subresource: 'status' });
  }

  function forget(key: string): void {
    const tally = tallies.get(key);
    if (!tally) return;
    tallies.delete(key);
    byNamespace.get(tally.quota.metadata.namespace)?.delete(tally);
  }

  /** Counts all there is, and from then on what changes. */
  async function count(key: string, quota: ResourceQuota): Promise<Tally> {
    forget(key);
    const { namespace } = quota.metadata;
    const types = new Map(Object.keys(quota.spec?.hard ?? {}).map((name) => [typeKey(resourceCountedBy(name)), resourceCountedBy(name)]));
    const followed: { type: ResourceType<any>; informer: Informer<KubeObject> }[] = [];
    for (const wanted of types.values()) {
      const type = await find(wanted);
      if (!type) {
        // Of a kind that is not served there is nothing; it may be some day.
        loop.enqueueAfter(key, DISCOVERY_INTERVAL);
        continue;
      }
      const informer = monitor(type);
      await informer.synced(context.signal);
      followed.push({ type, informer });
    }
    // From here on without a pause, so that no event falls between counting and following.
    const tally = new Tally(quota);
    tallies.set(key, tally);
    const inNamespace = byNamespace.get(namespace);
    if (inNamespace) inNamespace.add(tally);
    else byNamespace.set(namespace, new Set([tally]));
    for (const { type, informer } of followed) for (const object of informer.list(namespace)) take(tally, type, object);
    return tally;
  }

  function monitor(type: ResourceType<any>): Informer<KubeObject> {
    const key = typeKey(type);
    let informer = monitors.get(key);
    if (informer) return informer;
    informer = informers.informer<KubeObject>(type);
    monitors.set(key, informer);
    const changed = (object: KubeObject, gone: boolean) => {
      for (const tally of byNamespace.get(object.metadata.namespace) ?? []) {
        const different = gone ? tally.set(idOf(type, object), undefined) : take(tally, type, object);
        if (different) enqueue(tally.quota);
      }
    };
    informer.addHandlers({ onAdd: (o) => changed(o, false), onUpdate: (_, o) => changed(o, false), onDelete: (o) => changed(o, true) });
    return informer;
  }

  function take(tally: Tally, type: ResourceType<any>, object: KubeObject): boolean {
    const { quota } = tally;
    if (!isInScope(quota, type, object)) return tally.set(idOf(type, object), undefined);
    const usage = Object.entries(usageOf(type, object)).filter(([name]) => quota.spec?.hard?.[name] !== undefined);
    return tally.set(idOf(type, object), usage.length ? Object.fromEntries(usage) : undefined);
  }

  async function find(wanted: { group: string; resource: string }): Promise<ResourceType<any> | undefined> {
    const known = Object.values(resources).find((r) => r.group === wanted.group && r.resource === wanted.resource);
    if (known) return known as ResourceType<any>;
    if (!discovered.has(typeKey(wanted)) && clock.now() - discoveredAt >= DISCOVERY_INTERVAL) {
      discoveredAt = clock.now();
      try {
        for (const type of await discover(client, context.signal)) discovered.set(typeKey(type), type);
      } catch (error) {
        log.warn({ err: error }, 'discovery for resource quotas failed');
      }
    }
    const type = discovered.get(typeKey(wanted));
    return type?.namespaced ? type : undefined;
  }
}

const typeKey = ({ group, resource }: { group: string; resource: string }) => `${resource}.${group}`;
const idOf = (type: ResourceType<any>, object: KubeObject) => `${typeKey(type)}/${keyOf(object)}`;
