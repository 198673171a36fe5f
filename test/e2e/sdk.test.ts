/** The SDK over instances that run containers, with simulated nodes beside them. Needs root. */
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Cluster, startCluster } from '../../src/index.ts';

const home = mkdtempSync(join(tmpdir(), 'kumulus-sdk-'));
const before = { state: process.env['KUMULUS_STATE'], aws: process.env['AWS_CONFIG_FILE'] };
let cluster: Cluster;

beforeAll(async () => {
  process.env['KUMULUS_STATE'] = join(home, 'state');
  process.env['AWS_CONFIG_FILE'] = join(home, 'aws-config');
  cluster = await startCluster({ nodes: 1, simulatedNodes: 2, nodeMonitorGracePeriodMs: 6000 });
}, 300_000);
afterAll(async () => {
  await cluster?.stop();
  expect(existsSync(join(home, 'state', cluster?.name ?? 'none'))).toBe(false);
  rmSync(home, { recursive: true, force: true });
  for (const [name, value] of [
    ['KUMULUS_STATE', before.state],
    ['AWS_CONFIG_FILE', before.aws],
  ] as const) {
    if (value === undefined) delete process.env[name];
    else process.env[name] = value;
  }
}, 120_000);

const real = async () =>
  (await cluster.list('Node')).find((n) => n.metadata.labels?.['kumulus.dev/simulated'] === undefined)?.metadata.name as string;
const simulated = async () => (await cluster.list('Node', { labelSelector: 'kumulus.dev/simulated=true' })).map((n) => n.metadata.name);

describe('instances and simulated nodes in one cluster', { timeout: 180_000 }, () => {
  test('all nodes are Ready, and nothing was written for the user', async () => {
    expect(await cluster.list('Node')).toHaveLength(3);
    expect(await simulated()).toHaveLength(2);
    expect((await cluster.aws.instances()).map((i) => i.state)).toEqual(['running', 'running', 'running']);
    expect(existsSync(join(home, 'aws-config'))).toBe(false);
  });

  test('pods of simulated nodes become ready beside those that run', async () => {
    const [node] = await simulated();
    await cluster.apply({
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name: 'pretended', annotations: { 'kumulus.dev/behaviour': '{ logs: "hello from $(NODE)" }' } },
      spec: { nodeName: node, containers: [{ name: 'c', image: 'anything' }] },
    });
    await cluster.waitFor('pod/pretended', 'ready');
    expect(await cluster.logs('pretended')).toBe(`hello from ${node}\n`);
  });

  test('AWS calls are seen and made to fail over the processes', async () => {
    const mend = await cluster.faults.aws({ operation: 'CreateLoadBalancer', code: 'Throttling', count: 2 });
    await cluster.apply({
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: 'lb', annotations: { 'service.beta.kubernetes.io/aws-load-balancer-type': 'nlb' } },
      spec: { type: 'LoadBalancer', selector: { app: 'none' }, ports: [{ port: 80 }] },
    });
    await cluster.waitFor('service/lb', 'ready');
    const codes = (await cluster.aws.calls()).filter((c) => c.operation === 'CreateLoadBalancer').map((c) => c.code);
    expect(codes).toEqual(['Throttling', 'Throttling', undefined]);
    await mend();
    await cluster.delete('service/lb', { wait: true });
    expect(await cluster.aws.leftovers()).toEqual([]);
  });

  test('a stopped kubelet and a cut network show, and mend', async () => {
    const unknown = (n: any) => n.status.conditions.find((c: any) => c.type === 'Ready')?.status === 'Unknown';
    const node = await real();
    const start = await cluster.faults.stopKubelet(node);
    await cluster.waitFor<any>(`node/${node}`, unknown);
    await start();
    await cluster.waitFor(`node/${node}`, 'ready');
    const join = await cluster.faults.cutNetwork(node);
    await cluster.waitFor<any>(`node/${node}`, unknown);
    await join();
    await cluster.waitFor(`node/${node}`, 'ready');
    const [other] = await simulated();
    await using cut = await cluster.faults.cutNetwork(other as string);
    await cluster.waitFor<any>(`node/${other}`, unknown);
    expect(cut).toBeTypeOf('function');
  });
});
