import { connect } from 'node:net';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import * as resources from '../../../api/generated/resources.ts';
import type { Client } from '../../../client/client.ts';
import { requestOverHttp1, startTestServer, type TestServer } from '../../testing.ts';
import { patched, review, startTestWebhook, type TestWebhook } from './testing.ts';

// What the conformance tests of upstream named "AdmissionWebhook" and "FieldValidation … CR" ask for.

let server: TestServer;
let hook: TestWebhook;
let client: Client;
const type = (kind: string): any => resources.builtinResources.find((r) => r.kind === kind && !(kind === 'Event' && r.group === ''));
const [crds, mutating, validating, pods] = ['CustomResourceDefinition', 'MutatingWebhookConfiguration', 'ValidatingWebhookConfiguration', 'Pod'].map(type);

const deny = (body: any) => review(body, { allowed: false, status: { message: 'the webhook says no', reason: 'refused' } });

beforeAll(async () => {
  server = await startTestServer({ dial: async (host, port) => connect({ host, port }) });
  client = server.localClient({ name: 'tester', groups: ['system:masters'] });
  hook = await startTestWebhook(server.authority, {
    '/deny': deny,
    '/deny-bad': (body) => ((body.request.object ?? body.request.oldObject).data?.key === 'bad' ? deny(body) : review(body, { allowed: true })),
    '/add': (body) => patched(body, [{ op: 'add', path: '/data/added', value: 'yes' }, { op: 'add', path: '/data/unknown', value: 'yes' }]),
    '/init': (body) => patched(body, [{ op: 'add', path: '/spec/initContainers', value: [{ name: 'first', image: 'i' }] }]),
  });
});
afterAll(async () => {
  await hook?.close();
  await server?.stop();
});
afterEach(async () => {
  for (const kind of [mutating, validating]) await client.deleteCollection(kind);
  hook.seen.length = 0;
});

const configure = (kind: any, name: string, path: string, rule: { operations?: string[]; apiGroups: string[]; resources: string[] }, more: object = {}) =>
  client.create(kind, {
    metadata: { name },
    webhooks: [
      {
        name: `${name}.test.example.com`,
        clientConfig: { url: hook.url(path), caBundle: hook.caBundle },
        rules: [{ operations: ['*'], apiVersions: ['*'], ...rule }],
        sideEffects: 'None',
        admissionReviewVersions: ['v1'],
        ...more,
      },
    ],
  } as any);

const version = (name: string, storage: boolean, data: object) => ({
  name,
  storage,
  served: true,
  schema: { openAPIV3Schema: { type: 'object', properties: { data } } },
});
const closed = { type: 'object', properties: { key: { type: 'string' }, added: { type: 'string' } } };
async function define(plural: string, versions: object[]): Promise<void> {
  const kind = `K${plural}`;
  await client.create(crds, {
    metadata: { name: `${plural}.hooks.example.com` },
    spec: { group: 'hooks.example.com', scope: 'Namespaced', names: { plural, kind }, versions },
  } as any);
  await expect.poll(async () => (await send('GET', `/apis/hooks.example.com/v1/namespaces/default/${plural}`)).status).toBe(200);
}
const send = (method: string, path: string, body?: unknown, headers: Record<string, string> = {}) =>
  requestOverHttp1(server, {
    method,
    path,
    user: server.admin,
    headers,
    ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
  });
const at = (plural: string, name = '', v = 'v1') => `/apis/hooks.example.com/${v}/namespaces/default/${plural}${name && `/${name}`}`;
const custom = (plural: string, name: string, data: object, v = 'v1') => ({
  apiVersion: `hooks.example.com/${v}`,
  kind: `K${plural}`,
  metadata: { name },
  data,
});

test('creation, update and deletion of custom resources can be denied', async () => {
  await define('denied', [version('v1', true, { type: 'object', additionalProperties: { type: 'string' } })]);
  await configure(validating, 'deny-cr', '/deny-bad', { apiGroups: ['hooks.example.com'], resources: ['*'] });
  const refusal = 'admission webhook "deny-cr.test.example.com" denied the request: the webhook says no';
  expect((await send('POST', at('denied'), custom('denied', 'one', { key: 'bad' }))).json).toMatchObject({ message: refusal, reason: 'refused' });
  expect((await send('POST', at('denied'), custom('denied', 'one', { key: 'good' }))).status).toBe(201);
  const patch = { 'content-type': 'application/merge-patch+json' };
  expect((await send('PATCH', at('denied', 'one'), { data: { key: 'bad' } }, patch)).json.message).toBe(refusal);
  await client.deleteCollection(validating);
  expect((await send('PATCH', at('denied', 'one'), { data: { key: 'bad' } }, patch)).status).toBe(200);
  await configure(validating, 'deny-cr', '/deny-bad', { apiGroups: ['hooks.example.com'], resources: ['*'], operations: ['DELETE'] });
  expect((await send('DELETE', at('denied', 'one'))).json.message).toBe(refusal);
  expect((await send('GET', at('denied', 'one'))).status).toBe(200);
});

test('what a webhook adds to a custom resource is pruned', async () => {
  await define('pruned', [version('v1', true, closed)]);
  await configure(mutating, 'add', '/add', { apiGroups: ['hooks.example.com'], resources: ['pruned'], operations: ['CREATE'] });
  expect((await send('POST', at('pruned'), custom('pruned', 'one', { key: 'x' }))).json.data).toEqual({ key: 'x', added: 'yes' });
});

test('custom resources are changed in the version of the request, whichever is stored', async () => {
  await define('stored', [version('v1', true, closed), version('v2', false, closed)]);
  expect((await send('POST', at('stored'), custom('stored', 'one', { key: 'x' }))).status).toBe(201);
  await configure(mutating, 'add', '/add', { apiGroups: ['hooks.example.com'], resources: ['stored'], operations: ['UPDATE'] });
  await client.patch(crds, { name: 'stored.hooks.example.com' }, 'merge', { spec: { versions: [version('v1', false, closed), version('v2', true, closed)] } });
  const updated = await send('PATCH', at('stored', 'one'), { data: { key: 'y' } }, { 'content-type': 'application/merge-patch+json' });
  expect(updated.json).toMatchObject({ apiVersion: 'hooks.example.com/v1', data: { key: 'y', added: 'yes' } });
  expect(hook.seen.at(-1)!.body.request).toMatchObject({ kind: { version: 'v1' }, object: { apiVersion: 'hooks.example.com/v1' }, oldObject: { apiVersion: 'hooks.example.com/v1' } });
});

test('a definition can be denied', async () => {
  await configure(validating, 'deny-crd', '/deny', { apiGroups: ['apiextensions.k8s.io'], resources: ['*'], operations: ['CREATE'] });
  await expect(define('refused', [version('v1', true, closed)])).rejects.toMatchObject({ status: { message: expect.stringContaining('the webhook says no') } });
});

test('a pod that a webhook changed has its defaults', async () => {
  await client.create(type('ServiceAccount'), { metadata: { name: 'default', namespace: 'default' } } as any);
  await configure(mutating, 'init', '/init', { apiGroups: [''], resources: ['pods'], operations: ['CREATE'] });
  const pod = (await client.create(pods, { metadata: { name: 'one', namespace: 'default' }, spec: { containers: [{ name: 'c', image: 'i' }] } } as any)) as any;
  expect(pod.spec.initContainers[0]).toMatchObject({ name: 'first', terminationMessagePath: '/dev/termination-log', terminationMessagePolicy: 'File', imagePullPolicy: 'Always' });
});

test('attaching to a pod can be denied', async () => {
  await configure(validating, 'deny-attach', '/deny', { apiGroups: [''], resources: ['pods/attach'], operations: ['CONNECT'] });
  const socket = new WebSocket(`wss://127.0.0.1:${server.port}/api/v1/namespaces/default/pods/one/attach?container=c&stdin=true&stdout=true`, ['v5.channel.k8s.io'], {
    ca: server.ca,
    ...server.admin,
  });
  const answer = await new Promise<string>((resolve, reject) => {
    socket.on('unexpected-response', (_request, response) => {
      response.setEncoding('utf8');
      let text = '';
      response.on('data', (chunk: string) => {
        text += chunk;
      });
      response.on('end', () => resolve(text));
    });
    socket.on('open', () => reject(new Error('it was let through')));
    socket.on('error', reject);
  });
  expect(JSON.parse(answer).message).toBe('admission webhook "deny-attach.test.example.com" denied the request: the webhook says no');
  expect(hook.seen[0]!.body.request).toMatchObject({
    kind: { group: '', version: 'v1', kind: 'PodAttachOptions' },
    resource: { group: '', version: 'v1', resource: 'pods' },
    subResource: 'attach',
    name: 'one',
    namespace: 'default',
    operation: 'CONNECT',
    object: { kind: 'PodAttachOptions', apiVersion: 'v1', container: 'c', stdin: true, stdout: true },
    oldObject: null,
    options: null,
  });
});

test('a webhook that fails closed lets nothing through', async () => {
  await configure(validating, 'closed', '/deny', { apiGroups: [''], resources: ['configmaps'], operations: ['CREATE'] }, { clientConfig: { url: 'https://127.0.0.1:1/' } });
  await expect(client.create(type('ConfigMap'), { metadata: { name: 'one', namespace: 'default' } } as any)).rejects.toMatchObject({
    status: { code: 500, reason: 'InternalError', message: expect.stringContaining('failed calling webhook "closed.test.example.com"') },
  });
});

test('no webhook keeps configurations of webhooks from being made, changed or deleted', async () => {
  const rule = { apiGroups: ['admissionregistration.k8s.io'], resources: ['*'] };
  await configure(validating, 'deny-all', '/deny', rule);
  await configure(mutating, 'change-all', '/add', rule);
  await configure(validating, 'dummy', '/deny', { apiGroups: [''], resources: ['none'] });
  expect((await client.delete(validating, { name: 'dummy' })) as any).toBeDefined();
  expect(hook.seen).toEqual([]);
});

test('fieldValidation speaks of unknown and duplicate fields of custom resources', async () => {
  await define('strict', [version('v1', true, closed)]);
  const text = (extra: string) => `{"apiVersion":"hooks.example.com/v1","kind":"Kstrict","metadata":{"name":"one","foo":"bar"},"data":{"key":"a","key":"b","other":1}${extra}}`;
  const strict = await send('POST', `${at('strict')}?fieldValidation=Strict`, text(''), { 'content-type': 'application/json' });
  expect(strict.json).toMatchObject({ code: 400, reason: 'BadRequest' });
  for (const part of ['strict decoding error: ', 'duplicate field "data.key"', 'unknown field "data.other"', 'unknown field "metadata.foo"'])
    expect(strict.json.message).toContain(part);
  const warned = await send('POST', `${at('strict')}?fieldValidation=Warn`, text(''), { 'content-type': 'application/json' });
  expect(warned.status).toBe(201);
  for (const part of ['duplicate field \\"data.key\\"', 'unknown field \\"data.other\\"', 'unknown field \\"metadata.foo\\"'])
    expect(String(warned.headers['warning'])).toContain(part);
});

test('webhook configurations are in discovery', async () => {
  expect((await send('GET', '/apis')).json.groups.find((g: any) => g.name === 'admissionregistration.k8s.io').versions).toContainEqual({ groupVersion: 'admissionregistration.k8s.io/v1', version: 'v1' });
  const names = (await send('GET', '/apis/admissionregistration.k8s.io/v1')).json.resources.map((r: any) => r.name);
  expect(names).toEqual(expect.arrayContaining(['mutatingwebhookconfigurations', 'validatingwebhookconfigurations']));
});
