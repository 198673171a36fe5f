import { afterAll, beforeAll, expect, test } from 'vitest';
import { balancingChecks, balancingRemoval } from './balancing.ts';
import { computeChecks, computeRemoval } from './compute.ts';
import { differences, type Endpoint } from './differences.ts';
import { identityChecks } from './identity.ts';
import { networkChecks, networkRemoval } from './network.ts';
import type { Check, Peer } from './peer.ts';

export const checks: Check[] = [
  ...identityChecks,
  ...networkChecks,
  ...computeChecks,
  ...balancingChecks,
  balancingRemoval,
  computeRemoval,
  networkRemoval,
];

/**
 * Runs every check on an endpoint. What differences.ts says of the endpoint must hold too: a check that it names has to fail, so that the table
 * in docs/aws-differences.md stays true.
 */
export function awsContract(
  endpoint: Endpoint,
  start: () => Promise<{ peer: Peer; stop(): Promise<void> }>,
  startTimeout = 60_000,
): { peer(): Peer } {
  let running: Awaited<ReturnType<typeof start>>;
  beforeAll(async () => {
    running = await start();
  }, startTimeout);
  afterAll(async () => {
    running?.peer.destroy();
    await running?.stop();
  }, 30_000);
  for (const check of checks) {
    const known = differences[check.name]?.[endpoint];
    test(known ? `${check.name} (differs: ${known})` : check.name, async () => {
      if (!known) return check.run(running.peer);
      await expect(check.run(running.peer), `${endpoint} does as AWS now: take the difference out of differences.ts`).rejects.toThrow();
    }, 60_000);
  }
  return { peer: () => running.peer };
}
