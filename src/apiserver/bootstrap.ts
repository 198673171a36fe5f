import type { Logger } from 'pino';
import { sameJson } from '../api/equality.ts';
import type { KubeObject, ResourceType } from '../api/object.ts';
import { resources } from '../api/generated/resources.ts';
import type { Client } from '../client/client.ts';
import { type Clock, sleep } from '../client/clock.ts';
import type { RequestHeaderOptions } from './authn/request-header.ts';
import type { FlowConfiguration } from './flow-control/configuration.ts';
import { reconcileDefaultRoles } from './authz/reconcile.ts';
import { isRace, type KubernetesService } from './services/kubernetes-service.ts';
import type { AllocationRepair } from './services/repair.ts';

/** What a cluster has from the moment its API server is ready. */
export interface BootstrapOptions {
  client: Client;
  clientCa: string;
  /** PEM of the authority whose certificates may name users in headers. */
  requestHeaderCa: string | undefined;
  /** Whom this server itself believes to name users in headers. */
  requestHeader: RequestHeaderOptions | undefined;
  serviceCidr: string;
  repair: AllocationRepair;
  kubernetesService: KubernetesService;
  flowConfiguration: FlowConfiguration;
  notReady: Map<string, string>;
  clock: Clock;
  log: Logger;
  /** Ends the waiting. */
  signal: AbortSignal;
}

const core = (resource: string, kind: string, namespaced: boolean): ResourceType => ({ group: '', version: 'v1', resource, kind, namespaced });
const namespaces = core('namespaces', 'Namespace', false);
const systemNamespaces = ['default', 'kube-system', 'kube-public', 'kube-node-lease'];

/** The checks of readyz that wait for this. */
export const bootstrapChecks = {
  roles: 'poststarthook/rbac/bootstrap-roles',
  namespaces: 'poststarthook/start-system-namespaces-controller',
  priorities: 'poststarthook/scheduling/bootstrap-system-priority-classes',
  service: 'poststarthook/start-kubernetes-service-ip-repair-controllers',
};

/** Several servers may do this at once. */
export async function bootstrap(o: BootstrapOptions): Promise<void> {
  const { client } = o;
  await again(o, async () => {
    await Promise.all(systemNamespaces.map((name) => createMissing(client, namespaces, { apiVersion: 'v1', kind: 'Namespace', metadata: { name } })));
  });
  o.notReady.delete(bootstrapChecks.namespaces);
  await again(o, () => reconcileDefaultRoles(client));
  o.notReady.delete(bootstrapChecks.roles);
  await again(o, async () => {
    await Promise.all(systemPriorities.map((object) => createMissing(client, priorityClasses, object)));
  });
  o.notReady.delete(bootstrapChecks.priorities);
  await again(o, () => o.flowConfiguration.start());
  await again(o, () => authentication(o));
  await again(o, () =>
    createMissing(client, resources.configmaps, {
      metadata: { name: 'kube-apiserver-legacy-service-account-token-tracking', namespace: 'kube-system' },
      data: { since: new Date(o.clock.now()).toISOString().slice(0, 10) },
    }),
  );
  await again(o, () => serviceCidr(o));
  await again(o, () => o.repair.start());
  await again(o, () => o.kubernetesService.start());
  o.notReady.delete(bootstrapChecks.service);
}

/** What API servers behind APIServices read of the authorities that this server believes now. */
async function authentication(o: BootstrapOptions): Promise<void> {
  const { client, clientCa } = o;
  const metadata = { name: 'extension-apiserver-authentication', namespace: 'kube-system' };
  const data = { 'client-ca-file': clientCa, ...requestHeaders(o) };
  await createMissing(client, resources.configmaps, { metadata, data });
  const found = await client.get(resources.configmaps, metadata);
  if (!sameJson(found.data, data)) await client.update(resources.configmaps, { ...found, data });
}

/** How API servers behind APIServices learn of users from this one. */
function requestHeaders(o: Pick<BootstrapOptions, 'requestHeader' | 'requestHeaderCa'>): Record<string, string> {
  const own: RequestHeaderOptions | undefined = o.requestHeader ??
    (o.requestHeaderCa
      ? {
          ca: o.requestHeaderCa,
          allowedNames: ['front-proxy-client'],
          usernameHeaders: ['X-Remote-User'],
          groupHeaders: ['X-Remote-Group'],
          extraHeaderPrefixes: ['X-Remote-Extra-'],
        }
      : undefined);
  if (!own) return {};
  return {
    'requestheader-client-ca-file': own.ca,
    'requestheader-allowed-names': JSON.stringify(own.allowedNames),
    'requestheader-username-headers': JSON.stringify(own.usernameHeaders),
    ...(own.uidHeaders?.length ? { 'requestheader-uid-headers': JSON.stringify(own.uidHeaders) } : {}),
    'requestheader-group-headers': JSON.stringify(own.groupHeaders),
    'requestheader-extra-headers-prefix': JSON.stringify(own.extraHeaderPrefixes),
  };
}

const priorityClasses: ResourceType = {
  group: 'scheduling.k8s.io',
  version: 'v1',
  resource: 'priorityclasses',
  kind: 'PriorityClass',
  namespaced: false,
};
const systemPriorities = [
  {
    name: 'system-node-critical',
    value: 2_000_001_000,
    description: 'Used for system critical pods that must not be moved from their current node.',
  },
  {
    name: 'system-cluster-critical',
    value: 2_000_000_000,
    description: 'Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.',
  },
].map(({ name, value, description }) => ({
  apiVersion: 'scheduling.k8s.io/v1',
  kind: 'PriorityClass',
  metadata: { name },
  value,
  description,
  globalDefault: false,
  preemptionPolicy: 'PreemptLowerPriority',
}));

async function createMissing(client: Client, type: ResourceType, object: unknown): Promise<void> {
  const { metadata } = object as KubeObject;
  try {
    await client.get(type, { name: metadata.name!, ...(metadata.namespace ? { namespace: metadata.namespace } : {}) });
  } catch (error) {
    if ((error as { reason?: string }).reason !== 'NotFound') throw error;
    await client.create(type, object as never).catch((e: { reason?: string }) => {
      if (e.reason !== 'AlreadyExists') throw e;
    });
  }
}

/** The range that services have. Its condition is upstream's API server's to set; later the controller looks after it. */
async function serviceCidr({ client, clock, serviceCidr: cidr }: BootstrapOptions): Promise<void> {
  const type = resources.servicecidrs;
  await createMissing(client, type, {
    apiVersion: 'networking.k8s.io/v1',
    kind: 'ServiceCIDR',
    metadata: { name: 'kubernetes' },
    spec: { cidrs: [cidr] },
  });
  const found = await client.get(type, { name: 'kubernetes' });
  if (found.metadata.deletionTimestamp || found.status?.conditions?.some((c) => c.type === 'Ready') || !sameJson(found.spec?.cidrs, [cidr])) return;
  const lastTransitionTime = `${new Date(clock.now()).toISOString().slice(0, 19)}Z`;
  const ready = { type: 'Ready', status: 'True', message: 'Kubernetes default Service CIDR is ready', lastTransitionTime };
  const body = { apiVersion: 'networking.k8s.io/v1', kind: 'ServiceCIDR', metadata: { name: 'kubernetes' }, status: { conditions: [ready] } };
  await client.patch(type, { name: 'kubernetes' }, 'apply', body, {
    subresource: 'status',
    fieldManager: 'kubernetes-service-cidr-controller',
    force: true,
  });
}

const firstWaitMs = 50;
const longestWaitMs = 2_000;
/** Longer than what a server that died in the midst of it has taken is kept for it (see AllocationRepair), milliseconds. */
const raceLimitMs = 90_000;

/** Does it again while another server's doing the same is in the way. */
async function again(o: BootstrapOptions, work: () => Promise<void>): Promise<void> {
  const end = o.clock.now() + raceLimitMs;
  for (let wait = firstWaitMs; ; wait = Math.min(wait * 2, longestWaitMs)) {
    try {
      return await work();
    } catch (error) {
      if (!isRace(error) || o.clock.now() > end) throw error;
      o.log.info({ err: error }, 'another server creates default objects too');
      await sleep(o.clock, wait * (0.5 + Math.random()), o.signal);
    }
  }
}
