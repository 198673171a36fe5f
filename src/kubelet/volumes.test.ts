import { lstat, readFile, stat } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { resources } from '../api/generated/resources.ts';
import type { Kubelet } from './kubelet.ts';
import { eventually, isReady, startTestCluster, type TestCluster } from './testing/cluster.ts';
import { FakeRuntime } from './testing/runtime.ts';

/** These tests mount tmpfs and bind mounts: they need root. */
let cluster: TestCluster;
let runtime: FakeRuntime;
let kubelet: Kubelet;

beforeAll(async () => {
  if (process.getuid?.() !== 0) throw new Error('the tests of volumes need root, to mount');
  cluster = await startTestCluster();
  runtime = new FakeRuntime();
  kubelet = await cluster.startKubelet(runtime);
  await cluster.admin.create(resources.configmaps, {
    metadata: { namespace: 'default', name: 'settings' },
    data: { color: 'blue', 'app.conf': 'a=1\n' },
    binaryData: { raw: Buffer.from([0, 1, 255]).toString('base64') },
  });
  await cluster.admin.create(resources.secrets, { metadata: { namespace: 'default', name: 'keys' }, stringData: { password: 'hunter2' } } as never);
  await cluster.admin.create(resources.services, {
    metadata: { namespace: 'default', name: 'my-db' },
    spec: { clusterIP: '10.96.7.7', ports: [{ name: 'sql', port: 5432 }] },
  } as never);
});
afterAll(async () => {
  await kubelet?.stop();
  await cluster?.stop();
});

const image = 'registry.example/app:v1';
const run = async (container: string, ...command: string[]) => {
  const result = await runtime.execSync(runtime.named(container)!.status.id, command);
  if (result.exitCode !== 0) throw new Error(`${command.join(' ')}: ${result.stderr}`);
  return result.stdout.toString();
};
const cat = (container: string, file: string) => run(container, 'cat', file);
const pathOf = (container: string, file: string) => runtime.hostPath(runtime.named(container)!.config, file);

describe('files of objects', () => {
  test('configMap, secret, downward API and projected volumes', async () => {
    await cluster.createPod(
      'files',
      {
        securityContext: { fsGroup: 2000 },
        containers: [
          {
            name: 'files',
            image,
            resources: { limits: { cpu: '250m', memory: '64Mi' } },
            volumeMounts: [
              { name: 'cm', mountPath: '/cm' },
              { name: 'sec', mountPath: '/sec', readOnly: true },
              { name: 'down', mountPath: '/down' },
              { name: 'all', mountPath: '/all' },
              { name: 'one', mountPath: '/etc/app.conf', subPath: 'app.conf' },
            ],
          },
        ],
        volumes: [
          { name: 'cm', configMap: { name: 'settings' } },
          { name: 'sec', secret: { secretName: 'keys', defaultMode: 0o400, items: [{ key: 'password', path: 'deep/pw' }] } },
          {
            name: 'down',
            downwardAPI: {
              items: [
                { path: 'labels', fieldRef: { fieldPath: 'metadata.labels' } },
                { path: 'cpu', resourceFieldRef: { containerName: 'files', resource: 'limits.cpu', divisor: '1m' } },
                { path: 'memory', resourceFieldRef: { containerName: 'files', resource: 'limits.memory' } },
              ],
            },
          },
          {
            name: 'all',
            projected: {
              sources: [
                { configMap: { name: 'settings', items: [{ key: 'color', path: 'color' }] } },
                { secret: { name: 'keys' } },
                { downwardAPI: { items: [{ path: 'name', fieldRef: { fieldPath: 'metadata.name' } }] } },
                { serviceAccountToken: { path: 'token', audience: 'vault', expirationSeconds: 600 } },
              ],
            },
          },
          { name: 'one', configMap: { name: 'settings' } },
        ],
      },
      { labels: { tier: 'web' } },
    );
    await cluster.until('files', 'Ready', isReady);
    expect(await cat('files', '/cm/color')).toBe('blue');
    expect(await readFile(pathOf('files', '/cm/raw'))).toEqual(Buffer.from([0, 1, 255]));
    expect(await cat('files', '/sec/deep/pw')).toBe('hunter2');
    // With an fsGroup its members may read.
    expect(await stat(pathOf('files', '/sec/deep/pw'))).toMatchObject({ mode: 0o100440, gid: 2000 });
    expect(await cat('files', '/down/labels')).toBe('tier="web"');
    expect(await cat('files', '/down/cpu')).toBe('250');
    expect(await cat('files', '/down/memory')).toBe(String(64 * 1024 * 1024));
    expect(await cat('files', '/all/color')).toBe('blue');
    expect(await cat('files', '/all/password')).toBe('hunter2');
    expect(await cat('files', '/all/name')).toBe('files');
    expect(await cat('files', '/etc/app.conf')).toBe('a=1\n');
    const claims = JSON.parse(Buffer.from((await cat('files', '/all/token')).split('.')[1]!, 'base64url').toString());
    expect(claims).toMatchObject({ aud: ['vault'], 'kubernetes.io': { pod: { name: 'files' } } });
    // The token that every pod gets.
    expect(await cat('files', '/var/run/secrets/kubernetes.io/serviceaccount/ca.crt')).toBe(cluster.ca);
    expect(await cat('files', '/var/run/secrets/kubernetes.io/serviceaccount/namespace')).toBe('default');
  });

  test('changes reach running pods, all files of a volume at once', async () => {
    const before = (await lstat(pathOf('files', '/cm/color'))).ino;
    await cluster.admin.patch(resources.configmaps, { namespace: 'default', name: 'settings' }, 'merge', {
      data: { color: 'green', 'app.conf': null },
    });
    await eventually('the new file', async () => (await cat('files', '/cm/color')) === 'green');
    await expect(cat('files', '/cm/app.conf')).rejects.toThrow();
    // What a program sees as the file is a link that stays.
    expect((await lstat(pathOf('files', '/cm/color'))).ino).toBe(before);
    await cluster.admin.patch(resources.pods, { namespace: 'default', name: 'files' }, 'merge', { metadata: { labels: { tier: 'db' } } });
    await eventually('the new label', async () => (await cat('files', '/down/labels')) === 'tier="db"');
  });

  test('what is missing is waited for', async () => {
    await cluster.createPod('waits', {
      containers: [
        {
          name: 'waits',
          image,
          volumeMounts: [
            { name: 'late', mountPath: '/late' },
            { name: 'maybe', mountPath: '/maybe' },
          ],
        },
      ],
      volumes: [
        { name: 'late', configMap: { name: 'late' } },
        { name: 'maybe', secret: { secretName: 'nowhere', optional: true } },
      ],
    });
    await eventually('an event', async () =>
      (await cluster.admin.list(resources.events, { namespace: 'default', fieldSelector: 'involvedObject.name=waits' })).items.find(
        (e) => e.reason === 'FailedMount' && e.message === 'MountVolume.SetUp failed for volume "late" : configmap "late" not found',
      ),
    );
    expect((await cluster.pod('waits')).status?.containerStatuses?.[0]?.state?.waiting?.reason).toBe('ContainerCreating');
    await cluster.admin.create(resources.configmaps, { metadata: { namespace: 'default', name: 'late' }, data: { a: 'b' } });
    await cluster.until('waits', 'Ready', isReady);
    expect(await cat('waits', '/late/a')).toBe('b');
  });

  test('all is unmounted and removed with the pod', async () => {
    const { uid } = (await cluster.pod('files')).metadata;
    await cluster.admin.delete(resources.pods, { namespace: 'default', name: 'files' }, { gracePeriodSeconds: 1 });
    await eventually('the directory to go', () =>
      stat(`${cluster.directory}/pods/${uid}`).then(
        () => false,
        () => true,
      ),
    );
    expect(await readFile('/proc/mounts', 'utf8')).not.toContain(uid);
  });
});

describe('directories', () => {
  test('emptyDir is shared, and outlives a restarted container', async () => {
    await cluster.createPod('dirs', {
      terminationGracePeriodSeconds: 1,
      containers: [
        {
          name: 'd1',
          image,
          volumeMounts: [
            { name: 'disk', mountPath: '/d' },
            { name: 'ram', mountPath: '/r' },
          ],
        },
        { name: 'd2', image, volumeMounts: [{ name: 'disk', mountPath: '/other', subPath: 'sub' }] },
      ],
      volumes: [
        { name: 'disk', emptyDir: {} },
        { name: 'ram', emptyDir: { medium: 'Memory', sizeLimit: '1Mi' } },
      ],
    });
    await cluster.until('dirs', 'Ready', isReady);
    const { writeFile } = await import('node:fs/promises');
    await writeFile(pathOf('d2', '/other/file'), 'x');
    expect(await cat('d1', '/d/sub/file')).toBe('x');
    expect((await stat(pathOf('d1', '/d'))).mode & 0o777).toBe(0o777);
    expect(await readFile('/proc/mounts', 'utf8')).toMatch(new RegExp(`tmpfs ${pathOf('d1', '/r')} tmpfs \\S*size=1024k`));
    runtime.named('d1')!.process.exit(1);
    await cluster.until('dirs', 'a restart', (p) => p.status?.containerStatuses?.find((s) => s.name === 'd1')?.restartCount === 1 && isReady(p));
    expect(await cat('d1', '/d/sub/file')).toBe('x');
  });

  test('hostPath checks its type', async () => {
    await cluster.createPod('host', {
      containers: [{ name: 'host', image, volumeMounts: [{ name: 'h', mountPath: '/h' }] }],
      volumes: [{ name: 'h', hostPath: { path: `${cluster.directory}/made`, type: 'DirectoryOrCreate' } }],
    });
    await cluster.until('host', 'Ready', isReady);
    expect((await stat(`${cluster.directory}/made`)).isDirectory()).toBe(true);
    await cluster.createPod('host-bad', {
      containers: [{ name: 'host-bad', image, volumeMounts: [{ name: 'h', mountPath: '/h' }] }],
      volumes: [{ name: 'h', hostPath: { path: `${cluster.directory}/made`, type: 'File' } }],
    });
    await eventually('an event', async () =>
      (await cluster.admin.list(resources.events, { namespace: 'default', fieldSelector: 'involvedObject.name=host-bad' })).items.find(
        (e) => e.reason === 'FailedMount' && /hostPath type check failed: .* is not a file/.test(e.message ?? ''),
      ),
    );
  });
});

describe('environment', () => {
  test('values, references, envFrom, fields, resources and services', async () => {
    await cluster.createPod('env', {
      containers: [
        {
          name: 'env',
          image,
          resources: { requests: { cpu: '100m' }, limits: { memory: '32Mi' } },
          command: ['serve', '--name=$(NAME)', '$(UNKNOWN)', '$$(NAME)'],
          envFrom: [
            { configMapRef: { name: 'settings' }, prefix: 'CM_' },
            { secretRef: { name: 'keys' } },
            { configMapRef: { name: 'none', optional: true } },
          ],
          env: [
            { name: 'A', value: 'one' },
            { name: 'B', value: '$(A)-two-$(MY_DB_SERVICE_HOST)' },
            { name: 'NAME', valueFrom: { fieldRef: { fieldPath: 'metadata.name' } } },
            { name: 'IP', valueFrom: { fieldRef: { fieldPath: 'status.podIP' } } },
            { name: 'HOST', valueFrom: { fieldRef: { fieldPath: 'status.hostIP' } } },
            { name: 'NODE', valueFrom: { fieldRef: { fieldPath: 'spec.nodeName' } } },
            { name: 'MEMORY', valueFrom: { resourceFieldRef: { resource: 'limits.memory', divisor: '1Mi' } } },
            { name: 'COLOR', valueFrom: { configMapKeyRef: { name: 'settings', key: 'color' } } },
            { name: 'PW', valueFrom: { secretKeyRef: { name: 'keys', key: 'password' } } },
            { name: 'NONE', valueFrom: { secretKeyRef: { name: 'keys', key: 'none', optional: true } } },
          ],
        },
      ],
    });
    const pod = await cluster.until('env', 'Ready', isReady);
    const env = Object.fromEntries(runtime.named('env')!.config.envs.map((e) => [e.key, e.value]));
    expect(env).toMatchObject({
      A: 'one',
      B: 'one-two-10.96.7.7',
      NAME: 'env',
      IP: pod.status!.podIP,
      HOST: '127.0.0.1',
      NODE: pod.spec.nodeName,
      MEMORY: '32',
      COLOR: 'green',
      PW: 'hunter2',
      CM_color: 'green',
      password: 'hunter2',
      MY_DB_SERVICE_PORT_SQL: '5432',
      MY_DB_PORT_5432_TCP_ADDR: '10.96.7.7',
      KUBERNETES_SERVICE_HOST: '10.96.0.1',
      KUBERNETES_SERVICE_PORT_HTTPS: '443',
    });
    expect(env).not.toHaveProperty('NONE');
    expect(runtime.named('env')!.config.command).toEqual(['serve', '--name=env', '$(UNKNOWN)', '$(NAME)']);
    expect(runtime.named('env')!.config.linux.resources).toMatchObject({ cpuShares: 102, memoryLimitInBytes: 32 * 1024 * 1024 });
  });

  test('a missing reference: CreateContainerConfigError, until it is there', async () => {
    await cluster.createPod('env-waits', {
      containers: [{ name: 'ew', image, env: [{ name: 'X', valueFrom: { configMapKeyRef: { name: 'coming', key: 'x' } } }] }],
    });
    const waiting = await cluster.until(
      'env-waits',
      'an error',
      (p) => p.status?.containerStatuses?.[0]?.state?.waiting?.reason === 'CreateContainerConfigError',
    );
    expect(waiting.status!.containerStatuses![0]!.state!.waiting!.message).toBe('configmap "coming" not found');
  });

  test('hosts and names', async () => {
    await cluster.createPod('hosts', {
      hostname: 'h0',
      subdomain: 'sub',
      hostAliases: [{ ip: '10.1.1.1', hostnames: ['alias.example'] }],
      containers: [{ name: 'hosts', image }],
    });
    const pod = await cluster.until('hosts', 'Ready', isReady);
    const text = await cat('hosts', '/etc/hosts');
    expect(text).toContain(`${pod.status!.podIP}\th0.sub.default.svc.cluster.local\th0`);
    expect(text).toContain('10.1.1.1\talias.example');
    const sandbox = [...runtime.sandboxes.values()].find((s) => s.config.metadata.name === 'hosts')!.config;
    expect(sandbox.hostname).toBe('h0');
    expect(sandbox.dnsConfig).toMatchObject({ servers: ['10.96.0.10'], options: ['ndots:5'] });
    expect(sandbox.dnsConfig!.searches.slice(0, 3)).toEqual(['default.svc.cluster.local', 'svc.cluster.local', 'cluster.local']);
  });
});
