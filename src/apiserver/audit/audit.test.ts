import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { resources } from '../../api/generated/resources.ts';
import { requestOverHttp2, startTestServer } from '../testing.ts';
import { type AuditEvent, Auditor } from './audit.ts';
import { auditLog } from './log-backend.ts';
import { parseAuditPolicy } from './policy.ts';
import { auditWebhook } from './webhook-backend.ts';

const ends: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});
const policy = (...rules: object[]) => JSON.stringify({ kind: 'Policy', apiVersion: 'audit.k8s.io/v1', rules });

/** A server whose events are kept, and a way to ask it over HTTPS. */
async function start(...rules: object[]) {
  const events: any[] = [];
  const backend = { write: (event: AuditEvent) => void events.push(JSON.parse(JSON.stringify(event))), close: async () => {} };
  const server = await startTestServer({ audit: new Auditor(parseAuditPolicy(policy(...rules)), [backend]) });
  ends.push(() => server.stop());
  await server.ready;
  // What the server itself asked for is told too.
  const own = (e: any) => e.user.username === 'system:apiserver' || e.user.username === 'system:aggregator';
  backend.write = (event) => void (own(event) || events.push(JSON.parse(JSON.stringify(event))));
  events.length = 0;
  const send = (method: string, path: string, body?: object, headers: Record<string, string> = {}) =>
    requestOverHttp2(server, {
      method,
      path,
      user: server.admin,
      headers: { 'content-type': 'application/json', 'user-agent': 'test/1', ...headers },
      ...(body ? { body: JSON.stringify(body) } : {}),
    });
  return { server, events, send };
}

describe('clients in the process of the server', () => {
  const configMaps = { level: 'RequestResponse', resources: [{ group: '', resources: ['configmaps'] }], omitManagedFields: true };
  const metadata = { name: 'c', namespace: 'default' };

  it('are told of as others are', async () => {
    const { server, events } = await start(configMaps, { level: 'Metadata', resources: [{ group: '', resources: ['secrets'] }] });
    const client = server.localClient({ name: 'system:kube-controller-manager', groups: ['system:masters'] });
    await client.create(resources.configmaps, { metadata, data: { a: 'b' } });
    await client.patch(resources.configmaps, metadata, 'merge', { data: { a: 'c' } });
    await client.list(resources.configmaps, { namespace: 'default', labelSelector: 'a=b' });
    await client.create(resources.secrets, { metadata, stringData: { password: 'hunter2' } });
    await expect(client.get(resources.configmaps, { name: 'none', namespace: 'default' })).rejects.toThrow('not found');
    const complete = events.filter((e) => e.stage === 'ResponseComplete');
    expect(complete.map((e) => [e.verb, e.requestURI, e.responseStatus.code])).toEqual([
      ['create', '/api/v1/namespaces/default/configmaps', 201],
      ['patch', '/api/v1/namespaces/default/configmaps/c', 200],
      ['list', '/api/v1/namespaces/default/configmaps?labelSelector=a%3Db', 200],
      ['create', '/api/v1/namespaces/default/secrets', 201],
      ['get', '/api/v1/namespaces/default/configmaps/none', 404],
    ]);
    expect(complete[0]).toMatchObject({
      user: { username: 'system:kube-controller-manager', groups: ['system:masters', 'system:authenticated'] },
      sourceIPs: ['::1'],
      userAgent: 'kube-controller-manager',
      objectRef: { resource: 'configmaps', namespace: 'default', apiVersion: 'v1' },
      requestObject: { data: { a: 'b' } },
      responseObject: { metadata: { name: 'c' }, data: { a: 'b' } },
      annotations: { 'authorization.k8s.io/decision': 'allow' },
    });
    expect(complete[0].responseObject.metadata.managedFields).toBeUndefined();
    expect(complete[1].requestObject).toEqual({ data: { a: 'c' } });
    expect(complete[4].responseStatus).toMatchObject({ reason: 'NotFound', status: 'Failure' });
    expect(JSON.stringify(events)).not.toContain('hunter2');
  });

  it('also where they are refused, and of watches as they begin and end', async () => {
    const { server, events } = await start(configMaps);
    await expect(server.localClient({ name: 'jane', groups: [] }).create(resources.configmaps, { metadata })).rejects.toThrow('cannot create');
    expect(events.at(-1)).toMatchObject({ stage: 'ResponseComplete', responseStatus: { code: 403, reason: 'Forbidden' }, annotations: { 'authorization.k8s.io/decision': 'forbid' } });
    events.length = 0;
    const ending = new AbortController();
    const client = server.localClient({ name: 'admin', groups: ['system:masters'] });
    const watch = client.watch(resources.configmaps, { namespace: 'default', resourceVersion: '1', signal: ending.signal })[Symbol.asyncIterator]();
    const first = watch.next();
    await expect.poll(() => events.map((e) => e.stage)).toEqual(['RequestReceived', 'ResponseStarted']);
    ending.abort();
    await first.catch(() => {});
    await watch.return?.();
    expect(events.map((e) => [e.stage, e.requestURI])).toContainEqual(['ResponseComplete', '/api/v1/namespaces/default/configmaps?resourceVersion=1&watch=true']);
  });
});

describe('events', () => {
  it('tell who did what to what, with bodies where the rule asks for them', async () => {
    const { events, send } = await start(
      { level: 'None', nonResourceURLs: ['/healthz*', '/version'] },
      { level: 'Metadata', resources: [{ group: '', resources: ['secrets'] }] },
      { level: 'RequestResponse', resources: [{ group: '', resources: ['configmaps'] }], omitStages: ['RequestReceived'] },
    );
    await send('GET', '/version');
    await send('POST', '/api/v1/namespaces/default/secrets', { metadata: { name: 's' }, stringData: { password: 'hunter2' } });
    await send('POST', '/api/v1/namespaces/default/configmaps', { metadata: { name: 'c' }, data: { a: 'b' } });
    await send('GET', '/api/v1/namespaces/default/services');
    expect(events.map((e) => `${e.level} ${e.stage} ${e.verb} ${e.objectRef.resource}`)).toEqual([
      'Metadata RequestReceived create secrets',
      'Metadata ResponseComplete create secrets',
      'RequestResponse ResponseComplete create configmaps',
    ]);
    expect(JSON.stringify(events)).not.toContain('hunter2');
    expect(events[1]).toMatchObject({
      kind: 'Event',
      apiVersion: 'audit.k8s.io/v1',
      requestURI: '/api/v1/namespaces/default/secrets',
      user: { username: 'kubernetes-admin', groups: ['system:masters', 'system:authenticated'] },
      sourceIPs: ['127.0.0.1'],
      userAgent: 'test/1',
      objectRef: { resource: 'secrets', namespace: 'default', apiVersion: 'v1' },
      responseStatus: { metadata: {}, code: 201 },
      annotations: { 'authorization.k8s.io/decision': 'allow' },
    });
    expect(events[0].auditID).toBe(events[1].auditID);
    expect(events[1].requestReceivedTimestamp).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/);
    expect(events[2]).toMatchObject({ requestObject: { data: { a: 'b' } }, responseObject: { kind: 'ConfigMap', data: { a: 'b' } } });
  });

  it('tell refusals, and both users of an impersonation', async () => {
    const { events, send } = await start({ level: 'Request', resources: [{ group: '', resources: ['pods'] }], omitStages: ['RequestReceived'] });
    await send('GET', '/api/v1/namespaces/default/pods', undefined, { 'impersonate-user': 'jane' });
    await send('GET', '/api/v1/namespaces/default/pods/none');
    expect(events[0]).toMatchObject({
      user: { username: 'kubernetes-admin' },
      impersonatedUser: { username: 'jane' },
      responseStatus: { code: 403 },
      annotations: { 'authorization.k8s.io/decision': 'forbid' },
    });
    expect(events[1]).toMatchObject({ verb: 'get', objectRef: { name: 'none' }, responseStatus: { code: 404 } });
  });

  it('a watch is told when it starts and when it ends', async () => {
    const { events, send } = await start({ level: 'Metadata', verbs: ['watch'], omitStages: ['RequestReceived'] });
    await send('GET', '/api/v1/namespaces?watch=true&timeoutSeconds=1');
    await expect.poll(() => events.map((e) => e.stage)).toEqual(['ResponseStarted', 'ResponseComplete']);
  });
});

it.each([
  ['{}', 'not a Policy'],
  [policy(), 'rules: Required value'],
  [policy({ level: 'Everything' }), 'rules[0].level: Unsupported value: "Everything"'],
  [policy({ level: 'None', nonResourceURLs: ['/x'], namespaces: ['a'] }), 'rules[0].nonResourceURLs: Invalid value'],
  [policy({ level: 'None', omitStages: ['Never'] }), 'rules[0].omitStages: Unsupported value: "Never"'],
])('says what is wrong with a policy', (text, message) => expect(() => parseAuditPolicy(text)).toThrow(message));

it('the log is turned over at its size, and keeps as many as are asked for', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'kumulus-audit-'));
  ends.push(() => rmSync(folder, { recursive: true, force: true }));
  const log = auditLog({ path: join(folder, 'audit.log'), maxSize: 0.001, maxBackup: 2 });
  for (let i = 0; i < 30; i++) {
    log.write({ n: i, text: 'x'.repeat(200) });
    if (i % 4 === 3) await new Promise((resolve) => setTimeout(resolve, 5));
  }
  await log.close();
  const files = readdirSync(folder).sort();
  expect(files).toHaveLength(3);
  expect(files[0]).toMatch(/^audit-\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d\.\d{3}\.log$/);
  const last = readFileSync(join(folder, 'audit.log'), 'utf8').trim().split('\n').at(-1) as string;
  expect(JSON.parse(last)).toMatchObject({ n: 29 });
});

it('a webhook gets batches in order, again where it failed, and the rest at the end', async () => {
  const got: number[][] = [];
  let refuse = 1;
  const hook = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (c) => chunks.push(c));
    request.on('end', () => {
      response.statusCode = refuse-- > 0 ? 503 : 200;
      if (response.statusCode === 200) got.push(JSON.parse(Buffer.concat(chunks).toString()).items.map((e: any) => e.n));
      response.end();
    });
  });
  await new Promise<void>((resolve) => hook.listen(0, '127.0.0.1', () => resolve()));
  ends.push(() => hook.close());
  const backend = auditWebhook({
    config: { server: `http://127.0.0.1:${(hook.address() as AddressInfo).port}/audit` },
    maxBatchSize: 3,
    initialBackoffMs: 5,
  });
  for (let n = 0; n < 7; n++) backend.write({ n });
  await expect.poll(() => got.length).toBeGreaterThanOrEqual(2);
  backend.write({ n: 7 });
  await backend.close();
  expect(got.flat()).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
  expect(got[0]).toEqual([0, 1, 2]);
});
