import { connect } from 'node:http2';
import { gunzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { requestOverHttp1, requestOverHttp2, startTestServer, type TestAnswer, type TestRequest, type TestServer } from './testing.ts';

let server: TestServer;
beforeAll(async () => {
  server = await startTestServer();
});
afterAll(async () => server?.stop());

const http1 = (o: TestRequest): Promise<TestAnswer> => requestOverHttp1(server, { user: server.admin, ...o });
const http2 = (o: TestRequest): Promise<TestAnswer> => requestOverHttp2(server, { user: server.admin, ...o });
const configMaps = '/api/v1/namespaces/default/configmaps';
const json = { 'content-type': 'application/json' };
const make = (name: string, data: object = {}) =>
  http2({ method: 'POST', path: configMaps, headers: json, body: JSON.stringify({ metadata: { name }, data }) });

/** What apiserver_response_sizes has of single ConfigMaps. */
async function sizesOfGets(): Promise<{ count: number; sum: number }> {
  const text = (await http2({ path: '/metrics' })).body.toString();
  const series = '{component="apiserver",group="",resource="configmaps",scope="resource",subresource="",verb="GET",version="v1"} ';
  const value = (name: string) => Number(text.split('\n').find((line) => line.startsWith(`apiserver_response_sizes_${name}${series}`))?.split(' ').at(-1) ?? 0);
  return { count: value('count'), sum: value('sum') };
}

describe.each([
  ['HTTP/1.1', http1],
  ['HTTP/2', http2],
])('over %s', (name, send) => {
  const own = `of-${name.replace(/[^0-9]/g, '')}`;

  test('an object is created, read and deleted', async () => {
    const created = await send({
      method: 'POST',
      path: configMaps,
      headers: json,
      body: JSON.stringify({ metadata: { name: own }, data: { a: 'ü' } }),
    });
    expect(created.status).toBe(201);
    expect(created.headers['content-type']).toBe('application/json');
    expect(created.headers['audit-id']).toMatch(/^[0-9a-f-]{36}$/);
    expect(created.json).toMatchObject({ kind: 'ConfigMap', apiVersion: 'v1', metadata: { name: own, namespace: 'default' }, data: { a: 'ü' } });
    expect((await send({ path: `${configMaps}/${own}` })).json).toEqual(created.json);
    const list = (await send({ path: configMaps })).json;
    expect(list).toMatchObject({ kind: 'ConfigMapList', apiVersion: 'v1' });
    // In a list only the list says the type.
    const { apiVersion: _a, kind: _k, ...item } = created.json;
    expect(list.items).toContainEqual(item);
    expect((await send({ method: 'DELETE', path: `${configMaps}/${own}` })).json).toMatchObject({ status: 'Success' });
    const gone = await send({ path: `${configMaps}/${own}` });
    expect(gone.status).toBe(404);
    expect(gone.json).toEqual({
      kind: 'Status',
      apiVersion: 'v1',
      metadata: {},
      status: 'Failure',
      message: `configmaps "${own}" not found`,
      reason: 'NotFound',
      details: { name: own, kind: 'configmaps' },
      code: 404,
    });
  });

  test.each([10, 100_000])('the size of an answer of %d octets and more is counted', async (size) => {
    const path = `${configMaps}/sized-${own}-${size}`;
    await make(`sized-${own}-${size}`, { a: 'x'.repeat(size) });
    const before = await sizesOfGets();
    const answer = await send({ path });
    const after = await sizesOfGets();
    expect(after.count - before.count).toBe(1);
    expect(after.sum - before.sum).toBe(answer.body.length);
    expect(answer.body.length).toBeGreaterThan(size);
  });

  test('a body beyond the limit is refused', async () => {
    const body = JSON.stringify({ metadata: { name: 'big' }, data: { a: 'x'.repeat(3 * 1024 * 1024) } });
    const answer = await send({ method: 'POST', path: configMaps, headers: { ...json, 'content-length': String(Buffer.byteLength(body)) }, body });
    expect(answer.status).toBe(413);
    expect(answer.json).toMatchObject({ reason: 'RequestEntityTooLarge' });
  });

  test('HEAD has no body', async () => {
    const answer = await send({ method: 'HEAD', path: '/healthz' });
    expect(answer.status).toBe(200);
    expect(answer.body).toHaveLength(0);
  });
});

describe('formats', () => {
  test('YAML in and out', async () => {
    const created = await http2({
      method: 'POST',
      path: configMaps,
      headers: { 'content-type': 'application/yaml', accept: 'application/yaml' },
      body: 'metadata:\n  name: yaml\ndata:\n  a: "1"\n',
    });
    expect(created.status).toBe(201);
    expect(created.headers['content-type']).toBe('application/yaml');
    expect(parse(created.body.toString())).toMatchObject({ kind: 'ConfigMap', metadata: { name: 'yaml' }, data: { a: '1' } });
  });

  test('unknown formats are refused', async () => {
    expect((await http2({ path: configMaps, headers: { accept: 'text/html' } })).status).toBe(406);
    const answer = await http2({ method: 'POST', path: configMaps, headers: { 'content-type': 'application/cbor' }, body: 'x' });
    expect(answer.status).toBe(415);
    expect(answer.json.reason).toBe('UnsupportedMediaType');
  });

  test('Table and PartialObjectMetadata', async () => {
    await make('shown');
    const table = (await http2({ path: configMaps, headers: { accept: 'application/json;as=Table;v=v1;g=meta.k8s.io,application/json' } })).json;
    expect(table).toMatchObject({ kind: 'Table', apiVersion: 'meta.k8s.io/v1' });
    expect(table.columnDefinitions[0]).toMatchObject({ name: 'Name' });
    expect(table.rows.map((r: any) => r.cells[0])).toContain('shown');
    const partial = (
      await http2({ path: `${configMaps}/shown`, headers: { accept: 'application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io' } })
    ).json;
    expect(partial).toMatchObject({ kind: 'PartialObjectMetadata', apiVersion: 'meta.k8s.io/v1', metadata: { name: 'shown' } });
    expect(partial.data).toBeUndefined();
    const list = (await http2({ path: configMaps, headers: { accept: 'application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io' } })).json;
    expect(list).toMatchObject({ kind: 'PartialObjectMetadataList' });
    expect((await http2({ path: configMaps, headers: { accept: 'application/json;as=Tisch;v=v1;g=meta.k8s.io' } })).status).toBe(406);
  });

  test('large answers are compressed when asked', async () => {
    await make('large', { a: 'x'.repeat(200_000) });
    const answer = await http2({ path: `${configMaps}/large`, headers: { 'accept-encoding': 'gzip' } });
    expect(answer.headers['content-encoding']).toBe('gzip');
    expect(JSON.parse(gunzipSync(answer.body).toString()).data.a).toHaveLength(200_000);
    expect((await http2({ path: `${configMaps}/large` })).headers['content-encoding']).toBeUndefined();
  });

  test('pretty', async () => {
    expect((await http2({ path: '/version?pretty=true' })).body.toString()).toContain('\n  "major": "1"');
  });

  test('a syntax error answers 400', async () => {
    const answer = await http2({ method: 'POST', path: configMaps, headers: json, body: '{"metadata":' });
    expect(answer.status).toBe(400);
    expect(answer.json.reason).toBe('BadRequest');
  });

  test('the data must be of the endpoint`s kind and version', async () => {
    const wrong = (body: object) =>
      http2({ method: 'POST', path: configMaps, headers: json, body: JSON.stringify({ metadata: { name: 'w' }, ...body }) });
    expect((await wrong({ apiVersion: 'apps/v1', kind: 'ConfigMap' })).json.message).toBe(
      'ConfigMap in version "v1" cannot be handled as a ConfigMap: no kind "ConfigMap" is registered for version "apps/v1" in scheme "pkg/runtime/scheme.go:111"',
    );
    expect((await wrong({ apiVersion: 'v1', kind: 'Pod' })).status).toBe(400);
    expect((await wrong({ metadata: { name: 'w', namespace: 'other' } })).json.message).toBe(
      'the namespace of the provided object does not match the namespace sent on the request',
    );
  });
});

describe('field validation', () => {
  const post = (mode: string) =>
    http2({
      method: 'POST',
      path: `${configMaps}?dryRun=All&fieldValidation=${mode}`,
      headers: json,
      body: JSON.stringify({ metadata: { name: 'fields' }, dta: { a: 'b' } }),
    });

  test('Strict refuses, Warn warns, Ignore is silent', async () => {
    const strict = await post('Strict');
    expect(strict.status).toBe(400);
    expect(strict.json.message).toContain('strict decoding error: unknown field "dta"');
    const warn = await post('Warn');
    expect(warn.status).toBe(201);
    expect(warn.headers['warning']).toBe('299 - "unknown field \\"dta\\""');
    expect(warn.json.dta).toBeUndefined();
    const ignore = await post('Ignore');
    expect(ignore.status).toBe(201);
    expect(ignore.headers['warning']).toBeUndefined();
    expect((await post('Maybe')).status).toBe(422);
  });
});

describe('watching', () => {
  /** Opens a watch and hands out its lines one by one. */
  function open(path: string, accept = 'application/json') {
    const session = connect(`https://127.0.0.1:${server.port}`, { ca: server.ca, ...server.admin });
    const stream = session.request({ ':path': path, accept });
    let text = '';
    const waiting: ((line: any) => void)[] = [];
    const lines: any[] = [];
    stream.on('data', (chunk: Buffer) => {
      text += chunk.toString();
      for (let at = text.indexOf('\n'); at >= 0; at = text.indexOf('\n')) {
        const line = JSON.parse(text.slice(0, at));
        text = text.slice(at + 1);
        const next = waiting.shift();
        if (next) next(line);
        else lines.push(line);
      }
    });
    const ended = new Promise<void>((resolve) => stream.on('end', resolve));
    const status = new Promise<number>((resolve) => stream.on('response', (h) => resolve(h[':status'] as number)));
    return {
      status,
      ended,
      next: () => new Promise<any>((resolve) => (lines.length ? resolve(lines.shift()) : waiting.push(resolve))),
      close: () => session.destroy(),
    };
  }

  test('events come as they happen, the same to every watcher', async () => {
    const version = (await http2({ path: configMaps })).json.metadata.resourceVersion;
    const path = `${configMaps}?watch=true&resourceVersion=${version}`;
    const [a, b] = [open(path), open(path)];
    try {
      expect(await a.status).toBe(200);
      await b.status;
      const created = (await make('seen')).json;
      expect(await a.next()).toEqual({ type: 'ADDED', object: created });
      expect(await b.next()).toEqual({ type: 'ADDED', object: created });
      await http2({ method: 'DELETE', path: `${configMaps}/seen` });
      const deleted = await a.next();
      expect(deleted).toMatchObject({ type: 'DELETED', object: { metadata: { name: 'seen', uid: created.metadata.uid } } });
      expect(Number(deleted.object.metadata.resourceVersion)).toBeGreaterThan(Number(created.metadata.resourceVersion));
    } finally {
      a.close();
      b.close();
    }
  });

  test('as tables: columns with the first event only', async () => {
    await make('tabled');
    const watch = open(
      `${configMaps}?watch=true&fieldSelector=metadata.name%3Dtabled`,
      'application/json;as=Table;v=v1;g=meta.k8s.io,application/json',
    );
    try {
      const first = await watch.next();
      expect(first).toMatchObject({ type: 'ADDED', object: { kind: 'Table', rows: [{ object: { kind: 'PartialObjectMetadata' } }] } });
      expect(first.object.rows[0].cells[0]).toBe('tabled');
    } finally {
      watch.close();
    }
  });

  test('timeoutSeconds ends it, with a bookmark where wanted', async () => {
    const version = (await http2({ path: configMaps })).json.metadata.resourceVersion;
    await http2({ method: 'POST', path: '/api/v1/namespaces', headers: json, body: JSON.stringify({ metadata: { name: 'moves-the-revision' } }) });
    const watch = open(`${configMaps}?watch=true&allowWatchBookmarks=true&timeoutSeconds=1&resourceVersion=${version}`);
    try {
      const bookmark = await watch.next();
      expect(bookmark).toMatchObject({ type: 'BOOKMARK', object: { kind: 'ConfigMap', apiVersion: 'v1' } });
      await watch.ended;
    } finally {
      watch.close();
    }
  });

  test('a selector that is wrong is answered before the stream begins', async () => {
    expect((await http2({ path: `${configMaps}?watch=true&fieldSelector=no.such%3Dx` })).status).toBe(400);
    expect((await http2({ path: `${configMaps}?watch=true&resourceVersion=abc` })).status).toBe(400);
  });
});

describe('discovery and health', () => {
  test('aggregated discovery has an ETag that saves sending it again', async () => {
    const accept = 'application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json';
    const answer = await http2({ path: '/apis', headers: { accept } });
    expect(answer.headers['content-type']).toBe('application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList');
    expect(answer.json.items.map((i: any) => i.metadata.name)).toContain('apps');
    const etag = answer.headers['etag'] as string;
    expect((await http2({ path: '/apis', headers: { accept, 'if-none-match': etag } })).status).toBe(304);
    const core = (await http2({ path: '/api', headers: { accept } })).json.items[0];
    const pods = core.versions[0].resources.find((r: any) => r.resource === 'pods');
    expect(pods).toMatchObject({ scope: 'Namespaced', shortNames: ['po'], responseKind: { kind: 'Pod' } });
    expect(pods.subresources.map((s: any) => s.subresource)).toContain('log');
  });

  test('legacy discovery', async () => {
    expect((await http2({ path: '/api' })).json).toMatchObject({ kind: 'APIVersions', versions: ['v1'] });
    expect((await http2({ path: '/apis' })).json).toMatchObject({ kind: 'APIGroupList' });
    expect((await http2({ path: '/apis/autoscaling' })).json.preferredVersion.version).toBe('v2');
    const apps = (await http2({ path: '/apis/apps/v1' })).json;
    expect(apps.resources.map((r: any) => r.name)).toEqual(expect.arrayContaining(['deployments', 'deployments/scale', 'deployments/status']));
    expect((await http2({ path: '/apis/no.such.group/v1' })).status).toBe(404);
    expect((await http2({ path: '/api/v1/nosuch' })).status).toBe(404);
  });

  test('version, health, metrics, OpenID', async () => {
    expect((await http2({ path: '/version' })).json).toMatchObject({ major: '1', minor: '37' });
    for (const path of ['/healthz', '/livez', '/readyz', '/readyz/ping']) expect((await http2({ path })).body.toString()).toBe('ok');
    expect((await http2({ path: '/readyz?verbose' })).body.toString()).toContain('[+]poststarthook/rbac/bootstrap-roles ok\n');
    const metrics = (await http2({ path: '/metrics' })).body.toString();
    expect(metrics).toMatch(/apiserver_request_total\{code="200",component="apiserver",dry_run="",group="",resource="configmaps",scope="resource",subresource="",verb="GET",version="v1"\} \d+/);
    expect(metrics).toContain('nodejs_eventloop_lag_seconds');
    const openid = (await http2({ path: '/.well-known/openid-configuration' })).json;
    expect(openid.issuer).toBe('https://kubernetes.default.svc');
    expect((await http2({ path: '/openid/v1/jwks' })).json.keys).toHaveLength(1);
  });
});

test('stopping ends watches and refuses new connections', async () => {
  const other = await startTestServer();
  const session = connect(other.address, { ca: other.ca, ...other.admin });
  session.on('error', () => {});
  const stream = session.request({ ':path': '/api/v1/pods?watch=true' });
  await new Promise((resolve) => stream.on('response', resolve));
  const ended = new Promise((resolve) => stream.on('end', resolve));
  stream.resume();
  await other.stop();
  await ended;
  await expect(requestOverHttp2(other, { path: '/version' })).rejects.toThrow();
});
