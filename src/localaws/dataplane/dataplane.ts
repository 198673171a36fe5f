import { mkdirSync, realpathSync } from 'node:fs';
import { mkdir, readdir } from 'node:fs/promises';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import type { Instance } from '@aws-sdk/client-ec2';
import type { Logger } from 'pino';
import type { CloudReports, CloudSource, CloudState, TargetHealthState } from '../contract.ts';
import { agentConfig } from './agent-config.ts';
import { VpcAgent } from './agent-host.ts';
import { targetKey } from './agent-protocol.ts';
import { suspendEverything } from './cleanup.ts';
import { fillCompileCache } from './compile-cache.ts';
import { Instances } from './instance.ts';
import { prepareInstanceFiles } from './instance-files.ts';
import { wantsNetwork } from './interfaces.ts';
import { KeyedWork } from './keyed-work.ts';
import { type Balancer, balancerAddresses, hostAddressFile, LoadBalancers } from './load-balancers.ts';
import { namespaceName } from './names.ts';
import { rememberOwner } from './owners.ts';
import { forwardQuery } from './resolver.ts';
import { Volumes } from './volumes.ts';
import { deleteNamespace, VpcNetwork } from './vpc.ts';
import { planVpcs, type VpcPlan } from './vpc-plan.ts';

export { destroyEverything, findLeavings, type Leaving, suspendEverything } from './cleanup.ts';
export { readHostAddress } from './load-balancers.ts';
export { preflight } from './preflight.ts';

export interface DataPlaneOptions {
  source: CloudSource;
  reports: CloudReports;
  /** The cluster's state folder, such as /var/lib/kumulus/NAME: run/, instances/, volumes/ and dataplane/ in it are used. */
  directory: string;
  /** 6 hex digits; in the name of everything made on the host. */
  id: string;
  /** The checkout: /opt/kumulus inside instances. */
  packageRoot: string;
  /** A Node.js from 22.18: runs the agents, and is /opt/kumulus-node/node inside instances. */
  nodeBinary: string;
  /** Compiles these modules of the package ahead of the instances that run them, into a folder that outlives the cluster. */
  compileCache?: { directory: string; modules: string[] };
  /** Takes connections that instances made to 169.254.169.252:4566. They are paused. */
  awsHandleConnection?: (socket: Socket) => void;
  log: Logger;
}

export interface DataPlane {
  /** Resolves when every change so far is made real (or waits to be tried again). */
  idle(): Promise<void>;
  /** The address of an internet-facing load balancer on the host, 127.64.X.Y. */
  loadBalancerAddress(arn: string): string | undefined;
  /** Ends the agents and, unless they are to be kept, the instances; files and volumes stay. */
  stop(options?: { keepInstances?: boolean }): Promise<void>;
}

/**
 * Starts making the state of an AWS endpoint real on this host; what an earlier data plane left running is taken over.
 *
 * Not made real: ways out of a VPC (internet and NAT gateways answer "unreachable"; names outside resolve nevertheless), IPv6,
 * network ACLs, UDP and TLS listeners, rules of an Application Load Balancer other than its default action (whose HTTP is
 * forwarded as bytes), memory and CPU limits by instance type, snapshots.
 */
export async function startDataPlane(options: DataPlaneOptions): Promise<DataPlane> {
  mkdirSync(options.directory, { recursive: true, mode: 0o700 });
  const controller = new Controller({ ...options, directory: realpathSync(options.directory) });
  await controller.start();
  return controller;
}

class Controller implements DataPlane {
  private readonly options: DataPlaneOptions;
  private readonly work: KeyedWork;
  private readonly networks = new Map<string, VpcNetwork>();
  private readonly agents = new Map<string, VpcAgent>();
  private readonly balancers: LoadBalancers;
  private readonly volumes: Volumes;
  private instances!: Instances;
  private state!: CloudState;
  private plans = new Map<string, VpcPlan>();
  private planned: Balancer[] = [];
  private readonly toldAddresses = new Map<string, string>();
  private readonly health = new Map<string, Map<string, string>>();
  private stopChanges: () => void = () => {};
  private stopped = false;

  constructor(options: DataPlaneOptions) {
    this.options = options;
    this.work = new KeyedWork(options.log);
    this.balancers = new LoadBalancers(hostAddressFile(options.directory));
    this.volumes = new Volumes({
      source: options.source,
      reports: options.reports,
      directory: join(options.directory, 'volumes'),
      processOf: (instanceId) => this.instances.processOf(instanceId),
      log: options.log,
    });
  }

  async start(): Promise<void> {
    const { directory, source, reports, id, packageRoot, nodeBinary, log } = this.options;
    await rememberOwner(id, directory);
    for (const folder of ['run', 'instances', 'volumes', 'dataplane']) await mkdir(join(directory, folder), { recursive: true, mode: 0o700 });
    const { compileCache } = this.options;
    const compiled = compileCache?.directory;
    if (compileCache) {
      await mkdir(compileCache.directory, { recursive: true, mode: 0o755 });
      void fillCompileCache({ ...compileCache, packageRoot: realpathSync(packageRoot), nodeBinary: realpathSync(nodeBinary) }).then(
        (done) => done || log.info('no code could be compiled ahead for instances'),
      );
    }
    this.instances = new Instances({
      source,
      reports,
      clusterId: id,
      directory: join(directory, 'instances'),
      files: await prepareInstanceFiles(directory),
      packageRoot: realpathSync(packageRoot),
      nodeBinary: realpathSync(nodeBinary),
      ...(compiled ? { compiled } : {}),
      resolverOf: (instance) => this.plans.get(instance.VpcId ?? '')?.resolver,
      rejoin: (instance) => this.rejoin(instance),
      changed: () => this.look(),
      log,
    });
    this.stopChanges = source.onChange(() => this.look());
    this.look();
  }

  async idle(): Promise<void> {
    // Reports made at the end of some work come back as changes, a moment later.
    for (let quiet = 0; quiet < 3; quiet++) {
      await this.work.idle();
      await new Promise((resolve) => setImmediate(resolve));
      if (this.work.busy()) quiet = -1;
    }
  }

  loadBalancerAddress(arn: string): string | undefined {
    return this.balancers.hostAddress(arn);
  }

  async stop({ keepInstances = false } = {}): Promise<void> {
    this.stopped = true;
    this.stopChanges();
    await this.work.stop();
    await Promise.all([...this.agents.values()].map((agent) => agent.stop()));
    await this.instances.release();
    if (!keepInstances) await suspendEverything({ directory: this.options.directory, id: this.options.id, log: this.options.log });
  }

  private look(): void {
    if (!this.stopped) this.work.run('state', () => this.reconcile(), { eager: true });
  }

  /** Networks first, since all else happens in them; then every instance, volume and agent by itself. */
  private async reconcile(): Promise<void> {
    const state = await this.options.source.read();
    this.state = state;
    const balancers = await this.balancers.plan(state);
    this.planned = balancers;
    const plans = planVpcs(state, balancerAddresses(balancers));
    this.plans = new Map(plans.map((plan) => [plan.vpcId, plan]));
    const results = await Promise.allSettled([...plans.map((plan) => this.network(plan.vpcId).apply(plan)), this.removeNetworks(state)]);
    this.startInstanceWork(state, await this.instances.known());
    for (const volume of state.volumes) {
      this.work.run(volume.VolumeId!, async () => {
        const now = this.state.volumes.find((one) => one.VolumeId === volume.VolumeId);
        if (now) await this.volumes.reconcile(now, this.state.instances);
      });
    }
    for (const plan of plans) this.work.run(`agent of ${plan.vpcId}`, () => this.configureAgent(plan.vpcId));
    this.reportUnused(state);
    const failure = results.find((one) => one.status === 'rejected');
    if (failure) throw failure.reason;
  }

  private startInstanceWork(state: CloudState, known: string[]): void {
    const ids = new Set([...state.instances.map((one) => one.InstanceId!), ...known]);
    for (const id of ids) {
      this.work.run(id, async () => {
        const now = this.state.instances.find((one) => one.InstanceId === id);
        // AWS forgets a terminated instance after a while.
        if (now) await this.instances.reconcile(now);
        else await this.instances.remove(id);
      });
    }
  }

  private network(vpcId: string): VpcNetwork {
    let network = this.networks.get(vpcId);
    if (!network) {
      network = new VpcNetwork({ vpcId, clusterId: this.options.id, directory: join(this.options.directory, 'dataplane'), log: this.options.log });
      this.networks.set(vpcId, network);
    }
    return network;
  }

  /** What no plan wants any more: networks of VPCs, and those of instances that have ended. */
  private async removeNetworks(state: CloudState): Promise<void> {
    for (const [vpcId, network] of this.networks) {
      if (this.plans.has(vpcId)) continue;
      this.networks.delete(vpcId);
      await this.agents.get(vpcId)?.stop();
      this.agents.delete(vpcId);
      await network.destroy();
    }
    const wanted = new Set(
      state.instances.filter((one) => wantsNetwork(one.State?.Name)).map((one) => namespaceName(this.options.id, one.InstanceId!)),
    );
    for (const vpcId of this.plans.keys()) wanted.add(namespaceName(this.options.id, vpcId));
    const prefix = `kumulus-${this.options.id}-`;
    for (const name of await readdir('/run/netns').catch(() => [])) if (name.startsWith(prefix) && !wanted.has(name)) await deleteNamespace(name);
  }

  private async rejoin(instance: Instance): Promise<void> {
    const plan = this.plans.get(instance.VpcId ?? '');
    if (!plan) throw new Error(`instance ${instance.InstanceId}: its VPC ${instance.VpcId} is not there`);
    const network = this.network(plan.vpcId);
    await network.detach(instance.InstanceId!);
    await network.apply(plan);
  }

  private async configureAgent(vpcId: string): Promise<void> {
    const { options, state } = this;
    const plan = this.plans.get(vpcId);
    if (!plan) return;
    const balancers = this.planned.filter((one) => one.vpcId === vpcId);
    const runDirectory = join(options.directory, 'run');
    const { region, accountId } = options.source;
    const config = agentConfig({ state, plan, balancers, region, accountId, runDirectory, health: this.health });
    const ports = new Set(config.listeners.map((one) => one.arn));
    const listeners = balancers.flatMap((one) =>
      one.listeners
        .filter((listener) => one.hostAddress && ports.has(listener.ListenerArn!))
        .map((listener) => ({ listenerArn: listener.ListenerArn!, host: one.hostAddress!, port: listener.Port! })),
    );
    try {
      await this.agent(vpcId).configure(config, listeners);
    } catch (error) {
      this.reportBalancers(balancers, 'failed', (error as Error).message);
      throw error;
    }
    this.reportBalancers(balancers, 'active');
  }

  /** A load balancer that works once is not called failed again: what went wrong is tried again. */
  private reportBalancers(balancers: Balancer[], result: 'active' | 'failed', reason?: string): void {
    for (const balancer of balancers) {
      if (result === 'active' && balancer.hostAddress && this.toldAddresses.get(balancer.arn) !== balancer.hostAddress) {
        this.toldAddresses.set(balancer.arn, balancer.hostAddress);
        this.options.reports.loadBalancerHostAddress?.(balancer.arn, balancer.hostAddress);
      }
      if (result === 'active' && balancer.shape.State?.Code !== 'active') this.options.reports.loadBalancerState(balancer.arn, 'active');
      if (result === 'failed') this.options.log.warn({ loadBalancer: balancer.arn, reason }, 'load balancer not set up yet');
    }
  }

  private agent(vpcId: string): VpcAgent {
    let agent = this.agents.get(vpcId);
    if (!agent) {
      const { options } = this;
      agent = new VpcAgent({
        vpcId,
        namespace: namespaceName(options.id, vpcId),
        runDirectory: join(options.directory, 'run'),
        nodeBinary: options.nodeBinary,
        onAsk: async (ask) => {
          if (ask.what === 'resolve') return forwardQuery(Buffer.from(ask.message));
          return ask.what === 'credentials' ? options.source.roleCredentials(ask.instanceId) : options.source.userData(ask.instanceId);
        },
        onHealth: (health) =>
          this.setHealth(health.targetGroupArn, health.target, health.state as TargetHealthState, health.reason, health.description),
        onAwsConnection: (socket) => (options.awsHandleConnection ? options.awsHandleConnection(socket) : socket.destroy()),
        onEnded: () => this.work.run(`agent of ${vpcId}`, () => this.configureAgent(vpcId)),
        log: options.log,
      });
      this.agents.set(vpcId, agent);
    }
    return agent;
  }

  private setHealth(arn: string, target: { id: string; port: number }, state: TargetHealthState, reason?: string, description?: string): void {
    const group = this.health.get(arn) ?? new Map<string, string>();
    this.health.set(arn, group);
    group.set(targetKey(target), state);
    this.options.reports.targetHealth(arn, { Id: target.id, Port: target.port }, state, reason, description);
  }

  /** Targets of a group that no load balancer uses are not checked. */
  private reportUnused(state: CloudState): void {
    const actions = state.listeners.flatMap((one) => one.DefaultActions ?? []);
    const used = new Set(
      actions.flatMap((one) => [one.TargetGroupArn, ...(one.ForwardConfig?.TargetGroups ?? []).map((group) => group.TargetGroupArn)]),
    );
    for (const { group, targets } of state.targetGroups) {
      if (used.has(group.TargetGroupArn)) continue;
      for (const target of targets) {
        const one = { id: target.Id!, port: target.Port ?? group.Port ?? 0 };
        if (this.health.get(group.TargetGroupArn!)?.get(targetKey(one)) === 'unused') continue;
        this.setHealth(
          group.TargetGroupArn!,
          one,
          'unused',
          'Target.NotInUse',
          'Target group is not configured to receive traffic from the load balancer',
        );
      }
    }
    const groups = new Set(state.targetGroups.map((one) => one.group.TargetGroupArn));
    for (const arn of this.health.keys()) if (!groups.has(arn)) this.health.delete(arn);
  }
}
