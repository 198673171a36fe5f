import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Cluster, startCluster, WaitError } from '../index.ts';

const deployment = (name: string, replicas: number, annotations = '{}') => `
apiVersion: apps/v1
kind: Deployment
metadata: { name: ${name} }
spec:
  replicas: ${replicas}
  selector: { matchLabels: { app: ${name} } }
  template:
    metadata: { labels: { app: ${name} }, annotations: ${annotations} }
    spec: { containers: [{ name: web, image: nginx:1.29 }] }
`;
const service = (name: string) => `
apiVersion: v1
kind: Service
metadata:
  name: ${name}
  annotations: { service.beta.kubernetes.io/aws-load-balancer-type: nlb }
spec: { type: LoadBalancer, selector: { app: ${name} }, ports: [{ port: 80, targetPort: 8080 }] }
`;

let cluster: Cluster;
beforeAll(async () => {
  cluster = await startCluster({
    simulatedNodes: 2,
    behaviours: [
      { match: { labels: { app: 'never' } }, ready: false },
      {
        match: { labels: { app: 'talks' } },
        logs: 'I am $(NAME)\nsecond line',
        exec: { 'sh -c hostname': { stdout: 'me\n' }, '*': { stderr: 'no\n', exitCode: 3 } },
      },
    ],
  });
});
afterAll(() => cluster?.stop());

describe('a cluster in this process', () => {
  test('nodes are Ready, and are instances of the embedded AWS', async () => {
    const nodes = await cluster.list('Node');
    const instances = await cluster.aws.instances();
    expect(nodes).toHaveLength(2);
    expect(instances.map((i) => i.privateDnsName).sort()).toEqual(nodes.map((n) => n.metadata.name).sort());
    expect(nodes.map((n) => n.metadata.labels?.['topology.kubernetes.io/zone']).sort()).toEqual(['us-east-1a', 'us-east-1b']);
    expect(nodes[0]?.status?.capacity).toMatchObject({ cpu: '2', memory: '8Gi', pods: '110' });
  });

  test('apply, change, wait, delete', async () => {
    await cluster.apply(deployment('web', 3));
    const ready = await cluster.waitFor<any>('deployment/web', 'ready');
    expect(ready.status.availableReplicas).toBe(3);
    await cluster.apply(deployment('web', 1));
    const smaller = await cluster.waitFor<any>('deploy/web', (d: any) => d.status?.replicas === 1);
    expect(smaller.spec.replicas).toBe(1);
    const pods = await cluster.list('Pod', { namespace: 'default', labelSelector: 'app=web' });
    expect(pods[0]?.status?.podIP).toMatch(/^10\.244\.\d+\.\d+$/);
    await cluster.delete('deployment/web', { wait: true });
    await expect(cluster.get('Deployment', 'web')).rejects.toThrow('deployments.apps "web" not found');
    await cluster.delete('deployment/web');
  });

  test('several documents, a namespace, and what is no object', async () => {
    const applied = await cluster.apply(`${service('a')}---\n${service('b')}---\n`, { namespace: 'kube-public' });
    expect(applied.map((o) => `${o.metadata.namespace}/${o.metadata.name}`)).toEqual(['kube-public/a', 'kube-public/b']);
    for (const object of applied) await cluster.delete(object, { wait: true });
    // Deleted before their load balancers were begun, or after: none stays.
    expect(await cluster.aws.leftovers()).toEqual([]);
    await expect(cluster.apply('hello: world')).rejects.toThrow('document 1 of the manifest has no apiVersion and kind');
    await expect(cluster.apply('a: [')).rejects.toThrow('document 1 of the manifest is no YAML');
    await expect(cluster.get('Nonsense', 'x')).rejects.toThrow('the cluster serves no kind Nonsense');
  });

  test('a load balancer comes and goes with its Service', async () => {
    await cluster.apply(service('lb'));
    const ready = await cluster.waitFor<any>('service/lb', 'ready');
    const [balancer] = await cluster.aws.loadBalancers();
    expect(balancer).toMatchObject({
      dnsName: ready.status.loadBalancer.ingress[0].hostname,
      type: 'network',
      listeners: [{ port: 80, protocol: 'TCP' }],
    });
    expect((await cluster.aws.leftovers()).map((l) => [l.kind, l.of])).toContainEqual(['load balancer', 'Service default/lb']);
    await cluster.delete('service/lb', { wait: true });
    await cluster.eventually('AWS to be empty', async () => (await cluster.aws.leftovers()).length === 0);
  });

  test('a wait that ends says what was missing, and explain says why', async () => {
    await cluster.apply(deployment('never', 1));
    const error = await cluster.waitFor('deployment/never', 'ready', { timeoutMs: 500 }).catch((e) => e);
    expect(error).toBeInstanceOf(WaitError);
    expect(error.message).toBe('timed out after 0.5 s waiting for Deployment default/never to become ready: 0 of 1 available');
    const text = await cluster.explain('deployment/never');
    expect(text).toContain('Deployment default/never: 0 of 1 available');
    expect(text).toMatch(/Pod never-\S+: phase Running; condition Ready is False \(ContainersNotReady/);
    expect(text).toContain('SuccessfulCreate ReplicaSet');
    await expect(cluster.waitFor('deployment/never', 'ready', { signal: AbortSignal.abort(new Error('enough')) })).rejects.toThrow('enough');
  });

  test('logs and exec answer as behaviour has it', async () => {
    await cluster.apply(deployment('talks', 1));
    await cluster.waitFor('deployment/talks', 'ready');
    const [pod] = await cluster.list('Pod', { labelSelector: 'app=talks' });
    const name = pod?.metadata.name as string;
    expect(await cluster.logs(name)).toBe(`I am ${name}\nsecond line\n`);
    expect(await cluster.logs(name, { tailLines: 1 })).toBe('second line\n');
    expect(await cluster.exec(name, 'hostname')).toEqual({ stdout: 'me\n', stderr: '', exitCode: 0 });
    expect(await cluster.exec(name, ['false'])).toEqual({ stdout: '', stderr: 'no\n', exitCode: 3 });
    await expect(cluster.exec('nobody', 'true')).rejects.toThrow('pods "nobody" not found');
    await expect(cluster.logs('nobody')).rejects.toThrow('pods "nobody" not found');
  });

  test('a pod of its own behaviour by annotation', async () => {
    const annotations = JSON.stringify({ 'kumulus.dev/behaviour': '{ completeAfterMs: 0, exitCode: 2 }' });
    await cluster.apply(`
apiVersion: v1
kind: Pod
metadata: { name: fails, annotations: ${annotations} }
spec: { restartPolicy: Never, containers: [{ name: c, image: busybox }] }
`);
    const pod = await cluster.waitFor<any>('pod/fails', (p: any) => p.status?.phase === 'Failed' || `phase ${p.status?.phase}`);
    expect(pod.status.containerStatuses[0].state.terminated).toMatchObject({ exitCode: 2, reason: 'Error' });
  });

  test('a Job ends, and its log stays', async () => {
    const annotations = { 'kumulus.dev/behaviour': '{ completeAfterMs: 50, logs: done }' };
    await cluster.apply({
      apiVersion: 'batch/v1',
      kind: 'Job',
      metadata: { name: 'job' },
      spec: { template: { metadata: { annotations }, spec: { restartPolicy: 'Never', containers: [{ name: 'c', image: 'busybox' }] } } },
    });
    await cluster.waitFor('job/job', 'ready');
    const [pod] = await cluster.list('Pod', { labelSelector: 'batch.kubernetes.io/job-name=job' });
    expect(pod?.status?.phase).toBe('Succeeded');
    expect(await cluster.logs(pod?.metadata.name as string)).toBe('done\n');
  });

  test('a claim becomes a volume of AWS, and goes with its claim', async () => {
    await cluster.apply([
      {
        apiVersion: 'v1',
        kind: 'PersistentVolumeClaim',
        metadata: { name: 'data' },
        spec: { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '2Gi' } } },
      },
      {
        apiVersion: 'v1',
        kind: 'Pod',
        metadata: { name: 'db' },
        spec: {
          containers: [{ name: 'c', image: 'db', volumeMounts: [{ name: 'data', mountPath: '/data' }] }],
          volumes: [{ name: 'data', persistentVolumeClaim: { claimName: 'data' } }],
        },
      },
    ]);
    await cluster.waitFor('pvc/data', 'ready');
    await cluster.waitFor('pod/db', 'ready');
    const [volume] = await cluster.eventually('the volume to be attached', async () => {
      const found = await cluster.aws.volumes();
      return found[0]?.attachedTo !== undefined && found;
    });
    expect(volume).toMatchObject({ sizeGiB: 2, type: 'gp3', state: 'in-use' });
    expect(await cluster.aws.leftovers()).toContainEqual({ kind: 'volume', id: volume?.id, of: 'PersistentVolumeClaim default/data' });
    await cluster.delete('pod/db', { wait: true });
    await cluster.delete('pvc/data', { wait: true });
    await cluster.eventually('AWS to hold no volume', async () => (await cluster.aws.volumes()).length === 0);
  });

  test('AWS calls that are made to fail are tried again, and are told', async () => {
    await using fault = await cluster.faults.aws({ operation: 'CreateLoadBalancer', code: 'Throttling', message: 'Rate exceeded', count: 1 });
    expect(fault).toBeTypeOf('function');
    await cluster.apply(service('throttled'));
    await cluster.waitFor('service/throttled', 'ready');
    const calls = (await cluster.aws.calls()).filter((c) => c.operation === 'CreateLoadBalancer' && JSON.stringify(c.input).length > 0).slice(-2);
    expect(calls.map((c) => c.code)).toEqual(['Throttling', undefined]);
    expect(await cluster.explain('service/throttled')).toContain('CreateLoadBalancer: Throttling: Rate exceeded');
    await cluster.delete('service/throttled', { wait: true });
  });
});

test('nodes fall silent, come back, and go with their instances', async () => {
  await using own = await startCluster({ simulatedNodes: 2, nodeMonitorGracePeriodMs: 2000 });
  const [first, second] = (await own.list('Node')).map((n) => n.metadata.name);
  const cut = await own.faults.cutNetwork(first as string);
  await own.waitFor<any>(`node/${first}`, (n: any) => n.status.conditions.find((c: any) => c.type === 'Ready').status === 'Unknown');
  await cut();
  await own.waitFor(`node/${first}`, 'ready');
  await own.faults.terminateInstance(second as string);
  await own.waitFor(`node/${second}`, 'deleted', { timeoutMs: 60_000 });
}, 90_000);

test('a start that cannot be says why', async () => {
  await expect(startCluster({ zones: ['eu-west-1a'] })).rejects.toThrow("unknown zone 'eu-west-1a'");
  await expect(startCluster({ simulatedNodes: -1 })).rejects.toThrow('-1 is not a number of nodes');
  await expect(startCluster({ signal: AbortSignal.abort(new Error('stop')) })).rejects.toThrow('stop');
});
