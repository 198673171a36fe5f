import { isNotFound } from '../api/errors.ts';
import { resources } from '../api/generated/resources.ts';
import type { Node, Service } from '../api/generated/types.ts';
import { type CloudContext, type Controller, startReconciler } from './controller.ts';

const finalizer = 'service.kubernetes.io/load-balancer-cleanup';
/** What drifted in the cloud is repaired this often, milliseconds; spread, so that not all services come at once. */
const shortestRepairMs = 60_000;
/** With many services each comes less often, so that the cloud is asked for one every so many milliseconds at most. */
const repairSpacingMs = 2000;

const key = (service: Service) => `${service.metadata.namespace}/${service.metadata.name}`;
const isReady = (node: Node) => node.status?.conditions?.some((one) => one.type === 'Ready' && one.status === 'True') ?? false;

/** Whether the cloud should send traffic to a node; the health checks decide whether it does. */
function isTarget(node: Node): boolean {
  return (
    node.metadata.deletionTimestamp === undefined &&
    node.metadata.labels?.['node.kubernetes.io/exclude-from-external-load-balancers'] === undefined &&
    !node.spec.taints?.some((one) => one.key === 'ToBeDeletedByClusterAutoscaler') &&
    Boolean(node.spec.providerID)
  );
}

/**
 * A load balancer for every Service of type LoadBalancer (without a class of its own): made, kept to the Service and its nodes,
 * repaired, and deleted before the Service goes. As cloud-provider's service-lb-controller.
 */
export function startServiceController(context: CloudContext): Controller {
  const { client, cloud, events, informers } = context;
  const services = informers.informer(resources.services);
  const nodes = informers.informer(resources.nodes);
  const loop = startReconciler(context, {
    name: 'service-lb-controller',
    workers: 5,
    backoff: { firstMs: 1000, longestMs: 300_000 },
    waitFor: [services, nodes],
    reconcile,
  });
  const wants = (service: Service) =>
    service.spec.type === 'LoadBalancer' && !service.spec.loadBalancerClass && service.metadata.deletionTimestamp === undefined;
  const has = (service: Service) => service.metadata.finalizers?.includes(finalizer) ?? false;
  services.addHandlers({
    onAdd(service) {
      if (wants(service) || has(service)) loop.enqueue(key(service));
    },
    onUpdate(before, after) {
      const changed =
        JSON.stringify([before.spec, before.metadata.annotations, before.metadata.uid]) !==
          JSON.stringify([after.spec, after.metadata.annotations, after.metadata.uid]) ||
        before.metadata.deletionTimestamp !== after.metadata.deletionTimestamp;
      if (changed && (wants(after) || has(after))) loop.enqueue(key(after));
    },
  });
  const everyService = () => {
    for (const service of services.list()) if (wants(service)) loop.enqueue(key(service));
  };
  nodes.addHandlers({
    onAdd: (node) => {
      if (isTarget(node) && isReady(node)) everyService();
    },
    onUpdate(before, after) {
      if (isTarget(before) !== isTarget(after) || (isTarget(after) && isReady(after) && !isReady(before))) everyService();
    },
    onDelete: everyService,
  });
  const repairPeriod = () => Math.max(shortestRepairMs, services.list().filter(wants).length * repairSpacingMs);
  /** What was last made, by service: nothing is asked of the cloud while neither service nor nodes have changed. */
  const settled = new Map<string, { state: string; at: number }>();

  async function reconcile(id: string, signal: AbortSignal): Promise<{ requeueAfterMs: number } | undefined> {
    const service = services.get(id);
    if (!service) {
      settled.delete(id);
      return undefined;
    }
    if (!wants(service)) {
      if (has(service)) await remove(service, signal);
      settled.delete(id);
      return undefined;
    }
    const targets = nodes.list().filter(isTarget);
    const state = JSON.stringify([
      service.metadata.uid,
      service.spec,
      service.metadata.annotations,
      targets.map((node) => node.spec.providerID).sort(),
    ]);
    const before = settled.get(id);
    const now = context.clock.now();
    const period = repairPeriod();
    if (before?.state === state && now - before.at < period / 2) return { requeueAfterMs: period };
    // A service that is gone by now has nobody to take its load balancer away.
    if (!has(service) && !(await setFinalizers(service, [...(service.metadata.finalizers ?? []), finalizer], signal))) return undefined;
    const first = before === undefined && !service.status?.loadBalancer?.ingress?.length;
    if (first) events.event(service, 'Normal', 'EnsuringLoadBalancer', 'Ensuring load balancer');
    try {
      const { hostname } = await cloud.loadBalancers.ensure(service, targets);
      if (service.status?.loadBalancer?.ingress?.[0]?.hostname !== hostname) {
        const { namespace, name } = service.metadata;
        const status = { loadBalancer: { ingress: [{ hostname }] } };
        await client.patch(resources.services, { name, ...(namespace ? { namespace } : {}) }, 'merge', { status }, { subresource: 'status', signal });
      }
      if (first) events.event(service, 'Normal', 'EnsuredLoadBalancer', 'Ensured load balancer');
      else if (before && before.state !== state) events.event(service, 'Normal', 'UpdatedLoadBalancer', 'Updated load balancer with new hosts');
    } catch (error) {
      events.event(
        service,
        'Warning',
        'SyncLoadBalancerFailed',
        `Error syncing load balancer: failed to ensure load balancer: ${(error as Error).message}`,
      );
      throw error;
    }
    settled.set(id, { state, at: now });
    return { requeueAfterMs: period + Math.floor(Math.random() * (period / 6)) };
  }

  async function remove(service: Service, signal: AbortSignal): Promise<void> {
    const { namespace = '', name, uid, annotations = {} } = service.metadata;
    events.event(service, 'Normal', 'DeletingLoadBalancer', 'Deleting load balancer');
    try {
      await cloud.loadBalancers.ensureDeleted({ namespace, name, uid, annotations });
    } catch (error) {
      events.event(
        service,
        'Warning',
        'SyncLoadBalancerFailed',
        `Error syncing load balancer: failed to delete load balancer: ${(error as Error).message}`,
      );
      throw error;
    }
    let latest = service;
    if (service.metadata.deletionTimestamp === undefined && service.status?.loadBalancer?.ingress?.length) {
      const status = { loadBalancer: { ingress: null } };
      latest = await client.patch(resources.services, { namespace, name }, 'merge', { status }, { subresource: 'status', signal });
    }
    events.event(service, 'Normal', 'DeletedLoadBalancer', 'Deleted load balancer');
    const others = (latest.metadata.finalizers ?? []).filter((one) => one !== finalizer);
    await setFinalizers(latest, others, signal);
  }

  async function setFinalizers(service: Service, finalizers: string[], signal: AbortSignal): Promise<boolean> {
    const { namespace, name, uid, resourceVersion } = service.metadata;
    // With the version that was read: another's finalizer must not be lost.
    const patch = { metadata: { uid, resourceVersion, finalizers: finalizers.length ? finalizers : null } };
    try {
      await client.patch(resources.services, { name, ...(namespace ? { namespace } : {}) }, 'merge', patch, { signal });
      return true;
    } catch (error) {
      if (isNotFound(error)) return false;
      throw error;
    }
  }
  return loop.controller;
}
