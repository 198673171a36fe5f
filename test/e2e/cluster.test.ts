/**
 * The whole way as a newcomer goes it: `create cluster --example`, the page through the load balancer, kubectl, the loss of
 * instances and processes, a volume that moves, deletion without leavings. Needs root and kubectl. The steps build on each other.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { DescribeInstancesCommand, DescribeVolumesCommand, EC2Client, TerminateInstancesCommand } from '@aws-sdk/client-ec2';
import {
  DescribeLoadBalancersCommand,
  DescribeTargetGroupsCommand,
  DescribeTargetHealthCommand,
  ElasticLoadBalancingV2Client,
} from '@aws-sdk/client-elastic-load-balancing-v2';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { eventually, hostState, Machine, sleep } from './command.ts';

const name = 'e2e';
const machine = new Machine();
let before: string[];
let created: { url: string; hostname: string; awsEndpoint: string; context: string };
let ec2: EC2Client;
let elb: ElasticLoadBalancingV2Client;

const json = async (args: string) => JSON.parse(await machine.kubectl(`${args} -o json`));
const fetchPage = async (): Promise<string> => {
  const answer = await fetch(created.url, { headers: { connection: 'close' }, signal: AbortSignal.timeout(5000) });
  if (answer.status !== 200) throw new Error(`${created.url}: ${answer.status}`);
  return answer.text();
};
const served = (page: string) => /pod (\S+) \((\S+)\) on node (\S+)/.exec(page)?.slice(1) as [string, string, string];
const runningPods = async (selector: string): Promise<any[]> =>
  (await json(`get pods -l ${selector}`)).items.filter(
    (p: any) => !p.metadata.deletionTimestamp && p.status.conditions?.some((c: any) => c.type === 'Ready' && c.status === 'True'),
  );
const instances = async () =>
  (
    (await ec2.send(new DescribeInstancesCommand({ Filters: [{ Name: 'instance-state-name', Values: ['pending', 'running'] }] }))).Reservations ?? []
  ).flatMap((r) => r.Instances ?? []);
const targets = async () => {
  const group = (await elb.send(new DescribeTargetGroupsCommand({}))).TargetGroups?.[0]?.TargetGroupArn;
  return (await elb.send(new DescribeTargetHealthCommand({ TargetGroupArn: group }))).TargetHealthDescriptions ?? [];
};

/** Asks for the page again and again on new connections; stop() resolves to what failed. */
function requestLoop() {
  const failures: string[] = [];
  let requests = 0;
  let ended = false;
  const loop = (async () => {
    while (!ended) {
      requests++;
      await fetchPage().catch((error) => failures.push(`${new Date().toISOString()} ${error.cause?.code ?? ''} ${error.message}`));
      await sleep(20);
    }
  })();
  return {
    async stop() {
      ended = true;
      await loop;
      return { requests, failures };
    },
  };
}

beforeAll(async () => {
  before = await hostState(machine, [name]);
});
afterAll(async () => {
  ec2?.destroy();
  elb?.destroy();
  await machine.end();
}, 120_000);
afterEach((context) => {
  if (context.task.result?.state === 'fail') console.error(machine.logs(name));
});

describe('the first cluster', { timeout: 240_000 }, () => {
  it('create cluster --example ends with a page behind a load balancer', async () => {
    const ran = await machine.kumulus(['create', 'cluster', name, '--nodes', '3', '--example', '--node-monitor-grace-period', '6s', '-o', 'json']);
    expect(ran.code, ran.err).toBe(0);
    expect(ran.err).toContain('✓ Starting the control plane');
    created = JSON.parse(ran.out);
    expect(created.url).toMatch(/^http:\/\/127\.64\.\d+\.\d+\/$/);
    const keys = JSON.parse(readFileSync(join(machine.state, name, 'aws/credentials.json'), 'utf8'));
    const config = {
      region: 'us-east-1',
      endpoint: created.awsEndpoint,
      credentials: { accessKeyId: keys.accessKeyId, secretAccessKey: keys.secretAccessKey },
    };
    ec2 = new EC2Client(config);
    elb = new ElasticLoadBalancingV2Client(config);
    expect((await machine.kubectl('config current-context')).trim()).toBe(`kumulus-${name}`);
  });

  it('the page comes from different pods on different instances', async () => {
    const seen = new Map<string, string>();
    await eventually('answers of two pods', async () => {
      const [pod, , node] = served(await fetchPage());
      seen.set(pod, node);
      return seen.size === 2;
    });
    expect(new Set(seen.values()).size).toBe(2);
    expect((await instances()).map((i) => i.PrivateDnsName)).toEqual(expect.arrayContaining([...seen.values()]));
  });

  it('AWS shows the truth: running instances, an active load balancer, healthy targets', async () => {
    expect((await instances()).map((i) => i.State?.Name)).toEqual(['running', 'running', 'running']);
    const [balancer] = (await elb.send(new DescribeLoadBalancersCommand({}))).LoadBalancers ?? [];
    expect(balancer).toMatchObject({ DNSName: created.hostname, Type: 'network', Scheme: 'internet-facing', State: { Code: 'active' } });
    await eventually('three healthy targets', async () => (await targets()).filter((t) => t.TargetHealth?.State === 'healthy').length === 3);
  });

  it('kubectl sees nodes with what the cloud knows of them', async () => {
    const nodes = (await json('get nodes')).items;
    expect(nodes).toHaveLength(3);
    for (const node of nodes) {
      expect(node.spec.providerID).toMatch(/^aws:\/\/\/us-east-1[ab]\/i-[0-9a-f]{17}$/);
      expect(node.spec.taints ?? []).toEqual([]);
      expect(node.metadata.labels).toMatchObject({ 'topology.kubernetes.io/region': 'us-east-1', 'node.kubernetes.io/instance-type': 't3.medium' });
    }
    expect(await machine.kubectl('wait --for=condition=Ready nodes --all --timeout=30s')).toContain('condition met');
  });

  it('kubectl get, describe, logs, exec, rollout, auth can-i', async () => {
    const [pod] = await runningPods('app=hello');
    expect(await machine.kubectl('get deployment hello')).toMatch(/hello\s+2\/2\s+2\s+2/);
    expect(await machine.kubectl('get service hello')).toContain(created.hostname);
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
    const [pod] = await runningPods('app=hello');
    const inside = (command: string) => machine.kubectl(['exec', pod.metadata.name, '--', 'sh', '-c', command]);
    expect(await inside('nslookup hello.default.svc.cluster.local')).toContain((await json('get service hello')).spec.clusterIP);
    expect(await inside('wget -qO- http://hello')).toContain('Hello from Kumulus');
    // busybox's own TLS names no signature algorithms, which servers refuse today: its nc carries TLS spoken here.
    const account = '/var/run/secrets/kubernetes.io/serviceaccount';
    const [ca, token] = [await inside(`cat ${account}/ca.crt`), await inside(`cat ${account}/token`)];
    const answer = await machine.requestThroughPod(pod.metadata.name, { host: 'kubernetes.default', port: 443, path: '/version', ca, token });
    expect(answer).toContain('"minor":"37"');
    expect(await inside(`nslookup ${created.hostname}`)).toMatch(/10\.0\.\d+\.\d+/);
  });

  it('scale to 10 and back', async () => {
    await machine.kubectl('scale deployment hello --replicas=10');
    await machine.kubectl('wait --for=jsonpath={.status.availableReplicas}=10 deployment/hello --timeout=60s');
    const nodes = new Set((await runningPods('app=hello')).map((p) => p.spec.nodeName));
    expect(nodes.size).toBe(3);
    await machine.kubectl('scale deployment hello --replicas=4');
    await eventually('four pods', async () => (await json('get pods -l app=hello')).items.length === 4);
  });

  it('a rolling update and its undo fail no request', async () => {
    const loop = requestLoop();
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
    image: 000000000000.dkr.ecr.us-east-1.amazonaws.com/kumulus/example:1
    command: [sh, -c, ${JSON.stringify(command)}]
    volumeMounts: [{name: data, mountPath: /data}]
  volumes: [{name: data, persistentVolumeClaim: {claimName: data}}]
`;
    const nodes = (await json('get nodes')).items
      .filter((n: any) => n.metadata.labels['topology.kubernetes.io/zone'] === 'us-east-1a')
      .map((n: any) => n.metadata.name);
    expect(nodes).toHaveLength(2);
    await machine.kubectl('apply -f -', { input: manifest(nodes[0], 'echo kept >/data/file; sync; sleep 3600') });
    await machine.kubectl('wait --for=condition=Ready pod/keeper --timeout=90s');
    const volumeOf = async () =>
      (await ec2.send(new DescribeVolumesCommand({ Filters: [{ Name: 'tag-key', Values: ['CSIVolumeName'] }] }))).Volumes?.[0];
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
    const page = served(await fetchPage());
    const victim = (await instances()).find((i) => i.PrivateDnsName === page[2]);
    const lost = (await runningPods('app=hello')).filter((p) => p.spec.nodeName === page[2]).map((p) => p.metadata.uid);
    const loop = requestLoop();
    await ec2.send(new TerminateInstancesCommand({ InstanceIds: [victim?.InstanceId as string] }));
    await eventually('the Node to go', async () => !(await json('get nodes')).items.some((n: any) => n.metadata.name === page[2]), 90_000);
    await eventually('four pods elsewhere', async () => (await runningPods('app=hello')).length === 4, 90_000);
    expect((await runningPods('app=hello')).filter((p) => lost.includes(p.metadata.uid) || p.spec.nodeName === page[2])).toEqual([]);
    await eventually(
      'two targets',
      async () =>
        (await targets()).filter((t) => t.TargetHealth?.State === 'healthy').length === 2 &&
        !(await targets()).some((t) => t.Target?.Id === victim?.InstanceId),
      90_000,
    );
    await loop.stop();
    const after = requestLoop();
    await sleep(3000);
    expect((await after.stop()).failures).toEqual([]);
  });

  it.each(['control-plane', 'aws'])('SIGKILL of the %s process loses nothing', async (part) => {
    const uids = (await runningPods('app=hello')).map((p) => p.metadata.uid).sort();
    const children: { name: string; pid: number }[] = JSON.parse(readFileSync(join(machine.state, name, 'run/children.json'), 'utf8'));
    process.kill(children.find((c) => c.name === part)?.pid as number, 'SIGKILL');
    await eventually('the API server', async () => (await machine.tryKubectl('get --raw /readyz')).out === 'ok');
    await eventually('the page', fetchPage);
    expect((await runningPods('app=hello')).map((p) => p.metadata.uid).sort()).toEqual(uids);
    await machine.kubectl(`create configmap after-${part} --from-literal=a=b`);
  });

  it('stop and start keep state, pods come back, the page is served again', async () => {
    const stopped = await machine.kumulus(['stop', 'cluster', name]);
    expect(stopped.code, stopped.err).toBe(0);
    expect((await machine.tryKubectl('get nodes --request-timeout=2s')).code).not.toBe(0);
    const started = await machine.kumulus(['start', 'cluster', name]);
    expect(started.code, started.err).toBe(0);
    await eventually('the page', fetchPage, 120_000);
    expect(await machine.kubectl('get configmap after-aws')).toContain('after-aws');
    await eventually('Ready nodes', async () => (await machine.kubectl('get nodes')).match(/ Ready /g)?.length === 2, 90_000);
  });

  it('get clusters, get nodes, doctor', async () => {
    expect((await machine.kumulus(['get', 'clusters'])).out.trim()).toBe(name);
    const nodes = JSON.parse((await machine.kumulus(['get', 'nodes', '--name', name, '-o', 'json'])).out);
    expect(nodes.map((n: any) => n.status)).toEqual(['Ready', 'Ready']);
    const doctor = await machine.kumulus(['doctor']);
    expect(doctor.out).toContain(`✓ ${name}: runs`);
  });

  it('delete cluster leaves nothing', async () => {
    const ran = await machine.kumulus(['delete', 'cluster', name]);
    expect(ran.code, ran.err).toBe(0);
    expect(await hostState(machine, [name])).toEqual(before);
    expect((await machine.kumulus(['get', 'clusters'])).err).toContain('No kumulus clusters found.');
    expect(readFileSync(machine.kubeconfig, 'utf8')).not.toContain('kumulus-e2e');
  });
});

describe('trouble', { timeout: 120_000 }, () => {
  it('Ctrl-C during creation rolls back', async () => {
    const state = await hostState(machine, ['broken']);
    const interrupt = new AbortController();
    const creating = machine.kumulus(['create', 'cluster', 'broken', '--nodes', '1'], { signal: interrupt.signal });
    await eventually('the control plane to start', async () => {
      const text = machine.logs('broken');
      return text.includes('control-plane started');
    });
    interrupt.abort();
    const ran = await creating;
    expect(ran.code).toBe(130);
    expect(ran.err).toContain('rolling back');
    expect(await hostState(machine, ['broken'])).toEqual(state);
    expect((await machine.kumulus(['get', 'clusters'])).err).toContain('No kumulus clusters found.');
  });

  it.each([
    ['Bad_Name', 1, "'Bad_Name' is not a valid cluster name"],
    ['a'.repeat(40), 1, 'is too long: 40 characters'],
  ])('refuses the name %s', async (bad, code, message) => {
    const ran = await machine.kumulus(['create', 'cluster', bad]);
    expect(ran.code).toBe(code);
    expect(ran.err).toContain(message);
  });

  it('wrong words and flags end with 2', async () => {
    expect((await machine.kumulus(['create', 'kluster'])).code).toBe(2);
    expect((await machine.kumulus(['create', 'cluster', '--nodes', 'many'])).code).toBe(2);
    expect((await machine.kumulus(['get', 'clusters', '-o', 'xml'])).code).toBe(2);
  });
});
