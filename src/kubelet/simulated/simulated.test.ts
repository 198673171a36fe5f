import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { pino } from 'pino';
import { resources } from '../../api/generated/resources.ts';
import type { Pod } from '../../api/generated/types.ts';
import { startTestServer, type TestServer } from '../../apiserver/testing.ts';
import type { Client } from '../../client/client.ts';
import { FakeClock } from '../../client/fake-clock.ts';
import { createInformerFactory } from '../../client/informers.ts';
import { type BehaviourRule, behaviourAnnotation, behaviourOf } from './behaviour.ts';
import { SimulatedNodes } from './nodes.ts';
import { PodAddresses } from './pod-addresses.ts';

let server: TestServer;
let client: Client;
let clock: FakeClock;
let stopping: AbortController;
let nodes: SimulatedNodes;
const log = pino({ level: 'silent' });

function simulate(rules: BehaviourRule[] = []): SimulatedNodes {
  stopping = new AbortController();
  const informers = createInformerFactory(client, { log, clock, signal: stopping.signal });
  return new SimulatedNodes({ client, informers, clock, log, signal: stopping.signal, rules });
}

beforeEach(async () => {
  server = await startTestServer();
  client = server.localClient({ name: 'test', groups: ['system:masters'] });
  clock = new FakeClock(Date.now());
  await client.create(resources.serviceaccounts, { metadata: { name: 'default', namespace: 'default' } });
});
afterEach(async () => {
  stopping?.abort(new Error('the test is over'));
  await server.stop();
});

/** Asks until it is so: what happens happens without time passing, but not at once. */
async function until<T>(what: string, ask: () => Promise<T | undefined | false>): Promise<T> {
  for (let i = 0; i < 500; i++) {
    const answer = await ask().catch(() => undefined);
    if (answer) return answer;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error(`never came: ${what}`);
}

async function addNode(name = 'n1', podCIDR = '10.244.0.0/24'): Promise<void> {
  nodes.add({ name, address: '10.0.0.5', capacity: { cpu: '2', memory: '8Gi' } });
  await until('the node', () => client.get(resources.nodes, { name }));
  await client.patch(resources.nodes, { name }, 'merge', { spec: { podCIDR, podCIDRs: [podCIDR] } });
}

const key = (name: string) => ({ namespace: 'default', name });
const createPod = (name: string, o: { spec?: Partial<Pod['spec']>; behaviour?: object } = {}) =>
  client.create(resources.pods, {
    metadata: { name, namespace: 'default', ...(o.behaviour ? { annotations: { [behaviourAnnotation]: JSON.stringify(o.behaviour) } } : {}) },
    spec: { nodeName: 'n1', containers: [{ name: 'c', image: 'nginx:1' }], ...o.spec } as Pod['spec'],
  });
const pod = (name: string) => client.get(resources.pods, key(name));
const isReady = (p: Pod) => p.status?.conditions?.some((c) => c.type === 'Ready' && c.status === 'True') ?? false;
const becomes = (name: string, what: string, is: (p: Pod) => boolean) =>
  until(`${name} ${what}`, async () => {
    const found = await pod(name);
    return is(found) && found;
  });

describe('nodes', () => {
  test('register Ready, with a lease that is renewed', async () => {
    nodes = simulate();
    await addNode();
    const node = await client.get(resources.nodes, { name: 'n1' });
    expect(node.status?.conditions?.find((c) => c.type === 'Ready')).toMatchObject({ status: 'True', reason: 'KubeletReady' });
    expect(node.status?.allocatable).toMatchObject({ cpu: '2', memory: '8Gi', pods: '110' });
    const lease = await until('the lease', () => client.get(resources.leases, { name: 'n1', namespace: 'kube-node-lease' }));
    clock.advance(11_000);
    await until('its renewal', async () => {
      const now = await client.get(resources.leases, { name: 'n1', namespace: 'kube-node-lease' });
      return now.spec?.renewTime !== lease.spec?.renewTime;
    });
  });

  test('a silent one renews nothing and reports no pods until it is back', async () => {
    nodes = simulate();
    await addNode();
    await until('the lease', () => client.get(resources.leases, { name: 'n1', namespace: 'kube-node-lease' }));
    expect(nodes.setUp('n1', false)).toBe(true);
    await createPod('p');
    clock.advance(60_000);
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect((await pod('p')).status?.phase).toBe('Pending');
    nodes.setUp('n1', true);
    await becomes('p', 'Ready', isReady);
    expect(nodes.setUp('nobody', true)).toBe(false);
  });

  test('one whose name another instance had before has a Node of its own', async () => {
    nodes = simulate();
    const providerID = 'aws:///us-east-1a/i-0000000000000dead';
    const before = await client.create(resources.nodes, { metadata: { name: 'n1' }, spec: { providerID } } as never);
    const providerId = 'aws:///us-east-1a/i-0123456789abcdef0';
    nodes.add({ name: 'n1', address: '10.0.0.5', capacity: { cpu: '2', memory: '8Gi' }, providerId });
    const node = await until('its own Node', async () => {
      const found = await client.get(resources.nodes, { name: 'n1' });
      return found.spec.providerID === providerId && found;
    });
    expect(node.metadata.uid).not.toBe(before.metadata.uid);
  });

  test('one whose Node was deleted registers again', async () => {
    nodes = simulate();
    await addNode();
    const { uid } = (await client.get(resources.nodes, { name: 'n1' })).metadata;
    await client.delete(resources.nodes, { name: 'n1' });
    await until('its end', async () => (await client.list(resources.nodes)).items.length === 0);
    await until('the node again', async () => {
      clock.advance(1000);
      return (await client.get(resources.nodes, { name: 'n1' })).metadata.uid !== uid;
    });
  });
});

describe('pods', () => {
  test('run and are ready at once, with an address of the node range', async () => {
    nodes = simulate();
    await addNode();
    await createPod('p', { spec: { initContainers: [{ name: 'init', image: 'i' }] as never } });
    const found = await becomes('p', 'Ready', isReady);
    expect(found.status).toMatchObject({ phase: 'Running', podIP: '10.244.0.2', hostIP: '10.0.0.5' });
    expect(found.status?.containerStatuses?.[0]).toMatchObject({ name: 'c', ready: true, started: true, restartCount: 0 });
    expect(found.status?.initContainerStatuses?.[0]?.state?.terminated?.exitCode).toBe(0);
  });

  test('start and become ready when their time has come', async () => {
    nodes = simulate([{ match: { image: 'nginx' }, startAfterMs: 5000, readyAfterMs: 7000 }]);
    await addNode();
    await createPod('p');
    const seen: string[] = [];
    await until('all of its stages', async () => {
      const now = await pod('p');
      const stage = `${now.status?.phase} ${isReady(now)}`;
      if (seen.at(-1) !== stage) seen.push(stage);
      clock.advance(500);
      return isReady(now);
    });
    expect(seen).toEqual(['Pending false', 'Running false', 'Running true']);
  });

  test('end, and start again with growing pauses, as their restart policy says', async () => {
    nodes = simulate();
    await addNode();
    await createPod('never', { behaviour: { completeAfterMs: 0, exitCode: 3 }, spec: { restartPolicy: 'Never' } });
    const failed = await becomes('never', 'Failed', (p) => p.status?.phase === 'Failed');
    expect(failed.status?.containerStatuses?.[0]?.state?.terminated).toMatchObject({ exitCode: 3, reason: 'Error' });
    await createPod('once', { behaviour: { completeAfterMs: 0 }, spec: { restartPolicy: 'OnFailure' } });
    await becomes('once', 'Succeeded', (p) => p.status?.phase === 'Succeeded');
    await createPod('always', { behaviour: { completeAfterMs: 100, exitCode: 1 } });
    await becomes('always', 'Ready', isReady);
    await until('the crash', async () => {
      clock.advance(50);
      return (await pod('always')).status?.containerStatuses?.[0]?.state?.waiting?.reason === 'CrashLoopBackOff';
    });
    expect((await pod('always')).status?.containerStatuses?.[0]).toMatchObject({ restartCount: 1, ready: false });
    clock.advance(10_000);
    await becomes('always', 'Ready again', isReady);
  });

  test('are deleted when their time has come, and leave their address', async () => {
    nodes = simulate();
    await addNode();
    await createPod('p', { behaviour: { terminateAfterMs: 5000 } });
    await becomes('p', 'Ready', isReady);
    await client.delete(resources.pods, key('p'));
    expect((await pod('p')).metadata.deletionTimestamp).toBeDefined();
    await until('its end', async () => {
      clock.advance(1000);
      return (await client.list(resources.pods)).items.length === 0;
    });
  });

  test('wait for their readiness gates', async () => {
    nodes = simulate();
    await addNode();
    await createPod('p', { spec: { readinessGates: [{ conditionType: 'example.com/gate' }] } });
    const running = await becomes('p', 'Running', (p) => p.status?.phase === 'Running');
    expect(running.status?.conditions?.find((c) => c.type === 'Ready')).toMatchObject({ status: 'False', reason: 'ReadinessGatesNotReady' });
    const gate = { type: 'example.com/gate', status: 'True' };
    await client.patch(resources.pods, key('p'), 'strategic', { status: { conditions: [gate] } }, { subresource: 'status' });
    await becomes('p', 'Ready', isReady);
  });

  test('of an earlier process go on as they are', async () => {
    nodes = simulate();
    await addNode();
    await createPod('p');
    const before = await becomes('p', 'Ready', isReady);
    stopping.abort(new Error('restart'));
    nodes = simulate();
    nodes.add({ name: 'n1', address: '10.0.0.5', capacity: { cpu: '2', memory: '8Gi' } });
    await createPod('q');
    const other = await becomes('q', 'Ready', isReady);
    expect(other.status?.podIP).not.toBe(before.status?.podIP);
    expect((await pod('p')).status?.containerStatuses).toEqual(before.status?.containerStatuses);
  });

  test('whose annotation cannot be read wait and say why', async () => {
    nodes = simulate();
    await addNode();
    await createPod('p', { behaviour: ['no object'] });
    const found = await becomes('p', 'waiting', (p) => p.status?.containerStatuses?.[0]?.state?.waiting?.reason === 'CreateContainerConfigError');
    expect(found.status?.containerStatuses?.[0]?.state?.waiting?.message).toBe(`annotation ${behaviourAnnotation} is not an object`);
  });
});

test('the first rule that fits decides, and the annotation wins', () => {
  const rules: BehaviourRule[] = [
    { match: { labels: { app: 'a' } }, readyAfterMs: 1 },
    { match: { image: 'nginx' }, readyAfterMs: 2 },
    { match: { namespace: 'x', ownerKind: 'Job' }, completeAfterMs: 5 },
  ];
  const make = (metadata: object, image = 'other') =>
    ({ metadata: { namespace: 'x', ...metadata }, spec: { containers: [{ image }] } }) as unknown as Pod;
  const job = { ownerReferences: [{ kind: 'Job', controller: true }] };
  expect(behaviourOf(make({ labels: { app: 'a' } }, 'nginx'), rules)).toEqual({ readyAfterMs: 1 });
  expect(behaviourOf(make({}, 'nginx:1.29'), rules)).toEqual({ readyAfterMs: 2 });
  expect(behaviourOf(make({}, 'nginxx'), rules)).toEqual({});
  expect(behaviourOf(make(job), rules)).toEqual({ completeAfterMs: 5 });
  expect(behaviourOf(make({ ...job, namespace: 'y' }), rules)).toEqual({ completeAfterMs: 1000 });
  expect(behaviourOf(make({ annotations: { [behaviourAnnotation]: 'readyAfterMs: 9' } }, 'nginx'), rules)).toEqual({ readyAfterMs: 9 });
});

test('addresses of a range are given out once, and again when they are free', () => {
  const range = new PodAddresses('10.1.2.0/29');
  const all = [1, 2, 3, 4, 5].map(() => range.take());
  expect(all).toEqual(['10.1.2.2', '10.1.2.3', '10.1.2.4', '10.1.2.5', '10.1.2.6']);
  expect(range.take()).toBeUndefined();
  range.free('10.1.2.4');
  expect(range.take()).toBe('10.1.2.4');
});
