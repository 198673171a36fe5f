import { readFileSync } from 'node:fs';
import { KubeConfig } from '@kubernetes/client-node';
import { afterAll } from 'vitest';
import { clusterTest, expect } from 'kumulus/vitest';
import { startOperator } from '../src/operator.ts';

const crd = readFileSync(new URL('../crd.yaml', import.meta.url), 'utf8');
const website = (name: string, spec: object = {}) => ({
  apiVersion: 'example.com/v1',
  kind: 'Website',
  metadata: { name },
  spec: { image: 'registry.example.com/shop:1', ...spec },
});

const stop = new AbortController();
afterAll(() => stop.abort());

let started = false;
const test = clusterTest({ simulatedNodes: 3, nodeMonitorGracePeriodMs: 4000 }).extend<{ operator: undefined }>({
  operator: [
    async ({ cluster }, use) => {
      if (!started) {
        started = true;
        await cluster.apply(crd);
        await expect(cluster).toBecomeReady('crd/websites.example.com');
        const config = new KubeConfig();
        config.loadFromString(cluster.kubeconfig);
        startOperator(config, stop.signal);
      }
      await use(undefined);
    },
    { auto: true },
  ],
});
test('a website is served inside the cluster', async ({ cluster, namespace }) => {
  await cluster.apply(website('shop'), { namespace });
  await expect(cluster).toBecomeReady(`website/${namespace}/shop`);
  const [site] = await cluster.list({ apiVersion: 'example.com/v1', kind: 'Website' }, { namespace });
  expect(site?.status.url).toBe(`http://shop.${namespace}.svc/`);
  expect((await cluster.get('Deployment', 'shop', namespace)).spec.replicas).toBe(2);
});

test('a public one gets a load balancer, and leaves none behind', async ({ cluster, namespace }) => {
  await cluster.apply(website('shop', { public: true }), { namespace });
  await expect(cluster).toBecomeReady(`website/${namespace}/shop`);
  await expect(cluster).toHaveLoadBalancer(`service/${namespace}/shop`, { type: 'network', scheme: 'internet-facing', ports: [80] });
  await cluster.delete(`website/${namespace}/shop`);
  await expect(cluster).toDisappear(`deployment/${namespace}/shop`);
  await expect(cluster).toLeaveNoAwsResources();
});

test('AWS that throttles only delays it', async ({ cluster, namespace }) => {
  await using _ = await cluster.faults.aws({ operation: 'CreateLoadBalancer', code: 'Throttling', message: 'Rate exceeded', count: 3 });
  await cluster.apply(website('busy', { public: true }), { namespace });
  await expect(cluster).toBecomeReady(`website/${namespace}/busy`);
});

test('what is deleted behind its back comes again', async ({ cluster, namespace }) => {
  await cluster.apply(website('shop', { replicas: 1 }), { namespace });
  await expect(cluster).toBecomeReady(`website/${namespace}/shop`);
  const before = await cluster.get('Deployment', 'shop', namespace);
  await cluster.delete(`deployment/${namespace}/shop`);
  const after = await cluster.waitFor<typeof before>(`deployment/${namespace}/shop`, (d) => d.metadata.uid !== before.metadata.uid);
  expect(after.spec.replicas).toBe(1);
});

test('nodes that are lost take their pods with them, and the website recovers', async ({ cluster, namespace }) => {
  await cluster.apply(website('shop', { replicas: 1 }), { namespace });
  await expect(cluster).toBecomeReady(`website/${namespace}/shop`);
  const [pod] = await cluster.list('Pod', { namespace });
  await cluster.faults.terminateInstance(pod?.spec.nodeName as string);
  await expect(cluster).toDisappear(`node/${pod?.spec.nodeName}`, { timeoutMs: 60_000 });
  await expect(cluster).toDisappear(`pod/${namespace}/${pod?.metadata.name}`, { timeoutMs: 60_000 });
  await expect(cluster).toBecomeReady(`website/${namespace}/shop`);
}, 120_000);
