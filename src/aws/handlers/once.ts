import { hasCode, waitUntil } from '../clients.ts';
import { clientToken } from '../tags.ts';
import type { HandlerContext } from './handler.ts';

/** EC2 may not show what it just made; after so long it is taken for gone. */
const visibleWithinMs = 10_000;
const mostTokens = 50;

export type Presence = 'there' | 'gone' | 'unseen';

/**
 * Creates with a client token that is the same for the same words, so that a creation whose answer was lost, or whose caller
 * was killed, is not made twice. EC2 keeps tokens for a day, longer than what they made may live: an answer that names
 * something that is gone has used its token up, and the next one is taken.
 */
export async function createOnce<T>(
  context: HandlerContext,
  words: string[],
  create: (token: string) => Promise<T>,
  presence: (made: T) => Promise<Presence>,
): Promise<T> {
  for (let n = 0; ; n++) {
    const made = await create(clientToken(...words, String(n))).catch((error) => {
      // The token was used with other words, such as other tags.
      if (n < mostTokens && hasCode(error, 'IdempotentParameterMismatch')) return undefined;
      throw error;
    });
    if (made === undefined) continue;
    const seen = await waitUntil(
      'EC2 to show what it made',
      async () => {
        const found = await presence(made);
        return found === 'unseen' ? undefined : found;
      },
      { timeoutMs: visibleWithinMs, signal: context.signal },
    ).catch((error) => {
      if (context.signal?.aborted) throw error;
      return 'gone' as const;
    });
    if (seen === 'there') return made;
    if (n === mostTokens) throw new Error('every client token is used up');
  }
}
