import { generateKeyPairSync } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { resources } from '../../../src/api/generated/resources.ts';
import type { Pod } from '../../../src/api/generated/types.ts';
import { startTestServer, type TestServer } from '../../../src/apiserver/testing.ts';
import type { Client } from '../../../src/client/client.ts';
import { systemClock } from '../../../src/client/clock.ts';
import { createInformerFactory } from '../../../src/client/informers.ts';
import { SimulatedNodes } from '../../../src/kubelet/simulated/nodes.ts';
import { missingPeers } from '../peer.ts';
import { startUpstream, type UpstreamProgram } from './programs.ts';

const missing = missingPeers('kube-scheduler', 'kube-controller-manager');
if (missing) console.warn(`skipped, upstream's scheduler and controller-manager on our API server: ${missing}`);

const ns = 'work';
const nodeNames = ['node-a', 'node-b', 'node-c'];

/** As a cluster's administrator would have it: defaults, RBAC identities, a service account for each controller, protobuf. */
describe.skipIf(missing)('upstream’s controller-manager and scheduler run workloads on our API server', () => {
  let server: TestServer;
  let client: Client;
  const programs: UpstreamProgram[] = [];
  const controller = new AbortController();

  beforeAll(async () => {
    const keys = generateKeyPairSync('ec', {
      namedCurve: 'P-256',
      publicKeyEncoding: { type: 'spki', format: 'pem' },
      privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
    });
    server = await startTestServer({ serviceAccount: { issuer: 'https://kubernetes.default.svc', privateKey: keys.privateKey, publicKeys: [keys.publicKey] } });
    client = server.localClient({ name: 'kubernetes-admin', groups: ['system:masters'] });
    programs.push(
      await startUpstream('kube-scheduler', server),
      await startUpstream(
        'kube-controller-manager',
        server,
        ['--use-service-account-credentials', '--allocate-node-cidrs', '--cluster-cidr=10.244.0.0/16', '--service-cluster-ip-range=10.96.0.0/16'],
        { 'service-account-private-key-file': keys.privateKey, 'root-ca-file': server.ca },
      ),
    );
    const { signal } = controller;
    const log = pino({ level: process.env['KUMULUS_TEST_LOG'] ?? 'silent' });
    const informers = createInformerFactory(client, { log, clock: systemClock, signal });
    const nodes = new SimulatedNodes({ client, informers, clock: systemClock, log, signal });
    for (const [i, name] of nodeNames.entries())
      nodes.add({ name, address: `192.0.2.${i + 1}`, capacity: { cpu: '4', memory: '8Gi' }, labels: { 'topology.kubernetes.io/zone': `zone-${i}` }, architecture: 'amd64' });
    await client.create<any>(resources.namespaces, { metadata: { name: ns } } as never);
    await until('the service account', () => client.get(resources.serviceaccounts, { namespace: ns, name: 'default' }));
    await until('nodes', async () => (await client.list<any>(resources.nodes)).items.filter((n) => n.spec.podCIDR && !n.spec.taints?.length).length === 3);
  });
  afterAll(async () => {
    controller.abort(new Error('the suite is over'));
    await Promise.all(programs.map((p) => p.stop()));
    await server?.stop(0);
  });

  async function until<T>(what: string, ask: () => Promise<T | undefined | false>): Promise<T> {
    let last: unknown;
    for (let i = 0; i < 900; i++) {
      try {
        const answer = await ask();
        if (answer) return answer;
      } catch (error) {
        last = error;
      }
      await delay(100);
    }
    throw new Error(`waited in vain for ${what} (${last}); upstream's said:\n${programs.map((p) => p.log().slice(-3000)).join('\n')}`);
  }
  const get = (type: any, name: string, namespace = ns) => client.get<any>(type, { namespace, name });
  const make = (type: any, name: string, spec: object, namespace = ns) => client.create<any>(type, { metadata: { namespace, name }, spec } as never);
  const pods = async (app: string, namespace = ns) =>
    (await client.list<Pod>(resources.pods, { namespace, labelSelector: `app=${app}` })).items.filter((p) => !p.metadata.deletionTimestamp);
  const template = (app: string, image: string, more: object = {}) => ({ metadata: { labels: { app } }, spec: { containers: [{ name: 'c', image }], ...more } });
  const workload = (app: string, image = 'app:1', more: object = {}) => ({ selector: { matchLabels: { app } }, template: template(app, image), ...more });
  const setImage = (type: any, name: string, image: string) =>
    client.patch<any>(type, { namespace: ns, name }, 'strategic', { spec: { template: { spec: { containers: [{ name: 'c', image }] } } } });
  const jobTemplate = (app: string) => ({ template: template(app, 'task:1', { restartPolicy: 'Never' }) });

  test('they speak protobuf as it is the default, with identities of their own', async () => {
    const accounts = (await client.list<any>(resources.serviceaccounts, { namespace: 'kube-system' })).items.map((a) => a.metadata.name);
    expect(accounts).toEqual(expect.arrayContaining(['deployment-controller', 'namespace-controller', 'generic-garbage-collector', 'node-controller']));
    for (const name of ['kube-scheduler', 'kube-controller-manager']) {
      const lease = await get(resources.leases, name, 'kube-system');
      expect(lease.spec.holderIdentity).toBeTruthy();
    }
    const [deployments] = (await client.list<any>(resources.deployments, { namespace: ns })).items;
    expect(deployments).toBeUndefined();
    // A controller that may not do its work, or cannot read what it gets, says so.
    for (const program of programs) expect(program.log().split('\n').filter((line) => /forbidden|unable to decode|unknown wire|invalid wire|no kind/i.test(line))).toEqual([]);
  });

  test('a Deployment: rollout, scale, rollback, endpoints', async () => {
    await make(resources.deployments, 'web', workload('web', 'app:1', { replicas: 3 }));
    await make(resources.services, 'web', { selector: { app: 'web' }, ports: [{ port: 80, targetPort: 8080 }] });
    const available = (n: number) => async () => {
      const d = await get(resources.deployments, 'web');
      return d.status?.observedGeneration === d.metadata.generation && d.status?.replicas === n && d.status?.updatedReplicas === n && d.status?.availableReplicas === n;
    };
    await until('3 available', available(3));
    // Spread over the three nodes, as the scheduler's defaults have it.
    expect(new Set((await pods('web')).map((p) => p.spec.nodeName)).size).toBe(3);
    await setImage(resources.deployments, 'web', 'app:2');
    await until('the new image', available(3));
    await until('3 pods of it', async () => (await pods('web')).every((p) => p.spec.containers[0]?.image === 'app:2'));
    await client.patch(resources.deployments, { namespace: ns, name: 'web' }, 'merge', { spec: { replicas: 5 } }, { subresource: 'scale' });
    await until('5 available', available(5));
    await until('5 endpoints', async () => {
      const slices = (await client.list<any>(resources.endpointslices, { namespace: ns, labelSelector: 'kubernetes.io/service-name=web' })).items;
      return slices.flatMap((s) => s.endpoints ?? []).filter((e) => e.conditions.ready).length === 5;
    });
    expect((await client.list<any>(resources.replicasets, { namespace: ns })).items).toHaveLength(2);
  });

  test('a StatefulSet: in order, with claims, updated from the last', async () => {
    const volumeClaimTemplates = [{ metadata: { name: 'data' }, spec: { accessModes: ['ReadWriteOnce'], storageClassName: 'by-hand', resources: { requests: { storage: '1Gi' } } } }];
    await client.create<any>(resources.storageclasses, { metadata: { name: 'by-hand' }, provisioner: 'kubernetes.io/no-provisioner', volumeBindingMode: 'WaitForFirstConsumer' } as never);
    for (const [i, node] of nodeNames.entries()) {
      const nodeAffinity = { required: { nodeSelectorTerms: [{ matchExpressions: [{ key: 'kubernetes.io/hostname', operator: 'In', values: [node] }] }] } };
      await client.create<any>(resources.persistentvolumes, {
        metadata: { name: `disk-${i}` },
        spec: { capacity: { storage: '1Gi' }, accessModes: ['ReadWriteOnce'], storageClassName: 'by-hand', local: { path: '/disk' }, nodeAffinity, persistentVolumeReclaimPolicy: 'Retain' },
      } as never);
    }
    await make(resources.statefulsets, 'db', workload('db', 'db:1', { replicas: 3, serviceName: 'db', volumeClaimTemplates }));
    await until('3 ready', async () => (await get(resources.statefulsets, 'db')).status?.readyReplicas === 3);
    const claims = (await client.list<any>(resources.persistentvolumeclaims, { namespace: ns })).items;
    expect(claims.map((c) => [c.metadata.name, c.status.phase])).toEqual(['data-db-0', 'data-db-1', 'data-db-2'].map((name) => [name, 'Bound']));
    // Each pod is where its disk is.
    for (const pod of await pods('db')) {
      const claim = claims.find((c) => c.metadata.name === `data-${pod.metadata.name}`);
      expect(nodeNames[Number(claim.spec.volumeName.slice(-1))]).toBe(pod.spec.nodeName);
    }
    await setImage(resources.statefulsets, 'db', 'db:2');
    await until('all updated', async () => {
      const { status, metadata } = await get(resources.statefulsets, 'db');
      return status.observedGeneration === metadata.generation && status.updatedReplicas === 3 && status.readyReplicas === 3 && status.currentRevision === status.updateRevision;
    });
    expect((await pods('db')).map((p) => p.spec.containers[0]?.image)).toEqual(['db:2', 'db:2', 'db:2']);
  });

  test('a DaemonSet: one on each node, then on fewer', async () => {
    await make(resources.daemonsets, 'agent', workload('agent', 'agent:1'));
    await until('3 available', async () => (await get(resources.daemonsets, 'agent')).status?.numberAvailable === 3);
    expect((await pods('agent')).map((p) => p.spec.nodeName).sort()).toEqual(nodeNames);
    await setImage(resources.daemonsets, 'agent', 'agent:2');
    await until('all updated', async () => {
      const { status, metadata } = await get(resources.daemonsets, 'agent');
      return status.observedGeneration === metadata.generation && status.updatedNumberScheduled === 3 && status.numberAvailable === 3;
    });
    await client.patch(resources.daemonsets, { namespace: ns, name: 'agent' }, 'merge', { spec: { template: { spec: { nodeSelector: { 'topology.kubernetes.io/zone': 'zone-1' } } } } });
    await until('one pod', async () => {
      const there = await pods('agent');
      return there.length === 1 && there[0]?.spec.nodeName === 'node-b';
    });
  });

  test('a Job and a CronJob', async () => {
    await make(resources.jobs, 'task', { completions: 3, parallelism: 2, ...jobTemplate('task') });
    await until('the job done', async () => (await get(resources.jobs, 'task')).status?.conditions?.some((c: any) => c.type === 'Complete' && c.status === 'True'));
    expect((await get(resources.jobs, 'task')).status).toMatchObject({ succeeded: 3, uncountedTerminatedPods: {} });
    // Its pods' finalizers were taken away when they had been counted.
    await until('pods without finalizers', async () => (await pods('task')).every((p) => !p.metadata.finalizers?.length));
    await make(resources.cronjobs, 'often', { schedule: '* * * * *', concurrencyPolicy: 'Forbid', jobTemplate: { spec: jobTemplate('often') } });
    const job = await until('a job of the CronJob', async () => {
      const jobs = (await client.list<any>(resources.jobs, { namespace: ns })).items;
      return jobs.find((j) => j.metadata.ownerReferences?.[0]?.kind === 'CronJob' && j.status?.succeeded === 1);
    });
    await client.patch(resources.cronjobs, { namespace: ns, name: 'often' }, 'merge', { spec: { suspend: true } });
    await until('its last success', async () => (await get(resources.cronjobs, 'often')).status?.lastSuccessfulTime);
    // With its owner it goes, as the garbage collector has it.
    await client.delete(resources.cronjobs, { namespace: ns, name: 'often' }, { propagationPolicy: 'Background' });
    await until('the job gone', async () => !(await client.list<any>(resources.jobs, { namespace: ns })).items.some((j) => j.metadata.name === job.metadata.name));
  });

  test('deletion: foreground, orphans, quota, and the namespace with all that is in it', async () => {
    await client.delete(resources.daemonsets, { namespace: ns, name: 'agent' }, { propagationPolicy: 'Foreground' });
    await until('the DaemonSet gone', async () => !(await client.list<any>(resources.daemonsets, { namespace: ns })).items.length && !(await pods('agent')).length);
    await client.delete(resources.deployments, { namespace: ns, name: 'web' }, { propagationPolicy: 'Orphan' });
    await until('orphans', async () => {
      const left = (await client.list<any>(resources.replicasets, { namespace: ns })).items;
      return left.length === 2 && left.every((r) => !r.metadata.ownerReferences?.length);
    });
    expect(await pods('web')).toHaveLength(5);
    await make(resources.resourcequotas, 'few', { hard: { pods: '100', 'count/configmaps': '5' } });
    await until('quota counted', async () => Number((await get(resources.resourcequotas, 'few')).status?.used?.pods) >= 8);
    await client.create<any>(resources.configmaps, { metadata: { namespace: ns, name: 'held', finalizers: ['example.com/hold'] } } as never);
    await client.delete(resources.namespaces, { name: ns });
    const remaining = await until('what remains', async () => {
      const { status } = await get(resources.namespaces, ns, '');
      return status.conditions?.find((c: any) => c.type === 'NamespaceFinalizersRemaining' && c.status === 'True');
    });
    expect(remaining.message).toContain('example.com/hold in 1 resource instances');
    await client.patch(resources.configmaps, { namespace: ns, name: 'held' }, 'merge', { metadata: { finalizers: null } });
    await until('the namespace gone', async () => {
      const left = (await client.list<any>(resources.namespaces)).items.map((n) => n.metadata.name);
      return !left.includes(ns);
    });
    for (const type of [resources.pods, resources.replicasets, resources.statefulsets, resources.secrets, resources.endpointslices, resources.persistentvolumeclaims])
      expect((await client.list<any>(type as any, { namespace: ns })).items).toEqual([]);
    const volumes = (await client.list<any>(resources.persistentvolumes)).items;
    await until('volumes released', async () => (await client.list<any>(resources.persistentvolumes)).items.every((v) => v.status.phase === 'Released'));
    expect(volumes).toHaveLength(3);
  });
});
