import { createServer, request as httpsRequest, type Server } from 'node:https';
import type { Duplex } from 'node:stream';
import { type AddressInfo, connect } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { afterAll, beforeAll, expect, test } from 'vitest';
import * as resources from '../../../api/generated/resources.ts';
import type { Client } from '../../../client/client.ts';
import { createTestAuthority, requestOverHttp1, startTestServer, type TestAuthority, type TestServer } from '../../testing.ts';

let server: TestServer;
let client: Client;
let remote: Server;
let remotePort = 0;
let authority: TestAuthority;
const seen: { path: string; headers: Record<string, any>; client: string | undefined }[] = [];
const type = (kind: string): any => resources.builtinResources.find((r) => r.kind === kind);
const apiServices = type('APIService');

const wardle = {
  kind: 'APIResourceList',
  apiVersion: 'v1',
  groupVersion: 'wardle.example.com/v1alpha1',
  resources: [
    { name: 'flunders', singularName: 'flunder', namespaced: true, kind: 'Flunder', verbs: ['get', 'list', 'create'], shortNames: ['fl'] },
    { name: 'flunders/status', singularName: '', namespaced: true, kind: 'Flunder', verbs: ['get'] },
  ],
};

beforeAll(async () => {
  authority = await createTestAuthority();
  const own = await authority.issue({ commonName: 'wardle', hosts: ['api.wardle.svc'], server: true });
  remote = createServer({ ...own, ca: authority.cert, requestCert: true, rejectUnauthorized: false }, (request, response) => {
    const path = request.url ?? '';
    seen.push({ path, headers: request.headers, client: (request.socket as TLSSocket).getPeerCertificate().subject?.CN as string | undefined });
    const answer = (status: number, body: object) => {
      response.writeHead(status, { 'content-type': 'application/json' });
      response.end(JSON.stringify(body));
    };
    if (path === '/apis/wardle.example.com/v1alpha1') return answer(200, wardle);
    if (path.startsWith('/apis/wardle.example.com/v1alpha1/namespaces/default/flunders')) return answer(200, { kind: 'FlunderList', items: [], path });
    if (path.startsWith('/openapi/v2')) return answer(200, { paths: { '/apis/wardle.example.com/v1alpha1/flunders': { get: {} } }, definitions: { 'wardle.Flunder': { type: 'object' } } });
    return answer(404, { kind: 'Status', code: 404 });
  });
  remote.on('upgrade', (request, socket, head) => {
    seen.push({ path: request.url ?? '', headers: request.headers, client: undefined });
    socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n');
    if (head.length) socket.write(head);
    socket.pipe(socket);
  });
  await new Promise<void>((resolve) => {
    remote.listen(0, '127.0.0.1', resolve);
  });
  remotePort = (remote.address() as AddressInfo).port;
  const frontProxy = await authority.issue({ commonName: 'front-proxy-client' });
  server = await startTestServer({
    frontProxy: { ...frontProxy, ca: authority.cert },
    dial: async (host, port) => (host === '10.0.0.7' ? connect(remotePort, '127.0.0.1') : connect(port, host)),
  });
  client = server.localClient({ name: 'tester', groups: ['system:masters'] });
});
afterAll(async () => {
  await server?.stop();
  remote?.closeAllConnections();
  remote?.close();
});

const get = async (path: string, headers: Record<string, string> = {}) => requestOverHttp1(server, { path, user: server.admin, headers });
const upgradeOf = (path: string, headers: Record<string, string>) =>
  new Promise<{ status: number; socket?: Duplex }>((resolve, reject) => {
    const request = httpsRequest({
      host: '127.0.0.1',
      port: server.port,
      path,
      headers: { connection: 'Upgrade', upgrade: 'echo', ...headers },
      ca: server.ca,
      agent: false,
      ...server.admin,
    });
    request.on('error', reject);
    request.on('response', (response) => resolve({ status: response.statusCode ?? 0 }));
    request.on('upgrade', (response, socket) => resolve({ status: response.statusCode ?? 0, socket }));
    request.end();
  });
const available = async (name: string) => ((await client.get(apiServices, { name })) as any).status?.conditions?.find((c: any) => c.type === 'Available');

test('what this server serves itself is registered as local', async () => {
  await expect.poll(() => available('v1.apps').catch(() => undefined)).toMatchObject({ status: 'True', reason: 'Local' });
  expect(((await client.get(apiServices, { name: 'v2.autoscaling' })) as any).spec).toEqual({ group: 'autoscaling', version: 'v2', groupPriorityMinimum: 17500, versionPriority: 30 });
});

test('a group behind a service is passed on once it is available', async () => {
  await client.create(apiServices, {
    metadata: { name: 'v1alpha1.wardle.example.com' },
    spec: {
      group: 'wardle.example.com',
      version: 'v1alpha1',
      groupPriorityMinimum: 2000,
      versionPriority: 200,
      caBundle: Buffer.from(authority.cert).toString('base64'),
      service: { namespace: 'wardle', name: 'api' },
    },
  } as any);
  await expect.poll(() => available('v1alpha1.wardle.example.com')).toMatchObject({ status: 'False', reason: 'ServiceNotFound', message: 'service/api in "wardle" is not present' });
  expect((await get('/apis/wardle.example.com/v1alpha1/namespaces/default/flunders')).status).toBe(503);
  expect((await upgradeOf('/apis/wardle.example.com/v1alpha1/namespaces/default/flunders/one/console', {})).status).toBe(503);

  await client.create(type('Namespace'), { metadata: { name: 'wardle' } } as any);
  await client.create(type('Service'), { metadata: { name: 'api', namespace: 'wardle' }, spec: { ports: [{ port: 443 }] } } as any);
  await client.create(type('EndpointSlice'), {
    metadata: { name: 'api-1', namespace: 'wardle', labels: { 'kubernetes.io/service-name': 'api' } },
    addressType: 'IPv4',
    ports: [{ port: 8443 }],
    endpoints: [{ addresses: ['10.0.0.7'], conditions: { ready: true } }],
  } as any);
  await expect.poll(() => available('v1alpha1.wardle.example.com'), { timeout: 10_000 }).toMatchObject({ status: 'True', reason: 'Passed' });

  const answer = await get('/apis/wardle.example.com/v1alpha1/namespaces/default/flunders?limit=5', { 'x-remote-user': 'mallory', 'impersonate-user': 'jane', 'impersonate-group': 'system:masters' });
  expect(answer.status).toBe(200);
  expect(answer.json.path).toBe('/apis/wardle.example.com/v1alpha1/namespaces/default/flunders?limit=5');
  const request = seen.at(-1)!;
  expect(request.client).toBe('front-proxy-client');
  expect(request.headers).toMatchObject({ 'x-remote-user': 'jane', 'x-remote-group': expect.stringContaining('system:masters') });
  expect(request.headers['authorization']).toBeUndefined();
});

test('a connection that changes its protocol is joined to the server', async () => {
  const path = '/apis/wardle.example.com/v1alpha1/namespaces/default/flunders/one/console?tty=true';
  const answer = await upgradeOf(path, { 'x-remote-user': 'mallory' });
  expect(answer.status).toBe(101);
  const echoed = new Promise<string>((resolve) => {
    answer.socket!.once('data', (chunk: Buffer) => resolve(chunk.toString()));
  });
  answer.socket!.write('hello');
  expect(await echoed).toBe('hello');
  answer.socket!.destroy();
  const request = seen.at(-1)!;
  expect(request.path).toBe(path);
  expect(request.headers).toMatchObject({ upgrade: 'echo', host: 'api.wardle.svc', 'x-remote-user': 'kubernetes-admin' });
  expect(request.headers['authorization']).toBeUndefined();
});

test('its discovery and OpenAPI are part of this server\'s', async () => {
  const groups = (await get('/apis')).json.groups;
  expect(groups.find((g: any) => g.name === 'wardle.example.com')).toEqual({
    name: 'wardle.example.com',
    versions: [{ groupVersion: 'wardle.example.com/v1alpha1', version: 'v1alpha1' }],
    preferredVersion: { groupVersion: 'wardle.example.com/v1alpha1', version: 'v1alpha1' },
  });
  const aggregated = (await get('/apis', { accept: 'application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList' })).json.items.find(
    (i: any) => i.metadata.name === 'wardle.example.com',
  );
  expect(aggregated.versions[0]).toMatchObject({ version: 'v1alpha1', freshness: 'Current', resources: [{ resource: 'flunders', scope: 'Namespaced', shortNames: ['fl'], subresources: [{ subresource: 'status' }] }] });
  expect((await get('/apis/wardle.example.com')).json.kind).toBe('APIGroup');
  expect((await get('/apis/wardle.example.com/v1alpha1')).json.resources).toHaveLength(2);
  const openapi = (await get('/openapi/v2')).json;
  expect(openapi.definitions['wardle.Flunder']).toEqual({ type: 'object' });
  expect(openapi.paths['/apis/wardle.example.com/v1alpha1/flunders']).toBeDefined();
});

test('a group goes with its APIService', async () => {
  await client.delete(apiServices, { name: 'v1alpha1.wardle.example.com' });
  await expect.poll(async () => (await get('/apis/wardle.example.com')).status).toBe(404);
});

test('groups of custom resources come and go as APIServices', async () => {
  const crds = type('CustomResourceDefinition');
  await client.create(crds, {
    metadata: { name: 'things.agg.example.com' },
    spec: {
      group: 'agg.example.com',
      scope: 'Namespaced',
      names: { plural: 'things', kind: 'Thing' },
      versions: [{ name: 'v1', served: true, storage: true, schema: { openAPIV3Schema: { type: 'object' } } }],
    },
  } as any);
  await expect.poll(() => available('v1.agg.example.com').catch(() => undefined)).toMatchObject({ reason: 'Local' });
  await client.delete(crds, { name: 'things.agg.example.com' });
  await expect.poll(() => available('v1.agg.example.com').catch((e) => e.status.reason)).toBe('NotFound');
});

test('an API server behind this one can learn how it tells of users', async () => {
  const config = (await client.get(type('ConfigMap'), { namespace: 'kube-system', name: 'extension-apiserver-authentication' })) as any;
  expect(config.data['requestheader-allowed-names']).toBe('["front-proxy-client"]');
  expect(config.data['requestheader-client-ca-file']).toContain('BEGIN CERTIFICATE');
});
