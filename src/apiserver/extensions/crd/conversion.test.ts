import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import * as resources from '../../../api/generated/resources.ts';
import type { ResourceType } from '../../../api/object.ts';
import type { Client, WatchEvent } from '../../../client/client.ts';
import { openMemoryStore } from '../../../store/memory.ts';
import { requestOverHttp1, startTestServer, type TestServer } from '../../testing.ts';
import { startTestWebhook, type TestWebhook } from '../webhooks/testing.ts';

const store = openMemoryStore();
let server: TestServer;
let hook: TestWebhook;
let client: Client;
const crds: any = resources.builtinResources.find((r) => r.kind === 'CustomResourceDefinition');
const type = (version: string): ResourceType<any> => ({ group: 'conv.example.com', version, resource: 'addresses', kind: 'Address', namespaced: true });
const v1 = type('v1');
const v2 = type('v2');

/** v1 has host:port in one text, v2 in two fields. */
function convert(object: any, to: string): any {
  const { hostPort, host, port, ...rest } = object;
  const [h, p] = (hostPort ?? '').split(':');
  return to.endsWith('/v2') ? { ...rest, apiVersion: to, host: h, port: p } : { ...rest, apiVersion: to, hostPort: `${host}:${port}` };
}

const definition = (storage: string) => ({
  metadata: { name: 'addresses.conv.example.com' },
  spec: {
    group: 'conv.example.com',
    scope: 'Namespaced',
    names: { plural: 'addresses', singular: 'address', kind: 'Address' },
    conversion: {
      strategy: 'Webhook',
      webhook: { conversionReviewVersions: ['v1'], clientConfig: { url: hook.url('/convert'), caBundle: hook.caBundle } },
    },
    versions: [
      {
        name: 'v1',
        served: true,
        storage: storage === 'v1',
        selectableFields: [{ jsonPath: '.hostPort' }],
        schema: { openAPIV3Schema: { type: 'object', properties: { hostPort: { type: 'string' } } } },
      },
      {
        name: 'v2',
        served: true,
        storage: storage === 'v2',
        schema: { openAPIV3Schema: { type: 'object', properties: { host: { type: 'string' }, port: { type: 'string' }, extra: { type: 'string', default: 'none' } } } },
      },
    ],
  },
});

async function start(): Promise<void> {
  server = await startTestServer({ store });
  client = server.localClient({ name: 'tester', groups: ['system:masters'] });
}

beforeAll(async () => {
  await start();
  hook = await startTestWebhook(server.authority, {
    '/convert': (body) => ({
      apiVersion: body.apiVersion,
      kind: body.kind,
      response: {
        uid: body.request.uid,
        result: { status: 'Success' },
        convertedObjects: body.request.objects.map((o: any) => convert(o, body.request.desiredAPIVersion)),
      },
    }),
  });
  await client.create(crds, definition('v1') as any);
  await vi.waitFor(() => client.list(v1));
});
afterAll(async () => {
  await hook?.close();
  await server?.stop();
  await store.close();
});

const make = (t: ResourceType<any>, name: string, fields: object) =>
  client.create(t, { apiVersion: `conv.example.com/${t.version}`, kind: 'Address', metadata: { name, namespace: 'default' }, ...fields } as any) as Promise<any>;
const key = (name: string) => ({ namespace: 'default', name });

test('an object written in one version is read in another', async () => {
  await make(v1, 'one', { hostPort: 'a:1' });
  expect(await client.get(v2, key('one'))).toMatchObject({ apiVersion: 'conv.example.com/v2', host: 'a', port: '1' });
  const two = await make(v2, 'two', { host: 'b', port: '2' });
  expect(two).toMatchObject({ apiVersion: 'conv.example.com/v2', host: 'b' });
  expect(await client.get(v1, key('two'))).toMatchObject({ hostPort: 'b:2' });
});

test('lists and field selectors go by the version that is asked for', async () => {
  expect((await client.list(v2)).items.map((o) => o.host)).toEqual(['a', 'b']);
  expect((await client.list(v1, { fieldSelector: 'hostPort=b:2' })).items.map((o) => o.metadata.name)).toEqual(['two']);
});

test('updates and patches in another version than the stored one', async () => {
  const object = structuredClone(await client.get(v2, key('one'))) as any;
  object.port = '9';
  expect(await client.update(v2, object)).toMatchObject({ port: '9' });
  expect(await client.patch(v2, key('one'), 'merge', { host: 'c' })).toMatchObject({ host: 'c', port: '9' });
  expect(await client.get(v1, key('one'))).toMatchObject({ hostPort: 'c:9' });
});

test('watches deliver converted objects in order', async () => {
  const stop = new AbortController();
  const seen: string[] = [];
  const watching = (async () => {
    for await (const event of client.watch(v2, { resourceVersion: (await client.list(v2)).metadata.resourceVersion, signal: stop.signal })) {
      const { type: kind, object } = event as WatchEvent<any>;
      seen.push(`${kind} ${object.metadata.name} ${object.host}:${object.port}`);
      if (kind === 'DELETED') return;
    }
  })();
  await make(v1, 'three', { hostPort: 'd:4' });
  await client.patch(v1, key('three'), 'merge', { hostPort: 'd:5' });
  await client.delete(v1, key('three'));
  await watching;
  stop.abort();
  expect(seen).toEqual(['ADDED three d:4', 'MODIFIED three d:5', 'DELETED three d:5']);
});

test('who owns what is known across versions that only the webhook can compare', async () => {
  const path = (v: string) => `/apis/conv.example.com/${v}/namespaces/default/addresses/owned`;
  const patch = (v: string, manager: string, type: string, body: object) =>
    requestOverHttp1(server, { method: 'PATCH', path: `${path(v)}?fieldManager=${manager}`, user: server.admin, headers: { 'content-type': `application/${type}` }, body: JSON.stringify(body) });
  const apply = (v: string, manager: string, fields: object) => patch(v, manager, 'apply-patch+yaml', { apiVersion: `conv.example.com/${v}`, kind: 'Address', metadata: { name: 'owned' }, ...fields });
  const owners = (o: any) => Object.fromEntries(o.metadata.managedFields.map((f: any) => [`${f.manager} ${f.operation} ${f.apiVersion.split('/')[1]}`, Object.keys(f.fieldsV1)]));
  expect((await apply('v1', 'first', { hostPort: 'a:1' })).status).toBe(201);
  // Another version's parts of the same: the owner of the whole is in the way, and is told of in its own version.
  const refused = await apply('v2', 'second', { host: 'b' });
  expect(refused.status).toBe(409);
  expect(refused.json.details.causes).toEqual([{ reason: 'FieldManagerConflict', message: 'conflict with "first"', field: '.hostPort' }]);
  // The same value is no conflict.
  const shared = await apply('v2', 'second', { host: 'a' });
  expect([shared.status, owners(shared.json)]).toEqual([200, { 'first Apply v1': ['f:hostPort'], 'second Apply v2': ['f:host'] }]);
  // What another changes is its own from then on, and nobody's in the version where it was part of something.
  const taken = await patch('v2', 'third', 'merge-patch+json', { port: '7' });
  expect([taken.json.host, taken.json.port]).toEqual(['a', '7']);
  // Defaults of its version came with it: what is converted has none.
  expect(owners(taken.json)).toEqual({ 'second Apply v2': ['f:host'], 'third Update v2': ['f:extra', 'f:port'] });
  expect((await requestOverHttp1(server, { path: path('v1'), user: server.admin })).json.hostPort).toBe('a:7');
  await client.delete(v1, key('owned'));
});

test('the storage version may change; objects stay as they were stored until they are written', async () => {
  const current = structuredClone(await client.get(crds, { name: 'addresses.conv.example.com' })) as any;
  current.spec.versions = definition('v2').spec.versions;
  const updated = (await client.update(crds, current)) as any;
  expect(updated.status.storedVersions).toEqual(['v1', 'v2']);
  await expect.poll(async () => (await make(v2, `n${Math.random().toString(36).slice(2, 8)}`, { host: 'z', port: '1' })).host).toBe('z');
  expect((await client.list(v1)).items.find((o) => o.metadata.name === 'one')).toMatchObject({ hostPort: 'c:9' });
  await expect(client.update(crds, { ...structuredClone(await client.get(crds, { name: 'addresses.conv.example.com' }) as any), spec: { ...current.spec, versions: [definition('v2').spec.versions[1]] } })).rejects.toMatchObject({
    status: { message: expect.stringContaining('status.storedVersions[0]: Invalid value: "v1": missing from spec.versions') },
  });
});

test('a webhook that fails is told of', async () => {
  const path = '/apis/conv.example.com/v1/namespaces/default/addresses';
  await hook.close();
  await make(v2, 'unread', { host: 'q', port: '1' });
  const answer = await requestOverHttp1(server, { path: `${path}/unread`, user: server.admin });
  expect(answer.status).toBe(500);
  expect(answer.json.message).toMatch(/^conversion webhook for conv.example.com\/v2, Kind=Address failed: Post "https:\/\/127.0.0.1:\d+\/convert\?timeout=30s": dial tcp: connect: connection refused$/);
});

test('a server that starts anew serves what is stored', async () => {
  await server.stop();
  await start();
  expect((await client.get(v2, key('unread'))) as any).toMatchObject({ host: 'q' });
  const groups = (await requestOverHttp1(server, { path: '/apis/conv.example.com', user: server.admin })).json;
  expect(groups.preferredVersion.version).toBe('v2');
});
