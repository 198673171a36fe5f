import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry as PromRegistry } from 'prom-client';
import type { WebhookObserver } from '../authz/webhook.ts';
import type { CacheHub } from '../storage/hub.ts';

/** The server's figures, under kube-apiserver's names. */
export class Metrics implements WebhookObserver {
  readonly registry = new PromRegistry();
  #requests: Counter;
  #durations: Histogram;
  /** Counted by hand, for they are counted with every request. */
  #authenticated = new Map<string, number>();
  #terminations: Counter;
  #webhookCalls: Counter;
  #webhookDurations: Histogram;
  #webhookFailOpen: Counter;
  #attempts = { success: 0, failure: 0, error: 0 };

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
    this.#terminations = new Counter({
      name: 'apiserver_request_terminations_total',
      help: 'Number of requests which apiserver terminated in self-defense.',
      labelNames: ['verb', 'group', 'version', 'resource', 'subresource', 'scope', 'code'],
      registers: [this.registry],
    });
    const webhook = { labelNames: ['name', 'result'], registers: [this.registry] };
    this.#webhookCalls = new Counter({ name: 'apiserver_authorization_webhook_evaluations_total', help: 'Round-trips to authorization webhooks.', ...webhook });
    this.#webhookFailOpen = new Counter({
      name: 'apiserver_authorization_webhook_evaluations_fail_open_total',
      help: 'NoOpinion results due to webhook timeout or error.',
      ...webhook,
    });
    this.#webhookDurations = new Histogram({
      name: 'apiserver_authorization_webhook_duration_seconds',
      help: 'Request latency in seconds.',
      buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10],
      ...webhook,
    });
    const metrics = this;
    new Counter({
      name: 'authentication_attempts',
      help: 'Counter of authenticated attempts',
      labelNames: ['result'],
      registers: [this.registry],
      collect() {
        this.reset();
        for (const [result, n] of Object.entries(metrics.#attempts)) this.inc({ result }, n);
      },
    });
    new Counter({
      name: 'authenticated_user_requests',
      help: 'Counter of authenticated requests broken out by username',
      labelNames: ['username'],
      registers: [this.registry],
      collect() {
        this.reset();
        for (const [username, n] of metrics.#authenticated) this.inc({ username }, n);
      },
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

  /** A request's user is known. */
  authenticated(name: string): void {
    this.#attempts.success++;
    const shown = name.startsWith('system:') ? 'system' : name === 'admin' || name === 'client' ? name : name.includes('@') ? 'email_id' : 'other';
    this.#authenticated.set(shown, (this.#authenticated.get(shown) ?? 0) + 1);
  }

  authenticationRefused(result: 'failure' | 'error'): void {
    this.#attempts[result]++;
  }

  /** The server itself ended a request: it was too much, or too late. */
  terminated(r: { verb: string; group: string; version: string; resource: string; subresource: string; scope: string }, code: number): void {
    const { group, version, resource, subresource, scope } = r;
    this.#terminations.inc({ verb: r.verb.toUpperCase(), group, version, resource, subresource, scope, code: String(code) });
  }

  evaluated(name: string, result: string, seconds: number, failedOpen: boolean): void {
    this.#webhookCalls.inc({ name, result });
    this.#webhookDurations.observe({ name, result }, seconds);
    if (failedOpen) this.#webhookFailOpen.inc({ name, result });
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
