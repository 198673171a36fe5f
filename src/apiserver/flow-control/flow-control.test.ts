import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { resources } from '../../api/generated/resources.ts';
import { requestOverHttp1, requestOverHttp2, startTestServer, type TestServer } from '../testing.ts';
import { FlowControl } from './flow-control.ts';
import type { Ticket } from './priority-level.ts';

const r = resources as any;
const request = (verb: string, resource: string, o: object = {}) => ({ isResource: true, path: '', verb, group: '', resource, subresource: '', namespace: 'default', ...o });
const user = (name: string, ...groups: string[]) => ({ name, groups: [...groups, 'system:authenticated'] });
const level = (name: string, shares: number, limitResponse: object, more: object = {}) =>
  ({ metadata: { name, uid: `level-${name}` }, spec: { type: 'Limited', limited: { nominalConcurrencyShares: shares, lendablePercent: 0, borrowingLimitPercent: 0, limitResponse, ...more } } }) as any;
const schema = (name: string, to: string, precedence: number, subjects: object[], distinguisher = 'ByUser') =>
  ({
    metadata: { name, uid: `flow-${name}` },
    spec: {
      priorityLevelConfiguration: { name: to },
      matchingPrecedence: precedence,
      distinguisherMethod: { type: distinguisher },
      rules: [{ subjects, resourceRules: [{ verbs: ['*'], apiGroups: ['*'], resources: ['*'], namespaces: ['*'], clusterScope: true }] }],
    },
  }) as any;
const queue = { type: 'Queue', queuing: { queues: 8, handSize: 1, queueLengthLimit: 4 } };
const everybody = [{ kind: 'Group', group: { name: 'system:authenticated' } }];

describe('the defaults', () => {
  const flow = new FlowControl();
  test.each([
    [user('root', 'system:masters'), request('create', 'pods'), 'exempt', 'exempt'],
    [user('x'), { ...request('get', ''), isResource: false, path: '/healthz' }, 'probes', 'exempt'],
    [user('system:kube-scheduler'), request('update', 'leases', { group: 'coordination.k8s.io' }), 'system-leader-election', 'leader-election'],
    [user('system:kube-scheduler'), request('create', 'pods', { subresource: 'binding' }), 'kube-scheduler', 'workload-high'],
    [user('system:node:a', 'system:nodes'), request('patch', 'nodes', { subresource: 'status', namespace: '' }), 'system-node-high', 'node-high'],
    [user('system:node:a', 'system:nodes'), request('get', 'secrets'), 'system-nodes', 'system'],
    [user('system:serviceaccount:kube-system:dns', 'system:serviceaccounts'), request('list', 'pods'), 'kube-system-service-accounts', 'workload-high'],
    [user('system:serviceaccount:default:app', 'system:serviceaccounts'), request('list', 'pods'), 'service-accounts', 'workload-low'],
    [user('jane'), request('list', 'pods', { namespace: '' }), 'global-default', 'global-default'],
  ])('%o: %o', (who, what, name, to) => {
    const found = flow.classify(who as any, what as any);
    expect([found.name, found.level.name]).toEqual([name, to]);
  });

  test('seats by shares, rounded up', () => {
    expect(Object.fromEntries([...flow.levels.values()].map((l) => [l.name, [l.nominal, l.lendable]]))).toEqual({
      exempt: [0, 0],
      'catch-all': [13, 0],
      system: [74, 24],
      'node-high': [98, 25],
      'leader-election': [25, 0],
      'workload-high': [98, 49],
      'workload-low': [245, 221],
      'global-default': [49, 25],
    });
  });
});

/** Two seats for `small`, whatever the others have. */
function smallServer(limitResponse: object = queue, waitMs = 60_000) {
  const flow = new FlowControl({ maxRequestsInflight: 2, maxMutatingRequestsInflight: 0, waitMs });
  flow.configure([schema('all', 'small', 100, everybody)], [level('small', 1_000_000, limitResponse)]);
  return flow;
}
const begin = (flow: FlowControl, name: string, objects = 0, signal?: AbortSignal, verb = 'list') => flow.begin(user(name), request(verb, 'pods'), objects, undefined, { signal });
const settled = async (work: Promise<unknown>) => Promise.race([work.then(() => true, () => true), new Promise((resolve) => setImmediate(() => resolve(false)))]);

describe('a level', () => {
  test('lets run what has seats, and the next when one leaves', async () => {
    const flow = smallServer();
    const [a] = [begin(flow, 'a') as Ticket, begin(flow, 'b') as Ticket];
    const c = begin(flow, 'c') as Promise<Ticket>;
    expect(c).toBeInstanceOf(Promise);
    expect(await settled(c)).toBe(false);
    flow.end(a);
    flow.end(await c);
    expect(flow.inFlight).toEqual({ readOnly: 1, mutating: 0 });
  });

  test('a wide list takes several seats', async () => {
    const flow = smallServer();
    const wide = begin(flow, 'a', 150) as Ticket;
    expect(wide.seats).toBe(2);
    const next = begin(flow, 'b') as Promise<Ticket>;
    expect(await settled(next)).toBe(false);
    flow.end(wide);
    flow.end(await next);
    // Wider than all: it runs, alone.
    const widest = begin(flow, 'a', 1_000_000) as Ticket;
    expect(widest.seats).toBe(10);
    flow.end(widest);
  });

  test('one flow does not crowd out another', async () => {
    const flow = smallServer({ type: 'Queue', queuing: { queues: 64, handSize: 4, queueLengthLimit: 50 } });
    const order: string[] = [];
    const run = async (name: string) => {
      const ticket = await begin(flow, name);
      order.push(name);
      await new Promise((resolve) => setImmediate(resolve));
      flow.end(ticket);
    };
    const work = [...Array.from({ length: 40 }, () => run('elephant')), run('mouse')];
    await Promise.all(work);
    // Asked after forty others, served among the first.
    expect(order.indexOf('mouse')).toBeLessThan(20);
  });

  test('full queues, time and clients that go away', async () => {
    const flow = smallServer(queue, 1);
    const running = [begin(flow, 'a') as Ticket, begin(flow, 'a') as Ticket];
    const gone = new AbortController();
    const cancelled = begin(flow, 'a', 0, gone.signal) as Promise<Ticket>;
    gone.abort();
    await expect(cancelled).rejects.toMatchObject({ code: 429 });
    const late = Array.from({ length: 4 }, () => begin(flow, 'a') as Promise<Ticket>);
    expect(() => begin(flow, 'a')).toThrow('Too many requests, please try again later.');
    for (const one of late) await expect(one).rejects.toMatchObject({ code: 429, headers: { 'retry-after': '1' } });
    expect(Object.fromEntries(flow.flows.find((f) => f.name === 'all')!.rejected)).toEqual({ cancelled: 1, 'queue-full': 1, 'time-out': 4 });
    for (const ticket of running) flow.end(ticket);
    expect(flow.levels.get('small')).toMatchObject({ executingSeats: 0, waitingSeats: 0 });
  });

  test('without queues there is no waiting; the exempt never wait', () => {
    const flow = smallServer({ type: 'Reject' });
    begin(flow, 'a');
    begin(flow, 'a');
    expect(() => begin(flow, 'a')).toThrow('Too many requests');
    expect(flow.begin(user('root', 'system:masters'), request('get', 'pods'), 0, undefined, {})).toMatchObject({ level: { name: 'exempt' } });
  });

  test('borrows what others do not use, up to its limit', () => {
    const flow = new FlowControl({ maxRequestsInflight: 8, maxMutatingRequestsInflight: 0 });
    const reject = { type: 'Reject' };
    flow.configure(
      [schema('a', 'borrower', 1, [{ kind: 'User', user: { name: 'a' } }]), schema('b', 'lender', 2, everybody)],
      [level('borrower', 1_000_000, reject, { borrowingLimitPercent: 50 }), level('lender', 1_000_000, reject, { lendablePercent: 50 })],
    );
    const tickets = Array.from({ length: 6 }, () => begin(flow, 'a') as Ticket);
    expect(() => begin(flow, 'a')).toThrow('Too many requests');
    for (const ticket of tickets) flow.end(ticket);
    for (let i = 0; i < 4; i++) begin(flow, 'b');
    for (let i = 0; i < 4; i++) begin(flow, 'a');
    expect(() => begin(flow, 'a')).toThrow('Too many requests');
  });
});

describe('without fairness', () => {
  test('reading and writing have a limit each, and administrators none', () => {
    const flow = new FlowControl({ maxRequestsInflight: 1, maxMutatingRequestsInflight: 1, priorityAndFairness: false });
    const ticket = begin(flow, 'a') as Ticket;
    expect(() => begin(flow, 'a')).toThrow('Too many requests');
    begin(flow, 'a', 0, undefined, 'create');
    expect(() => begin(flow, 'a', 0, undefined, 'delete')).toThrow('Too many requests');
    flow.begin(user('root', 'system:masters'), request('get', 'pods'), 0, undefined, {});
    flow.end(ticket);
    expect(flow.inFlight).toEqual({ readOnly: 1, mutating: 1 });
  });
});

describe('over HTTPS', () => {
  let server: TestServer;
  let hook: Server;
  /** Answers that the webhook holds back. */
  const held: (() => void)[] = [];
  let jane: { cert: string; key: string };
  const admin = () => server.localClient({ name: 'admin', groups: ['system:masters'] });

  beforeAll(async () => {
    hook = createServer((asked, response) => {
      const chunks: Buffer[] = [];
      asked.on('data', (chunk: Buffer) => chunks.push(chunk));
      asked.on('end', () => {
        const review = JSON.parse(Buffer.concat(chunks).toString());
        const answer = () => response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({ ...review, status: { allowed: true } }));
        if (review.spec.resourceAttributes?.resource === 'secrets') held.push(answer);
        else answer();
      });
    });
    await new Promise<void>((resolve) => hook.listen(0, '127.0.0.1', resolve));
    server = await startTestServer({
      authorization: {
        authorizers: [{ type: 'Webhook', name: 'slow', kubeConfigFile: '', timeoutMs: 30_000, authorizedMs: 0, unauthorizedMs: 0, version: 'v1', failurePolicy: 'Deny', matchConditions: [] }],
        webhookConfig: () => ({ server: `http://127.0.0.1:${(hook.address() as AddressInfo).port}/` }),
      },
      requestTimeoutMs: 1_500,
    });
    jane = await server.authority.issue({ commonName: 'jane' });
  });
  afterAll(async () => {
    for (const answer of held) answer();
    await server?.stop();
    hook?.closeAllConnections();
    await new Promise((resolve) => hook?.close(resolve));
  });

  test('the default objects are stored, and answers name them', async () => {
    const flows = (await admin().list(r.flowschemas)).items as any[];
    const levels = (await admin().list(r.prioritylevelconfigurations)).items as any[];
    expect([flows.length, levels.length]).toEqual([11, 8]);
    const uid = (list: any[], name: string) => list.find((o) => o.metadata.name === name).metadata.uid;
    for (const over of [requestOverHttp1, requestOverHttp2]) {
      const { headers } = await over(server, { path: '/api/v1/namespaces/default/pods', user: jane });
      expect(headers['x-kubernetes-pf-flowschema-uid']).toBe(uid(flows, 'global-default'));
      expect(headers['x-kubernetes-pf-prioritylevel-uid']).toBe(uid(levels, 'global-default'));
    }
  });

  test('what is mandatory comes back', async () => {
    await admin().delete(r.flowschemas, { name: 'catch-all' });
    await expect.poll(async () => (await admin().list(r.flowschemas)).items.length, { timeout: 10_000 }).toBe(11);
  });

  test('a schema without its level says so, and is passed over', async () => {
    await admin().create(r.flowschemas, { ...schema('lost', 'nowhere', 10, [{ kind: 'User', user: { name: 'jane' } }]), metadata: { name: 'lost' } });
    const status = async () => ((await admin().get(r.flowschemas, { name: 'lost' })) as any).status?.conditions?.[0]?.status;
    await expect.poll(status, { timeout: 10_000 }).toBe('True');
    expect((await requestOverHttp2(server, { path: '/api/v1/namespaces/default/pods', user: jane })).status).toBe(200);
    await admin().delete(r.flowschemas, { name: 'lost' });
  });

  test('429 with Retry-After where a level has no room; others are served', async () => {
    await admin().create(r.prioritylevelconfigurations, {
      metadata: { name: 'tiny' },
      spec: { type: 'Limited', limited: { nominalConcurrencyShares: 0, lendablePercent: 0, borrowingLimitPercent: 0, limitResponse: { type: 'Reject' } } },
    } as any);
    await admin().create(r.flowschemas, { ...schema('janes', 'tiny', 10, [{ kind: 'User', user: { name: 'jane' } }]), metadata: { name: 'janes' } });
    const path = '/api/v1/namespaces/default/configmaps';
    const made = (await admin().get(r.flowschemas, { name: 'janes' })) as any;
    await expect
      .poll(async () => (await requestOverHttp2(server, { path, user: jane })).headers['x-kubernetes-pf-flowschema-uid'], { timeout: 10_000 })
      .toBe(made.metadata.uid);
    // A request that the authorizer holds up has the only seat.
    const first = requestOverHttp2(server, { path: '/api/v1/namespaces/default/secrets', user: jane });
    await expect.poll(() => held.length, { timeout: 5_000 }).toBe(1);
    const refused = await requestOverHttp2(server, { path, user: jane });
    expect([refused.status, refused.headers['retry-after'], refused.json.reason]).toEqual([429, '1', 'TooManyRequests']);
    expect((await requestOverHttp2(server, { path, user: await server.authority.issue({ commonName: 'joe' }) })).status).toBe(200);
    held.pop()!();
    expect((await first).status).toBe(200);
    const { body } = await requestOverHttp2(server, { path: '/metrics', user: server.admin });
    expect(body.toString()).toContain('apiserver_flowcontrol_rejected_requests_total{flow_schema="janes",priority_level="tiny",reason="concurrency-limit"} 1');
    expect(body.toString()).toMatch(/^apiserver_request_terminations_total\{code="429".*\} 1$/m);
    const dump = await requestOverHttp2(server, { path: '/debug/api_priority_and_fairness/dump_priority_levels', user: server.admin });
    expect(dump.body.toString()).toMatch(/^tiny, 0, true, false, 0, 0, \d+, 1, 0, 0$/m);
    await admin().delete(r.flowschemas, { name: 'janes' });
  });

  test('clients in this process have their turn too', async () => {
    const before = server.metrics;
    await server.localClient({ name: 'inside', groups: [] }).list(r.pods, { namespace: 'default' });
    const text = before.text();
    expect(text).toMatch(/^apiserver_flowcontrol_dispatched_requests_total\{flow_schema="global-default",priority_level="global-default"\} [1-9]/m);
    expect(text).toMatch(/^apiserver_current_inflight_requests\{request_kind="readOnly"\} 0$/m);
  });

  test('a request that takes too long is answered with 504', async () => {
    const answer = await requestOverHttp2(server, { path: '/api/v1/namespaces/default/secrets', user: jane });
    expect([answer.status, answer.json.reason]).toEqual([504, 'Timeout']);
    held.pop()!();
    expect((await requestOverHttp2(server, { path: '/api/v1/namespaces/default/pods?timeout=soon', user: jane })).status).toBe(400);
  });

  test('at its end it is not ready first, ends watches, and finishes requests', async () => {
    const own = await startTestServer({
      authorization: {
        authorizers: [{ type: 'Webhook', name: 'slow', kubeConfigFile: '', timeoutMs: 30_000, authorizedMs: 0, unauthorizedMs: 0, version: 'v1', failurePolicy: 'Deny', matchConditions: [] }],
        webhookConfig: () => ({ server: `http://127.0.0.1:${(hook.address() as AddressInfo).port}/` }),
      },
    });
    const someone = await own.authority.issue({ commonName: 'someone' });
    const watch = requestOverHttp2(own, { path: '/api/v1/pods?watch=true&resourceVersion=0', user: someone });
    const running = requestOverHttp2(own, { path: '/api/v1/namespaces/default/secrets', user: someone });
    await expect.poll(() => held.length, { timeout: 5_000 }).toBe(1);
    const stopped = own.stop(20_000, 1_000);
    expect((await requestOverHttp2(own, { path: '/readyz', user: own.admin })).status).toBe(500);
    expect((await requestOverHttp2(own, { path: '/livez', user: own.admin })).status).toBe(200);
    expect((await watch).status).toBe(200);
    held.pop()!();
    expect((await running).status).toBe(200);
    await stopped;
  });
});
