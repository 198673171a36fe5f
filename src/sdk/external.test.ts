import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DescribeInstancesCommand, DescribeSubnetsCommand, DescribeVpcsCommand, EC2Client } from '@aws-sdk/client-ec2';
import { DescribeLoadBalancersCommand, DescribeTargetGroupsCommand, ElasticLoadBalancingV2Client } from '@aws-sdk/client-elastic-load-balancing-v2';
import { pino } from 'pino';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startCluster } from '../index.ts';
import { type LocalAws, startLocalAws } from '../localaws/api/server.ts';

const directory = mkdtempSync(join(tmpdir(), 'kumulus-external-'));
let aws: LocalAws;
let config: { region: string; endpoint: string; credentials: { accessKeyId: string; secretAccessKey: string } };

// An endpoint that knows nothing of the SDK, reached as LocalStack would be.
beforeAll(async () => {
  aws = await startLocalAws({ directory, durable: false, port: 0, log: pino({ level: 'silent' }), dataPlane: 'simulated' });
  config = { region: 'us-east-1', endpoint: aws.url, credentials: aws.rootCredentials };
});
afterAll(async () => {
  await aws?.stop();
  rmSync(directory, { recursive: true, force: true });
});

const service = (name: string) => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name, annotations: { 'service.beta.kubernetes.io/aws-load-balancer-type': 'nlb' } },
  spec: { type: 'LoadBalancer', selector: { app: name }, ports: [{ port: 80 }] },
});

test('a cluster on another AWS works the same, and leaves it as it was', { timeout: 120_000 }, async () => {
  const ec2 = new EC2Client(config);
  const elb = new ElasticLoadBalancingV2Client(config);
  const before = (await ec2.send(new DescribeVpcsCommand({}))).Vpcs?.map((v) => v.VpcId);
  const cluster = await startCluster({ simulatedNodes: 2, aws: { endpoint: aws.url, credentials: aws.rootCredentials } });
  try {
    const instances = async () =>
      ((await ec2.send(new DescribeInstancesCommand({}))).Reservations ?? []).flatMap((r) => r.Instances ?? []).map((i) => i.State?.Name);
    expect(await instances()).toEqual(['running', 'running']);
    // Recorded and made to fail on the cluster's side.
    const mend = await cluster.faults.aws({ operation: 'CreateLoadBalancer', code: 'Throttling', message: 'Rate exceeded', count: 2 });
    await cluster.apply(service('web'));
    await cluster.waitFor('service/web', 'ready');
    const codes = (await cluster.aws.calls()).filter((c) => c.operation === 'CreateLoadBalancer').map((c) => c.code);
    expect(codes).toEqual(['Throttling', 'Throttling', undefined]);
    await mend();
    const [node] = await cluster.list('Node');
    await cluster.faults.terminateInstance(node?.metadata.name as string);
    await cluster.eventually('one instance', async () => (await instances()).filter((s) => s === 'running').length === 1);
    // The Service stays: its load balancer goes with the cluster.
    expect((await elb.send(new DescribeLoadBalancersCommand({}))).LoadBalancers).toHaveLength(1);
  } finally {
    await cluster.stop();
  }
  expect((await ec2.send(new DescribeVpcsCommand({}))).Vpcs?.map((v) => v.VpcId)).toEqual(before);
  expect((await ec2.send(new DescribeSubnetsCommand({ Filters: [{ Name: 'tag-key', Values: ['kumulus:logical-id'] }] }))).Subnets).toEqual([]);
  expect((await elb.send(new DescribeLoadBalancersCommand({}))).LoadBalancers).toEqual([]);
  expect((await elb.send(new DescribeTargetGroupsCommand({}))).TargetGroups).toEqual([]);
  ec2.destroy();
  elb.destroy();
});

test('instances that run containers are refused in another region', async () => {
  await expect(startCluster({ nodes: 1, aws: { endpoint: aws.url, region: 'eu-west-1' } })).rejects.toThrow('are of us-east-1');
});

test('a start that fails ends all it has begun', async () => {
  await expect(startCluster({ aws: { endpoint: 'http://127.0.0.1:9' }, timeoutMs: 20_000 })).rejects.toThrow(/ECONNREFUSED/);
}, 60_000);
