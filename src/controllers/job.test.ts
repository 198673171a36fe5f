import { afterEach, describe, expect, test } from 'vitest';
import { FakeClock } from '../client/fake-clock.ts';
import type { Job, Pod } from '../api/generated/types.ts';
import { resources } from '../api/generated/resources.ts';
import { startJobController } from './job.ts';
import { continued, remaining } from './job/backoff.ts';
import { IndexSet } from './job/indexes.ts';
import { type Bench, backends } from './testing/backends.ts';
import { eventually, settle } from './testing.ts';
import { startTtlAfterFinishedController } from './ttlafterfinished.ts';

let bench: Bench;
afterEach(() => bench?.stop());

const labels = { 'batch.kubernetes.io/job-name': 'work' };
/** What the API server's defaults and strategies would make of it, for the in-memory client as well. */
const job = (spec: object = {}, template: object = {}) => ({
  metadata: { name: 'work' },
  spec: {
    manualSelector: true,
    selector: { matchLabels: labels },
    parallelism: 1,
    completions: 1,
    template: { metadata: { labels }, spec: { restartPolicy: 'Never', containers: [{ name: 'c', image: 'work:1' }], ...template } },
    ...spec,
  },
});

describe.each(backends)('Job on $name', ({ open }) => {
  async function start(spec: object = {}, template: object = {}, options: Parameters<typeof startJobController>[1] = { failureBackoffMs: 1 }) {
    bench ??= await open();
    startJobController(bench.as('job-controller'), options);
    bench.kubelet.start();
    await bench.create(resources.jobs, job(spec, template));
  }
  afterEach(() => {
    bench = undefined as never;
  });
  const work = () => bench.get<Job>(resources.jobs, 'work');
  const pods = () => bench.all(resources.pods);
  const running = async () => (await pods()).filter((p) => p.status?.phase === 'Running' && !p.metadata.deletionTimestamp);
  const has = async (type: string) => (await work()).status?.conditions?.find((c) => c.type === type && c.status === 'True');
  const indexOf = (pod: Pod) => Number(pod.metadata.annotations!['batch.kubernetes.io/job-completion-index']);
  const at = async (index: number) =>
    eventually(`a running pod of index ${index}`, async () => (await running()).find((p) => indexOf(p) === index));
  async function end(pod: Pod, phase: 'Succeeded' | 'Failed', exitCode = phase === 'Failed' ? 1 : 0, conditions: object[] = []) {
    const finishedAt = `${new Date(bench.clock.now()).toISOString().slice(0, 19)}Z`;
    const state = { terminated: { exitCode, finishedAt } };
    const containerStatuses = [{ name: 'c', image: 'work:1', imageID: '', ready: false, restartCount: 0, state }];
    await bench.patch(resources.pods, pod.metadata.name, { status: { phase, containerStatuses, conditions } }, 'status');
  }
  const endNext = async (phase: 'Succeeded' | 'Failed', exitCode?: number) =>
    end(await eventually('a running pod', async () => (await running())[0]), phase, exitCode);
  const tracked = async () => (await pods()).filter((p) => p.metadata.finalizers?.includes('batch.kubernetes.io/job-tracking'));

  test('runs as many pods at a time as parallelism says, until completions have succeeded', async () => {
    await start({ completions: 3, parallelism: 2 });
    await eventually('two pods', async () => (await running()).length === 2);
    await settle();
    expect(await pods()).toHaveLength(2);
    expect(await tracked()).toHaveLength(2);
    const { status } = await eventually('the status', async () => ((await work()).status?.ready === 2 ? work() : undefined));
    expect(status).toMatchObject({ active: 2, startTime: expect.any(String) });
    for (let i = 0; i < 3; i++) await endNext('Succeeded');
    const complete = await eventually('the end', () => has('Complete'));
    expect(complete).toMatchObject({ reason: 'CompletionsReached' });
    expect(await has('SuccessCriteriaMet')).toBeDefined();
    expect((await work()).status).toMatchObject({ succeeded: 3, completionTime: complete.lastTransitionTime });
    expect((await work()).status!.active ?? 0).toBe(0);
    await eventually('no finalizers', async () => (await tracked()).length === 0);
    expect(bench.recorded.map((e) => e.reason)).toContain('Completed');
  });

  test('without completions, one success is enough', async () => {
    await start({ completions: undefined, parallelism: 2 });
    await eventually('two pods', async () => (await running()).length === 2);
    await endNext('Succeeded');
    await settle();
    expect(await has('Complete')).toBeUndefined();
    await endNext('Succeeded');
    await eventually('the end', () => has('Complete'));
  });

  test('fails when more pods fail than backoffLimit allows, and ends what still runs', async () => {
    await start({ completions: 4, parallelism: 2, backoffLimit: 1 });
    await eventually('two pods', async () => (await running()).length === 2);
    await endNext('Failed');
    await eventually('the count', async () => (await work()).status?.failed === 1);
    await eventually('a replacement', async () => (await running()).length === 2);
    await endNext('Failed');
    const failed = await eventually('the end', () => has('Failed'));
    expect(failed).toMatchObject({ reason: 'BackoffLimitExceeded', message: 'Job has reached the specified backoff limit' });
    expect(await has('FailureTarget')).toBeDefined();
    // The one that was ended counts as well.
    expect((await work()).status).toMatchObject({ failed: 3 });
    await eventually('no finalizers', async () => (await tracked()).length === 0);
  });

  test('waits longer after every failure', async () => {
    const clock = new FakeClock(Math.floor(Date.now() / 1000) * 1000);
    bench = await open({ clock });
    await start({ backoffLimit: 5 }, {}, {});
    await endNext('Failed');
    await eventually('the count', async () => (await work()).status?.failed === 1);
    await settle();
    expect(await running()).toHaveLength(0);
    clock.advance(10_000);
    await endNext('Failed');
    await eventually('the count', async () => (await work()).status?.failed === 2);
    clock.advance(11_000);
    await settle();
    expect(await running()).toHaveLength(0);
    clock.advance(10_000);
    await eventually('the third', async () => (await running()).length === 1);
  });

  test('Indexed: every index once, with its name, label, annotation and environment', async () => {
    await start({ completionMode: 'Indexed', completions: 4, parallelism: 4 });
    const pod = await at(2);
    expect(pod.metadata.generateName).toBe('work-2-');
    expect(pod.metadata.labels).toMatchObject({ 'batch.kubernetes.io/job-completion-index': '2' });
    expect(pod.spec.hostname).toBe('work-2');
    expect(pod.spec.containers[0]!.env).toContainEqual(
      expect.objectContaining({
        name: 'JOB_COMPLETION_INDEX',
        valueFrom: { fieldRef: expect.objectContaining({ fieldPath: "metadata.labels['batch.kubernetes.io/job-completion-index']" }) },
      }),
    );
    for (const index of [0, 1, 3]) await end(await at(index), 'Succeeded');
    await eventually('the indexes', async () => (await work()).status?.completedIndexes === '0,1,3');
    await end(await at(2), 'Failed');
    await eventually('the count', async () => (await work()).status?.failed === 1);
    await end(await at(2), 'Succeeded');
    await eventually('the end', () => has('Complete'));
    expect((await work()).status).toMatchObject({ succeeded: 4, failed: 1, completedIndexes: '0-3' });
  });

  test('backoffLimitPerIndex: an index that fails for good does not end the others', async () => {
    await start({ completionMode: 'Indexed', completions: 2, parallelism: 2, backoffLimitPerIndex: 1, backoffLimit: 2147483647 });
    await end(await at(0), 'Failed');
    const second = await eventually('the second try', async () =>
      (await running()).find((p) => indexOf(p) === 0 && p.metadata.annotations!['batch.kubernetes.io/job-index-failure-count'] === '1'),
    );
    await end(second, 'Failed');
    await eventually('the index', async () => (await work()).status?.failedIndexes === '0');
    expect(await has('Failed')).toBeUndefined();
    await end(await at(1), 'Succeeded');
    expect(await eventually('the end', () => has('Failed'))).toMatchObject({ reason: 'FailedIndexes' });
    expect((await work()).status).toMatchObject({ succeeded: 1, failed: 2, completedIndexes: '1', failedIndexes: '0' });
  });

  test('maxFailedIndexes ends the Job', async () => {
    const spec = { completionMode: 'Indexed', completions: 3, parallelism: 3, backoffLimitPerIndex: 0, backoffLimit: 2147483647, maxFailedIndexes: 1 };
    await start(spec);
    await end(await at(0), 'Failed');
    await eventually('the index', async () => (await work()).status?.failedIndexes === '0');
    await end(await at(2), 'Failed');
    expect(await eventually('the end', () => has('Failed'))).toMatchObject({ reason: 'MaxFailedIndexesExceeded' });
  });

  test('podFailurePolicy: by exit code the Job fails at once, or the index; disruptions are ignored', async () => {
    const rule = (action: string, values: number[]) => ({ action, onExitCodes: { containerName: 'c', operator: 'In', values } });
    const disruption = { action: 'Ignore', onPodConditions: [{ type: 'DisruptionTarget', status: 'True' }] };
    await start({
      completionMode: 'Indexed',
      completions: 2,
      parallelism: 2,
      backoffLimitPerIndex: 3,
      backoffLimit: 2147483647,
      podReplacementPolicy: 'Failed',
      podFailurePolicy: { rules: [disruption, rule('FailIndex', [7]), rule('FailJob', [3])] },
    });
    await end(await at(0), 'Failed', 137, [{ type: 'DisruptionTarget', status: 'True' }]);
    const again = await eventually('the next', async () =>
      (await running()).find((p) => p.metadata.annotations!['batch.kubernetes.io/job-index-ignored-failure-count'] === '1'),
    );
    expect((await work()).status?.failed ?? 0).toBe(0);
    await end(again, 'Failed', 7);
    await eventually('the index', async () => (await work()).status?.failedIndexes === '0');
    const last = await at(1);
    await end(last, 'Failed', 3);
    expect(await eventually('the end', () => has('Failed'))).toMatchObject({
      reason: 'PodFailurePolicy',
      message: `Container c for pod default/${last.metadata.name} failed with exit code 3 matching FailJob rule at index 2`,
    });
  });

  test('successPolicy ends the Job when the indexes that matter have succeeded', async () => {
    const spec = { completionMode: 'Indexed', completions: 4, parallelism: 4, successPolicy: { rules: [{ succeededIndexes: '0,2', succeededCount: 1 }] } };
    await start(spec);
    await end(await at(1), 'Succeeded');
    await eventually('the index', async () => (await work()).status?.completedIndexes === '1');
    expect(await has('SuccessCriteriaMet')).toBeUndefined();
    await end(await at(2), 'Succeeded');
    expect(await eventually('the end', () => has('Complete'))).toMatchObject({ reason: 'SuccessPolicy', message: 'Matched rules at index 0' });
    expect((await work()).status).toMatchObject({ succeeded: 2, completedIndexes: '1,2' });
    expect((await work()).status!.failed ?? 0).toBe(0);
  });

  test('suspended it ends its pods, and begins anew when resumed', async () => {
    await start({ parallelism: 2, completions: 2 });
    await eventually('two pods', async () => (await running()).length === 2);
    await bench.patch(resources.jobs, 'work', { spec: { suspend: true } });
    await eventually('the condition', () => has('Suspended'));
    await eventually('no pods', async () => (await running()).length === 0);
    expect((await work()).status!.startTime).toBeUndefined();
    expect((await work()).status!.failed ?? 0).toBe(0);
    await bench.patch(resources.jobs, 'work', { spec: { suspend: false } });
    await eventually('two pods', async () => (await running()).length === 2);
    await eventually('the start', async () => (await work()).status?.startTime);
    expect(await has('Suspended')).toBeUndefined();
    expect(bench.recorded.map((e) => e.reason)).toEqual(expect.arrayContaining(['Suspended', 'Resumed']));
  });

  test('activeDeadlineSeconds ends a Job that takes too long', async () => {
    await start({ activeDeadlineSeconds: 1 });
    expect(await eventually('the end', () => has('Failed'))).toMatchObject({ reason: 'DeadlineExceeded' });
    expect(await running()).toHaveLength(0);
  });

  test('restarts of containers count with restartPolicy OnFailure', async () => {
    await start({ backoffLimit: 2 }, { restartPolicy: 'OnFailure' });
    const pod = await eventually('a running pod', async () => (await running())[0]);
    const containerStatuses = [{ name: 'c', image: 'work:1', imageID: '', ready: false, restartCount: 2, state: {} }];
    await bench.patch(resources.pods, pod.metadata.name, { status: { containerStatuses } }, 'status');
    expect(await eventually('the end', () => has('Failed'))).toMatchObject({ reason: 'BackoffLimitExceeded' });
  });

  test('podReplacementPolicy Failed waits until a pod on its way out has ended', async () => {
    await start({ podReplacementPolicy: 'Failed' });
    const pod = await eventually('a running pod', async () => (await running())[0]);
    const { namespace, name } = pod.metadata;
    const target = { kind: 'Node', name: 'n' };
    await bench.admin.createSubresource(resources.pods, { namespace, name }, 'binding', { apiVersion: 'v1', kind: 'Binding', metadata: { name }, target });
    bench.kubelet.holdBack((p) => p.metadata.name === name);
    await bench.remove(resources.pods, name);
    await eventually('the count', async () => (await work()).status?.terminating === 1);
    await settle();
    expect(await pods()).toHaveLength(1);
    await end((await pods())[0]!, 'Failed');
    bench.kubelet.release();
    await eventually('the replacement', async () => (await running()).some((p) => p.metadata.name !== name));
    expect((await work()).status?.failed).toBe(1);
  });

  test('counts every pod once, though updates fail in between', async () => {
    bench = await open();
    const context = bench.as('job-controller');
    let refusals = 0;
    const { update } = context.client;
    context.client.update = async (type, object, options) => {
      if (type.resource === 'jobs' && refusals++ % 2 === 0) throw new Error('the connection was lost');
      return update.call(context.client, type, object, options) as never;
    };
    startJobController(context, { failureBackoffMs: 1 });
    bench.kubelet.start();
    await bench.create(resources.jobs, job({ completions: 6, parallelism: 3, backoffLimit: 10 }));
    for (let i = 0; i < 8; i++) await endNext(i % 4 === 1 ? 'Failed' : 'Succeeded');
    await eventually('the end', () => has('Complete'));
    expect((await work()).status).toMatchObject({ succeeded: 6, failed: 2 });
    expect(refusals).toBeGreaterThan(3);
  });

  test('adopts orphans with its finalizer, releases without; a deleted Job keeps no pod', async () => {
    bench = await open();
    await bench.create(resources.pods, { metadata: { name: 'orphan', labels }, spec: job().spec.template.spec });
    await start({ parallelism: 1 });
    const orphan = () => bench.get<Pod>(resources.pods, 'orphan');
    await eventually('the adoption', async () => (await orphan()).metadata.ownerReferences?.[0]?.name === 'work');
    expect((await orphan()).metadata.finalizers).toEqual(['batch.kubernetes.io/job-tracking']);
    await bench.patch(resources.pods, 'orphan', { metadata: { labels: { 'batch.kubernetes.io/job-name': 'other' } } });
    await eventually('the release', async () => !(await orphan()).metadata.ownerReferences?.length);
    expect((await orphan()).metadata.finalizers ?? []).toEqual([]);
    await eventually('another pod', async () => (await tracked()).length === 1);
    await bench.remove(resources.jobs, 'work', { propagationPolicy: 'Background' });
    await eventually('no finalizers', async () => (await tracked()).length === 0);
  });

  test('leaves Jobs of other controllers alone', async () => {
    await start({ managedBy: 'example.com/queue' });
    await settle();
    expect(await pods()).toHaveLength(0);
  });

  test('ttlSecondsAfterFinished deletes it', async () => {
    const clock = new FakeClock(Math.floor(Date.now() / 1000) * 1000);
    bench = await open({ clock });
    startTtlAfterFinishedController(bench.as('ttl-after-finished-controller'));
    await start({ ttlSecondsAfterFinished: 60 });
    await endNext('Succeeded');
    await eventually('the end', () => has('Complete'));
    clock.advance(59_000);
    await settle();
    expect((await work()).metadata.deletionTimestamp).toBeUndefined();
    await eventually('the deletion', async () => {
      clock.advance(1000);
      const [left] = await bench.all(resources.jobs);
      return !left || left.metadata.deletionTimestamp;
    });
  });
});

test('sets of indexes', () => {
  const set = IndexSet.parse('0-2,3,7,9-10,x,20', 15);
  expect(set.toString()).toBe('0-3,7,9,10');
  expect([set.size, set.has(3), set.has(4), set.has(20)]).toEqual([7, true, false, false]);
  expect(set.union(IndexSet.of([4, 8, 6])).toString()).toBe('0-4,6-10');
  expect(set.gaps(4, 12)).toEqual([4, 5, 6, 8]);
  expect(set.gaps(9, 12)).toEqual([4, 5, 6, 8, 11]);
  expect(set.overlap(IndexSet.parse('2-9'))).toBe(4);
});

test('delays after failures', () => {
  const ended = (second: number) => ({ metadata: { creationTimestamp: `2026-01-01T00:00:${String(second).padStart(2, '0')}Z` }, spec: {} }) as Pod;
  const run = continued(undefined, [], [ended(1), ended(5)]);
  expect(run).toEqual({ failures: 2, lastAt: Date.parse('2026-01-01T00:00:05Z') });
  expect(remaining(run, 10_000, run.lastAt + 5000)).toBe(15_000);
  expect(continued(run, [ended(10)], [ended(9), ended(12)])).toEqual({ failures: 1, lastAt: Date.parse('2026-01-01T00:00:12Z') });
  expect(remaining({ failures: 50, lastAt: 0 }, 10_000, 0)).toBe(600_000);
});
