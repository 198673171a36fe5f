import { readFileSync } from 'node:fs';
import { DescribeVolumesCommand, TerminateInstancesCommand } from '@aws-sdk/client-ec2';
import { DescribeLoadBalancersCommand } from '@aws-sdk/client-elastic-load-balancing-v2';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { eventually, hostState, sleep } from './command.ts';
import { ExampleCluster } from './example.ts';
import { type Elsewhere, leavingsAt } from './elsewhere.ts';

/**
 * The whole way as a newcomer goes it: `create cluster --example`, the page through the load balancer, kubectl, the loss of
 * an instance, a volume that moves, deletion without leavings. On the embedded AWS, or on another. Needs root and kubectl. The steps
 * build on each other.
 */
export function firstCluster(elsewhere?: Elsewhere): void {
  const name = 'e2e';
  const cluster = new ExampleCluster(name);
  const { machine } = cluster;
  let before: string[];
  let empty: Record<string, number>;

  beforeAll(async () => {
    if (elsewhere) {
      cluster.standOn(await elsewhere.start());
      empty = await leavingsAt(cluster);
    }
    before = await hostState(machine, [name]);
  }, 900_000);
  afterAll(async () => {
    await cluster.end();
  }, 120_000);
  afterEach((context) => {
    if (context.task.result?.state === 'fail') console.error(machine.logs(name));
  });

  describe(`the first cluster${elsewhere ? ` on ${elsewhere.name}` : ''}`, { timeout: 240_000 }, () => {
    it('create cluster --example ends with a page behind a load balancer', async () => {
      const ran = await cluster.create(['--nodes', '3', '--node-monitor-grace-period', '8s']);
      expect(ran.err).toContain('✓ Starting the control plane');
      expect(cluster.created.url).toMatch(/^http:\/\/127\.64\.\d+\.\d+\/$/);
      expect((await machine.kubectl('config current-context')).trim()).toBe(`kumulus-${name}`);
    });

    whatRuns(cluster);

    it('stop and start keep state, pods come back, the page is served again', async () => {
      await machine.kubectl('create configmap kept --from-literal=a=b');
      const stopped = await machine.kumulus(['stop', 'cluster', name]);
      expect(stopped.code, stopped.err).toBe(0);
      expect((await machine.tryKubectl('get nodes --request-timeout=2s')).code).not.toBe(0);
      const started = await machine.kumulus(['start', 'cluster', name]);
      expect(started.code, started.err).toBe(0);
      await eventually('the page', () => cluster.page(), 120_000);
      expect(await machine.kubectl('get configmap kept')).toContain('kept');
      await eventually('a node in place of the one that was terminated', async () => (await cluster.readyNodes()).length === 3, 90_000);
    });

    it('get clusters, get nodes, doctor', async () => {
      expect((await machine.kumulus(['get', 'clusters'])).out.trim()).toBe(name);
      const nodes = JSON.parse((await machine.kumulus(['get', 'nodes', '--name', name, '-o', 'json'])).out);
      expect(nodes.map((n: any) => n.status)).toEqual(['Ready', 'Ready', 'Ready']);
      const doctor = await machine.kumulus(['doctor']);
      expect(doctor.out).toContain(`✓ ${name}: runs`);
    });

    it('delete cluster leaves nothing', async () => {
      const ran = await machine.kumulus(['delete', 'cluster', name]);
      expect(ran.code, ran.err).toBe(0);
      expect(await hostState(machine, [name])).toEqual(before);
      if (elsewhere) expect(await leavingsAt(cluster)).toEqual(empty);
      expect((await machine.kumulus(['get', 'clusters'])).err).toContain('No kumulus clusters found.');
      expect(readFileSync(machine.kubeconfig, 'utf8')).not.toContain('kumulus-e2e');
    });
  });
}

/** What a cluster of three nodes with the example is good for, however it was made. The last step takes one of its instances away. */
export function whatRuns(cluster: ExampleCluster): void {
  const { machine } = cluster;

  it('the page comes from different pods on different instances', async () => {
    const seen = new Map<string, string>();
    await eventually('answers of two pods', async () => {
      const { pod, node } = await cluster.served();
      seen.set(pod, node);
      return seen.size === 2;
    });
    expect(new Set(seen.values()).size).toBe(2);
    expect((await cluster.instances()).map((i) => i.PrivateDnsName)).toEqual(expect.arrayContaining([...seen.values()]));
  });

  it('AWS shows the truth: running instances, an active load balancer, healthy targets', async () => {
    expect((await cluster.instances()).map((i) => i.State?.Name)).toEqual(['running', 'running', 'running']);
    const { LoadBalancers = [] } = await cluster.elb.send(new DescribeLoadBalancersCommand({}));
    const balancer = LoadBalancers.find((one) => one.DNSName === cluster.created.hostname);
    expect(balancer).toMatchObject({ Type: 'network', Scheme: 'internet-facing', State: { Code: 'active' } });
    await eventually('three healthy targets', async () => (await cluster.targets()).filter((t) => t.TargetHealth?.State === 'healthy').length === 3);
  });

  it('kubectl sees nodes with what the cloud knows of them', async () => {
    const nodes = (await cluster.json('get nodes')).items;
    expect(nodes).toHaveLength(3);
    for (const node of nodes) {
      expect(node.spec.providerID).toMatch(/^aws:\/\/\/us-east-1[ab]\/i-[0-9a-f]{17}$/);
      expect(node.spec.taints ?? []).toEqual([]);
      expect(node.metadata.labels).toMatchObject({ 'topology.kubernetes.io/region': 'us-east-1', 'node.kubernetes.io/instance-type': 't3.medium' });
    }
    expect(await machine.kubectl('wait --for=condition=Ready nodes --all --timeout=30s')).toContain('condition met');
  });

  it('kubectl get, describe, logs, exec, rollout, auth can-i', async () => {
    const [pod] = await cluster.runningPods('app=hello');
    expect(await machine.kubectl('get deployment hello')).toMatch(/hello\s+2\/2\s+2\s+2/);
    expect(await machine.kubectl('get service hello')).toContain(cluster.created.hostname);
    expect(await machine.kubectl(`describe pod ${pod.metadata.name}`)).toMatch(/Normal\s+Scheduled[\s\S]*Normal\s+Started/);
    const exec = await machine.kubectl([
      'exec',
      pod.metadata.name,
      '--',
      'sh',
      '-c',
      'hostname; cat /var/run/secrets/kubernetes.io/serviceaccount/namespace',
    ]);
    expect(exec).toBe(`${pod.metadata.name}\ndefault`);
    expect((await machine.tryKubectl(['exec', pod.metadata.name, '--', 'sh', '-c', 'exit 7'])).code).toBe(7);
    await machine.kubectl(['exec', pod.metadata.name, '--', 'sh', '-c', 'echo a line >/proc/1/fd/1']);
    await eventually('the line in the logs', async () => (await machine.kubectl(`logs ${pod.metadata.name}`)).includes('a line'));
    expect(await machine.kubectl('rollout status deployment/hello --timeout=30s')).toContain('successfully rolled out');
    expect((await machine.kubectl('auth can-i create pods')).trim()).toBe('yes');
  });

  it('cluster DNS and services work inside pods', async () => {
    const [pod] = await cluster.runningPods('app=hello');
    const inside = (command: string) => machine.kubectl(['exec', pod.metadata.name, '--', 'sh', '-c', command]);
    expect(await inside('nslookup hello.default.svc.cluster.local')).toContain((await cluster.json('get service hello')).spec.clusterIP);
    expect(await inside('wget -qO- http://hello')).toContain('Hello from Kumulus');
    // busybox's own TLS names no signature algorithms, which servers refuse today: its nc carries TLS spoken here.
    const account = '/var/run/secrets/kubernetes.io/serviceaccount';
    const [ca, token] = [await inside(`cat ${account}/ca.crt`), await inside(`cat ${account}/token`)];
    const answer = await machine.requestThroughPod(pod.metadata.name, { host: 'kubernetes.default', port: 443, path: '/version', ca, token });
    expect(answer).toMatch(/"minor": ?"37"/);
    expect(await inside(`nslookup ${cluster.created.hostname}`)).toMatch(/10\.0\.\d+\.\d+/);
  });

  it('scale to 10 and back', async () => {
    await machine.kubectl('scale deployment hello --replicas=10');
    await machine.kubectl('wait --for=jsonpath={.status.availableReplicas}=10 deployment/hello --timeout=60s');
    const nodes = new Set((await cluster.runningPods('app=hello')).map((p) => p.spec.nodeName));
    expect(nodes.size).toBe(3);
    await machine.kubectl('scale deployment hello --replicas=4');
    await eventually('four pods', async () => (await cluster.json('get pods -l app=hello')).items.length === 4);
  });

  it('a rolling update and its undo fail no request', async () => {
    const loop = cluster.requestLoop();
    await machine.kubectl('set env deployment/hello VERSION=2');
    await machine.kubectl('rollout status deployment/hello --timeout=90s');
    await machine.kubectl('rollout undo deployment/hello');
    await machine.kubectl('rollout status deployment/hello --timeout=90s');
    const { requests, failures } = await loop.stop();
    expect(failures).toEqual([]);
    expect(requests).toBeGreaterThan(50);
    expect(await machine.kubectl('rollout history deployment/hello')).toMatch(/REVISION[\s\S]*2[\s\S]*3/);
  });

  it('a volume moves with its pod to another instance of the zone', async () => {
    const manifest = (node: string, command: string) => `
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
---
apiVersion: v1
kind: Pod
metadata: {name: keeper}
spec:
  terminationGracePeriodSeconds: 1
  nodeSelector: {kubernetes.io/hostname: ${node}}
  containers:
  - name: main
    image: ${cluster.exampleImage}
    command: [sh, -c, ${JSON.stringify(command)}]
    volumeMounts: [{name: data, mountPath: /data}]
  volumes: [{name: data, persistentVolumeClaim: {claimName: data}}]
`;
    const nodes = (await cluster.json('get nodes')).items
      .filter((n: any) => n.metadata.labels['topology.kubernetes.io/zone'] === 'us-east-1a')
      .map((n: any) => n.metadata.name);
    expect(nodes).toHaveLength(2);
    await machine.kubectl('apply -f -', { input: manifest(nodes[0], 'echo kept >/data/file; sync; sleep 3600') });
    await machine.kubectl('wait --for=condition=Ready pod/keeper --timeout=90s');
    const volumeOf = async () =>
      (await cluster.ec2.send(new DescribeVolumesCommand({ Filters: [{ Name: 'tag-key', Values: ['CSIVolumeName'] }] }))).Volumes?.[0];
    const first = await volumeOf();
    expect(first).toMatchObject({ Size: 1, State: 'in-use', AvailabilityZone: 'us-east-1a', VolumeType: 'gp3' });
    await machine.kubectl('delete pod keeper --timeout=60s');
    await machine.kubectl('apply -f -', { input: manifest(nodes[1], 'cat /data/file; sleep 3600') });
    await machine.kubectl('wait --for=condition=Ready pod/keeper --timeout=90s');
    expect(await machine.kubectl('logs keeper')).toBe('kept\n');
    const second = await volumeOf();
    expect(second?.VolumeId).toBe(first?.VolumeId);
    expect(second?.Attachments?.[0]?.InstanceId).not.toBe(first?.Attachments?.[0]?.InstanceId);
    await machine.kubectl('delete pod/keeper pvc/data --timeout=60s');
    await eventually('the volume to be gone', async () => (await volumeOf()) === undefined);
  });

  it('a terminated instance: its Node goes, its pods are replaced, its target leaves', async () => {
    const { node: lostNode } = await cluster.served();
    const victim = (await cluster.instances()).find((i) => i.PrivateDnsName === lostNode);
    const lost = (await cluster.runningPods('app=hello')).filter((p) => p.spec.nodeName === lostNode).map((p) => p.metadata.uid);
    const loop = cluster.requestLoop();
    await cluster.ec2.send(new TerminateInstancesCommand({ InstanceIds: [victim?.InstanceId as string] }));
    await eventually('the Node to go', async () => !(await cluster.json('get nodes')).items.some((n: any) => n.metadata.name === lostNode), 90_000);
    await eventually('four pods elsewhere', async () => (await cluster.runningPods('app=hello')).length === 4, 90_000);
    expect((await cluster.runningPods('app=hello')).filter((p) => lost.includes(p.metadata.uid) || p.spec.nodeName === lostNode)).toEqual([]);
    await eventually(
      'two targets',
      async () =>
        (await cluster.targets()).filter((t) => t.TargetHealth?.State === 'healthy').length === 2 &&
        !(await cluster.targets()).some((t) => t.Target?.Id === victim?.InstanceId),
      90_000,
    );
    await loop.stop();
    const after = cluster.requestLoop();
    await sleep(3000);
    expect((await after.stop()).failures).toEqual([]);
  });
}
