import {
  AuthorizeSecurityGroupIngressCommand,
  CreateSecurityGroupCommand,
  DeleteSecurityGroupCommand,
  DescribeSecurityGroupsCommand,
  type IpPermission,
} from '@aws-sdk/client-ec2';
import { ownershipFilters, tagSpecification } from '../tags.ts';
import type { ResourceHandler } from './handler.ts';
import { ignore } from './network.ts';

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

export const securityGroup: ResourceHandler<SecurityGroupProperties> = {
  async find({ clients, cluster }, logicalId) {
    const found = await (await clients.ec2()).send(new DescribeSecurityGroupsCommand({ Filters: ownershipFilters(cluster, logicalId) }));
    const id = found.SecurityGroups?.[0]?.GroupId;
    return id ? { id, attributes: {} } : undefined;
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
    return { id: answer.GroupId as string, attributes: {} };
  },
  /** Adds the declared rules that are missing; rules of others (the service controller's) stay. */
  async repair({ clients }, { id }, p) {
    const ec2 = await clients.ec2();
    for (const rule of p.Ingress) {
      await ec2
        .send(new AuthorizeSecurityGroupIngressCommand({ GroupId: id, IpPermissions: [permission(rule, id)] }))
        .catch(ignore('InvalidPermission.Duplicate'));
    }
  },
  async remove({ clients }, { id }) {
    await (await clients.ec2()).send(new DeleteSecurityGroupCommand({ GroupId: id })).catch(ignore('InvalidGroup.NotFound'));
  },
};
