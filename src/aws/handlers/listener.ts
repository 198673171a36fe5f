import {
  CreateListenerCommand,
  DeleteListenerCommand,
  DescribeListenersCommand,
  type Listener,
  ModifyListenerCommand,
  paginateDescribeListeners,
} from '@aws-sdk/client-elastic-load-balancing-v2';
import { hasCode, ignore } from '../clients.ts';
import { toTags } from '../tags.ts';
import { madeId } from './ec2-tags.ts';
import { tagElb, tagsOf } from './elbv2.ts';
import { type Found, type HandlerContext, isFound, type ResourceHandler } from './handler.ts';

export interface ListenerProperties {
  LoadBalancerArn: string;
  Port: number;
  TargetGroupArn: string;
}

const none = ignore('ListenerNotFound', 'ListenerNotFoundException', 'LoadBalancerNotFound', 'LoadBalancerNotFoundException');

function foundOf(one: Listener): Found<ListenerProperties> {
  const action = one.DefaultActions?.[0];
  const TargetGroupArn = action?.TargetGroupArn ?? action?.ForwardConfig?.TargetGroups?.[0]?.TargetGroupArn ?? '';
  return {
    id: madeId(one.ListenerArn),
    attributes: {},
    // One of another protocol forwards nothing that was declared.
    properties: { LoadBalancerArn: one.LoadBalancerArn ?? '', Port: one.Port ?? 0, TargetGroupArn: one.Protocol === 'TCP' ? TargetGroupArn : '' },
  };
}

/** All of a load balancer, without their tags. */
export async function listenersOf({ clients }: HandlerContext, LoadBalancerArn: string): Promise<Found<ListenerProperties>[]> {
  const found: Found<ListenerProperties>[] = [];
  try {
    for await (const page of paginateDescribeListeners({ client: await clients.elbv2() }, { LoadBalancerArn }))
      found.push(...(page.Listeners ?? []).map(foundOf));
  } catch (error) {
    none(error);
  }
  return found;
}

async function read(context: HandlerContext, id: string): Promise<Found<ListenerProperties> | undefined> {
  const elb = await context.clients.elbv2();
  const found = (await elb.send(new DescribeListenersCommand({ ListenerArns: [id] })).catch(none))?.Listeners?.[0];
  return found && { ...foundOf(found), tags: await tagsOf(context, id) };
}

const at = async (context: HandlerContext, p: ListenerProperties) =>
  (await listenersOf(context, p.LoadBalancerArn)).find((one) => one.properties.Port === p.Port);

/** A TCP listener that forwards to one target group; a load balancer has one a port. Its id is its ARN. */
export const listener = {
  find: (context, _logicalId, p) => at(context, p),
  async create(context, _logicalId, p, tags): Promise<Found<ListenerProperties>> {
    const { LoadBalancerArn, Port } = p;
    const make = new CreateListenerCommand({
      LoadBalancerArn,
      Port,
      Protocol: 'TCP',
      DefaultActions: [{ Type: 'forward', TargetGroupArn: p.TargetGroupArn }],
      Tags: toTags(tags),
    });
    try {
      const answer = await (await context.clients.elbv2()).send(make);
      return { id: madeId(answer.Listeners?.[0]?.ListenerArn), attributes: {}, properties: p, tags };
    } catch (error) {
      // Made by an earlier call whose answer was lost.
      const made = hasCode(error, 'DuplicateListener', 'DuplicateListenerException') ? await at(context, p) : undefined;
      if (!made) throw error;
      return made;
    }
  },
  read,
  async repair(context, known, p) {
    const found = isFound(known) ? known : await read(context, known.id);
    if (!found || found.properties.TargetGroupArn === p.TargetGroupArn) return undefined;
    const DefaultActions = [{ Type: 'forward' as const, TargetGroupArn: p.TargetGroupArn }];
    await (await context.clients.elbv2()).send(new ModifyListenerCommand({ ListenerArn: found.id, Protocol: 'TCP', DefaultActions }));
    return undefined;
  },
  tag: tagElb,
  async remove({ clients }, { id }) {
    await (await clients.elbv2()).send(new DeleteListenerCommand({ ListenerArn: id })).catch(none);
  },
} satisfies ResourceHandler<ListenerProperties>;
