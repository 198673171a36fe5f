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
  RegisterTargetsCommand,
  RemoveTagsCommand,
  SetSubnetsCommand,
  type TargetGroup,
} from '@aws-sdk/client-elastic-load-balancing-v2';
import { hasCode, ignore, waitUntil } from '../clients.ts';
import { clusterTag, fromTags, toTags } from '../tags.ts';
import { madeId } from './ec2-tags.ts';
import type { Existing, HandlerContext, ResourceHandler } from './handler.ts';

/** Where a load balancer of an endpoint with a data plane listens on the host of that data plane. */
export const hostAddressTag = 'kumulus:host-address';

async function tagElb({ clients }: HandlerContext, arn: string, set: Record<string, string>, unset: string[]): Promise<void> {
  const elb = await clients.elbv2();
  if (Object.keys(set).length) await elb.send(new AddTagsCommand({ ResourceArns: [arn], Tags: toTags(set) }));
  if (unset.length) await elb.send(new RemoveTagsCommand({ ResourceArns: [arn], TagKeys: unset }));
}

async function tagsOf({ clients }: HandlerContext, arn: string): Promise<Record<string, string>> {
  const answer = await (await clients.elbv2()).send(new DescribeTagsCommand({ ResourceArns: [arn] }));
  return fromTags(answer.TagDescriptions?.[0]?.Tags);
}

/** A name is unique in an account and region, so what has it is ours only by its tag. */
async function ours(context: HandlerContext, arn: string): Promise<boolean> {
  return (await tagsOf(context, arn))[clusterTag(context.cluster)] === 'owned';
}

export interface LoadBalancerProperties {
  /** At most 32 characters; by it the load balancer is found again. */
  Name: string;
  Scheme: 'internet-facing' | 'internal';
  SubnetIds: string[];
}

const noBalancer = ignore('LoadBalancerNotFound', 'LoadBalancerNotFoundException');

async function lookBalancer({ clients }: HandlerContext, by: { Names: string[] } | { LoadBalancerArns: string[] }) {
  return (await (await clients.elbv2()).send(new DescribeLoadBalancersCommand(by)).catch(noBalancer))?.LoadBalancers?.[0];
}

const balancer = (one: LoadBalancer | undefined, hostAddress = ''): Existing => ({
  id: madeId(one?.LoadBalancerArn),
  attributes: { DnsName: one?.DNSName ?? '', HostAddress: hostAddress },
});

/** A network load balancer. Its id is its ARN. */
export const loadBalancer: ResourceHandler<LoadBalancerProperties> = {
  async find(context, _logicalId, p) {
    const found = await lookBalancer(context, { Names: [p.Name] });
    return found && (await ours(context, madeId(found.LoadBalancerArn))) ? balancer(found) : undefined;
  },
  async create({ clients }, _logicalId, p, tags) {
    const answer = await (await clients.elbv2()).send(
      new CreateLoadBalancerCommand({ Name: p.Name, Type: 'network', Scheme: p.Scheme, Subnets: p.SubnetIds, Tags: toTags(tags) }),
    );
    return balancer(answer.LoadBalancers?.[0]);
  },
  async read(context, id, declared) {
    const found = await lookBalancer(context, { LoadBalancerArns: [id] });
    if (!found) return undefined;
    const { [hostAddressTag]: hostAddress, ...tags } = await tagsOf(context, id);
    const subnets = (found.AvailabilityZones ?? []).map((z) => z.SubnetId ?? '');
    return {
      ...balancer(found, hostAddress),
      properties: {
        Name: found.LoadBalancerName ?? '',
        Scheme: found.Scheme ?? 'internal',
        SubnetIds: declared && sameSet(declared.SubnetIds, subnets) ? declared.SubnetIds : subnets,
      },
      tags,
    };
  },
  async repair(context, { id }, p) {
    const found = await loadBalancer.read(context, id, p);
    if (!found || found.properties.SubnetIds === p.SubnetIds) return;
    await (await context.clients.elbv2()).send(new SetSubnetsCommand({ LoadBalancerArn: id, Subnets: p.SubnetIds }));
  },
  async settle(context, id) {
    await waitUntil(
      `load balancer ${id} to be active`,
      async () => {
        const code = (await lookBalancer(context, { LoadBalancerArns: [id] }))?.State?.Code;
        if (code === 'failed') throw new Error(`load balancer ${id} failed`);
        return code === 'active' || code === 'active_impaired' ? true : undefined;
      },
      { timeoutMs: 600_000, ...(context.signal ? { signal: context.signal } : {}) },
    );
  },
  tag: tagElb,
  async remove({ clients }, { id }) {
    await (await clients.elbv2()).send(new DeleteLoadBalancerCommand({ LoadBalancerArn: id })).catch(noBalancer);
  },
};

export interface TargetGroupProperties {
  /** At most 32 characters; by it the group is found again. */
  Name: string;
  VpcId: string;
  Port: number;
  /** Ids of instances. */
  TargetIds: string[];
}

const noGroup = ignore('TargetGroupNotFound', 'TargetGroupNotFoundException');

async function lookGroup({ clients }: HandlerContext, by: { Names: string[] } | { TargetGroupArns: string[] }): Promise<TargetGroup | undefined> {
  return (await (await clients.elbv2()).send(new DescribeTargetGroupsCommand(by)).catch(noGroup))?.TargetGroups?.[0];
}

const group = (one: TargetGroup | undefined): Existing => ({ id: madeId(one?.TargetGroupArn), attributes: {} });

/** A TCP target group of instances. Its id is its ARN. */
export const targetGroup: ResourceHandler<TargetGroupProperties> = {
  async find(context, _logicalId, p) {
    const found = await lookGroup(context, { Names: [p.Name] });
    return found && (await ours(context, madeId(found.TargetGroupArn))) ? group(found) : undefined;
  },
  async create({ clients }, _logicalId, p, tags) {
    const answer = await (await clients.elbv2()).send(
      new CreateTargetGroupCommand({
        Name: p.Name,
        VpcId: p.VpcId,
        Port: p.Port,
        Protocol: 'TCP',
        TargetType: 'instance',
        HealthCheckIntervalSeconds: 10,
        Tags: toTags(tags),
      }),
    );
    return group(answer.TargetGroups?.[0]);
  },
  async read(context, id) {
    const found = await lookGroup(context, { TargetGroupArns: [id] });
    if (!found) return undefined;
    return {
      ...group(found),
      properties: { Name: found.TargetGroupName ?? '', VpcId: found.VpcId ?? '', Port: found.Port ?? 0, TargetIds: await targetsOf(context, id) },
      tags: await tagsOf(context, id),
    };
  },
  async repair(context, { id }, p) {
    const elb = await context.clients.elbv2();
    const there = await targetsOf(context, id);
    const missing = p.TargetIds.filter((t) => !there.includes(t)).map((Id) => ({ Id }));
    const extra = there.filter((t) => !p.TargetIds.includes(t)).map((Id) => ({ Id }));
    if (missing.length) await elb.send(new RegisterTargetsCommand({ TargetGroupArn: id, Targets: missing }));
    if (extra.length) await elb.send(new DeregisterTargetsCommand({ TargetGroupArn: id, Targets: extra }));
  },
  tag: tagElb,
  /** A listener that was just deleted holds its group for a moment. */
  async remove({ clients, signal }, { id }) {
    const elb = await clients.elbv2();
    await waitUntil(
      `target group ${id} to be out of use`,
      async () => {
        try {
          await elb.send(new DeleteTargetGroupCommand({ TargetGroupArn: id }));
        } catch (error) {
          if (hasCode(error, 'ResourceInUse', 'ResourceInUseException')) return undefined;
          noGroup(error);
        }
        return true;
      },
      { timeoutMs: 60_000, ...(signal ? { signal } : {}) },
    );
  },
};

async function targetsOf({ clients }: HandlerContext, arn: string): Promise<string[]> {
  const answer = await (await clients.elbv2()).send(new DescribeTargetHealthCommand({ TargetGroupArn: arn }));
  return (answer.TargetHealthDescriptions ?? []).filter((t) => t.TargetHealth?.State !== 'draining').map((t) => t.Target?.Id ?? '');
}

export interface ListenerProperties {
  LoadBalancerArn: string;
  Port: number;
  TargetGroupArn: string;
}

const noListener = ignore('ListenerNotFound', 'ListenerNotFoundException', 'LoadBalancerNotFound', 'LoadBalancerNotFoundException');

async function lookListener({ clients }: HandlerContext, by: { LoadBalancerArn: string } | { ListenerArns: string[] }, port?: number) {
  const answer = await (await clients.elbv2()).send(new DescribeListenersCommand(by)).catch(noListener);
  return answer?.Listeners?.find((l) => port === undefined || l.Port === port);
}

/** A TCP listener that forwards to one target group; a load balancer has one a port. Its id is its ARN. */
export const listener: ResourceHandler<ListenerProperties> = {
  async find(context, _logicalId, p) {
    const found = await lookListener(context, { LoadBalancerArn: p.LoadBalancerArn }, p.Port);
    return found && { id: madeId(found.ListenerArn), attributes: {} };
  },
  async create({ clients }, _logicalId, p, tags) {
    const answer = await (await clients.elbv2()).send(
      new CreateListenerCommand({
        LoadBalancerArn: p.LoadBalancerArn,
        Port: p.Port,
        Protocol: 'TCP',
        DefaultActions: [{ Type: 'forward', TargetGroupArn: p.TargetGroupArn }],
        Tags: toTags(tags),
      }),
    );
    return { id: madeId(answer.Listeners?.[0]?.ListenerArn), attributes: {} };
  },
  async read(context, id) {
    const found = await lookListener(context, { ListenerArns: [id] });
    if (!found) return undefined;
    const action = found.DefaultActions?.[0];
    return {
      id,
      attributes: {},
      properties: {
        LoadBalancerArn: found.LoadBalancerArn ?? '',
        Port: found.Port ?? 0,
        TargetGroupArn: action?.TargetGroupArn ?? action?.ForwardConfig?.TargetGroups?.[0]?.TargetGroupArn ?? '',
      },
      tags: await tagsOf(context, id),
    };
  },
  async repair(context, { id }, p) {
    const found = await listener.read(context, id);
    if (!found || found.properties.TargetGroupArn === p.TargetGroupArn) return;
    const DefaultActions = [{ Type: 'forward' as const, TargetGroupArn: p.TargetGroupArn }];
    await (await context.clients.elbv2()).send(new ModifyListenerCommand({ ListenerArn: id, DefaultActions }));
  },
  tag: tagElb,
  async remove({ clients }, { id }) {
    await (await clients.elbv2()).send(new DeleteListenerCommand({ ListenerArn: id })).catch(noListener);
  },
};

const sameSet = (a: string[], b: string[]) => a.length === b.length && a.every((one) => b.includes(one));
