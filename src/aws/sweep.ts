import {
  DeleteNetworkInterfaceCommand,
  DeleteSecurityGroupCommand,
  DeleteVolumeCommand,
  DescribeInstancesCommand,
  DescribeNetworkInterfacesCommand,
  DescribeSecurityGroupsCommand,
  DescribeVolumesCommand,
  DetachVolumeCommand,
  RevokeSecurityGroupIngressCommand,
} from '@aws-sdk/client-ec2';
import { paginateDescribeLoadBalancers } from '@aws-sdk/client-elastic-load-balancing-v2';
import { ignore, removeWhenFree } from './clients.ts';
import { tagsOfAll } from './handlers/elbv2.ts';
import type { HandlerContext } from './handlers/handler.ts';
import { loadBalancer } from './handlers/load-balancer.ts';
import { targetGroup, targetGroupsOf } from './handlers/target-group.ts';
import { clusterTag, fromTags, logicalIdTag } from './tags.ts';

/**
 * Deletes what a cluster's own controllers made in a VPC and nobody will now take away: load balancers of Services with their
 * target groups and security groups, volumes of claims. Told by the cluster's tag without a logical id, which the topology's
 * resources have. To be called when the controllers have ended.
 */
export async function sweep(context: HandlerContext, vpcId: string): Promise<void> {
  await sweepLoadBalancers(context, vpcId);
  await sweepVolumes(context);
  await sweepInterfaces(context, vpcId);
  await sweepSecurityGroups(context, vpcId);
}

const left = (context: HandlerContext, tags: Record<string, string>) => tags[clusterTag(context.cluster)] === 'owned' && !tags[logicalIdTag];
const byTag = (context: HandlerContext) => ({ Name: `tag:${clusterTag(context.cluster)}`, Values: ['owned'] });
const waiting = (context: HandlerContext) => ({ timeoutMs: 120_000, signal: context.signal });

async function sweepLoadBalancers(context: HandlerContext, vpcId: string): Promise<void> {
  const elb = await context.clients.elbv2();
  const leavings = async (arns: string[]) => {
    const tags = await tagsOfAll(context, arns);
    return arns.filter((arn) => left(context, tags.get(arn) ?? {}));
  };
  const balancers: string[] = [];
  for await (const page of paginateDescribeLoadBalancers({ client: elb }, {}))
    for (const one of page.LoadBalancers ?? []) if (one.VpcId === vpcId) balancers.push(one.LoadBalancerArn as string);
  for (const id of await leavings(balancers)) await loadBalancer.remove(context, { id });
  const groups = (await targetGroupsOf(context, { vpcId })).map((one) => one.TargetGroupArn as string);
  for (const id of await leavings(groups)) await targetGroup.remove(context, { id });
}

async function sweepVolumes(context: HandlerContext): Promise<void> {
  const ec2 = await context.clients.ec2();
  const gone = ignore('InvalidVolume.NotFound', 'InvalidAttachment.NotFound', 'IncorrectState');
  const { Volumes } = await ec2.send(new DescribeVolumesCommand({ Filters: [byTag(context)] }));
  for (const volume of (Volumes ?? []).filter((v) => left(context, fromTags(v.Tags)))) {
    const VolumeId = volume.VolumeId as string;
    for (const _ of volume.Attachments ?? []) await ec2.send(new DetachVolumeCommand({ VolumeId, Force: true })).catch(gone);
    const remove = () => ec2.send(new DeleteVolumeCommand({ VolumeId })).catch(gone);
    await removeWhenFree(`volume ${VolumeId} to be detached`, remove, ['VolumeInUse'], waiting(context));
  }
}

async function sweepInterfaces(context: HandlerContext, vpcId: string): Promise<void> {
  const ec2 = await context.clients.ec2();
  const { NetworkInterfaces = [] } = await ec2.send(new DescribeNetworkInterfacesCommand({ Filters: [{ Name: 'vpc-id', Values: [vpcId] }] }));
  for (const { NetworkInterfaceId, TagSet, Status, Attachment } of NetworkInterfaces) {
    const forgotten = Status === 'available' && left(context, fromTags(TagSet));
    // EC2 takes an instance's first interface away with it; moto and LocalStack do not.
    const orphaned = Attachment?.InstanceId !== undefined && Attachment.DeviceIndex === 0 && (await isGone(context, Attachment.InstanceId));
    if (!forgotten && !orphaned) continue;
    await ec2.send(new DeleteNetworkInterfaceCommand({ NetworkInterfaceId })).catch(ignore('InvalidNetworkInterfaceID.NotFound'));
  }
}

async function isGone({ clients }: HandlerContext, instanceId: string): Promise<boolean> {
  const found = await (await clients.ec2())
    .send(new DescribeInstancesCommand({ InstanceIds: [instanceId] }))
    .catch(ignore('InvalidInstanceID.NotFound'));
  const state = found?.Reservations?.[0]?.Instances?.[0]?.State?.Name;
  return state === undefined || state === 'terminated';
}

async function sweepSecurityGroups(context: HandlerContext, vpcId: string): Promise<void> {
  const ec2 = await context.clients.ec2();
  const { SecurityGroups = [] } = await ec2.send(new DescribeSecurityGroupsCommand({ Filters: [{ Name: 'vpc-id', Values: [vpcId] }] }));
  const doomed = SecurityGroups.filter((g) => left(context, fromTags(g.Tags)));
  const ids = new Set(doomed.map((g) => g.GroupId));
  // Rules that name a group keep it from being deleted.
  for (const group of SecurityGroups) {
    const IpPermissions = (group.IpPermissions ?? []).flatMap((p) => {
      const pairs = (p.UserIdGroupPairs ?? []).filter((pair) => ids.has(pair.GroupId) && pair.GroupId !== group.GroupId);
      const { IpRanges: _r, Ipv6Ranges: _s, PrefixListIds: _l, ...rest } = p;
      return pairs.length ? [{ ...rest, UserIdGroupPairs: pairs }] : [];
    });
    if (IpPermissions.length)
      await ec2.send(new RevokeSecurityGroupIngressCommand({ GroupId: group.GroupId, IpPermissions })).catch(ignore('InvalidPermission.NotFound'));
  }
  for (const { GroupId } of doomed) {
    const remove = () => ec2.send(new DeleteSecurityGroupCommand({ GroupId })).catch(ignore('InvalidGroup.NotFound'));
    await removeWhenFree(`security group ${GroupId} to be out of use`, remove, ['DependencyViolation'], waiting(context));
  }
}
