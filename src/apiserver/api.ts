import type { Duplex } from 'node:stream';
import type { Logger } from 'pino';
import type { Clock } from '../client/clock.ts';
import type { Store } from '../store/store.ts';
import type { AdmissionChain } from './admission/chain.ts';
import type { Auditor } from './audit/audit.ts';
import type { AuthenticationOptions } from './authn/authenticate.ts';
import type { ServiceAccountTokens } from './authn/serviceaccount.ts';
import type { UserInfo } from './authn/user.ts';
import type { Authorizer, Permit } from './authz/authorizer.ts';
import type { RbacIndex } from './authz/rbac.ts';
import type { FlowControl } from './flow-control/flow-control.ts';
import type { Ticket } from './flow-control/priority-level.ts';
import type { Deadlines } from './http/deadlines.ts';
import type { Metrics } from './metrics/metrics.ts';
import type { Trust } from './http/trust.ts';
import type { Aggregator } from './extensions/aggregation/aggregator.ts';
import type { FrontProxy } from './extensions/aggregation/remote.ts';
import type { Registered, Registry } from './registry.ts';
import type { ServiceAllocators } from './services/allocators.ts';
import type { CacheHub } from './storage/hub.ts';
import type { Span, Tracer } from './tracing/tracer.ts';

/** Makes a connection; every outbound connection of the server goes through it. */
export type Dial = (host: string, port: number, signal?: AbortSignal) => Promise<Duplex>;

export interface KubeletClient {
  /** PEM. */
  cert: string;
  key: string;
  /** PEM of the CA that signs kubelets' serving certificates; they are not verified where it is empty. */
  ca: string;
}

/** What the parts of the server share. Made by server.ts. */
export interface Api {
  store: Store;
  hub: CacheHub;
  registry: Registry;
  authorizer: Authorizer;
  rbac: RbacIndex;
  admission: AdmissionChain;
  tokens: ServiceAccountTokens;
  services: ServiceAllocators;
  /** Group versions that other servers serve. */
  aggregator: Aggregator;
  /** By which other API servers know this one. */
  frontProxy: FrontProxy | undefined;
  metrics: Metrics;
  flow: FlowControl;
  deadlines: Deadlines;
  /** Watches that name no time end after this to twice this, seconds. */
  minRequestTimeout: number;
  dial: Dial;
  kubelet: KubeletClient | undefined;
  trust: Trust;
  authentication: AuthenticationOptions;
  audit: Auditor | undefined;
  tracer: Tracer | undefined;
  clock: Clock;
  log: Logger;
  /** As v1.37.2. */
  version: string;
  /** host:port clients reach this server at, once it listens. */
  address(): string;
  /** Why the server is not ready yet, by check; empty when it is. */
  notReady: Map<string, string>;
  /** The server is about to stop: it is not ready any more. */
  draining: boolean;
  /** Aborts when the server stops: ends watches and proxied streams. */
  stopping: AbortSignal;
}

/** One operation on a resource by one user; both HTTP and the in-process client make these. */
export interface Call {
  /** That its user may do it. */
  permit: Permit;
  user: UserInfo;
  target: Registered;
  verb: string;
  namespace: string;
  name: string;
  subresource: string;
  dryRun: boolean;
  fieldValidation: 'Ignore' | 'Warn' | 'Strict';
  fieldManager: string;
  /** Sent as Warning headers. */
  warnings: string[];
  /** What webhooks and policies add to the audit event. */
  auditAnnotations?: Record<string, string>;
  /** Admission has been asked about the body of this request in another form. */
  admitted?: boolean;
  signal: AbortSignal | undefined;
  /** The span of its request; without tracing, what the client sent in its place. */
  span?: Span;
  traceparent?: string;
  /** Milliseconds that were waited for webhooks. */
  webhookMs?: number;
  /** Its seat, for callers in this process. */
  ticket?: Ticket;
}

export const keyFor = (namespace: string, name: string): string => (namespace ? `${namespace}/${name}` : name);

/** RFC 3339 in seconds. */
export const timestamp = (api: { clock: Clock }, offsetSeconds = 0): string =>
  `${new Date(api.clock.now() + offsetSeconds * 1000).toISOString().slice(0, 19)}Z`;
