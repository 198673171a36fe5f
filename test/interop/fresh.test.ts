import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startTestServer, type TestServer } from '../../src/apiserver/testing.ts';
import { Connection } from './connection.ts';
import { missingPeers, type Peer, startPeer } from './peer.ts';

const missing = missingPeers('etcd', 'kube-apiserver');
if (missing) console.warn(`skipped, the comparison of fresh servers: ${missing}`);

/** Every object of every kind, by path; without what chance and the clock give it, but with who its fields are recorded for. */
async function everything(connection: Connection): Promise<Map<string, any>> {
  const found = new Map<string, any>();
  const get = async (path: string) => (await connection.send({ method: 'GET', path })).json;
  const { groups } = await get('/apis');
  for (const path of ['/api/v1', ...groups.map((g: any) => `/apis/${g.preferredVersion.groupVersion}`)]) {
    for (const { name: resource, verbs } of (await get(path)).resources) {
      if (!verbs.includes('list') || resource.includes('/')) continue;
      for (const item of (await get(`${path}/${resource}`)).items ?? []) {
        const { uid: _u, creationTimestamp: _c, resourceVersion: _r, managedFields, ...metadata } = item.metadata;
        const managers = managedFields?.map((f: any) => [f.manager, f.operation, f.subresource, f.fieldsV1]).sort();
        for (const condition of item.status?.conditions ?? []) delete condition.lastTransitionTime;
        found.set(`${path}/${resource} ${metadata.namespace ?? ''}/${metadata.name}`, { ...item, metadata: { ...metadata, managers } });
      }
    }
  }
  return found;
}

/** Where a fresh server of ours has something else, and why. */
const known: [pattern: RegExp, why: string][] = [
  [/^\/api\/v1\/componentstatuses /, 'upstream looks for a scheduler and a controller-manager on fixed ports of its machine'],
  [/\/leases kube-system\/apiserver-/, 'a server of ours has no identity lease'],
  [/\/apiservices \/(v1alpha1\.lifecycle|(v1alpha3|v1beta1)\.scheduling)\.k8s\.io$/, 'upstream serves these versions only with their features'],
  [/^\/apis\/flowcontrol\.apiserver\.k8s\.io\/v1\//, 'suggested and mandatory flow schemas'],
];
/** Their rules are filled by a controller upstream, at start by ours. */
const aggregated = new Set(['admin', 'edit', 'view'].map((name) => `/apis/rbac.authorization.k8s.io/v1/clusterroles /${name}`));

describe.skipIf(missing)('a fresh server has what a fresh one of upstream has', () => {
  let server: TestServer;
  let peer: Peer;
  let ours: Connection;
  beforeAll(async () => {
    [server, peer] = await Promise.all([startTestServer({ runtimeConfig: { 'api/all': true } }), startPeer()]);
    ours = new Connection(server.address, { ca: server.ca, ...server.admin });
  });
  afterAll(async () => {
    ours?.close();
    await server?.stop();
    await peer?.stop();
  });

  test('all objects of all kinds', async () => {
    let mine = new Map<string, any>();
    let theirs = new Map<string, any>();
    // APIServices' conditions come a moment after readyz on both.
    const settled = (all: Map<string, any>) =>
      [...all].some(([id]) => id.includes('/apiservices ')) && [...all].every(([id, o]) => !id.includes('/apiservices ') || o.status?.conditions?.length);
    await expect
      .poll(
        async () => {
          [mine, theirs] = await Promise.all([everything(ours), everything(peer.connection)]);
          return settled(mine) && settled(theirs);
        },
        { timeout: 30_000, interval: 500 },
      )
      .toBe(true);
    const hidden = (id: string) => known.some(([pattern]) => pattern.test(id));
    const ids = (all: Map<string, any>) => [...all.keys()].filter((id) => !hidden(id)).sort();
    expect(ids(mine)).toEqual(ids(theirs));
    for (const id of ids(theirs)) {
      const [own, other] = [mine.get(id), theirs.get(id)];
      if (id.endsWith('configmaps kube-system/extension-apiserver-authentication')) {
        expect(Object.keys(own.data)).toEqual(Object.keys(other.data));
        continue;
      }
      if (id.endsWith('/services default/kubernetes')) for (const o of [own, other]) o.spec.ports[0].targetPort = 0;
      if (aggregated.has(id)) for (const o of [own, other]) delete o.rules;
      if (aggregated.has(id)) for (const o of [own, other]) delete o.metadata.managers;
      expect.soft(own, id).toEqual(other);
    }
  });

  test('an APIService of custom resources that is deleted comes back, a built-in one does not', async () => {
    const services = '/apis/apiregistration.k8s.io/v1/apiservices';
    const definition = {
      apiVersion: 'apiextensions.k8s.io/v1',
      kind: 'CustomResourceDefinition',
      metadata: { name: 'widgets.fresh.example.com' },
      spec: {
        group: 'fresh.example.com',
        scope: 'Namespaced',
        names: { plural: 'widgets', singular: 'widget', kind: 'Widget' },
        versions: [{ name: 'v1', served: true, storage: true, schema: { openAPIV3Schema: { type: 'object' } } }],
      },
    };
    for (const connection of [ours, peer.connection]) {
      const send = (method: string, path: string, body?: object) => connection.send({ method, path, ...(body ? { body } : {}) });
      expect((await send('POST', '/apis/apiextensions.k8s.io/v1/customresourcedefinitions', definition)).status).toBe(201);
      const available = async () => {
        const { json } = await send('GET', `${services}/v1.fresh.example.com`);
        return json.status?.conditions?.[0]?.reason === 'Local' ? json.metadata.uid : undefined;
      };
      await expect.poll(available, { timeout: 30_000, interval: 100 }).toBeDefined();
      const before = await available();
      expect((await send('DELETE', `${services}/v1.apps`)).status).toBe(200);
      expect((await send('DELETE', `${services}/v1.fresh.example.com`)).status).toBe(200);
      await expect.poll(async () => ((await available()) ?? before) !== before, { timeout: 30_000, interval: 100 }).toBe(true);
      expect((await send('GET', `${services}/v1.apps`)).status).toBe(404);
    }
  });
});
