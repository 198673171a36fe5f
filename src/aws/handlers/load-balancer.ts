import {
  CreateLoadBalancerCommand,
  DeleteLoadBalancerCommand,
  DescribeLoadBalancerAttributesCommand,
  DescribeLoadBalancersCommand,
  type LoadBalancer,
  ModifyLoadBalancerAttributesCommand,
  SetSubnetsCommand,
} from '@aws-sdk/client-elastic-load-balancing-v2';
import { ignore, waitUntil } from '../clients.ts';
import { toTags } from '../tags.ts';
import { madeId } from './ec2-tags.ts';
import { changedAttributes, declaredAttributes, isOurs, tagElb, tagsOf } from './elbv2.ts';
import { type Existing, type Found, type HandlerContext, inOrder, isFound, type ResourceHandler } from './handler.ts';

/** Where a load balancer of an endpoint with a data plane listens on the host of that data plane. */
export const hostAddressTag = 'kumulus:host-address';

export interface LoadBalancerProperties {
  /** At most 32 characters; by it the load balancer is found again. */
  Name: string;
  Scheme: 'internet-facing' | 'internal';
  SubnetIds: string[];
  /** Those that are declared; others stay as they are. */
  Attributes?: Record<string, string>;
}

export interface FoundLoadBalancer extends Found<LoadBalancerProperties> {
  /** provisioning, active, active_impaired or failed. */
  state: string;
}

const none = ignore('LoadBalancerNotFound', 'LoadBalancerNotFoundException');

async function look({ clients }: HandlerContext, by: { Names: string[] } | { LoadBalancerArns: string[] }): Promise<LoadBalancer | undefined> {
  return (await (await clients.elbv2()).send(new DescribeLoadBalancersCommand(by)).catch(none))?.LoadBalancers?.[0];
}

const existing = (one: LoadBalancer | undefined, hostAddress = ''): Existing => ({
  id: madeId(one?.LoadBalancerArn),
  attributes: { DnsName: one?.DNSName ?? '', HostAddress: hostAddress },
});

const subnetsOf = (one: LoadBalancer | undefined) => (one?.AvailabilityZones ?? []).map((z) => z.SubnetId ?? '');

async function inspect(context: HandlerContext, one: LoadBalancer, declared: LoadBalancerProperties | undefined): Promise<FoundLoadBalancer> {
  const LoadBalancerArn = madeId(one.LoadBalancerArn);
  const [{ [hostAddressTag]: hostAddress, ...tags }, Attributes] = await Promise.all([
    tagsOf(context, LoadBalancerArn),
    declared?.Attributes && attributesOf(context, LoadBalancerArn, declared.Attributes),
  ]);
  return {
    ...existing(one, hostAddress),
    state: one.State?.Code ?? '',
    properties: {
      Name: one.LoadBalancerName ?? '',
      Scheme: one.Scheme ?? 'internal',
      SubnetIds: inOrder(declared?.SubnetIds, subnetsOf(one)),
      ...(Attributes ? { Attributes } : {}),
    },
    tags,
  };
}

async function attributesOf({ clients }: HandlerContext, LoadBalancerArn: string, declared: Record<string, string>) {
  const answer = await (await clients.elbv2()).send(new DescribeLoadBalancerAttributesCommand({ LoadBalancerArn }));
  return declaredAttributes(declared, answer.Attributes);
}

async function read(context: HandlerContext, id: string, declared?: LoadBalancerProperties): Promise<FoundLoadBalancer | undefined> {
  const found = await look(context, { LoadBalancerArns: [id] });
  return found && inspect(context, found, declared);
}

/** A network load balancer. Its id is its ARN. */
export const loadBalancer = {
  async find(context, _logicalId, p): Promise<FoundLoadBalancer | undefined> {
    const found = await look(context, { Names: [p.Name] });
    const known = found && (await inspect(context, found, p));
    return known && isOurs(context, known.tags) ? known : undefined;
  },
  async create({ clients }, _logicalId, p, tags): Promise<FoundLoadBalancer> {
    const answer = await (await clients.elbv2()).send(
      new CreateLoadBalancerCommand({ Name: p.Name, Type: 'network', Scheme: p.Scheme, Subnets: p.SubnetIds, Tags: toTags(tags) }),
    );
    const made = answer.LoadBalancers?.[0];
    return { ...existing(made), state: made?.State?.Code ?? '', properties: { ...p, Attributes: {} }, tags };
  },
  read,
  async repair(context, known, p) {
    const found = isFound(known) ? known : await read(context, known.id, p);
    if (!found) return undefined;
    const elb = await context.clients.elbv2();
    const { SubnetIds } = found.properties;
    if (inOrder(p.SubnetIds, SubnetIds) !== p.SubnetIds) await elb.send(new SetSubnetsCommand({ LoadBalancerArn: found.id, Subnets: p.SubnetIds }));
    const Attributes = changedAttributes(p.Attributes, found.properties.Attributes);
    if (Attributes.length) await elb.send(new ModifyLoadBalancerAttributesCommand({ LoadBalancerArn: found.id, Attributes }));
    return undefined;
  },
  async settle(context, id) {
    await waitUntil(
      `load balancer ${id} to be active`,
      async () => {
        const code = (await look(context, { LoadBalancerArns: [id] }))?.State?.Code;
        if (code === 'failed') throw new Error(`load balancer ${id} failed`);
        return code === 'active' || code === 'active_impaired' ? true : undefined;
      },
      { timeoutMs: 600_000, signal: context.signal },
    );
  },
  tag: tagElb,
  async remove({ clients }, { id }: { id: string }) {
    await (await clients.elbv2()).send(new DeleteLoadBalancerCommand({ LoadBalancerArn: id })).catch(none);
  },
} satisfies ResourceHandler<LoadBalancerProperties>;
