import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { clusterTest, describe, expect, test, useCluster } from './vitest.ts';
import { test as plain } from 'vitest';

const root = join(import.meta.dirname, '../..');
const deployment = (name: string, replicas = 1) => ({
  apiVersion: 'apps/v1',
  kind: 'Deployment',
  metadata: { name },
  spec: {
    replicas,
    selector: { matchLabels: { app: name } },
    template: { metadata: { labels: { app: name } }, spec: { containers: [{ name: 'web', image: 'nginx:1.29' }] } },
  },
});
const service = (name: string, type = 'nlb') => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name, annotations: { 'service.beta.kubernetes.io/aws-load-balancer-type': type } },
  spec: { type: 'LoadBalancer', selector: { app: name }, ports: [{ port: 80 }] },
});

describe('a cluster for the file', () => {
  let seen: string;
  test('matchers wait for what they name', async ({ cluster, namespace }) => {
    seen = cluster.name;
    await cluster.apply([deployment('web', 2), service('web')], { namespace });
    await expect(cluster).toBecomeReady(`deployment/${namespace}/web`);
    await expect(cluster).toHaveCondition(`deployment/${namespace}/web`, 'Available');
    await expect(cluster).toHaveEvent(`deployment/${namespace}/web`, 'ScalingReplicaSet');
    await expect(cluster).toHaveLoadBalancer(`service/${namespace}/web`, { type: 'network', scheme: 'internet-facing', ports: [80], targets: 1 });
    await expect(cluster).toHaveCalledAws('CreateLoadBalancer', 1);
    await cluster.delete(`service/${namespace}/web`);
    await expect(cluster).toDisappear(`service/${namespace}/web`);
    await expect(cluster).toLeaveNoAwsResources();
  });

  test('the next test has the same cluster and another namespace', async ({ cluster, namespace }) => {
    expect(cluster.name).toBe(seen);
    expect(await cluster.list('Deployment', { namespace })).toEqual([]);
  });

  test('a matcher that fails says what was missing, and why', async ({ cluster, namespace }) => {
    await cluster.apply(
      {
        ...deployment('big'),
        spec: {
          ...deployment('big').spec,
          template: {
            metadata: { labels: { app: 'big' } },
            spec: { containers: [{ name: 'c', image: 'x', resources: { requests: { cpu: '64' } } }] },
          },
        },
      },
      { namespace },
    );
    await expect(cluster).toHaveEvent(`deployment/${namespace}/big`, 'ScalingReplicaSet');
    const failure = await expect(cluster)
      .toBecomeReady(`deployment/${namespace}/big`, { timeoutMs: 1000 })
      .catch((e: Error) => e);
    expect(String(failure)).toContain(`waiting for Deployment ${namespace}/big to become ready: 0 of 1 available`);
    expect(String(failure)).toMatch(/FailedScheduling Pod big-\S+: .*Insufficient cpu/);
    await expect(expect(cluster).toHaveLoadBalancer(`service/${namespace}/none`, {}, { timeoutMs: 200 })).rejects.toThrow('there is no such object');
    await expect(cluster).not.toExist(`deployment/${namespace}/small`, { timeoutMs: 100 });
  });
});

describe('a cluster for each test', () => {
  const isolated = clusterTest({ per: 'test' });
  const names = new Set<string>();
  isolated.concurrent('one', async ({ cluster }) => {
    names.add(cluster.name);
    await cluster.apply(deployment('same'));
    await expect(cluster).toBecomeReady('deployment/same');
  });
  isolated.concurrent('another', async ({ cluster }) => {
    names.add(cluster.name);
    await cluster.apply(deployment('same'));
    await expect(cluster).toBecomeReady('deployment/same');
  });
  plain('are two', () => expect(names.size).toBe(2));
});

describe('by hooks', () => {
  const cluster = useCluster({ simulatedNodes: 2 });
  plain('the cluster is there in each test', async () => {
    expect(await cluster.list('Node')).toHaveLength(2);
  });
});

plain('a test that fails prints the events and the AWS calls', { timeout: 60_000 }, async () => {
  // Beside this file, so that the imports in it mean the same.
  const folder = mkdtempSync(join(import.meta.dirname, 'failing-'));
  try {
    const file = join(folder, 'fails.test.ts');
    writeFileSync(
      file,
      `import { expect, test } from '${'../vitest.ts'}';
test('fails', async ({ cluster }) => {
  await cluster.apply(${JSON.stringify(service('web'))});
  await expect(cluster).toBecomeReady('service/web');
  expect(1).toBe(2);
});
`,
    );
    const config = join(folder, 'vitest.config.ts');
    writeFileSync(config, `export default { root: ${JSON.stringify(folder)}, test: { include: ['*.test.ts'] } };\n`);
    const output = await run(['run', '--config', config]);
    expect(output).toContain('expected 1 to be 2');
    expect(output).toMatch(/cluster test-[0-9a-f]{8}:/);
    expect(output).toContain('Normal EnsuredLoadBalancer Service default/web: Ensured load balancer');
    expect(output).toMatch(/CreateLoadBalancer \{"Name":"/);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

function run(args: string[]): Promise<string> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [join(root, 'node_modules/vitest/vitest.mjs'), ...args], {
      cwd: root,
      env: { ...process.env, NO_COLOR: '1' },
    });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (output += chunk));
    child.on('close', () => resolve(output));
  });
}
