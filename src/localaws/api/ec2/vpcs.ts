import type {
  CreateVpcRequest,
  CreateVpcResult,
  DeleteVpcRequest,
  DescribeNetworkAclsRequest,
  DescribeNetworkAclsResult,
  DescribeVpcAttributeRequest,
  DescribeVpcAttributeResult,
  DescribeVpcsRequest,
  DescribeVpcsResult,
  ModifyVpcAttributeRequest,
  NetworkAcl,
  Vpc,
} from '@aws-sdk/client-ec2';
import type { CallContext, Cloud, Operations } from '../cloud.ts';
import { AwsError, invalidParameter } from '../errors.ts';
import { ec2Id } from '../ids.ts';
import type { VpcRecord } from '../state/records.ts';
import { block, rangeText } from './addresses.ts';
import { describe, filterBy, find, paginate } from './describe.ts';
import { names } from './names.ts';
import { createRouteTable, dropRouteTable } from './route-tables.ts';
import { createGroup, dropGroup } from './security-groups.ts';
import { dropTags, putTags, specifiedTags, tagsOf } from './tags.ts';

const dhcpOptionsId = 'dopt-00000000000000001';

export function viewVpc(cloud: Cloud, record: VpcRecord): Vpc & { VpcId: string } {
  return { ...record, Tags: tagsOf(cloud, record.VpcId) };
}

const filters = {
  'vpc-id': (vpc: Vpc) => vpc.VpcId,
  cidr: (vpc: Vpc) => vpc.CidrBlock,
  'cidr-block': (vpc: Vpc) => vpc.CidrBlock,
  'cidr-block-association.cidr-block': (vpc: Vpc) => vpc.CidrBlockAssociationSet?.map((association) => association.CidrBlock),
  'dhcp-options-id': (vpc: Vpc) => vpc.DhcpOptionsId,
  'is-default': (vpc: Vpc) => vpc.IsDefault,
  'owner-id': (vpc: Vpc) => vpc.OwnerId,
  state: (vpc: Vpc) => vpc.State,
};

/** Why a VPC cannot be deleted yet, if so. */
function dependencies(call: CallContext, vpcId: string): boolean {
  const { subnets, networkInterfaces, internetGateways, routeTables, securityGroups } = call.tables;
  return (
    subnets.hasKey('vpc', vpcId) ||
    networkInterfaces.hasKey('vpc', vpcId) ||
    internetGateways.hasKey('vpc', vpcId) ||
    routeTables.by('vpc', vpcId).some((table) => !table.Associations.some((association) => association.Main)) ||
    securityGroups.by('vpc', vpcId).some((group) => group.GroupName !== 'default')
  );
}

/** Every VPC has one network ACL, which lets everything pass; others cannot be made. */
function defaultAcl(cloud: Cloud, vpc: VpcRecord): NetworkAcl {
  const id = vpc.VpcId.replace('vpc-', 'acl-');
  const entry = (egress: boolean, number: number, action: 'allow' | 'deny') => ({
    CidrBlock: '0.0.0.0/0',
    Egress: egress,
    Protocol: '-1',
    RuleAction: action,
    RuleNumber: number,
  });
  return {
    NetworkAclId: id,
    VpcId: vpc.VpcId,
    OwnerId: cloud.accountId,
    IsDefault: true,
    Entries: [entry(true, 100, 'allow'), entry(true, 32767, 'deny'), entry(false, 100, 'allow'), entry(false, 32767, 'deny')],
    Associations: cloud.tables.subnets.by('vpc', vpc.VpcId).map((subnet) => ({
      NetworkAclAssociationId: subnet.SubnetId.replace('subnet-', 'aclassoc-'),
      NetworkAclId: id,
      SubnetId: subnet.SubnetId,
    })),
    Tags: [],
  };
}

const aclFilters = {
  'network-acl-id': (acl: NetworkAcl) => acl.NetworkAclId,
  'vpc-id': (acl: NetworkAcl) => acl.VpcId,
  default: (acl: NetworkAcl) => acl.IsDefault,
  'association.subnet-id': (acl: NetworkAcl) => acl.Associations?.map((association) => association.SubnetId),
  'owner-id': (acl: NetworkAcl) => acl.OwnerId,
};

export const vpcOperations = {
  CreateVpc(input: CreateVpcRequest, call: CallContext): CreateVpcResult {
    if (!input.CidrBlock) throw new AwsError('MissingParameter', 'The request must contain the parameter CidrBlock');
    if (input.InstanceTenancy && input.InstanceTenancy !== 'default') throw invalidParameter('The embedded AWS has default tenancy only');
    const range = block(input.CidrBlock, 'InvalidVpc.Range', 'VPC');
    const tags = specifiedTags(input.TagSpecifications, 'vpc');
    const vpcId = ec2Id('vpc');
    const cidr = rangeText(range);
    const record = call.tables.vpcs.put(vpcId, {
      VpcId: vpcId,
      CidrBlock: cidr,
      CidrBlockAssociationSet: [{ AssociationId: ec2Id('vpc-cidr-assoc'), CidrBlock: cidr, CidrBlockState: { State: 'associated' } }],
      Ipv6CidrBlockAssociationSet: [],
      DhcpOptionsId: dhcpOptionsId,
      InstanceTenancy: 'default',
      IsDefault: false,
      OwnerId: call.accountId,
      State: 'available',
      dnsSupport: true,
      dnsHostnames: false,
    });
    putTags(call, vpcId, tags);
    createRouteTable(call, record, true);
    createGroup(call, record, 'default', 'default VPC security group');
    return { Vpc: { ...viewVpc(call, record), State: 'pending' } };
  },

  DeleteVpc(input: DeleteVpcRequest, call: CallContext) {
    const { VpcId: vpcId } = find(call.tables.vpcs, names.vpc, input.VpcId);
    if (dependencies(call, vpcId)) throw new AwsError('DependencyViolation', `The vpc '${vpcId}' has dependencies and cannot be deleted.`);
    for (const table of call.tables.routeTables.by('vpc', vpcId)) dropRouteTable(call, table.RouteTableId);
    for (const group of call.tables.securityGroups.by('vpc', vpcId)) dropGroup(call, group.GroupId);
    call.tables.vpcs.delete(vpcId);
    dropTags(call, vpcId);
  },

  DescribeVpcs(input: DescribeVpcsRequest, call: CallContext): DescribeVpcsResult {
    const page = describe(
      call.tables.vpcs,
      names.vpc,
      (record) => viewVpc(call, record),
      (vpc) => vpc.VpcId,
      filters,
      input.VpcIds,
      input,
    );
    return { Vpcs: page.items, NextToken: page.NextToken };
  },

  ModifyVpcAttribute(input: ModifyVpcAttributeRequest, call: CallContext) {
    const { VpcId: vpcId } = find(call.tables.vpcs, names.vpc, input.VpcId);
    if (input.EnableDnsSupport?.Value !== undefined) call.tables.vpcs.change(vpcId, { dnsSupport: input.EnableDnsSupport.Value });
    if (input.EnableDnsHostnames?.Value !== undefined) call.tables.vpcs.change(vpcId, { dnsHostnames: input.EnableDnsHostnames.Value });
  },

  DescribeVpcAttribute(input: DescribeVpcAttributeRequest, call: CallContext): DescribeVpcAttributeResult {
    const vpc = find(call.tables.vpcs, names.vpc, input.VpcId);
    switch (input.Attribute) {
      case 'enableDnsSupport':
        return { VpcId: vpc.VpcId, EnableDnsSupport: { Value: vpc.dnsSupport } };
      case 'enableDnsHostnames':
        return { VpcId: vpc.VpcId, EnableDnsHostnames: { Value: vpc.dnsHostnames } };
      case 'enableNetworkAddressUsageMetrics':
        return { VpcId: vpc.VpcId, EnableNetworkAddressUsageMetrics: { Value: false } };
      default:
        throw invalidParameter(`Value (${input.Attribute}) for parameter attribute is invalid. Unknown attribute.`);
    }
  },

  DescribeNetworkAcls(input: DescribeNetworkAclsRequest, call: CallContext): DescribeNetworkAclsResult {
    const all = call.tables.vpcs.values().map((vpc) => defaultAcl(call, vpc));
    for (const id of input.NetworkAclIds ?? []) {
      if (!all.some((acl) => acl.NetworkAclId === id)) {
        throw new AwsError('InvalidNetworkAclID.NotFound', `The networkAcl ID '${id}' does not exist`);
      }
    }
    const wanted = all.filter((acl) => !input.NetworkAclIds?.length || input.NetworkAclIds.includes(acl.NetworkAclId!));
    const page = paginate(wanted.filter(filterBy(input.Filters, aclFilters)), (acl) => acl.NetworkAclId!, input);
    return { NetworkAcls: page.items, NextToken: page.NextToken };
  },
} satisfies Operations;
