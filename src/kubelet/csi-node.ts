import { isAlreadyExists } from '../api/errors.ts';
import { resources } from '../api/generated/resources.ts';
import type { CSINode, Node } from '../api/generated/types.ts';
import type { Client } from '../client/client.ts';

/** A CSI driver's node part that this kubelet plays itself: it attaches, formats and mounts block volumes. */
export interface CsiNodeDriver {
  /** As ebs.csi.aws.com. */
  name: string;
  /** How the driver knows this node, as i-0123456789abcdef0. */
  nodeId: string;
  /** Topology labels of the node; the keys become the driver's topology keys. */
  topology: Record<string, string>;
  /** How many volumes can be attached. */
  allocatable: number;
}

/** Makes the node's CSINode say what drivers there are, and puts their topology and node ids on the Node. */
export async function registerCsiDrivers(client: Client, node: Node, drivers: CsiNodeDriver[], signal: AbortSignal): Promise<void> {
  if (drivers.length === 0) return;
  const { name, uid } = node.metadata;
  const wanted = drivers.map((d) => ({
    name: d.name,
    nodeID: d.nodeId,
    topologyKeys: Object.keys(d.topology).sort(),
    allocatable: { count: d.allocatable },
  }));
  const metadata = { name, ownerReferences: [{ apiVersion: 'v1', kind: 'Node', name, uid }] };
  try {
    await client.create(resources.csinodes, { metadata, spec: { drivers: wanted } }, { signal });
  } catch (error) {
    if (!isAlreadyExists(error)) throw error;
    const existing: CSINode = await client.get(resources.csinodes, { name }, { signal });
    const names = new Set(wanted.map((d) => d.name));
    const drivers = [...existing.spec.drivers.filter((d) => !names.has(d.name)), ...wanted];
    const owned = existing.metadata.ownerReferences?.some((r) => r.uid === uid);
    if (!owned || JSON.stringify(drivers) !== JSON.stringify(existing.spec.drivers))
      await client.update(
        resources.csinodes,
        { ...existing, metadata: { ...existing.metadata, ownerReferences: metadata.ownerReferences }, spec: { drivers } },
        { signal },
      );
  }
  const labels = Object.assign({}, ...drivers.map((d) => d.topology)) as Record<string, string>;
  const missing = Object.entries(labels).filter(([key, value]) => node.metadata.labels?.[key] !== value && !foreign(key));
  const ids = JSON.stringify(Object.fromEntries(drivers.map((d) => [d.name, d.nodeId])));
  const annotation = 'csi.volume.kubernetes.io/nodeid';
  if (missing.length === 0 && node.metadata.annotations?.[annotation] === ids) return;
  await client.patch(
    resources.nodes,
    { name },
    'merge',
    { metadata: { labels: Object.fromEntries(missing), annotations: { [annotation]: ids } } },
    { signal },
  );
}

/** topology.kubernetes.io labels are the cloud controller's to set. */
const foreign = (label: string) => label.startsWith('topology.kubernetes.io/');
