import { setTimeout as delay } from 'node:timers/promises';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { resources } from '../../../src/api/generated/resources.ts';
import type { Pod } from '../../../src/api/generated/types.ts';
import { startTestServer, type TestServer } from '../../../src/apiserver/testing.ts';
import type { Client } from '../../../src/client/client.ts';
import { systemClock } from '../../../src/client/clock.ts';
import { createInformerFactory } from '../../../src/client/informers.ts';
import { createEventRecorder } from '../../../src/client/recorder.ts';
import { startScheduler } from '../../../src/scheduler/index.ts';
import { missingPeers } from '../peer.ts';
import { type Case, cases } from './cases.ts';
import { startUpstream, type UpstreamProgram } from './programs.ts';

const missing = missingPeers('kube-scheduler');
if (missing) console.warn(`skipped, the comparison with upstream's scheduler: ${missing}`);

const namespace = 'default';
/** Upstream's has the name that pods have by default. */
const schedulers = { ours: 'ours', theirs: 'default-scheduler' };
const all = resources as unknown as Record<string, any>;

interface Placement {
  /** Of each pod, undefined where it has none. */
  nodes: (string | undefined)[];
  /** Why it has none: the reason and message of the condition PodScheduled. */
  why: (string | undefined)[];
  /** Pods that were there and had to go. */
  gone: string[];
}

describe.skipIf(missing)('our scheduler and upstream’s on the same cluster', () => {
  let server: TestServer;
  let client: Client;
  let upstream: UpstreamProgram;
  const controller = new AbortController();
  let running: Promise<unknown> | undefined;

  beforeAll(async () => {
    server = await startTestServer();
    client = server.localClient({ name: 'kubernetes-admin', groups: ['system:masters'] });
    await client.create(resources.serviceaccounts, { metadata: { namespace, name: 'default' } } as never);
    const log = pino({ level: process.env['KUMULUS_TEST_LOG'] ?? 'silent' });
    const own = server.localClient({ name: 'system:kube-scheduler', groups: ['system:authenticated'] });
    const informers = createInformerFactory(own, { log, clock: systemClock, signal: controller.signal });
    const events = createEventRecorder(own, { component: schedulers.ours, clock: systemClock, log });
    running = startScheduler({ client: own, informers, clock: systemClock, events, log, signal: controller.signal }, { schedulerName: schedulers.ours }).done;
    upstream = await startUpstream('kube-scheduler', server);
  });
  afterAll(async () => {
    controller.abort(new Error('the comparison is over'));
    await running;
    await upstream?.stop();
    await server?.stop(0);
  });

  async function until<T>(what: string, ask: () => Promise<T | undefined>): Promise<T> {
    for (let i = 0; i < 600; i++) {
      const answer = await ask();
      if (answer !== undefined) return answer;
      await delay(50);
    }
    throw new Error(`waited in vain for ${what}; upstream's scheduler said:\n${upstream.log().slice(-3000)}`);
  }
  const list = async (type: any) => (await client.list<any>(type, {})).items;
  /** Takes away all of a case. */
  const clear = async (types: string[]) => {
    for (const plural of types) {
      for (const { metadata, ...object } of await list(all[plural])) {
        if (plural === 'priorityclasses' && metadata.name.startsWith('system-')) continue;
        if (metadata.finalizers?.length) await client.patch(all[plural], metadata, 'merge', { metadata: { finalizers: null } });
        await client.delete(all[plural], metadata, { gracePeriodSeconds: 0 }).catch((error) => {
          if (error.reason !== 'NotFound') throw new Error(`${plural} ${metadata.name} stays: ${error.message} ${JSON.stringify(object)}`);
        });
      }
    }
  };
  /** Node, or the condition that says why there is none. */
  const decided = (name: string) =>
    until(`a decision on ${name}`, async () => {
      const pod = await client.get<Pod>(resources.pods, { namespace, name });
      const condition = pod.status?.conditions?.find((c) => c.type === 'PodScheduled' && c.status === 'False');
      // Who displaces others is placed when they have gone.
      if (!pod.spec.nodeName && pod.status?.nominatedNodeName) return undefined;
      return pod.spec.nodeName || condition ? { node: pod.spec.nodeName, condition } : undefined;
    });

  async function place(c: Case, scheduler: string): Promise<Placement> {
    const by = (pod: any) => ({ ...pod, metadata: { ...pod.metadata, namespace }, spec: { ...pod.spec, schedulerName: scheduler } });
    const uids = new Map<string, string>();
    for (const [plural, objects] of Object.entries(c.objects ?? {})) {
      for (const object of objects as any[]) {
        const { namespaced } = all[plural];
        const text = JSON.stringify(object).replaceAll('"UID"', JSON.stringify(uids.get('data') ?? ''));
        const body = JSON.parse(text);
        const made = await client.create<any>(all[plural], namespaced ? { ...body, metadata: { ...body.metadata, namespace } } : body);
        uids.set(made.metadata.name, made.metadata.uid);
        if (object.spec?.volumeName) await client.patch(all[plural], made.metadata, 'merge', { status: { phase: 'Bound' } }, { subresource: 'status' });
      }
    }
    for (const { status, ...object } of c.nodes as any[]) {
      await client.create<any>(resources.nodes, object);
      // The server taints nodes that come; and what a node has is status.
      await client.patch(resources.nodes, object.metadata, 'merge', { spec: { taints: object.spec.taints ?? null } });
      await client.patch(resources.nodes, object.metadata, 'merge', { status }, { subresource: 'status' });
    }
    for (const pod of c.there ?? []) await client.create<any>(resources.pods, by(pod));
    // The scheduler has seen all nodes as they are when it has put a pod on each.
    const probes = (c.nodes as any[]).map(({ metadata }) => `probe-${metadata.name}`);
    const { nodes } = c as { nodes: any[] };
    await Promise.all(
      nodes.map(({ metadata, status }) => client.patch(resources.nodes, metadata, 'merge', { metadata: { labels: { probe: `${metadata.name}-${status.capacity.pods}` } } })),
    );
    for (const { metadata, status } of nodes) {
      const nodeSelector = { probe: `${metadata.name}-${status.capacity.pods}` };
      // On nodes that are full as well: where that is the case only the refusal says that it was seen.
      const spec = { nodeSelector, tolerations: [{ operator: 'Exists' }], terminationGracePeriodSeconds: 0, containers: [{ name: 'c', image: 'probe' }] };
      await client.create<any>(resources.pods, by({ metadata: { name: `probe-${metadata.name}`, labels: { app: 'probe' } }, spec }));
    }
    for (const [i, name] of probes.entries()) {
      const full = Number(nodes[i].status.capacity.pods) <= (c.there ?? []).filter((p: any) => p.spec.nodeName === nodes[i].metadata.name).length;
      await until(`${name} on its node`, async () => {
        const { node, condition } = await decided(name);
        return node || (full && condition?.message?.includes('Too many pods')) ? true : undefined;
      });
    }
    for (const name of probes) await client.delete(resources.pods, { namespace, name }, { gracePeriodSeconds: 0 });
    const placement: Placement = { nodes: [], why: [], gone: [] };
    for (const pod of c.pods as any[]) {
      await client.create<any>(resources.pods, by(pod));
      const { node, condition } = await decided(pod.metadata.name);
      placement.nodes.push(node);
      placement.why.push(node ? undefined : `${condition?.reason}: ${condition?.message}`);
    }
    const left = new Set((await list(resources.pods)).map((p: Pod) => p.metadata.name));
    placement.gone = (c.there ?? []).map((p: any) => p.metadata.name).filter((name) => !left.has(name));
    if (c.anyOrder) placement.nodes.sort();
    await clear(['pods', 'nodes', ...Object.keys(c.objects ?? {})]);
    return placement;
  }

  test.each(cases.map((c) => [c.title, c] as const))('%s', async (_, c) => {
    const theirs = await place(c, schedulers.theirs);
    const ours = await place(c, schedulers.ours);
    expect(theirs.nodes, "upstream's").toEqual(c.right);
    if (c.refusedAtOnce) for (const placement of [ours, theirs]) placement.why = placement.why.map((why) => why?.replace(/\. (not found|preemption: .*)$/, ''));
    expect(ours).toEqual(theirs);
  });
});
