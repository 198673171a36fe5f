import type {
  _InstanceType,
  AttachmentStatus,
  BlockDeviceMapping,
  DescribeInstanceStatusRequest,
  DescribeInstanceStatusResult,
  DescribeInstancesRequest,
  DescribeInstancesResult,
  GetConsoleOutputRequest,
  GetConsoleOutputResult,
  Instance,
  InstanceNetworkInterfaceSpecification,
  InstanceStateChange,
  RebootInstancesRequest,
  Reservation,
  RunInstancesRequest,
  StartInstancesRequest,
  StartInstancesResult,
  StopInstancesRequest,
  StopInstancesResult,
  TerminateInstancesRequest,
  TerminateInstancesResult,
} from '@aws-sdk/client-ec2';
import { type CallContext, type Cloud, now, type Operations } from '../cloud.ts';
import { AwsError, invalidParameter } from '../errors.ts';
import { ec2Id } from '../ids.ts';
import type { InstanceRecord, SubnetRecord } from '../state/records.ts';
import { describe, find, paginate } from './describe.ts';
import { findImage } from './images.ts';
import { setState, stateOf, userShutdown } from './instance-states.ts';
import { findInstanceType } from './instance-types.ts';
import { launchData } from './launch-templates.ts';
import { names } from './names.ts';
import { association, attach, createInterface } from './network-interfaces.ts';
import { putTags, specifiedTags, tagsOf } from './tags.ts';
import { createVolume } from './volumes.ts';

/** Bytes of user data, decoded. */
const largestUserData = 16 * 1024;
const mostInstances = 500;

/** An instance as it is described: with its interfaces, groups, volumes and tags. */
export function viewInstance(cloud: Cloud, record: InstanceRecord): Instance & { InstanceId: string } {
  const { instance } = record;
  const interfaces = cloud.tables.networkInterfaces
    .by('instance', instance.InstanceId)
    .sort((a, b) => (a.Attachment?.DeviceIndex ?? 0) - (b.Attachment?.DeviceIndex ?? 0));
  const primary = interfaces[0];
  const dns = cloud.tables.vpcs.get(instance.VpcId);
  const known = primary && association(cloud, primary);
  const profile = cloud.tables.instanceProfiles.get(record.instanceProfileName);
  const volumes = cloud.tables.volumes.by('instance', instance.InstanceId);
  return {
    ...instance,
    ...(primary
      ? {
          PrivateIpAddress: primary.PrivateIpAddress,
          PrivateDnsName: primary.PrivateDnsName ?? '',
          SourceDestCheck: primary.SourceDestCheck ?? true,
          SecurityGroups: primary.Groups,
          ...(known ? { PublicIpAddress: known.PublicIp, PublicDnsName: dns?.dnsHostnames ? known.PublicDnsName : '' } : { PublicDnsName: '' }),
        }
      : { PrivateDnsName: '', PublicDnsName: '', SecurityGroups: [] }),
    NetworkInterfaces: interfaces.map((eni) => ({
      NetworkInterfaceId: eni.NetworkInterfaceId,
      SubnetId: eni.SubnetId,
      VpcId: eni.VpcId,
      Description: eni.Description,
      OwnerId: eni.OwnerId,
      Status: eni.Status,
      MacAddress: eni.MacAddress,
      PrivateIpAddress: eni.PrivateIpAddress,
      PrivateDnsName: eni.PrivateDnsName,
      SourceDestCheck: eni.SourceDestCheck ?? true,
      Groups: eni.Groups,
      InterfaceType: eni.InterfaceType,
      Ipv6Addresses: [],
      PrivateIpAddresses: eni.PrivateIpAddresses.map(({ PrivateIpAddress, Primary, PrivateDnsName }) => ({
        PrivateIpAddress,
        Primary,
        PrivateDnsName,
      })),
      ...(association(cloud, eni) ? { Association: association(cloud, eni) } : {}),
      Attachment: {
        AttachmentId: eni.Attachment?.AttachmentId,
        AttachTime: eni.Attachment?.AttachTime,
        DeleteOnTermination: eni.Attachment?.DeleteOnTermination,
        DeviceIndex: eni.Attachment?.DeviceIndex,
        NetworkCardIndex: 0,
        Status: eni.Attachment?.Status,
      },
    })),
    BlockDeviceMappings: volumes.flatMap((volume) =>
      volume.Attachments.filter((one) => one.InstanceId === instance.InstanceId).map((one) => ({
        DeviceName: one.Device,
        Ebs: {
          VolumeId: volume.VolumeId,
          Status: one.State as AttachmentStatus,
          AttachTime: one.AttachTime,
          DeleteOnTermination: one.DeleteOnTermination ?? false,
        },
      })),
    ),
    ...(profile && record.instance.State.Name !== 'terminated' ? { IamInstanceProfile: { Arn: profile.Arn, Id: profile.InstanceProfileId } } : {}),
    Tags: tagsOf(cloud, instance.InstanceId),
  };
}

const filters = {
  'instance-id': (i: Instance) => i.InstanceId,
  'instance-state-name': (i: Instance) => i.State?.Name,
  'instance-state-code': (i: Instance) => String(i.State?.Code),
  'instance-type': (i: Instance) => i.InstanceType,
  'image-id': (i: Instance) => i.ImageId,
  'vpc-id': (i: Instance) => i.VpcId,
  'subnet-id': (i: Instance) => i.SubnetId,
  'availability-zone': (i: Instance) => i.Placement?.AvailabilityZone,
  'private-dns-name': (i: Instance) => i.PrivateDnsName,
  'private-ip-address': (i: Instance) => i.PrivateIpAddress,
  'ip-address': (i: Instance) => i.PublicIpAddress,
  'dns-name': (i: Instance) => i.PublicDnsName,
  'key-name': (i: Instance) => i.KeyName,
  'client-token': (i: Instance) => i.ClientToken,
  'instance.group-id': (i: Instance) => i.SecurityGroups?.map((g) => g.GroupId),
  'instance.group-name': (i: Instance) => i.SecurityGroups?.map((g) => g.GroupName),
  'iam-instance-profile.arn': (i: Instance) => i.IamInstanceProfile?.Arn,
  'iam-instance-profile.id': (i: Instance) => i.IamInstanceProfile?.Id,
  'network-interface.network-interface-id': (i: Instance) => i.NetworkInterfaces?.map((n) => n.NetworkInterfaceId),
  'network-interface.private-dns-name': (i: Instance) => i.NetworkInterfaces?.map((n) => n.PrivateDnsName),
  'network-interface.addresses.private-ip-address': (i: Instance) =>
    i.NetworkInterfaces?.flatMap((n) => n.PrivateIpAddresses?.map((a) => a.PrivateIpAddress)),
  'block-device-mapping.volume-id': (i: Instance) => i.BlockDeviceMappings?.map((b) => b.Ebs?.VolumeId),
  'block-device-mapping.device-name': (i: Instance) => i.BlockDeviceMappings?.map((b) => b.DeviceName),
  'source-dest-check': (i: Instance) => String(i.SourceDestCheck ?? true),
  architecture: (i: Instance) => i.Architecture,
  'root-device-name': (i: Instance) => i.RootDeviceName,
  'owner-id': () => undefined,
  'reservation-id': (i: Instance & { reservationId?: string }) => i.reservationId,
};

/** Where the first interface of new instances is, and what it is like. */
function placement(call: CallContext, input: RunInstancesRequest): { subnet: SubnetRecord; spec: InstanceNetworkInterfaceSpecification | undefined } {
  const spec = input.NetworkInterfaces?.find((one) => (one.DeviceIndex ?? 0) === 0);
  if (input.NetworkInterfaces?.length && (input.SubnetId || input.SecurityGroupIds?.length)) {
    throw new AwsError(
      'InvalidParameterCombination',
      'Network interfaces and an instance-level subnet ID or security groups may not be specified on the same request',
    );
  }
  if (spec?.NetworkInterfaceId) {
    const eni = find(call.tables.networkInterfaces, names.networkInterface, spec.NetworkInterfaceId);
    return { subnet: find(call.tables.subnets, names.subnet, eni.SubnetId), spec };
  }
  const subnetId = spec?.SubnetId ?? input.SubnetId;
  if (subnetId) return { subnet: find(call.tables.subnets, names.subnet, subnetId), spec };
  const defaults = new Set(
    call.tables.vpcs
      .values()
      .filter((one) => one.IsDefault)
      .map((one) => one.VpcId),
  );
  const wanted = input.Placement?.AvailabilityZone;
  const subnet = call.tables.subnets.values().find((one) => defaults.has(one.VpcId) && (!wanted || one.AvailabilityZone === wanted));
  if (!subnet) throw new AwsError('MissingInput', 'No subnets found for the default VPC. Please specify a subnet.');
  return { subnet, spec };
}

function profileName(call: CallContext, input: RunInstancesRequest): string | undefined {
  const { Name, Arn } = input.IamInstanceProfile ?? {};
  const name = Name ?? Arn?.slice(Arn.lastIndexOf('/') + 1);
  if (name === undefined) return undefined;
  const profile = call.tables.instanceProfiles.get(name);
  if (!profile)
    throw invalidParameter(
      `Value (${Name ?? Arn}) for parameter iamInstanceProfile.${Name ? 'name' : 'arn'} is invalid. Invalid IAM Instance Profile ${Name ? 'name' : 'ARN'}`,
    );
  return name;
}

function checkUserData(text: string | undefined): string | undefined {
  if (text === undefined || text === '') return undefined;
  if (!/^[A-Za-z0-9+/\s]*={0,2}\s*$/.test(text)) throw invalidParameter('Invalid BASE64 encoding of user data.');
  if (Buffer.from(text, 'base64').length > largestUserData) throw invalidParameter('User data is limited to 16384 bytes');
  return text;
}

function runOne(
  call: CallContext,
  input: RunInstancesRequest,
  shared: {
    reservationId: string;
    subnet: SubnetRecord;
    spec: InstanceNetworkInterfaceSpecification | undefined;
    profile: string | undefined;
    index: number;
  },
): InstanceRecord {
  const image = findImage(call, input.ImageId);
  const instanceId = ec2Id('i');
  const { subnet, spec } = shared;
  const time = now(call);
  const metadata = input.MetadataOptions;
  const type = findInstanceType(input.InstanceType ?? 'm5.large');
  const record = call.tables.instances.put(instanceId, {
    reservationId: shared.reservationId,
    ...(checkUserData(input.UserData) ? { userData: input.UserData as string } : {}),
    ...(shared.profile ? { instanceProfileName: shared.profile, instanceProfileAssociationId: ec2Id('iip-assoc') } : {}),
    terminationProtection: input.DisableApiTermination ?? false,
    stopProtection: input.DisableApiStop ?? false,
    shutdownBehavior: input.InstanceInitiatedShutdownBehavior ?? 'stop',
    reboots: 0,
    instance: {
      InstanceId: instanceId,
      ImageId: image.ImageId,
      InstanceType: type.InstanceType as _InstanceType,
      State: stateOf('pending'),
      StateTransitionReason: '',
      LaunchTime: time,
      SubnetId: subnet.SubnetId,
      VpcId: subnet.VpcId,
      AmiLaunchIndex: shared.index,
      Architecture: image.Architecture,
      ClientToken: input.ClientToken ?? '',
      EbsOptimized: input.EbsOptimized ?? false,
      EnaSupport: true,
      Hypervisor: 'xen',
      VirtualizationType: 'hvm',
      RootDeviceName: image.RootDeviceName,
      RootDeviceType: 'ebs',
      PlatformDetails: 'Linux/UNIX',
      UsageOperation: 'RunInstances',
      UsageOperationUpdateTime: time,
      ...(input.KeyName ? { KeyName: input.KeyName } : {}),
      Monitoring: { State: input.Monitoring?.Enabled ? 'enabled' : 'disabled' },
      Placement: { AvailabilityZone: subnet.AvailabilityZone, GroupName: '', Tenancy: 'default' },
      ProductCodes: [],
      CpuOptions: { CoreCount: type.VCpuInfo?.DefaultCores, ThreadsPerCore: type.VCpuInfo?.DefaultThreadsPerCore },
      CapacityReservationSpecification: { CapacityReservationPreference: 'open' },
      HibernationOptions: { Configured: false },
      EnclaveOptions: { Enabled: false },
      MaintenanceOptions: { AutoRecovery: 'default' },
      PrivateDnsNameOptions: subnet.PrivateDnsNameOptionsOnLaunch,
      MetadataOptions: {
        State: 'applied',
        HttpTokens: metadata?.HttpTokens ?? 'required',
        HttpPutResponseHopLimit: metadata?.HttpPutResponseHopLimit ?? 2,
        HttpEndpoint: metadata?.HttpEndpoint ?? 'enabled',
        HttpProtocolIpv6: 'disabled',
        InstanceMetadataTags: metadata?.InstanceMetadataTags ?? 'disabled',
      },
    },
  });
  if (spec?.NetworkInterfaceId) {
    const eni = find(call.tables.networkInterfaces, names.networkInterface, spec.NetworkInterfaceId);
    if (eni.Attachment) throw new AwsError('InvalidNetworkInterface.InUse', `Interface: [${eni.NetworkInterfaceId}] in use.`);
    attach(call, eni, instanceId, 0, spec.DeleteOnTermination ?? false);
  } else {
    const eni = createInterface(call, {
      subnet,
      groups: spec ? spec.Groups : input.SecurityGroupIds,
      address: spec?.PrivateIpAddress ?? input.PrivateIpAddress,
      secondary: spec?.SecondaryPrivateIpAddressCount,
      description: spec?.Description,
      publicIp: spec?.AssociatePublicIpAddress ?? subnet.MapPublicIpOnLaunch ?? false,
    });
    attach(call, eni, instanceId, 0, spec?.DeleteOnTermination ?? true);
    putTags(call, eni.NetworkInterfaceId, specifiedTags(input.TagSpecifications, 'network-interface', taggable));
  }
  for (const mapping of input.BlockDeviceMappings ?? []) attachNew(call, mapping, instanceId, subnet.AvailabilityZone, image.RootDeviceName, input);
  putTags(call, instanceId, specifiedTags(input.TagSpecifications, 'instance', taggable));
  return record;
}

const taggable = ['instance', 'volume', 'network-interface', 'spot-instances-request'];

/** A volume that is made with its instance. The root device is the instance's overlay and needs none. */
function attachNew(
  call: CallContext,
  mapping: BlockDeviceMapping,
  instanceId: string,
  zone: string,
  root: string | undefined,
  input: RunInstancesRequest,
): void {
  if (mapping.NoDevice !== undefined || !mapping.Ebs || mapping.DeviceName === root) return;
  const volume = createVolume(call, {
    Size: mapping.Ebs.VolumeSize,
    VolumeType: mapping.Ebs.VolumeType,
    Iops: mapping.Ebs.Iops,
    Throughput: mapping.Ebs.Throughput,
    Encrypted: mapping.Ebs.Encrypted,
    SnapshotId: mapping.Ebs.SnapshotId,
    AvailabilityZone: zone,
  });
  call.tables.volumes.change(volume.VolumeId, {
    State: 'in-use',
    Attachments: [
      {
        VolumeId: volume.VolumeId,
        InstanceId: instanceId,
        Device: mapping.DeviceName ?? '/dev/sdb',
        State: 'attaching',
        AttachTime: now(call),
        DeleteOnTermination: mapping.Ebs.DeleteOnTermination ?? true,
      },
    ],
  });
  putTags(call, volume.VolumeId, specifiedTags(input.TagSpecifications, 'volume', taggable));
}

const changed = (before: InstanceRecord, after: InstanceRecord): InstanceStateChange => ({
  InstanceId: before.instance.InstanceId,
  PreviousState: before.instance.State,
  CurrentState: after.instance.State,
});

function each(call: CallContext, ids: string[] | undefined, change: (record: InstanceRecord) => InstanceRecord): InstanceStateChange[] {
  if (!ids?.length) throw new AwsError('MissingParameter', 'The request must contain the parameter InstanceId');
  const records = [...new Set(ids)].map((id) => find(call.tables.instances, names.instance, id));
  return records.map((record) => changed(record, change(record)));
}

const incorrectState = (record: InstanceRecord, verb: string) =>
  new AwsError('IncorrectInstanceState', `The instance '${record.instance.InstanceId}' is not in a state from which it can be ${verb}.`);

export const instanceOperations = {
  RunInstances(given: RunInstancesRequest, call: CallContext): Reservation {
    const template = launchData(call, given.LaunchTemplate);
    const input = { ...template, ...Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)) } as RunInstancesRequest;
    if (template?.TagSpecifications && given.TagSpecifications)
      input.TagSpecifications = [...(template.TagSpecifications as never[]), ...given.TagSpecifications];
    const { MinCount: least = 0, MaxCount: most = 0 } = input;
    if (least < 1 || most < least)
      throw invalidParameter(`Value (${least}) for parameter minCount is invalid. It must be at least 1 and at most maxCount.`);
    if (least > mostInstances)
      throw new AwsError(
        'InstanceLimitExceeded',
        `You have requested more instances (${least}) than your current instance limit of ${mostInstances} allows.`,
      );
    if (input.InstanceType && !hasType(input.InstanceType)) {
      throw invalidParameter(`Invalid value '${input.InstanceType}' for InstanceType.`);
    }
    findImage(call, input.ImageId);
    const { subnet, spec } = placement(call, input);
    const zone = input.Placement?.AvailabilityZone;
    if (zone && zone !== subnet.AvailabilityZone)
      throw invalidParameter(`The availability zone '${zone}' does not match that of subnet '${subnet.SubnetId}'`);
    if (input.KeyName && !call.tables.keyPairs.has(input.KeyName))
      throw new AwsError('InvalidKeyPair.NotFound', `The key pair '${input.KeyName}' does not exist`);
    const profile = profileName(call, input);
    const reservationId = ec2Id('r');
    const started: InstanceRecord[] = [];
    for (let index = 0; index < Math.min(most, mostInstances); index++) {
      try {
        started.push(runOne(call, input, { reservationId, subnet, spec, profile, index }));
      } catch (error) {
        // Between the least and the most wanted, as many as there is room for.
        if (index < least || (error as AwsError).code !== 'InsufficientFreeAddressesInSubnet') throw error;
        break;
      }
    }
    return { ReservationId: reservationId, OwnerId: call.accountId, Groups: [], Instances: started.map((record) => viewInstance(call, record)) };
  },

  DescribeInstances(input: DescribeInstancesRequest, call: CallContext): DescribeInstancesResult {
    const { instances } = call.tables;
    const view = (record: InstanceRecord) => ({ ...viewInstance(call, record), reservationId: record.reservationId });
    const page = describe(instances, names.instance, view, (i) => i.InstanceId, filters, input.InstanceIds, input);
    const reservations = new Map<string, Reservation>();
    for (const { reservationId, ...instance } of page.items) {
      const reservation = reservations.get(reservationId) ?? { ReservationId: reservationId, OwnerId: call.accountId, Groups: [], Instances: [] };
      reservation.Instances?.push(instance);
      reservations.set(reservationId, reservation);
    }
    return { Reservations: [...reservations.values()], NextToken: page.NextToken };
  },

  DescribeInstanceStatus(input: DescribeInstanceStatusRequest, call: CallContext): DescribeInstanceStatusResult {
    const view = (record: InstanceRecord) => viewInstance(call, record);
    const { IncludeAllInstances: all, InstanceIds, Filters } = input;
    const found = describe(call.tables.instances, names.instance, view, (i) => i.InstanceId, filters, InstanceIds, {
      ...(Filters ? { Filters } : {}),
    });
    const shown = found.items.filter((i) => all || i.State?.Name === 'running');
    const page = paginate(shown, (i) => i.InstanceId, input);
    return {
      InstanceStatuses: page.items.map((i) => {
        const running = i.State?.Name === 'running';
        const summary = {
          Status: running ? ('ok' as const) : ('not-applicable' as const),
          Details: running ? [{ Name: 'reachability' as const, Status: 'passed' as const }] : [],
        };
        return {
          InstanceId: i.InstanceId,
          AvailabilityZone: i.Placement?.AvailabilityZone,
          InstanceState: i.State,
          InstanceStatus: summary,
          SystemStatus: summary,
        };
      }),
      NextToken: page.NextToken,
    };
  },

  StartInstances(input: StartInstancesRequest, call: CallContext): StartInstancesResult {
    const StartingInstances = each(call, input.InstanceIds, (record) => {
      const name = record.instance.State.Name;
      if (name === 'running' || name === 'pending') return record;
      if (name !== 'stopped') throw incorrectState(record, 'started');
      const started = setState(call, record, 'pending');
      return call.tables.instances.put(record.instance.InstanceId, { ...started, instance: { ...started.instance, LaunchTime: now(call) } });
    });
    return { StartingInstances };
  },

  StopInstances(input: StopInstancesRequest, call: CallContext): StopInstancesResult {
    const StoppingInstances = each(call, input.InstanceIds, (record) => {
      const name = record.instance.State.Name;
      if (name === 'stopped' || name === 'stopping') return record;
      if (name !== 'running' && name !== 'pending') throw incorrectState(record, 'stopped');
      if (record.stopProtection)
        throw new AwsError(
          'OperationNotPermitted',
          `The instance '${record.instance.InstanceId}' may not be stopped. Modify its 'disableApiStop' instance attribute and try again.`,
        );
      return setState(call, record, 'stopping', userShutdown);
    });
    return { StoppingInstances };
  },

  RebootInstances(input: RebootInstancesRequest, call: CallContext) {
    each(call, input.InstanceIds, (record) => {
      const name = record.instance.State.Name;
      if (name !== 'running' && name !== 'pending') throw incorrectState(record, 'rebooted');
      return call.tables.instances.change(record.instance.InstanceId, { reboots: record.reboots + 1 });
    });
  },

  TerminateInstances(input: TerminateInstancesRequest, call: CallContext): TerminateInstancesResult {
    const TerminatingInstances = each(call, input.InstanceIds, (record) => {
      const name = record.instance.State.Name;
      if (name === 'terminated' || name === 'shutting-down') return record;
      if (record.terminationProtection) {
        throw new AwsError(
          'OperationNotPermitted',
          `The instance '${record.instance.InstanceId}' may not be terminated. Modify its 'disableApiTermination' instance attribute and try again.`,
        );
      }
      return setState(call, record, 'shutting-down', userShutdown);
    });
    return { TerminatingInstances };
  },

  async GetConsoleOutput(input: GetConsoleOutputRequest, call: CallContext): Promise<GetConsoleOutputResult> {
    const { instance } = find(call.tables.instances, names.instance, input.InstanceId);
    const text = await call.consoles.read(instance.InstanceId);
    return { InstanceId: instance.InstanceId, Timestamp: now(call), ...(text === undefined ? {} : { Output: Buffer.from(text).toString('base64') }) };
  },
} satisfies Operations;

function hasType(name: string): boolean {
  try {
    findInstanceType(name);
    return true;
  } catch {
    return false;
  }
}
