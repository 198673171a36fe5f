import type {
  AssociateIamInstanceProfileRequest,
  AssociateIamInstanceProfileResult,
  DescribeIamInstanceProfileAssociationsRequest,
  DescribeIamInstanceProfileAssociationsResult,
  DescribeInstanceAttributeRequest,
  DescribeInstanceCreditSpecificationsRequest,
  DescribeInstanceCreditSpecificationsResult,
  DisassociateIamInstanceProfileRequest,
  DisassociateIamInstanceProfileResult,
  IamInstanceProfileAssociation,
  IamInstanceProfileSpecification,
  InstanceAttribute,
  ModifyInstanceAttributeRequest,
  ModifyInstanceMetadataOptionsRequest,
  ModifyInstanceMetadataOptionsResult,
  ReplaceIamInstanceProfileAssociationRequest,
  ReplaceIamInstanceProfileAssociationResult,
} from '@aws-sdk/client-ec2';
import type { CallContext, Cloud, Operations } from '../cloud.ts';
import { AwsError, invalidParameter } from '../errors.ts';
import { ec2Id } from '../ids.ts';
import type { InstanceRecord, NetworkInterfaceRecord } from '../state/records.ts';
import { filterBy, find, paginate } from './describe.ts';
import { findInstanceType } from './instance-types.ts';
import { viewInstance } from './instance-view.ts';
import { names } from './names.ts';
import { groupsOf } from './network-interfaces.ts';
import { checkUserData, findProfile } from './run-instances.ts';

function primary(call: CallContext, record: InstanceRecord): NetworkInterfaceRecord {
  const found = call.tables.networkInterfaces.by('instance', record.instance.InstanceId).find((one) => one.Attachment?.DeviceIndex === 0);
  if (!found) throw new AwsError('IncorrectInstanceState', `The instance '${record.instance.InstanceId}' has no network interface`);
  return found;
}

function mustBeStopped(record: InstanceRecord): void {
  if (record.instance.State.Name !== 'stopped')
    throw new AwsError('IncorrectInstanceState', `The instance '${record.instance.InstanceId}' is not in the 'stopped' state.`);
}

function associationOf(cloud: Cloud, record: InstanceRecord): IamInstanceProfileAssociation | undefined {
  const profile = cloud.tables.instanceProfiles.get(record.instanceProfileName);
  if (!profile || !record.instanceProfileAssociationId) return undefined;
  return {
    AssociationId: record.instanceProfileAssociationId,
    InstanceId: record.instance.InstanceId,
    IamInstanceProfile: { Arn: profile.Arn, Id: profile.InstanceProfileId },
    State: 'associated',
  };
}

/** Gives an instance another profile, under a new association. */
function associate(
  call: CallContext,
  record: InstanceRecord,
  wanted: IamInstanceProfileSpecification | undefined,
): IamInstanceProfileAssociation | undefined {
  const changed = call.tables.instances.change(record.instance.InstanceId, {
    instanceProfileName: findProfile(call, wanted).InstanceProfileName,
    instanceProfileAssociationId: ec2Id('iip-assoc'),
  });
  return associationOf(call, changed);
}

function findAssociated(call: CallContext, associationId: string | undefined): InstanceRecord {
  const record = call.tables.instances.values().find((one) => one.instanceProfileAssociationId && one.instanceProfileAssociationId === associationId);
  if (!record) throw new AwsError('InvalidAssociationID.NotFound', `An invalid association-id of '${associationId ?? ''}' was given`);
  return record;
}

export const instanceAttributeOperations = {
  ModifyInstanceAttribute(input: ModifyInstanceAttributeRequest, call: CallContext) {
    const record = find(call.tables.instances, names.instance, input.InstanceId);
    const { instances, networkInterfaces } = call.tables;
    const id = record.instance.InstanceId;
    // Old clients name the attribute and its value apart.
    const named = (attribute: string) => (input.Attribute === attribute && input.Value !== undefined ? input.Value : undefined);
    const check = input.SourceDestCheck?.Value ?? (named('sourceDestCheck') === undefined ? undefined : named('sourceDestCheck') === 'true');
    if (check !== undefined) networkInterfaces.change(primary(call, record).NetworkInterfaceId, { SourceDestCheck: check });
    if (input.Groups) {
      const eni = primary(call, record);
      networkInterfaces.change(eni.NetworkInterfaceId, { Groups: groupsOf(call, eni.VpcId, input.Groups) });
    }
    if (input.DisableApiTermination?.Value !== undefined) instances.change(id, { terminationProtection: input.DisableApiTermination.Value });
    if (input.DisableApiStop?.Value !== undefined) instances.change(id, { stopProtection: input.DisableApiStop.Value });
    const behavior = input.InstanceInitiatedShutdownBehavior?.Value;
    if (behavior !== undefined) {
      if (behavior !== 'stop' && behavior !== 'terminate')
        throw invalidParameter(`Invalid value '${behavior}' for instanceInitiatedShutdownBehavior`);
      instances.change(id, { shutdownBehavior: behavior });
    }
    if (input.UserData?.Value !== undefined) {
      mustBeStopped(record);
      instances.change(id, { userData: checkUserData(Buffer.from(input.UserData.Value).toString('base64')) });
    }
    if (input.InstanceType?.Value !== undefined) {
      mustBeStopped(record);
      instances.change(id, { instance: { ...record.instance, InstanceType: findInstanceType(input.InstanceType.Value).InstanceType } });
    }
  },

  DescribeInstanceAttribute(input: DescribeInstanceAttributeRequest, call: CallContext): InstanceAttribute {
    const record = find(call.tables.instances, names.instance, input.InstanceId);
    const answer: InstanceAttribute = { InstanceId: record.instance.InstanceId };
    switch (input.Attribute) {
      case 'userData':
        return { ...answer, UserData: record.userData === undefined ? {} : { Value: record.userData } };
      case 'instanceType':
        return { ...answer, InstanceType: { Value: record.instance.InstanceType } };
      case 'sourceDestCheck':
        return { ...answer, SourceDestCheck: { Value: primary(call, record).SourceDestCheck ?? true } };
      case 'groupSet':
        return { ...answer, Groups: primary(call, record).Groups };
      case 'disableApiTermination':
        return { ...answer, DisableApiTermination: { Value: record.terminationProtection } };
      case 'disableApiStop':
        return { ...answer, DisableApiStop: { Value: record.stopProtection } };
      case 'instanceInitiatedShutdownBehavior':
        return { ...answer, InstanceInitiatedShutdownBehavior: { Value: record.shutdownBehavior } };
      case 'rootDeviceName':
        return { ...answer, RootDeviceName: { Value: record.instance.RootDeviceName ?? '' } };
      case 'blockDeviceMapping':
        return { ...answer, BlockDeviceMappings: viewInstance(call, record).BlockDeviceMappings };
      case 'productCodes':
        return { ...answer, ProductCodes: [] };
      case 'ebsOptimized':
        return { ...answer, EbsOptimized: { Value: record.instance.EbsOptimized ?? false } };
      case 'enaSupport':
        return { ...answer, EnaSupport: { Value: true } };
      default:
        throw invalidParameter(`Value (${input.Attribute ?? ''}) for parameter attribute is invalid. Unknown attribute.`);
    }
  },

  DescribeInstanceCreditSpecifications(
    input: DescribeInstanceCreditSpecificationsRequest,
    call: CallContext,
  ): DescribeInstanceCreditSpecificationsResult {
    const records = input.InstanceIds?.length
      ? input.InstanceIds.map((id) => find(call.tables.instances, names.instance, id))
      : call.tables.instances.values();
    // Nothing limits processors here, so what can burst does so without end.
    const bursting = records.filter((one) => findInstanceType(one.instance.InstanceType).BurstablePerformanceSupported);
    const page = paginate(bursting, (one) => one.instance.InstanceId, input);
    return {
      InstanceCreditSpecifications: page.items.map((one) => ({ InstanceId: one.instance.InstanceId, CpuCredits: 'unlimited' })),
      NextToken: page.NextToken,
    };
  },

  ModifyInstanceMetadataOptions(input: ModifyInstanceMetadataOptionsRequest, call: CallContext): ModifyInstanceMetadataOptionsResult {
    const record = find(call.tables.instances, names.instance, input.InstanceId);
    const { InstanceId: _i, DryRun: _d, ...wanted } = input;
    const given = Object.fromEntries(Object.entries(wanted).filter(([, value]) => value !== undefined));
    const options = { ...record.instance.MetadataOptions, ...given, State: 'applied' as const };
    call.tables.instances.change(record.instance.InstanceId, { instance: { ...record.instance, MetadataOptions: options } });
    return { InstanceId: record.instance.InstanceId, InstanceMetadataOptions: options };
  },

  AssociateIamInstanceProfile(input: AssociateIamInstanceProfileRequest, call: CallContext): AssociateIamInstanceProfileResult {
    const record = find(call.tables.instances, names.instance, input.InstanceId);
    if (record.instanceProfileName)
      throw new AwsError('IncorrectState', `There is an existing association for instance ${record.instance.InstanceId}`);
    const state = record.instance.State.Name;
    if (state === 'shutting-down' || state === 'terminated') {
      throw new AwsError('IncorrectInstanceState', `The instance '${record.instance.InstanceId}' is not in the 'running' or 'stopped' states.`);
    }
    return { IamInstanceProfileAssociation: associate(call, record, input.IamInstanceProfile) };
  },

  ReplaceIamInstanceProfileAssociation(
    input: ReplaceIamInstanceProfileAssociationRequest,
    call: CallContext,
  ): ReplaceIamInstanceProfileAssociationResult {
    return { IamInstanceProfileAssociation: associate(call, findAssociated(call, input.AssociationId), input.IamInstanceProfile) };
  },

  DisassociateIamInstanceProfile(input: DisassociateIamInstanceProfileRequest, call: CallContext): DisassociateIamInstanceProfileResult {
    const record = findAssociated(call, input.AssociationId);
    const shown = associationOf(call, record);
    const { instanceProfileName: _n, instanceProfileAssociationId: _a, ...rest } = record;
    call.tables.instances.put(record.instance.InstanceId, rest);
    return { IamInstanceProfileAssociation: { ...shown, State: 'disassociating' } };
  },

  DescribeIamInstanceProfileAssociations(
    input: DescribeIamInstanceProfileAssociationsRequest,
    call: CallContext,
  ): DescribeIamInstanceProfileAssociationsResult {
    const all = call.tables.instances.values().flatMap((record) => associationOf(call, record) ?? []);
    const filters = { 'instance-id': (a: IamInstanceProfileAssociation) => a.InstanceId, state: (a: IamInstanceProfileAssociation) => a.State };
    const found = all
      .filter((one) => !input.AssociationIds?.length || input.AssociationIds.includes(one.AssociationId ?? ''))
      .filter(filterBy<IamInstanceProfileAssociation & { Tags?: never }>(input.Filters, filters) as never);
    const page = paginate(found, (one) => one.AssociationId ?? '', input);
    return { IamInstanceProfileAssociations: page.items, NextToken: page.NextToken };
  },
} satisfies Operations;
