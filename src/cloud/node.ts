import { resources } from '../api/generated/resources.ts';
import type { Node } from '../api/generated/types.ts';
import { type CloudContext, type Controller, startReconciler } from './controller.ts';
import type { InstanceMetadata } from './provider.ts';

export const uninitializedTaint = 'node.cloudprovider.kubernetes.io/uninitialized';
/** Addresses of instances change rarely; they are looked at this often, as by upstream. */
const addressPeriodMs = 5 * 60_000;

function labelsOf(metadata: InstanceMetadata): Record<string, string> {
  return {
    'node.kubernetes.io/instance-type': metadata.instanceType,
    'beta.kubernetes.io/instance-type': metadata.instanceType,
    'topology.kubernetes.io/zone': metadata.zone,
    'failure-domain.beta.kubernetes.io/zone': metadata.zone,
    'topology.kubernetes.io/region': metadata.region,
    'failure-domain.beta.kubernetes.io/region': metadata.region,
    ...metadata.additionalLabels,
  };
}

/** The kubelet's addresses of the same kinds keep their place, with its own node IP first. */
function addressesOf(node: Node, metadata: InstanceMetadata) {
  const hostname = node.status?.addresses?.filter((one) => one.type === 'Hostname') ?? [];
  const seen = new Set<string>();
  return [...metadata.addresses, ...hostname].filter((one) => {
    const key = `${one.type} ${one.address}`;
    return seen.has(key) ? false : seen.add(key);
  });
}

/**
 * Fills in what the cloud knows of a new node (provider id, zone, region, instance type, addresses) and then takes its
 * uninitialized taint off; keeps addresses up to date afterwards. As cloud-provider's cloud-node-controller.
 */
export function startCloudNodeController(context: CloudContext): Controller {
  const { client, cloud, events, informers } = context;
  const nodes = informers.informer(resources.nodes);
  const loop = startReconciler(context, {
    name: 'cloud-node-controller',
    // Workers mostly wait for the same lookup: as many as share one call.
    workers: 50,
    backoff: { firstMs: 200, longestMs: 30_000 },
    waitFor: [nodes],
    reconcile,
  });
  nodes.addHandlers({
    onAdd: (node) => loop.enqueue(node.metadata.name),
    onUpdate(_, after) {
      if (after.spec.taints?.some((taint) => taint.key === uninitializedTaint)) loop.enqueue(after.metadata.name);
    },
  });

  async function reconcile(name: string, signal: AbortSignal): Promise<{ requeueAfterMs: number } | undefined> {
    const node = nodes.get(name);
    if (!node) return undefined;
    const fresh = node.spec.taints?.some((taint) => taint.key === uninitializedTaint) ?? false;
    if (!fresh && !node.spec.providerID?.startsWith('aws://')) return undefined;
    // Of a node that is known only its addresses are kept; whether its instance is still there is the lifecycle controller's question.
    if (!fresh && !(await cloud.instances.exists(node))) return { requeueAfterMs: addressPeriodMs };
    const metadata = await cloud.instances.metadata(node);
    const addresses = addressesOf(node, metadata);
    if (JSON.stringify(addresses) !== JSON.stringify(node.status?.addresses)) {
      await client.patch(resources.nodes, { name }, 'merge', { status: { addresses } }, { subresource: 'status', signal });
    }
    if (fresh) {
      const taints = (node.spec.taints ?? []).filter((taint) => taint.key !== uninitializedTaint);
      const spec = { providerID: node.spec.providerID ?? metadata.providerId, taints: taints.length ? taints : null };
      // With the version that was read: another's taint must not be lost.
      const patch = { metadata: { resourceVersion: node.metadata.resourceVersion, labels: labelsOf(metadata) }, spec };
      const latest = nodes.get(name);
      if (latest && latest.metadata.resourceVersion !== node.metadata.resourceVersion)
        patch.metadata.resourceVersion = latest.metadata.resourceVersion;
      if (latest?.spec.taints) spec.taints = latest.spec.taints.filter((taint) => taint.key !== uninitializedTaint);
      if (!spec.taints?.length) spec.taints = null;
      await client.patch(resources.nodes, { name }, 'merge', patch, { signal });
      events.event(node, 'Normal', 'Synced', 'Node synced successfully');
    }
    return { requeueAfterMs: addressPeriodMs };
  }
  return loop.controller;
}
