import type { Logger } from 'pino';
import { resources } from '../api/generated/resources.ts';
import type { EndpointSlice, Service } from '../api/generated/types.ts';
import { keyOf } from '../api/object.ts';
import type { Clock } from '../client/clock.ts';
import type { InformerFactory } from '../client/informer.ts';
import { type RunConntrack, StaleFlows } from './conntrack.ts';
import { type ServicePortInfo, servicePorts } from './endpoints.ts';
import { startHealthServers } from './health.ts';
import { setConntrackTimeouts, startMetricsServer, type SyncFacts } from './metrics.ts';
import { applyNft } from './nft.ts';
import { baseRules, difference, renderServicePort, type Rendered, tableName } from './rules.ts';

export interface ProxyOptions {
  informers: InformerFactory;
  nodeName: string;
  /** Addresses on which node ports answer. */
  nodeIps: string[];
  clusterCidr: string;
  /** Port of /healthz; 10256 is kube-proxy's. */
  healthzPort?: number;
  /** Port of /metrics and /proxyMode on loopback, where wanted; 10249 is kube-proxy's. */
  metricsPort?: number;
  /** Whether this network namespace is the node's own, whose connections it is to remember as long as kube-proxy says. */
  ownNamespace?: boolean;
  /** Runs a transaction; nft in this network namespace by default. */
  apply?: (text: string) => Promise<void>;
  /** Runs conntrack; the program by default, in this network namespace. */
  conntrack?: RunConntrack;
  clock: Clock;
  log: Logger;
  signal: AbortSignal;
}

const sliceService = 'kubernetes.io/service-name';

/** kube-proxy: Services and EndpointSlices as nftables rules of this node. Changes of one service rewrite that service alone. */
export function startProxy(o: ProxyOptions): { name: string; done: Promise<void>; synced: Promise<void> } {
  const apply = o.apply ?? applyNft;
  const services = o.informers.informer<Service>(resources.services);
  const slices = o.informers.informer<EndpointSlice>(resources.endpointslices);
  slices.addIndex('service', (s) => {
    const name = s.metadata.labels?.[sliceService];
    return name ? [`${s.metadata.namespace}/${name}`] : [];
  });
  const dirty = new Set<string>();
  /** What the kernel has, by service and port. */
  const applied = new Map<string, Map<string, { info: ServicePortInfo; rendered: Rendered }>>();
  let whole = true;
  let wake: () => void = () => {};
  const touch = (key: string) => {
    dirty.add(key);
    wake();
  };
  const touchSlice = (s: EndpointSlice) => {
    const name = s.metadata.labels?.[sliceService];
    if (name) touch(`${s.metadata.namespace}/${name}`);
  };
  const removals = [
    services.addHandlers({ onAdd: (s) => touch(keyOf(s)), onUpdate: (_, s) => touch(keyOf(s)), onDelete: (s) => touch(keyOf(s)) }),
    slices.addHandlers({
      onAdd: touchSlice,
      onUpdate: (before, after) => {
        touchSlice(before);
        touchSlice(after);
      },
      onDelete: touchSlice,
    }),
  ];
  const flows = new StaleFlows({ nodeIps: o.nodeIps, log: o.log, ...(o.conntrack ? { run: o.conntrack } : {}) });
  const same = (a: Rendered | undefined, b: Rendered) => {
    const d = difference(a, b);
    return d.changes.length + d.removals.length === 0;
  };
  const health = startHealthServers({ healthzPort: o.healthzPort ?? 10256, log: o.log });
  const facts: SyncFacts = { syncs: 0, failures: 0, totalMs: 0, lastSync: 0 };
  const metrics = o.metricsPort ? startMetricsServer({ port: o.metricsPort, facts, log: o.log }) : undefined;
  let announce: () => void = () => {};
  const synced = new Promise<void>((resolve) => {
    announce = resolve;
  });

  async function sync(): Promise<void> {
    const keys = whole ? new Set([...applied.keys(), ...services.list().map(keyOf)]) : new Set(dirty);
    dirty.clear();
    const lines: string[] = [];
    const removals: string[] = [];
    const next = new Map<string, Map<string, { info: ServicePortInfo; rendered: Rendered }>>();
    for (const key of keys) {
      const service = services.get(key);
      const ports = new Map(
        (service ? servicePorts(service, slices.byIndex('service', key), o.nodeName) : []).map(
          (info) => [info.id, { info, rendered: renderServicePort(info) }] as const,
        ),
      );
      const before = whole ? new Map<string, { rendered: Rendered }>() : (applied.get(key) ?? new Map());
      for (const id of new Set([...before.keys(), ...ports.keys()])) {
        const d = difference(before.get(id)?.rendered, ports.get(id)?.rendered);
        lines.push(...d.changes);
        removals.push(...d.removals);
      }
      next.set(key, ports);
    }
    const transaction = [...(whole ? [baseRules(o.clusterCidr, o.nodeIps)] : []), ...lines, ...removals];
    try {
      if (transaction.length) await apply(`${transaction.join('\n')}\n`);
    } catch (error) {
      // What the kernel has is not what we think it has: begin anew.
      whole = true;
      for (const key of keys) dirty.add(key);
      throw error;
    }
    // Of UDP, what changed: only now do new packets find the new endpoints.
    await flows.clear(
      [...next].flatMap(([key, ports]) =>
        [...ports].filter(([id, { rendered }]) => whole || !same(applied.get(key)?.get(id)?.rendered, rendered)).map(([, { info }]) => info),
      ),
    );
    for (const [key, ports] of next) {
      if (ports.size) applied.set(key, ports);
      else applied.delete(key);
    }
    whole = false;
    health.update([...applied.values()].flatMap((ports) => [...ports.values()].map((p) => p.info)));
    announce();
  }

  const pause = (ms: number) =>
    new Promise<void>((resolve) => {
      const cancel = o.clock.after(ms, resolve);
      o.signal.addEventListener(
        'abort',
        () => {
          cancel();
          resolve();
        },
        { once: true },
      );
    });
  const done = (async () => {
    await Promise.all([services.synced(o.signal), slices.synced(o.signal)]).catch(() => {});
    // The kernel has these only once something in the namespace follows connections: after the first rules.
    let timeoutsSet = !o.ownNamespace;
    let failures = 0;
    while (!o.signal.aborted) {
      if (!whole && !dirty.size) {
        await new Promise<void>((resolve) => {
          wake = resolve;
          o.signal.addEventListener('abort', () => resolve(), { once: true });
        });
        wake = () => {};
        // Changes come in bursts (a rollout, a scale): one transaction serves them all.
        await pause(10);
        continue;
      }
      const started = o.clock.now();
      try {
        await sync();
        failures = 0;
        facts.syncs++;
        if (!timeoutsSet) await setConntrackTimeouts(o.log);
        timeoutsSet = true;
        facts.lastSync = o.clock.now();
        facts.totalMs += facts.lastSync - started;
      } catch (error) {
        failures++;
        facts.failures++;
        o.log.error({ err: error }, 'cannot write the service rules; trying again');
        await pause(Math.min(30_000, 250 * 2 ** failures));
      }
    }
    for (const remove of removals) remove();
    await health.close();
    await metrics?.close();
  })();
  return { name: 'kube-proxy', done, synced };
}

/** Takes the rules away, as `kube-proxy --cleanup`. */
export const cleanupProxy = (apply: (text: string) => Promise<void> = applyNft): Promise<void> =>
  apply(`table ip ${tableName}\ndelete table ip ${tableName}\n`);
