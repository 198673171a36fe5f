/**
 * One node with real containers, for real.test.ts, which starts this in namespaces of its own (network, mounts, processes):
 * API server, controllers, kubelet, embedded runtime and pod network in this process. Prints a line of JSON for each check.
 */
import { createServer, type Server } from 'node:http';
import { readFile } from 'node:fs/promises';
import { type AddressInfo, connect } from 'node:net';
import { join } from 'node:path';
import assert from 'node:assert/strict';
import { createHttpClient } from '../../client/http.ts';
import { resources } from '../../api/generated/resources.ts';
import type { Pod } from '../../api/generated/types.ts';
import { createPodNetwork } from '../../network/pod-network.ts';
import type { Runtime } from '../../runtime/cri.ts';
import { createEmbeddedRuntime } from '../../runtime/embedded/runtime.ts';
import { busyboxImage } from '../../runtime/images/busybox.ts';
import type { Kubelet } from '../kubelet.ts';
import { eventually, isReady, startTestCluster } from './cluster.ts';

const [id, only] = process.argv.slice(2);
const cluster = await startTestCluster(id);
const data = join(cluster.directory, '..', 'runtime');
const image = 'registry.example/busybox:v1';
const registry = await serveImage();
let runtime: Runtime;
let kubelet: Kubelet;

async function startNode(): Promise<void> {
  runtime = await createEmbeddedRuntime({
    root: data,
    network: createPodNetwork({ stateDir: join(data, 'network'), nonMasqueradeCidrs: [], log: cluster.log }),
    registryMirrors: `registry.example=http://127.0.0.1:${(registry.address() as AddressInfo).port}`,
    log: cluster.log,
  });
  kubelet = await cluster.startKubelet(runtime);
}
async function stopNode(): Promise<void> {
  await kubelet.stop();
  await runtime.close();
}

/** A registry that has this one image. */
async function serveImage(): Promise<Server> {
  const source = await busyboxImage([{ path: 'www/index.html', content: 'hello from a pod\n' }]);
  const server = createServer((request, response) => {
    const blob = /\/blobs\/(sha256:[0-9a-f]+)$/.exec(request.url ?? '')?.[1];
    if (blob) return void source.blob(blob).pipe(response);
    if (!request.url?.includes('/manifests/')) return void response.writeHead(request.url === '/v2/' ? 200 : 404).end();
    response.writeHead(200, { 'content-type': source.manifest.mediaType ?? '', 'docker-content-digest': source.manifestDigest });
    response.end(request.method === 'HEAD' ? undefined : source.manifestBytes);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return server;
}

const http = createHttpClient({ server: cluster.server, ca: cluster.ca, ...cluster.adminCertificate });
const logs = async (pod: string, query = '') =>
  (await http.raw({ method: 'GET', path: `/api/v1/namespaces/default/pods/${pod}/log${query}` })).text();
const execIn = async (container: string, ...command: string[]) => {
  const found = (await runtime.listContainers({ state: 'CONTAINER_RUNNING' })).find((c) => c.metadata.name === container);
  assert(found, `no running container ${container}`);
  const result = await runtime.execSync(found.id, command, 10);
  assert.equal(result.exitCode, 0, `${command.join(' ')}: ${result.stderr}`);
  return result.stdout.toString();
};
const sh = (script: string) => ['sh', '-c', script];
const statusOf = (pod: Pod) => pod.status?.containerStatuses?.[0];
const remove = (name: string, gracePeriodSeconds?: number) =>
  cluster.admin.delete(resources.pods, { namespace: 'default', name }, gracePeriodSeconds === undefined ? {} : { gracePeriodSeconds });
const gone = (name: string) =>
  eventually(`pod ${name} to be gone`, () =>
    cluster.pod(name).then(
      () => false,
      () => true,
    ),
  );
const get = (host: string, port: number, path: string) =>
  new Promise<string>((resolve, reject) => {
    const socket = connect({ host, port }, () => socket.write(`GET ${path} HTTP/1.0\r\n\r\n`));
    let text = '';
    socket.on('data', (c) => {
      text += c;
    });
    socket.on('end', () => resolve(text));
    socket.on('error', reject);
  });

const web = { name: 'web', image, command: ['httpd', '-f', '-p', '8080', '-h', '/www'] };
const checks: Record<string, () => Promise<void>> = {
  'a pod runs, answers on its address, and its probes pass': async () => {
    await cluster.createPod('web', {
      terminationGracePeriodSeconds: 1,
      containers: [
        {
          ...web,
          readinessProbe: { httpGet: { path: '/', port: 8080 }, periodSeconds: 1 },
          livenessProbe: { exec: { command: ['true'] }, periodSeconds: 1 },
        },
      ],
    });
    const pod = await cluster.until('web', 'Ready', isReady);
    assert.match(pod.status?.podIP ?? '', /^10\.244\.0\./);
    assert.match(await get(pod.status!.podIP!, 8080, '/index.html'), /hello from a pod/);
    assert.match(await execIn('web', 'hostname'), /^web\n$/);
  },
  'logs, also of a container that has ended, and its message': async () => {
    await cluster.createPod('talks', {
      restartPolicy: 'Never',
      containers: [{ name: 't', image, command: sh('echo one; echo two >&2; echo -n why > /dev/termination-log; exit 7') }],
    });
    const pod = await cluster.until('talks', 'Failed', (p) => p.status?.phase === 'Failed');
    assert.equal(statusOf(pod)?.state?.terminated?.exitCode, 7);
    assert.equal(statusOf(pod)?.state?.terminated?.message, 'why');
    await eventually('the log', async () => (await logs('talks')).split('\n').sort().join() === ',one,two');
  },
  'init containers prepare a volume; a sidecar runs beside': async () => {
    await cluster.createPod('init', {
      terminationGracePeriodSeconds: 1,
      initContainers: [
        { name: 'prepare', image, command: sh('echo prepared > /d/file'), volumeMounts: [{ name: 'd', mountPath: '/d' }] },
        { name: 'side', image, command: ['sleep', '1000'], restartPolicy: 'Always' },
      ],
      containers: [{ name: 'uses', image, command: ['sleep', '1000'], volumeMounts: [{ name: 'd', mountPath: '/d' }] }],
      volumes: [{ name: 'd', emptyDir: {} }],
    });
    await cluster.until('init', 'Ready', isReady);
    assert.equal(await execIn('uses', 'cat', '/d/file'), 'prepared\n');
    await remove('init');
    await gone('init');
  },
  'containers of a pod share address and, where asked, processes': async () => {
    await cluster.createPod('shares', {
      terminationGracePeriodSeconds: 1,
      shareProcessNamespace: true,
      containers: [web, { name: 'peer', image, command: ['sleep', '1000'] }],
    });
    await cluster.until('shares', 'Ready', isReady);
    assert.match(await execIn('peer', 'wget', '-qO-', 'http://127.0.0.1:8080/index.html'), /hello/);
    assert.match(await execIn('peer', 'ps'), /httpd/);
    await remove('shares');
    await gone('shares');
  },
  'environment, ConfigMap, Secret and token in a real container': async () => {
    await cluster.admin.create(resources.configmaps, { metadata: { namespace: 'default', name: 'cm' }, data: { key: 'value' } });
    await cluster.createPod('files', {
      terminationGracePeriodSeconds: 1,
      containers: [
        {
          name: 'files',
          image,
          command: ['sleep', '1000'],
          env: [{ name: 'NODE', valueFrom: { fieldRef: { fieldPath: 'spec.nodeName' } } }],
          volumeMounts: [
            { name: 'cm', mountPath: '/cm' },
            { name: 'cm', mountPath: '/etc/one', subPath: 'key' },
          ],
        },
      ],
      volumes: [{ name: 'cm', configMap: { name: 'cm' } }],
    });
    const pod = await cluster.until('files', 'Ready', isReady);
    assert.match(await execIn('files', 'env'), new RegExp(`NODE=${pod.spec.nodeName}`));
    assert.equal(await execIn('files', 'cat', '/cm/key'), 'value');
    assert.equal(await execIn('files', 'cat', '/etc/one'), 'value');
    assert.match(await execIn('files', 'cat', '/var/run/secrets/kubernetes.io/serviceaccount/token'), /^ey/);
    assert.match(await execIn('files', 'cat', '/etc/resolv.conf'), /nameserver 10\.96\.0\.10/);
    assert.match(await execIn('files', 'cat', '/etc/hosts'), new RegExp(`${pod.status?.podIP}\tfiles`));
    await cluster.admin.patch(resources.configmaps, { namespace: 'default', name: 'cm' }, 'merge', { data: { key: 'new' } });
    await eventually('the change inside', async () => (await execIn('files', 'cat', '/cm/key')) === 'new');
    await remove('files');
    await gone('files');
  },
  'limits are cgroup limits, and too much memory is OOMKilled': async () => {
    await cluster.createPod('limits', {
      terminationGracePeriodSeconds: 1,
      containers: [{ name: 'limits', image, command: ['sleep', '1000'], resources: { limits: { memory: '48Mi', cpu: '500m' } } }],
    });
    const pod = await cluster.until('limits', 'Ready', isReady);
    const v1 = `/sys/fs/cgroup/memory${cluster.cgroupRoot}/kubepods/pod${pod.metadata.uid}`;
    const v2 = `/sys/fs/cgroup${cluster.cgroupRoot}/kubepods/pod${pod.metadata.uid}`;
    const limit = await readFile(`${v1}/memory.limit_in_bytes`, 'utf8').catch(() => readFile(`${v2}/memory.max`, 'utf8'));
    assert.equal(limit.trim(), String(48 * 1024 * 1024));
    await remove('limits');
    await cluster.createPod('greedy', {
      restartPolicy: 'Never',
      containers: [
        {
          name: 'greedy',
          image,
          command: sh('x=$(head -c 200000000 /dev/zero | tr "\\0" x); echo $x | wc -c'),
          resources: { limits: { memory: '16Mi' } },
        },
      ],
    });
    const killed = await cluster.until('greedy', 'Failed', (p) => p.status?.phase === 'Failed');
    assert.equal(statusOf(killed)?.state?.terminated?.reason, 'OOMKilled');
  },
  'a container that ends is restarted, with backoff': async () => {
    await cluster.createPod('crash', { terminationGracePeriodSeconds: 1, containers: [{ name: 'crash', image, command: sh('echo run; exit 1') }] });
    const pod = await cluster.until('crash', 'CrashLoopBackOff', (p) => statusOf(p)?.state?.waiting?.reason === 'CrashLoopBackOff');
    assert.equal(statusOf(pod)?.restartCount, 1);
    assert.equal(await logs('crash', '?previous=true'), 'run\n');
    await remove('crash');
    await gone('crash');
  },
  'a program that cannot be started is told': async () => {
    await cluster.createPod('absent', { terminationGracePeriodSeconds: 1, containers: [{ name: 'absent', image, command: ['/no/such/program'] }] });
    const pod = await cluster.until('absent', 'an error', (p) => {
      const state = statusOf(p)?.state;
      return state?.waiting?.reason === 'RunContainerError' || state?.waiting?.reason === 'CrashLoopBackOff';
    });
    const { state, lastState } = statusOf(pod)!;
    assert.match(`${state?.waiting?.message} ${lastState?.terminated?.message}`, /no such file or directory/i);
    await remove('absent');
    await gone('absent');
  },
  'preStop and the grace period': async () => {
    await cluster.createPod('graceful', {
      terminationGracePeriodSeconds: 20,
      containers: [
        {
          name: 'graceful',
          image,
          command: sh('trap "echo terminated >> /d/log; exit 0" TERM; while :; do sleep 0.1; done'),
          lifecycle: { preStop: { exec: { command: sh('echo stopping >> /d/log') } } },
          volumeMounts: [{ name: 'd', mountPath: '/d' }],
        },
      ],
      volumes: [{ name: 'd', hostPath: { path: join(cluster.directory, 'graceful'), type: 'DirectoryOrCreate' } }],
    });
    await cluster.until('graceful', 'Ready', isReady);
    await remove('graceful');
    await gone('graceful');
    assert.equal(await readFile(join(cluster.directory, 'graceful/log'), 'utf8'), 'stopping\nterminated\n');
  },
  'a restart of kubelet and runtime leaves containers running, and takes them up again': async () => {
    const before = await cluster.pod('web');
    await stopNode();
    assert.match(await get(before.status!.podIP!, 8080, '/index.html'), /hello/);
    await startNode();
    const after = await cluster.until('web', 'Ready', isReady);
    assert.equal(statusOf(after)?.containerID, statusOf(before)?.containerID);
    assert.equal(statusOf(after)?.restartCount, 0);
    assert.match(await get(after.status!.podIP!, 8080, '/index.html'), /hello/);
  },
  'a deleted pod leaves nothing': async () => {
    const { uid } = (await cluster.pod('web')).metadata;
    await remove('web');
    await gone('web');
    await eventually('the sandbox to be removed', async () => (await runtime.listPodSandbox()).every((s) => s.metadata.uid !== uid));
    await eventually('the mounts to go', async () => !(await readFile('/proc/self/mountinfo', 'utf8')).includes(uid));
  },
};

let failed = false;
await startNode();
for (const [name, check] of Object.entries(checks)) {
  if (only && !name.includes(only)) continue;
  const started = Date.now();
  let error = '';
  try {
    await check();
  } catch (e) {
    failed = true;
    error = e instanceof Error ? (e.stack ?? e.message) : String(e);
  }
  console.log(JSON.stringify({ name, ok: error === '', ms: Date.now() - started, error }));
}
for (const pod of (await cluster.admin.list(resources.pods, {})).items) await remove(pod.metadata.name, 1);
await eventually('every sandbox to go', async () => (await runtime.listPodSandbox()).length === 0);
await stopNode();
http.close();
registry.close();
await cluster.stop();
process.exit(failed ? 1 : 0);
