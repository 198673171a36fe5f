import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { resources } from '../api/generated/resources.ts';
import type { ContainerStatus, Pod } from '../api/generated/types.ts';
import type { Kubelet } from './kubelet.ts';
import { eventually, isReady, startTestCluster, type TestCluster } from './testing/cluster.ts';
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
beforeEach(() => {
  runtime.calls.length = 0;
  runtime.programs.clear();
});

const image = 'registry.example/app:v1';
const statusOf = (pod: Pod, name: string): ContainerStatus =>
  [...(pod.status?.initContainerStatuses ?? []), ...(pod.status?.containerStatuses ?? [])].find((s) => s.name === name)!;
const waitingReason = (pod: Pod, name: string) => statusOf(pod, name)?.state?.waiting?.reason;
const eventsOf = async (name: string) =>
  (await cluster.admin.list(resources.events, { namespace: 'default', fieldSelector: `involvedObject.name=${name}` })).items;
const reason = (name: string, wanted: string, about = '') =>
  eventually(`event ${wanted} of ${name}`, async () => (await eventsOf(name)).find((e) => e.reason === wanted && (e.message ?? '').includes(about)));
const gone = (name: string) =>
  eventually(`pod ${name} to be gone`, () =>
    cluster.pod(name).then(
      () => false,
      () => true,
    ),
  );
const remove = (name: string, gracePeriodSeconds?: number) =>
  cluster.admin.delete(resources.pods, { namespace: 'default', name }, gracePeriodSeconds === undefined ? {} : { gracePeriodSeconds });

describe('phases', () => {
  test('a pod that runs is Ready, with addresses, container ids and events', async () => {
    await cluster.createPod('runs', { containers: [{ name: 'c', image }] });
    const pod = await cluster.until('runs', 'Ready', isReady);
    expect(pod.status).toMatchObject({ phase: 'Running', hostIP: '127.0.0.1', podIP: expect.stringMatching(/^127\.9\.0\./), qosClass: 'BestEffort' });
    expect(statusOf(pod, 'c')).toMatchObject({ ready: true, started: true, restartCount: 0, containerID: `fake://${runtime.named('c')!.status.id}` });
    await reason('runs', 'Started');
    expect((await eventsOf('runs')).map((e) => e.reason)).toEqual(['Pulling', 'Pulled', 'Created', 'Started']);
  });

  test('a pod whose containers end well has Succeeded, and is not started again', async () => {
    runtime.programs.set('job', (p) => p.exit(0));
    await cluster.createPod('succeeds', { restartPolicy: 'Never', containers: [{ name: 'job', image }] });
    const pod = await cluster.until('succeeds', 'Succeeded', (p) => p.status?.phase === 'Succeeded');
    expect(statusOf(pod, 'job').state?.terminated).toMatchObject({ exitCode: 0, reason: 'Completed' });
    expect(pod.status?.conditions).toContainEqual(expect.objectContaining({ type: 'Ready', status: 'False', reason: 'PodCompleted' }));
    expect(runtime.calls.filter((c) => c === 'start job')).toHaveLength(1);
  });

  test('a pod that fails with restartPolicy Never has Failed', async () => {
    runtime.programs.set('bad', (p) => p.exit(3));
    await cluster.createPod('fails', { restartPolicy: 'Never', containers: [{ name: 'bad', image }] });
    const pod = await cluster.until('fails', 'Failed', (p) => p.status?.phase === 'Failed');
    expect(statusOf(pod, 'bad').state?.terminated).toMatchObject({ exitCode: 3, reason: 'Error' });
  });

  test('a container that crashes is started again at once, then backs off', async () => {
    runtime.programs.set('crash', (p) => setTimeout(() => p.exit(1), 5));
    await cluster.createPod('crashes', { containers: [{ name: 'crash', image }] });
    const pod = await cluster.until('crashes', 'CrashLoopBackOff', (p) => waitingReason(p, 'crash') === 'CrashLoopBackOff');
    expect(statusOf(pod, 'crash')).toMatchObject({ restartCount: 1, ready: false, lastState: { terminated: { exitCode: 1 } } });
    expect(statusOf(pod, 'crash').state?.waiting?.message).toMatch(/^back-off 10s restarting failed container=crash pod=crashes_default\(/);
    expect(pod.status?.phase).toBe('Running');
    await reason('crashes', 'BackOff');
    // One dead container is kept beside the newest.
    expect([...runtime.containers.values()].filter((c) => c.config.metadata.name === 'crash').length).toBeLessThanOrEqual(2);
  });

  test('activeDeadlineSeconds ends a pod', async () => {
    await cluster.createPod('deadline', { activeDeadlineSeconds: 1, terminationGracePeriodSeconds: 1, containers: [{ name: 'c', image }] });
    const pod = await cluster.until('deadline', 'Failed', (p) => p.status?.phase === 'Failed');
    expect(pod.status).toMatchObject({ reason: 'DeadlineExceeded', message: 'Pod was active on the node longer than the specified deadline' });
  });

  test('the termination message comes from its file', async () => {
    let mode = 0;
    runtime.programs.set('says', async (p) => {
      const { stat, writeFile } = await import('node:fs/promises');
      const file = runtime.hostPath(p.config, '/dev/termination-log');
      // For every user that a container may run as.
      mode = (await stat(file)).mode & 0o777;
      await writeFile(file, 'out of cheese');
      p.exit(1);
    });
    await cluster.createPod('says', { restartPolicy: 'Never', containers: [{ name: 'says', image }] });
    const pod = await cluster.until('says', 'Failed', (p) => p.status?.phase === 'Failed');
    expect(statusOf(pod, 'says').state?.terminated?.message).toBe('out of cheese');
    expect(mode).toBe(0o666);
  });
});

describe('init containers', () => {
  test('run one after the other, before the rest', async () => {
    const order: string[] = [];
    for (const name of ['one', 'two'])
      runtime.programs.set(name, (p) => {
        order.push(`${name} begins`);
        setTimeout(() => {
          order.push(`${name} ends`);
          p.exit(0);
        }, 20);
      });
    runtime.programs.set('main', () => order.push('main'));
    await cluster.createPod('init', {
      initContainers: [
        { name: 'one', image },
        { name: 'two', image },
      ],
      containers: [{ name: 'main', image }],
    });
    const pod = await cluster.until('init', 'Ready', isReady);
    expect(order).toEqual(['one begins', 'one ends', 'two begins', 'two ends', 'main']);
    expect(statusOf(pod, 'one')).toMatchObject({ ready: true, state: { terminated: { exitCode: 0 } } });
    expect(pod.status?.conditions).toContainEqual(expect.objectContaining({ type: 'Initialized', status: 'True' }));
  });

  test('one that fails keeps the rest waiting', async () => {
    runtime.programs.set('broken', (p) => p.exit(1));
    await cluster.createPod('init-broken', { initContainers: [{ name: 'broken', image }], containers: [{ name: 'waits', image }] });
    const pod = await cluster.until('init-broken', 'CrashLoopBackOff', (p) => waitingReason(p, 'broken') === 'CrashLoopBackOff');
    expect(pod.status?.phase).toBe('Pending');
    expect(waitingReason(pod, 'waits')).toBe('PodInitializing');
    expect(runtime.calls).not.toContain('start waits');
  });

  test('one that fails under restartPolicy Never fails the pod', async () => {
    runtime.programs.set('broken', (p) => p.exit(1));
    await cluster.createPod('init-fails', {
      restartPolicy: 'Never',
      initContainers: [{ name: 'broken', image }],
      containers: [{ name: 'waits', image }],
    });
    await cluster.until('init-fails', 'Failed', (p) => p.status?.phase === 'Failed');
  });

  test('a sidecar starts first, runs beside the rest, and ends last', async () => {
    runtime.programs.set('app', (p) => {
      p.onStop = () => setTimeout(() => p.exit(0), 30);
    });
    await cluster.createPod('sidecar', {
      terminationGracePeriodSeconds: 5,
      initContainers: [{ name: 'proxy', image, restartPolicy: 'Always' }],
      containers: [{ name: 'app', image }],
    });
    const pod = await cluster.until('sidecar', 'Ready', isReady);
    expect(runtime.calls.filter((c) => c.startsWith('start'))).toEqual(['start proxy', 'start app']);
    expect(statusOf(pod, 'proxy')).toMatchObject({ ready: true, started: true });
    await remove('sidecar');
    await gone('sidecar');
    const stops = runtime.calls.filter((c) => c.startsWith('stop')).map((c) => c.split(' ')[1]);
    expect(stops.indexOf('app')).toBeLessThan(stops.indexOf('proxy'));
  });

  test('a sidecar does not keep a pod from its end', async () => {
    runtime.programs.set('task', (p) => setTimeout(() => p.exit(0), 20));
    await cluster.createPod('sidecar-job', {
      restartPolicy: 'Never',
      terminationGracePeriodSeconds: 2,
      initContainers: [{ name: 'agent', image, restartPolicy: 'Always' }],
      containers: [{ name: 'task', image }],
    });
    await cluster.until('sidecar-job', 'Succeeded', (p) => p.status?.phase === 'Succeeded');
    expect(runtime.named('agent')?.status.state).toBe('CONTAINER_EXITED');
  });
});

describe('deletion', () => {
  test('gives the grace period, then removes everything of the pod', async () => {
    let stopped = 0;
    runtime.programs.set('polite', (p) => {
      p.onStop = () => {
        stopped++;
        setTimeout(() => p.exit(0), 50);
      };
    });
    const made = await cluster.createPod('polite', { terminationGracePeriodSeconds: 7, containers: [{ name: 'polite', image }] });
    await cluster.until('polite', 'Ready', isReady);
    await remove('polite');
    expect((await cluster.pod('polite')).metadata.deletionGracePeriodSeconds).toBe(7);
    await gone('polite');
    expect(stopped).toBe(1);
    expect(runtime.calls).toContain('stop polite 7');
    await eventually('the containers to be removed', () => runtime.named('polite') === undefined);
    await eventually('the sandbox to be removed', () => ![...runtime.sandboxes.values()].some((s) => s.config.metadata.uid === made.metadata.uid));
  });

  test('kills what does not end within the grace period', async () => {
    runtime.programs.set('deaf', (p) => {
      p.onStop = () => {};
    });
    await cluster.createPod('deaf', { containers: [{ name: 'deaf', image }] });
    await cluster.until('deaf', 'Ready', isReady);
    await remove('deaf', 1);
    await gone('deaf');
  });

  test('a shorter grace period hastens the end', async () => {
    runtime.programs.set('slow', (p) => {
      p.onStop = () => {};
    });
    await cluster.createPod('slow', { terminationGracePeriodSeconds: 300, containers: [{ name: 'slow', image }] });
    await cluster.until('slow', 'Ready', isReady);
    await remove('slow');
    await eventually('the first stop', () => runtime.calls.includes('stop slow 300'));
    await remove('slow', 1);
    await gone('slow');
  });

  test('a forced deletion ends the containers although the pod is gone from the API', async () => {
    await cluster.createPod('forced', { containers: [{ name: 'forced', image }] });
    await cluster.until('forced', 'Ready', isReady);
    await remove('forced', 0);
    await eventually('the container to be removed', () => runtime.named('forced') === undefined);
  });

  test('a pod that is deleted while its image is missing goes', async () => {
    runtime.failPulls.set('registry.example/none:v1', 'not found');
    await cluster.createPod('never-ran', { containers: [{ name: 'never', image: 'registry.example/none:v1' }] });
    await cluster.until('never-ran', 'an image error', (p) => /Image/.test(waitingReason(p, 'never') ?? ''));
    await remove('never-ran');
    await gone('never-ran');
  });

  test('another pod of the same name takes over', async () => {
    const first = await cluster.createPod('again', { containers: [{ name: 'again', image }] });
    await cluster.until('again', 'Ready', isReady);
    await remove('again', 0);
    await cluster.createPod('again', { containers: [{ name: 'again', image }] });
    const second = await cluster.until('again', 'Ready', isReady);
    expect(second.metadata.uid).not.toBe(first.metadata.uid);
    await eventually('one sandbox to be left', () => [...runtime.sandboxes.values()].filter((s) => s.config.metadata.name === 'again').length === 1);
  });
});

describe('probes', () => {
  const probe = (command: string, more: object = {}) => ({ exec: { command: [command] }, periodSeconds: 1, failureThreshold: 1, ...more });
  const answer = (exitCode: number) => ({ stdout: Buffer.from(''), stderr: Buffer.from(exitCode ? 'no' : ''), exitCode });

  test('readiness comes and goes', async () => {
    let exitCode = 1;
    runtime.commands.set('is-ready', () => answer(exitCode));
    await cluster.createPod('readiness', { containers: [{ name: 'web', image, readinessProbe: probe('is-ready') }] });
    await reason('readiness', 'Unhealthy', 'Readiness probe failed: no');
    expect(isReady(await cluster.pod('readiness'))).toBe(false);
    exitCode = 0;
    await cluster.until('readiness', 'Ready', isReady);
    exitCode = 1;
    const pod = await cluster.until('readiness', 'not Ready', (p) => !isReady(p));
    expect(pod.status?.conditions).toContainEqual(
      expect.objectContaining({ type: 'Ready', status: 'False', reason: 'ContainersNotReady', message: 'containers with unready status: [web]' }),
    );
  });

  test('a failed liveness probe has the container restarted', async () => {
    let exitCode = 0;
    runtime.commands.set('is-alive', () => answer(exitCode));
    await cluster.createPod('liveness', {
      terminationGracePeriodSeconds: 1,
      containers: [{ name: 'live', image, livenessProbe: probe('is-alive') }],
    });
    await cluster.until('liveness', 'Ready', isReady);
    exitCode = 1;
    await eventually('the container to be stopped', () => runtime.calls.includes('stop live 1'));
    exitCode = 0;
    const pod = await cluster.until('liveness', 'a restart', (p) => statusOf(p, 'live').restartCount === 1 && isReady(p));
    expect(statusOf(pod, 'live').lastState?.terminated).toBeDefined();
    await reason('liveness', 'Killing', 'failed liveness probe, will be restarted');
  });

  test('the startup probe holds back the others', async () => {
    let started = 1;
    runtime.commands.set('has-started', () => answer(started));
    runtime.commands.set('never-alive', () => answer(1));
    await cluster.createPod('startup', {
      terminationGracePeriodSeconds: 1,
      containers: [
        {
          name: 'st',
          image,
          startupProbe: probe('has-started', { failureThreshold: 60 }),
          livenessProbe: probe('never-alive', { failureThreshold: 3 }),
        },
      ],
    });
    await reason('startup', 'Unhealthy', 'Startup probe failed');
    expect(statusOf(await cluster.pod('startup'), 'st')).toMatchObject({ started: false, ready: false, restartCount: 0 });
    started = 0;
    await cluster.until('startup', 'Ready', isReady);
    await eventually('liveness to end it', () => runtime.calls.includes('stop st 1'));
  });

  test('HTTP and TCP go to the pod`s address', async () => {
    const asked: string[] = [];
    const web = createServer((request, response) => {
      asked.push(`${request.headers['user-agent']} ${request.url} ${request.headers['x-a']}`);
      response.writeHead(request.url === '/ok' ? 200 : 500).end('body');
    });
    // Every address of 127/8 is here.
    await new Promise<void>((resolve) => web.listen(0, '0.0.0.0', resolve));
    try {
      const { port } = web.address() as AddressInfo;
      await cluster.createPod('http', {
        containers: [
          {
            name: 'web',
            image,
            ports: [{ name: 'http', containerPort: port }],
            readinessProbe: { httpGet: { path: '/ok', port: 'http', httpHeaders: [{ name: 'X-A', value: '1' }] }, periodSeconds: 1 },
          },
          { name: 'tcp', image, readinessProbe: { tcpSocket: { port }, periodSeconds: 1 } },
        ],
      });
      await cluster.until('http', 'Ready', isReady);
      expect(asked).toContain('kube-probe/1.37 /ok 1');
      await cluster.createPod('http-bad', {
        containers: [{ name: 'web', image, readinessProbe: { httpGet: { path: '/no', port }, periodSeconds: 1 } }],
      });
      await reason('http-bad', 'Unhealthy', 'HTTP probe failed with statuscode: 500');
    } finally {
      web.close();
    }
  });
});

describe('hooks', () => {
  const ok = { stdout: Buffer.from(''), stderr: Buffer.from(''), exitCode: 0 };

  test('postStart runs before the container counts as running', async () => {
    runtime.calls.length = 0;
    runtime.commands.set('after-start', () => {
      runtime.calls.push('postStart');
      return ok;
    });
    await cluster.createPod('hooked', { containers: [{ name: 'h', image, lifecycle: { postStart: { exec: { command: ['after-start'] } } } }] });
    await cluster.until('hooked', 'Ready', isReady);
    // Pods of the tests before may still be on their way out.
    expect(runtime.calls.filter((c) => c === 'postStart' || c.endsWith(' h'))).toEqual(['create h', 'start h', 'postStart']);
  });

  test('a failed postStart ends the container', async () => {
    runtime.commands.set('bad-start', () => ({ ...ok, exitCode: 4, stderr: Buffer.from('oh') }));
    await cluster.createPod('hook-fails', {
      terminationGracePeriodSeconds: 1,
      containers: [{ name: 'h', image, lifecycle: { postStart: { exec: { command: ['bad-start'] } } } }],
    });
    await reason('hook-fails', 'FailedPostStartHook');
    await cluster.until('hook-fails', 'a waiting container', (p) => ['PostStartHookError', 'CrashLoopBackOff'].includes(waitingReason(p, 'h') ?? ''));
  });

  test('preStop runs before the stop signal, within the grace period', async () => {
    runtime.commands.set('before-stop', async () => {
      runtime.calls.push('preStop');
      await new Promise((resolve) => setTimeout(resolve, 1100));
      return ok;
    });
    await cluster.createPod('pre', {
      terminationGracePeriodSeconds: 10,
      containers: [{ name: 'pre', image, lifecycle: { preStop: { exec: { command: ['before-stop'] } } } }],
    });
    await cluster.until('pre', 'Ready', isReady);
    runtime.calls.length = 0;
    await remove('pre');
    await gone('pre');
    expect(runtime.calls.filter((c) => c === 'preStop' || c.startsWith('stop pre'))[0]).toBe('preStop');
    // What the hook took is gone from the grace period.
    expect(runtime.calls.find((c) => c.startsWith('stop pre'))).toMatch(/^stop pre [1-9]$/);
  });
});

describe('images', () => {
  test('an image volume: its image is pulled as its policy says, and mounted by the runtime', async () => {
    const spec = (name: string, reference: string) => ({
      containers: [{ name, image, volumeMounts: [{ name: 'files', mountPath: '/files', subPath: 'etc' }] }],
      volumes: [{ name: 'files', image: { reference, pullPolicy: 'Always' } }],
    });
    await cluster.createPod('with-files', spec('with-files', 'registry.test/files:1'));
    await cluster.until('with-files', 'Running', (p) => p.status?.phase === 'Running');
    expect(runtime.pulls.map((p) => p.image)).toContain('registry.test/files:1');
    const config = [...runtime.containers.values()].find((c) => c.config.metadata.name === 'with-files')?.config;
    expect(config?.mounts[0]).toMatchObject({ containerPath: '/files', image: { image: 'registry.test/files:1' }, imageSubPath: 'etc' });
    runtime.failPulls.set('registry.test/no-files:1', 'no such image');
    await cluster.createPod('without-files', spec('without-files', 'registry.test/no-files:1'));
    await cluster.until('without-files', 'ImagePullBackOff', (p) => waitingReason(p, 'without-files') === 'ImagePullBackOff');
  });

  test('an image that cannot be pulled: ErrImagePull, then ImagePullBackOff', async () => {
    runtime.failPulls.set('registry.example/gone:v1', 'manifest unknown');
    await cluster.createPod('no-image', { containers: [{ name: 'c', image: 'registry.example/gone:v1' }] });
    const seen = new Set<string>();
    const pod = await cluster.until('no-image', 'ImagePullBackOff', (p) => {
      seen.add(waitingReason(p, 'c') ?? '');
      return waitingReason(p, 'c') === 'ImagePullBackOff';
    });
    expect(statusOf(pod, 'c').state?.waiting?.message).toContain('Back-off pulling image "registry.example/gone:v1"');
    expect(pod.status?.phase).toBe('Pending');
    await reason('no-image', 'Failed', 'Failed to pull image "registry.example/gone:v1": manifest unknown');
    expect((await eventsOf('no-image')).map((e) => e.message)).toContain('Error: ErrImagePull');
  });

  test('pull policies', async () => {
    runtime.addImage('registry.example/here:v1');
    runtime.pulls.length = 0;
    await cluster.createPod('policies', {
      containers: [
        { name: 'a', image: 'registry.example/here:v1', imagePullPolicy: 'IfNotPresent' },
        { name: 'b', image: 'registry.example/here:v1', imagePullPolicy: 'Always' },
        { name: 'n', image: 'registry.example/absent:v1', imagePullPolicy: 'Never' },
        { name: 'x', image: 'Bad Name' },
      ],
    });
    const pod = await cluster.until('policies', 'a and b to run', (p) => statusOf(p, 'a')?.ready && statusOf(p, 'b')?.ready);
    expect(runtime.pulls.map((p) => p.image)).toEqual(['registry.example/here:v1']);
    expect(waitingReason(pod, 'n')).toBe('ErrImageNeverPull');
    expect(waitingReason(pod, 'x')).toBe('InvalidImageName');
  });

  test('credentials come from imagePullSecrets', async () => {
    const auths = { 'https://registry.private': { auth: Buffer.from('me:secret').toString('base64') } };
    await cluster.admin.create(resources.secrets, {
      metadata: { namespace: 'default', name: 'regcred' },
      type: 'kubernetes.io/dockerconfigjson',
      stringData: { '.dockerconfigjson': JSON.stringify({ auths }) },
    } as never);
    await cluster.createPod('private', { imagePullSecrets: [{ name: 'regcred' }], containers: [{ name: 'c', image: 'registry.private/app:v1' }] });
    await cluster.until('private', 'Ready', isReady);
    expect(runtime.pulls.at(-1)).toEqual({ image: 'registry.private/app:v1', auth: { username: 'me', password: 'secret' } });
  });
});

describe('what cannot run', () => {
  test.each([
    ['OutOfcpu', { containers: [{ name: 'c', image, resources: { requests: { cpu: '1000' } } }] }, /Node didn't have enough resource: cpu/],
    [
      'SysctlForbidden',
      { securityContext: { sysctls: [{ name: 'kernel.msgmax', value: '1' }] }, containers: [{ name: 'c', image }] },
      /forbidden sysctl: "kernel.msgmax" not allowlisted/,
    ],
    ['NodeAffinity', { nodeSelector: { 'example.com/pool': 'red' }, containers: [{ name: 'c', image }] }, /NodeAffinity/],
  ])('%s', async (wanted, spec, message) => {
    const name = `refused-${wanted.toLowerCase()}`;
    await cluster.createPod(name, spec);
    const pod = await cluster.until(name, 'Failed', (p) => p.status?.phase === 'Failed');
    expect(pod.status).toMatchObject({ reason: wanted, message: expect.stringMatching(message), observedGeneration: 1 });
    expect(runtime.calls).not.toContain(`sandbox ${name}`);
    // A pod that never ran is deleted all the same.
    await remove(name);
    await gone(name);
  });

  test('what others count on the node is no reason', async () => {
    await cluster.createPod('extended', { containers: [{ name: 'c', image, resources: { limits: { 'example.com/dongle': '1' } } }] });
    await cluster.until('extended', 'Ready', isReady);
  });

  test('a host port that is taken', async () => {
    const spec = { containers: [{ name: 'c', image, ports: [{ containerPort: 80, hostPort: 18080 }] }] };
    await cluster.createPod('port-one', spec);
    await cluster.until('port-one', 'Ready', isReady);
    await cluster.createPod('port-two', spec);
    const pod = await cluster.until('port-two', 'Failed', (p) => p.status?.phase === 'Failed');
    expect(pod.status?.reason).toBe('NodePorts');
  });

  test('two pods that fit only one: the second is refused, not both', async () => {
    const node = (await cluster.admin.list(resources.nodes, {})).items[0]!;
    const half = Math.ceil(Number(node.status!.allocatable!['memory']!.replace('Ki', '')) * 0.6);
    const spec = { containers: [{ name: 'c', image, resources: { requests: { memory: `${half}Ki` } } }] };
    await Promise.all([cluster.createPod('half-one', spec), cluster.createPod('half-two', spec)]);
    const phases = await eventually('one of each', async () => {
      const found = [(await cluster.pod('half-one')).status?.phase, (await cluster.pod('half-two')).status?.phase].sort();
      return found.join() === 'Failed,Running' ? found : undefined;
    });
    expect(phases).toEqual(['Failed', 'Running']);
  });

  test('a pod that was deleted by force takes no room, however long its end takes', async () => {
    for (const name of ['half-one', 'half-two']) {
      await remove(name, 0);
      await gone(name);
    }
    const node = (await cluster.admin.list(resources.nodes, {})).items[0]!;
    const half = Math.ceil(Number(node.status!.allocatable!['memory']!.replace('Ki', '')) * 0.6);
    const spec = (name: string) => ({
      terminationGracePeriodSeconds: 5,
      containers: [{ name, image, resources: { requests: { memory: `${half}Ki` } } }],
    });
    let end: (() => void) | undefined;
    runtime.programs.set('slow-end', (process) => {
      process.onStop = () => {
        end = () => process.exit(0);
      };
    });
    await cluster.createPod('slow-end', spec('slow-end'));
    await cluster.until('slow-end', 'Ready', isReady);
    await remove('slow-end');
    await eventually('it to be told to stop', () => end);
    await remove('slow-end', 0);
    await gone('slow-end');
    await cluster.createPod('after-it', spec('after-it'));
    await cluster.until('after-it', 'Ready', isReady);
    end?.();
  });

  test('runAsNonRoot with an image of root', async () => {
    runtime.addImage('registry.example/root:v1', { uid: 0 });
    await cluster.createPod('non-root', { securityContext: { runAsNonRoot: true }, containers: [{ name: 'c', image: 'registry.example/root:v1' }] });
    const pod = await cluster.until('non-root', 'CreateContainerConfigError', (p) => waitingReason(p, 'c') === 'CreateContainerConfigError');
    expect(statusOf(pod, 'c').state?.waiting?.message).toContain('container has runAsNonRoot and image will run as root');
  });
});

describe('many', () => {
  test('fifty pods come and go', async () => {
    const names = Array.from({ length: 50 }, (_, i) => `many-${i}`);
    await Promise.all(names.map((name) => cluster.createPod(name, { terminationGracePeriodSeconds: 1, containers: [{ name, image }] })));
    for (const name of names) await cluster.until(name, 'Ready', isReady);
    await Promise.all(names.map((name) => remove(name)));
    for (const name of names) await gone(name);
    await eventually('the sandboxes to go', () => ![...runtime.sandboxes.values()].some((s) => s.config.metadata.name.startsWith('many-')));
  });
});

describe('the node`s own namespaces', () => {
  test('hostNetwork, hostPID and hostIPC', async () => {
    await cluster.createPod('host', { hostNetwork: true, hostPID: true, hostIPC: true, containers: [{ name: 'host', image }] });
    const pod = await cluster.until('host', 'Ready', isReady);
    expect(pod.status).toMatchObject({ podIP: '127.0.0.1', hostIP: '127.0.0.1' });
    expect(runtime.named('host')!.config.linux.securityContext.namespaces).toEqual({ network: 'NODE', pid: 'NODE', ipc: 'NODE' });
  });
});

describe('while it runs', () => {
  test('a new image restarts that container alone', async () => {
    await cluster.createPod('patched', {
      containers: [
        { name: 'p1', image },
        { name: 'p2', image },
      ],
      terminationGracePeriodSeconds: 1,
    });
    await cluster.until('patched', 'Ready', isReady);
    await cluster.admin.patch(resources.pods, { namespace: 'default', name: 'patched' }, 'strategic', {
      spec: { containers: [{ name: 'p1', image: 'registry.example/app:v2' }] },
    });
    const pod = await cluster.until('patched', 'the new image', (p) => statusOf(p, 'p1').image === 'registry.example/app:v2' && isReady(p));
    expect(statusOf(pod, 'p1').restartCount).toBe(1);
    expect(statusOf(pod, 'p2').restartCount).toBe(0);
  });

  test('a sandbox that breaks is replaced, with its containers', async () => {
    await cluster.createPod('sandboxed', { terminationGracePeriodSeconds: 1, containers: [{ name: 'sb', image }] });
    const before = await cluster.until('sandboxed', 'Ready', isReady);
    const sandbox = [...runtime.sandboxes.values()].find((s) => s.config.metadata.uid === before.metadata.uid)!;
    await runtime.stopPodSandbox(sandbox.status.id);
    const after = await cluster.until('sandboxed', 'a new address', (p) => isReady(p) && p.status?.podIP !== before.status?.podIP);
    expect(after.metadata.uid).toBe(before.metadata.uid);
    await reason('sandboxed', 'SandboxChanged');
  });

  test('new resources reach the running container, or restart it where its policy says so', async () => {
    await cluster.createPod('resized', {
      terminationGracePeriodSeconds: 1,
      containers: [
        {
          name: 'rz',
          image,
          resizePolicy: [{ resourceName: 'memory', restartPolicy: 'RestartContainer' }],
          resources: { requests: { cpu: '100m', memory: '10Mi' }, limits: { cpu: '200m', memory: '10Mi' } },
        },
      ],
    });
    await cluster.until('resized', 'Ready', isReady);
    const resize = (wanted: object) =>
      cluster.admin.patch(
        resources.pods,
        { namespace: 'default', name: 'resized' },
        'strategic',
        { spec: { containers: [{ name: 'rz', resources: wanted }] } },
        { subresource: 'resize' },
      );
    const resizing = (p: Pod) => p.status?.conditions?.find((c) => c.type === 'PodResizeInProgress')?.status === 'True';
    // Until the container has them, the pod says that it is being resized: its generation alone does not tell.
    const give = runtime.updateContainerResources.bind(runtime);
    runtime.updateContainerResources = async (id, wanted) => {
      await cluster.until('resized', 'the resize in progress', (p) => resizing(p) && p.status?.observedGeneration === p.metadata.generation);
      await give(id, wanted);
    };
    await resize({ limits: { cpu: '400m' } });
    const pod = await cluster.until('resized', 'the new limit', (p) => statusOf(p, 'rz').resources?.limits?.['cpu'] === '400m' && !resizing(p));
    runtime.updateContainerResources = give;
    expect(statusOf(pod, 'rz').restartCount).toBe(0);
    expect(runtime.named('rz')!.config.linux.resources).toMatchObject({ cpuQuota: 40_000, memoryLimitInBytes: 10 * 1024 * 1024 });
    await resize({ requests: { memory: '20Mi' }, limits: { memory: '20Mi' } });
    await cluster.until(
      'resized',
      'a restart',
      (p) => statusOf(p, 'rz').restartCount === 1 && statusOf(p, 'rz').resources?.limits?.['memory'] === '20Mi' && isReady(p),
    );
    expect(runtime.named('rz')!.config.linux.resources).toMatchObject({ cpuQuota: 40_000, memoryLimitInBytes: 20 * 1024 * 1024 });
  });

  test('what the node cannot give waits, and the container keeps what it has', async () => {
    const container = { name: 'greedy', image, resources: { requests: { cpu: '100m', memory: '10Mi' } } };
    await cluster.createPod('greedy', { terminationGracePeriodSeconds: 1, containers: [container] });
    await cluster.until('greedy', 'Ready', isReady);
    const at = { namespace: 'default', name: 'greedy' };
    const resize = (cpu: string) =>
      cluster.admin.patch(
        resources.pods,
        at,
        'strategic',
        { spec: { containers: [{ name: 'greedy', resources: { requests: { cpu } } }] } },
        { subresource: 'resize' },
      );
    const pending = (p: Pod) => p.status?.conditions?.find((c) => c.type === 'PodResizePending');
    await resize('10000');
    const pod = await cluster.until('greedy', 'the refusal', pending);
    expect(pending(pod)).toMatchObject({ status: 'True', reason: 'Infeasible', message: expect.stringContaining('requested: 10000000, capacity:') });
    expect(statusOf(pod, 'greedy')).toMatchObject({ restartCount: 0, resources: { requests: { cpu: '100m' } }, allocatedResources: { cpu: '100m' } });
    await resize('200m');
    const resized = await cluster.until('greedy', 'the resize', (p) => !pending(p) && statusOf(p, 'greedy').allocatedResources?.['cpu'] === '200m');
    expect(resized.status?.conditions?.map((c) => c.type)).not.toContain('PodResizeInProgress');
  });

  test('a condition that has become true says no more why it was not', async () => {
    await cluster.createPod('becomes', { containers: [{ name: 'c', image, readinessProbe: { exec: { command: ['is', 'it'] }, periodSeconds: 1 } }] });
    runtime.commands.set('is it', () => ({ stdout: Buffer.alloc(0), stderr: Buffer.alloc(0), exitCode: 1 }));
    const ready = (p: Pod) => p.status?.conditions?.find((c) => c.type === 'Ready');
    await cluster.until('becomes', 'the reason', (p) => ready(p)?.reason === 'ContainersNotReady');
    runtime.commands.set('is it', () => ({ stdout: Buffer.alloc(0), stderr: Buffer.alloc(0), exitCode: 0 }));
    const pod = await cluster.until('becomes', 'Ready', isReady);
    expect(ready(pod)).not.toHaveProperty('reason');
    expect(ready(pod)).not.toHaveProperty('message');
  });

  test('readiness gates count', async () => {
    await cluster.createPod('gated', { readinessGates: [{ conditionType: 'example.com/lb' }], containers: [{ name: 'c', image }] });
    const pod = await cluster.until('gated', 'ContainersReady', (p) =>
      p.status?.conditions?.some((c) => c.type === 'ContainersReady' && c.status === 'True'),
    );
    expect(pod.status?.conditions).toContainEqual(expect.objectContaining({ type: 'Ready', status: 'False', reason: 'ReadinessGatesNotReady' }));
    await cluster.admin.patch(
      resources.pods,
      { namespace: 'default', name: 'gated' },
      'strategic',
      { status: { conditions: [{ type: 'example.com/lb', status: 'True' }] } },
      { subresource: 'status' },
    );
    await cluster.until('gated', 'Ready', isReady);
  });

  test('an ephemeral container joins', async () => {
    await cluster.createPod('debugged', { containers: [{ name: 'app', image }] });
    await cluster.until('debugged', 'Ready', isReady);
    const { metadata, spec } = structuredClone(await cluster.pod('debugged'));
    await cluster.admin.update(
      resources.pods,
      {
        apiVersion: 'v1',
        kind: 'Pod',
        metadata,
        spec: { ...spec, ephemeralContainers: [{ name: 'debugger', image, targetContainerName: 'app' }] },
      } as Pod,
      { subresource: 'ephemeralcontainers' },
    );
    await cluster.until('debugged', 'the debugger to run', (p) => p.status?.ephemeralContainerStatuses?.[0]?.state?.running);
    const app = [...runtime.containers.values()].filter((c) => c.config.metadata.name === 'app').at(-1)!;
    expect(runtime.named('debugger')!.config.linux.securityContext.namespaces).toMatchObject({ pid: 'TARGET', targetId: app.status.id });
  });
});
