/**
 * One API server on the embedded store, killed at random moments under a write load. KUMULUS_FAULT_ROUNDS says how often;
 * few times by default, for each takes a start.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ApiServers } from './api-servers.ts';
import { Load } from './load.ts';

const rounds = Number(process.env['KUMULUS_FAULT_ROUNDS'] ?? 4);

describe('the embedded store', { timeout: 60_000 + rounds * 15_000 }, () => {
  const servers = new ApiServers();
  beforeAll(() => servers.start(0), 60_000);
  afterAll(() => servers.stop());

  it(`SIGKILL at ${rounds} random moments loses, doubles and reorders nothing`, async () => {
    const load = new Load([servers.client(0)]);
    load.start();
    for (let round = 0; round < rounds; round++) {
      await new Promise((resolve) => setTimeout(resolve, 100 + Math.random() * 900));
      await servers.kill(0);
      await servers.start(0);
    }
    await new Promise((resolve) => setTimeout(resolve, 500));
    const report = await load.finish();
    console.log('embedded store:', JSON.stringify({ ...report, lost: report.lost.length, duplicated: report.duplicated.length }));
    expect(report.acknowledged).toBeGreaterThan(50);
    expect(report).toMatchObject({ lost: [], duplicated: [], violations: [], watchProblems: [] });
  });
});
