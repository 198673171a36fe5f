import type { Logger } from 'pino';
import { isAlreadyExists, isConflict, isNotFound } from '../api/errors.ts';
import { resources } from '../api/generated/resources.ts';
import type { Lease, Node } from '../api/generated/types.ts';
import type { Client } from '../client/client.ts';
import { type Clock, sleep } from '../client/clock.ts';
import { formatMicroTime } from './pods.ts';

const namespace = 'kube-node-lease';

export interface NodeLeaseOptions {
  client: Client;
  clock: Clock;
  log: Logger;
  signal: AbortSignal;
  nodeName: string;
  /** The lease's life; it is renewed four times within. */
  durationSeconds: number;
  node(): Node | undefined;
}

/** Renews the node's Lease until the signal aborts: by this the node controller sees that the node lives. Never rejects. */
export async function keepLease(o: NodeLeaseOptions): Promise<void> {
  const interval = (o.durationSeconds * 1000) / 4;
  let lease: Lease | undefined;
  let failures = 0;
  while (!o.signal.aborted) {
    try {
      lease = await renew(o, lease);
      failures = 0;
      await sleep(o.clock, interval * (1 + Math.random() * 0.04), o.signal);
    } catch (error) {
      if (o.signal.aborted) return;
      if (isConflict(error) || isNotFound(error)) lease = undefined;
      else o.log.warn({ err: error }, 'cannot renew the node lease, will retry');
      await sleep(o.clock, Math.min(7000, 200 * 2 ** failures++), o.signal).catch(() => {});
    }
  }
}

async function renew(o: NodeLeaseOptions, known: Lease | undefined): Promise<Lease> {
  const { client, nodeName } = o;
  // A renewal that takes longer than the lease is no use.
  const signal = AbortSignal.any([o.signal, AbortSignal.timeout((o.durationSeconds * 1000) / 4)]);
  const spec = { holderIdentity: nodeName, leaseDurationSeconds: o.durationSeconds, renewTime: formatMicroTime(o.clock.now()) };
  const node = o.node();
  const ownerReferences = node ? [{ apiVersion: 'v1', kind: 'Node', name: nodeName, uid: node.metadata.uid }] : undefined;
  let lease = known;
  if (!lease) {
    try {
      return await client.create(
        resources.leases,
        { metadata: { name: nodeName, namespace, ...(ownerReferences ? { ownerReferences } : {}) }, spec },
        { signal },
      );
    } catch (error) {
      if (!isAlreadyExists(error)) throw error;
      lease = await client.get(resources.leases, { name: nodeName, namespace }, { signal });
    }
  }
  // A Node made anew has another uid: without it the garbage collector would take the lease.
  const metadata = ownerReferences ? { ...lease.metadata, ownerReferences } : lease.metadata;
  return client.update(resources.leases, { ...lease, metadata, spec: { ...lease.spec, ...spec } }, { signal });
}
