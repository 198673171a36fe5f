import type {
  AttachInternetGatewayRequest,
  CreateInternetGatewayRequest,
  CreateInternetGatewayResult,
  DeleteInternetGatewayRequest,
  DescribeInternetGatewaysRequest,
  DescribeInternetGatewaysResult,
  DetachInternetGatewayRequest,
  InternetGateway,
} from '@aws-sdk/client-ec2';
import type { CallContext, Cloud, Operations } from '../cloud.ts';
import { AwsError } from '../errors.ts';
import { ec2Id } from '../ids.ts';
import type { InternetGatewayRecord } from '../state/records.ts';
import { describe, find } from './describe.ts';
import { names } from './names.ts';
import { dropTags, putTags, specifiedTags, tagsOf } from './tags.ts';

export function viewInternetGateway(cloud: Cloud, record: InternetGatewayRecord): InternetGateway & { InternetGatewayId: string } {
  return { ...record, Tags: tagsOf(cloud, record.InternetGatewayId) };
}

const filters = {
  'internet-gateway-id': (g: InternetGateway) => g.InternetGatewayId,
  'attachment.vpc-id': (g: InternetGateway) => g.Attachments?.map((a) => a.VpcId),
  'attachment.state': (g: InternetGateway) => g.Attachments?.map((a) => a.State),
  'owner-id': (g: InternetGateway) => g.OwnerId,
};

export const internetGatewayOperations = {
  CreateInternetGateway(input: CreateInternetGatewayRequest, call: CallContext): CreateInternetGatewayResult {
    const id = ec2Id('igw');
    const record = call.tables.internetGateways.put(id, { InternetGatewayId: id, OwnerId: call.accountId, Attachments: [] });
    putTags(call, id, specifiedTags(input.TagSpecifications, 'internet-gateway'));
    return { InternetGateway: viewInternetGateway(call, record) };
  },

  DeleteInternetGateway(input: DeleteInternetGatewayRequest, call: CallContext) {
    const gateway = find(call.tables.internetGateways, names.internetGateway, input.InternetGatewayId);
    const id = gateway.InternetGatewayId;
    if (gateway.Attachments?.length) throw new AwsError('DependencyViolation', `The internetGateway '${id}' has dependencies and cannot be deleted.`);
    call.tables.internetGateways.delete(id);
    dropTags(call, id);
  },

  DescribeInternetGateways(input: DescribeInternetGatewaysRequest, call: CallContext): DescribeInternetGatewaysResult {
    const page = describe(
      call.tables.internetGateways,
      names.internetGateway,
      (r) => viewInternetGateway(call, r),
      (g) => g.InternetGatewayId,
      filters,
      input.InternetGatewayIds,
      input,
    );
    return { InternetGateways: page.items, NextToken: page.NextToken };
  },

  AttachInternetGateway(input: AttachInternetGatewayRequest, call: CallContext) {
    const gateway = find(call.tables.internetGateways, names.internetGateway, input.InternetGatewayId);
    const vpc = find(call.tables.vpcs, names.vpc, input.VpcId);
    const id = gateway.InternetGatewayId;
    if (gateway.Attachments?.length)
      throw new AwsError('Resource.AlreadyAssociated', `resource ${id} is already attached to network ${gateway.Attachments[0]?.VpcId}`);
    if (call.tables.internetGateways.hasKey('vpc', vpc.VpcId))
      throw new AwsError('InvalidParameterValue', `Network ${vpc.VpcId} already has an internet gateway attached`);
    call.tables.internetGateways.change(id, { Attachments: [{ VpcId: vpc.VpcId, State: 'available' as never }] });
  },

  DetachInternetGateway(input: DetachInternetGatewayRequest, call: CallContext) {
    const gateway = find(call.tables.internetGateways, names.internetGateway, input.InternetGatewayId);
    const vpc = find(call.tables.vpcs, names.vpc, input.VpcId);
    if (!gateway.Attachments?.some((a) => a.VpcId === vpc.VpcId))
      throw new AwsError('Gateway.NotAttached', `resource ${gateway.InternetGatewayId} is not attached to network ${vpc.VpcId}`);
    if (call.tables.networkInterfaces.by('vpc', vpc.VpcId).some((e) => e.publicIp || e.Association?.PublicIp)) {
      throw new AwsError(
        'DependencyViolation',
        `Network ${vpc.VpcId} has some mapped public address(es). Please unmap those public address(es) before detaching the gateway.`,
      );
    }
    call.tables.internetGateways.change(gateway.InternetGatewayId, { Attachments: [] });
  },
} satisfies Operations;
