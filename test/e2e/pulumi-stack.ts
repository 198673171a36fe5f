/** The Pulumi command as people run it, and an AWS to run it against. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { accessSync, constants, copyFileSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { homedir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import {
  DescribeInstancesCommand,
  DescribeInternetGatewaysCommand,
  DescribeLaunchTemplatesCommand,
  DescribeNetworkInterfacesCommand,
  DescribeRouteTablesCommand,
  DescribeSecurityGroupsCommand,
  DescribeSubnetsCommand,
  DescribeVolumesCommand,
  DescribeVpcsCommand,
} from '@aws-sdk/client-ec2';
import { DescribeLoadBalancersCommand, DescribeTargetGroupsCommand } from '@aws-sdk/client-elastic-load-balancing-v2';
import { ListInstanceProfilesCommand, ListPoliciesCommand, ListRolesCommand } from '@aws-sdk/client-iam';
import { DescribeParametersCommand } from '@aws-sdk/client-ssm';
import type { AwsClients } from '../../src/aws/clients.ts';
import { repository, run } from './command.ts';

const quickstart = join(repository, 'infra/quickstart');
const builtPulumi = join(process.env['KUMULUS_TOOLS'] ?? join(homedir(), '.cache/kumulus-tools'), 'pulumi');

/** The folder of the pulumi command: in PATH, or where the project's tools are built. */
export function findPulumi(): string | undefined {
  const isThere = (folder: string) => {
    try {
      accessSync(join(folder, 'pulumi'), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  };
  return [...(process.env['PATH'] ?? '').split(delimiter).filter(Boolean), builtPulumi].find(isThere);
}

/** One stack of infra/quickstart, with state and settings in a folder of the test's own. */
export class PulumiStack {
  readonly env: NodeJS.ProcessEnv;
  readonly name: string;
  private readonly pulumi: string;
  private readonly stacks: string;

  constructor(folder: string, name: string, env: NodeJS.ProcessEnv) {
    const tools = findPulumi();
    if (!tools) throw new Error('there is no pulumi command');
    this.name = name;
    this.pulumi = join(tools, 'pulumi');
    const backend = join(folder, 'pulumi-state');
    this.stacks = join(backend, '.pulumi/stacks/kumulus-quickstart');
    mkdirSync(backend, { recursive: true });
    this.env = {
      ...env,
      // The language host runs `node`, which has to be one that strips types.
      PATH: [dirname(process.execPath), tools, env['PATH'] ?? ''].join(delimiter),
      PULUMI_HOME: join(folder, 'pulumi-home'),
      PULUMI_BACKEND_URL: `file://${backend}`,
      PULUMI_CONFIG_PASSPHRASE: 'test',
      PULUMI_SKIP_UPDATE_CHECK: 'true',
    };
  }

  /** Fails with all that it said where it does not end with 0. */
  async run(...args: string[]): Promise<string> {
    const ran = await run(this.pulumi, [...args, '--stack', this.name, '--cwd', quickstart], { env: this.env, timeoutMs: 600_000 });
    if (ran.code !== 0) throw new Error(`pulumi ${args.join(' ')}: exit code ${ran.code}\n${ran.out}\n${ran.err}`);
    return ran.out + ran.err;
  }

  async init(settings: Record<string, string>): Promise<void> {
    const ran = await run(this.pulumi, ['stack', 'init', this.name, '--cwd', quickstart], { env: this.env });
    if (ran.code !== 0) throw new Error(`pulumi stack init: ${ran.out}${ran.err}`);
    for (const [name, value] of Object.entries(settings)) await this.run('config', 'set', name, value);
  }

  up = (...more: string[]) => this.run('up', '--yes', '--skip-preview', ...more);
  /** Fails where anything would change. */
  previewClean = () => this.run('preview', '--expect-no-changes');
  preview = () => this.run('preview', '--diff');
  refresh = () => this.run('refresh', '--yes', '--skip-preview');
  destroy = () => this.run('destroy', '--yes', '--skip-preview');
  export = () => this.run('stack', 'export');

  async outputs(): Promise<Record<string, any>> {
    return JSON.parse(await this.run('stack', 'output', '--json', '--show-secrets'));
  }

  /** Starts `pulumi up` and kills it, language host and all, as soon as it says this. Resolves to what it had said by then. */
  async upKilledAt(words: string): Promise<string> {
    const args = ['up', '--yes', '--skip-preview', '--stack', this.name, '--cwd', quickstart];
    const child = spawn(this.pulumi, args, { env: this.env, detached: true, stdio: ['ignore', 'pipe', 'pipe'] });
    const ended = once(child, 'close');
    let said = '';
    const hear = (chunk: Buffer) => {
      said += chunk;
      if (said.includes(words) && child.exitCode === null) process.kill(-(child.pid as number), 'SIGKILL');
    };
    child.stdout.on('data', hear);
    child.stderr.on('data', hear);
    const [code, signal] = await ended;
    if (signal !== 'SIGKILL') throw new Error(`pulumi up ended by itself (${code}) before it said '${words}':\n${said}`);
    this.endPlugins();
    this.mendState();
    // What the user does then: the dead update's lock is taken away.
    await this.run('cancel', '--yes');
    return said;
  }

  /**
   * What Pulumi is killed at while it writes is cut off: its state file, or the file of attributes beside that. The state before
   * lies beside it, and attributes are made anew.
   */
  private mendState(): void {
    const file = join(this.stacks, `${this.name}.json`);
    if (!isJson(file)) copyFileSync(`${file}.bak`, file);
    for (const attributes of [`${file}.attrs`, `${file}.bak.attrs`]) if (!isJson(attributes)) rmSync(attributes, { force: true });
  }

  /** Language hosts and providers are in process groups of their own, and outlive a pulumi that was killed. */
  private endPlugins(): void {
    const ours = `PULUMI_HOME=${this.env['PULUMI_HOME']}`;
    for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
      try {
        if (readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0').includes(ours)) process.kill(Number(pid), 'SIGKILL');
      } catch {
        // It has ended meanwhile.
      }
    }
  }

  async remove(): Promise<void> {
    await this.run('stack', 'rm', '--yes', '--force').catch(() => {});
    this.endPlugins();
    rmSync(join(quickstart, `Pulumi.${this.name}.yaml`), { force: true });
  }
}

function isJson(file: string): boolean {
  try {
    JSON.parse(readFileSync(file, 'utf8'));
    return true;
  } catch {
    return false;
  }
}

export interface ServedAws {
  endpoint: string;
  profile: string;
  region: string;
  stop(): Promise<void>;
}

/** `kumulus aws serve --dataplane`, until stopped. */
export async function serveEmbeddedAws(folder: string, env: NodeJS.ProcessEnv): Promise<ServedAws> {
  const args = [
    'bin/kumulus.js',
    'aws',
    'serve',
    '--dataplane',
    '--port',
    '0',
    '--profile',
    'kumulus-test',
    '--output',
    'json',
    '--state',
    join(folder, 'aws'),
  ];
  const child = spawn(process.execPath, args, { cwd: repository, env, stdio: ['ignore', 'pipe', 'inherit'] });
  const facts = await firstLine(child);
  return {
    ...JSON.parse(facts),
    async stop() {
      const ended = once(child, 'exit');
      child.kill('SIGINT');
      await ended;
    },
  };
}

/**
 * `kumulus aws dataplane` for another endpoint, until stopped: it boots the endpoint's instances, serves its load balancers, and has a
 * registry for its ECR.
 */
export async function serveDataPlane(
  folder: string,
  endpoint: string,
  env: NodeJS.ProcessEnv,
): Promise<{ registryUrl: string; stop(): Promise<void> }> {
  const port = await freePort();
  const args = ['bin/kumulus.js', 'aws', 'dataplane', '--endpoint', endpoint, '--registry-port', String(port), '--state', join(folder, 'plane')];
  const child = spawn(process.execPath, args, { cwd: repository, env, stdio: ['ignore', 'pipe', 'inherit'] });
  await firstLine(child);
  return {
    registryUrl: `http://127.0.0.1:${port}`,
    async stop() {
      const ended = once(child, 'exit');
      child.kill('SIGINT');
      await ended;
    },
  };
}

/** A port of the loopback that nobody has now. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  return port;
}

async function firstLine(child: ChildProcess): Promise<string> {
  for await (const line of createInterface({ input: child.stdout! })) return line;
  throw new Error('the AWS that was started ended before it was ready');
}

/** How many there are of everything that a cluster may be made of: none where AWS is empty. Default groups and tables go with their VPC. */
export async function inventory(clients: AwsClients): Promise<Record<string, number>> {
  const [ec2, elb, iam, ssm] = await Promise.all([clients.ec2(), clients.elbv2(), clients.iam(), clients.ssm()]);
  const instances = await ec2.send(new DescribeInstancesCommand({}));
  const alive = (instances.Reservations ?? []).flatMap((r) => r.Instances ?? []).filter((i) => i.State?.Name !== 'terminated');
  const counts: Record<string, number> = {
    vpcs: (await ec2.send(new DescribeVpcsCommand({}))).Vpcs?.length ?? 0,
    subnets: (await ec2.send(new DescribeSubnetsCommand({}))).Subnets?.length ?? 0,
    internetGateways: (await ec2.send(new DescribeInternetGatewaysCommand({}))).InternetGateways?.length ?? 0,
    routeTables: (await ec2.send(new DescribeRouteTablesCommand({}))).RouteTables?.length ?? 0,
    securityGroups: (await ec2.send(new DescribeSecurityGroupsCommand({}))).SecurityGroups?.length ?? 0,
    networkInterfaces: (await ec2.send(new DescribeNetworkInterfacesCommand({}))).NetworkInterfaces?.length ?? 0,
    launchTemplates: (await ec2.send(new DescribeLaunchTemplatesCommand({}))).LaunchTemplates?.length ?? 0,
    volumes: (await ec2.send(new DescribeVolumesCommand({}))).Volumes?.length ?? 0,
    instances: alive.length,
    loadBalancers: (await elb.send(new DescribeLoadBalancersCommand({}))).LoadBalancers?.length ?? 0,
    targetGroups: (await elb.send(new DescribeTargetGroupsCommand({}))).TargetGroups?.length ?? 0,
    instanceProfiles: (await iam.send(new ListInstanceProfilesCommand({}))).InstanceProfiles?.length ?? 0,
    roles: (await iam.send(new ListRolesCommand({}))).Roles?.filter((r) => !r.Path?.startsWith('/aws-service-role/')).length ?? 0,
    policies: (await iam.send(new ListPoliciesCommand({ Scope: 'Local' }))).Policies?.length ?? 0,
    parameters: (await ssm.send(new DescribeParametersCommand({}))).Parameters?.length ?? 0,
  };
  return Object.fromEntries(Object.entries(counts).filter(([, count]) => count > 0));
}
