import { once } from 'node:events';
import { createServer as createHttpServer, type Server } from 'node:http';
import { createServer } from 'node:https';
import { type AddressInfo, createConnection } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { WebSocket, WebSocketServer } from 'ws';
import { resources } from '../api/generated/resources.ts';
import { createTestAuthority, requestOverHttp1, requestOverHttp2, startTestServer, type TestServer } from './testing.ts';

let server: TestServer;
let kubelet: Server;
let backend: Server;
const dialled: string[] = [];
const r = resources as any;

/** A kubelet that answers with what it was asked, and echoes WebSockets. */
beforeAll(async () => {
  const authority = await createTestAuthority();
  const serving = await authority.issue({ commonName: 'system:node:n1', addresses: ['10.1.2.3'], server: true });
  kubelet = createServer({ ...serving, ca: authority.cert, requestCert: true, rejectUnauthorized: true }, (request, response) => {
    if (request.url?.includes('follow=true')) {
      response.write('one\n');
      setTimeout(() => response.end('two\n'), 20);
      return;
    }
    response.setHeader('content-type', 'text/plain');
    response.end(`kubelet ${request.method} ${request.url} auth=${request.headers.authorization ?? 'none'}`);
  }) as unknown as Server;
  const sockets = new WebSocketServer({ server: kubelet as never, handleProtocols: () => 'v5.channel.k8s.io' });
  sockets.on('connection', (socket, request) => {
    socket.send(`path ${request.url}`);
    socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }));
  });
  backend = createHttpServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (c: Buffer) => chunks.push(c));
    if (request.url === '/page') {
      response.setHeader('content-type', 'text/html');
      response.end('<a href="/next">next</a>');
      return;
    }
    request.on('end', () => response.end(`backend ${request.method} ${request.url} ${Buffer.concat(chunks)}`));
  });
  await new Promise<void>((resolve) => kubelet.listen(0, '127.0.0.1', resolve));
  await new Promise<void>((resolve) => backend.listen(0, '127.0.0.1', resolve));
  const portOf = (s: Server) => (s.address() as AddressInfo).port;
  server = await startTestServer({
    kubeletClient: { ...(await authority.issue({ commonName: 'kube-apiserver' })), ca: authority.cert },
    dial: async (host, port) => {
      dialled.push(`${host}:${port}`);
      if (host === '10.9.9.9') throw new Error('no route to host');
      const socket = createConnection({ host: '127.0.0.1', port: port === 10250 ? portOf(kubelet) : portOf(backend) });
      await once(socket, 'connect');
      // As a connection through a VPC's agent comes.
      return socket.pause();
    },
  });
  const admin = server.localClient({ name: 'admin', groups: ['system:masters'] });
  await admin.create(r.serviceaccounts, { metadata: { namespace: 'default', name: 'default' } } as any);
  for (const [name, address] of [
    ['n1', '10.1.2.3'],
    ['n2', '10.9.9.9'],
  ]) {
    await admin.create(r.nodes, { metadata: { name } } as any);
    await admin.patch(
      r.nodes,
      { name: name! },
      'merge',
      { status: { addresses: [{ type: 'InternalIP', address }], daemonEndpoints: { kubeletEndpoint: { Port: 10250 } } } },
      { subresource: 'status' },
    );
  }
  const pod = (name: string, nodeName: string | undefined, containers: string[]) =>
    admin.create(r.pods, {
      metadata: { namespace: 'default', name },
      spec: { ...(nodeName ? { nodeName } : {}), containers: containers.map((c) => ({ name: c, image: 'i' })) },
    } as any);
  await pod('one', 'n1', ['c']);
  await pod('two', 'n1', ['a', 'b']);
  await pod('far', 'n2', ['c']);
  await pod('nowhere', undefined, ['c']);
  await admin.patch(r.pods, { namespace: 'default', name: 'one' }, 'merge', { status: { podIP: '10.244.1.7' } }, { subresource: 'status' });
  await admin.create(r.services, {
    metadata: { namespace: 'default', name: 'svc' },
    spec: { ports: [{ name: 'http', port: 80, targetPort: 8080 }] },
  } as any);
  await admin.create(r.endpointslices, {
    metadata: { namespace: 'default', name: 'svc-1', labels: { 'kubernetes.io/service-name': 'svc' } },
    addressType: 'IPv4',
    endpoints: [{ addresses: ['10.244.1.7'], conditions: { ready: true } }],
    ports: [{ name: 'http', port: 8080, protocol: 'TCP' }],
  } as any);
  await admin.list(r.endpointslices, {});
});
afterAll(async () => {
  await server?.stop();
  kubelet?.closeAllConnections();
  kubelet?.close();
  backend?.close();
});

const get = (path: string) => requestOverHttp2(server, { path, user: server.admin });

describe('pods/log', () => {
  test('comes from the kubelet, without the client`s credentials', async () => {
    const answer = await get('/api/v1/namespaces/default/pods/one/log?tailLines=5&timestamps=true');
    expect(answer.body.toString()).toBe('kubelet GET /containerLogs/default/one/c?timestamps=true&tailLines=5 auth=none');
    expect(dialled).toContain('10.1.2.3:10250');
  });

  test('streams what comes later', async () => {
    expect((await get('/api/v1/namespaces/default/pods/one/log?follow=true')).body.toString()).toBe('one\ntwo\n');
  });

  test('needs a container where there are several, and one that exists', async () => {
    expect((await get('/api/v1/namespaces/default/pods/two/log')).json.message).toBe(
      'a container name must be specified for pod two, choose one of: [a b]',
    );
    expect((await get('/api/v1/namespaces/default/pods/two/log?container=x')).json.message).toBe('container x is not valid for pod two');
    expect((await get('/api/v1/namespaces/default/pods/none/log')).status).toBe(404);
    expect((await get('/api/v1/namespaces/default/pods/nowhere/log')).body.toString()).toBe('');
  });

  test('a kubelet that cannot be reached is named', async () => {
    const answer = await get('/api/v1/namespaces/default/pods/far/log');
    expect(answer.status).toBe(502);
    expect(answer.json.message).toBe('error dialing backend: dial tcp 10.9.9.9:10250: no route to host');
  });
});

describe('upgrades', () => {
  const open = (path: string, headers: Record<string, string> = {}, user = server.admin) =>
    new WebSocket(`wss://127.0.0.1:${server.port}${path}`, ['v5.channel.k8s.io'], { ca: server.ca, ...user, headers });

  test('exec is joined to the kubelet, byte by byte', async () => {
    const socket = open('/api/v1/namespaces/default/pods/one/exec?command=sh&command=-c&stdin=true&stdout=true&tty=true');
    try {
      const path = await new Promise((resolve, reject) => {
        socket.once('message', (data) => resolve(String(data)));
        socket.once('error', reject);
      });
      expect(path).toBe('path /exec/default/one/c?input=1&output=1&tty=1&command=sh&command=-c');
      expect(socket.protocol).toBe('v5.channel.k8s.io');
      const echo = new Promise((resolve) => socket.once('message', (data) => resolve(data)));
      const sent = Buffer.concat([Buffer.from([0]), Buffer.alloc(100_000, 7)]);
      socket.send(sent);
      expect(Buffer.from((await echo) as Buffer).equals(sent)).toBe(true);
    } finally {
      socket.terminate();
    }
  });

  test('a log comes over a WebSocket too, in messages of bytes or base64, and the end of one closes it', async () => {
    const user = await server.authority.issue({ commonName: 'root', organizations: ['system:masters'] });
    const read = async (protocols: string[]) => {
      const path = '/api/v1/namespaces/default/pods/one/log?follow=true';
      const socket = new WebSocket(`wss://127.0.0.1:${server.port}${path}`, protocols, { ca: server.ca, ...user });
      const messages: string[] = [];
      socket.on('message', (data) => messages.push(String(data)));
      const [code] = await once(socket, 'close');
      return { code, protocol: socket.protocol, messages };
    };
    expect(await read(['binary.k8s.io'])).toEqual({ code: 1000, protocol: 'binary.k8s.io', messages: ['', 'one\n', 'two\n'] });
    expect(await read(['other', 'base64.binary.k8s.io'])).toMatchObject({ protocol: 'base64.binary.k8s.io', messages: ['', 'b25lCg==', 'dHdvCg=='] });
    expect(await read([])).toMatchObject({ messages: ['', 'one\n', 'two\n'] });
    await expect(read(['v5.channel.k8s.io'])).rejects.toThrow('Unexpected server response: 400');
  });

  const refusedWith = (socket: WebSocket) =>
    new Promise<any>((resolve, reject) => {
      socket.on('unexpected-response', (_request, response) => {
        let text = '';
        response.on('data', (c: Buffer) => {
          text += c;
        });
        response.on('end', () => resolve(JSON.parse(text)));
      });
      socket.on('open', () => reject(new Error('it was let through')));
      socket.on('error', reject);
    });

  test('who may only get must not exec', async () => {
    const admin = server.localClient({ name: 'admin', groups: ['system:masters'] });
    await admin.create(r.clusterroles, {
      metadata: { name: 'exec-getter' },
      rules: [{ apiGroups: [''], resources: ['pods/exec'], verbs: ['get'] }],
    } as any);
    await admin.create(r.clusterrolebindings, {
      metadata: { name: 'exec-getter' },
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'exec-getter' },
      subjects: [{ apiGroup: 'rbac.authorization.k8s.io', kind: 'User', name: 'getter' }],
    } as any);
    await admin.list(r.clusterrolebindings, {});
    const user = await server.authority.issue({ commonName: 'getter' });
    const status = await refusedWith(open('/api/v1/namespaces/default/pods/one/exec?command=sh', {}, user));
    expect(status.message).toBe(
      'pods "one" is forbidden: User "getter" cannot create resource "pods/exec" in API group "" in the namespace "default"',
    );
  });

  test('errors are answered as a Status', async () => {
    expect((await refusedWith(open('/api/v1/namespaces/default/pods/nowhere/exec?command=sh'))).message).toBe(
      'pod nowhere does not have a host assigned',
    );
    expect((await refusedWith(open('/api/v1/namespaces/default/pods/one/exec'))).message).toBe(
      'you must specify at least one command for the container',
    );
  });

  test('without an upgrade exec is a bad request', async () => {
    expect(
      (await requestOverHttp1(server, { method: 'POST', path: '/api/v1/namespaces/default/pods/one/exec?command=sh', user: server.admin })).json
        .message,
    ).toBe('Upgrade request required');
  });
});

describe('proxies', () => {
  test('to a pod, a service and a node', async () => {
    expect((await get('/api/v1/namespaces/default/pods/one:8080/proxy/a/b?c=d')).body.toString()).toBe('backend GET /a/b?c=d ');
    expect(dialled).toContain('10.244.1.7:8080');
    const posted = await requestOverHttp2(server, {
      method: 'POST',
      path: '/api/v1/namespaces/default/services/svc:http/proxy/x',
      user: server.admin,
      body: 'hello',
    });
    expect(posted.body.toString()).toBe('backend POST /x hello');
    const page = await get('/api/v1/namespaces/default/pods/one:8080/proxy/page');
    expect(page.body.toString()).toBe('<a href="/api/v1/namespaces/default/pods/one:8080/proxy/next">next</a>');
    const moved = await get('/api/v1/namespaces/default/pods/one:8080/proxy?a=b');
    expect([moved.status, moved.headers['location']]).toEqual([301, '/api/v1/namespaces/default/pods/one:8080/proxy/?a=b']);
    expect((await get('/api/v1/nodes/n1/proxy/healthz')).body.toString()).toBe('kubelet GET /healthz auth=none');
  });

  test('a service without endpoints', async () => {
    expect((await get('/api/v1/namespaces/default/services/kubernetes/proxy/')).json.message).toBe('no endpoints available for service "kubernetes"');
  });
});
