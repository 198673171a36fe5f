/** The SDK with an instance that runs containers, on LocalStack. Needs root. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createAwsClients } from '../../src/aws/clients.ts';
import { startCluster } from '../../src/index.ts';
import { onLocalstack, type RunningAws } from './elsewhere.ts';
import { inventory } from './pulumi-stack.ts';

const home = mkdtempSync(join(tmpdir(), 'kumulus-sdk-'));
const before = process.env['KUMULUS_STATE'];
let aws: RunningAws;

beforeAll(async () => {
  process.env['KUMULUS_STATE'] = join(home, 'state');
  aws = await onLocalstack.start();
}, 900_000);
afterAll(async () => {
  await aws?.stop();
  if (before === undefined) delete process.env['KUMULUS_STATE'];
  else process.env['KUMULUS_STATE'] = before;
  rmSync(home, { recursive: true, force: true });
}, 60_000);

test('a cluster with nodes stands there, and leaves nothing', { timeout: 300_000 }, async () => {
  const credentials = { accessKeyId: aws.accountId, secretAccessKey: 'test' };
  const clients = createAwsClients({ region: 'us-east-1', endpoint: aws.url, credentials });
  try {
    const empty = await inventory(clients);
    const cluster = await startCluster({ nodes: 1, aws: { endpoint: aws.url, credentials } });
    try {
      const [node] = await cluster.list('Node');
      const [instance] = await cluster.aws.instances();
      expect(node?.spec.providerID).toBe(`aws:///us-east-1a/${instance?.id}`);
      expect(cluster.aws.config.endpoint).toBe(aws.url);
      expect(await cluster.aws.calls()).toEqual([]);
      await expect(cluster.faults.aws({ operation: 'RunInstances', code: 'Throttling' })).rejects.toThrow('not the embedded one');
    } finally {
      await cluster.stop();
    }
    expect(await inventory(clients)).toEqual(empty);
  } finally {
    clients.destroy();
  }
});
