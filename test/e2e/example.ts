/** A cluster made by `create cluster --example`, and what the suites ask of it: over kubectl, the AWS API and its page. */
import { readFileSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { DescribeInstancesCommand, EC2Client } from '@aws-sdk/client-ec2';
import { DescribeTargetGroupsCommand, DescribeTargetHealthCommand, ElasticLoadBalancingV2Client } from '@aws-sdk/client-elastic-load-balancing-v2';
import { clusterId } from '../../src/cluster/state.ts';
import { namespaceName, namespacePath } from '../../src/localaws/dataplane/names.ts';
import { processesInNamespace } from '../../src/localaws/dataplane/processes.ts';
import type { RunningAws } from './elsewhere.ts';
import { eventually, Machine, type Ran, run, sleep } from './command.ts';

const imageOf = (accountId: string) => `${accountId}.dkr.ecr.us-east-1.amazonaws.com/kumulus/example:1`;

/** The image of the example, which every cluster on the embedded AWS has. */
export const exampleImage = imageOf('000000000000');

export interface Created {
  url: string;
  hostname: string;
  awsEndpoint: string;
  context: string;
}

export class ExampleCluster {
  readonly name: string;
  readonly machine: Machine;
  created!: Created;
  ec2!: EC2Client;
  elb!: ElasticLoadBalancingV2Client;
  private aws: RunningAws | undefined;

  constructor(name: string, machine = new Machine()) {
    this.name = name;
    this.machine = machine;
  }

  /** The cluster is to be made on this AWS, which ends with it. */
  standOn(aws: RunningAws): void {
    this.aws = aws;
    Object.assign(this.machine.env, { AWS_ACCESS_KEY_ID: aws.accountId, AWS_SECRET_ACCESS_KEY: 'test' });
  }

  get exampleImage(): string {
    return imageOf(this.aws?.accountId ?? '000000000000');
  }

  /** For clients of the cluster's AWS. */
  get awsConfig() {
    const region = 'us-east-1';
    if (this.aws) return { region, endpoint: this.aws.url, credentials: { accessKeyId: this.aws.accountId, secretAccessKey: 'test' } };
    const { accessKeyId, secretAccessKey } = JSON.parse(readFileSync(join(this.machine.state, this.name, 'aws/credentials.json'), 'utf8'));
    return { region, endpoint: this.created.awsEndpoint, credentials: { accessKeyId, secretAccessKey } };
  }

  async create(args: string[]): Promise<Ran> {
    const where = this.aws ? ['--aws-endpoint', this.aws.url] : [];
    const ran = await this.machine.kumulus(['create', 'cluster', this.name, '--example', ...where, ...args, '-o', 'json']);
    if (ran.code !== 0) throw new Error(`create cluster: exit code ${ran.code}\n${ran.err}\n${this.machine.logs(this.name)}`);
    this.created = JSON.parse(ran.out);
    this.ec2 = new EC2Client(this.awsConfig);
    this.elb = new ElasticLoadBalancingV2Client(this.awsConfig);
    return ran;
  }

  async end(): Promise<void> {
    this.ec2?.destroy();
    this.elb?.destroy();
    await this.machine.end();
    await this.aws?.stop();
  }

  async json(args: string): Promise<any> {
    return JSON.parse(await this.machine.kubectl(`${args} -o json`));
  }

  async page(): Promise<string> {
    const answer = await fetch(this.created.url, { headers: { connection: 'close' }, signal: AbortSignal.timeout(5000) });
    if (answer.status !== 200) throw new Error(`${this.created.url}: ${answer.status}`);
    return answer.text();
  }

  /** Who served a page. */
  async served(): Promise<{ pod: string; ip: string; node: string }> {
    const [, pod, ip, node] = /pod (\S+) \((\S+)\) on node (\S+)/.exec(await this.page()) ?? [];
    return { pod: pod as string, ip: ip as string, node: node as string };
  }

  async runningPods(selector: string): Promise<any[]> {
    return (await this.json(`get pods -l ${selector}`)).items.filter(
      (p: any) => !p.metadata.deletionTimestamp && p.status.conditions?.some((c: any) => c.type === 'Ready' && c.status === 'True'),
    );
  }

  async readyNodes(): Promise<string[]> {
    return (await this.json('get nodes')).items
      .filter((n: any) => n.status.conditions?.some((c: any) => c.type === 'Ready' && c.status === 'True'))
      .map((n: any) => n.metadata.name);
  }

  /** Those of nodes. */
  async instances() {
    const filter = { Name: 'instance-state-name', Values: ['pending', 'running'] };
    const { Reservations } = await this.ec2.send(new DescribeInstancesCommand({ Filters: [filter] }));
    const all = (Reservations ?? []).flatMap((r) => r.Instances ?? []);
    return all.filter((i) => !i.Tags?.some((tag) => tag.Key === 'kumulus:control-plane'));
  }

  async instanceOf(node: string): Promise<string> {
    return (await this.instances()).find((i) => i.PrivateDnsName === node)?.InstanceId as string;
  }

  /** The Service's. */
  async targetGroup() {
    const { TargetGroups } = await this.elb.send(new DescribeTargetGroupsCommand({}));
    return TargetGroups?.find((one) => one.TargetGroupName?.startsWith('k8s-default-hello-'));
  }

  async targets() {
    const group = await this.targetGroup();
    return (await this.elb.send(new DescribeTargetHealthCommand({ TargetGroupArn: group?.TargetGroupArn }))).TargetHealthDescriptions ?? [];
  }

  async healthyTargets(): Promise<string[]> {
    return (await this.targets()).filter((t) => t.TargetHealth?.State === 'healthy').map((t) => t.Target?.Id as string);
  }

  /** Asks for the page again and again on new connections; stop() resolves to what failed and when it was asked. */
  requestLoop() {
    const failures: { at: number; error: string }[] = [];
    let requests = 0;
    let ended = false;
    const loop = (async () => {
      while (!ended) {
        requests++;
        const at = Date.now();
        await this.page().catch((error) => failures.push({ at, error: `${error.cause?.code ?? ''} ${error.message}` }));
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

  /** The path of the network namespace of an instance or VPC. */
  namespace(resourceId: string): string {
    return namespacePath(namespaceName(clusterId(join(this.machine.state, this.name)), resourceId));
  }

  /** Number of the host's processes in an instance whose words hold this text. */
  async processes(instanceId: string, words: string): Promise<number[]> {
    const found: number[] = [];
    for (const pid of await allProcesses(this.namespace(instanceId))) {
      try {
        if (readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').includes(words)) found.push(pid);
      } catch {
        // It ended meanwhile.
      }
    }
    return found;
  }

  /** Runs a shell command inside an instance, as its root would. */
  async inside(instanceId: string, command: string): Promise<Ran> {
    const [pid] = readFileSync(join(this.machine.state, this.name, 'instances', instanceId, 'process'), 'utf8').split(' ');
    return run('nsenter', ['-t', String(pid), '-m', '-u', '-i', '-n', '-p', '-C', 'sh', '-c', command]);
  }

  /** Kills the kubelet of an instance, and what would start it again. */
  async killNode(instanceId: string): Promise<void> {
    for (const words of ['kumulus-node-service', 'kumulus.js node']) {
      for (const pid of await this.processes(instanceId, words)) process.kill(pid, 'SIGKILL');
    }
    await eventually('the kubelet to be gone', async () => (await this.processes(instanceId, 'kumulus.js node')).length === 0);
  }

  /** Starts it again, as the next boot of the instance would. */
  async startNode(instanceId: string): Promise<void> {
    const ran = await this.inside(instanceId, '/etc/rc.local >/dev/null 2>&1 </dev/null');
    if (ran.code !== 0) throw new Error(ran.err);
  }
}

/** Also the processes of pods, which have network namespaces of their own: by the PID namespaces below. */
async function allProcesses(networkNamespace: string): Promise<number[]> {
  const direct = new Set(await processesInNamespace(networkNamespace));
  const parents = new Map<number, number>();
  for (const name of await readdir('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const stat = readFileSync(`/proc/${name}/stat`, 'utf8');
      parents.set(Number(name), Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]));
    } catch {
      // It ended meanwhile.
    }
  }
  const belongs = (pid: number): boolean => {
    for (let one = pid; one > 1; one = parents.get(one) ?? 0) if (direct.has(one)) return true;
    return false;
  };
  return [...parents.keys()].filter(belongs);
}
