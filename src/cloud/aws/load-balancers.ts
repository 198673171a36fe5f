import { createHash } from 'node:crypto';
import {
  AuthorizeSecurityGroupIngressCommand,
  DescribeSecurityGroupRulesCommand,
  DescribeSecurityGroupsCommand,
  DescribeSubnetsCommand,
  DescribeVpcsCommand,
  type IpPermission,
  RevokeSecurityGroupIngressCommand,
  type SecurityGroupRule,
} from '@aws-sdk/client-ec2';
import {
  AddTagsCommand,
  CreateListenerCommand,
  CreateLoadBalancerCommand,
  CreateTargetGroupCommand,
  DeleteListenerCommand,
  DeleteLoadBalancerCommand,
  DeleteTargetGroupCommand,
  DeregisterTargetsCommand,
  DescribeListenersCommand,
  DescribeLoadBalancersCommand,
  DescribeTagsCommand,
  DescribeTargetGroupsCommand,
  DescribeTargetHealthCommand,
  type LoadBalancer,
  ModifyListenerCommand,
  ModifyLoadBalancerAttributesCommand,
  ModifyTargetGroupAttributesCommand,
  ModifyTargetGroupCommand,
  RegisterTargetsCommand,
  type TargetGroup,
} from '@aws-sdk/client-elastic-load-balancing-v2';
import { hasCode, waitUntil } from '../../aws/clients.ts';
import { clusterTag, toTags } from '../../aws/tags.ts';
import type { Node, Service, ServicePort } from '../../api/generated/types.ts';
import type { LoadBalancerStatus, LoadBalancers } from '../provider.ts';
import { type BalancerWishes, wishesOf } from './annotations.ts';
import { instanceIdOf } from './instances.ts';
import type { AwsProviderOptions } from './provider.ts';

/** `a` and the Service's uid without dashes, 32 characters at most: as cloud-provider's DefaultLoadBalancerName. */
export const balancerName = (uid: string): string => `a${uid.replaceAll('-', '')}`.slice(0, 32);

/** A target group's name says which Service and port it is for, and changes with what cannot be changed in it. */
function groupName(service: Service, port: ServicePort): string {
  const { namespace = '', name, uid } = service.metadata;
  const hash = createHash('sha256').update(`${uid} ${port.port} ${port.nodePort} ${port.protocol}`).digest('hex').slice(0, 10);
  const plain = (text: string) => text.replace(/[^a-z0-9]/g, '').slice(0, 8);
  return `k8s-${plain(namespace)}-${plain(name)}-${hash}`;
}

/** Network load balancers: one a Service, with a target group and a listener a port, and rules that let its traffic into the nodes. */
export class AwsLoadBalancers implements LoadBalancers {
  private readonly o: AwsProviderOptions;

  constructor(o: AwsProviderOptions) {
    this.o = o;
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
    for (const port of service.spec.ports ?? []) {
      if (port.protocol !== 'TCP' && port.protocol !== undefined)
        throw new Error(`port ${port.port}/${port.protocol}: only TCP listeners are supported`);
      if (!port.nodePort) throw new Error(`port ${port.port} has no node port: allocateLoadBalancerNodePorts must not be false`);
    }
    const balancer = await this.ensureBalancer(service, wishes);
    const instanceIds = nodes.map((node) => instanceIdOf(node.spec.providerID)).filter((id) => id !== undefined);
    const groups: TargetGroup[] = [];
    for (const port of service.spec.ports ?? []) {
      const group = await this.ensureGroup(service, port, wishes);
      groups.push(group);
      await this.ensureTargets(group.TargetGroupArn as string, instanceIds);
      await this.ensureListener(balancer, port.port, group.TargetGroupArn as string);
    }
    await this.dropOthers(service, balancer, groups);
    await this.ensureRules(service, wishes);
    return { hostname: balancer.DNSName ?? '' };
  }

  async updateNodes(service: Service, nodes: Node[]): Promise<void> {
    await this.ensure(service, nodes);
  }

  private tags(service: { namespace?: string | undefined; name: string }, more: Record<string, string> = {}) {
    return toTags({ [clusterTag(this.o.cluster)]: 'owned', 'kubernetes.io/service-name': `${service.namespace}/${service.name}`, ...more });
  }

  private async ensureBalancer(service: Service, wishes: BalancerWishes): Promise<LoadBalancer> {
    const elb = await this.o.clients.elbv2();
    let found = await this.find(service.metadata.uid);
    if (found && found.Scheme !== wishes.scheme) {
      // A load balancer's scheme is for life.
      await this.ensureDeleted({
        namespace: service.metadata.namespace ?? '',
        name: service.metadata.name,
        uid: service.metadata.uid,
        annotations: {},
      });
      found = undefined;
    }
    if (!found) {
      const created = await elb.send(
        new CreateLoadBalancerCommand({
          Name: balancerName(service.metadata.uid),
          Type: 'network',
          Scheme: wishes.scheme,
          Subnets: await this.subnets(wishes),
          Tags: this.tags(service.metadata, wishes.tags),
        }),
      );
      found = created.LoadBalancers?.[0];
      if (!found?.LoadBalancerArn) throw new Error('CreateLoadBalancer answered without a load balancer');
      this.o.log.info({ service: `${service.metadata.namespace}/${service.metadata.name}`, arn: found.LoadBalancerArn }, 'created a load balancer');
    } else if (Object.keys(wishes.tags).length) {
      await elb.send(new AddTagsCommand({ ResourceArns: [found.LoadBalancerArn as string], Tags: this.tags(service.metadata, wishes.tags) }));
    }
    const attributes = { 'load_balancing.cross_zone.enabled': 'true', ...wishes.attributes };
    await elb.send(
      new ModifyLoadBalancerAttributesCommand({
        LoadBalancerArn: found.LoadBalancerArn,
        Attributes: Object.entries(attributes).map(([Key, Value]) => ({ Key, Value })),
      }),
    );
    return found;
  }

  /** One subnet a zone: those named, those with the role's tag, else those of the cluster. */
  private async subnets(wishes: BalancerWishes): Promise<string[]> {
    const ec2 = await this.o.clients.ec2();
    const all = (await ec2.send(new DescribeSubnetsCommand({ Filters: [{ Name: 'vpc-id', Values: [this.o.vpcId] }] }))).Subnets ?? [];
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

  private async ensureGroup(service: Service, port: ServicePort, wishes: BalancerWishes): Promise<TargetGroup> {
    const elb = await this.o.clients.elbv2();
    const Name = groupName(service, port);
    const { health } = wishes;
    const check = {
      HealthCheckProtocol: health.protocol,
      HealthCheckPort: health.port,
      HealthCheckIntervalSeconds: health.interval,
      HealthCheckTimeoutSeconds: health.timeout,
      HealthyThresholdCount: health.healthy,
      UnhealthyThresholdCount: health.unhealthy,
      ...(health.path ? { HealthCheckPath: health.path } : {}),
    };
    const existing = await elb.send(new DescribeTargetGroupsCommand({ Names: [Name] })).catch((error) => {
      if (hasCode(error, 'TargetGroupNotFound', 'TargetGroupNotFoundException')) return undefined;
      throw error;
    });
    let group = existing?.TargetGroups?.[0];
    if (!group) {
      const created = await elb.send(
        new CreateTargetGroupCommand({
          Name,
          Protocol: 'TCP',
          Port: port.nodePort,
          VpcId: this.o.vpcId,
          TargetType: 'instance',
          ...check,
          Tags: this.tags(service.metadata, wishes.tags),
        }),
      );
      group = created.TargetGroups?.[0];
      if (!group?.TargetGroupArn) throw new Error('CreateTargetGroup answered without a target group');
    } else if (Object.entries(check).some(([key, value]) => group?.[key as keyof TargetGroup] !== value)) {
      await elb.send(new ModifyTargetGroupCommand({ TargetGroupArn: group.TargetGroupArn, ...check }));
    }
    const attributes = { 'deregistration_delay.timeout_seconds': '30', ...wishes.targetGroupAttributes };
    await elb.send(
      new ModifyTargetGroupAttributesCommand({
        TargetGroupArn: group.TargetGroupArn,
        Attributes: Object.entries(attributes).map(([Key, Value]) => ({ Key, Value })),
      }),
    );
    return group;
  }

  private async ensureTargets(arn: string, instanceIds: string[]): Promise<void> {
    const elb = await this.o.clients.elbv2();
    const health = (await elb.send(new DescribeTargetHealthCommand({ TargetGroupArn: arn }))).TargetHealthDescriptions ?? [];
    const there = new Set(health.filter((one) => one.TargetHealth?.State !== 'draining').map((one) => one.Target?.Id ?? ''));
    const missing = instanceIds.filter((id) => !there.has(id));
    const extra = [...there].filter((id) => !instanceIds.includes(id));
    if (extra.length) await elb.send(new DeregisterTargetsCommand({ TargetGroupArn: arn, Targets: extra.map((Id) => ({ Id })) }));
    if (!missing.length) return;
    await elb.send(new RegisterTargetsCommand({ TargetGroupArn: arn, Targets: missing.map((Id) => ({ Id })) })).catch(async (error) => {
      if (!hasCode(error, 'InvalidTarget', 'InvalidTargetException')) throw error;
      // One instance that is going must not keep the others out.
      let registered = 0;
      for (const Id of missing) {
        await elb.send(new RegisterTargetsCommand({ TargetGroupArn: arn, Targets: [{ Id }] })).then(
          () => registered++,
          (single) => {
            if (!hasCode(single, 'InvalidTarget', 'InvalidTargetException')) throw single;
            this.o.log.warn({ instance: Id, err: single }, 'an instance cannot be a target now');
          },
        );
      }
      if (!registered && !there.size) throw error;
    });
  }

  private async ensureListener(balancer: LoadBalancer, port: number, groupArn: string): Promise<void> {
    const elb = await this.o.clients.elbv2();
    const listeners = await this.listeners(balancer);
    const DefaultActions = [{ Type: 'forward' as const, TargetGroupArn: groupArn }];
    const known = listeners.find((one) => one.Port === port);
    if (!known) await elb.send(new CreateListenerCommand({ LoadBalancerArn: balancer.LoadBalancerArn, Protocol: 'TCP', Port: port, DefaultActions }));
    else if (known.Protocol !== 'TCP' || known.DefaultActions?.[0]?.TargetGroupArn !== groupArn) {
      await elb.send(new ModifyListenerCommand({ ListenerArn: known.ListenerArn, Protocol: 'TCP', Port: port, DefaultActions }));
    }
  }

  private async listeners(balancer: LoadBalancer) {
    const elb = await this.o.clients.elbv2();
    return (await elb.send(new DescribeListenersCommand({ LoadBalancerArn: balancer.LoadBalancerArn }))).Listeners ?? [];
  }

  /** Listeners of ports that the Service has no more, and target groups of this Service that nothing uses. */
  private async dropOthers(service: Service, balancer: LoadBalancer, groups: TargetGroup[]): Promise<void> {
    const elb = await this.o.clients.elbv2();
    const ports = new Set(service.spec.ports?.map((one) => one.port));
    for (const listener of await this.listeners(balancer)) {
      if (!ports.has(listener.Port as number)) await elb.send(new DeleteListenerCommand({ ListenerArn: listener.ListenerArn }));
    }
    const keep = new Set(groups.map((one) => one.TargetGroupArn));
    for (const arn of await this.groupsOf(service.metadata)) {
      if (!keep.has(arn)) await elb.send(new DeleteTargetGroupCommand({ TargetGroupArn: arn }));
    }
  }

  /** ARNs of the target groups of a Service, by their names. */
  private async groupsOf(metadata: { namespace?: string | undefined; name: string }): Promise<string[]> {
    const elb = await this.o.clients.elbv2();
    const plain = (text: string) => text.replace(/[^a-z0-9]/g, '').slice(0, 8);
    const start = `k8s-${plain(metadata.namespace ?? '')}-${plain(metadata.name)}-`;
    const found: string[] = [];
    let Marker: string | undefined;
    do {
      const page = await elb.send(new DescribeTargetGroupsCommand(Marker ? { Marker } : {}));
      for (const one of page.TargetGroups ?? [])
        if (one.TargetGroupName?.startsWith(start) && one.VpcId === this.o.vpcId) found.push(one.TargetGroupArn as string);
      Marker = page.NextMarker;
    } while (Marker);
    if (!found.length) return [];
    const owner = `${metadata.namespace}/${metadata.name}`;
    const mine: string[] = [];
    for (let at = 0; at < found.length; at += 20) {
      const answer = await elb.send(new DescribeTagsCommand({ ResourceArns: found.slice(at, at + 20) }));
      for (const one of answer.TagDescriptions ?? []) {
        const tags = new Map(one.Tags?.map((tag) => [tag.Key, tag.Value]));
        if (tags.get('kubernetes.io/service-name') === owner && tags.get(clusterTag(this.o.cluster)) === 'owned')
          mine.push(one.ResourceArn as string);
      }
    }
    return mine;
  }

  /** The group of the nodes: the rules of load balancers stand there. */
  private async nodeGroup(): Promise<string> {
    const ec2 = await this.o.clients.ec2();
    const Filters = [
      { Name: 'vpc-id', Values: [this.o.vpcId] },
      { Name: `tag:${clusterTag(this.o.cluster)}`, Values: ['owned', 'shared'] },
      { Name: 'tag-key', Values: ['kumulus:node-group'] },
    ];
    const groups = (await ec2.send(new DescribeSecurityGroupsCommand({ Filters }))).SecurityGroups ?? [];
    if (!groups[0]?.GroupId)
      throw new Error(
        `no security group of the nodes of ${this.o.cluster} in ${this.o.vpcId} (tags kumulus:node-group and ${clusterTag(this.o.cluster)})`,
      );
    return groups[0].GroupId;
  }

  private async rulesOf(group: string, description: string): Promise<SecurityGroupRule[]> {
    const ec2 = await this.o.clients.ec2();
    const rules: SecurityGroupRule[] = [];
    let NextToken: string | undefined;
    do {
      const page = await ec2.send(
        new DescribeSecurityGroupRulesCommand({ Filters: [{ Name: 'group-id', Values: [group] }], ...(NextToken ? { NextToken } : {}) }),
      );
      rules.push(...(page.SecurityGroupRules ?? []));
      NextToken = page.NextToken;
    } while (NextToken);
    return rules.filter((one) => !one.IsEgress && one.Description === description);
  }

  /** Lets clients and health checks reach the node ports: the load balancer's own addresses are of the VPC, clients keep theirs. */
  private async ensureRules(service: Service, wishes: BalancerWishes): Promise<void> {
    const ec2 = await this.o.clients.ec2();
    const description = ruleDescription(service.metadata);
    const vpcCidr = (await ec2.send(new DescribeVpcsCommand({ VpcIds: [this.o.vpcId] }))).Vpcs?.[0]?.CidrBlock ?? '';
    const ranges = service.spec.loadBalancerSourceRanges?.length
      ? service.spec.loadBalancerSourceRanges
      : wishes.scheme === 'internal'
        ? []
        : ['0.0.0.0/0'];
    const ports = new Set((service.spec.ports ?? []).map((one) => one.nodePort as number));
    const wanted = new Map<string, IpPermission>();
    const want = (port: number, CidrIp: string) =>
      wanted.set(`${port} ${CidrIp}`, { IpProtocol: 'tcp', FromPort: port, ToPort: port, IpRanges: [{ CidrIp, Description: description }] });
    for (const port of ports) for (const range of new Set([vpcCidr, ...ranges])) want(port, range);
    if (wishes.health.port !== 'traffic-port') want(Number(wishes.health.port), vpcCidr);
    const group = await this.nodeGroup();
    const existing = await this.rulesOf(group, description);
    const there = new Set(existing.map((one) => `${one.FromPort} ${one.CidrIpv4}`));
    const missing = [...wanted].filter(([key]) => !there.has(key)).map(([, permission]) => permission);
    if (missing.length) {
      await ec2.send(new AuthorizeSecurityGroupIngressCommand({ GroupId: group, IpPermissions: missing })).catch((error) => {
        if (!hasCode(error, 'InvalidPermission.Duplicate')) throw error;
      });
    }
    const extra = existing.filter((one) => !wanted.has(`${one.FromPort} ${one.CidrIpv4}`)).map((one) => one.SecurityGroupRuleId as string);
    if (extra.length) await ec2.send(new RevokeSecurityGroupIngressCommand({ GroupId: group, SecurityGroupRuleIds: extra }));
  }

  async ensureDeleted(service: { namespace: string; name: string; uid: string; annotations: Record<string, string> }): Promise<void> {
    const elb = await this.o.clients.elbv2();
    const found = await this.find(service.uid);
    if (found?.LoadBalancerArn) {
      await elb.send(new DeleteLoadBalancerCommand({ LoadBalancerArn: found.LoadBalancerArn }));
      await waitUntil(`load balancer ${found.LoadBalancerName} to be deleted`, async () => ((await this.find(service.uid)) ? undefined : true), {
        timeoutMs: 120_000,
      });
    }
    for (const arn of await this.groupsOf(service)) {
      // Listeners of a load balancer that is just gone may hold it for a moment.
      await waitUntil(
        `target group ${arn} to be free`,
        async () =>
          elb.send(new DeleteTargetGroupCommand({ TargetGroupArn: arn })).then(
            () => true,
            (error) => {
              if (!hasCode(error, 'ResourceInUse', 'ResourceInUseException')) throw error;
              return undefined;
            },
          ),
        { timeoutMs: 120_000 },
      );
    }
    const ec2 = await this.o.clients.ec2();
    const group = await this.nodeGroup().catch(() => undefined);
    if (!group) return;
    const ids = (await this.rulesOf(group, ruleDescription(service))).map((one) => one.SecurityGroupRuleId as string);
    if (ids.length) await ec2.send(new RevokeSecurityGroupIngressCommand({ GroupId: group, SecurityGroupRuleIds: ids }));
  }
}

const ruleDescription = (service: { namespace?: string | undefined; name: string }) =>
  `kubernetes.io/service-name=${service.namespace}/${service.name}`;
