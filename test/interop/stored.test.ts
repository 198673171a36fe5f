/** Upstream's API server and ours on one etcd: each reads what the other has written, in whatever version it is kept. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startTestServer, type TestServer } from '../../src/apiserver/testing.ts';
import { openEtcdStore } from '../../src/store/etcd.ts';
import type { Store } from '../../src/store/store.ts';
import { Connection } from './connection.ts';
import { missingPeers, type Peer, startPeer } from './peer.ts';

const missing = missingPeers('etcd', 'kube-apiserver');
if (missing) console.warn(`skipped, what each has stored for the other: ${missing}`);

describe.skipIf(missing)('on one etcd', () => {
  let peer: Peer;
  let store: Store;
  let server: TestServer;
  let ours: Connection;
  beforeAll(async () => {
    // As it serves by default.
    peer = await startPeer([], 'api/ga=true');
    store = await openEtcdStore({ endpoints: [peer.etcd] });
    server = await startTestServer({ store });
    ours = new Connection(server.address, { ca: server.ca, ...server.admin });
  });
  afterAll(async () => {
    ours?.close();
    await server?.stop();
    await store?.close();
    await peer?.stop();
  });

  const schema = { openAPIV3Schema: { type: 'object', properties: { a: { type: 'string' } } } };
  const version = (name: string, storage: boolean) => ({
    ...{ name, served: true, storage, schema, subresources: { status: {} } },
    additionalPrinterColumns: [{ name: 'A', type: 'string', jsonPath: '.a' }],
  });
  const definition = (name: string, versions: object[]) => ({
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: { name: `${name}s.example.com` },
    spec: { group: 'example.com', scope: 'Namespaced', names: { plural: `${name}s`, singular: name, kind: name, listKind: `${name}List` }, versions, conversion: { strategy: 'None' } },
  });
  const taint = { device: { driver: 'example.com', device: 'd', pool: 'p' }, taint: { key: 'k', value: 'v', effect: 'NoSchedule' } };
  const kinds: [path: string, make: (by: string) => any][] = [
    ['/apis/certificates.k8s.io/v1/clustertrustbundles', (by) => ({ metadata: { name: `bundle-${by}` }, spec: { trustBundle: peer.tls.ca } })],
    ['/apis/storagemigration.k8s.io/v1/storageversionmigrations', (by) => ({ metadata: { name: `migration-${by}` }, spec: { resource: { group: 'apps', resource: 'deployments' } } })],
    ['/apis/resource.k8s.io/v1/devicetaintrules', (by) => ({ metadata: { name: `rule-${by}` }, spec: { deviceSelector: { driver: 'example.com' }, taint: taint.taint } })],
    ['/apis/apiextensions.k8s.io/v1/customresourcedefinitions', (by) => definition(`one${by}`, [version('v1', true)])],
    ['/apis/apiextensions.k8s.io/v1/customresourcedefinitions', (by) => definition(`two${by}`, [version('v1', true), { ...version('v2', false), additionalPrinterColumns: [] }])],
    ['/apis/apps/v1/namespaces/default/controllerrevisions', (by) => ({ metadata: { name: `revision-${by}` }, revision: 1, data: { a: 'b' } })],
    ['/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers', (by) => ({ metadata: { name: `hpa-${by}` }, spec: { maxReplicas: 3, scaleTargetRef: { kind: 'Deployment', name: 'd', apiVersion: 'apps/v1' }, targetCPUUtilizationPercentage: 50 } })],
  ];

  test('both serve the same versions by default', async () => {
    const versionsOf = async (c: Connection) => {
      const { groups } = (await c.send({ method: 'GET', path: '/apis' })).json;
      return groups.flatMap((g: any) => g.versions.map((v: any) => v.groupVersion)).sort();
    };
    expect(await versionsOf(ours)).toEqual(await versionsOf(peer.connection));
  });

  test.each(kinds)('%s', async (path, make) => {
    const sides: [string, Connection, Connection][] = [['theirs', peer.connection, ours], ['ours', ours, peer.connection]];
    for (const [by, writer, reader] of sides) {
      const made = await writer.send({ method: 'POST', path, body: make(by) });
      // Features that are off upstream are no matter of storage.
      if (by === 'theirs' && made.status === 404) return;
      expect(made.status, JSON.stringify(made.json)).toBe(201);
      const at = `${path}/${made.json.metadata.name}`;
      const read = async (c: Connection) => {
        const { metadata, spec, apiVersion, revision, data } = (await c.send({ method: 'GET', path: at })).json;
        return { apiVersion, spec, revision, data, uid: metadata?.uid };
      };
      await expect.poll(async () => (await read(reader)).uid, { timeout: 10_000 }).toBe(made.json.metadata.uid);
      expect(await read(reader)).toEqual(await read(writer));
    }
  });
});
