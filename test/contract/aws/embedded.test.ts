import { globSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { pino } from 'pino';
import { expect, test } from 'vitest';
import { startLocalAws } from '../../../src/localaws/api/server.ts';
import { awsContract } from './contract.ts';
import { Peer } from './peer.ts';

const account = '100000000001';

const contract = awsContract('embedded', async () => {
  const directory = mkdtempSync('/tmp/kumulus-contract-');
  const aws = await startLocalAws({ directory, port: 0, accountId: account, log: pino({ level: 'silent' }), dataPlane: 'simulated' });
  const stop = async () => {
    await aws.stop();
    rmSync(directory, { recursive: true });
  };
  return { peer: new Peer(aws.url, account, aws.rootCredentials), stop };
});

test('every operation that the project uses is looked at', () => {
  const root = join(import.meta.dirname, '../../..');
  const used = new Set<string>();
  for (const file of globSync(['src/{aws,cloud,cluster,cli}/**/*.ts', 'infra/**/*.ts'], { cwd: root, exclude: ['**/node_modules/**'] })) {
    if (/\.test\.ts$|testing/.test(file)) continue;
    for (const match of readFileSync(join(root, file), 'utf8').matchAll(/\bnew (?:\w+\.)?([A-Z]\w+)Command\(/g)) used.add(match[1] as string);
  }
  const missing = [...used].filter((name) => !contract.peer().called.has(name));
  expect(used.size).toBeGreaterThan(60);
  expect(missing).toEqual([]);
});
