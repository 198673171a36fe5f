import { isNotFound } from '../api/errors.ts';
import { resources } from '../api/generated/resources.ts';
import { keyOf } from '../api/object.ts';
import type { Controller, ControllerContext } from './controller.ts';
import { startReconciler } from './reconciler.ts';
import { millis } from './timestamps.ts';

/** How long requests are kept, in milliseconds; upstream's number. Their answers are long with the kubelets. */
const keptMs = 30 * 60_000;

/** Deletes old PodCertificateRequests, answered or not. Watches requests. */
export function startPodCertificateRequestCleaner(context: ControllerContext): Controller {
  const { client, clock, informers } = context;
  const requests = informers.informer(resources.podcertificaterequests);
  const loop = startReconciler(context, { name: 'podcertificaterequest-cleaner-controller', waitFor: [requests], reconcile });
  requests.addHandlers({ onAdd: (request) => loop.enqueue(keyOf(request)) });
  return loop;

  async function reconcile(key: string): Promise<void> {
    const request = requests.get(key);
    if (!request) return;
    const { namespace, name, uid, creationTimestamp } = request.metadata;
    const wait = millis(creationTimestamp) + keptMs - clock.now();
    if (wait > 0) return loop.enqueueAfter(key, wait + 1000);
    await client.delete(resources.podcertificaterequests, { namespace, name }, { preconditions: { uid } }).catch((error) => {
      if (!isNotFound(error)) throw error;
    });
  }
}
