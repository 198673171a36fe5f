import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startTestServer, type TestServer } from '../../src/apiserver/testing.ts';
import { Connection } from './connection.ts';
import { missingPeers, type Peer, startPeer } from './peer.ts';

const missing = missingPeers('etcd', 'kube-apiserver');
if (missing) console.warn(`skipped, the comparison of discovery and OpenAPI: ${missing}`);

const sorted = (value: any): any =>
  Array.isArray(value)
    ? value.map(sorted)
    : value && typeof value === 'object'
      ? Object.fromEntries(
          Object.keys(value)
            .sort()
            .map((key) => [key, sorted(value[key])]),
        )
      : value;

/** Documents without prose, and with parameters in place of references to them: what a client decides by. */
function structure(schema: any, parameters: any = {}): any {
  if (Array.isArray(schema)) {
    const items = schema.map((item) => structure(item, parameters));
    // The order of parameters means nothing.
    return items.every((p) => p?.in && p.name) ? items.sort((a, b) => (`${a.name} ${a.in}` < `${b.name} ${b.in}` ? -1 : 1)) : items;
  }
  if (!schema || typeof schema !== 'object') return schema;
  const name = typeof schema.$ref === 'string' && /^#\/parameters\/(.*)/.exec(schema.$ref)?.[1];
  if (name) return structure(parameters[name]);
  const kept: Record<string, unknown> = {};
  for (const key of Object.keys(schema).sort()) {
    if (key === 'description' && typeof schema[key] === 'string') continue;
    // Nor does the order of required fields.
    kept[key] = key === 'required' && Array.isArray(schema[key]) ? [...schema[key]].sort() : structure(schema[key], parameters);
  }
  return kept;
}

/** What upstream's has that ours has otherwise or not at all, by name. */
function missed(ours: any, theirs: any, parameters?: any): string[] {
  const differ: string[] = [];
  for (const name of Object.keys(theirs ?? {})) {
    const [mine, other] = [structure(ours?.[name]), structure(theirs[name], parameters)];
    if (JSON.stringify(mine) !== JSON.stringify(other)) differ.push(`${name}: ${JSON.stringify(mine)}\n  upstream's: ${JSON.stringify(other)}`);
  }
  return differ;
}

/** Upstream serves these with their features alone, whatever versions are asked for. */
const gated = ['lifecycle.k8s.io/v1alpha1', 'scheduling.k8s.io/v1alpha3', 'scheduling.k8s.io/v1beta1'];
const isGated = (path: string) => gated.some((gv) => path.includes(gv)) || /lifecycle\.k8s\.io\/?$/.test(path);

describe.skipIf(missing)('discovery and OpenAPI are as upstream publishes them', () => {
  let server: TestServer;
  let peer: Peer;
  let ours: Connection;
  const both = async (path: string, accept = 'application/json') => {
    const answers = await Promise.all([ours, peer.connection].map((c) => c.send({ method: 'GET', path, headers: { accept } })));
    return answers.map((a) => a.json) as [any, any];
  };
  beforeAll(async () => {
    [server, peer] = await Promise.all([startTestServer({ runtimeConfig: { 'api/all': true } }), startPeer()]);
    ours = new Connection(server.address, { ca: server.ca, ...server.admin });
  });
  afterAll(async () => {
    ours?.close();
    await server?.stop();
    await peer?.stop();
  });

  const aggregated = 'application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList';
  test.each(['/api', '/apis'])('aggregated discovery of %s', async (path) => {
    const [mine, theirs] = await both(path, aggregated);
    const served = new Map<string, any>(mine.items.map((g: any) => [g.metadata.name ?? '', g]));
    const versions = (all: any) => all.items.flatMap((g: any) => g.versions.map((v: any) => `${g.metadata.name ?? ''}/${v.version}`)).sort();
    expect(versions(mine).filter((v: string) => !gated.includes(v))).toEqual(versions(theirs));
    for (const group of theirs.items) {
      const own = served.get(group.metadata.name ?? '');
      expect(own, group.metadata.name).toBeDefined();
      for (const version of group.versions) {
        const ownVersion = own.versions.find((v: any) => v.version === version.version);
        expect(ownVersion, `${group.metadata.name}/${version.version}`).toBeDefined();
        for (const resource of version.resources) {
          const title = `${group.metadata.name}/${version.version} ${resource.resource}`;
          const mineToo = ownVersion.resources.find((r: any) => r.resource === resource.resource);
          expect(sorted(mineToo), title).toEqual(sorted(resource));
        }
      }
    }
  });

  // Upstream stores these in a version that it serves no more, which their hashes tell; ours reads that, and writes v1.
  const storedOtherwise = ['customresourcedefinitions'];

  test('legacy discovery of every group version', async () => {
    const [, groups] = await both('/apis');
    const paths = ['/api/v1', ...groups.groups.flatMap((g: any) => g.versions.map((v: any) => `/apis/${v.groupVersion}`))];
    for (const path of paths) {
      const [mine, theirs] = await both(path);
      const clean = (list: any) =>
        sorted({
          ...list,
          resources: list.resources
            .map(({ storageVersionHash, ...r }: any) => (storageVersionHash && !storedOtherwise.includes(r.name) ? { ...r, storageVersionHash } : r))
            .sort((a: any, b: any) => (a.name < b.name ? -1 : 1)),
        });
      expect(clean(mine), path).toEqual(clean(theirs));
    }
  });

  const widgets = {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: { name: 'widgets.interop.example.com' },
    spec: {
      group: 'interop.example.com',
      scope: 'Namespaced',
      names: { plural: 'widgets', singular: 'widget', kind: 'Widget', listKind: 'WidgetList' },
      versions: [
        {
          name: 'v1',
          served: true,
          storage: true,
          subresources: { status: {}, scale: { specReplicasPath: '.spec.replicas', statusReplicasPath: '.status.replicas' } },
          schema: {
            openAPIV3Schema: {
              type: 'object',
              properties: {
                spec: { type: 'object', properties: { replicas: { type: 'integer', format: 'int32' }, mode: { type: 'string', enum: ['a', 'b'] } } },
                status: { type: 'object', properties: { replicas: { type: 'integer', format: 'int32' } } },
              },
            },
          },
        },
      ],
    },
  };
  const definitions = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions';

  test('OpenAPI v2: all of it but for its prose', async () => {
    const [mine, theirs] = await both('/openapi/v2');
    const { definitions: ownDefinitions, paths: ownPaths, ...own } = mine;
    const { definitions: otherDefinitions, paths: otherPaths, parameters, ...other } = theirs;
    expect(structure(own)).toEqual(structure(other));
    expect(missed(ownDefinitions, otherDefinitions)).toEqual([]);
    expect(missed(ownPaths, otherPaths, parameters)).toEqual([]);
    expect(Object.keys(ownPaths).filter((path) => !otherPaths[path] && !isGated(path))).toEqual([]);
  });

  test('OpenAPI v3: every document but for its prose', async () => {
    const [ownIndex, index] = await both('/openapi/v3');
    expect(
      Object.keys(ownIndex.paths)
        .filter((path) => !isGated(path))
        .sort(),
    ).toEqual(Object.keys(index.paths).sort());
    for (const path of Object.keys(index.paths)) {
      const [{ components: ownComponents, ...mine }, { components, ...theirs }] = await both(`/openapi/v3/${path}`);
      expect(missed(mine, theirs), path).toEqual([]);
      expect(missed(ownComponents.schemas, components.schemas), path).toEqual([]);
      expect(structure(ownComponents.securitySchemes)).toEqual(structure(components.securitySchemes));
    }
  });

  test('OpenAPI of a custom resource', async () => {
    for (const c of [ours, peer.connection]) await c.send({ method: 'POST', path: definitions, body: widgets });
    try {
      await expect
        .poll(async () => (await both('/openapi/v3')).every((index) => index.paths['apis/interop.example.com/v1']), { timeout: 60_000, interval: 200 })
        .toBe(true);
      const [mine, theirs] = await both('/openapi/v3/apis/interop.example.com/v1');
      expect(mine.components.securitySchemes).toEqual(theirs.components.securitySchemes);
      expect([mine.info, mine.openapi]).toEqual([theirs.info, theirs.openapi]);
      expect(missed(mine.paths, theirs.paths)).toEqual([]);
      expect(Object.keys(mine.paths).sort()).toEqual(Object.keys(theirs.paths).sort());
      expect(missed(mine.components.schemas, theirs.components.schemas)).toEqual([]);
      const widgetPaths = (document: any) => Object.fromEntries(Object.entries(document.paths).filter(([path]) => path.includes('interop.example.com')));
      await expect.poll(async () => Object.keys(widgetPaths((await both('/openapi/v2'))[1])).length, { timeout: 60_000, interval: 500 }).toBeGreaterThan(0);
      const [ownV2, otherV2] = await both('/openapi/v2');
      expect(missed(widgetPaths(ownV2), widgetPaths(otherV2), otherV2.parameters)).toEqual([]);
    } finally {
      for (const c of [ours, peer.connection]) await c.send({ method: 'DELETE', path: `${definitions}/${widgets.metadata.name}` });
    }
  }, 150_000);
});
