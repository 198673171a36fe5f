import { exponential, type HistogramFamily, type HistogramSeries, latencyBuckets, MetricRegistry, type NumberFamily, type NumberSeries } from '../../client/metrics.ts';
import type { WebhookObserver } from '../authz/webhook.ts';
import type { Decision } from '../authz/authorizer.ts';
import type { CacheHub } from '../storage/hub.ts';
import { processMetrics, startTime } from './process.ts';

/** What a request is counted by. `verb` is the method of HTTP, or LIST, WATCH, APPLY, CONNECT, DELETECOLLECTION, as upstream's metrics have it. */
export interface RequestLabels {
  verb: string;
  group: string;
  version: string;
  resource: string;
  subresource: string;
  scope: string;
}

/** The series of one kind of request, found once. */
interface RequestSeries {
  labels: RequestLabels;
  component: string;
  byCode: Map<number, NumberSeries>;
  durations: HistogramSeries | undefined;
  sli: HistogramSeries | undefined;
  sizes: HistogramSeries | undefined;
}

const requestLabels = ['component', 'group', 'resource', 'scope', 'subresource', 'verb', 'version'];
const authBuckets = exponential(0.001, 2, 15);
const admissionBuckets = [0.005, 0.025, 0.1, 0.5, 1, 2.5];
const webhookBuckets = [0.005, 0.025, 0.1, 0.5, 1, 2.5, 10, 25];

/** What one outcome of an admission plugin is told with. */
export interface AdmissionOutcome {
  name: string;
  operation: string;
  type: 'admit' | 'validate';
  rejected: boolean;
}

/** Component SLIs: how each health check stands, and how it stood whenever it was asked for. */
class HealthMetrics {
  readonly #registry = new MetricRegistry();
  readonly #now = this.#registry.gauge('kubernetes_healthcheck', 'This metric records the result of a single healthcheck.', ['name', 'type']);
  readonly #ever = this.#registry.counter('kubernetes_healthchecks_total', 'This metric records the results of all healthcheck.', ['name', 'status', 'type']);

  constructor() {
    startTime(this.#registry);
  }

  state(name: string, type: string, ok: boolean): void {
    this.#now.of(name, type).set(ok ? 1 : 0);
  }

  asked(name: string, type: string, ok: boolean): void {
    this.state(name, type, ok);
    this.#ever.of(name, ok ? 'success' : 'error', type).inc();
  }

  text(): string {
    return this.#registry.text();
  }
}

/** The server's figures, under kube-apiserver's names, with its types, labels and buckets. */
export class Metrics implements WebhookObserver {
  readonly registry = new MetricRegistry();
  readonly health = new HealthMetrics();
  readonly #requests = this.registry.counter(
    'apiserver_request_total',
    'Counter of apiserver requests broken out for each verb, dry run value, group, version, resource, scope, component, and HTTP response code.',
    ['code', 'component', 'dry_run', 'group', 'resource', 'scope', 'subresource', 'verb', 'version'],
  );
  readonly #durations = this.registry.histogram(
    'apiserver_request_duration_seconds',
    'Response latency distribution in seconds for each verb, dry run value, group, version, resource, subresource, scope and component.',
    ['component', 'dry_run', 'group', 'resource', 'scope', 'subresource', 'verb', 'version'],
    latencyBuckets,
  );
  readonly #sli = this.registry.histogram(
    'apiserver_request_sli_duration_seconds',
    'Response latency distribution (not counting webhook duration and priority & fairness queue wait times) in seconds for each verb, group, version, resource, subresource, scope and component.',
    requestLabels,
    latencyBuckets.slice(2),
  );
  readonly #sizes = this.registry.histogram(
    'apiserver_response_sizes',
    'Response size distribution in bytes for each group, version, verb, resource, subresource, scope and component.',
    requestLabels,
    exponential(1000, 10, 7),
  );
  readonly #terminations = this.registry.counter('apiserver_request_terminations_total', 'Number of requests which apiserver terminated in self-defense.', ['code', ...requestLabels]);
  readonly #aborts = this.registry.counter('apiserver_request_aborts_total', 'Number of requests which apiserver aborted possibly due to a timeout, for each group, version, verb, resource, subresource and scope', [
    'group',
    'resource',
    'scope',
    'subresource',
    'verb',
    'version',
  ]);
  readonly #watchEvents = this.registry.counter('apiserver_watch_events_total', 'Number of events sent in watch clients', ['group', 'resource', 'version']);
  readonly #watchSizes = this.registry.histogram('apiserver_watch_events_sizes', 'Watch event size distribution in bytes', ['group', 'resource', 'version'], exponential(1024, 2, 8));
  readonly #longRunning = this.registry.gauge(
    'apiserver_longrunning_requests',
    'Gauge of all active long-running apiserver requests broken out by verb, group, version, resource, scope and component. Not all requests are tracked this way.',
    requestLabels,
  );
  readonly #etcd = this.registry.histogram('etcd_request_duration_seconds', 'Etcd request latency in seconds for each operation and object type.', ['group', 'operation', 'resource'], latencyBuckets);
  readonly #etcdRequests = this.registry.counter('etcd_requests_total', 'Etcd request counts for each operation and object type.', ['group', 'operation', 'resource']);
  readonly #etcdErrors = this.registry.counter('etcd_request_errors_total', 'Etcd failed request counts for each operation and object type.', ['group', 'operation', 'resource']);
  readonly #plugins = this.registry.histogram(
    'apiserver_admission_controller_admission_duration_seconds',
    'Admission controller latency histogram in seconds, identified by name and broken out for each operation and API resource and type (validate or admit).',
    ['name', 'operation', 'rejected', 'type'],
    admissionBuckets,
  );
  readonly #steps = this.registry.histogram(
    'apiserver_admission_step_admission_duration_seconds',
    'Admission sub-step latency histogram in seconds, broken out for each operation and API resource and step type (validate or admit).',
    ['operation', 'rejected', 'type'],
    admissionBuckets,
  );
  readonly #admissionWebhooks = this.registry.histogram(
    'apiserver_admission_webhook_admission_duration_seconds',
    'Admission webhook latency histogram in seconds, identified by name and broken out for each operation and API resource and type (validate or admit).',
    ['name', 'operation', 'rejected', 'type'],
    webhookBuckets,
  );
  readonly #webhookRejections = this.registry.counter(
    'apiserver_admission_webhook_rejection_count',
    'Admission webhook rejection count, identified by name and broken out for each admission type (validating or admit) and operation. Additional labels specify an error type (calling_webhook_error or apiserver_internal_error if an error occurred; no_error otherwise) and optionally a non-zero rejection code if the webhook rejects the request with an HTTP status code (honored by the apiserver when the code is greater or equal to 400). Codes greater than 600 are truncated to 600, to keep the metrics cardinality bounded.',
    ['error_type', 'name', 'operation', 'rejection_code', 'type'],
  );
  readonly #webhookRequests = this.registry.counter(
    'apiserver_admission_webhook_request_total',
    'Admission webhook request total, identified by name and broken out for each admission type (validating or mutating) and operation. Additional labels specify whether the request was rejected or not and an HTTP status code.',
    ['code', 'name', 'operation', 'rejected', 'type'],
  );
  readonly #webhookFailOpen = this.registry.counter('apiserver_admission_webhook_fail_open_count', 'Admission webhook fail open count, identified by name and broken out for each admission type (validating or mutating).', ['name', 'type']);
  readonly #authorizationWebhooks = this.registry.counter('apiserver_authorization_webhook_evaluations_total', 'Round-trips to authorization webhooks.', ['name', 'result']);
  readonly #authorizationFailOpen = this.registry.counter('apiserver_authorization_webhook_evaluations_fail_open_total', 'NoOpinion results due to webhook timeout or error.', ['name', 'result']);
  readonly #authorizationDurations = this.registry.histogram(
    'apiserver_authorization_webhook_duration_seconds',
    'Request latency in seconds.',
    ['name', 'result'],
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10],
  );
  readonly #attempts = this.registry.counter('authentication_attempts', 'Counter of authenticated attempts.', ['result']);
  readonly #users = this.registry.counter('authenticated_user_requests', 'Counter of authenticated requests broken out by username.', ['username']);
  readonly #authentication = this.registry.histogram('authentication_duration_seconds', 'Authentication duration in seconds broken out by result.', ['result'], authBuckets);
  readonly #authorizations = this.registry.counter('authorization_attempts_total', "Counter of authorization attempts broken down by result. It can be either 'allowed', 'denied', 'no-opinion' or 'error'.", ['result']);
  readonly #authorization = this.registry.histogram('authorization_duration_seconds', 'Authorization duration in seconds broken out by result.', ['result'], authBuckets);
  readonly #decisions = this.registry.counter('apiserver_authorization_decisions_total', 'Total number of terminal decisions made by an authorizer split by authorizer type, name, and decision.', ['decision', 'name', 'type']);
  readonly #auditEvents = this.registry.counter('apiserver_audit_event_total', 'Counter of audit events generated and sent to the audit backend.');
  readonly #storageSize = this.registry.gauge('apiserver_storage_size_bytes', 'Size of the storage database file physically allocated in bytes.', ['storage_cluster_id']);
  readonly #tlsErrors = this.registry.counter('apiserver_tls_handshake_errors_total', "Number of requests dropped with 'TLS handshake error from' error");
  readonly #series = new Map<string, RequestSeries>();
  readonly #authenticated = new Map<string, { count: NumberSeries; time: HistogramSeries }>();
  readonly #authorized = new Map<string, { count: NumberSeries; time: HistogramSeries }>();
  readonly #admitted = new Map<string, Record<'admit' | 'validate', Map<string, HistogramSeries>>>();

  constructor(hub: CacheHub, version: string) {
    const { registry } = this;
    this.#auditEvents.of();
    this.#tlsErrors.of();
    for (const result of ['success', 'failure', 'error']) this.#attempts.of(result);
    processMetrics(registry, version);
    registry.collected('gauge', 'apiserver_resource_objects', 'Number of stored objects at the time of last check split by kind. In case of a fetching error, the value will be -1.', ['group', 'resource'], (set) => {
      for (const { resource, size } of hub.caches) set(hub.failure ? -1 : size, resource.group, resource.resource);
    });
    // Under its older name dashboards ask for it still.
    registry.collected('gauge', 'apiserver_storage_objects', 'Number of stored objects at the time of last check split by kind. In case of a fetching error, the value will be -1.', ['resource'], (set) => {
      for (const { resource, size } of hub.caches) set(hub.failure ? -1 : size, resource.resource + (resource.group && `.${resource.group}`));
    });
    const ofCaches = (type: 'gauge' | 'counter', name: string, help: string, value: (cache: CacheHub['caches'][number]) => number) =>
      registry.collected(type, name, help, ['group', 'resource'], (set) => {
        for (const cache of hub.caches) set(value(cache), cache.resource.group, cache.resource.resource);
      });
    ofCaches('counter', 'apiserver_watch_cache_events_received_total', 'Counter of events received in watch cache broken by resource type.', (c) => c.received);
    ofCaches('counter', 'apiserver_watch_cache_events_dispatched_total', 'Counter of events dispatched in watch cache broken by resource type.', (c) => c.dispatched);
    ofCaches('gauge', 'apiserver_watch_cache_resource_version', 'Current resource version of watch cache broken by resource type.', () => hub.revision);
  }

  /** Bytes that the store takes. */
  storageSize(bytes: number): void {
    this.#storageSize.of('etcd-0').set(bytes);
  }

  /** In Prometheus' text format. */
  text(): string {
    return this.registry.text();
  }

  /** Counted and timed by one result, with every request. */
  #outcome(of: Map<string, { count: NumberSeries; time: HistogramSeries }>, result: string, counts: NumberFamily, times: HistogramFamily, ms: number): void {
    let known = of.get(result);
    if (!known) of.set(result, (known = { count: counts.of(result), time: times.of(result) }));
    known.count.inc();
    known.time.observe(ms / 1000);
  }

  #of(r: RequestLabels): RequestSeries {
    const key = `${r.verb}\u0000${r.group}\u0000${r.version}\u0000${r.resource}\u0000${r.subresource}\u0000${r.scope}`;
    let series = this.#series.get(key);
    if (!series) {
      series = { labels: { ...r }, component: r.resource ? 'apiserver' : '', byCode: new Map(), durations: undefined, sli: undefined, sizes: undefined };
      this.#series.set(key, series);
    }
    return series;
  }

  /**
   * A request has been answered, after `ms` milliseconds, of which `outside` were waited for webhooks and for its turn; without a time
   * where it was long-running.
   */
  observe(r: RequestLabels, code: number, time: { ms: number; outside: number } | undefined, bytes: number | undefined, dryRun = false): void {
    const one = this.#of(r);
    const { group, resource, scope, subresource, verb, version } = one.labels;
    const { component } = one;
    // Dry runs are few: their series are looked up each time.
    let count = dryRun ? undefined : one.byCode.get(code);
    if (!count) {
      count = this.#requests.of(String(code), component, dryRun ? 'All' : '', group, resource, scope, subresource, verb, version);
      if (!dryRun) one.byCode.set(code, count);
    }
    count.inc();
    if (time) {
      if (dryRun) this.#durations.of(component, 'All', group, resource, scope, subresource, verb, version).observe(time.ms / 1000);
      else (one.durations ??= this.#durations.of(component, '', group, resource, scope, subresource, verb, version)).observe(time.ms / 1000);
      (one.sli ??= this.#sli.of(component, group, resource, scope, subresource, verb, version)).observe(Math.max(0, time.ms - time.outside) / 1000);
    }
    if (bytes !== undefined && (verb === 'GET' || verb === 'LIST')) (one.sizes ??= this.#sizes.of(component, group, resource, scope, subresource, verb, version)).observe(bytes);
  }

  /** The server itself ended a request: it was too much, or too late. */
  terminated(r: RequestLabels, code: number): void {
    this.#terminations.of(String(code), r.resource ? 'apiserver' : '', r.group, r.resource, r.scope, r.subresource, r.verb, r.version).inc();
    if (code === 504) this.#aborts.of(r.group, r.resource, r.scope, r.subresource, r.verb, r.version).inc();
  }

  /** A request that lasts has begun; the function that is returned says that it has ended. */
  longRunning(r: RequestLabels): () => void {
    const gauge = this.#longRunning.of(r.resource ? 'apiserver' : '', r.group, r.resource, r.scope, r.subresource, r.verb, r.version);
    gauge.inc();
    return () => gauge.inc(-1);
  }

  /** What a watch counts its events with. */
  watchSeries(group: string, version: string, resource: string): { events: NumberSeries; sizes: HistogramSeries } {
    return { events: this.#watchEvents.of(group, resource, version), sizes: this.#watchSizes.of(group, resource, version) };
  }

  stored(operation: string, group: string, resource: string, started: number, failed = false): void {
    this.#etcd.of(group, operation, resource).observe((performance.now() - started) / 1000);
    this.#etcdRequests.of(group, operation, resource).inc();
    if (failed) this.#etcdErrors.of(group, operation, resource).inc();
  }

  admitted({ name, operation, type, rejected }: AdmissionOutcome, ms: number): void {
    if (rejected) return this.#plugins.of(name, operation, 'true', type).observe(ms / 1000);
    // With every write, for every plugin: two look-ups in place of a key made of four texts.
    let ofPlugin = this.#admitted.get(name);
    if (!ofPlugin) this.#admitted.set(name, (ofPlugin = { admit: new Map(), validate: new Map() }));
    let series = ofPlugin[type].get(operation);
    if (!series) ofPlugin[type].set(operation, (series = this.#plugins.of(name, operation, 'false', type)));
    series.observe(ms / 1000);
  }

  admittedAll(operation: string, type: 'admit' | 'validate', rejected: boolean, ms: number): void {
    this.#steps.of(operation, String(rejected), type).observe(ms / 1000);
  }

  /** An admission webhook has answered, or could not be asked: then `error` says whether the request goes on all the same. */
  webhookAsked({ name, operation, type, rejected }: { name: string; operation: string; type: 'admit' | 'validating'; rejected: boolean }, ms: number, code: number, error?: 'refused' | 'ignored'): void {
    this.#admissionWebhooks.of(name, operation, String(rejected), type).observe(ms / 1000);
    this.#webhookRequests.of(String(Math.min(code, 600)), name, operation, String(rejected), type).inc();
    if (rejected) this.#webhookRejections.of(error ? 'calling_webhook_error' : 'no_error', name, operation, error ? '0' : String(Math.min(code, 600)), type).inc();
    if (error === 'ignored') this.#webhookFailOpen.of(name, type).inc();
  }

  /** A request's user is known. */
  authenticated(name: string, ms: number): void {
    this.#outcome(this.#authenticated, 'success', this.#attempts, this.#authentication, ms);
    const shown = name.startsWith('system:') ? 'system' : name === 'admin' || name === 'client' ? name : name.includes('@') ? 'email_id' : 'other';
    this.#users.of(shown).inc();
  }

  authenticationRefused(result: 'failure' | 'error', ms: number): void {
    this.#outcome(this.#authenticated, result, this.#attempts, this.#authentication, ms);
  }

  authorized(decision: Decision, ms: number): void {
    const result = decision.allowed ? 'allowed' : decision.denied ? 'denied' : decision.error ? 'error' : 'no-opinion';
    this.#outcome(this.#authorized, result, this.#authorizations, this.#authorization, ms);
  }

  decided(type: string, name: string, allowed: boolean): void {
    this.#decisions.of(allowed ? 'allowed' : 'denied', name, type).inc();
  }

  evaluated(name: string, result: string, seconds: number, failedOpen: boolean): void {
    this.#authorizationWebhooks.of(name, result).inc();
    this.#authorizationDurations.of(name, result).observe(seconds);
    if (failedOpen) this.#authorizationFailOpen.of(name, result).inc();
  }

  audited(): void {
    this.#auditEvents.of().inc();
  }

  tlsFailed(): void {
    this.#tlsErrors.of().inc();
  }
}
