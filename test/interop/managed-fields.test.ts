/** Who fields are recorded for when the server itself writes, and in which version: upstream's answers beside ours. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startTestServer, type TestServer } from '../../src/apiserver/testing.ts';
import { Connection } from './connection.ts';
import { missingPeers, type Peer, startPeer } from './peer.ts';

const missing = missingPeers('etcd', 'kube-apiserver');
if (missing) console.warn(`skipped, the comparison of managed fields: ${missing}`);

describe.skipIf(missing)('managed fields', () => {
  let server: TestServer;
  let peer: Peer;
  let ours: Connection;
  beforeAll(async () => {
    [server, peer] = await Promise.all([startTestServer(), startPeer()]);
    ours = new Connection(server.address, { ca: server.ca, ...server.admin });
  });
  afterAll(async () => {
    ours?.close();
    await server?.stop();
    await peer?.stop();
  });

  const headers = (contentType: string) => ({ 'content-type': contentType, 'user-agent': 'me/1.0' });
  const json = headers('application/json');
  const must = async (c: Connection, method: string, path: string, body?: unknown, type = json) => {
    const answer = await c.send({ method, path, ...(body === undefined ? {} : { body }), headers: type });
    if (answer.status >= 300) throw new Error(`${method} ${path}: ${answer.status} ${answer.text.slice(0, 500)}`);
    return answer.json;
  };
  const fieldsOf = (o: any) =>
    (o.metadata.managedFields ?? []).map(({ time: _, ...entry }: any) => entry).sort((a: any, b: any) => (idOf(a) < idOf(b) ? -1 : 1));
  const idOf = (entry: any) => [entry.manager, entry.operation, entry.subresource, entry.apiVersion].join(' ');
  /** What a run leaves, on both. */
  const same = async (run: (c: Connection) => Promise<any>) => {
    const [mine, theirs] = [await run(ours), await run(peer.connection)];
    expect(mine).toEqual(theirs);
  };

  const schema = { openAPIV3Schema: { type: 'object', properties: { spec: { type: 'object', properties: { a: { type: 'string' }, b: { type: 'string' } } }, status: { type: 'object', properties: { n: { type: 'integer' } } } } } };
  const version = (name: string, storage: boolean) => ({ name, served: true, storage, schema, subresources: { status: {} } });
  const definition = {
    ...{ apiVersion: 'apiextensions.k8s.io/v1', kind: 'CustomResourceDefinition', metadata: { name: 'foos.example.com' } },
    spec: { group: 'example.com', scope: 'Namespaced', names: { plural: 'foos', singular: 'foo', kind: 'Foo', listKind: 'FooList' }, versions: [version('v1', true), version('v2', false)] },
  };
  const definitions = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions';

  test('of a definition that the server has accepted', () =>
    same(async (c) => {
      await must(c, 'POST', definitions, definition);
      const get = () => must(c, 'GET', `${definitions}/foos.example.com`);
      await expect.poll(async () => (await get()).status?.conditions?.some((x: any) => x.type === 'Established' && x.status === 'True'), { timeout: 10_000 }).toBe(true);
      await expect.poll(async () => (await c.send({ method: 'GET', path: '/apis/example.com/v2/foos' })).status, { timeout: 10_000 }).toBe(200);
      return fieldsOf(await get());
    }));

  const foos = (v: string) => `/apis/example.com/${v}/namespaces/default/foos`;
  const foo = (v: string, name: string, spec: object) => ({ apiVersion: `example.com/${v}`, kind: 'Foo', metadata: { name }, spec });
  const apply = (c: Connection, v: string, name: string, spec: object, manager: string) =>
    must(c, 'PATCH', `${foos(v)}/${name}?fieldManager=${manager}&force=true`, foo(v, name, spec), headers('application/apply-patch+yaml'));

  test('of a custom resource that is written in several versions', () =>
    same(async (c) => {
      const left: any[] = [];
      const see = async (name: string) => {
        for (const v of ['v1', 'v2']) left.push(fieldsOf(await must(c, 'GET', `${foos(v)}/${name}`)));
      };
      await must(c, 'POST', foos('v1'), foo('v1', 'one', { a: '1', b: '1' }));
      await must(c, 'PATCH', `${foos('v2')}/one`, { spec: { b: '2' } }, headers('application/merge-patch+json'));
      await see('one');
      await must(c, 'PATCH', `${foos('v2')}/one/status`, { status: { n: 1 } }, headers('application/merge-patch+json'));
      await see('one');
      await apply(c, 'v2', 'one', { a: '3' }, 'applier');
      await see('one');
      await apply(c, 'v1', 'one', { b: '4' }, 'applier');
      await see('one');
      await apply(c, 'v1', 'one', { b: '4' }, 'other');
      await apply(c, 'v2', 'one', {}, 'applier');
      await see('one');
      return left;
    }));

  const pods = '/api/v1/namespaces/default/pods';
  const pod = (name: string) => ({ metadata: { name, labels: { app: name } }, spec: { containers: [{ name: 'c', image: 'i' }], terminationGracePeriodSeconds: 5 } });

  test('of a pod that is bound, and evicted within its budget', () =>
    same(async (c) => {
      await c.send({ method: 'POST', path: '/api/v1/namespaces/default/serviceaccounts', body: { metadata: { name: 'default' } } });
      await must(c, 'POST', pods, pod('p'));
      await must(c, 'POST', `${pods}/p/binding`, { metadata: { name: 'p' }, target: { kind: 'Node', name: 'n' } });
      const bound = fieldsOf(await must(c, 'GET', `${pods}/p`));
      const conditions = [{ type: 'Ready', status: 'True' }];
      await must(c, 'PATCH', `${pods}/p/status`, { status: { phase: 'Running', conditions } }, headers('application/strategic-merge-patch+json'));
      const budgets = '/apis/policy/v1/namespaces/default/poddisruptionbudgets';
      await must(c, 'POST', budgets, { metadata: { name: 'b' }, spec: { minAvailable: 0, selector: { matchLabels: { app: 'p' } } } });
      await must(c, 'PATCH', `${budgets}/b/status`, { status: { observedGeneration: 1, currentHealthy: 1, desiredHealthy: 0, expectedPods: 1, disruptionsAllowed: 1 } }, headers('application/merge-patch+json'));
      await must(c, 'POST', `${pods}/p/eviction`, { metadata: { name: 'p' } });
      const evicted = await must(c, 'GET', `${pods}/p`);
      return [bound, fieldsOf(evicted), fieldsOf(await must(c, 'GET', `${budgets}/b`))];
    }));

  test('of a namespace that ends, of an account, of a service', () =>
    same(async (c) => {
      await must(c, 'POST', '/api/v1/namespaces', { metadata: { name: 'ending' } });
      await must(c, 'PUT', '/api/v1/namespaces/ending/finalize', { metadata: { name: 'ending' }, spec: { finalizers: ['kubernetes', 'example.com/f'] } });
      const made = fieldsOf(await must(c, 'GET', '/api/v1/namespaces/ending'));
      await must(c, 'DELETE', '/api/v1/namespaces/ending');
      const ending = fieldsOf(await must(c, 'GET', '/api/v1/namespaces/ending'));
      const service = await must(c, 'POST', '/api/v1/namespaces/default/services', { metadata: { name: 's' }, spec: { type: 'LoadBalancer', ports: [{ port: 80 }] } });
      await must(c, 'PATCH', '/api/v1/namespaces/default/services/s/status', { status: { loadBalancer: { ingress: [{ ip: '1.2.3.4' }] } } }, headers('application/merge-patch+json'));
      return [made, ending, fieldsOf(service), fieldsOf(await must(c, 'GET', '/api/v1/namespaces/default/services/s'))];
    }));

  test('of a deployment that is scaled, by update, patch and apply', () =>
    same(async (c) => {
      const path = '/apis/apps/v1/namespaces/default/deployments';
      const template = { metadata: { labels: { a: 'b' } }, spec: { containers: [{ name: 'c', image: 'i' }] } };
      await must(c, 'POST', path, { metadata: { name: 'd' }, spec: { replicas: 1, selector: { matchLabels: { a: 'b' } }, template } });
      const left: any[] = [];
      const scale = await must(c, 'GET', `${path}/d/scale`);
      await must(c, 'PUT', `${path}/d/scale`, { ...scale, spec: { replicas: 2 } }, { ...json, 'user-agent': 'scaler/1' });
      left.push(fieldsOf(await must(c, 'GET', `${path}/d`)));
      await must(c, 'PATCH', `${path}/d/scale`, { spec: { replicas: 3 } }, { ...headers('application/merge-patch+json'), 'user-agent': 'patcher/1' });
      left.push(fieldsOf(await must(c, 'GET', `${path}/d`)));
      await must(c, 'PATCH', `${path}/d/scale?fieldManager=applier&force=true`, { apiVersion: 'autoscaling/v1', kind: 'Scale', metadata: { name: 'd' }, spec: { replicas: 4 } }, headers('application/apply-patch+yaml'));
      left.push(fieldsOf(await must(c, 'GET', `${path}/d`)));
      await must(c, 'PATCH', `${path}/d/status`, { status: { replicas: 4, observedGeneration: 1 } }, headers('application/merge-patch+json'));
      left.push(fieldsOf(await must(c, 'GET', `${path}/d`)));
      return left;
    }));
});
