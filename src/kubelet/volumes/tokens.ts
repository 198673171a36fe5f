import { resources } from '../../api/generated/resources.ts';
import type { AuthenticationV1TokenRequest, Pod } from '../../api/generated/types.ts';
import type { Client } from '../../client/client.ts';
import type { Clock } from '../../client/clock.ts';

interface Token {
  token: string;
  expiresAt: number;
  refreshAt: number;
}
const dayMs = 86_400_000;

/** Service account tokens bound to pods, renewed when four fifths of their life or a day has passed. */
export class TokenManager {
  private readonly client: Client;
  private readonly clock: Clock;
  private readonly tokens = new Map<string, Token>();

  constructor(client: Client, clock: Clock) {
    this.client = client;
    this.clock = clock;
  }

  async get(pod: Pod, audience: string | undefined, expirationSeconds: number, signal: AbortSignal): Promise<Token> {
    const { uid, name, namespace } = pod.metadata;
    const key = `${uid}/${audience ?? ''}/${expirationSeconds}`;
    const known = this.tokens.get(key);
    const now = this.clock.now();
    if (known && now < known.refreshAt) return known;
    try {
      const request = await this.client.createSubresource<AuthenticationV1TokenRequest>(
        resources.serviceaccounts,
        { namespace, name: pod.spec.serviceAccountName || 'default' },
        'token',
        {
          apiVersion: 'authentication.k8s.io/v1',
          kind: 'TokenRequest',
          metadata: {},
          spec: { audiences: audience ? [audience] : [], expirationSeconds, boundObjectRef: { kind: 'Pod', apiVersion: 'v1', name, uid } },
        },
        { signal },
      );
      const expiresAt = Date.parse(request.status?.expirationTimestamp ?? '');
      const life = expiresAt - now;
      const jitter = Math.random() * 10_000;
      const token = { token: request.status?.token ?? '', expiresAt, refreshAt: Math.min(now + life * 0.8, now + dayMs) - jitter };
      this.tokens.set(key, token);
      return token;
    } catch (error) {
      // The old one serves on while it is valid.
      if (known && now < known.expiresAt) return { ...known, refreshAt: now + 30_000 };
      throw error;
    }
  }

  forget(uid: string): void {
    for (const key of this.tokens.keys()) if (key.startsWith(`${uid}/`)) this.tokens.delete(key);
  }
}
