/**
 * How fast the controllers make pods: DEPLOYMENTS Deployments of REPLICAS pods each, on an API server with a store in memory (or
 * with --lmdb on disk) and nodes that run nothing.
 *
 *     node bin/node24.js test/bench/controllers.ts [--deployments 100] [--replicas 10] [--lmdb] [--json]
 *
 * Prints the time until all pods exist, until all are ready and the Deployments say so, and pods a second. Pods are bound and
 * made ready by a stand-in for scheduler and kubelets in the same process, so that what is measured includes their writes.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { pino } from 'pino';
import { resources } from '../../src/api/generated/resources.ts';
import type { Deployment, Pod } from '../../src/api/generated/types.ts';
import { startTestServer } from '../../src/apiserver/testing.ts';
import { systemClock } from '../../src/client/clock.ts';
import { createInformerFactory } from '../../src/client/informers.ts';
import { createEventRecorder } from '../../src/client/recorder.ts';
import { startDeploymentController } from '../../src/controllers/deployment.ts';
import { startEndpointSliceController } from '../../src/controllers/endpointslice.ts';
import { startReplicaSetController } from '../../src/controllers/replicaset.ts';
import { openLmdbStore } from '../../src/store/lmdb.ts';
import { openMemoryStore } from '../../src/store/memory.ts';

const { values } = parseArgs({
  options: {
    deployments: { type: 'string', default: '100' },
    replicas: { type: 'string', default: '10' },
    nodes: { type: 'string', default: '50' },
    lmdb: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
  },
});
const deployments = Number(values.deployments);
const replicas = Number(values.replicas);
const nodes = Number(values.nodes);
const wanted = deployments * replicas;
const namespace = 'default';

const folder = mkdtempSync(join(tmpdir(), 'kumulus-bench-'));
const store = values.lmdb ? await openLmdbStore(folder) : openMemoryStore();
const server = await startTestServer({ store });
const admin = server.localClient({ name: 'admin', groups: ['system:masters'] });
const controller = new AbortController();
const { signal } = controller;
const log = pino({ level: process.env['KUMULUS_LOG'] ?? 'silent' });
const context = (user: string) => {
  const groups = ['system:serviceaccounts', 'system:serviceaccounts:kube-system', 'system:authenticated'];
  const client = server.localClient({ name: `system:serviceaccount:kube-system:${user}`, groups });
  return {
    client,
    informers: createInformerFactory(client, { log, clock: systemClock, signal }),
    clock: systemClock,
    events: createEventRecorder(client, { component: user, clock: systemClock, log }),
    log,
    signal,
  };
};

await admin.create(resources.serviceaccounts, { metadata: { namespace, name: 'default' } } as never);
for (let i = 0; i < nodes; i++) await admin.create(resources.nodes, { metadata: { name: `node-${i}` }, spec: {} } as never);
startDeploymentController(context('deployment-controller'));
startReplicaSetController(context('replicaset-controller'));
startEndpointSliceController(context('endpointslice-controller'));

const pods = createInformerFactory(admin, { log, clock: systemClock, signal }).informer<Pod>(resources.pods);
let created = 0;
let lag = 0;
const allCreated = new Promise<void>((resolve) => {
  pods.addHandlers({
    onAdd(pod) {
      if (++created === wanted) resolve();
      const { name } = pod.metadata;
      const target = { kind: 'Node', name: `node-${created % nodes}` };
      const binding = { apiVersion: 'v1', kind: 'Binding', metadata: { name }, target };
      void admin.createSubresource(resources.pods, { namespace, name }, 'binding', binding);
    },
    onUpdate(_, pod) {
      if (!pod.spec.nodeName || pod.status?.phase !== 'Pending') return;
      const now = `${new Date().toISOString().slice(0, 19)}Z`;
      const n = created;
      const podIP = `10.${(n >> 16) & 255}.${(n >> 8) & 255}.${n & 255}`;
      const conditions = [...(pod.status.conditions ?? []), { type: 'Ready', status: 'True', lastTransitionTime: now }];
      const status = { ...pod.status, phase: 'Running', conditions, podIP, podIPs: [{ ip: podIP }] };
      void admin.update(resources.pods, { ...pod, status }, { subresource: 'status' });
    },
  });
});
let lastTick = performance.now();
const ticker = setInterval(() => {
  const now = performance.now();
  lag = Math.max(lag, now - lastTick - 10);
  lastTick = now;
}, 10);

const cpuBefore = process.cpuUsage();
const started = performance.now();
const labelsOf = (i: number) => ({ app: `web-${i}` });
await Promise.all(
  Array.from({ length: deployments }, (_, i) =>
    admin.create(resources.deployments, {
      metadata: { namespace, name: `web-${i}` },
      spec: {
        replicas,
        selector: { matchLabels: labelsOf(i) },
        template: { metadata: { labels: labelsOf(i) }, spec: { containers: [{ name: 'c', image: 'web:1' }] } },
      },
    } as never),
  ),
);
await allCreated;
const createdMs = performance.now() - started;
const complete = createInformerFactory(admin, { log, clock: systemClock, signal }).informer<Deployment>(resources.deployments);
const isDone = (d: Deployment) => d.status?.availableReplicas === replicas && d.status.updatedReplicas === replicas;
await complete.synced();
await new Promise<void>((resolve) => {
  const check = () => {
    if (complete.list().every(isDone)) resolve();
  };
  complete.addHandlers({ onUpdate: check });
  check();
});
const readyMs = performance.now() - started;
clearInterval(ticker);
const cpu = process.cpuUsage(cpuBefore);
const result = {
  deployments,
  pods: wanted,
  createdMs: Math.round(createdMs),
  readyMs: Math.round(readyMs),
  podsPerSecond: Math.round(wanted / (createdMs / 1000)),
  readyPodsPerSecond: Math.round(wanted / (readyMs / 1000)),
  cpuMs: Math.round((cpu.user + cpu.system) / 1000),
  longestEventLoopDelayMs: Math.round(lag),
  residentMiB: Math.round(process.memoryUsage().rss / 2 ** 20),
};
controller.abort(new Error('the benchmark is over'));
await server.stop(0);
await store.close();
rmSync(folder, { recursive: true, force: true });
if (values.json) console.log(JSON.stringify(result));
else {
  console.log(`${deployments} Deployments x ${replicas} pods on ${nodes} nodes (${values.lmdb ? 'lmdb' : 'memory'} store)`);
  console.log(`all pods created after ${result.createdMs} ms: ${result.podsPerSecond} pods/s`);
  console.log(`all pods ready and Deployments complete after ${result.readyMs} ms: ${result.readyPodsPerSecond} pods/s`);
  console.log(`cpu ${result.cpuMs} ms, longest delay of the event loop ${result.longestEventLoopDelayMs} ms, resident ${result.residentMiB} MiB`);
}
process.exit(0);
