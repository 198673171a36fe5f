import { createPrivateKey } from 'node:crypto';
import { SignJWT } from 'jose';
import { isNotFound } from '../api/errors.ts';
import { keyOf } from '../api/object.ts';
import type { Secret, ServiceAccount } from '../api/generated/types.ts';
import { resources } from '../api/generated/resources.ts';
import { semanticEqual } from './canonical.ts';
import type { Controller, ControllerContext } from './controller.ts';
import { startReconciler } from './reconciler.ts';

const TYPE = 'kubernetes.io/service-account-token';
const ACCOUNT_NAME = 'kubernetes.io/service-account.name';
const ACCOUNT_UID = 'kubernetes.io/service-account.uid';

/**
 * Fills Secrets of type kubernetes.io/service-account-token with a token that does not expire, and deletes those whose account is
 * gone. Watches these Secrets and ServiceAccounts. signingKey and rootCa are PEM.
 */
export function startTokensController(context: ControllerContext, signingKey: string, rootCa: string): Controller {
  const { client, informers } = context;
  const key = createPrivateKey(signingKey);
  const algorithm = key.asymmetricKeyType === 'ec' ? 'ES256' : 'RS256';
  const secrets = informers.informer(resources.secrets, { fieldSelector: `type=${TYPE}` });
  const accounts = informers.informer(resources.serviceaccounts);
  secrets.addIndex('account', (secret) => [accountKey(secret)]);
  const loop = startReconciler(context, { name: 'serviceaccount-token-controller', waitFor: [secrets, accounts], reconcile });
  const enqueue = (secret: Secret) => loop.enqueue(keyOf(secret));
  const enqueueSecrets = (account: ServiceAccount) => secrets.byIndex('account', keyOf(account)).forEach(enqueue);
  secrets.addHandlers({ onAdd: enqueue, onUpdate: (_, after) => enqueue(after) });
  accounts.addHandlers({ onAdd: enqueueSecrets, onDelete: enqueueSecrets });
  return loop;

  async function reconcile(secretKey: string): Promise<void> {
    const secret = secrets.get(secretKey);
    if (secret?.type !== TYPE || secret.metadata.deletionTimestamp) return;
    const account = await liveAccount(secret);
    const uid = secret.metadata.annotations?.[ACCOUNT_UID];
    if (!account || (uid && uid !== account.metadata.uid)) {
      await client.delete(resources.secrets, secret.metadata, { preconditions: { uid: secret.metadata.uid } }).catch((error) => {
        if (!isNotFound(error)) throw error;
      });
      return;
    }
    const encode = (text: string) => Buffer.from(text).toString('base64');
    const data = {
      ...secret.data,
      'ca.crt': encode(rootCa),
      namespace: encode(secret.metadata.namespace),
      token: secret.data?.['token'] ?? encode(await sign(secret, account)),
    };
    if (uid && semanticEqual(data, secret.data)) return;
    const metadata = { ...secret.metadata, annotations: { ...secret.metadata.annotations, [ACCOUNT_UID]: account.metadata.uid } };
    await client.update(resources.secrets, { ...secret, metadata, data });
  }

  /** Asks the server before a Secret is given up: the informer may lag behind. */
  async function liveAccount(secret: Secret): Promise<ServiceAccount | undefined> {
    const cached = accounts.get(accountKey(secret));
    if (cached) return cached;
    const name = secret.metadata.annotations?.[ACCOUNT_NAME] ?? '';
    try {
      return await client.get(resources.serviceaccounts, { namespace: secret.metadata.namespace, name });
    } catch (error) {
      if (isNotFound(error)) return undefined;
      throw error;
    }
  }

  function sign(secret: Secret, account: ServiceAccount): Promise<string> {
    const { namespace, name, uid } = account.metadata;
    const claims = {
      'kubernetes.io/serviceaccount/namespace': namespace,
      'kubernetes.io/serviceaccount/secret.name': secret.metadata.name,
      'kubernetes.io/serviceaccount/service-account.name': name,
      'kubernetes.io/serviceaccount/service-account.uid': uid,
    };
    const token = new SignJWT(claims)
      .setProtectedHeader({ alg: algorithm })
      .setIssuer('kubernetes/serviceaccount')
      .setSubject(`system:serviceaccount:${namespace}:${name}`);
    return token.sign(key);
  }
}

const accountKey = (secret: Secret) => `${secret.metadata.namespace}/${secret.metadata.annotations?.[ACCOUNT_NAME] ?? ''}`;
