import { describe, expect, test } from 'vitest';
import { scheme } from '../api/scheme.ts';
import { openMemoryStore } from '../store/memory.ts';
import { isServed, parseRuntimeConfig } from './served-versions.ts';
import { requestOverHttp2, startTestServer } from './testing.ts';

const known = (group: string, version: string) => scheme.resources.some((r) => r.group === group && r.version === version);
const serves = (settings: string, group: string, version: string, resource = 'x') => isServed(parseRuntimeConfig([settings], known), group, version, resource);

describe('--runtime-config', () => {
  test.each([
    ['', 'apps', 'v1', true],
    ['', 'certificates.k8s.io', 'v1beta1', false],
    ['api/beta=true', 'certificates.k8s.io', 'v1beta1', true],
    ['api/beta=true', 'internal.apiserver.k8s.io', 'v1alpha1', false],
    ['api/all=true', 'internal.apiserver.k8s.io', 'v1alpha1', true],
    ['api/all', 'internal.apiserver.k8s.io', 'v1alpha1', true],
    ['api/all=true,api/alpha=false', 'internal.apiserver.k8s.io', 'v1alpha1', false],
    ['resource.k8s.io/v1beta2=true', 'resource.k8s.io', 'v1beta2', true],
    ['resource.k8s.io/v1beta2=true', 'resource.k8s.io', 'v1beta1', false],
    ['apps/v1=false', 'apps', 'v1', false],
    ['v1=false', '', 'v1', false],
    ['api/v1=false', '', 'v1', false],
  ])('%s: %s/%s served: %s', (settings, group, version, served) => expect(serves(settings, group, version)).toBe(served));

  test('one resource of a version', () => {
    expect(serves('apps/v1/deployments=false', 'apps', 'v1', 'deployments')).toBe(false);
    expect(serves('apps/v1/deployments=false', 'apps', 'v1', 'daemonsets')).toBe(true);
  });

  test.each(['nope/v1=true', 'api/all=maybe', 'apps/v1/deployments/status=true', 'apps/v1=true=false'])('%s is refused', (setting) =>
    expect(() => parseRuntimeConfig([setting], known)).toThrow(/^'/),
  );
});

test('a version that is not served is not there, nor in any document; what is asked for is', async () => {
  const beta = '/apis/certificates.k8s.io/v1beta1/clustertrustbundles';
  for (const [runtimeConfig, status] of [[{}, 404], [{ 'certificates.k8s.io/v1beta1': true }, 200]] as const) {
    const server = await startTestServer({ runtimeConfig });
    try {
      const get = (path: string) => requestOverHttp2(server, { path, user: server.admin });
      expect((await get(beta)).status).toBe(status);
      expect((await get('/openapi/v3/apis/certificates.k8s.io/v1beta1')).status).toBe(status);
      expect(beta in (await get('/openapi/v2')).json.paths).toBe(status === 200);
      expect('apis/certificates.k8s.io/v1beta1' in (await get('/openapi/v3')).json.paths).toBe(status === 200);
      const { versions } = (await get('/apis')).json.groups.find((g: any) => g.name === 'certificates.k8s.io');
      expect(versions.map((v: any) => v.version)).toEqual(status === 200 ? ['v1', 'v1beta1'] : ['v1']);
    } finally {
      await server.stop();
    }
  }
});

test('what upstream has stored in older versions is served in those of today, and kept as upstream keeps it', async () => {
  const store = openMemoryStore();
  const bundle = { kind: 'ClusterTrustBundle', apiVersion: 'certificates.k8s.io/v1beta1', metadata: { name: 'theirs', uid: 'a' }, spec: { trustBundle: 'x' } };
  const names = { plural: 'foos', singular: 'foo', kind: 'Foo', listKind: 'FooList' };
  const definition = {
    kind: 'CustomResourceDefinition',
    apiVersion: 'apiextensions.k8s.io/v1beta1',
    metadata: { name: 'foos.example.com', uid: 'b', generation: 1 },
    spec: {
      ...{ group: 'example.com', version: 'v1', names, scope: 'Namespaced', validation: { openAPIV3Schema: { type: 'object', properties: { a: { type: 'string' } } } } },
      ...{ subresources: { status: {} }, versions: [{ name: 'v1', served: true, storage: true }], additionalPrinterColumns: [{ name: 'A', type: 'string', JSONPath: '.a' }] },
      ...{ conversion: { strategy: 'None' }, preserveUnknownFields: false },
    },
    status: { conditions: [], acceptedNames: names, storedVersions: ['v1'] },
  };
  const puts: [string, object][] = [
    ['/registry/clustertrustbundles/theirs', bundle],
    ['/registry/apiextensions.k8s.io/customresourcedefinitions/foos.example.com', definition],
    ['/registry/example.com/foos/default/one', { apiVersion: 'example.com/v1', kind: 'Foo', metadata: { name: 'one', namespace: 'default', uid: 'c' }, a: 'b' }],
  ];
  for (const [key, value] of puts) await store.transaction([], [{ type: 'put', key, value: Buffer.from(JSON.stringify(value)) }], []);
  const server = await startTestServer({ store });
  try {
    const get = async (path: string, accept = 'application/json') => (await requestOverHttp2(server, { path, user: server.admin, headers: { accept } })).json;
    expect(await get('/apis/certificates.k8s.io/v1/clustertrustbundles/theirs')).toMatchObject({ apiVersion: 'certificates.k8s.io/v1', spec: { trustBundle: 'x' } });
    const served = await get('/apis/apiextensions.k8s.io/v1/customresourcedefinitions/foos.example.com');
    expect(served.apiVersion).toBe('apiextensions.k8s.io/v1');
    expect(served.spec).toEqual({
      ...{ group: 'example.com', names, scope: 'Namespaced', conversion: { strategy: 'None' } },
      versions: [
        {
          ...{ name: 'v1', served: true, storage: true, subresources: { status: {} }, schema: definition.spec.validation },
          additionalPrinterColumns: [{ name: 'A', type: 'string', jsonPath: '.a' }],
        },
      ],
    });
    await expect.poll(async () => (await get('/apis/example.com/v1/namespaces/default/foos/one')).a).toBe('b');
    const body = JSON.stringify({ metadata: { name: 'ours' }, spec: { trustBundle: server.ca } });
    const made = await requestOverHttp2(server, { method: 'POST', path: '/apis/certificates.k8s.io/v1/clustertrustbundles', user: server.admin, headers: { 'content-type': 'application/json' }, body });
    expect(made.status, made.body.toString()).toBe(201);
    expect(made.json.apiVersion).toBe('certificates.k8s.io/v1');
    const { items } = await store.range({ start: '/registry/clustertrustbundles/ours', end: '/registry/clustertrustbundles/ours0' });
    expect(items[0]?.value.toString()).toContain('"apiVersion":"certificates.k8s.io/v1beta1"');
  } finally {
    await server.stop();
  }
});
