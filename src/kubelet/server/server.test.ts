import { once } from 'node:events';
import { createServer as createEchoServer, type AddressInfo, type Server } from 'node:net';
import https from 'node:https';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { resources } from '../../api/generated/resources.ts';
import { createHttpClient } from '../../client/http.ts';
import type { Client } from '../../client/client.ts';
import type { Kubelet } from '../kubelet.ts';
import { eventually, isReady, nodeName, startTestCluster, type TestCluster } from '../testing/cluster.ts';
import { FakeRuntime } from '../testing/runtime.ts';

let cluster: TestCluster;
let runtime: FakeRuntime;
let kubelet: Kubelet;
let client: Client;
let echo: Server;
const image = 'registry.example/app:v1';

beforeAll(async () => {
  cluster = await startTestCluster();
  runtime = new FakeRuntime();
  kubelet = await cluster.startKubelet(runtime);
  client = createHttpClient({ server: cluster.server, ca: cluster.ca, ...cluster.adminCertificate });
  echo = createEchoServer((socket) => socket.pipe(socket).on('error', () => {}));
  await new Promise<void>((resolve) => echo.listen(0, '127.0.0.1', resolve));
  runtime.ports.set(8080, (echo.address() as AddressInfo).port);
  runtime.programs.set(
    'c',
    (p) =>
      void p
        .log('line 1')
        .then(() => p.log('oops', 'stderr'))
        .then(() => p.log('line 3')),
  );
  await cluster.createPod('web', { containers: [{ name: 'c', image }] });
  await cluster.until('web', 'Ready', isReady);
  // The API server speaks to the kubelet once it has its serving certificate.
  await eventually('the kubelet to answer the API server', async () => (await raw('/api/v1/namespaces/default/pods/web/log')).status === 200);
});
afterAll(async () => {
  client?.close();
  echo?.close();
  await kubelet?.stop();
  await cluster?.stop();
});

async function raw(path: string) {
  const response = await client.raw({ method: 'GET', path });
  return { status: response.status, text: await response.text() };
}
const pods = '/api/v1/namespaces/default/pods';

/** A WebSocket through the API server, and what came on each channel. */
async function open(path: string, protocol: string) {
  const ws = new WebSocket(`${cluster.server.replace('https', 'wss')}${path}`, protocol, { ca: cluster.ca, ...cluster.adminCertificate });
  const channels = new Map<number, string>();
  ws.on('message', (data: Buffer) => channels.set(data[0]!, (channels.get(data[0]!) ?? '') + data.subarray(1).toString('latin1')));
  const closed = once(ws, 'close');
  await once(ws, 'open');
  return { ws, channels, closed };
}
const on = (channel: number, text: string) => Buffer.concat([Buffer.from([channel]), Buffer.from(text)]);

describe('logs', () => {
  test('whole, by stream, by tail, with times, and limited', async () => {
    await eventually('all lines', async () => (await raw(`${pods}/web/log`)).text === 'line 1\noops\nline 3\n');
    expect((await raw(`${pods}/web/log?tailLines=1`)).text).toBe('line 3\n');
    expect((await raw(`${pods}/web/log?limitBytes=4`)).text).toBe('line');
    expect((await raw(`${pods}/web/log?timestamps=true&tailLines=1`)).text).toMatch(/^20\d\d-\S+Z line 3\n$/);
  });

  test('followed to the end of the container', async () => {
    runtime.programs.set('talks', (p) => {
      p.onStop = () => void p.log('last').then(() => p.exit(0));
      void p.log('first');
    });
    await cluster.createPod('talks', { terminationGracePeriodSeconds: 5, containers: [{ name: 'talks', image }] });
    await cluster.until('talks', 'Ready', isReady);
    const response = await client.raw({ method: 'GET', path: `${pods}/talks/log?follow=true` });
    let text = '';
    for await (const chunk of response.body) {
      text += Buffer.from(chunk).toString();
      if (text === 'first\n') await cluster.admin.delete(resources.pods, { namespace: 'default', name: 'talks' });
    }
    expect(text).toBe('first\nlast\n');
  });

  test('of the container before', async () => {
    let runs = 0;
    runtime.programs.set('again', (p) => {
      const run = ++runs;
      void p.log(`run ${run}`).then(() => run === 1 && p.exit(1));
    });
    await cluster.createPod('again', { containers: [{ name: 'again', image }] });
    await cluster.until('again', 'the second run', (p) => p.status?.containerStatuses?.[0]?.restartCount === 1 && isReady(p));
    expect((await raw(`${pods}/again/log?previous=true`)).text).toBe('run 1\n');
    expect((await raw(`${pods}/web/log?previous=true`)).text).toContain('previous terminated container "c" in pod "web" not found');
  });

  test('of a container that waits: why', async () => {
    runtime.failPulls.set('registry.example/none:v1', 'no such image');
    await cluster.createPod('waiting', { containers: [{ name: 'w', image: 'registry.example/none:v1' }] });
    await cluster.until('waiting', 'an image error', (p) => /Image/.test(p.status?.containerStatuses?.[0]?.state?.waiting?.reason ?? ''));
    const answer = await raw(`${pods}/waiting/log`);
    expect(answer.status).toBe(400);
    expect(answer.text).toContain('container "w" in pod "waiting" is trying and failing to pull image');
  });
});

describe('exec and attach', () => {
  test('output, error output and exit code', async () => {
    runtime.commands.set('work hard', () => ({ stdout: Buffer.from('out'), stderr: Buffer.from('err'), exitCode: 3 }));
    const { channels, closed } = await open(`${pods}/web/exec?command=work&command=hard&stdout=1&stderr=1`, 'v5.channel.k8s.io');
    await closed;
    expect(channels.get(1)).toBe('out');
    expect(channels.get(2)).toBe('err');
    expect(JSON.parse(channels.get(3)!)).toMatchObject({
      status: 'Failure',
      reason: 'NonZeroExitCode',
      details: { causes: [{ reason: 'ExitCode', message: '3' }] },
    });
  });

  test('the first version of the protocol says nothing of success, and of failure its text', async () => {
    runtime.commands.set('work well', () => ({ stdout: Buffer.from('out'), stderr: Buffer.alloc(0), exitCode: 0 }));
    runtime.commands.set('work badly', () => ({ stdout: Buffer.alloc(0), stderr: Buffer.alloc(0), exitCode: 3 }));
    const well = await open(`${pods}/web/exec?command=work&command=well&stdout=1`, 'channel.k8s.io');
    await well.closed;
    expect(well.channels).toEqual(new Map([[1, 'out']]));
    const badly = await open(`${pods}/web/exec?command=work&command=badly&stdout=1`, 'channel.k8s.io');
    await badly.closed;
    expect(badly.channels.get(3)).toContain('command terminated with non-zero exit code');
  });

  test('input, to its end', async () => {
    const { ws, channels, closed } = await open(`${pods}/web/exec?command=cat&stdin=1&stdout=1`, 'v5.channel.k8s.io');
    const text = 'x'.repeat(300_000);
    ws.send(on(0, text));
    ws.send(on(255, '\0'));
    await closed;
    expect(channels.get(1)).toBe(text);
    expect(JSON.parse(channels.get(3)!)).toMatchObject({ status: 'Success' });
  });

  test('attach', async () => {
    const { ws, channels, closed } = await open(`${pods}/web/attach?stdin=1&stdout=1`, 'v5.channel.k8s.io');
    ws.send(on(0, 'hello'));
    ws.send(on(255, '\0'));
    await closed;
    expect(channels.get(1)).toBe('hello');
  });
});

describe('port forwarding', () => {
  test('over WebSocket channels', async () => {
    const { ws, channels } = await open(`${pods}/web/portforward?ports=8080`, 'v4.channel.k8s.io');
    ws.send(on(0, 'ping'));
    await eventually('the echo', () => channels.get(0)?.endsWith('ping'));
    expect(channels.get(0)!.slice(0, 2)).toBe(Buffer.from([0x90, 0x1f]).toString('latin1'));
    ws.close();
  });
});

describe('the kubelet`s own API', () => {
  const get = (path: string, options: https.RequestOptions = {}) =>
    new Promise<{ status: number; text: string }>((resolve, reject) => {
      const request = https.get({ host: '127.0.0.1', port: kubelet.port, path, ca: cluster.ca, agent: false, ...options }, (response) => {
        let text = '';
        response.on('data', (c: Buffer) => {
          text += c;
        });
        response.on('end', () => resolve({ status: response.statusCode ?? 0, text }));
      });
      request.on('error', reject);
    });
  const bearer = async (account: string) => {
    const answer = await cluster.admin.createSubresource<any>(resources.serviceaccounts, { namespace: 'default', name: account }, 'token', {
      apiVersion: 'authentication.k8s.io/v1',
      kind: 'TokenRequest',
      spec: {},
    });
    return { headers: { authorization: `Bearer ${answer.status.token}` } };
  };

  test('serves a certificate of the cluster, to whom the cluster knows and lets in', async () => {
    expect((await get('/pods')).status).toBe(401);
    expect((await get('/healthz')).status).toBe(200);
    const list = JSON.parse((await get('/pods', cluster.adminCertificate)).text);
    expect(list.items.map((p: any) => p.metadata.name)).toContain('web');
    expect((await get('/pods', { headers: { authorization: 'Bearer nonsense' } })).status).toBe(401);
    await cluster.admin.create(resources.serviceaccounts, { metadata: { namespace: 'default', name: 'monitor' } });
    const token = await bearer('monitor');
    const refused = await get('/metrics', token);
    expect(refused.status).toBe(403);
    expect(refused.text).toContain('user=system:serviceaccount:default:monitor');
    await cluster.admin.create(resources.clusterroles, {
      metadata: { name: 'monitor' },
      rules: [{ apiGroups: [''], resources: ['nodes/metrics', 'nodes/stats'], verbs: ['get'] }],
    } as never);
    await cluster.admin.create(resources.serviceaccounts, { metadata: { namespace: 'default', name: 'monitor2' } });
    await cluster.admin.create(resources.clusterrolebindings, {
      metadata: { name: 'monitor' },
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'monitor' },
      subjects: [{ kind: 'ServiceAccount', namespace: 'default', name: 'monitor2' }],
    } as never);
    const other = await bearer('monitor2');
    expect((await get('/metrics', other)).text).toMatch(/kubelet_running_pods \d/);
    expect((await get('/metrics/resource', other)).text).toContain(
      'container_memory_working_set_bytes{container="c",namespace="default",pod="web"} 1024',
    );
    expect((await get('/pods', other)).status).toBe(403);
    const summary = JSON.parse((await get('/stats/summary', other)).text);
    expect(summary.pods.find((p: any) => p.podRef.name === 'web').containers[0]).toMatchObject({ name: 'c', memory: { workingSetBytes: 1024 } });
  });

  test('is reached through the node proxy', async () => {
    expect((await raw(`/api/v1/nodes/${nodeName}/proxy/healthz`)).text).toBe('ok');
    expect(JSON.parse((await raw(`/api/v1/nodes/${nodeName}/proxy/configz`)).text).kubeletconfig.clusterDomain).toBe('cluster.local');
  });

  test('unknown pods, containers and paths', async () => {
    expect((await get('/containerLogs/default/none/c', cluster.adminCertificate)).status).toBe(404);
    expect((await get('/containerLogs/default/web/none', cluster.adminCertificate)).status).toBe(404);
    expect((await get('/nonsense', cluster.adminCertificate)).status).toBe(404);
  });
});
