import { setMaxListeners } from 'node:events';
import { rm } from 'node:fs/promises';
import { createConnection } from 'node:net';
import type { Logger } from 'pino';
import { scheme } from '../api/scheme.ts';
import type { Client } from '../client/client.ts';
import { type Clock, systemClock } from '../client/clock.ts';
import { createEventRecorder } from '../client/recorder.ts';
import type { Store } from '../store/store.ts';
import { AdmissionChain } from './admission/chain.ts';
import { builtinAdmission } from './admission/index.ts';
import type { Api, Dial, KubeletClient } from './api.ts';
import type { Auditor } from './audit/audit.ts';
import type { AuthenticationOptions } from './authn/authenticate.ts';
import { type ServiceAccountOptions, ServiceAccountTokens } from './authn/serviceaccount.ts';
import { Authorizer } from './authz/authorizer.ts';
import { type AuthorizationOptions, authorizerChain } from './authz/chain.ts';
import { NodeAuthorizer } from './authz/node.ts';
import { RbacIndex } from './authz/rbac.ts';
import { bootstrap, bootstrapChecks } from './bootstrap.ts';
import { compactRegularly } from './storage/compaction.ts';
import { FlowConfiguration } from './flow-control/configuration.ts';
import { FlowControl, type FlowControlOptions } from './flow-control/flow-control.ts';
import { type ConnectionLimits, defaultConnectionLimits } from './http/connections.ts';
import { Deadlines } from './http/deadlines.ts';
import { InFlight, listen, type Listening } from './http/listener.ts';
import { flowMetrics } from './metrics/flow-control.ts';
import { Metrics } from './metrics/metrics.ts';
import { Trust } from './http/trust.ts';
import { LocalClient } from './local.ts';
import { Registry } from './registry.ts';
import { Aggregator } from './extensions/aggregation/aggregator.ts';
import type { FrontProxy } from './extensions/aggregation/remote.ts';
import { CustomResources } from './extensions/crd/controller.ts';
import { PolicyTypeChecking } from './extensions/policies/type-checking.ts';
import { webhookConversion } from './extensions/crd/conversion.ts';
import { ServiceAllocators } from './services/allocators.ts';
import { parseCidr } from './services/ipv4.ts';
import { KubernetesService } from './services/kubernetes-service.ts';
import { AllocationRepair } from './services/repair.ts';
import { CacheHub } from './storage/hub.ts';
import { EventLeases } from './storage/transactions.ts';
import type { Tracer } from './tracing/tracer.ts';
import { isServed, type RuntimeConfig } from './served-versions.ts';

export type { Dial } from './api.ts';

export interface ApiServerOptions {
  store: Store;
  /** PEM. */
  tls: { cert: string; key: string };
  /** PEM of the CA whose client certificates are believed. */
  clientCa: string;
  /** 127.0.0.1 by default. */
  host?: string;
  /** 0, the default, takes any free port. */
  port?: number;
  /** Paths where it listens too, with the same TLS; stale sockets there are removed. */
  unixSockets?: string[];
  /** Keys are PEM. */
  serviceAccount: ServiceAccountOptions;
  serviceCidr: string;
  nodePortRange?: [number, number];
  kubeletClient?: KubeletClient;
  /** By which API servers behind APIServices know this one. Without it they get no client certificate. */
  frontProxy?: FrontProxy;
  /** Every outbound connection goes through it; straight out by default. */
  dial?: Dial;
  /** Published as the endpoint of the service default/kubernetes. */
  advertise?: { address: string; port: number };
  /** Whom it believes besides client certificates and its own tokens; anonymous requests are allowed where left out. */
  authentication?: AuthenticationOptions;
  /** Node and RBAC where left out. */
  authorization?: AuthorizationOptions;
  flowControl?: Omit<FlowControlOptions, 'waitMs'>;
  /** Milliseconds after which a request that is not long-running is given up; a minute. */
  requestTimeoutMs?: number;
  /** Group versions to serve, or not to, apart from upstream's defaults. */
  runtimeConfig?: RuntimeConfig;
  /** What clients may hold open without using it. */
  connectionLimits?: Partial<ConnectionLimits>;
  /** Seconds; watches that name no time end after this to twice this. 1800. */
  minRequestTimeout?: number;
  /** Is told of requests; closed with the server. */
  audit?: Auditor;
  /** Makes spans of requests; closed with the server. */
  tracer?: Tracer;
  log: Logger;
  clock?: Clock;
  version?: string;
}

export interface ApiServer {
  port: number;
  address: string;
  /** In-process client of a user; group system:authenticated is added. */
  localClient(user: { name: string; groups: string[]; uid?: string }): Client;
  /** Resolves when readyz is ok: caches filled, default objects there. */
  ready: Promise<void>;
  metrics: Metrics;
  /** Certificates for connections from now on; those that are there stay as they are. */
  updateCertificates(certificates: Certificates): void;
  /** Other authenticators or authorizers, for requests from now on. */
  updateAccess(access: { authentication?: AuthenticationOptions; authorization?: AuthorizationOptions }): void;
  /**
   * Is no longer ready, and serves on for delayMs (0 by default) so that whoever balances load may notice; then ends watches, lets running
   * requests finish for graceMs (2 s by default), and closes connections. The store stays open.
   */
  stop(graceMs?: number, delayMs?: number): Promise<void>;
}

/** PEM texts. */
export interface Certificates {
  tls: { cert: string; key: string };
  clientCa: string;
  requestHeaderCa?: string;
}

const directDial: Dial = async (host, port, signal) => createConnection({ host, port, ...(signal ? { signal } : {}) });

export async function startApiServer(o: ApiServerOptions): Promise<ApiServer> {
  const clock = o.clock ?? systemClock;
  const stopping = new AbortController();
  // Every watch listens; Node before 24 takes eleven listeners for a leak.
  setMaxListeners(0, stopping.signal);
  const hub = new CacheHub(o.store, o.log);
  const registry = new Registry(hub, new EventLeases(o.store, clock));
  for (const served of scheme.resources) {
    if (!isServed(o.runtimeConfig ?? {}, served.group, served.version, served.resource)) continue;
    registry.add(served, scheme.find(served.storageGroup, served.storageVersion, served.resource) ?? served);
  }
  await hub.start();

  // An error of the flag, not of the first service.
  parseCidr(o.serviceCidr);
  const localClient = (user: { name: string; groups: string[]; uid?: string }): Client => new LocalClient(api, user);
  const own = () => localClient({ name: 'system:apiserver', groups: ['system:masters'] });
  const services = new ServiceAllocators(hub, registry, o.nodePortRange ?? [30000, 32767], own, o.log);
  const rbac = new RbacIndex(registry);
  const nodes = new NodeAuthorizer(registry);
  const metrics = new Metrics(hub, o.version ?? 'v1.37.2');
  hub.observer = metrics;
  if (o.audit) o.audit.observer = metrics;
  const requestTimeoutMs = o.requestTimeoutMs ?? 60_000;
  const flow = new FlowControl({ ...o.flowControl, waitMs: Math.min(60_000, requestTimeoutMs / 4) });
  flowMetrics(flow, metrics.registry);
  const chainOf = (options: AuthorizationOptions) => authorizerChain(options, { nodes, rbac, clock, observer: metrics });
  let chain = chainOf(o.authorization ?? { authorizers: [{ type: 'Node' }, { type: 'RBAC' }] });
  let address = '';
  const api: Api = {
    store: o.store,
    hub,
    registry,
    rbac,
    authorizer: new Authorizer(chain.steps, metrics),
    admission: new AdmissionChain(builtinAdmission),
    tokens: await ServiceAccountTokens.create(o.serviceAccount, registry, clock),
    services,
    metrics,
    flow,
    deadlines: new Deadlines(requestTimeoutMs),
    minRequestTimeout: o.minRequestTimeout ?? 1800,
    draining: false,
    dial: o.dial ?? directDial,
    kubelet: o.kubeletClient,
    trust: new Trust(o.clientCa, o.authentication?.requestHeader?.ca),
    authentication: o.authentication ?? {},
    audit: o.audit,
    tracer: o.tracer,
    clock,
    log: o.log,
    version: o.version ?? 'v1.37.2',
    address: () => (o.advertise ? `${o.advertise.address}:${o.advertise.port}` : address),
    notReady: new Map(Object.values(bootstrapChecks).map((name) => [name, 'not finished'])),
    stopping: stopping.signal,
    frontProxy: o.frontProxy,
    aggregator: undefined as never,
  };
  api.aggregator = new Aggregator(api, new LocalClient(api, { name: 'system:aggregator', groups: ['system:masters'] }));

  await new CustomResources(api, (crd) => webhookConversion(api, crd)).start();
  new PolicyTypeChecking(api).start();

  const servers: Listening[] = [];
  const inFlight = new InFlight();
  const limits = { ...defaultConnectionLimits, ...o.connectionLimits };
  try {
    servers.push(await listen(api, o.tls, inFlight, limits, { host: o.host ?? '127.0.0.1', port: o.port ?? 0 }));
    for (const path of o.unixSockets ?? []) servers.push(await listen(api, o.tls, inFlight, limits, { path }));
  } catch (error) {
    await Promise.all(servers.map((s) => s.close()));
    hub.close();
    throw error;
  }
  const bound = servers[0]!.address;
  address = `${o.host && o.host !== '0.0.0.0' ? o.host : '127.0.0.1'}:${bound.port}`;
  const stopCompaction = compactRegularly(o.store, clock, o.log);

  const client = own();
  const events = createEventRecorder(client, { component: 'ipallocator-repair-controller', clock, log: o.log });
  const kubernetesService = new KubernetesService({
    store: o.store,
    client,
    clock,
    log: o.log,
    serviceCidr: o.serviceCidr,
    advertise: o.advertise,
    caches: [registry.cache('', 'v1', 'services'), registry.cache('', 'v1', 'endpoints'), registry.cache('discovery.k8s.io', 'v1', 'endpointslices')],
  });
  const ready = bootstrap({
    client,
    clientCa: o.clientCa,
    requestHeader: o.authentication?.requestHeader,
    requestHeaderCa: o.frontProxy?.ca,
    serviceCidr: o.serviceCidr,
    repair: new AllocationRepair({
      client,
      clock,
      log: o.log,
      events,
      ips: services.ips,
      ports: services.sharedPorts,
      services: registry.cache('', 'v1', 'services'),
      addresses: registry.cache('networking.k8s.io', 'v1', 'ipaddresses'),
      signal: stopping.signal,
    }),
    kubernetesService,
    flowConfiguration: new FlowConfiguration(flow, registry, client, o.log),
    notReady: api.notReady,
    clock,
    log: o.log,
    signal: stopping.signal,
  }).catch((error) => {
    if (stopping.signal.aborted) return;
    o.log.error({ err: error }, 'the default objects could not be created');
    throw error;
  });
  // Whoever awaits it hears of the failure; nobody has to.
  ready.catch(() => {});
  void ready.then(
    () => api.aggregator.start(),
    () => {},
  );

  let stopped: Promise<void> | undefined;
  const stop = async (graceMs: number, delayMs: number) => {
    api.draining = true;
    if (delayMs > 0) await new Promise((resolve) => setTimeout(resolve, delayMs));
    // While this server can still write: others, and clients, then know at once. A store that does not answer holds up nothing.
    const left = kubernetesService.stop().catch((error) => o.log.warn({ err: error }, 'the endpoints of default/kubernetes could not be left'));
    await Promise.race([left, new Promise((resolve) => setTimeout(resolve, 2000).unref())]);
    await events.close();
    stopping.abort();
    stopCompaction();
    const closed = servers.map((s) => s.close());
    await Promise.race([Promise.all([inFlight.idle(), ...closed]), new Promise((resolve) => setTimeout(resolve, graceMs).unref())]);
    for (const s of servers) s.destroyConnections();
    await Promise.all(closed);
    hub.close();
    await o.audit?.close();
    await o.tracer?.close();
    chain.close();
    closeAuthenticators(api.authentication);
    for (const path of o.unixSockets ?? []) await rm(path, { force: true });
  };
  return {
    port: bound.port,
    address: `https://${address}`,
    localClient,
    ready,
    metrics: api.metrics,
    updateCertificates({ tls, clientCa, requestHeaderCa }) {
      api.trust.set(clientCa, requestHeaderCa);
      for (const one of servers) one.updateCertificates(tls, api.trust.pem);
    },
    updateAccess({ authentication, authorization }) {
      if (authentication) {
        closeAuthenticators(api.authentication);
        api.authentication = authentication;
      }
      if (!authorization) return;
      const next = chainOf(authorization);
      api.authorizer.replace(next.steps);
      chain.close();
      chain = next;
    },
    stop: (graceMs = 2000, delayMs = 0) => (stopped ??= stop(graceMs, delayMs)),
  };
}

function closeAuthenticators({ tokenFile, tokens = [] }: AuthenticationOptions): void {
  for (const one of [tokenFile, ...tokens]) one?.close?.();
}
