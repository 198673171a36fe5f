import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry as PromRegistry } from 'prom-client';
import type { CacheHub } from '../storage/hub.ts';

/** The server's figures, under kube-apiserver's names. */
export class Metrics {
  readonly registry = new PromRegistry();
  #requests: Counter;
  #durations: Histogram;

  constructor(hub: CacheHub) {
    // Brings nodejs_eventloop_lag_seconds and process_resident_memory_bytes.
    collectDefaultMetrics({ register: this.registry });
    const labels = ['verb', 'group', 'version', 'resource', 'subresource', 'scope'];
    this.#requests = new Counter({
      name: 'apiserver_request_total',
      help: 'Requests by verb, resource and HTTP status',
      labelNames: [...labels, 'code'],
      registers: [this.registry],
    });
    this.#durations = new Histogram({
      name: 'apiserver_request_duration_seconds',
      help: 'How long requests took; watches and streams are not counted',
      labelNames: labels,
      buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10],
      registers: [this.registry],
    });
    new Gauge({
      name: 'apiserver_storage_objects',
      help: 'Stored objects by resource',
      labelNames: ['resource'],
      registers: [this.registry],
      collect() {
        for (const cache of hub.caches)
          this.set({ resource: cache.resource.resource + (cache.resource.group && `.${cache.resource.group}`) }, cache.size);
      },
    });
    new Gauge({
      name: 'apiserver_longrunning_requests',
      help: 'Open watches by resource',
      labelNames: ['resource'],
      registers: [this.registry],
      collect() {
        for (const cache of hub.caches) this.set({ resource: cache.resource.resource }, cache.watcherCount);
      },
    });
  }

  observe(
    r: { verb: string; group: string; version: string; resource: string; subresource: string; scope: string },
    code: number,
    seconds: number | undefined,
  ): void {
    const labels = {
      verb: r.verb.toUpperCase(),
      group: r.group,
      version: r.version,
      resource: r.resource,
      subresource: r.subresource,
      scope: r.scope,
    };
    this.#requests.inc({ ...labels, code: String(code) });
    if (seconds !== undefined) this.#durations.observe(labels, seconds);
  }
}
