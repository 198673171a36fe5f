import { isConflict, isNotFound } from '../api/errors.ts';
import { keyOf } from '../api/object.ts';
import type { Pod, Secret, ServiceAccount } from '../api/generated/types.ts';
import { resources } from '../api/generated/resources.ts';
import type { Controller, ControllerContext } from './controller.ts';
import { startReconciler } from './reconciler.ts';
import { millis } from './timestamps.ts';

const DAY = 86_400_000;
const TOKEN = 'kubernetes.io/service-account-token';
const LAST_USED = 'kubernetes.io/legacy-token-last-used';
const INVALID_SINCE = 'kubernetes.io/legacy-token-invalid-since';
const TRACKING = { namespace: 'kube-system', name: 'kube-apiserver-legacy-service-account-token-tracking' };
/** A token that nobody has used for so long is made invalid, and as long after that deleted. Milliseconds. */
const UNUSED = 365 * DAY;

const dateOf = (ms: number) => new Date(ms).toISOString().slice(0, 10);

/**
 * Tokens that were made automatically for ServiceAccounts and that nobody uses: marks them invalid after a year, deletes them after
 * another. Watches Secrets; each has a timer of its own for the day on which it is due.
 */
export function startLegacyTokenCleaner(context: ControllerContext): Controller {
  const { client, clock, informers, log } = context;
  const secrets = informers.informer(resources.secrets, { fieldSelector: `type=${TOKEN}` });
  const accounts = informers.informer(resources.serviceaccounts);
  const pods = informers.informer(resources.pods);
  const name = 'legacy-serviceaccount-token-cleaner-controller';
  const loop = startReconciler(context, { name, waitFor: [secrets, accounts, pods], reconcile });
  const enqueue = (secret: Secret) => {
    if (secret.type === TOKEN) loop.enqueue(keyOf(secret));
  };
  secrets.addHandlers({ onAdd: enqueue, onUpdate: (_, after) => enqueue(after) });
  return loop;

  async function reconcile(key: string): Promise<void> {
    const secret = secrets.get(key);
    if (!secret || secret.metadata.deletionTimestamp) return;
    const now = clock.now();
    const due = Math.max(millis(secret.metadata.creationTimestamp), lastUse(secret)) + UNUSED;
    if (due >= now) return loop.enqueueAfter(key, Math.min(due - now + 1000, DAY));
    const account = accountOf(secret);
    if (!account?.secrets?.some((s) => s.name === secret.metadata.name)) return;
    loop.enqueueAfter(key, DAY);
    const since = await trackedSince();
    if (since === undefined || now < since + DAY + UNUSED) return;
    if (pods.list(secret.metadata.namespace).some((p) => uses(p, secret.metadata.name))) return;
    try {
      const invalid = secret.metadata.labels?.[INVALID_SINCE];
      if (!invalid || Number.isNaN(Date.parse(invalid))) {
        const metadata = { uid: secret.metadata.uid, labels: { [INVALID_SINCE]: dateOf(now) } };
        await client.patch(resources.secrets, secret.metadata, 'merge', { metadata });
      } else if (invalid < dateOf(now - UNUSED)) {
        log.info({ secret: key, invalidSince: invalid }, 'a service account token that nobody uses is deleted');
        await client.delete(resources.secrets, secret.metadata, { preconditions: { resourceVersion: secret.metadata.resourceVersion } });
      }
    } catch (error) {
      if (!isNotFound(error) && !isConflict(error)) throw error;
    }
  }

  function accountOf(secret: Secret): ServiceAccount | undefined {
    const { 'kubernetes.io/service-account.name': accountName, 'kubernetes.io/service-account.uid': uid } = secret.metadata.annotations ?? {};
    const account = accountName ? accounts.get(`${secret.metadata.namespace}/${accountName}`) : undefined;
    return !uid || account?.metadata.uid === uid ? account : undefined;
  }

  /** Since when the API server notes the use of tokens; undefined while it does not. */
  async function trackedSince(): Promise<number | undefined> {
    try {
      const { data } = await client.get(resources.configmaps, TRACKING);
      const since = Date.parse(data?.['since'] ?? '');
      return Number.isNaN(since) ? undefined : since;
    } catch (error) {
      if (isNotFound(error)) return undefined;
      throw error;
    }
  }
}

function lastUse(secret: Secret): number {
  const used = secret.metadata.labels?.[LAST_USED];
  return used ? Date.parse(used) || 0 : 0;
}

/** Whether the pod has the Secret in a volume or its environment. */
function uses(pod: Pod, secret: string): boolean {
  const { volumes = [], containers, initContainers = [], imagePullSecrets = [] } = pod.spec;
  const inVolume = volumes.some((v) => v.secret?.secretName === secret || v.projected?.sources?.some((s) => s.secret?.name === secret));
  const inContainer = [...containers, ...initContainers].some(
    (c) => c.envFrom?.some((e) => e.secretRef?.name === secret) || c.env?.some((e) => e.valueFrom?.secretKeyRef?.name === secret),
  );
  return inVolume || inContainer || imagePullSecrets.some((s) => s.name === secret);
}
