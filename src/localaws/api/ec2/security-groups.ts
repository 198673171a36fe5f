import type {
  AuthorizeSecurityGroupEgressRequest,
  AuthorizeSecurityGroupIngressRequest,
  AuthorizeSecurityGroupIngressResult,
  CreateSecurityGroupRequest,
  CreateSecurityGroupResult,
  DeleteSecurityGroupRequest,
  DescribeSecurityGroupRulesRequest,
  DescribeSecurityGroupRulesResult,
  DescribeSecurityGroupsRequest,
  DescribeSecurityGroupsResult,
  IpPermission,
  RevokeSecurityGroupEgressRequest,
  RevokeSecurityGroupIngressRequest,
  RevokeSecurityGroupIngressResult,
  SecurityGroup,
  SecurityGroupRule,
  Tag,
} from '@aws-sdk/client-ec2';
import type { CallContext, Cloud, Operations } from '../cloud.ts';
import { AwsError, invalidParameter } from '../errors.ts';
import { ec2Id } from '../ids.ts';
import type { SecurityGroupRecord, SecurityGroupRuleRecord, VpcRecord } from '../state/records.ts';
import { parseRange, rangeText } from './addresses.ts';
import { describe, find, type IdNames } from './describe.ts';
import { names } from './names.ts';
import { dropTags, putTags, specifiedTags, tagsOf } from './tags.ts';

const mostRules = 60;

export function createGroup(call: CallContext, vpc: VpcRecord, name: string, description: string): SecurityGroupRecord {
  const id = ec2Id('sg');
  const group = call.tables.securityGroups.put(id, {
    GroupId: id,
    GroupName: name,
    Description: description,
    VpcId: vpc.VpcId,
    OwnerId: call.accountId,
    SecurityGroupArn: `arn:aws:ec2:${call.region}:${call.accountId}:security-group/${id}`,
  });
  addRules(call, group, [{ IpProtocol: '-1', IpRanges: [{ CidrIp: '0.0.0.0/0' }] }], true);
  // Members of the default group reach each other.
  if (name === 'default') addRules(call, group, [{ IpProtocol: '-1', UserIdGroupPairs: [{ GroupId: id }] }], false);
  return group;
}

export function dropGroup(call: CallContext, id: string): void {
  for (const rule of call.tables.securityGroupRules.by('group', id)) dropRule(call, rule.SecurityGroupRuleId);
  call.tables.securityGroups.delete(id);
  dropTags(call, id);
}
function dropRule(call: CallContext, id: string): void {
  call.tables.securityGroupRules.delete(id);
  dropTags(call, id);
}

/** The rules of a group, put together by protocol and ports as DescribeSecurityGroups shows them. */
function permissions(cloud: Cloud, groupId: string, egress: boolean): IpPermission[] {
  const found = new Map<string, Required<Pick<IpPermission, 'IpRanges' | 'Ipv6Ranges' | 'PrefixListIds' | 'UserIdGroupPairs'>> & IpPermission>();
  for (const rule of cloud.tables.securityGroupRules.by('group', groupId)) {
    if (rule.IsEgress !== egress) continue;
    const key = `${rule.IpProtocol} ${rule.FromPort} ${rule.ToPort}`;
    let entry = found.get(key);
    if (!entry) {
      const ports = rule.IpProtocol === '-1' ? {} : { FromPort: rule.FromPort, ToPort: rule.ToPort };
      entry = { IpProtocol: rule.IpProtocol, ...ports, IpRanges: [], Ipv6Ranges: [], PrefixListIds: [], UserIdGroupPairs: [] };
      found.set(key, entry);
    }
    const note = rule.Description ? { Description: rule.Description } : {};
    if (rule.CidrIpv4) entry.IpRanges.push({ CidrIp: rule.CidrIpv4, ...note });
    else if (rule.CidrIpv6) entry.Ipv6Ranges.push({ CidrIpv6: rule.CidrIpv6, ...note });
    else if (rule.ReferencedGroupInfo) entry.UserIdGroupPairs.push({ GroupId: rule.ReferencedGroupInfo.GroupId, UserId: cloud.accountId, ...note });
  }
  return [...found.values()];
}

export function viewGroup(cloud: Cloud, record: SecurityGroupRecord): SecurityGroup & { GroupId: string } {
  return {
    ...record,
    IpPermissions: permissions(cloud, record.GroupId, false),
    IpPermissionsEgress: permissions(cloud, record.GroupId, true),
    Tags: tagsOf(cloud, record.GroupId),
  };
}
const viewRule = (cloud: Cloud, record: SecurityGroupRuleRecord): SecurityGroupRule & { SecurityGroupRuleId: string } => ({
  ...record,
  Tags: tagsOf(cloud, record.SecurityGroupRuleId),
});

const permissionFilter =
  (pick: (p: IpPermission) => unknown, egress = false) =>
  (g: SecurityGroup) =>
    (egress ? g.IpPermissionsEgress : g.IpPermissions)?.flatMap((p) => pick(p));
const filters = {
  'group-id': (g: SecurityGroup) => g.GroupId,
  'group-name': (g: SecurityGroup) => g.GroupName,
  'vpc-id': (g: SecurityGroup) => g.VpcId,
  'owner-id': (g: SecurityGroup) => g.OwnerId,
  description: (g: SecurityGroup) => g.Description,
  'ip-permission.cidr': permissionFilter((p) => p.IpRanges?.map((r) => r.CidrIp)),
  'ip-permission.from-port': permissionFilter((p) => p.FromPort),
  'ip-permission.to-port': permissionFilter((p) => p.ToPort),
  'ip-permission.protocol': permissionFilter((p) => p.IpProtocol),
  'ip-permission.group-id': permissionFilter((p) => p.UserIdGroupPairs?.map((u) => u.GroupId)),
  'egress.ip-permission.cidr': permissionFilter((p) => p.IpRanges?.map((r) => r.CidrIp), true),
};
const ruleFilters = { 'group-id': (r: SecurityGroupRule) => r.GroupId, 'security-group-rule-id': (r: SecurityGroupRule) => r.SecurityGroupRuleId };

const protocols: Record<string, string> = { '6': 'tcp', '17': 'udp', '1': 'icmp', all: '-1' };

/** One rule for every range and group of the permissions; checked, with numbers and names of protocols made one. */
function rulesOf(
  call: CallContext,
  group: SecurityGroupRecord,
  list: IpPermission[],
  egress: boolean,
): Omit<SecurityGroupRuleRecord, 'SecurityGroupRuleId'>[] {
  const rules: Omit<SecurityGroupRuleRecord, 'SecurityGroupRuleId'>[] = [];
  for (const p of list) {
    const given = (p.IpProtocol ?? '').toLowerCase();
    const protocol = protocols[given] ?? given;
    if (!/^(tcp|udp|icmp|icmpv6|-1|\d{1,3})$/.test(protocol))
      throw invalidParameter(`Invalid value '${p.IpProtocol}' for IP protocol. Unknown protocol.`);
    const needsPorts = protocol === 'tcp' || protocol === 'udp';
    const from = needsPorts || protocol === 'icmp' ? p.FromPort : -1;
    const to = needsPorts || protocol === 'icmp' ? p.ToPort : -1;
    if (from === undefined || to === undefined)
      throw invalidParameter(`Invalid value 'Must specify both from and to ports with ${protocol.toUpperCase()}.' for portRange.`);
    if (needsPorts && (from < 0 || to > 65_535 || from > to)) throw invalidParameter(`Invalid TCP/UDP port range (${from}:${to})`);
    const common = { GroupId: group.GroupId, GroupOwnerId: call.accountId, IsEgress: egress, IpProtocol: protocol, FromPort: from, ToPort: to };
    const before = rules.length;
    for (const { CidrIp, Description } of p.IpRanges ?? []) {
      const range = parseRange(CidrIp ?? '');
      if (!range) throw invalidParameter(`CIDR block ${CidrIp ?? ''} is malformed`);
      rules.push({ ...common, CidrIpv4: rangeText(range), ...(Description ? { Description } : {}) });
    }
    for (const { CidrIpv6, Description } of p.Ipv6Ranges ?? []) rules.push({ ...common, CidrIpv6, ...(Description ? { Description } : {}) });
    for (const pair of p.UserIdGroupPairs ?? []) {
      const other = pair.GroupId
        ? find(call.tables.securityGroups, names.securityGroup, pair.GroupId)
        : call.tables.securityGroups.by('vpc', group.VpcId).find((g) => g.GroupName === pair.GroupName);
      if (!other) throw new AwsError('InvalidGroup.NotFound', `The security group '${pair.GroupName ?? ''}' does not exist`);
      rules.push({
        ...common,
        ReferencedGroupInfo: { GroupId: other.GroupId, UserId: call.accountId, VpcId: other.VpcId },
        ...(pair.Description ? { Description: pair.Description } : {}),
      });
    }
    if (rules.length === before) throw invalidParameter('The request must name at least one address range or security group');
  }
  return rules;
}

const keyOf = (r: Partial<SecurityGroupRule>) =>
  [r.IsEgress, r.IpProtocol, r.FromPort, r.ToPort, r.CidrIpv4, r.CidrIpv6, r.ReferencedGroupInfo?.GroupId].join(' ');

function addRules(call: CallContext, group: SecurityGroupRecord, list: IpPermission[], egress: boolean, tags: Tag[] = []): SecurityGroupRuleRecord[] {
  const { securityGroupRules } = call.tables;
  const existing = new Set(securityGroupRules.by('group', group.GroupId).map(keyOf));
  const added: SecurityGroupRuleRecord[] = [];
  for (const rule of rulesOf(call, group, list, egress)) {
    const key = keyOf(rule);
    if (existing.has(key)) {
      const peer = rule.CidrIpv4 ?? rule.CidrIpv6 ?? rule.ReferencedGroupInfo?.GroupId;
      const ports = rule.IpProtocol === '-1' ? 'ALL' : `${rule.IpProtocol.toUpperCase()}, from port: ${rule.FromPort}, to port: ${rule.ToPort}`;
      throw new AwsError('InvalidPermission.Duplicate', `the specified rule "peer: ${peer}, ${ports}, ALLOW" already exists`);
    }
    existing.add(key);
    const id = ec2Id('sgr');
    added.push(securityGroupRules.put(id, { ...rule, SecurityGroupRuleId: id }));
    putTags(call, id, tags);
  }
  if ([...existing].filter((k) => k.startsWith(`${egress} `)).length > mostRules)
    throw new AwsError('RulesPerSecurityGroupLimitExceeded', 'The maximum number of rules per security group has been reached.');
  return added;
}

interface RuleInput {
  GroupId?: string;
  GroupName?: string;
  IpPermissions?: IpPermission[];
  SecurityGroupRuleIds?: string[];
  IpProtocol?: string;
  FromPort?: number;
  ToPort?: number;
  CidrIp?: string;
}

function groupOf(call: CallContext, input: RuleInput): SecurityGroupRecord {
  return find(call.tables.securityGroups, names.securityGroup, input.GroupId);
}
/** The permissions of a request, also in the older flat form. */
const permissionsOf = (input: RuleInput): IpPermission[] =>
  input.IpPermissions?.length
    ? input.IpPermissions
    : input.IpProtocol
      ? [{ IpProtocol: input.IpProtocol, FromPort: input.FromPort, ToPort: input.ToPort, IpRanges: [{ CidrIp: input.CidrIp }] }]
      : [];

function authorize(call: CallContext, input: AuthorizeSecurityGroupIngressRequest, egress: boolean): AuthorizeSecurityGroupIngressResult {
  const list = permissionsOf(input);
  if (!list.length) throw new AwsError('MissingParameter', "Either 'ipPermissions' or 'securityGroupRuleIds' should be provided.");
  const added = addRules(call, groupOf(call, input), list, egress, specifiedTags(input.TagSpecifications, 'security-group-rule'));
  return { Return: true, SecurityGroupRules: added.map((r) => viewRule(call, r)) };
}

function revoke(call: CallContext, input: RuleInput, egress: boolean): RevokeSecurityGroupIngressResult {
  const group = groupOf(call, input);
  for (const id of input.SecurityGroupRuleIds ?? []) {
    const rule = find(call.tables.securityGroupRules, names.securityGroupRule, id);
    if (rule.GroupId !== group.GroupId || rule.IsEgress !== egress)
      throw new AwsError('InvalidSecurityGroupRuleId.NotFound', `The security group rule ID '${id}' does not exist`);
    dropRule(call, id);
  }
  const wanted = rulesOf(call, group, permissionsOf(input), egress).map(keyOf);
  for (const key of wanted) {
    const rule = call.tables.securityGroupRules.by('group', group.GroupId).find((r) => keyOf(r) === key);
    if (!rule) throw new AwsError('InvalidPermission.NotFound', 'The specified rule does not exist in this security group.');
    dropRule(call, rule.SecurityGroupRuleId);
  }
  return { Return: true };
}

export const securityGroupOperations = {
  CreateSecurityGroup(input: CreateSecurityGroupRequest, call: CallContext): CreateSecurityGroupResult {
    const vpc = find(call.tables.vpcs, names.vpc, input.VpcId);
    const name = input.GroupName ?? '';
    if (!name || name.length > 255) throw invalidParameter(`Invalid security group name '${name}'`);
    if (/^sg-/.test(name)) throw invalidParameter('Group names may not be in the format sg-*');
    if (call.tables.securityGroups.by('vpc', vpc.VpcId).some((g) => g.GroupName === name))
      throw new AwsError('InvalidGroup.Duplicate', `The security group '${name}' already exists for VPC '${vpc.VpcId}'`);
    const tags = specifiedTags(input.TagSpecifications, 'security-group');
    const group = createGroup(call, vpc, name, input.Description ?? '');
    putTags(call, group.GroupId, tags);
    return { GroupId: group.GroupId, SecurityGroupArn: group.SecurityGroupArn, Tags: tagsOf(call, group.GroupId) };
  },

  DeleteSecurityGroup(input: DeleteSecurityGroupRequest, call: CallContext) {
    const group = find(call.tables.securityGroups, names.securityGroup, input.GroupId);
    if (group.GroupName === 'default')
      throw new AwsError('CannotDelete', `the specified group: "${group.GroupId}" name: "default" cannot be deleted by a user`);
    const referenced = call.tables.securityGroupRules.by('reference', group.GroupId).some((r) => r.GroupId !== group.GroupId);
    if (referenced || call.tables.networkInterfaces.hasKey('group', group.GroupId))
      throw new AwsError('DependencyViolation', `resource ${group.GroupId} has a dependent object`);
    dropGroup(call, group.GroupId);
    return { Return: true, GroupId: group.GroupId };
  },

  DescribeSecurityGroups(input: DescribeSecurityGroupsRequest, call: CallContext): DescribeSecurityGroupsResult {
    const ids = input.GroupIds;
    const page = describe(
      call.tables.securityGroups,
      names.securityGroup,
      (r) => viewGroup(call, r),
      (g) => g.GroupId,
      filters,
      ids,
      input,
    );
    const named = input.GroupNames?.length ? page.items.filter((g) => input.GroupNames?.includes(g.GroupName ?? '')) : page.items;
    return { SecurityGroups: named, NextToken: page.NextToken };
  },

  DescribeSecurityGroupRules(input: DescribeSecurityGroupRulesRequest, call: CallContext): DescribeSecurityGroupRulesResult {
    const kind: IdNames = names.securityGroupRule;
    const page = describe(
      call.tables.securityGroupRules,
      kind,
      (r) => viewRule(call, r),
      (r) => r.SecurityGroupRuleId,
      ruleFilters,
      input.SecurityGroupRuleIds,
      input,
    );
    return { SecurityGroupRules: page.items, NextToken: page.NextToken };
  },

  AuthorizeSecurityGroupIngress: (input: AuthorizeSecurityGroupIngressRequest, call: CallContext) => authorize(call, input, false),
  AuthorizeSecurityGroupEgress: (input: AuthorizeSecurityGroupEgressRequest, call: CallContext) => authorize(call, input, true),
  RevokeSecurityGroupIngress: (input: RevokeSecurityGroupIngressRequest, call: CallContext) => revoke(call, input, false),
  RevokeSecurityGroupEgress: (input: RevokeSecurityGroupEgressRequest, call: CallContext) => revoke(call, input, true),
} satisfies Operations;
