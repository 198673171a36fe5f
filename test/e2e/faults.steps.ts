import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { DescribeVolumesCommand, TerminateInstancesCommand } from '@aws-sdk/client-ec2';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { clusterId } from '../../src/cluster/state.ts';
import { eventually, hostState, run, sleep } from './command.ts';
import type { Elsewhere } from './elsewhere.ts';
import { ExampleCluster } from './example.ts';

/**
 * What is lost and comes back: kubelets, networks, instances, and every process of a cluster, killed under running pods. A pod
 * that may run once never runs twice, and a volume is never attached twice. On the embedded AWS, or on another. Needs root and kubectl. The steps build on each other.
 */
export function faults(elsewhere?: Elsewhere): void {
  const name = 'faults';
  const cluster = new ExampleCluster(name);
  const { machine } = cluster;
  const state = join(machine.state, name);

  const tolerations = JSON.stringify(
    ['not-ready', 'unreachable'].map((one) => ({ key: `node.kubernetes.io/${one}`, operator: 'Exists', effect: 'NoExecute', tolerationSeconds: 2 })),
  );

  /** One pod that may run once, with a volume, that writes down each of its starts; and three that may run anywhere. */
  const manifest = () => `
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: keeper}
spec:
  serviceName: keeper
  replicas: 1
  selector: {matchLabels: {app: keeper}}
  template:
    metadata: {labels: {app: keeper}}
    spec:
      terminationGracePeriodSeconds: 1
      tolerations: ${tolerations}
      containers:
      - name: main
        image: ${cluster.exampleImage}
        command: [sh, -c, 'echo start >>/data/starts; exec sleep 100123']
        volumeMounts: [{name: data, mountPath: /data}]
  volumeClaimTemplates:
  - metadata: {name: data}
    spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: mover}
spec:
  replicas: 3
  selector: {matchLabels: {app: mover}}
  template:
    metadata: {labels: {app: mover}}
    spec:
      terminationGracePeriodSeconds: 1
      tolerations: ${tolerations}
      topologySpreadConstraints:
      - {maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: ScheduleAnyway, labelSelector: {matchLabels: {app: mover}}}
      containers:
      - {name: main, image: ${cluster.exampleImage}, command: [sh, -c, exec sleep 100456]}
`;

  const keeper = () => cluster.json('get pod keeper-0');
  const starts = () => machine.kubectl(['exec', 'keeper-0', '--', 'cat', '/data/starts']);
  const attachments = async () =>
    ((await cluster.ec2.send(new DescribeVolumesCommand({ Filters: [{ Name: 'tag-key', Values: ['CSIVolumeName'] }] }))).Volumes ?? []).flatMap((v) =>
      (v.Attachments ?? []).map((a) => a.InstanceId as string),
    );
  /** Instances in which the pod's process runs, whatever the API server believes. */
  const runningIn = async (words: string) => {
    const found: string[] = [];
    for (const { InstanceId: id } of await cluster.instances()) for (const _ of await cluster.processes(id as string, words)) found.push(id as string);
    return found;
  };
  const children = (): { name: string; pid: number }[] => JSON.parse(readFileSync(join(state, 'run/children.json'), 'utf8'));
  const supervisor = (): number => JSON.parse(readFileSync(join(state, 'run/supervisor.json'), 'utf8')).pid;
  const agents = async (): Promise<number[]> =>
    (await run('pgrep', ['-f', `dataplane/agent.ts kumulus-${clusterId(state)}-`])).out.split('\n').filter(Boolean).map(Number);

  /** Watches, by looking again and again, that what may run once does. */
  function watchTwice() {
    const seen: string[] = [];
    let ended = false;
    const loop = (async () => {
      while (!ended) {
        const [running, attached] = [await runningIn('sleep 100123'), await attachments().catch(() => [])];
        if (running.length > 1) seen.push(`keeper runs in ${running}`);
        if (new Set(attached).size > 1) seen.push(`its volume is attached to ${attached}`);
        await sleep(100);
      }
    })();
    return async () => {
      ended = true;
      await loop;
      return seen;
    };
  }

  beforeAll(async () => {
    if (elsewhere) cluster.standOn(await elsewhere.start());
    await cluster.create(['--nodes', '3', '--zones', 'us-east-1a', '--node-monitor-grace-period', '8s']);
    await machine.kubectl('apply -f -', { input: manifest() });
    await machine.kubectl('rollout status statefulset/keeper --timeout=120s', { timeoutMs: 130_000 });
    await machine.kubectl('rollout status deployment/mover --timeout=120s', { timeoutMs: 130_000 });
  }, 900_000);
  afterAll(() => cluster.end(), 120_000);
  afterEach(async (context) => {
    if (context.task.result?.state !== 'fail') return;
    console.error(machine.logs(name));
    for (const words of ['get pods,nodes -o wide', 'get events --sort-by=.lastTimestamp'])
      console.error((await machine.tryKubectl(words)).out.split('\n').slice(-40).join('\n'));
  });

  /** The node falls silent; its pods move, but for the one that may run once; it comes back and ends what it missed. */
  async function lose(cut: (instance: string) => Promise<void>, back: (instance: string) => Promise<void>): Promise<void> {
    const before = await keeper();
    const node = before.spec.nodeName as string;
    const instance = await cluster.instanceOf(node);
    const startsBefore = (await starts()).split('\n').length;
    const stopWatching = watchTwice();
    await cut(instance);
    await eventually('the node to be NotReady', async () => !(await cluster.readyNodes()).includes(node), 60_000);
    await eventually(
      'three movers elsewhere',
      async () => {
        const pods = await cluster.runningPods('app=mover');
        return pods.length === 3 && pods.every((p) => p.spec.nodeName !== node);
      },
      90_000,
    );
    await eventually('the deletion of keeper-0', async () => (await keeper()).metadata.deletionTimestamp !== undefined);
    // Nobody can know that it has ended: neither a second one nor its volume elsewhere.
    await sleep(3000);
    expect((await keeper()).metadata.uid).toBe(before.metadata.uid);
    expect(await attachments()).toEqual([instance]);
    expect(await runningIn('sleep 100123')).toEqual([instance]);
    await back(instance);
    await eventually('the node to be Ready', async () => (await cluster.readyNodes()).includes(node), 60_000);
    await eventually(
      'another keeper-0',
      async () => {
        const now = await keeper();
        return now.metadata.uid !== before.metadata.uid && now.status.conditions?.some((c: any) => c.type === 'Ready' && c.status === 'True');
      },
      90_000,
    );
    expect(await stopWatching()).toEqual([]);
    expect((await starts()).split('\n').length).toBe(startsBefore + 1);
    await eventually('the movers that were left there to be ended', async () => (await runningIn('sleep 100456')).length === 3, 60_000);
  }

  describe(`a cluster with faults${elsewhere ? ` on ${elsewhere.name}` : ''}`, { timeout: 240_000 }, () => {
    it('a kubelet that is killed is started again, and its pods run on', async () => {
      const pod = await keeper();
      const instance = await cluster.instanceOf(pod.spec.nodeName);
      const [kubelet] = await cluster.processes(instance, 'kumulus.js node');
      process.kill(kubelet as number, 'SIGKILL');
      await eventually('another kubelet', async () => {
        const [now] = await cluster.processes(instance, 'kumulus.js node');
        return now !== undefined && now !== kubelet;
      });
      await eventually('exec through it', async () => (await starts()) === 'start\n');
      const after = await keeper();
      expect(after.metadata.uid).toBe(pod.metadata.uid);
      expect(after.status.containerStatuses[0].restartCount).toBe(0);
    });

    it('a kubelet that is gone: NotReady, pods move, what may run once does not; it comes back and ends them', async () => {
      await lose(
        (instance) => cluster.killNode(instance),
        (instance) => cluster.startNode(instance),
      );
    });

    it('an instance cut off the network, likewise', async () => {
      const chain = (hook: string, interface_: string) => `chain ${hook} {\n type filter hook ${hook} priority -300\n ${interface_} eth0 drop\n}\n`;
      const rules = `table inet cut {\n${chain('prerouting', 'iif')}${chain('postrouting', 'oif')}}\n`;
      await lose(
        async (instance) => {
          const cut = await run('nsenter', [`--net=${cluster.namespace(instance)}`, 'nft', '-f', '-'], { input: rules });
          expect(cut.code, cut.err).toBe(0);
        },
        async (instance) => {
          await run('nsenter', [`--net=${cluster.namespace(instance)}`, 'nft', 'delete', 'table', 'inet', 'cut']);
        },
      );
      await eventually('three healthy targets', async () => (await cluster.healthyTargets()).length === 3);
    });

    it.each(['control-plane', 'aws'])('SIGKILL of the %s process loses nothing and fails no request to the page', async (part) => {
      const uids = async () => (await cluster.runningPods('app=hello')).map((p) => p.metadata.uid).sort();
      const before = await uids();
      const loop = cluster.requestLoop();
      await machine.kubectl(`create configmap before-${part} --from-literal=a=b`);
      process.kill(children().find((c) => c.name === part)?.pid as number, 'SIGKILL');
      await eventually('the API server', async () => (await machine.tryKubectl('get --raw /readyz')).out === 'ok');
      await eventually('the AWS API', () => cluster.instances());
      await machine.kubectl(`get configmap before-${part}`);
      await machine.kubectl(`create configmap after-${part} --from-literal=a=b`);
      expect(await uids()).toEqual(before);
      const { failures } = await loop.stop();
      // The aws process takes the listeners on the host over from the one before.
      if (part === 'control-plane') expect(failures).toEqual([]);
      await eventually('the page', () => cluster.page());
    });

    it('SIGKILL of the VPC agent: it is started again and serves', async () => {
      const [agent] = await agents();
      process.kill(agent as number, 'SIGKILL');
      await eventually('another agent', async () => {
        const [now] = await agents();
        return now !== undefined && now !== agent;
      });
      await eventually('the page', () => cluster.page());
      const [pod] = await cluster.runningPods('app=hello');
      expect(await machine.kubectl(['exec', pod.metadata.name, '--', 'echo', 'reached'])).toBe('reached\n');
    });

    it('SIGKILL of the supervisor: all goes on, doctor says so, start cluster brings it back', async () => {
      const gone = supervisor();
      process.kill(gone, 'SIGKILL');
      await cluster.page();
      await machine.kubectl('create configmap unsupervised --from-literal=a=b');
      const doctor = await machine.kumulus(['doctor']);
      expect(doctor.code).toBe(1);
      expect(doctor.out).toContain('its supervisor does not run: "kumulus start cluster faults" starts what is missing');
      const started = await machine.kumulus(['start', 'cluster', name]);
      expect(started.code, started.err).toBe(0);
      expect(supervisor()).not.toBe(gone);
      await machine.kubectl('get configmap unsupervised');
      await eventually('the page', () => cluster.page());
      expect((await machine.kumulus(['doctor'])).out).toContain(`✓ ${name}: runs`);
    });

    it('an instance terminated under requests: failures end with what the cluster knows of it, and none follows', async () => {
      const { node } = await cluster.served();
      const victim = await cluster.instanceOf(node);
      const before = await cluster.runningPods('app=hello');
      const loop = cluster.requestLoop();
      await cluster.ec2.send(new TerminateInstancesCommand({ InstanceIds: [victim] }));
      await eventually('its Node to go', async () => !(await cluster.json('get nodes')).items.some((n: any) => n.metadata.name === node), 90_000);
      await eventually('its target to leave', async () => !(await cluster.targets()).some((t) => t.Target?.Id === victim), 90_000);
      await eventually('two pods elsewhere', async () => (await cluster.runningPods('app=hello')).length === 2, 90_000);
      const after = await cluster.runningPods('app=hello');
      for (const lost of before.filter((p) => p.spec.nodeName === node)) expect(after.map((p) => p.metadata.uid)).not.toContain(lost.metadata.uid);
      // All know of it now but, for a moment, the rules of the other nodes.
      const pages = async (count: number) => {
        for (let n = 0; n < count; n++) await cluster.page();
        return true;
      };
      await eventually('twenty pages one after the other', () => pages(20));
      const from = Date.now();
      await pages(100);
      const { failures } = await loop.stop();
      expect(failures.filter((f) => f.at > from)).toEqual([]);
    });

    it('start cluster launches an instance in place of the one that was terminated', async () => {
      const started = await machine.kumulus(['start', 'cluster', name]);
      expect(started.code, started.err).toBe(0);
      await eventually('three Ready nodes', async () => (await cluster.readyNodes()).length === 3, 90_000);
      await eventually('keeper-0', async () => (await cluster.runningPods('app=keeper')).length === 1, 90_000);
    });

    it('a reboot: everything ends at once, start cluster rebuilds it, volumes and objects intact', async () => {
      const startsBefore = await starts();
      const marks = [clusterId(state), machine.folder];
      const ours = (await hostState(machine, [name])).filter((line) => !line.startsWith('sysctl'));
      expect(ours.length).toBeGreaterThan(20);
      await pullThePlug(marks);
      expect((await hostState(machine, [name])).filter((line) => !/^(sysctl|find):/.test(line))).toEqual([]);
      const doctor = await machine.kumulus(['doctor']);
      expect(doctor.out).toContain('its supervisor does not run');
      const started = await machine.kumulus(['start', 'cluster', name]);
      expect(started.code, started.err).toBe(0);
      await eventually('the page', () => cluster.page(), 120_000);
      await eventually('three Ready nodes', async () => (await cluster.readyNodes()).length === 3, 90_000);
      await eventually('keeper-0', async () => (await starts()).startsWith(startsBefore) && (await starts()) !== startsBefore, 90_000);
      await machine.kubectl('get configmap before-aws unsupervised');
    });

    it('delete leaves nothing', async () => {
      const ran = await machine.kumulus(['delete', 'cluster', name]);
      expect(ran.code, ran.err).toBe(0);
      expect((await hostState(machine, [name])).filter((line) => !line.startsWith('sysctl'))).toEqual([]);
    });
  });

  /** What a power failure does, to this cluster alone: processes, namespaces, mounts and loop devices are gone; files stay. */
  async function pullThePlug(marks: string[]): Promise<void> {
    const namespaces = (await run('ip', ['netns', 'list'])).out.split('\n').map((l) => l.split(' ')[0] as string);
    const own = namespaces.filter((one) => marks.some((mark) => one.includes(mark)));
    const kill = (pid: number) => {
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // It ended with another.
      }
    };
    kill(supervisor());
    for (const { pid } of children()) kill(pid);
    for (const pid of await agents()) kill(pid);
    for (const id of readdirSync(join(state, 'instances'))) kill(Number(readFileSync(join(state, 'instances', id, 'process'), 'utf8').split(' ')[0]));
    await eventually('every process to be gone', async () => !(await hostState(machine, [name])).some((line) => line.startsWith('process:')));
    for (const one of own) await run('ip', ['netns', 'delete', one]);
    for (const line of (await run('losetup', ['-l', '-n', '-O', 'NAME,BACK-FILE'])).out.split('\n')) {
      if (line.includes(machine.folder)) await run('losetup', ['-d', line.trim().split(/\s+/)[0] as string]);
    }
    for (const line of (await run('findmnt', ['-rn', '-o', 'TARGET'])).out.split('\n'))
      if (line.includes(machine.folder)) await run('umount', ['-l', line]);
  }
}
