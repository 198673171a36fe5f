import type { AttachmentStatus, Instance, InstanceNetworkInterface } from '@aws-sdk/client-ec2';
import type { Cloud } from '../cloud.ts';
import type { InstanceRecord, NetworkInterfaceRecord } from '../state/records.ts';
import { association } from './network-interfaces.ts';
import { tagsOf } from './tags.ts';

/** An instance as it is described: with its interfaces, groups, volumes and tags. */
export function viewInstance(cloud: Cloud, record: InstanceRecord): Instance & { InstanceId: string } {
  const { instance } = record;
  const interfaces = cloud.tables.networkInterfaces
    .by('instance', instance.InstanceId)
    .sort((a, b) => (a.Attachment?.DeviceIndex ?? 0) - (b.Attachment?.DeviceIndex ?? 0));
  const profile = cloud.tables.instanceProfiles.get(record.instanceProfileName);
  return {
    ...instance,
    ...viewPrimary(cloud, instance.VpcId, interfaces[0]),
    NetworkInterfaces: interfaces.map((eni) => viewAttached(cloud, eni)),
    BlockDeviceMappings: cloud.tables.volumes.by('instance', instance.InstanceId).flatMap((volume) =>
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
    ...(profile && instance.State.Name !== 'terminated' ? { IamInstanceProfile: { Arn: profile.Arn, Id: profile.InstanceProfileId } } : {}),
    Tags: tagsOf(cloud, instance.InstanceId),
  };
}

/** What an instance shows of its first interface. One that has ended has none. */
function viewPrimary(cloud: Cloud, vpcId: string, primary: NetworkInterfaceRecord | undefined): Partial<Instance> {
  if (!primary) return { PrivateDnsName: '', PublicDnsName: '', SecurityGroups: [] };
  const known = association(cloud, primary);
  const named = cloud.tables.vpcs.get(vpcId)?.dnsHostnames ?? false;
  return {
    PrivateIpAddress: primary.PrivateIpAddress,
    PrivateDnsName: primary.PrivateDnsName ?? '',
    SourceDestCheck: primary.SourceDestCheck ?? true,
    SecurityGroups: primary.Groups,
    PublicDnsName: known && named ? known.PublicDnsName : '',
    ...(known ? { PublicIpAddress: known.PublicIp } : {}),
  };
}

function viewAttached(cloud: Cloud, eni: NetworkInterfaceRecord): InstanceNetworkInterface {
  const known = association(cloud, eni);
  const { AttachmentId, AttachTime, DeleteOnTermination, DeviceIndex, Status } = eni.Attachment ?? {};
  return {
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
      ...(known && Primary ? { Association: known } : {}),
    })),
    ...(known ? { Association: known } : {}),
    Attachment: { AttachmentId, AttachTime, DeleteOnTermination, DeviceIndex, NetworkCardIndex: 0, Status },
  };
}

/** What a filter of DescribeInstances looks at; a reservation's fields are put beside its instance's. */
export type FilteredInstance = Instance & { reservationId?: string; ownerId?: string };

/** The filters of DescribeInstances. */
export const instanceFilters = {
  architecture: (i: FilteredInstance) => i.Architecture,
  'availability-zone': (i: FilteredInstance) => i.Placement?.AvailabilityZone,
  'block-device-mapping.attach-time': (i: FilteredInstance) => i.BlockDeviceMappings?.map((b) => b.Ebs?.AttachTime),
  'block-device-mapping.delete-on-termination': (i: FilteredInstance) => i.BlockDeviceMappings?.map((b) => b.Ebs?.DeleteOnTermination),
  'block-device-mapping.device-name': (i: FilteredInstance) => i.BlockDeviceMappings?.map((b) => b.DeviceName),
  'block-device-mapping.status': (i: FilteredInstance) => i.BlockDeviceMappings?.map((b) => b.Ebs?.Status),
  'block-device-mapping.volume-id': (i: FilteredInstance) => i.BlockDeviceMappings?.map((b) => b.Ebs?.VolumeId),
  'client-token': (i: FilteredInstance) => i.ClientToken,
  'dns-name': (i: FilteredInstance) => i.PublicDnsName,
  hypervisor: (i: FilteredInstance) => i.Hypervisor,
  'iam-instance-profile.arn': (i: FilteredInstance) => i.IamInstanceProfile?.Arn,
  'iam-instance-profile.id': (i: FilteredInstance) => i.IamInstanceProfile?.Id,
  'image-id': (i: FilteredInstance) => i.ImageId,
  'instance-id': (i: FilteredInstance) => i.InstanceId,
  'instance-state-code': (i: FilteredInstance) => i.State?.Code,
  'instance-state-name': (i: FilteredInstance) => i.State?.Name,
  'instance-type': (i: FilteredInstance) => i.InstanceType,
  'instance.group-id': (i: FilteredInstance) => i.SecurityGroups?.map((g) => g.GroupId),
  'instance.group-name': (i: FilteredInstance) => i.SecurityGroups?.map((g) => g.GroupName),
  'ip-address': (i: FilteredInstance) => i.PublicIpAddress,
  'key-name': (i: FilteredInstance) => i.KeyName,
  'launch-index': (i: FilteredInstance) => i.AmiLaunchIndex,
  'launch-time': (i: FilteredInstance) => i.LaunchTime,
  'metadata-options.http-endpoint': (i: FilteredInstance) => i.MetadataOptions?.HttpEndpoint,
  'metadata-options.http-tokens': (i: FilteredInstance) => i.MetadataOptions?.HttpTokens,
  'monitoring-state': (i: FilteredInstance) => i.Monitoring?.State,
  'network-interface.addresses.association.public-ip': (i: FilteredInstance) => i.NetworkInterfaces?.map((n) => n.Association?.PublicIp),
  'network-interface.addresses.private-ip-address': (i: FilteredInstance) =>
    i.NetworkInterfaces?.flatMap((n) => n.PrivateIpAddresses?.map((a) => a.PrivateIpAddress)),
  'network-interface.attachment.attachment-id': (i: FilteredInstance) => i.NetworkInterfaces?.map((n) => n.Attachment?.AttachmentId),
  'network-interface.group-id': (i: FilteredInstance) => i.NetworkInterfaces?.flatMap((n) => n.Groups?.map((g) => g.GroupId)),
  'network-interface.mac-address': (i: FilteredInstance) => i.NetworkInterfaces?.map((n) => n.MacAddress),
  'network-interface.network-interface-id': (i: FilteredInstance) => i.NetworkInterfaces?.map((n) => n.NetworkInterfaceId),
  'network-interface.private-dns-name': (i: FilteredInstance) => i.NetworkInterfaces?.map((n) => n.PrivateDnsName),
  'network-interface.subnet-id': (i: FilteredInstance) => i.NetworkInterfaces?.map((n) => n.SubnetId),
  'network-interface.vpc-id': (i: FilteredInstance) => i.NetworkInterfaces?.map((n) => n.VpcId),
  'owner-id': (i: FilteredInstance) => i.ownerId,
  'private-dns-name': (i: FilteredInstance) => i.PrivateDnsName,
  'private-ip-address': (i: FilteredInstance) => i.PrivateIpAddress,
  'reason-code': (i: FilteredInstance) => i.StateReason?.Code,
  'reservation-id': (i: FilteredInstance) => i.reservationId,
  'root-device-name': (i: FilteredInstance) => i.RootDeviceName,
  'root-device-type': (i: FilteredInstance) => i.RootDeviceType,
  'source-dest-check': (i: FilteredInstance) => i.SourceDestCheck,
  'state-reason-code': (i: FilteredInstance) => i.StateReason?.Code,
  'subnet-id': (i: FilteredInstance) => i.SubnetId,
  tenancy: (i: FilteredInstance) => i.Placement?.Tenancy,
  'virtualization-type': (i: FilteredInstance) => i.VirtualizationType,
  'vpc-id': (i: FilteredInstance) => i.VpcId,
};
