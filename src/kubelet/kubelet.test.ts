import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { resources } from '../api/generated/resources.ts';
import type { Kubelet } from './kubelet.ts';
import { eventually, isReady, nodeName, startTestCluster, type TestCluster } from './testing/cluster.ts';
import { FakeRuntime } from './testing/runtime.ts';

let cluster: TestCluster;
let runtime: FakeRuntime;
let kubelet: Kubelet;

beforeAll(async () => {
  cluster = await startTestCluster();
  runtime = new FakeRuntime();
  kubelet = await cluster.startKubelet(runtime);
});
afterAll(async () => {
  await kubelet?.stop();
  await cluster?.stop();
});

describe('the node', () => {
  test('registers and becomes Ready', async () => {
    const node = await eventually('the node to be Ready', async () => {
      const found = await cluster.admin.get(resources.nodes, { name: nodeName });
      return found.status?.conditions?.some((c) => c.type === 'Ready' && c.status === 'True') ? found : undefined;
    });
    expect(node.spec).toMatchObject({ providerID: 'aws:///us-east-1a/i-0123456789abcdef0', podCIDR: expect.stringMatching(/^10\.244\./) });
    expect(node.spec?.taints).toContainEqual({ key: 'node.cloudprovider.kubernetes.io/uninitialized', value: 'true', effect: 'NoSchedule' });
    expect(node.metadata.labels).toMatchObject({ 'kubernetes.io/hostname': nodeName, 'kubernetes.io/os': 'linux', 'example.com/pool': 'blue' });
  });

  test('a pod runs', async () => {
    await cluster.createPod('first', { containers: [{ name: 'c', image: 'registry.example/app:v1' }] });
    const pod = await cluster.until('first', 'Ready', isReady);
    expect(pod.status).toMatchObject({ phase: 'Running', hostIP: '127.0.0.1', podIP: expect.stringMatching(/^127\.9\.0\./) });
  });
});
