import type {
  _InstanceType,
  BlockDeviceMapping,
  IamInstanceProfileSpecification,
  InstanceNetworkInterfaceSpecification,
  InstanceTypeInfo,
  Reservation,
  RunInstancesRequest,
} from '@aws-sdk/client-ec2';
import { type CallContext, now, type Operations } from '../cloud.ts';
import { AwsError, invalidParameter } from '../errors.ts';
import { ec2Id } from '../ids.ts';
import type { InstanceProfileRecord, InstanceRecord, SubnetRecord } from '../state/records.ts';
import { find } from './describe.ts';
import { findImage } from './images.ts';
import { stateOf } from './instance-states.ts';
import { findInstanceType } from './instance-types.ts';
import { viewInstance } from './instance-view.ts';
import { launchData } from './launch-templates.ts';
import { names } from './names.ts';
import { attach, createInterface } from './network-interfaces.ts';
import { viewSubnet } from './subnets.ts';
import { putTags, specifiedTags } from './tags.ts';
import { createVolume } from './volumes.ts';

/** Bytes of user data, decoded. */
const largestUserData = 16 * 1024;
const mostInstances = 500;
/** What RunInstances makes and puts tags on. */
const taggable = ['instance', 'volume', 'network-interface'];
const defaultType = 'm5.large';

/** User data as it was given, checked. Throws InvalidParameterValue when it is not base64 or larger than 16 KiB. */
export function checkUserData(text: string | undefined): string | undefined {
  if (text === undefined || text === '') return undefined;
  if (!/^[A-Za-z0-9+/\s]*={0,2}\s*$/.test(text)) throw invalidParameter('Invalid BASE64 encoding of user data.');
  if (Buffer.from(text, 'base64').length > largestUserData) throw invalidParameter('User data is limited to 16384 bytes');
  return text;
}

/** The instance profile that a request names, by its name or ARN. Throws InvalidParameterValue. */
export function findProfile(call: CallContext, wanted: IamInstanceProfileSpecification | undefined): InstanceProfileRecord {
  const { Name, Arn } = wanted ?? {};
  const profile = call.tables.instanceProfiles.get(Name ?? Arn?.slice(Arn.lastIndexOf('/') + 1));
  if (!profile || (Arn !== undefined && Arn !== profile.Arn)) {
    const [parameter, noun] = Name === undefined ? ['arn', 'ARN'] : ['name', 'name'];
    throw invalidParameter(
      `Value (${Name ?? Arn ?? ''}) for parameter iamInstanceProfile.${parameter} is invalid. Invalid IAM Instance Profile ${noun}`,
    );
  }
  return profile;
}

/** The type of a name, with the error that RunInstances has for others. */
function launchType(name: string): InstanceTypeInfo & { InstanceType: _InstanceType } {
  try {
    return findInstanceType(name);
  } catch {
    throw invalidParameter(`Invalid value '${name}' for InstanceType.`);
  }
}

/** A request with what its launch template adds. The request's own words win; both have tags. */
function withTemplate(call: CallContext, given: RunInstancesRequest): RunInstancesRequest {
  const template = launchData(call, given.LaunchTemplate);
  if (!template) return given;
  const own = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
  const TagSpecifications = [...(template.TagSpecifications ?? []), ...(given.TagSpecifications ?? [])];
  return { ...(template as Omit<RunInstancesRequest, 'MinCount' | 'MaxCount'>), ...(own as typeof given), TagSpecifications };
}

interface Placement {
  subnet: SubnetRecord;
  /** The request's interfaces by device index, the first one first; made up where it has none. */
  interfaces: InstanceNetworkInterfaceSpecification[];
}

/** Where new instances are, and by which interfaces. */
function placement(call: CallContext, input: RunInstancesRequest): Placement {
  const zone = input.Placement?.AvailabilityZone;
  const checked = (place: Placement) => {
    if (zone && !call.zones.includes(zone)) throw invalidParameter(`Invalid availability zone: [${zone}]`);
    if (zone && zone !== place.subnet.AvailabilityZone) {
      throw invalidParameter(`The availability zone '${zone}' does not match the zone of the subnet '${place.subnet.SubnetId}'`);
    }
    return place;
  };
  if (!input.NetworkInterfaces?.length) {
    if (!input.SubnetId) {
      throw new AwsError('VPCIdNotSpecified', 'No default VPC for this user. GroupName is only supported for EC2-Classic and default VPC.');
    }
    if (input.SecurityGroups?.length) {
      throw new AwsError('InvalidParameterCombination', 'The parameter groupName cannot be used with the parameter subnet');
    }
    const subnet = find(call.tables.subnets, names.subnet, input.SubnetId);
    return checked({ subnet, interfaces: [{ DeviceIndex: 0, Groups: input.SecurityGroupIds, PrivateIpAddress: input.PrivateIpAddress }] });
  }
  if (input.SubnetId || input.SecurityGroupIds?.length || input.PrivateIpAddress) {
    throw new AwsError(
      'InvalidParameterCombination',
      'Network interfaces and an instance-level subnet ID, security groups or private address may not be specified on the same request',
    );
  }
  const interfaces = [...input.NetworkInterfaces].sort((a, b) => (a.DeviceIndex ?? 0) - (b.DeviceIndex ?? 0));
  const indexes = new Set(interfaces.map((one) => one.DeviceIndex ?? 0));
  if (!indexes.has(0)) throw invalidParameter('When specifying network interfaces, you must include a device at index 0.');
  if (indexes.size < interfaces.length) throw invalidParameter('Each network interface requires a unique device index.');
  const [first] = interfaces;
  const held = first!.NetworkInterfaceId && find(call.tables.networkInterfaces, names.networkInterface, first!.NetworkInterfaceId);
  const subnetId = held ? held.SubnetId : first!.SubnetId;
  if (!subnetId) throw new AwsError('MissingParameter', 'The request must contain the parameter SubnetId or NetworkInterfaceId');
  return checked({ subnet: find(call.tables.subnets, names.subnet, subnetId), interfaces });
}

/** How many instances there will be: of those wanted, as many as the subnet has addresses for. */
function countOf(call: CallContext, input: RunInstancesRequest, { subnet, interfaces }: Placement): number {
  const { MinCount: least = 0, MaxCount: most = 0 } = input;
  if (least < 1 || most < least) {
    throw invalidParameter(`Value (${least}) for parameter minCount is invalid. It must be at least 1 and at most maxCount (${most}).`);
  }
  if (least > mostInstances) {
    throw new AwsError(
      'InstanceLimitExceeded',
      `You have requested more instances (${least}) than your current instance limit of ${mostInstances} allows for the specified instance type.`,
    );
  }
  if (most > 1 && interfaces.some((one) => one.NetworkInterfaceId ?? one.PrivateIpAddress)) {
    throw new AwsError('InvalidParameterCombination', 'A network interface or private address can be given to one instance only');
  }
  const here = interfaces.filter((one) => !one.NetworkInterfaceId && (one.SubnetId ?? subnet.SubnetId) === subnet.SubnetId);
  const each = here.reduce((sum, one) => sum + 1 + (one.SecondaryPrivateIpAddressCount ?? 0), 0);
  const free = viewSubnet(call, subnet).AvailableIpAddressCount!;
  const room = each === 0 ? most : Math.floor(free / each);
  if (room < least) {
    throw new AwsError(
      'InsufficientFreeAddressesInSubnet',
      `There are not enough free addresses in subnet '${subnet.SubnetId}' to satisfy the requested number of instances.`,
    );
  }
  return Math.min(most, room, mostInstances);
}

interface Launch extends Placement {
  input: RunInstancesRequest;
  reservationId: string;
  profile: InstanceProfileRecord | undefined;
}

function launch(call: CallContext, { input, reservationId, subnet, interfaces, profile }: Launch, index: number): InstanceRecord {
  const image = findImage(call, input.ImageId);
  const type = launchType(input.InstanceType ?? defaultType);
  const userData = checkUserData(input.UserData);
  const instanceId = ec2Id('i');
  const time = now(call);
  const metadata = input.MetadataOptions;
  const record = call.tables.instances.put(instanceId, {
    reservationId,
    ...(userData === undefined ? {} : { userData }),
    ...(profile ? { instanceProfileName: profile.InstanceProfileName, instanceProfileAssociationId: ec2Id('iip-assoc') } : {}),
    terminationProtection: input.DisableApiTermination ?? false,
    stopProtection: input.DisableApiStop ?? false,
    shutdownBehavior: input.InstanceInitiatedShutdownBehavior ?? 'stop',
    reboots: 0,
    instance: {
      InstanceId: instanceId,
      ImageId: image.ImageId,
      InstanceType: type.InstanceType,
      State: stateOf('pending'),
      StateTransitionReason: '',
      LaunchTime: time,
      SubnetId: subnet.SubnetId,
      VpcId: subnet.VpcId,
      AmiLaunchIndex: index,
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
      Placement: { AvailabilityZone: subnet.AvailabilityZone, GroupName: input.Placement?.GroupName ?? '', Tenancy: 'default' },
      ProductCodes: [],
      CpuOptions: { CoreCount: type.VCpuInfo?.DefaultCores, ThreadsPerCore: type.VCpuInfo?.DefaultThreadsPerCore },
      CapacityReservationSpecification: { CapacityReservationPreference: 'open' },
      HibernationOptions: { Configured: false },
      EnclaveOptions: { Enabled: false },
      MaintenanceOptions: { AutoRecovery: 'default' },
      PrivateDnsNameOptions: subnet.PrivateDnsNameOptionsOnLaunch,
      MetadataOptions: {
        State: 'applied',
        // The image says that it knows version 2, so that is what it gets, with a hop for containers.
        HttpTokens: metadata?.HttpTokens ?? 'required',
        HttpPutResponseHopLimit: metadata?.HttpPutResponseHopLimit ?? 2,
        HttpEndpoint: metadata?.HttpEndpoint ?? 'enabled',
        HttpProtocolIpv6: 'disabled',
        InstanceMetadataTags: metadata?.InstanceMetadataTags ?? 'disabled',
      },
    },
  });
  for (const spec of interfaces) joinNetwork(call, input, instanceId, subnet, spec);
  for (const mapping of input.BlockDeviceMappings ?? []) {
    if (mapping.DeviceName !== image.RootDeviceName) attachNewVolume(call, input, mapping, instanceId, subnet.AvailabilityZone);
  }
  putTags(call, instanceId, specifiedTags(input.TagSpecifications, 'instance', taggable));
  return record;
}

/** Attaches an interface that is there, or a new one. */
function joinNetwork(
  call: CallContext,
  input: RunInstancesRequest,
  instanceId: string,
  first: SubnetRecord,
  spec: InstanceNetworkInterfaceSpecification,
): void {
  const index = spec.DeviceIndex ?? 0;
  if (spec.NetworkInterfaceId) {
    const eni = find(call.tables.networkInterfaces, names.networkInterface, spec.NetworkInterfaceId);
    if (eni.Attachment) throw new AwsError('InvalidNetworkInterface.InUse', `Interface: [${eni.NetworkInterfaceId}] in use.`);
    if (eni.AvailabilityZone !== first.AvailabilityZone)
      throw invalidParameter(`Interface ${eni.NetworkInterfaceId} is in another availability zone`);
    attach(call, eni, instanceId, index, spec.DeleteOnTermination ?? false);
    return;
  }
  const subnet = spec.SubnetId ? find(call.tables.subnets, names.subnet, spec.SubnetId) : first;
  if (subnet.VpcId !== first.VpcId || subnet.AvailabilityZone !== first.AvailabilityZone) {
    throw invalidParameter(`Subnet ${subnet.SubnetId} belongs to another network or availability zone than the instance's`);
  }
  const eni = createInterface(call, {
    subnet,
    groups: spec.Groups,
    address: spec.PrivateIpAddress ?? spec.PrivateIpAddresses?.find((one) => one.Primary)?.PrivateIpAddress,
    secondary: spec.SecondaryPrivateIpAddressCount,
    description: spec.Description,
    publicIp: spec.AssociatePublicIpAddress ?? (index === 0 && subnet.MapPublicIpOnLaunch === true),
  });
  attach(call, eni, instanceId, index, spec.DeleteOnTermination ?? true);
  putTags(call, eni.NetworkInterfaceId, specifiedTags(input.TagSpecifications, 'network-interface', taggable));
}

/** A volume that is made with its instance. The root device needs none: it is an overlay over the host's root. */
function attachNewVolume(call: CallContext, input: RunInstancesRequest, mapping: BlockDeviceMapping, instanceId: string, zone: string): void {
  const { DeviceName, Ebs } = mapping;
  if (mapping.NoDevice !== undefined || !Ebs) return;
  if (!DeviceName) throw new AwsError('MissingParameter', 'The request must contain the parameter DeviceName of each block device mapping');
  const volume = createVolume(call, {
    Size: Ebs.VolumeSize,
    VolumeType: Ebs.VolumeType,
    Iops: Ebs.Iops,
    Throughput: Ebs.Throughput,
    Encrypted: Ebs.Encrypted,
    SnapshotId: Ebs.SnapshotId,
    AvailabilityZone: zone,
  });
  // It is still being created: what reports that it is there also makes it in-use.
  call.tables.volumes.change(volume.VolumeId, {
    Attachments: [
      {
        VolumeId: volume.VolumeId,
        InstanceId: instanceId,
        Device: DeviceName,
        State: 'attaching',
        AttachTime: now(call),
        DeleteOnTermination: Ebs.DeleteOnTermination ?? true,
      },
    ],
  });
  putTags(call, volume.VolumeId, specifiedTags(input.TagSpecifications, 'volume', taggable));
}

export const runInstancesOperations = {
  RunInstances(given: RunInstancesRequest, call: CallContext): Reservation {
    const input = withTemplate(call, given);
    const place = placement(call, input);
    const count = countOf(call, input, place);
    if (input.KeyName && !call.tables.keyPairs.has(input.KeyName)) {
      throw new AwsError('InvalidKeyPair.NotFound', `The key pair '${input.KeyName}' does not exist`);
    }
    const profile = input.IamInstanceProfile ? findProfile(call, input.IamInstanceProfile) : undefined;
    const reservationId = ec2Id('r');
    const started: InstanceRecord[] = [];
    for (let index = 0; index < count; index++) started.push(launch(call, { ...place, input, reservationId, profile }, index));
    return { ReservationId: reservationId, OwnerId: call.accountId, Groups: [], Instances: started.map((record) => viewInstance(call, record)) };
  },
} satisfies Operations;
