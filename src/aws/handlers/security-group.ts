import {
  AuthorizeSecurityGroupIngressCommand,
  CreateSecurityGroupCommand,
  DeleteSecurityGroupCommand,
  DescribeSecurityGroupsCommand,
  type IpPermission,
  RevokeSecurityGroupIngressCommand,
  type SecurityGroup,
} from '@aws-sdk/client-ec2';
import { ignore, removeWhenFree } from '../clients.ts';
import { fromTags, ownershipFilters, tagSpecification } from '../tags.ts';
import { madeId, tagEc2 } from './ec2-tags.ts';
import { type Found, type HandlerContext, isFound, type ResourceHandler } from './handler.ts';

export interface IngressRule {
  /** tcp, udp, icmp, or -1 for all. */
  IpProtocol: string;
  FromPort?: number;
  ToPort?: number;
  CidrIp?: string;
  /** A group's id, or `self`. */
  SourceGroup?: string;
}

export interface SecurityGroupProperties {
  VpcId: string;
  GroupName: string;
  Description: string;
  Ingress: IngressRule[];
}

export const permission = (rule: IngressRule, self: string): IpPermission => ({
  IpProtocol: rule.IpProtocol,
  ...(rule.FromPort === undefined ? {} : { FromPort: rule.FromPort, ToPort: rule.ToPort ?? rule.FromPort }),
  ...(rule.CidrIp ? { IpRanges: [{ CidrIp: rule.CidrIp }] } : {}),
  ...(rule.SourceGroup ? { UserIdGroupPairs: [{ GroupId: rule.SourceGroup === 'self' ? self : rule.SourceGroup }] } : {}),
});

/** The group's rules, one source each. */
function rulesOf(group: SecurityGroup): IngressRule[] {
  return (group.IpPermissions ?? []).flatMap((p) => {
    const ports = p.FromPort === undefined || p.IpProtocol === '-1' ? {} : { FromPort: p.FromPort, ToPort: p.ToPort ?? p.FromPort };
    const base = { IpProtocol: p.IpProtocol ?? '-1', ...ports };
    return [
      ...(p.IpRanges ?? []).map((r) => ({ ...base, CidrIp: r.CidrIp ?? '' })),
      ...(p.UserIdGroupPairs ?? []).map((g) => ({ ...base, SourceGroup: g.GroupId === group.GroupId ? 'self' : (g.GroupId ?? '') })),
    ];
  });
}

const key = (r: IngressRule): string => [r.IpProtocol, r.FromPort ?? '', r.ToPort ?? r.FromPort ?? '', r.CidrIp ?? '', r.SourceGroup ?? ''].join(' ');

function foundOf(group: SecurityGroup, declared: SecurityGroupProperties | undefined): Found<SecurityGroupProperties> {
  const id = madeId(group.GroupId);
  const rules = rulesOf(group);
  const there = new Set(rules.map(key));
  return {
    id,
    attributes: {},
    properties: {
      VpcId: group.VpcId ?? '',
      GroupName: group.GroupName ?? '',
      Description: group.Description ?? '',
      Ingress: declared ? declared.Ingress.filter((r) => there.has(key(r.SourceGroup === id ? { ...r, SourceGroup: 'self' } : r))) : rules,
    },
    tags: fromTags(group.Tags),
  };
}

/** Lets in what is not let in already. */
export async function allowIngress({ clients }: HandlerContext, GroupId: string, permissions: IpPermission[]): Promise<void> {
  if (!permissions.length) return;
  const ec2 = await clients.ec2();
  const duplicate = ignore('InvalidPermission.Duplicate');
  const allow = (IpPermissions: IpPermission[]) => ec2.send(new AuthorizeSecurityGroupIngressCommand({ GroupId, IpPermissions }));
  await allow(permissions).catch(async (error) => {
    duplicate(error);
    // AWS refuses all of them for one that is there.
    for (const one of permissions) await allow([one]).catch(duplicate);
  });
}

/** Declared rules are added and taken away; rules of others (the service controller's) stay. */
export const securityGroup: ResourceHandler<SecurityGroupProperties> = {
  async find({ clients, cluster }, logicalId, p) {
    const found = await (await clients.ec2()).send(new DescribeSecurityGroupsCommand({ Filters: ownershipFilters(cluster, logicalId) }));
    const group = found.SecurityGroups?.[0];
    return group && foundOf(group, p);
  },
  async create({ clients }, _logicalId, p, tags) {
    const answer = await (await clients.ec2()).send(
      new CreateSecurityGroupCommand({
        VpcId: p.VpcId,
        GroupName: p.GroupName,
        Description: p.Description,
        TagSpecifications: tagSpecification('security-group', tags),
      }),
    );
    return { id: madeId(answer.GroupId), attributes: {}, properties: { ...p, Ingress: [] }, tags };
  },
  async read({ clients }, id, declared) {
    const answer = await (await clients.ec2())
      .send(new DescribeSecurityGroupsCommand({ GroupIds: [id] }))
      .catch(ignore('InvalidGroup.NotFound'));
    const group = answer?.SecurityGroups?.[0];
    return group && foundOf(group, declared);
  },
  async repair(context, known, p, previous) {
    const { id } = known;
    const ec2 = await context.clients.ec2();
    const found = isFound(known) ? known : await securityGroup.read(context, id, p);
    const missing = p.Ingress.filter((rule) => !found?.properties.Ingress.includes(rule));
    await allowIngress(
      context,
      id,
      missing.map((rule) => permission(rule, id)),
    );
    const wanted = new Set(p.Ingress.map(key));
    for (const rule of (previous?.Ingress ?? []).filter((r) => !wanted.has(key(r)))) {
      await ec2
        .send(new RevokeSecurityGroupIngressCommand({ GroupId: id, IpPermissions: [permission(rule, id)] }))
        .catch(ignore('InvalidPermission.NotFound'));
    }
  },
  tag: tagEc2,
  /** The interfaces of a load balancer that was just deleted hold its groups for a while. */
  async remove({ clients, signal }, { id }) {
    const ec2 = await clients.ec2();
    const remove = () => ec2.send(new DeleteSecurityGroupCommand({ GroupId: id })).catch(ignore('InvalidGroup.NotFound'));
    await removeWhenFree(`security group ${id} to be out of use`, remove, ['DependencyViolation'], { signal });
  },
};
