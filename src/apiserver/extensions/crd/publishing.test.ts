import { afterAll, beforeAll, expect, test } from 'vitest';
import * as resources from '../../../api/generated/resources.ts';
import type { Client } from '../../../client/client.ts';
import { openMemoryStore } from '../../../store/memory.ts';
import { requestOverHttp1, startTestServer, type TestServer } from '../../testing.ts';

// What the conformance tests of upstream named "CustomResourcePublishOpenAPI" and "Simple CustomResourceDefinition" ask for, on two API
// servers over one store: definitions are made on the first and looked for on both.

const store = openMemoryStore();
let first: TestServer;
let second: TestServer;
let client: Client;
const crds: any = resources.builtinResources.find((r) => r.kind === 'CustomResourceDefinition');

beforeAll(async () => {
  first = await startTestServer({ store });
  second = await startTestServer({ store });
  client = first.localClient({ name: 'tester', groups: ['system:masters'] });
});
afterAll(async () => {
  await second?.stop();
  await first?.stop();
  await store.close();
});

const version = (name: string, more: object = {}) => ({
  name,
  served: true,
  storage: false,
  schema: { openAPIV3Schema: { type: 'object', description: `Foo ${name}`, properties: { spec: { type: 'object', required: ['a'], properties: { a: { type: 'string' } } } } } },
  ...more,
});
const define = (group: string, plural: string, kind: string, versions: object[]) =>
  client.create(crds, { metadata: { name: `${plural}.${group}` }, spec: { group, scope: 'Namespaced', names: { plural, kind }, versions } } as any);
const get = async (server: TestServer, path: string, headers: Record<string, string> = {}) => requestOverHttp1(server, { path, headers, user: server.admin });

/** On both servers. */
async function published(definition: string): Promise<any[]> {
  return Promise.all([first, second].map(async (server) => (await get(server, '/openapi/v2')).json.definitions[definition]));
}
const everywhere = (definition: string, there: boolean) => expect.poll(async () => (await published(definition)).map((d) => d !== undefined)).toEqual([there, there]);

test('kinds are published in both OpenAPI documents, on every server', async () => {
  await define('one.example.com', 'foos', 'Foo', [version('v1', { storage: true }), version('v2')]);
  await define('two.example.com', 'foos', 'Foo', [version('v1', { storage: true })]);
  await define('two.example.com', 'bars', 'Bar', [version('v1', { storage: true })]);
  for (const name of ['com.example.one.v1.Foo', 'com.example.one.v2.Foo', 'com.example.two.v1.Foo', 'com.example.two.v1.Bar']) await everywhere(name, true);
  for (const schema of await published('com.example.one.v2.Foo')) {
    expect(schema).toMatchObject({
      description: 'Foo v2',
      properties: { spec: { type: 'object', required: ['a'], properties: { a: { type: 'string' } } }, metadata: { $ref: '#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta' } },
      'x-kubernetes-group-version-kind': [{ group: 'one.example.com', version: 'v2', kind: 'Foo' }],
    });
  }
  for (const server of [first, second]) {
    const document = (await get(server, '/openapi/v3/apis/one.example.com/v1')).json;
    expect(document.components.schemas['com.example.one.v1.Foo'].description).toBe('Foo v1');
    expect(Object.keys(document.paths)).toContain('/apis/one.example.com/v1/namespaces/{namespace}/foos/{name}');
  }
});

test('a version that is renamed, or no longer served, is published so', async () => {
  await client.patch(crds, { name: 'foos.one.example.com' }, 'merge', { spec: { versions: [version('v1', { storage: true }), version('v3')] } });
  await everywhere('com.example.one.v3.Foo', true);
  await everywhere('com.example.one.v2.Foo', false);
  await client.patch(crds, { name: 'foos.one.example.com' }, 'merge', { spec: { versions: [version('v1', { storage: true }), version('v3', { served: false })] } });
  await everywhere('com.example.one.v3.Foo', false);
  await everywhere('com.example.one.v1.Foo', true);
  expect((await get(second, '/apis/one.example.com/v3/foos')).status).toBe(404);
});

test('unknown fields are part of what is published only where they are kept', async () => {
  await define('keep.example.com', 'anys', 'Any', [{ ...version('v1', { storage: true }), schema: { openAPIV3Schema: { type: 'object', 'x-kubernetes-preserve-unknown-fields': true } } }]);
  await define('keep.example.com', 'nested', 'Nested', [
    {
      ...version('v1', { storage: true }),
      schema: { openAPIV3Schema: { type: 'object', properties: { spec: { type: 'object', 'x-kubernetes-preserve-unknown-fields': true, properties: { a: { type: 'string' } } } } } },
    },
  ]);
  await everywhere('com.example.keep.v1.Nested', true);
  for (const any of await published('com.example.keep.v1.Any')) {
    expect(any).toEqual({ type: 'object', 'x-kubernetes-group-version-kind': [{ group: 'keep.example.com', version: 'v1', kind: 'Any' }] });
  }
  for (const nested of await published('com.example.keep.v1.Nested')) expect(nested.properties.spec).toEqual({ 'x-kubernetes-preserve-unknown-fields': true });
  const { schemas } = (await get(second, '/openapi/v3/apis/keep.example.com/v1')).json.components;
  expect(schemas['com.example.keep.v1.Any']['x-kubernetes-preserve-unknown-fields']).toBe(true);
  expect(schemas['com.example.keep.v1.Nested'].properties.spec.properties).toEqual({ a: { type: 'string' } });
});

test('objects that one server takes are seen through the other', async () => {
  const path = '/apis/two.example.com/v1/namespaces/default/bars';
  const made = await requestOverHttp1(second, {
    method: 'POST',
    path,
    user: second.admin,
    body: JSON.stringify({ apiVersion: 'two.example.com/v1', kind: 'Bar', metadata: { name: 'one' }, spec: { a: 'x', pruned: true } }),
  });
  expect(made.status).toBe(201);
  await expect.poll(async () => (await get(first, `${path}/one`)).json.spec).toEqual({ a: 'x' });
});

test('discovery of every server changes with a definition, and its ETag with it', async () => {
  const aggregated = { accept: 'application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList' };
  const before = await Promise.all([first, second].map((s) => get(s, '/apis', aggregated)));
  await client.delete(crds, { name: 'bars.two.example.com' });
  for (const [i, server] of [first, second].entries()) {
    await expect.poll(async () => (await get(server, '/apis/two.example.com/v1')).json.resources.map((r: any) => r.name)).toEqual(['foos']);
    const after = await get(server, '/apis', aggregated);
    expect(after.headers['etag']).not.toBe(before[i]!.headers['etag']);
    expect(after.json.items.find((g: any) => g.metadata.name === 'two.example.com').versions[0].resources.map((r: any) => r.resource)).toEqual(['foos']);
  }
  expect((await get(second, '/apis/two.example.com/v1/namespaces/default/bars/one')).status).toBe(404);
});

test('status of a definition is a subresource of its own', async () => {
  const name = { name: 'foos.two.example.com' };
  const { status } = (await client.get(crds, name)) as any;
  expect(status.storedVersions).toEqual(['v1']);
  const patched = (await client.patch(crds, name, 'merge', { spec: { scope: 'Cluster' }, status: { conditions: [...status.conditions, { type: 'Mine', status: 'True', reason: 'r', message: 'm' }] } }, { subresource: 'status' })) as any;
  expect(patched.spec.scope).toBe('Namespaced');
  expect(patched.status.conditions.map((c: any) => c.type)).toEqual(['NamesAccepted', 'Established', 'Mine']);
  const untouched = (await client.patch(crds, name, 'merge', { metadata: { labels: { a: 'b' } }, status: { conditions: [] } })) as any;
  expect(untouched.status.conditions).toHaveLength(3);
});
