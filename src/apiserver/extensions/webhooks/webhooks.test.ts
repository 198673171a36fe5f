import { connect } from 'node:net';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import type { Client } from '../../../client/client.ts';
import * as resources from '../../../api/generated/resources.ts';
import { requestOverHttp1, startTestServer, type TestServer } from '../../testing.ts';
import { patched, review, startTestWebhook, type TestWebhook } from './testing.ts';

let server: TestServer;
let hook: TestWebhook;
let client: Client;
const type = (kind: string): any => {
  const found = resources.builtinResources.find((r) => r.kind === kind && !(kind === 'Event' && r.group === ''));
  if (!found) throw new Error(kind);
  return found;
};
const configMaps = type('ConfigMap');
const mutating = type('MutatingWebhookConfiguration');
const validating = type('ValidatingWebhookConfiguration');

const add = (key: string, value: string) => ({ op: 'add', path: `/data/${key}`, value });

beforeAll(async () => {
  // Services are reached through dial: this one takes every address for the webhook's.
  server = await startTestServer({ dial: async (host, port) => connect({ host: host === '10.0.0.9' ? '127.0.0.1' : host, port: host === '10.0.0.9' ? hook.port : port }) });
  client = server.localClient({ name: 'tester', groups: ['system:masters'] });
  hook = await startTestWebhook(server.authority, {
    '/first': (body) => patched(body, body.request.object.data?.first ? [add('again', 'yes')] : [add('first', '1')], { warnings: ['first was here'], auditAnnotations: { a: 'b' } }),
    '/second': (body) => patched(body, body.request.object.data?.second ? [] : [add('second', '2')]),
    '/deny': (body) =>
      body.request.object?.data?.bad || body.request.operation === 'DELETE'
        ? review(body, { allowed: false, status: { message: 'bad data', code: 403, reason: 'Forbidden' } })
        : review(body, { allowed: true }),
    '/wrong-uid': (body) => ({ apiVersion: body.apiVersion, kind: body.kind, response: { uid: 'x', allowed: true } }),
    '/never': () => undefined,
    '/scale': (body) => review(body, { allowed: body.request.object.spec.replicas < 5, status: { message: 'too many' } }),
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

const rule = { operations: ['*'], apiGroups: [''], apiVersions: ['v1'], resources: ['configmaps'] };
const webhook = (path: string, more: object = {}) => ({
  name: `${path.slice(1)}.test.example.com`,
  clientConfig: { url: hook.url(path), caBundle: hook.caBundle },
  rules: [rule],
  sideEffects: 'None',
  admissionReviewVersions: ['v1'],
  ...more,
});
const configuration = (kind: any, name: string, ...webhooks: object[]) => client.create(kind, { metadata: { name }, webhooks } as any);
const configMap = (name: string, data: Record<string, string> = {}, labels: Record<string, string> = {}) =>
  client.create(configMaps, { metadata: { name, namespace: 'default', labels }, data } as any) as Promise<any>;

test('objects are changed by patch, and webhooks that ask for it look again', async () => {
  await configuration(mutating, 'a', webhook('/first', { reinvocationPolicy: 'IfNeeded' }));
  await configuration(mutating, 'b', webhook('/second'));
  const made = await configMap('one', { own: 'x' });
  expect(made.data).toEqual({ own: 'x', first: '1', second: '2', again: 'yes' });
  expect(hook.seen.map((s) => s.path)).toEqual(['/first', '/second', '/first']);
  const { request } = hook.seen[0]!.body;
  expect(request).toMatchObject({
    kind: { group: '', version: 'v1', kind: 'ConfigMap' },
    resource: { group: '', version: 'v1', resource: 'configmaps' },
    name: 'one',
    namespace: 'default',
    operation: 'CREATE',
    dryRun: false,
    oldObject: null,
    userInfo: { username: 'tester', groups: ['system:masters', 'system:authenticated'] },
    options: { kind: 'CreateOptions', apiVersion: 'meta.k8s.io/v1' },
  });
});

test('validating webhooks refuse, with their own status', async () => {
  await configuration(validating, 'a', webhook('/deny'));
  await expect(configMap('bad', { bad: '1' })).rejects.toMatchObject({
    status: { code: 403, message: 'admission webhook "deny.test.example.com" denied the request: bad data' },
  });
  await configMap('good');
  await expect(client.delete(configMaps, { namespace: 'default', name: 'good' })).rejects.toMatchObject({ status: { code: 403 } });
  expect(hook.seen.at(-1)!.body.request).toMatchObject({ operation: 'DELETE', object: null, oldObject: { metadata: { name: 'good' } } });
});

test('warnings reach the client', async () => {
  await configuration(mutating, 'a', webhook('/first'));
  const answer = await requestOverHttp1(server, {
    method: 'POST',
    path: '/api/v1/namespaces/default/configmaps',
    user: server.admin,
    body: JSON.stringify({ metadata: { name: 'warned' }, data: { x: 'y' } }),
  });
  expect(answer.headers['warning']).toBe('299 - "first was here"');
});

test('selectors and conditions choose the requests', async () => {
  await configuration(
    validating,
    'a',
    webhook('/deny', {
      objectSelector: { matchLabels: { look: 'yes' } },
      matchConditions: [{ name: 'not-tester', expression: 'request.userInfo.username != "nobody" && object.metadata.name.startsWith("x")' }],
    }),
  );
  await configMap('plain', { bad: '1' });
  await configMap('plain2', { bad: '1' }, { look: 'yes' });
  await expect(configMap('x1', { bad: '1' }, { look: 'yes' })).rejects.toMatchObject({ status: { code: 403 } });
});

test('the failure policy decides where a webhook cannot be asked', async () => {
  await configuration(validating, 'a', webhook('/never', { timeoutSeconds: 1 }));
  await expect(configMap('slow')).rejects.toMatchObject({
    status: {
      code: 500,
      message: expect.stringMatching(
        /^Internal error occurred: failed calling webhook "never.test.example.com": failed to call webhook: Post "https:\/\/127.0.0.1:\d+\/never\?timeout=1s": context deadline exceeded$/,
      ),
    },
  });
  await client.deleteCollection(validating);
  await configuration(validating, 'b', webhook('/wrong-uid'));
  await expect(configMap('wrong')).rejects.toMatchObject({ status: { message: expect.stringContaining('received invalid webhook response: expected response.uid=') } });
  await client.deleteCollection(validating);
  await configuration(validating, 'c', webhook('/never', { timeoutSeconds: 1, failurePolicy: 'Ignore' }), webhook('/wrong-uid', { failurePolicy: 'Ignore' }));
  await configMap('ignored');
});

test('dry runs ask only webhooks without side effects', async () => {
  await configuration(validating, 'a', webhook('/deny', { sideEffects: 'NoneOnDryRun' }));
  await client.create(configMaps, { metadata: { name: 'dry', namespace: 'default' } } as any, { dryRun: true });
  expect(hook.seen.at(-1)!.body.request.dryRun).toBe(true);
});

test('a scale is judged as a scale', async () => {
  const deployments = type('Deployment');
  await client.create(deployments, {
    metadata: { name: 'web', namespace: 'default' },
    spec: { replicas: 1, selector: { matchLabels: { a: 'b' } }, template: { metadata: { labels: { a: 'b' } }, spec: { containers: [{ name: 'c', image: 'i' }] } } },
  } as any);
  await configuration(validating, 'a', webhook('/scale', { rules: [{ operations: ['UPDATE'], apiGroups: ['apps'], apiVersions: ['v1'], resources: ['deployments/scale'] }] }));
  const scale = (replicas: number) => client.patch(deployments, { namespace: 'default', name: 'web' }, 'merge', { spec: { replicas } }, { subresource: 'scale' });
  await scale(3);
  expect(hook.seen.at(-1)!.body.request).toMatchObject({ kind: { group: 'autoscaling', kind: 'Scale' }, subResource: 'scale', object: { spec: { replicas: 3 } } });
  await expect(scale(7)).rejects.toMatchObject({ status: { code: 400, message: expect.stringContaining('too many') } });
});

test('a service is reached through its endpoints', async () => {
  await client.create(type('Service'), { metadata: { name: 'hook', namespace: 'default' }, spec: { ports: [{ port: 443 }] } } as any);
  await client.create(type('EndpointSlice'), {
    metadata: { name: 'hook-1', namespace: 'default', labels: { 'kubernetes.io/service-name': 'hook' } },
    addressType: 'IPv4',
    ports: [{ port: 8443 }],
    endpoints: [{ addresses: ['10.0.0.9'], conditions: { ready: true } }],
  } as any);
  await configuration(
    validating,
    'a',
    webhook('/deny', { clientConfig: { service: { namespace: 'default', name: 'hook', path: '/deny' }, caBundle: hook.caBundle } }),
  );
  await expect(configMap('served', { bad: '1' })).rejects.toMatchObject({ status: { code: 403 } });
});

test('configurations that make no sense are refused', async () => {
  await expect(configuration(validating, 'a', { ...webhook('/deny'), name: 'short', sideEffects: 'Some', rules: [{ ...rule, operations: ['*', 'CREATE'] }] })).rejects.toMatchObject({
    status: {
      message: expect.stringContaining('webhooks[0].sideEffects: Unsupported value: "Some": supported values: "None", "NoneOnDryRun"'),
    },
  });
  await expect(configuration(mutating, 'a', webhook('/first', { matchConditions: [{ name: 'c', expression: 'nothing' }] }))).rejects.toMatchObject({
    status: { message: expect.stringContaining("undeclared reference to 'nothing'") },
  });
});
