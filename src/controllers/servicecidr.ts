import { BlockList, isIPv4 } from 'node:net';
import { isNotFound } from '../api/errors.ts';
import type { IPAddress, ServiceCIDR } from '../api/generated/types.ts';
import { resources } from '../api/generated/resources.ts';
import type { Controller, ControllerContext } from './controller.ts';
import { startReconciler } from './reconciler.ts';
import { millis, timestamp } from './timestamps.ts';

const FINALIZER = 'networking.k8s.io/service-cidr-finalizer';
const MANAGED_BY = 'ipaddress.kubernetes.io/managed-by';
const ALLOCATOR = 'ipallocator.k8s.io';
/** Time for API servers to hear that a range is going before it is gone, milliseconds. */
const GRACE = 10_000;

/**
 * ServiceCIDRs: says that they are ready, and keeps one that is being deleted until no address needs it. Watches ServiceCIDRs and
 * IPAddresses.
 */
export function startServiceCidrController(context: ControllerContext): Controller {
  const { client, clock, informers } = context;
  const cidrs = informers.informer(resources.servicecidrs);
  const addresses = informers.informer(resources.ipaddresses);
  const loop = startReconciler(context, { name: 'service-cidr-controller', workers: 5, waitFor: [cidrs, addresses], reconcile });
  const enqueueOverlapping = (cidr: ServiceCIDR) => {
    loop.enqueue(cidr.metadata.name);
    // A range that goes may now have its addresses in this one, or no longer.
    for (const other of cidrs.list()) if (other.metadata.deletionTimestamp) loop.enqueue(other.metadata.name);
  };
  cidrs.addHandlers({ onAdd: enqueueOverlapping, onUpdate: (_, after) => enqueueOverlapping(after), onDelete: enqueueOverlapping });
  const enqueueContaining = (ip: IPAddress) => {
    if (ip.metadata.labels?.[MANAGED_BY] !== ALLOCATOR) return;
    for (const cidr of cidrs.list()) if (cidr.metadata.deletionTimestamp && contains(cidr, ip.metadata.name)) loop.enqueue(cidr.metadata.name);
  };
  addresses.addHandlers({ onAdd: enqueueContaining, onDelete: enqueueContaining });
  return loop;

  async function reconcile(name: string): Promise<void> {
    const cidr = cidrs.get(name);
    if (!cidr) return;
    const { deletionTimestamp, finalizers = [] } = cidr.metadata;
    if (!deletionTimestamp) {
      if (!finalizers.includes(FINALIZER)) await patchFinalizers(name, { finalizers: [FINALIZER] });
      return setReady(cidr, 'True', '', 'Kubernetes Service CIDR is ready');
    }
    if (isNeeded(cidr)) {
      const message = 'There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR';
      return setReady(cidr, 'False', 'Terminating', message);
    }
    const wait = millis(deletionTimestamp) + GRACE - clock.now();
    if (wait > 0) return loop.enqueueAfter(name, wait);
    if (finalizers.includes(FINALIZER)) await patchFinalizers(name, { '$deleteFromPrimitiveList/finalizers': [FINALIZER] });
  }

  /** Whether an allocated address lies in this range only. */
  function isNeeded(cidr: ServiceCIDR): boolean {
    const own = blocksOf([cidr]);
    const others = blocksOf(cidrs.list().filter((c) => c.metadata.uid !== cidr.metadata.uid));
    return addresses.list().some(({ metadata: { name, labels } }) => {
      const family = isIPv4(name) ? 'ipv4' : 'ipv6';
      return labels?.[MANAGED_BY] === ALLOCATOR && own.check(name, family) && !others.check(name, family);
    });
  }

  async function patchFinalizers(name: string, metadata: object): Promise<void> {
    await client.patch(resources.servicecidrs, { name }, 'strategic', { metadata }).catch((error) => {
      if (!isNotFound(error)) throw error;
    });
  }

  async function setReady(cidr: ServiceCIDR, status: string, reason: string, message: string): Promise<void> {
    const before = cidr.status?.conditions?.find((c) => c.type === 'Ready');
    if (before?.status === status && (before.reason ?? '') === reason && before.message === message) return;
    const condition = { type: 'Ready', status, reason, message, lastTransitionTime: timestamp(clock) };
    const { name } = cidr.metadata;
    const body = { apiVersion: 'networking.k8s.io/v1', kind: 'ServiceCIDR', metadata: { name }, status: { conditions: [condition] } };
    await client
      .patch(resources.servicecidrs, { name }, 'apply', body, { subresource: 'status', fieldManager: 'service-cidr-controller', force: true })
      .catch((error) => {
        if (!isNotFound(error)) throw error;
      });
  }
}

function blocksOf(cidrs: ServiceCIDR[]): BlockList {
  const list = new BlockList();
  for (const range of cidrs.flatMap((c) => c.spec?.cidrs ?? [])) {
    const [network = '', prefix = ''] = range.split('/');
    list.addSubnet(network, Number(prefix), isIPv4(network) ? 'ipv4' : 'ipv6');
  }
  return list;
}

const contains = (cidr: ServiceCIDR, address: string): boolean => blocksOf([cidr]).check(address, isIPv4(address) ? 'ipv4' : 'ipv6');
