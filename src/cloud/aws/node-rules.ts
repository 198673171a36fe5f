import {
  DescribeSecurityGroupRulesCommand,
  DescribeSecurityGroupsCommand,
  DescribeVpcsCommand,
  type IpPermission,
  RevokeSecurityGroupIngressCommand,
  type SecurityGroupRule,
} from '@aws-sdk/client-ec2';
import { hasCode } from '../../aws/clients.ts';
import { allowIngress } from '../../aws/handlers/security-group.ts';
import { clusterTag } from '../../aws/tags.ts';
import type { Service } from '../../api/generated/types.ts';
import type { BalancerWishes } from './annotations.ts';
import { everyPage } from './gather.ts';
import type { AwsProviderOptions } from './provider.ts';

const descriptionOf = (service: { namespace?: string | undefined; name: string }) =>
  `kubernetes.io/service-name=${service.namespace}/${service.name}`;

const keyOf = (port: number | undefined, cidr: string | undefined) => `${port} ${cidr}`;

/** Rules in the nodes' security group that let the traffic of load balancers in. Each says in its description which Service it is for. */
export class NodeRules {
  private readonly o: AwsProviderOptions;
  /** Neither changes while the cluster lives. */
  private group: string | undefined;
  private vpcCidr: string | undefined;

  constructor(o: AwsProviderOptions) {
    this.o = o;
  }

  /**
   * Lets clients reach the node ports, and the load balancer the health check's: its own addresses are of the VPC, clients keep theirs.
   * Rules of this Service that are not wanted any more go.
   */
  async ensure(service: Service, wishes: BalancerWishes): Promise<void> {
    const group = await this.nodeGroup();
    if (!group) {
      const tags = `tags kumulus:node-group and ${clusterTag(this.o.cluster)}`;
      throw new Error(`no security group of the nodes of ${this.o.cluster} in ${this.o.vpcId} (${tags})`);
    }
    try {
      await this.repair(group, descriptionOf(service.metadata), await this.wanted(service, wishes));
    } catch (error) {
      // Deleted and made anew: it is looked for again at the next try.
      if (hasCode(error, 'InvalidGroup.NotFound', 'InvalidGroupId.NotFound')) this.group = undefined;
      throw error;
    }
  }

  private async wanted(service: Service, wishes: BalancerWishes): Promise<Map<string, IpPermission>> {
    const vpcCidr = await this.range();
    const open = wishes.scheme === 'internal' ? [] : ['0.0.0.0/0'];
    const ranges = service.spec.loadBalancerSourceRanges?.length ? service.spec.loadBalancerSourceRanges.map((one) => one.trim()) : open;
    const Description = descriptionOf(service.metadata);
    const wanted = new Map<string, IpPermission>();
    const want = (port: number, CidrIp: string) =>
      wanted.set(keyOf(port, CidrIp), { IpProtocol: 'tcp', FromPort: port, ToPort: port, IpRanges: [{ CidrIp, Description }] });
    for (const { nodePort } of service.spec.ports ?? []) for (const range of [vpcCidr, ...ranges]) want(nodePort as number, range);
    if (wishes.health.port !== 'traffic-port') want(Number(wishes.health.port), vpcCidr);
    return wanted;
  }

  private async repair(group: string, description: string, wanted: Map<string, IpPermission>): Promise<void> {
    const existing = await this.rulesOf(group, description);
    const keys = existing.map((one) => (one.FromPort === one.ToPort && one.IpProtocol === 'tcp' ? keyOf(one.FromPort, one.CidrIpv4) : ''));
    const missing = [...wanted].filter(([key]) => !keys.includes(key)).map(([, permission]) => permission);
    // Another Service may have the same rule.
    await allowIngress({ clients: this.o.clients, cluster: this.o.cluster }, group, missing);
    const extra = existing.filter((_, i) => !wanted.has(keys[i] as string));
    await this.revoke(group, extra);
  }

  /** Resolves when no rule of the Service is left; where the nodes' group is gone there is none. */
  async remove(service: { namespace: string; name: string }): Promise<void> {
    const group = await this.nodeGroup();
    if (group) await this.revoke(group, await this.rulesOf(group, descriptionOf(service)));
  }

  private async revoke(group: string, rules: SecurityGroupRule[]): Promise<void> {
    if (!rules.length) return;
    const ec2 = await this.o.clients.ec2();
    const SecurityGroupRuleIds = rules.map((one) => one.SecurityGroupRuleId as string);
    await ec2.send(new RevokeSecurityGroupIngressCommand({ GroupId: group, SecurityGroupRuleIds })).catch((error) => {
      // Revoked by an earlier call whose answer was lost.
      if (!hasCode(error, 'InvalidSecurityGroupRuleId.NotFound', 'InvalidPermission.NotFound')) throw error;
    });
  }

  private async nodeGroup(): Promise<string | undefined> {
    if (this.group) return this.group;
    const ec2 = await this.o.clients.ec2();
    const Filters = [
      { Name: 'vpc-id', Values: [this.o.vpcId] },
      { Name: `tag:${clusterTag(this.o.cluster)}`, Values: ['owned', 'shared'] },
      { Name: 'tag-key', Values: ['kumulus:node-group'] },
    ];
    const groups = await everyPage(
      (NextToken) => ec2.send(new DescribeSecurityGroupsCommand({ Filters, ...(NextToken ? { NextToken } : {}) })),
      (page) => page.SecurityGroups,
      (page) => page.NextToken,
    );
    return (this.group = groups[0]?.GroupId);
  }

  private async range(): Promise<string> {
    if (this.vpcCidr) return this.vpcCidr;
    const ec2 = await this.o.clients.ec2();
    const cidr = (await ec2.send(new DescribeVpcsCommand({ VpcIds: [this.o.vpcId] }))).Vpcs?.[0]?.CidrBlock;
    if (!cidr) throw new Error(`${this.o.vpcId} has no range`);
    return (this.vpcCidr = cidr);
  }

  private async rulesOf(group: string, description: string): Promise<SecurityGroupRule[]> {
    const ec2 = await this.o.clients.ec2();
    const Filters = [{ Name: 'group-id', Values: [group] }];
    const rules = await everyPage(
      (NextToken) => ec2.send(new DescribeSecurityGroupRulesCommand({ Filters, ...(NextToken ? { NextToken } : {}) })),
      (page) => page.SecurityGroupRules,
      (page) => page.NextToken,
    );
    return rules.filter((one) => !one.IsEgress && one.Description === description);
  }
}
