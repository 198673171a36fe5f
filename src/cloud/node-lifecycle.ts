import { isNotFound } from '../api/errors.ts';
import { resources } from '../api/generated/resources.ts';
import type { Node } from '../api/generated/types.ts';
import { type CloudContext, type Controller, startReconciler } from './controller.ts';

const shutdownTaint = 'node.cloudprovider.kubernetes.io/shutdown';
/** How often the cloud is asked for a node that is not ready; upstream's node monitor period. */
const periodMs = 5000;

const isReady = (node: Node) => node.status?.conditions?.some((one) => one.type === 'Ready' && one.status === 'True') ?? false;

/**
 * Deletes nodes whose instance is gone, and taints those whose instance is stopped. The cloud is asked only for nodes that are not
 * ready, at once when they stop being so. As cloud-provider's cloud-node-lifecycle-controller.
 */
export function startCloudNodeLifecycleController(context: CloudContext): Controller {
  const { client, cloud, events, informers } = context;
  const nodes = informers.informer(resources.nodes);
  const loop = startReconciler(context, {
    name: 'cloud-node-lifecycle-controller',
    workers: 10,
    backoff: { firstMs: 500, longestMs: 30_000 },
    waitFor: [nodes],
    reconcile,
  });
  const tainted = (node: Node) => node.spec.taints?.some((one) => one.key === shutdownTaint) ?? false;
  nodes.addHandlers({
    onAdd: (node) => loop.enqueue(node.metadata.name),
    onUpdate(before, after) {
      if (isReady(before) !== isReady(after) || (isReady(after) && tainted(after))) loop.enqueue(after.metadata.name);
    },
  });

  async function reconcile(name: string, signal: AbortSignal): Promise<{ requeueAfterMs: number } | undefined> {
    const node = nodes.get(name);
    if (!node) return undefined;
    if (isReady(node)) {
      if (tainted(node))
        await setTaints(
          node,
          (node.spec.taints ?? []).filter((one) => one.key !== shutdownTaint),
          signal,
        );
      return undefined;
    }
    // A node that has not been matched with an instance yet may still be.
    if (!node.spec.providerID) return { requeueAfterMs: periodMs };
    if (!(await cloud.instances.exists(node))) {
      events.event(node, 'Normal', 'DeletingNode', `Deleting node ${name} because it does not exist in the cloud provider`);
      await client.delete(resources.nodes, { name }, { preconditions: { uid: node.metadata.uid }, signal }).catch((error) => {
        if (!isNotFound(error)) throw error;
      });
      return undefined;
    }
    const down = await cloud.instances.shutdown(node);
    if (down !== tainted(node)) {
      const others = (node.spec.taints ?? []).filter((one) => one.key !== shutdownTaint);
      await setTaints(node, down ? [...others, { key: shutdownTaint, effect: 'NoSchedule' }] : others, signal);
    }
    return { requeueAfterMs: periodMs };
  }

  async function setTaints(node: Node, taints: NonNullable<Node['spec']['taints']>, signal: AbortSignal): Promise<void> {
    const patch = { metadata: { resourceVersion: node.metadata.resourceVersion }, spec: { taints: taints.length ? taints : null } };
    await client.patch(resources.nodes, { name: node.metadata.name }, 'merge', patch, { signal });
  }
  return loop.controller;
}
