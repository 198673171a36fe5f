import { resources } from '../api/generated/resources.ts';
import type { Node } from '../api/generated/types.ts';
import { type CloudContext, type Controller, startReconciler } from './controller.ts';

/** Drift is looked for this often, milliseconds. */
const periodMs = 60_000;
const everything = 'routes';

function contains(range: string, cidr: string): boolean {
  const parse = (text: string) => {
    const [address = '', prefix = '32'] = text.split('/');
    return { base: address.split('.').reduce((sum, part) => sum * 256 + Number(part), 0), prefix: Number(prefix) };
  };
  const outer = parse(range);
  const inner = parse(cidr);
  const size = 2 ** (32 - outer.prefix);
  return inner.prefix >= outer.prefix && Math.floor(inner.base / size) === Math.floor(outer.base / size);
}

/**
 * Keeps a route in the cloud for every node's pod range, and takes those away that lead nowhere or to nodes that are gone. A node
 * with its route is told so by the condition NetworkUnavailable. As cloud-provider's node-route-controller.
 */
export function startRouteController(context: CloudContext): Controller {
  const { client, cloud, clusterCidr, events, informers, log } = context;
  const nodes = informers.informer(resources.nodes);
  // All nodes in one pass: one description of the route tables serves them.
  const loop = startReconciler(context, {
    name: 'node-route-controller',
    workers: 1,
    backoff: { firstMs: 200, longestMs: 30_000 },
    waitFor: [nodes],
    reconcile,
  });
  nodes.addHandlers({
    onAdd: () => loop.enqueue(everything),
    onUpdate(before, after) {
      if (before.spec.podCIDR !== after.spec.podCIDR || before.spec.providerID !== after.spec.providerID) loop.enqueue(everything);
    },
    onDelete: () => loop.enqueue(everything),
  });

  async function reconcile(_key: string, signal: AbortSignal): Promise<{ requeueAfterMs: number }> {
    const wanted = new Map<string, Node>();
    for (const node of nodes.list()) if (node.spec.podCIDR && node.spec.providerID) wanted.set(node.spec.podCIDR, node);
    const routes = await cloud.routes.list();
    const failures: unknown[] = [];
    for (const route of routes) {
      if (!contains(clusterCidr, route.destinationCidr)) continue;
      const node = wanted.get(route.destinationCidr);
      if (node && node.metadata.name === route.targetNode && !route.blackhole) continue;
      // A wanted one is replaced below.
      if (!node) await cloud.routes.delete(route).catch((error) => failures.push(error));
    }
    await Promise.all(
      [...wanted].map(async ([destinationCidr, node]) => {
        const there = routes.some((one) => one.destinationCidr === destinationCidr && one.targetNode === node.metadata.name && !one.blackhole);
        try {
          if (!there) {
            await cloud.routes.create({ node, destinationCidr });
            log.info({ node: node.metadata.name, destinationCidr }, 'created a route');
          }
          await setCondition(node, true, signal);
        } catch (error) {
          failures.push(error);
          events.event(node, 'Warning', 'FailedToCreateRoute', `Could not create route ${destinationCidr}: ${(error as Error).message}`);
          await setCondition(node, false, signal).catch(() => {});
        }
      }),
    );
    if (failures.length) throw failures[0];
    return { requeueAfterMs: periodMs };
  }

  async function setCondition(node: Node, created: boolean, signal: AbortSignal): Promise<void> {
    const known = nodes.get(node.metadata.name)?.status?.conditions?.find((one) => one.type === 'NetworkUnavailable');
    const status = created ? 'False' : 'True';
    if (known?.status === status) return;
    const now = new Date(context.clock.now()).toISOString().replace(/\.\d+Z$/, 'Z');
    const condition = {
      type: 'NetworkUnavailable',
      status,
      reason: created ? 'RouteCreated' : 'NoRouteCreated',
      message: created ? 'RouteController created a route' : 'RouteController failed to create a route',
      lastHeartbeatTime: now,
      lastTransitionTime: now,
    };
    await client.patch(
      resources.nodes,
      { name: node.metadata.name },
      'strategic',
      { status: { conditions: [condition] } },
      { subresource: 'status', signal },
    );
  }
  return loop.controller;
}
