import { afterEach, describe, expect, test } from 'vitest';
import { FakeClock } from '../client/fake-clock.ts';
import type { HorizontalPodAutoscaler, Pod } from '../api/generated/types.ts';
import { resources } from '../api/generated/resources.ts';
import { decide, noteChange, type ScaleMemory } from './autoscaler/behavior.ts';
import { byUtilization } from './autoscaler/replicas.ts';
import { startHorizontalPodAutoscaler } from './horizontalpodautoscaler.ts';
import { startReplicaSetController } from './replicaset.ts';
import { type Bench, backends } from './testing/backends.ts';
import { eventually, settle } from './testing.ts';

let bench: Bench;
let clock: FakeClock;
afterEach(() => bench?.stop());

const selector = { matchLabels: { app: 'web' } };
const container = { name: 'c', image: 'web:1', resources: { requests: { cpu: '200m' } } };
const template = { metadata: { labels: { app: 'web' } }, spec: { containers: [container] } };
const cpu = (averageUtilization: number) => ({ type: 'Resource', resource: { name: 'cpu', target: { type: 'Utilization', averageUtilization } } });
const hpa = (spec: object = {}) => ({
  apiVersion: 'autoscaling/v2',
  kind: 'HorizontalPodAutoscaler',
  metadata: { name: 'web' },
  spec: {
    scaleTargetRef: { apiVersion: 'apps/v1', kind: 'ReplicaSet', name: 'web' },
    minReplicas: 1,
    maxReplicas: 10,
    metrics: [cpu(50)],
    ...spec,
  },
});

describe.each(backends)('HorizontalPodAutoscaler on $name', ({ open }) => {
  /** What the metrics API answers: milli cores by pod, or nothing where it is not served. */
  let usage: ((pod: Pod) => number) | undefined;
  async function start(spec: object = {}, replicas = 2) {
    usage = undefined;
    clock = new FakeClock(Math.floor(Date.now() / 1000) * 1000);
    bench = await open({ clock });
    const context = bench.as('horizontal-pod-autoscaler');
    const raw = context.client.raw.bind(context.client);
    context.client.raw = async (request) => {
      if (!usage || !request.path.startsWith('/apis/metrics.k8s.io/')) return raw(request);
      expect(request.path).toContain('labelSelector=app%3Dweb');
      const items = (await bench.all(resources.pods)).map((pod) => ({
        metadata: { name: pod.metadata.name },
        timestamp: new Date(clock.now()).toISOString(),
        window: '30s',
        containers: [{ name: 'c', usage: { cpu: `${usage!(pod)}m`, memory: '10Mi' } }],
      }));
      const text = JSON.stringify({ items });
      return { status: 200, headers: {}, body: (async function* () {})(), text: async () => text };
    };
    startReplicaSetController(bench.as('replicaset-controller'));
    bench.kubelet.start();
    await bench.create(resources.replicasets, { metadata: { name: 'web' }, spec: { replicas, selector, template } });
    await eventually('the pods', async () => ((await bench.get(resources.replicasets, 'web')).status?.readyReplicas ?? 0) === replicas);
    // Their start is past.
    clock.advance(10 * 60_000);
    startHorizontalPodAutoscaler(context);
    await bench.create(resources.horizontalpodautoscalers, hpa(spec));
  }
  const web = () => bench.get<HorizontalPodAutoscaler>(resources.horizontalpodautoscalers, 'web');
  const condition = async (type: string) => (await web()).status?.conditions?.find((c) => c.type === type);
  const replicas = async () => (await bench.get(resources.replicasets, 'web')).spec.replicas;
  const round = async () => {
    clock.advance(15_000);
    await settle(30);
  };

  test('says what is missing where metrics are not served, and scales nothing', async () => {
    await start();
    const active = await eventually('the condition', () => condition('ScalingActive'));
    expect(active).toMatchObject({
      status: 'False',
      reason: 'FailedGetResourceMetric',
      message:
        'the HPA was unable to compute the replica count: failed to get cpu utilization: unable to get metrics for resource cpu: unable to fetch metrics from resource metrics API: the server could not find the requested resource (get pods.metrics.k8s.io)',
    });
    expect(await condition('AbleToScale')).toMatchObject({ status: 'True', reason: 'SucceededGetScale' });
    expect((await web()).status).toMatchObject({ currentReplicas: 2 });
    expect(bench.recorded.map((e) => e.reason)).toEqual(expect.arrayContaining(['FailedGetResourceMetric', 'FailedComputeMetricsReplicas']));
    expect(await replicas()).toBe(2);
  });

  test('grows with the load, and shrinks when it has been low for a while', async () => {
    await start();
    usage = () => 180;
    await round();
    // 90 % of the request against a target of 50 %: 1.8 times as many.
    await eventually('four', async () => (await replicas()) === 4);
    const { status } = await eventually('the status', async () => ((await web()).status?.desiredReplicas === 4 ? web() : undefined));
    expect(status).toMatchObject({
      currentReplicas: 2,
      currentMetrics: [{ type: 'Resource', resource: { name: 'cpu', current: { averageUtilization: 90, averageValue: '180m' } } }],
    });
    expect(status!.lastScaleTime).toBeDefined();
    expect(await condition('ScalingActive')).toMatchObject({ status: 'True', reason: 'ValidMetricFound' });
    expect(await condition('AbleToScale')).toMatchObject({ status: 'True', reason: 'SucceededRescale' });
    expect(bench.recorded.map((e) => e.message)).toContain('New size: 4; reason: cpu resource utilization (percentage of request) above target');
    await eventually('four pods', async () => (await bench.get(resources.replicasets, 'web')).status?.readyReplicas === 4);
    usage = () => 10;
    clock.advance(10 * 60_000);
    await settle(30);
    await eventually('one', async () => {
      clock.advance(15_000);
      return (await replicas()) === 1;
    });
    expect(bench.recorded.map((e) => e.message)).toContain('New size: 1; reason: All metrics below target');
  });

  test('goes no further than maxReplicas, and says so', async () => {
    await start({ maxReplicas: 3 });
    usage = () => 200;
    await round();
    await eventually('three', async () => (await replicas()) === 3);
    await eventually('the condition', async () => (await condition('ScalingLimited'))?.reason === 'TooManyReplicas');
  });

  test('a target out of range is put right without metrics', async () => {
    await start({ minReplicas: 3 });
    await eventually('three', async () => (await replicas()) === 3);
    expect(bench.recorded.map((e) => e.message)).toContain('New size: 3; reason: Current number of replicas below Spec.MinReplicas');
  });

  test('is disabled while the target has no replicas', async () => {
    await start({}, 0);
    await eventually('the condition', async () => (await condition('ScalingActive'))?.reason === 'ScalingDisabled');
  });

  test('a target that is not there', async () => {
    await start({ scaleTargetRef: { apiVersion: 'apps/v1', kind: 'ReplicaSet', name: 'none' } });
    const able = await eventually('the condition', () => condition('AbleToScale'));
    expect(able).toMatchObject({ status: 'False', reason: 'FailedGetScale' });
    expect(able!.message).toContain('replicasets.apps "none" not found');
  });

  test('two autoscalers of the same pods are refused', async () => {
    await start();
    usage = () => 180;
    await bench.create(resources.horizontalpodautoscalers, { ...hpa(), metadata: { name: 'rival' } });
    await eventually('the condition', async () => {
      clock.advance(15_000);
      return (await condition('ScalingActive'))?.reason === 'AmbiguousSelector';
    });
  });
});

describe('how many', () => {
  const now = Date.parse('2026-01-01T01:00:00Z');
  const pod = (name: string, ready = 'True', phase = 'Running'): Pod =>
    ({
      metadata: { name, creationTimestamp: '2026-01-01T00:00:00Z' },
      spec: { containers: [{ name: 'c', resources: { requests: { cpu: '1' } } }] },
      status: { phase, startTime: '2026-01-01T00:00:00Z', conditions: [{ type: 'Ready', status: ready, lastTransitionTime: '2026-01-01T00:10:00Z' }] },
    }) as unknown as Pod;
  const by = (pods: Pod[], values: Record<string, number>, target: number, current = pods.length) => {
    const metrics = new Map(Object.entries(values).map(([name, value]) => [name, { value, at: now, windowMs: 60_000 }]));
    return byUtilization({ pods, metrics, resource: 'cpu', current, tolerance: { up: 0.1, down: 0.1 }, now }, target).replicas;
  };
  const three = [pod('a'), pod('b'), pod('c')];

  test('in proportion, rounded up, and nothing near the target', () => {
    expect(by(three, { a: 600, b: 600, c: 600 }, 40)).toBe(5);
    expect(by(three, { a: 200, b: 200, c: 200 }, 40)).toBe(2);
    expect(by(three, { a: 420, b: 420, c: 420 }, 40)).toBe(3);
  });

  test('pods without metrics, or not started, hold it back', () => {
    expect(by(three, { a: 600, b: 600 }, 40)).toBe(3);
    expect(by(three, { a: 300, b: 300 }, 100)).toBe(2);
    expect(by([pod('a'), pod('b'), pod('new', 'False', 'Pending')], { a: 1000, b: 1000 }, 40)).toBe(5);
    expect(() => by([pod('new', 'False', 'Pending')], { new: 10 }, 40)).toThrow('did not receive metrics for targeted pods (pods might be unready)');
  });

  const memory = (): ScaleMemory => ({ recommendations: [], ups: [], downs: [] });
  test('policies limit the speed', () => {
    const behavior = {
      scaleUp: { policies: [{ type: 'Pods', value: 2, periodSeconds: 60 }], stabilizationWindowSeconds: 0 },
      scaleDown: { policies: [{ type: 'Percent', value: 50, periodSeconds: 60 }], stabilizationWindowSeconds: 0, selectPolicy: 'Min' },
    };
    const m = memory();
    expect(decide(behavior, m, { current: 3, wanted: 9, min: 1, max: 10, now })).toMatchObject({
      replicas: 5,
      limited: { status: 'True', reason: 'ScaleUpLimit' },
    });
    noteChange(behavior, m, 3, 5, now);
    expect(decide(behavior, m, { current: 5, wanted: 9, min: 1, max: 10, now: now + 30_000 }).replicas).toBe(5);
    expect(decide(behavior, m, { current: 5, wanted: 9, min: 1, max: 10, now: now + 61_000 }).replicas).toBe(7);
    expect(decide(behavior, memory(), { current: 8, wanted: 1, min: 1, max: 10, now })).toMatchObject({
      replicas: 4,
      limited: { reason: 'ScaleDownLimit' },
    });
    const disabled = { scaleDown: { selectPolicy: 'Disabled', stabilizationWindowSeconds: 0 } };
    expect(decide(disabled, memory(), { current: 8, wanted: 1, min: 1, max: 10, now }).replicas).toBe(8);
  });

  test('windows keep it from swinging', () => {
    const behavior = { scaleUp: { stabilizationWindowSeconds: 60 }, scaleDown: { stabilizationWindowSeconds: 120 } };
    const m = memory();
    m.recommendations = [
      { at: now - 100_000, count: 6 },
      { at: now - 30_000, count: 4 },
    ];
    expect(decide(behavior, m, { current: 5, wanted: 2, min: 1, max: 10, now })).toMatchObject({ replicas: 5, able: { reason: 'ScaleDownStabilized' } });
    const n = memory();
    n.recommendations = [{ at: now - 30_000, count: 4 }];
    expect(decide(behavior, n, { current: 3, wanted: 9, min: 1, max: 10, now })).toMatchObject({ replicas: 4, able: { reason: 'ScaleUpStabilized' } });
  });
});
