import {
  CreateTargetGroupCommand,
  DeleteTargetGroupCommand,
  DeregisterTargetsCommand,
  DescribeTargetGroupAttributesCommand,
  DescribeTargetGroupsCommand,
  DescribeTargetHealthCommand,
  ModifyTargetGroupAttributesCommand,
  ModifyTargetGroupCommand,
  paginateDescribeTargetGroups,
  type ProtocolEnum,
  RegisterTargetsCommand,
  type TargetGroup,
} from '@aws-sdk/client-elastic-load-balancing-v2';
import { hasCode, ignore, removeWhenFree } from '../clients.ts';
import { toTags } from '../tags.ts';
import { madeId } from './ec2-tags.ts';
import { changedAttributes, declaredAttributes, isOurs, tagElb, tagsOf } from './elbv2.ts';
import { type Existing, type Found, type HandlerContext, isFound, type ResourceHandler } from './handler.ts';

/** In the words of CreateTargetGroup; times in seconds. */
export interface HealthCheck {
  HealthCheckProtocol?: ProtocolEnum;
  /** A port, or traffic-port. */
  HealthCheckPort?: string;
  HealthCheckPath?: string;
  HealthCheckIntervalSeconds?: number;
  HealthCheckTimeoutSeconds?: number;
  HealthyThresholdCount?: number;
  UnhealthyThresholdCount?: number;
}

export interface TargetGroupProperties {
  /** At most 32 characters; by it the group is found again. */
  Name: string;
  VpcId: string;
  Port: number;
  /** Ids of instances. */
  TargetIds: string[];
  /** TCP to the targets' port every ten seconds where left out. */
  HealthCheck?: HealthCheck;
  /** Those that are declared; others stay as they are. */
  Attributes?: Record<string, string>;
}

/** ELBv2 takes no targets that do not run: those were refused, and all others are registered. */
export class TargetsRefused extends Error {
  readonly groupArn: string;
  readonly refused: string[];
  /** How many targets the group has. */
  readonly registered: number;
  constructor(groupArn: string, refused: string[], registered: number, cause: Error) {
    super(cause.message, { cause });
    this.name = 'TargetsRefused';
    this.groupArn = groupArn;
    this.refused = refused;
    this.registered = registered;
  }
}

const none = ignore('TargetGroupNotFound', 'TargetGroupNotFoundException');
const isRefusal = (error: unknown) => hasCode(error, 'InvalidTarget', 'InvalidTargetException');

async function look({ clients }: HandlerContext, by: { Names: string[] } | { TargetGroupArns: string[] }): Promise<TargetGroup | undefined> {
  return (await (await clients.elbv2()).send(new DescribeTargetGroupsCommand(by)).catch(none))?.TargetGroups?.[0];
}

/** Those of a VPC, or those that a load balancer forwards to. */
export async function targetGroupsOf({ clients }: HandlerContext, of: { vpcId: string } | { loadBalancerArn: string }): Promise<TargetGroup[]> {
  const found: TargetGroup[] = [];
  const only = 'loadBalancerArn' in of ? { LoadBalancerArn: of.loadBalancerArn } : {};
  try {
    for await (const page of paginateDescribeTargetGroups({ client: await clients.elbv2() }, only)) found.push(...(page.TargetGroups ?? []));
  } catch (error) {
    // moto and LocalStack say so of a load balancer that has none yet; AWS gives an empty list.
    none(error);
  }
  return 'vpcId' in of ? found.filter((one) => one.VpcId === of.vpcId) : found;
}

const existing = (one: TargetGroup | undefined): Existing => ({ id: madeId(one?.TargetGroupArn), attributes: {} });

/** What there is of a group beside its shape: targets, and attributes where some are declared. Without tags. */
export async function inspectTargetGroup(
  context: HandlerContext,
  one: TargetGroup,
  declared: TargetGroupProperties | undefined,
): Promise<Found<TargetGroupProperties>> {
  const id = madeId(one.TargetGroupArn);
  const [TargetIds, Attributes] = await Promise.all([
    targetsOf(context, id),
    declared?.Attributes && attributesOf(context, id, declared.Attributes),
  ]);
  const keys = Object.keys(declared?.HealthCheck ?? {}) as (keyof HealthCheck)[];
  const HealthCheck = declared?.HealthCheck && (Object.fromEntries(keys.map((key) => [key, one[key]])) as HealthCheck);
  return {
    ...existing(one),
    properties: {
      Name: one.TargetGroupName ?? '',
      VpcId: one.VpcId ?? '',
      Port: one.Port ?? 0,
      TargetIds,
      ...(HealthCheck ? { HealthCheck } : {}),
      ...(Attributes ? { Attributes } : {}),
    },
  };
}

async function targetsOf({ clients }: HandlerContext, arn: string): Promise<string[]> {
  const answer = await (await clients.elbv2()).send(new DescribeTargetHealthCommand({ TargetGroupArn: arn }));
  return (answer.TargetHealthDescriptions ?? []).filter((t) => t.TargetHealth?.State !== 'draining').map((t) => t.Target?.Id ?? '');
}

async function attributesOf({ clients }: HandlerContext, TargetGroupArn: string, declared: Record<string, string>) {
  const answer = await (await clients.elbv2()).send(new DescribeTargetGroupAttributesCommand({ TargetGroupArn }));
  return declaredAttributes(declared, answer.Attributes);
}

async function read(context: HandlerContext, id: string, declared?: TargetGroupProperties): Promise<Found<TargetGroupProperties> | undefined> {
  const found = await look(context, { TargetGroupArns: [id] });
  if (!found) return undefined;
  const [known, tags] = await Promise.all([inspectTargetGroup(context, found, declared), tagsOf(context, id)]);
  return { ...known, tags };
}

/** A TCP target group of instances. Its id is its ARN. */
export const targetGroup = {
  async find(context, _logicalId, p): Promise<Found<TargetGroupProperties> | undefined> {
    const found = await look(context, { Names: [p.Name] });
    const tags = found && (await tagsOf(context, madeId(found.TargetGroupArn)));
    return found && isOurs(context, tags) ? inspectTargetGroup(context, found, p) : undefined;
  },
  async create({ clients }, _logicalId, p, tags): Promise<Found<TargetGroupProperties>> {
    const answer = await (await clients.elbv2()).send(
      new CreateTargetGroupCommand({
        Name: p.Name,
        VpcId: p.VpcId,
        Port: p.Port,
        Protocol: 'TCP',
        TargetType: 'instance',
        ...(p.HealthCheck ?? { HealthCheckIntervalSeconds: 10 }),
        Tags: toTags(tags),
      }),
    );
    return { ...existing(answer.TargetGroups?.[0]), properties: { ...p, TargetIds: [], Attributes: {} }, tags };
  },
  read,
  /** @throws TargetsRefused when all else is done, where an instance does not run */
  async repair(context, known, p) {
    const found = isFound(known) ? known : await read(context, known.id, p);
    if (!found) return undefined;
    const { HealthCheck: check = {}, TargetIds: there } = found.properties;
    const elb = await context.clients.elbv2();
    const keys = Object.keys(p.HealthCheck ?? {}) as (keyof HealthCheck)[];
    if (keys.some((key) => p.HealthCheck?.[key] !== check[key]))
      await elb.send(new ModifyTargetGroupCommand({ TargetGroupArn: found.id, ...p.HealthCheck }));
    const Attributes = changedAttributes(p.Attributes, found.properties.Attributes);
    if (Attributes.length) await elb.send(new ModifyTargetGroupAttributesCommand({ TargetGroupArn: found.id, Attributes }));
    const extra = there.filter((t) => !p.TargetIds.includes(t));
    if (extra.length) await elb.send(new DeregisterTargetsCommand({ TargetGroupArn: found.id, Targets: extra.map((Id) => ({ Id })) }));
    const missing = p.TargetIds.filter((t) => !there.includes(t));
    if (missing.length) await register(context, found.id, missing, there.length - extra.length);
    return undefined;
  },
  tag: tagElb,
  /** A listener or load balancer that was just deleted holds its group for a moment. */
  async remove({ clients, signal }, { id }: { id: string }) {
    const elb = await clients.elbv2();
    const remove = () => elb.send(new DeleteTargetGroupCommand({ TargetGroupArn: id })).catch(none);
    await removeWhenFree(`target group ${id} to be out of use`, remove, ['ResourceInUse', 'ResourceInUseException'], { timeoutMs: 120_000, signal });
  },
} satisfies ResourceHandler<TargetGroupProperties>;

/** ELBv2 refuses all for one of them: then one by one, so that an instance that is going does not keep the others out. */
async function register({ clients }: HandlerContext, TargetGroupArn: string, ids: string[], before: number): Promise<void> {
  const elb = await clients.elbv2();
  const send = (some: string[]) => elb.send(new RegisterTargetsCommand({ TargetGroupArn, Targets: some.map((Id) => ({ Id })) }));
  try {
    await send(ids);
  } catch (all) {
    if (!isRefusal(all)) throw all;
    const refused: string[] = [];
    for (const id of ids.length > 1 ? ids : []) {
      await send([id]).catch((one) => {
        if (!isRefusal(one)) throw one;
        refused.push(id);
      });
    }
    if (ids.length === 1) refused.push(...ids);
    if (refused.length) throw new TargetsRefused(TargetGroupArn, refused, before + ids.length - refused.length, all as Error);
  }
}
