import { X509Certificate } from 'node:crypto';
import { readdir } from 'node:fs/promises';
import { connect as tlsConnect } from 'node:tls';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { resources } from '../api/generated/resources.ts';
import type { Node } from '../api/generated/types.ts';
import type { Kubelet } from './kubelet.ts';
import { nodeLabel } from './labels.ts';
import { eventually, isReady, nodeName, startTestCluster, type TestCluster } from './testing/cluster.ts';
import { FakeRuntime } from './testing/runtime.ts';

let cluster: TestCluster;
let runtime: FakeRuntime;
let kubelet: Kubelet;
const image = 'registry.example/app:v1';

beforeAll(async () => {
  cluster = await startTestCluster();
  runtime = new FakeRuntime();
  kubelet = await cluster.startKubelet(runtime);
});
afterAll(async () => {
  await kubelet?.stop();
  await cluster?.stop();
});

const node = () => cluster.admin.get(resources.nodes, { name: nodeName });
const nodeUntil = (what: string, check: (n: Node) => unknown) =>
  eventually(what, async () => {
    const found = await node();
    return check(found) ? found : undefined;
  });
const condition = (n: Node, type: string) => n.status?.conditions?.find((c) => c.type === type);

describe('the node', () => {
  test('registers with the bootstrap token alone, and becomes Ready', async () => {
    const ready = await nodeUntil('the node to be Ready', (n) => condition(n, 'Ready')?.status === 'True');
    expect(ready.spec).toMatchObject({ providerID: 'aws:///us-east-1a/i-0123456789abcdef0', podCIDR: expect.stringMatching(/^10\.244\./) });
    expect(runtime.podCidr).toBe(ready.spec!.podCIDR);
    expect(ready.spec?.taints).toContainEqual({ key: 'node.cloudprovider.kubernetes.io/uninitialized', value: 'true', effect: 'NoSchedule' });
    expect(ready.metadata.labels).toMatchObject({ 'kubernetes.io/hostname': nodeName, 'kubernetes.io/os': 'linux', 'example.com/pool': 'blue' });
    expect(ready.status).toMatchObject({
      addresses: [
        { type: 'InternalIP', address: '127.0.0.1' },
        { type: 'Hostname', address: nodeName },
      ],
      daemonEndpoints: { kubeletEndpoint: { Port: kubelet.port } },
      nodeInfo: { containerRuntimeVersion: 'fake://1.0.0', kubeletVersion: 'v1.37.0', operatingSystem: 'linux' },
    });
    for (const type of ['MemoryPressure', 'DiskPressure', 'PIDPressure']) expect(condition(ready, type)).toBeDefined();
    for (const list of [ready.status!.capacity!, ready.status!.allocatable!])
      expect(Object.keys(list)).toEqual(expect.arrayContaining(['cpu', 'memory', 'pods', 'ephemeral-storage']));
  });

  test('has a lease of its own, which it renews', async () => {
    const lease = () => cluster.admin.get(resources.leases, { namespace: 'kube-node-lease', name: nodeName });
    const found = await eventually('the lease', () => lease().catch(() => undefined));
    expect(found.spec).toMatchObject({ holderIdentity: nodeName, leaseDurationSeconds: 40 });
    expect(found.metadata.ownerReferences?.[0]).toMatchObject({ kind: 'Node', name: nodeName });
  });

  test('says which CSI drivers it has', async () => {
    const csi = await eventually('the CSINode', () => cluster.admin.get(resources.csinodes, { name: nodeName }).catch(() => undefined));
    expect(csi.spec.drivers).toEqual([
      { name: 'ebs.csi.aws.com', nodeID: 'i-0123456789abcdef0', topologyKeys: ['topology.ebs.csi.aws.com/zone'], allocatable: { count: 25 } },
    ]);
    const labelled = await nodeUntil('the topology label', (n) => n.metadata.labels?.['topology.ebs.csi.aws.com/zone']);
    expect(JSON.parse(labelled.metadata.annotations!['csi.volume.kubernetes.io/nodeid']!)).toEqual({ 'ebs.csi.aws.com': 'i-0123456789abcdef0' });
  });

  test('serves with a certificate for its addresses', async () => {
    const serial = await eventually('a certificate', () => servingCertificate().catch(() => undefined));
    expect(serial.subjectAltName).toBe(`DNS:${nodeName}, IP Address:127.0.0.1`);
  });

  test('reports images', async () => {
    await cluster.createPod('first', { containers: [{ name: 'c', image }] });
    await cluster.until('first', 'Ready', isReady);
    await kubelet.stop();
    kubelet = await cluster.startKubelet(runtime, { nodeStatusUpdateFrequencyMs: 50 });
    await nodeUntil('the image', (n) => n.status?.images?.some((i) => i.names?.includes(image)));
  });

  test('addresses that the cloud sets are kept, and get a certificate', async () => {
    const addresses = [
      { type: 'InternalIP', address: '127.0.0.1' },
      { type: 'InternalDNS', address: 'node.internal' },
      { type: 'Hostname', address: nodeName },
    ];
    await cluster.admin.patch(resources.nodes, { name: nodeName }, 'merge', { status: { addresses } }, { subresource: 'status' });
    const names = await eventually('the new name', async () => {
      const { subjectAltName } = await servingCertificate();
      return subjectAltName?.includes('node.internal') ? subjectAltName : undefined;
    });
    expect(names).toBe(`DNS:${nodeName}, DNS:node.internal, IP Address:127.0.0.1`);
    expect((await node()).status?.addresses).toEqual(addresses);
  });

  test('registers again when its Node was deleted', async () => {
    const { uid } = (await node()).metadata;
    await cluster.admin.delete(resources.nodes, { name: nodeName });
    await eventually('a new Node that is Ready', async () => {
      const found = await node().catch(() => undefined);
      return found && found.metadata.uid !== uid && condition(found, 'Ready')?.status === 'True';
    });
  });
});

async function servingCertificate(): Promise<X509Certificate> {
  return new Promise((resolve, reject) => {
    const socket = tlsConnect({ host: '127.0.0.1', port: kubelet.port, ca: cluster.ca, checkServerIdentity: () => undefined }, () => {
      const { raw } = socket.getPeerCertificate();
      socket.destroy();
      resolve(new X509Certificate(raw));
    });
    socket.on('error', reject);
  });
}

describe('a restart', () => {
  test('takes over what runs: no container is touched, statuses go on', async () => {
    runtime.commands.set('probe', () => ({ stdout: Buffer.from(''), stderr: Buffer.from(''), exitCode: 0 }));
    await cluster.createPod('adopted', {
      terminationGracePeriodSeconds: 1,
      containers: [{ name: 'kept', image, readinessProbe: { exec: { command: ['probe'] }, periodSeconds: 1 } }],
    });
    const before = await cluster.until('adopted', 'Ready', isReady);
    await kubelet.stop();
    const { id } = runtime.named('kept')!.status;
    runtime.calls.length = 0;
    expect(runtime.named('kept')!.status.state).toBe('CONTAINER_RUNNING');

    kubelet = await cluster.startKubelet(runtime);
    await cluster.until('adopted', 'Ready still', isReady);
    expect(runtime.calls).toEqual([]);
    // And from here on it is looked after again.
    runtime.named('kept')!.process.exit(1);
    const after = await cluster.until('adopted', 'a restart', (p) => p.status?.containerStatuses?.[0]?.restartCount === 1 && isReady(p));
    expect(after.status?.containerStatuses?.[0]?.lastState?.terminated?.containerID).toBe(`fake://${id}`);
    expect(after.status).toMatchObject({ podIP: before.status!.podIP, startTime: before.status!.startTime });
  });

  test('the Node of another instance that had this name is not taken over: it is not ready, and when it is gone there is a new one', async () => {
    await kubelet.stop();
    await cluster.admin.delete(resources.nodes, { name: nodeName });
    const providerID = 'aws:///us-east-1a/i-0000000000000dead';
    await cluster.admin.create(resources.nodes, { metadata: { name: nodeName }, spec: { providerID } } as never);
    const conditions = [{ type: 'Ready', status: 'True', lastHeartbeatTime: '2026-01-01T00:00:00Z', lastTransitionTime: '2026-01-01T00:00:00Z' }];
    await cluster.admin.patch(resources.nodes, { name: nodeName }, 'merge', { status: { conditions } }, { subresource: 'status' });
    const starting = cluster.startKubelet(runtime);
    const stale = await nodeUntil('the stale node not to be ready', (n) => condition(n, 'Ready')?.status === 'False');
    expect(condition(stale, 'Ready')).toMatchObject({ reason: 'InstanceReplaced', message: expect.stringContaining('i-0000000000000dead') });
    expect(stale.spec?.providerID).toBe(providerID);
    await cluster.admin.delete(resources.nodes, { name: nodeName });
    kubelet = await starting;
    await nodeUntil('its own', (n) => n.spec?.providerID?.endsWith('i-0123456789abcdef0') && condition(n, 'Ready')?.status === 'True');
  });

  test('needs no token a second time', async () => {
    await kubelet.stop();
    kubelet = await cluster.startKubelet(runtime, { client: { server: cluster.server } });
    expect((await readdir(`${cluster.directory}/pki`)).sort()).toEqual(
      expect.arrayContaining(['ca.crt', 'kubelet-client-current.pem', 'kubelet-server-current.pem']),
    );
  });

  test('what ended meanwhile is told, what was deleted meanwhile is ended', async () => {
    await cluster.createPod('ended', { restartPolicy: 'Never', containers: [{ name: 'ended', image }] });
    await cluster.createPod('deleted', { terminationGracePeriodSeconds: 1, containers: [{ name: 'deleted', image }] });
    await cluster.createPod('vanished', { terminationGracePeriodSeconds: 1, containers: [{ name: 'vanished', image }] });
    for (const name of ['ended', 'deleted', 'vanished']) await cluster.until(name, 'Ready', isReady);
    await kubelet.stop();
    runtime.named('ended')!.process.exit(5);
    await cluster.admin.delete(resources.pods, { namespace: 'default', name: 'deleted' });
    await cluster.admin.delete(resources.pods, { namespace: 'default', name: 'vanished' }, { gracePeriodSeconds: 0 });
    // Not of this node's making: nobody's business here.
    const foreign = await runtime.runPodSandbox({
      metadata: { name: 'foreign', uid: 'u', namespace: 'x', attempt: 0 },
      hostname: 'x',
      logDirectory: '/tmp',
      portMappings: [],
      labels: { [nodeLabel]: 'another-node' },
      annotations: {},
      linux: { cgroupParent: '/', namespaces: { network: 'POD', pid: 'POD', ipc: 'POD' }, sysctls: {}, privileged: false },
    });
    kubelet = await cluster.startKubelet(runtime);
    const pod = await cluster.until('ended', 'Failed', (p) => p.status?.phase === 'Failed');
    expect(pod.status?.containerStatuses?.[0]?.state?.terminated?.exitCode).toBe(5);
    await eventually('both to be removed', () => !runtime.named('deleted') && !runtime.named('vanished'));
    await eventually('the pod to be gone', () =>
      cluster.pod('deleted').then(
        () => false,
        () => true,
      ),
    );
    expect(runtime.sandboxes.get(foreign)?.status.state).toBe('SANDBOX_READY');
  });

  test('a reboot of the machine: pods that are to run start again where they were, the others have failed', async () => {
    await cluster.createPod('serves', {
      containers: [{ name: 'serves', image, volumeMounts: [{ name: 'd', mountPath: '/d' }] }],
      volumes: [{ name: 'd', emptyDir: {} }],
    });
    await cluster.createPod('once', { restartPolicy: 'Never', containers: [{ name: 'once', image }] });
    const before = await cluster.until('serves', 'Ready', isReady);
    await cluster.until('once', 'Ready', isReady);
    await kubelet.stop();
    for (const c of runtime.containers.values()) c.process.exit(255, 'Unknown');
    for (const sandbox of runtime.sandboxes.keys()) await runtime.stopPodSandbox(sandbox);
    runtime.podCidr = '';
    kubelet = await cluster.startKubelet(runtime);
    const after = await cluster.until('serves', 'a restart', (p) => p.status?.containerStatuses?.[0]?.restartCount === 1 && isReady(p));
    expect(after.metadata.uid).toBe(before.metadata.uid);
    expect(after.status?.containerStatuses?.[0]?.lastState?.terminated).toMatchObject({ exitCode: 255, reason: 'Unknown' });
    const once = await cluster.until('once', 'Failed', (p) => p.status?.phase === 'Failed');
    expect(once.status?.containerStatuses?.[0]?.state?.terminated?.exitCode).toBe(255);
  });

  test('a start that is called off lets go', async () => {
    const abort = new AbortController();
    const waiting = cluster.startKubelet(new FakeRuntime(), {
      nodeName: 'other',
      certDirectory: `${cluster.directory}/other`,
      client: { server: 'https://127.0.0.1:1', token: 'abcdef.0123456789abcdef', caCertHashes: ['sha256:00'] },
      signal: abort.signal,
    });
    abort.abort(new Error('not any more'));
    await expect(waiting).rejects.toThrow('not any more');
  });
});
