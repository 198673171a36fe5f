import { paginateDescribeSubnets, type Subnet } from '@aws-sdk/client-ec2';
import { waitUntil } from '../../aws/clients.ts';
import type { Found, HandlerContext } from '../../aws/handlers/handler.ts';
import { listener, type ListenerProperties, listenersOf } from '../../aws/handlers/listener.ts';
import { type FoundLoadBalancer, loadBalancer, type LoadBalancerProperties } from '../../aws/handlers/load-balancer.ts';
import { clusterTag } from '../../aws/tags.ts';
import type { Node, Service } from '../../api/generated/types.ts';
import type { LoadBalancerStatus, LoadBalancers } from '../provider.ts';
import { type BalancerWishes, wishesOf } from './annotations.ts';
import { instanceIdOf } from './instances.ts';
import { NodeRules } from './node-rules.ts';
import type { AwsProviderOptions } from './provider.ts';
import { serviceTags, TargetGroups } from './target-groups.ts';

/** `a` and the Service's uid without dashes, 32 characters at most: as cloud-provider's DefaultLoadBalancerName. */
export const balancerName = (uid: string): string => `a${uid.replaceAll('-', '')}`.slice(0, 32);

/** The handlers find these resources by their names, which follow from the Service. */
const logicalId = '';

/**
 * Network load balancers: one a Service, with a target group and a listener a port, and rules that let its traffic into the nodes.
 * Each is found, made and repaired by the handler that does so for the cluster's own.
 */
export class AwsLoadBalancers implements LoadBalancers {
  private readonly o: AwsProviderOptions;
  private readonly context: HandlerContext;
  private readonly groups: TargetGroups;
  private readonly rules: NodeRules;
  /** The groups of each Service after which nothing else was left of it, by uid: all of the account's are looked at only when these change. */
  private readonly swept = new Map<string, string>();

  constructor(o: AwsProviderOptions) {
    this.o = o;
    // Their names have the Service's uid in them.
    this.context = { clients: o.clients, cluster: o.cluster, uniqueNames: true };
    this.groups = new TargetGroups(o);
    this.rules = new NodeRules(o);
  }

  async get(service: Service): Promise<LoadBalancerStatus | undefined> {
    const found = await this.find(service.metadata.uid);
    return found && statusOf(found);
  }

  private find(uid: string, more: Partial<LoadBalancerProperties> = {}): Promise<FoundLoadBalancer | undefined> {
    return loadBalancer.find(this.context, logicalId, { Name: balancerName(uid), Scheme: 'internal', SubnetIds: [], ...more });
  }

  async ensure(service: Service, nodes: Node[]): Promise<LoadBalancerStatus> {
    const wishes = wishesOf(service);
    const ports = service.spec.ports ?? [];
    for (const port of ports) {
      if (port.protocol !== 'TCP' && port.protocol !== undefined)
        throw new Error(`port ${port.port}/${port.protocol}: only TCP listeners are supported`);
      if (!port.nodePort) throw new Error(`port ${port.port} has no node port: allocateLoadBalancerNodePorts must not be false`);
    }
    const balancer = await this.ensureBalancer(service, wishes);
    const instanceIds = nodes.map((node) => instanceIdOf(node.spec.providerID)).filter((id) => id !== undefined);
    const [listeners, attached] = await Promise.all([listenersOf(this.context, balancer.id), this.groups.attachedTo(balancer.id)]);
    const groups: string[] = [];
    for (const port of ports) {
      const group = await this.groups.ensure(service, port, wishes, instanceIds, attached);
      groups.push(group);
      const properties: ListenerProperties = { LoadBalancerArn: balancer.id, Port: port.port, TargetGroupArn: group };
      const known = listeners.find((one) => one.properties.Port === port.port);
      if (known) await listener.repair(this.context, known, properties);
      else await listener.create(this.context, logicalId, properties, serviceTags(this.o.cluster, service.metadata, wishes.tags));
    }
    const before = attached.map((one) => one.TargetGroupArn as string);
    await this.dropOthers(service, listeners, before, groups);
    await this.rules.ensure(service, wishes);
    return statusOf(balancer);
  }

  async updateNodes(service: Service, nodes: Node[]): Promise<void> {
    await this.ensure(service, nodes);
  }

  private async ensureBalancer(service: Service, wishes: BalancerWishes): Promise<FoundLoadBalancer> {
    const { namespace = '', name, uid } = service.metadata;
    const tags = serviceTags(this.o.cluster, service.metadata, wishes.tags);
    const Attributes = { 'load_balancing.cross_zone.enabled': 'true', ...wishes.attributes };
    let found = await this.find(uid, { Attributes });
    // A load balancer's scheme is for life, and so is a failure.
    if (found && (found.properties.Scheme !== wishes.scheme || found.state === 'failed')) {
      await this.ensureDeleted({ namespace, name, uid, annotations: {} });
      found = undefined;
    }
    // Which subnets there are is asked for once; those that are named may be others now.
    const SubnetIds = found && !wishes.subnets ? found.properties.SubnetIds : await this.subnets(wishes);
    const properties: LoadBalancerProperties = { Name: balancerName(uid), Scheme: wishes.scheme, SubnetIds, Attributes };
    if (found && Object.entries(tags).some(([key, value]) => found?.tags?.[key] !== value)) await loadBalancer.tag(this.context, found.id, tags, []);
    const balancer = found ?? (await loadBalancer.create(this.context, logicalId, properties, tags));
    if (!found) this.o.log.info({ service: `${namespace}/${name}`, arn: balancer.id }, 'created a load balancer');
    await loadBalancer.repair(this.context, balancer, properties);
    return balancer;
  }

  /** One subnet a zone: those named, those with the role's tag, else those of the cluster. */
  private async subnets(wishes: BalancerWishes): Promise<string[]> {
    const ec2 = await this.o.clients.ec2();
    const Filters = [{ Name: 'vpc-id', Values: [this.o.vpcId] }];
    const all: Subnet[] = [];
    for await (const page of paginateDescribeSubnets({ client: ec2 }, { Filters })) all.push(...(page.Subnets ?? []));
    const tagged = (key: string) => all.filter((one) => one.Tags?.some((tag) => tag.Key === key && tag.Value !== '0'));
    let chosen = wishes.subnets
      ? wishes.subnets.map((wanted) => {
          const subnet = all.find((one) => one.SubnetId === wanted || one.Tags?.some((tag) => tag.Key === 'Name' && tag.Value === wanted));
          if (!subnet) throw new Error(`subnet ${wanted} is not in ${this.o.vpcId}`);
          return subnet;
        })
      : tagged(wishes.scheme === 'internal' ? 'kubernetes.io/role/internal-elb' : 'kubernetes.io/role/elb');
    if (!chosen.length && wishes.scheme === 'internal') chosen = tagged('kubernetes.io/role/elb');
    if (!chosen.length) chosen = tagged(clusterTag(this.o.cluster));
    const byZone = new Map<string, string>();
    for (const one of [...chosen].sort((a, b) => (a.SubnetId ?? '').localeCompare(b.SubnetId ?? ''))) {
      if (!byZone.has(one.AvailabilityZone ?? '')) byZone.set(one.AvailabilityZone ?? '', one.SubnetId ?? '');
    }
    if (!byZone.size) throw new Error(`could not find any suitable subnets for creating the ELB in ${this.o.vpcId}`);
    return [...byZone.values()];
  }

  /** Listeners of ports that the Service has no more, and target groups of this Service that nothing uses. */
  private async dropOthers(service: Service, listeners: Found<ListenerProperties>[], attached: string[], groups: string[]): Promise<void> {
    const ports = new Set(service.spec.ports?.map((one) => one.port));
    for (const one of listeners) if (!ports.has(one.properties.Port)) await listener.remove(this.context, one);
    const { uid } = service.metadata;
    const keep = [...groups].sort();
    if (attached.every((one) => keep.includes(one)) && this.swept.get(uid) === keep.join()) return;
    await this.groups.remove((await this.groups.of(service.metadata)).filter((one) => !keep.includes(one)));
    this.swept.set(uid, keep.join());
  }

  async ensureDeleted(service: { namespace: string; name: string; uid: string; annotations: Record<string, string> }): Promise<void> {
    const found = await this.find(service.uid);
    if (found) {
      await loadBalancer.remove(this.context, found);
      const gone = async () => ((await this.find(service.uid)) ? undefined : true);
      await waitUntil(`load balancer ${found.properties.Name} to be deleted`, gone, { timeoutMs: 120_000 });
    }
    await this.groups.remove(await this.groups.of(service));
    await this.rules.remove(service);
    this.swept.delete(service.uid);
  }
}

const statusOf = (balancer: FoundLoadBalancer): LoadBalancerStatus => ({ hostname: balancer.attributes['DnsName'] ?? '' });
