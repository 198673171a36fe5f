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

/** Definitions without prose: what a client decides by. */
function structure(schema: any): any {
  if (Array.isArray(schema)) return schema.map(structure);
  if (!schema || typeof schema !== 'object') return schema;
  const kept: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(schema)) {
    if (key === 'description' && typeof value === 'string') continue;
    if (key === 'enum' || key === 'x-kubernetes-unions') continue;
    // The order of required fields means nothing.
    kept[key] = key === 'required' && Array.isArray(value) ? [...value].sort() : structure(value);
  }
  return kept;
}

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
    // Upstream serves these with their features alone, whatever versions are asked for.
    const gated = ['lifecycle.k8s.io/v1alpha1', 'scheduling.k8s.io/v1alpha3', 'scheduling.k8s.io/v1beta1'];
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

  test('OpenAPI v2: every definition but for its prose', async () => {
    const [mine, theirs] = await both('/openapi/v2');
    // Those two name every group version that ever was; v3 has them right.
    const names = Object.keys(theirs.definitions).filter((name) => mine.definitions[name] && !/\.(DeleteOptions|WatchEvent)$/.test(name));
    // Groups behind feature gates are not in upstream's document; nothing of upstream's may be missing in ours.
    expect(Object.keys(theirs.definitions).filter((name) => !mine.definitions[name])).toEqual([]);
    const differ = names.filter((name) => JSON.stringify(sorted(structure(mine.definitions[name]))) !== JSON.stringify(sorted(structure(theirs.definitions[name]))));
    const [first] = differ;
    if (first) expect(sorted(structure(mine.definitions[first])), `${differ.length} of ${names.length}: ${first}`).toEqual(sorted(structure(theirs.definitions[first])));
  });

  test('OpenAPI v3: every schema of every group version but for its prose', async () => {
    const [, index] = await both('/openapi/v3');
    for (const path of Object.keys(index.paths).filter((p) => /^apis?\/.*v\d/.test(p))) {
      const [mine, theirs] = await both(`/openapi/v3/${path}`);
      for (const name of Object.keys(theirs.components.schemas)) {
        const own = mine.components?.schemas?.[name];
        expect(sorted(structure(own)), `${path} ${name}`).toEqual(sorted(structure(theirs.components.schemas[name])));
      }
    }
  });
});
