import { connect } from 'node:http2';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { decodeProtobuf } from '../../api/protobuf.ts';
import { encodeProtobuf } from '../../api/protobuf-encode.ts';
import { requestOverHttp2, startTestServer, type TestAnswer, type TestRequest, type TestServer } from '../testing.ts';

let server: TestServer;
beforeAll(async () => {
  server = await startTestServer();
});
afterAll(async () => server?.stop());

const protobuf = 'application/vnd.kubernetes.protobuf';
const send = (o: TestRequest): Promise<TestAnswer> => requestOverHttp2(server, { user: server.admin, ...o });
const configMaps = '/api/v1/namespaces/default/configmaps';
const core = (kind: string) => `io.k8s.api.core.v1.${kind}`;
const meta = (kind: string) => `io.k8s.apimachinery.pkg.apis.meta.v1.${kind}`;
const make = (name: string, headers: Record<string, string> = {}) =>
  send({
    method: 'POST',
    path: configMaps,
    headers: { 'content-type': protobuf, accept: protobuf, ...headers },
    body: encodeProtobuf({ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name }, data: { a: 'ü' } } as object, core('ConfigMap')) as Buffer,
  });

describe('objects in protobuf', () => {
  test('one is created, read, listed, patched and deleted', async () => {
    const created = await make('one');
    expect(created.status).toBe(201);
    expect(created.headers['content-type']).toBe(protobuf);
    const object = decodeProtobuf(created.body, core('ConfigMap'));
    expect(object).toMatchObject({ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'one', namespace: 'default' }, data: { a: 'ü' } });
    const asJson = (await send({ path: `${configMaps}/one` })).json;
    expect(decodeProtobuf((await send({ path: `${configMaps}/one`, headers: { accept: protobuf } })).body, core('ConfigMap'))).toEqual(asJson);

    const list = await send({ path: `${configMaps}?limit=500`, headers: { accept: `${protobuf},application/json` } });
    const jsonList = (await send({ path: configMaps })).json;
    const decoded = decodeProtobuf(list.body, core('ConfigMapList')) as { items: object[] };
    expect(decoded).toMatchObject({ apiVersion: 'v1', kind: 'ConfigMapList', metadata: { resourceVersion: jsonList.metadata.resourceVersion } });
    expect(decoded.items).toEqual(jsonList.items);

    const options = encodeProtobuf({ apiVersion: 'v1', kind: 'DeleteOptions', preconditions: { uid: 'other' } } as object, meta('DeleteOptions'));
    const refused = await send({
      method: 'DELETE',
      path: `${configMaps}/one`,
      headers: { 'content-type': protobuf, accept: protobuf },
      body: options as Buffer,
    });
    expect(refused.status).toBe(409);
    expect(decodeProtobuf(refused.body, meta('Status'))).toMatchObject({ kind: 'Status', reason: 'Conflict', code: 409 });
    const deleted = await send({ method: 'DELETE', path: `${configMaps}/one`, headers: { accept: protobuf } });
    expect(decodeProtobuf(deleted.body, meta('Status'))).toMatchObject({ status: 'Success', details: { name: 'one' } });
  });

  test('metadata alone, of one and of a list', async () => {
    await make('partial');
    const one = await send({
      path: `${configMaps}/partial`,
      headers: { accept: `${protobuf};as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1` },
    });
    expect(decodeProtobuf(one.body, meta('PartialObjectMetadata'))).toMatchObject({ kind: 'PartialObjectMetadata', metadata: { name: 'partial' } });
    const list = await send({ path: configMaps, headers: { accept: `${protobuf};as=PartialObjectMetadataList;g=meta.k8s.io;v=v1` } });
    const { items } = decodeProtobuf(list.body, meta('PartialObjectMetadataList')) as { items: { metadata: { name: string } }[] };
    expect(items.map((i) => i.metadata.name)).toContain('partial');
  });

  test('a watch has frames', async () => {
    const before = (await send({ path: configMaps })).json.metadata.resourceVersion as string;
    await make('watched');
    await send({ method: 'DELETE', path: `${configMaps}/watched` });
    const answer = await send({
      path: `${configMaps}?watch=true&resourceVersion=${before}&timeoutSeconds=1&allowWatchBookmarks=true`,
      headers: { accept: protobuf },
    });
    expect(answer.headers['content-type']).toBe(`${protobuf};stream=watch`);
    const events = framesOf(answer.body);
    expect(events.slice(0, 2).map((e) => e.type)).toEqual(['ADDED', 'DELETED']);
    expect(events[0]?.object).toMatchObject({ kind: 'ConfigMap', metadata: { name: 'watched' }, data: { a: 'ü' } });
  });

  test('what ends a watch is an event', async () => {
    const query = 'watch=true&resourceVersion=999999&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true';
    const answer = await send({ path: `${configMaps}?${query}`, headers: { accept: protobuf } });
    expect(answer.status).toBe(200);
    expect(framesOf(answer.body, 'Status')).toMatchObject([{ type: 'ERROR', object: { kind: 'Status', reason: 'Timeout', code: 504 } }]);
  });
});

/** A protobuf watch's frames. */
function framesOf(body: Buffer, kind = 'ConfigMap'): { type: string; object: Record<string, unknown> }[] {
  const events = [];
  for (let at = 0; at < body.length; ) {
    const length = body.readUInt32BE(at);
    const frame = body.subarray(at + 4, at + 4 + length);
    at += 4 + length;
    // Field 1 is the type's name; the object in field 2 is a whole body.
    const type = frame.subarray(2, 2 + (frame[1] as number)).toString();
    const start = frame.indexOf('k8s\0');
    events.push({ type, object: decodeProtobuf(frame.subarray(start), kind === 'Status' ? meta(kind) : core(kind)) });
  }
  return events;
}

describe('what is asked for', () => {
  const typeOf = async (accept: string, path = configMaps) => {
    const answer = await send({ path, headers: { accept } });
    return answer.status === 200 ? answer.headers['content-type'] : answer.status;
  };

  test.each([
    ['*/*', 'application/json'],
    ['application/*', 'application/json'],
    [`application/json;q=0.5,${protobuf}`, protobuf],
    [`*/*,${protobuf}`, protobuf],
    ['application/cbor, application/yaml;q=0.9, application/json;q=0.1', 'application/yaml'],
    ['application/json;charset=utf-8', 'application/json'],
    ['text/plain', 406],
    [`${protobuf};q=0`, 406],
    [`${protobuf};as=Table;g=meta.k8s.io;v=v1`, 406],
    [`${protobuf};as=Table;g=meta.k8s.io;v=v1,application/json;as=Table;g=meta.k8s.io;v=v1`, 'application/json'],
    ['application/yaml;as=Table;g=meta.k8s.io;v=v1', 'application/yaml'],
  ])('%s', async (accept, expected) => {
    expect(await typeOf(accept)).toBe(expected);
  });

  test('a watch cannot be had in YAML', async () => {
    const answer = await send({ path: `${configMaps}?watch=true&timeoutSeconds=1`, headers: { accept: 'application/yaml' } });
    expect(answer.status).toBe(406);
  });

  test('discovery in protobuf', async () => {
    const answer = await send({ path: '/apis/apps/v1', headers: { accept: protobuf } });
    expect(decodeProtobuf(answer.body, meta('APIResourceList'))).toMatchObject({ groupVersion: 'apps/v1' });
  });
});

test('one connection carries many watches of the same bytes', async () => {
  const session = connect(`https://127.0.0.1:${server.port}`, { ca: server.ca, ...server.admin });
  const bodies = await Promise.all(
    Array.from({ length: 20 }, () => {
      const stream = session.request({ ':path': `${configMaps}?watch=true&timeoutSeconds=1&resourceVersion=1`, accept: protobuf });
      return new Promise<string>((resolve, reject) => {
        const chunks: Buffer[] = [];
        stream.on('data', (chunk: Buffer) => chunks.push(chunk));
        stream.on('end', () => resolve(Buffer.concat(chunks).toString('base64')));
        stream.on('error', reject);
      });
    }),
  );
  session.close();
  expect(new Set(bodies).size).toBe(1);
  expect(bodies[0]).not.toBe('');
});
