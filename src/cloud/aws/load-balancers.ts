import { DescribeSubnetsCommand } from '@aws-sdk/client-ec2';
import {
  AddTagsCommand,
  CreateListenerCommand,
  CreateLoadBalancerCommand,
  DeleteListenerCommand,
  DeleteLoadBalancerCommand,
  DescribeListenersCommand,
  DescribeLoadBalancerAttributesCommand,
  DescribeLoadBalancersCommand,
  type Listener,
  type LoadBalancer,
  ModifyListenerCommand,
  ModifyLoadBalancerAttributesCommand,
  type TargetGroup,
} from '@aws-sdk/client-elastic-load-balancing-v2';
import { hasCode, waitUntil } from '../../aws/clients.ts';
import { clusterTag } from '../../aws/tags.ts';
import type { Node, Service } from '../../api/generated/types.ts';
import type { LoadBalancerStatus, LoadBalancers } from '../provider.ts';
import { type BalancerWishes, wishesOf } from './annotations.ts';
import { everyPage } from './gather.ts';
import { instanceIdOf } from './instances.ts';
import { NodeRules } from './node-rules.ts';
import type { AwsProviderOptions } from './provider.ts';
import { changedAttributes, serviceTags, TargetGroups } from './target-groups.ts';

/** `a` and the Service's uid without dashes, 32 characters at most: as cloud-provider's DefaultLoadBalancerName. */
export const balancerName = (uid: string): string => `a${uid.replaceAll('-', '')}`.slice(0, 32);

/** Network load balancers: one a Service, with a target group and a listener a port, and rules that let its traffic into the nodes. */
export class AwsLoadBalancers implements LoadBalancers {
  private readonly o: AwsProviderOptions;
  private readonly groups: TargetGroups;
  private readonly rules: NodeRules;
  /** The groups of each Service after which nothing else was left of it, by uid: all of the account's are looked at only when these change. */
  private readonly swept = new Map<string, string>();

  constructor(o: AwsProviderOptions) {
    this.o = o;
    this.groups = new TargetGroups(o);
    this.rules = new NodeRules(o);
  }

  async get(service: Service): Promise<LoadBalancerStatus | undefined> {
    const found = await this.find(service.metadata.uid);
    return found?.DNSName ? { hostname: found.DNSName } : undefined;
  }

  private async find(uid: string): Promise<LoadBalancer | undefined> {
    const elb = await this.o.clients.elbv2();
    const answer = await elb.send(new DescribeLoadBalancersCommand({ Names: [balancerName(uid)] })).catch((error) => {
      if (hasCode(error, 'LoadBalancerNotFound', 'LoadBalancerNotFoundException')) return undefined;
      throw error;
    });
    return answer?.LoadBalancers?.[0];
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
    const arn = balancer.LoadBalancerArn as string;
    const instanceIds = nodes.map((node) => instanceIdOf(node.spec.providerID)).filter((id) => id !== undefined);
    const [listeners, attached] = await Promise.all([this.listeners(arn), this.groups.attachedTo(arn)]);
    const groups: TargetGroup[] = [];
    for (const port of ports) {
      const group = await this.groups.ensure(service, port, wishes, attached);
      groups.push(group);
      await this.groups.setTargets(group.TargetGroupArn as string, instanceIds);
      await this.ensureListener(arn, listeners, port.port, group.TargetGroupArn as string);
    }
    await this.dropOthers(service, listeners, attached, groups);
    await this.rules.ensure(service, wishes);
    return { hostname: balancer.DNSName ?? '' };
  }

  async updateNodes(service: Service, nodes: Node[]): Promise<void> {
    await this.ensure(service, nodes);
  }

  private async ensureBalancer(service: Service, wishes: BalancerWishes): Promise<LoadBalancer> {
    const elb = await this.o.clients.elbv2();
    const { namespace = '', name, uid } = service.metadata;
    const tags = serviceTags(this.o.cluster, service.metadata, wishes.tags);
    let found = await this.find(uid);
    // A load balancer's scheme is for life, and so is a failure.
    if (found && (found.Scheme !== wishes.scheme || found.State?.Code === 'failed')) {
      await this.ensureDeleted({ namespace, name, uid, annotations: {} });
      found = undefined;
    }
    if (!found) {
      const Subnets = await this.subnets(wishes);
      const more = { Type: 'network' as const, Scheme: wishes.scheme, Subnets, Tags: tags };
      const created = await elb.send(new CreateLoadBalancerCommand({ Name: balancerName(uid), ...more }));
      found = created.LoadBalancers?.[0];
      if (!found?.LoadBalancerArn) throw new Error('CreateLoadBalancer answered without a load balancer');
      this.o.log.info({ service: `${namespace}/${name}`, arn: found.LoadBalancerArn }, 'created a load balancer');
    } else if (Object.keys(wishes.tags).length) {
      await elb.send(new AddTagsCommand({ ResourceArns: [found.LoadBalancerArn as string], Tags: tags }));
    }
    const { LoadBalancerArn } = found;
    const there = await elb.send(new DescribeLoadBalancerAttributesCommand({ LoadBalancerArn }));
    const Attributes = changedAttributes({ 'load_balancing.cross_zone.enabled': 'true', ...wishes.attributes }, there.Attributes);
    if (Attributes.length) await elb.send(new ModifyLoadBalancerAttributesCommand({ LoadBalancerArn, Attributes }));
    return found;
  }

  /** One subnet a zone: those named, those with the role's tag, else those of the cluster. */
  private async subnets(wishes: BalancerWishes): Promise<string[]> {
    const ec2 = await this.o.clients.ec2();
    const Filters = [{ Name: 'vpc-id', Values: [this.o.vpcId] }];
    const all = await everyPage(
      (NextToken) => ec2.send(new DescribeSubnetsCommand({ Filters, ...(NextToken ? { NextToken } : {}) })),
      (page) => page.Subnets,
      (page) => page.NextToken,
    );
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

  private async listeners(arn: string): Promise<Listener[]> {
    const elb = await this.o.clients.elbv2();
    return everyPage(
      (Marker) => elb.send(new DescribeListenersCommand({ LoadBalancerArn: arn, ...(Marker ? { Marker } : {}) })),
      (page) => page.Listeners,
      (page) => page.NextMarker,
    );
  }

  private async ensureListener(arn: string, listeners: Listener[], port: number, groupArn: string): Promise<void> {
    const elb = await this.o.clients.elbv2();
    const action = { Protocol: 'TCP' as const, Port: port, DefaultActions: [{ Type: 'forward' as const, TargetGroupArn: groupArn }] };
    let known = listeners.find((one) => one.Port === port);
    if (!known) {
      const made = await elb.send(new CreateListenerCommand({ LoadBalancerArn: arn, ...action })).then(
        () => true,
        (error) => {
          // Made by an earlier call whose answer was lost.
          if (!hasCode(error, 'DuplicateListener', 'DuplicateListenerException')) throw error;
          return false;
        },
      );
      if (made) return;
      known = (await this.listeners(arn)).find((one) => one.Port === port);
    }
    if (known && (known.Protocol !== 'TCP' || known.DefaultActions?.[0]?.TargetGroupArn !== groupArn)) {
      await elb.send(new ModifyListenerCommand({ ListenerArn: known.ListenerArn, ...action }));
    }
  }

  /** Listeners of ports that the Service has no more, and target groups of this Service that nothing uses. */
  private async dropOthers(service: Service, listeners: Listener[], attached: TargetGroup[], groups: TargetGroup[]): Promise<void> {
    const elb = await this.o.clients.elbv2();
    const ports = new Set(service.spec.ports?.map((one) => one.port));
    for (const listener of listeners) {
      if (ports.has(listener.Port as number)) continue;
      await elb.send(new DeleteListenerCommand({ ListenerArn: listener.ListenerArn })).catch((error) => {
        if (!hasCode(error, 'ListenerNotFound', 'ListenerNotFoundException')) throw error;
      });
    }
    const { uid } = service.metadata;
    const keep = groups.map((one) => one.TargetGroupArn as string).sort();
    const known = attached.every((one) => keep.includes(one.TargetGroupArn as string));
    if (known && this.swept.get(uid) === keep.join()) return;
    for (const arn of await this.groups.of(service.metadata)) if (!keep.includes(arn)) await this.groups.remove(arn);
    this.swept.set(uid, keep.join());
  }

  async ensureDeleted(service: { namespace: string; name: string; uid: string; annotations: Record<string, string> }): Promise<void> {
    const elb = await this.o.clients.elbv2();
    const found = await this.find(service.uid);
    if (found?.LoadBalancerArn) {
      await elb.send(new DeleteLoadBalancerCommand({ LoadBalancerArn: found.LoadBalancerArn }));
      const gone = async () => ((await this.find(service.uid)) ? undefined : true);
      await waitUntil(`load balancer ${found.LoadBalancerName} to be deleted`, gone, { timeoutMs: 120_000 });
    }
    for (const arn of await this.groups.of(service)) await this.groups.remove(arn);
    await this.rules.remove(service);
    this.swept.delete(service.uid);
  }
}
