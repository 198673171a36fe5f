import {
  AttachInternetGatewayCommand,
  AuthorizeSecurityGroupIngressCommand,
  CreateInternetGatewayCommand,
  CreateRouteTableCommand,
  CreateSecurityGroupCommand,
  CreateSubnetCommand,
  CreateVpcCommand,
  DescribeInstancesCommand,
  type EC2Client,
  type Instance,
  RunInstancesCommand,
} from '@aws-sdk/client-ec2';
import type { ElasticLoadBalancingV2Client } from '@aws-sdk/client-elastic-load-balancing-v2';
import { createAwsClients } from '../aws/clients.ts';
import { clusterTag, tagSpecification } from '../aws/tags.ts';
import { FakeClock } from '../client/fake-clock.ts';
import { type TestContext, testContext } from '../controllers/testing.ts';
import { TestEndpoint, until } from '../localaws/api/testing.ts';
import { type AwsProviderOptions, createAwsProvider } from './aws/provider.ts';
import type { CloudContext } from './controller.ts';

const cluster = 'test';
const image = 'resolve:ssm:/aws/service/kumulus/node/recommended/image_id';

type Fault = (call: { command: string; input: any; proceed(): Promise<unknown> }) => Promise<unknown>;

/** The embedded AWS with a network as clusters have it, a provider on it whose calls are counted and can go wrong, and contexts for controllers. */
export class TestCloud {
  private readonly endpoint: TestEndpoint;
  private readonly contexts: TestContext[] = [];
  private readonly faults = new Map<string, Fault>();
  private ends: (() => void)[] = [];
  /** Names of the provider's calls so far. Empty it at will. */
  calls: string[] = [];
  ec2!: EC2Client;
  elbv2!: ElasticLoadBalancingV2Client;
  options!: AwsProviderOptions;
  vpcId!: string;
  subnetIds: string[] = [];
  groupId!: string;
  routeTableId!: string;
  clock = new FakeClock(Date.now());
  context!: TestContext;

  private constructor(endpoint: TestEndpoint) {
    this.endpoint = endpoint;
  }

  static async start(): Promise<TestCloud> {
    const cloud = new TestCloud(await TestEndpoint.start());
    await cloud.makeNetwork();
    return cloud;
  }

  private async makeNetwork(): Promise<void> {
    const { region, endpoint, credentials } = this.endpoint.config();
    const direct = createAwsClients({ region, endpoint, credentials });
    this.ec2 = await direct.ec2();
    this.elbv2 = await direct.elbv2();
    const clients = createAwsClients({ region, endpoint, credentials });
    this.ends = [() => direct.destroy(), () => clients.destroy()];
    this.watch(await clients.ec2());
    this.watch(await clients.elbv2());
    const tags = { [clusterTag(cluster)]: 'owned' };
    this.vpcId = (await this.ec2.send(new CreateVpcCommand({ CidrBlock: '10.0.0.0/16' }))).Vpc!.VpcId!;
    const { InternetGateway } = await this.ec2.send(new CreateInternetGatewayCommand({}));
    await this.ec2.send(new AttachInternetGatewayCommand({ VpcId: this.vpcId, InternetGatewayId: InternetGateway!.InternetGatewayId }));
    for (const [i, letter] of ['a', 'b'].entries()) {
      const where = { VpcId: this.vpcId, CidrBlock: `10.0.${i * 16}.0/20`, AvailabilityZone: `${region}${letter}` };
      const made = await this.ec2.send(new CreateSubnetCommand({ ...where, TagSpecifications: tagSpecification('subnet', tags) }));
      this.subnetIds.push(made.Subnet!.SubnetId!);
    }
    const groupTags = { ...tags, 'kumulus:node-group': 'workers' };
    const group = { GroupName: 'nodes', Description: 'nodes', VpcId: this.vpcId, TagSpecifications: tagSpecification('security-group', groupTags) };
    this.groupId = (await this.ec2.send(new CreateSecurityGroupCommand(group))).GroupId!;
    this.routeTableId = (await this.ec2.send(new CreateRouteTableCommand({ VpcId: this.vpcId }))).RouteTable!.RouteTableId!;
    this.options = { clients, cluster, vpcId: this.vpcId, routeTableIds: [this.routeTableId], log: undefined as never };
  }

  private watch(client: { middlewareStack: { add(middleware: any, options: any): void } }): void {
    const outer = (next: any, context: any) => (args: any) => {
      this.calls.push(context.commandName.replace(/Command$/, ''));
      return next(args);
    };
    client.middlewareStack.add(outer, { step: 'initialize', name: 'count' });
    // Inside the SDK's retries.
    const inner = (next: any, context: any) => async (args: any) => {
      const command = context.commandName.replace(/Command$/, '');
      const fault = this.faults.get(command);
      return fault ? fault({ command, input: args.input, proceed: () => next(args) }) : next(args);
    };
    client.middlewareStack.add(inner, { step: 'deserialize', priority: 'low', name: 'fault' });
  }

  /** Lets calls of a command go wrong, until it is called again without a fault. */
  fault(command: string, fault?: Fault): void {
    if (fault) this.faults.set(command, fault);
    else this.faults.delete(command);
  }

  /** The first `times` calls are answered with an error; with `effect` they were carried out nevertheless. */
  failing(command: string, error: { name: string; message?: string }, options: { times?: number; effect?: boolean } = {}): void {
    let left = options.times ?? 1;
    this.fault(command, async ({ proceed }) => {
      if (left-- <= 0) return proceed();
      if (options.effect) await proceed();
      const details = { name: error.name, $fault: 'client', $metadata: { httpStatusCode: 400 } };
      throw Object.assign(new Error(error.message ?? `${error.name} of the test`), details);
    });
  }

  /** Starts instances that run, alternating between the zones. */
  async launch(count: number): Promise<Instance[]> {
    const ids: string[] = [];
    for (const [i, SubnetId] of this.subnetIds.entries()) {
      const share = Math.ceil((count - i) / this.subnetIds.length);
      if (share <= 0) continue;
      const input = {
        ImageId: image,
        InstanceType: 't3.medium' as const,
        SubnetId,
        SecurityGroupIds: [this.groupId],
        MinCount: share,
        MaxCount: share,
      };
      const answer = await this.ec2.send(new RunInstancesCommand(input));
      ids.push(...answer.Instances!.map((one) => one.InstanceId!));
    }
    return until('instances to run', async () => {
      const found = await this.ec2.send(new DescribeInstancesCommand({ InstanceIds: ids }));
      const instances = found.Reservations!.flatMap((one) => one.Instances!);
      return instances.every((one) => one.State?.Name === 'running') && instances;
    });
  }

  /** A context whose API holds these objects, with a provider of its own, as after a restart of the controllers. */
  begin(objects: readonly unknown[] = []): CloudContext & TestContext {
    const context = testContext(objects, this.clock);
    this.contexts.push(context);
    this.context = context;
    this.options.log = context.log;
    return Object.assign(context, { cloud: createAwsProvider(this.options), clusterName: cluster, clusterCidr: '10.244.0.0/16' });
  }

  authorize(fromPort: number, CidrIp: string, Description: string) {
    const range = { IpProtocol: 'tcp', FromPort: fromPort, ToPort: fromPort, IpRanges: [{ CidrIp, Description }] };
    return this.ec2.send(new AuthorizeSecurityGroupIngressCommand({ GroupId: this.groupId, IpPermissions: [range] }));
  }

  async end(): Promise<void> {
    for (const context of this.contexts) context.stop();
    for (const end of this.ends) end();
    await this.endpoint.end();
  }
}

/** The Node of an instance, as its kubelet registered it and the node controller completed it. */
export function nodeOf(instance: Instance, index = 0, more: { ready?: boolean; metadata?: object; spec?: object } = {}) {
  const zone = instance.Placement!.AvailabilityZone!;
  return {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: { name: instance.PrivateDnsName!, labels: { 'topology.kubernetes.io/zone': zone }, ...more.metadata },
    spec: { providerID: `aws:///${zone}/${instance.InstanceId}`, podCIDR: `10.244.${index}.0/24`, ...more.spec },
    status: { conditions: [{ type: 'Ready', status: more.ready === false ? 'Unknown' : 'True' }] },
  };
}
