import { X509Certificate } from 'node:crypto';
import { isNotFound } from '../api/errors.ts';
import type { CertificateSigningRequest } from '../api/generated/types.ts';
import { resources } from '../api/generated/resources.ts';
import type { Controller, ControllerContext } from './controller.ts';
import { startReconciler } from './reconciler.ts';
import { millis } from './timestamps.ts';

/** How long requests are kept, in milliseconds; upstream's numbers. */
const APPROVED = 3600_000;
const DENIED = 3600_000;
const FAILED = 3600_000;
const PENDING = 24 * 3600_000;

/** Deletes requests that have served their purpose or never will. Watches requests. */
export function startCsrCleanerController(context: ControllerContext): Controller {
  const { client, clock, informers } = context;
  const requests = informers.informer(resources.certificatesigningrequests);
  const loop = startReconciler(context, { name: 'certificatesigningrequest-cleaner-controller', waitFor: [requests], reconcile });
  const enqueue = (csr: CertificateSigningRequest) => loop.enqueue(csr.metadata.name);
  requests.addHandlers({ onAdd: enqueue, onUpdate: (_, after) => enqueue(after) });
  return loop;

  async function reconcile(name: string): Promise<void> {
    const csr = requests.get(name);
    if (!csr) return;
    const wait = endOf(csr) - clock.now();
    if (wait > 0) return loop.enqueueAfter(name, wait + 1000);
    await client.delete(resources.certificatesigningrequests, { name }, { preconditions: { uid: csr.metadata.uid } }).catch((error) => {
      if (!isNotFound(error)) throw error;
    });
  }
}

function endOf(csr: CertificateSigningRequest): number {
  const since = (type: string): number | undefined => {
    const condition = csr.status?.conditions?.find((c) => c.type === type);
    return condition && millis(condition.lastUpdateTime ?? condition.lastTransitionTime ?? csr.metadata.creationTimestamp);
  };
  const ends = [millis(csr.metadata.creationTimestamp) + PENDING];
  const approved = since('Approved');
  const denied = since('Denied');
  const failed = since('Failed');
  if (csr.status?.certificate && approved !== undefined) ends.push(approved + APPROVED, notAfter(csr.status.certificate));
  if (denied !== undefined) ends.push(denied + DENIED);
  if (failed !== undefined) ends.push(failed + FAILED);
  return Math.min(...ends);
}

function notAfter(certificate: string): number {
  try {
    return new X509Certificate(Buffer.from(certificate, 'base64')).validToDate.getTime();
  } catch {
    return Number.POSITIVE_INFINITY;
  }
}
