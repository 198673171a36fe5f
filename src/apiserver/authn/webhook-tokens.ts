import type { ClientConfig } from '../../client/config.ts';
import { createWebhookClient, postWithRetries } from '../http/webhook-client.ts';
import type { TokenAuthenticator } from './token.ts';

export interface TokenWebhookOptions {
  /** Where TokenReviews are posted: the server of a kubeconfig, whose path is kept. */
  config: ClientConfig;
  version?: 'v1' | 'v1beta1';
  timeoutMs?: number;
  /** Before the first repetition where the webhook cannot be reached; 500. */
  backoffMs?: number;
}

/** Asks a webhook who has a token, with TokenReviews of authentication.k8s.io. */
export function webhookTokens(o: TokenWebhookOptions): TokenAuthenticator {
  const client = createWebhookClient({ userAgent: 'kube-apiserver', ...o.config });
  const apiVersion = `authentication.k8s.io/${o.version ?? 'v1'}`;
  return {
    name: 'webhook',
    async authenticate(token, audiences) {
      const review = { apiVersion, kind: 'TokenReview', metadata: { creationTimestamp: null }, spec: { token, audiences } };
      const { status } = await postWithRetries(client, review, { timeoutMs: o.timeoutMs ?? 30_000, backoffMs: o.backoffMs ?? 500 });
      if (!status?.authenticated) {
        if (status?.error) throw new Error(status.error);
        return undefined;
      }
      const granted = Array.isArray(status.audiences) ? audiences.filter((a) => status.audiences.includes(a)) : undefined;
      // Who answers with audiences knows them; none of ours means that the token is not for us.
      if (granted && status.audiences.length && granted.length === 0) return undefined;
      const { username = '', uid, groups, extra } = status.user ?? {};
      return {
        user: { name: username, groups: groups ?? [], ...(uid ? { uid } : {}), ...(extra ? { extra } : {}) },
        ...(granted?.length ? { audiences: granted } : {}),
      };
    },
    close: () => client.close(),
  };
}
