/** `kumulus/vitest`: a cluster for each test file or each test, matchers that wait, and what happened in it when a test fails. */
import { afterAll, beforeAll, beforeEach, expect, onTestFailed, test as base, vi } from 'vitest';
import { type Cluster, type Reference, type StartClusterOptions, startCluster, type WaitOptions } from '../index.ts';
import { diagnose } from './diagnosis.ts';
import { type LoadBalancerShape, matchers } from './matchers.ts';

export { describe, expect } from 'vitest';
export type { LoadBalancerShape } from './matchers.ts';
export { diagnose } from './diagnosis.ts';

expect.extend(matchers as never);
// A wait that ends by itself says what was missing; a test that is cut off says nothing. Tests that name a timeout keep theirs.
vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 });
// Loaded with the file, not within the time of its first test.
await import('../cluster/in-process.ts');

interface ClusterMatchers<R> {
  /** The object becomes ready, by what its kind means by that. */
  toBecomeReady(what: Reference, options?: WaitOptions): R;
  toHaveCondition(what: Reference, condition: string, options?: WaitOptions): R;
  toExist(what: Reference, options?: WaitOptions): R;
  toDisappear(what: Reference, options?: WaitOptions): R;
  toHaveEvent(what: Reference, reason: string, options?: WaitOptions): R;
  /** The Service (or Ingress) has an active load balancer like that, by AWS's word. */
  toHaveLoadBalancer(what: Reference, shape?: LoadBalancerShape, options?: WaitOptions): R;
  toLeaveNoAwsResources(options?: WaitOptions): R;
  toHaveCalledAws(operation: string, times?: number): R;
}

declare module 'vitest' {
  interface Matchers<R extends void | Promise<void> = void | Promise<void>, T = unknown> extends ClusterMatchers<Promise<void>> {}
}

export interface ClusterFixtures {
  /** Running; what happened in it is printed when the test fails. */
  cluster: Cluster;
  /** A namespace of this test's own, deleted at its end. */
  namespace: string;
}

export interface ClusterTestOptions extends StartClusterOptions {
  /** One cluster for the tests of a file, or one for each test: file. */
  per?: 'file' | 'test';
}

/**
 * A `test` whose functions get a `cluster`. Clusters share nothing, so files run in parallel, and with `per: 'test'` concurrent
 * tests too.
 *
 *     const test = clusterTest({ simulatedNodes: 3 });
 *     test('it runs', async ({ cluster, namespace }) => { … });
 */
export function clusterTest(options: ClusterTestOptions = {}) {
  const { per = 'file', ...start } = options;
  return base.extend<ClusterFixtures & { clusterOfScope: Cluster }>({
    clusterOfScope: [
      // biome-ignore lint/correctness/noEmptyPattern: vitest reads the names of fixtures from the pattern
      async ({}, use) => {
        const cluster = await startCluster(start);
        try {
          await use(cluster);
        } finally {
          await cluster.stop();
        }
      },
      { scope: per } as never,
    ],
    cluster: async ({ clusterOfScope, onTestFailed: onFailed }, use) => {
      const since = Date.now();
      onFailed(async () => console.error(await diagnose(clusterOfScope, since)));
      await use(clusterOfScope);
    },
    namespace: async ({ clusterOfScope }, use) => {
      const name = `test-${Math.random().toString(36).slice(2, 10)}`;
      await clusterOfScope.apply({ apiVersion: 'v1', kind: 'Namespace', metadata: { name } });
      try {
        await use(name);
      } finally {
        await clusterOfScope.delete(`namespace/${name}`);
      }
    },
  });
}

/** `clusterTest()` with one simulated node, a cluster a file. */
export const test = clusterTest();
export const it = test;

/**
 * The same for those who write hooks: a cluster for the describe block (or file) that calls it, from beforeAll to afterAll.
 * The object returned is the cluster itself once the first test runs.
 */
export function useCluster(options: StartClusterOptions = {}): Cluster {
  let running: Cluster | undefined;
  let since = 0;
  beforeAll(
    async () => {
      running = await startCluster(options);
    },
    options.timeoutMs ?? ((options.nodes ?? 0) > 0 ? 300_000 : 60_000),
  );
  afterAll(async () => {
    await running?.stop();
    running = undefined;
  }, 120_000);
  beforeEach(() => {
    since = Date.now();
    onTestFailed(async () => {
      if (running) console.error(await diagnose(running, since));
    });
  });
  return new Proxy({} as Cluster, {
    get(_, property) {
      if (!running) throw new Error('the cluster runs from beforeAll to afterAll only');
      const value = Reflect.get(running, property, running);
      return typeof value === 'function' ? value.bind(running) : value;
    },
  });
}
