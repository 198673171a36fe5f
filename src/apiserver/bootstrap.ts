import type { Logger } from 'pino';
import type { KubeObject, ResourceType } from '../api/object.ts';
import type { Client } from '../client/client.ts';
import { reconcileDefaultRoles } from './authz/reconcile.ts';
import { firstAddress } from './services/allocators.ts';
import { equalJson } from './storage/json.ts';

/** What a cluster has from the moment its API server is ready. */
export interface BootstrapOptions {
  client: Client;
  clientCa: string;
  /** PEM of the authority whose certificates may name users in headers. */
  requestHeaderCa: string | undefined;
  serviceCidr: string;
  advertise: { address: string; port: number } | undefined;
  notReady: Map<string, string>;
  log: Logger;
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

export async function bootstrap(o: BootstrapOptions): Promise<void> {
  const { client } = o;
  await Promise.all(systemNamespaces.map((name) => createMissing(client, namespaces, { apiVersion: 'v1', kind: 'Namespace', metadata: { name } })));
  o.notReady.delete(bootstrapChecks.namespaces);
  await reconcileDefaultRoles(client);
  o.notReady.delete(bootstrapChecks.roles);
  await Promise.all(systemPriorities.map((object) => createMissing(client, priorityClasses, object)));
  o.notReady.delete(bootstrapChecks.priorities);
  await createMissing(client, core('configmaps', 'ConfigMap', true), {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name: 'extension-apiserver-authentication', namespace: 'kube-system' },
    data: { 'client-ca-file': o.clientCa, ...(o.requestHeaderCa ? requestHeaders(o.requestHeaderCa) : {}) },
  } as never);
  await kubernetesService(o);
  o.notReady.delete(bootstrapChecks.service);
}

/** How API servers behind APIServices learn of users from this one. */
const requestHeaders = (ca: string) => ({
  'requestheader-client-ca-file': ca,
  'requestheader-allowed-names': '["front-proxy-client"]',
  'requestheader-username-headers': '["X-Remote-User"]',
  'requestheader-group-headers': '["X-Remote-Group"]',
  'requestheader-extra-headers-prefix': '["X-Remote-Extra-"]',
});

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

/** default/kubernetes: the service by which pods reach this server, and where it really is; and the range that services have. */
async function kubernetesService(o: BootstrapOptions): Promise<void> {
  const cidr = { group: 'networking.k8s.io', version: 'v1', resource: 'servicecidrs', kind: 'ServiceCIDR', namespaced: false };
  await createMissing(o.client, cidr, {
    apiVersion: 'networking.k8s.io/v1',
    kind: 'ServiceCIDR',
    metadata: { name: 'kubernetes' },
    spec: { cidrs: [o.serviceCidr] },
  });
  const metadata = { name: 'kubernetes', namespace: 'default', labels: { component: 'apiserver', provider: 'kubernetes' } };
  const target = o.advertise;
  await createMissing(o.client, core('services', 'Service', true), {
    apiVersion: 'v1',
    kind: 'Service',
    metadata,
    spec: {
      type: 'ClusterIP',
      clusterIP: firstAddress(o.serviceCidr),
      ports: [{ name: 'https', port: 443, protocol: 'TCP', targetPort: target?.port ?? 6443 }],
      sessionAffinity: 'None',
    },
  });
  if (!target) return;
  const mirror = { 'endpointslice.kubernetes.io/skip-mirror': 'true' };
  await put(o.client, core('endpoints', 'Endpoints', true), {
    apiVersion: 'v1',
    kind: 'Endpoints',
    metadata: { name: 'kubernetes', namespace: 'default', labels: mirror },
    subsets: [{ addresses: [{ ip: target.address }], ports: [{ name: 'https', port: target.port, protocol: 'TCP' }] }],
  });
  await put(
    o.client,
    { group: 'discovery.k8s.io', version: 'v1', resource: 'endpointslices', kind: 'EndpointSlice', namespaced: true },
    {
      apiVersion: 'discovery.k8s.io/v1',
      kind: 'EndpointSlice',
      metadata: { name: 'kubernetes', namespace: 'default', labels: { 'kubernetes.io/service-name': 'kubernetes' } },
      addressType: 'IPv4',
      endpoints: [{ addresses: [target.address], conditions: { ready: true } }],
      ports: [{ name: 'https', port: target.port, protocol: 'TCP' }],
    },
  );
}

/** Creates the object, or gives it the content that is wanted. */
async function put(
  client: Client,
  type: ResourceType,
  object: Record<string, unknown> & { metadata: { name: string; namespace: string; labels?: Record<string, string> } },
): Promise<void> {
  const { name, namespace } = object.metadata;
  try {
    const found = (await client.get(type, { name, namespace })) as unknown as Record<string, unknown> & { metadata: object };
    const next = { ...found, ...object, metadata: { ...found.metadata, ...object.metadata } };
    if (!equalJson(next, found)) await client.update(type, next as never);
  } catch (error) {
    if ((error as { reason?: string }).reason !== 'NotFound') throw error;
    await client.create(type, object as never);
  }
}
