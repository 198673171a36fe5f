import { isNotFound } from '../api/errors.ts';
import { keyOf } from '../api/object.ts';
import type { Secret } from '../api/generated/types.ts';
import { resources } from '../api/generated/resources.ts';
import type { Controller, ControllerContext } from './controller.ts';
import { startReconciler } from './reconciler.ts';

const TYPE = 'bootstrap.kubernetes.io/token';

/** Deletes bootstrap tokens that have expired. Watches those Secrets in kube-system. */
export function startTokenCleaner(context: ControllerContext): Controller {
  const { client, clock, informers } = context;
  const secrets = informers.informer(resources.secrets, { namespace: 'kube-system', fieldSelector: `type=${TYPE}` });
  const loop = startReconciler(context, { name: 'token-cleaner-controller', waitFor: [secrets], reconcile });
  const enqueue = (secret: Secret) => loop.enqueue(keyOf(secret));
  secrets.addHandlers({ onAdd: enqueue, onUpdate: (_, after) => enqueue(after) });
  return loop;

  async function reconcile(key: string): Promise<void> {
    const secret = secrets.get(key);
    const expiration = secret?.data?.['expiration'];
    if (!secret || expiration === undefined) return;
    const at = Date.parse(Buffer.from(expiration, 'base64').toString());
    // What cannot be read cannot be used either.
    const left = Number.isNaN(at) ? 0 : at - clock.now();
    if (left > 0) return loop.enqueueAfter(key, left);
    const { uid, resourceVersion } = secret.metadata;
    await client.delete(resources.secrets, secret.metadata, { preconditions: { uid, resourceVersion } }).catch((error) => {
      if (!isNotFound(error)) throw error;
    });
  }
}
