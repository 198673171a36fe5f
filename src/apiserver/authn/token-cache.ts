import { createHmac, randomBytes } from 'node:crypto';
import type { Clock } from '../../client/clock.ts';
import type { TokenAuthenticator, TokenIdentity } from './token.ts';

const limit = 4096;

/**
 * Remembers what another authenticator said, and asks it once where many requests bring the same token at once.
 * Failures (thrown errors) are never remembered. Tokens are kept as keyed hashes only.
 */
export function cachedTokens(inner: TokenAuthenticator, o: { clock: Clock; successMs: number; failureMs: number }): TokenAuthenticator {
  const secret = randomBytes(32);
  const known = new Map<string, { answer: TokenIdentity | undefined; until: number }>();
  const asked = new Map<string, Promise<TokenIdentity | undefined>>();
  const ask = async (id: string, token: string, audiences: string[]) => {
    try {
      const answer = await inner.authenticate(token, audiences);
      const now = o.clock.now();
      const until = Math.min(now + (answer ? o.successMs : o.failureMs), answer?.expires ?? Infinity);
      if (until > now) {
        if (known.size >= limit) known.delete(known.keys().next().value as string);
        known.set(id, { answer, until });
      }
      return answer;
    } finally {
      asked.delete(id);
    }
  };
  return {
    name: inner.name,
    async authenticate(token, audiences) {
      const id = createHmac('sha256', secret).update(JSON.stringify([token, audiences])).digest('base64');
      const found = known.get(id);
      if (found) {
        if (found.until > o.clock.now()) return found.answer;
        known.delete(id);
      }
      let pending = asked.get(id);
      if (!pending) asked.set(id, (pending = ask(id, token, audiences)));
      return pending;
    },
    close: () => inner.close?.(),
  };
}
