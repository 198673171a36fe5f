import {
  AppsV1Api,
  CoreV1Api,
  CustomObjectsApi,
  type KubeConfig,
  type KubernetesObject,
  PatchStrategy,
  setHeaderOptions,
  type V1Deployment,
  type V1Service,
  Watch,
} from '@kubernetes/client-node';

export interface Website extends KubernetesObject {
  spec: { image: string; replicas?: number; public?: boolean };
  status?: { url?: string; conditions?: { type: string; status: string; reason?: string; message?: string }[] };
}

const group = 'example.com';
const version = 'v1';
const plural = 'websites';
const manager = 'website-operator';

/** Makes a Deployment and a Service of every Website, and tells in its status where it is. Ends when the signal aborts. */
export function startOperator(config: KubeConfig, signal: AbortSignal): void {
  const apps = config.makeApiClient(AppsV1Api);
  const core = config.makeApiClient(CoreV1Api);
  const custom = config.makeApiClient(CustomObjectsApi);
  const apply = setHeaderOptions('Content-Type', PatchStrategy.ServerSideApply);
  const merge = setHeaderOptions('Content-Type', PatchStrategy.MergePatch);
  const websites = new Map<string, Website>();
  const busy = new Set<string>();
  const again = new Set<string>();

  async function reconcile(site: Website): Promise<void> {
    const { namespace = 'default', name = '', uid = '' } = site.metadata ?? {};
    const metadata = {
      name,
      namespace,
      labels: { 'app.kubernetes.io/managed-by': manager },
      ownerReferences: [{ apiVersion: `${group}/${version}`, kind: 'Website', name, uid, controller: true }],
    };
    const labels = { website: name };
    const deployment: V1Deployment = {
      apiVersion: 'apps/v1',
      kind: 'Deployment',
      metadata,
      spec: {
        replicas: site.spec.replicas ?? 2,
        selector: { matchLabels: labels },
        template: { metadata: { labels }, spec: { containers: [{ name: 'web', image: site.spec.image, ports: [{ containerPort: 8080 }] }] } },
      },
    };
    const service: V1Service = {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: {
        ...metadata,
        annotations: {
          'service.beta.kubernetes.io/aws-load-balancer-type': 'nlb',
          'service.beta.kubernetes.io/aws-load-balancer-scheme': 'internet-facing',
        },
      },
      spec: { type: site.spec.public ? 'LoadBalancer' : 'ClusterIP', selector: labels, ports: [{ name: 'http', port: 80, targetPort: 8080 }] },
    };
    const how = { namespace, name, fieldManager: manager, force: true };
    const deployed = await apps.patchNamespacedDeployment({ ...how, body: deployment }, apply);
    const served = await core.patchNamespacedService({ ...how, body: service }, apply);
    const host = site.spec.public ? served.status?.loadBalancer?.ingress?.[0]?.hostname : `${name}.${namespace}.svc`;
    const running = (deployed.status?.availableReplicas ?? 0) >= (site.spec.replicas ?? 2);
    const missing = !running ? 'its pods are not available yet' : !host ? 'its load balancer is not there yet' : '';
    const status = {
      ...(host ? { url: `http://${host}/` } : {}),
      conditions: [{ type: 'Ready', status: missing ? 'False' : 'True', reason: missing ? 'Waiting' : 'Serving', message: missing }],
    };
    if (JSON.stringify(status) === JSON.stringify(site.status)) return;
    await custom.patchNamespacedCustomObjectStatus({ group, version, namespace, plural, name, body: { status } }, merge);
  }

  async function work(key: string): Promise<void> {
    if (busy.has(key)) {
      again.add(key);
      return;
    }
    busy.add(key);
    try {
      do {
        again.delete(key);
        const site = websites.get(key);
        if (site && !site.metadata?.deletionTimestamp) await reconcile(site);
      } while (again.has(key) && !signal.aborted);
    } catch (error) {
      if (signal.aborted || isGone(error)) return;
      console.error(`${key}: ${(error as Error).message}`);
      setTimeout(() => void work(key), 1000).unref();
    } finally {
      busy.delete(key);
    }
  }

  /** Watches a path until the end, and hands every object to seen. */
  function follow(path: string, seen: (type: string, object: KubernetesObject) => void): void {
    if (signal.aborted) return;
    const onDone = () => setTimeout(() => follow(path, seen), 200).unref();
    void new Watch(config).watch(path, {}, seen, onDone).then(
      (request) => signal.addEventListener('abort', () => request.abort(), { once: true }),
      () => undefined,
    );
  }

  const keyOf = (o: KubernetesObject) => `${o.metadata?.namespace}/${o.metadata?.name}`;
  follow(`/apis/${group}/${version}/${plural}`, (type, object) => {
    const key = keyOf(object);
    if (type === 'DELETED') websites.delete(key);
    else if (object.metadata?.name) websites.set(key, object as Website);
    void work(key);
  });
  // What belongs to a Website has its name.
  const owned = (_: string, object: KubernetesObject) => void (websites.has(keyOf(object)) && work(keyOf(object)));
  follow('/apis/apps/v1/deployments', owned);
  follow('/api/v1/services', owned);
}

/** The Website, or its whole namespace, is being deleted: there is nothing more to do. */
const isGone = (error: unknown): boolean => {
  const { code, body } = error as { code?: number; body?: unknown };
  return code === 404 || (code === 403 && String(body).includes('NamespaceTerminating'));
};
