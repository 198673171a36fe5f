import type {
  AttachVolumeRequest,
  CreateVolumeRequest,
  DeleteVolumeRequest,
  DescribeVolumesModificationsRequest,
  DescribeVolumesModificationsResult,
  DescribeVolumesRequest,
  DescribeVolumesResult,
  DescribeVolumeStatusRequest,
  DescribeVolumeStatusResult,
  DetachVolumeRequest,
  ModifyVolumeRequest,
  ModifyVolumeResult,
  Volume,
  VolumeAttachment,
  VolumeModification,
  VolumeType,
} from '@aws-sdk/client-ec2';
import { type CallContext, type Cloud, now, type Operations } from '../cloud.ts';
import { AwsError, invalidParameter } from '../errors.ts';
import { ec2Id } from '../ids.ts';
import type { VolumeRecord } from '../state/records.ts';
import { describe, find } from './describe.ts';
import { names } from './names.ts';
import { putTags, specifiedTags, tagsOf } from './tags.ts';

/** GiB, IOPS and MiB/s that a type may have; figures of AWS's page on EBS volume types. */
const types: Record<string, { size: [number, number]; iops?: [number, number, number]; throughput?: [number, number, number] }> = {
  gp2: { size: [1, 16_384] },
  gp3: { size: [1, 65_536], iops: [3000, 80_000, 3000], throughput: [125, 2000, 125] },
  io1: { size: [4, 16_384], iops: [100, 64_000, 100] },
  io2: { size: [4, 65_536], iops: [100, 256_000, 100] },
  st1: { size: [125, 16_384] },
  sc1: { size: [125, 16_384] },
  standard: { size: [1, 1024] },
};

function checkSize(type: string, size: number | undefined): number {
  const limits = types[type];
  if (!limits) throw invalidParameter(`Invalid value '${type}' for VolumeType.`);
  if (size === undefined) throw new AwsError('MissingParameter', 'The request must contain the parameter size/snapshot');
  if (size < limits.size[0] || size > limits.size[1]) {
    throw invalidParameter(`Volume of ${size}GiB is invalid; ${type} volumes are from ${limits.size[0]} to ${limits.size[1]} GiB.`);
  }
  return size;
}

/** Iops and throughput of a volume as wanted, or the type's own. */
function performance(type: string, size: number, iops: number | undefined, throughput: number | undefined): { Iops?: number; Throughput?: number } {
  const limits = types[type]!;
  if (iops !== undefined && !limits.iops)
    throw new AwsError('InvalidParameterCombination', `The parameter iops is not supported for ${type} volumes.`);
  if (throughput !== undefined && !limits.throughput)
    throw new AwsError('InvalidParameterCombination', `The parameter throughput is not supported for ${type} volumes.`);
  if (iops !== undefined && (iops < limits.iops![0] || iops > limits.iops![1]))
    throw invalidParameter(`Volume iops of ${iops} is not supported; ${type} volumes have ${limits.iops![0]} to ${limits.iops![1]}.`);
  if (throughput !== undefined && (throughput < limits.throughput![0] || throughput > limits.throughput![1]))
    throw invalidParameter(`Volume throughput of ${throughput} is not supported.`);
  if (type === 'gp2') return { Iops: Math.min(16_000, Math.max(100, size * 3)) };
  return {
    ...(limits.iops ? { Iops: iops ?? limits.iops[2] } : {}),
    ...(limits.throughput ? { Throughput: throughput ?? limits.throughput[2] } : {}),
  };
}

/** Makes a volume; it becomes available when the data plane has its file. Part of the caller's transaction. */
export function createVolume(call: CallContext, input: CreateVolumeRequest): VolumeRecord {
  const type = input.VolumeType ?? 'gp2';
  if (input.SnapshotId) throw new AwsError('InvalidSnapshot.NotFound', `The snapshot '${input.SnapshotId}' does not exist.`);
  const size = checkSize(type, input.Size);
  const zone = input.AvailabilityZone;
  if (!zone) throw new AwsError('MissingParameter', 'The request must contain the parameter AvailabilityZone');
  if (!call.zones.includes(zone)) throw new AwsError('InvalidZone.NotFound', `The zone '${zone}' does not exist.`);
  const id = ec2Id('vol');
  return call.tables.volumes.put(id, {
    VolumeId: id,
    Size: size,
    State: 'creating',
    AvailabilityZone: zone,
    VolumeType: type as VolumeType,
    CreateTime: now(call),
    Encrypted: input.Encrypted ?? false,
    ...(input.KmsKeyId ? { KmsKeyId: input.KmsKeyId } : {}),
    SnapshotId: '',
    MultiAttachEnabled: input.MultiAttachEnabled ?? false,
    ...performance(type, size, input.Iops, input.Throughput),
    Attachments: [],
  });
}

export function viewVolume(cloud: Cloud, record: VolumeRecord): Volume & { VolumeId: string } {
  const { modification: _, ...volume } = record;
  return { ...volume, Attachments: record.Attachments.map(viewAttachment), Tags: tagsOf(cloud, record.VolumeId) };
}

function viewAttachment(attachment: VolumeRecord['Attachments'][number] & { forced?: boolean }): VolumeAttachment {
  const { forced: _, ...shown } = attachment;
  return shown;
}

const filters = {
  'volume-id': (v: Volume) => v.VolumeId,
  'availability-zone': (v: Volume) => v.AvailabilityZone,
  status: (v: Volume) => v.State,
  size: (v: Volume) => String(v.Size),
  'volume-type': (v: Volume) => v.VolumeType,
  'snapshot-id': (v: Volume) => v.SnapshotId,
  encrypted: (v: Volume) => String(v.Encrypted),
  'create-time': (v: Volume) => v.CreateTime?.toISOString(),
  'attachment.instance-id': (v: Volume) => v.Attachments?.map((a) => a.InstanceId),
  'attachment.device': (v: Volume) => v.Attachments?.map((a) => a.Device),
  'attachment.status': (v: Volume) => v.Attachments?.map((a) => a.State),
  'attachment.delete-on-termination': (v: Volume) => v.Attachments?.map((a) => String(a.DeleteOnTermination)),
};

const modificationFilters: Record<string, ((one: VolumeModification) => unknown) | undefined> = {
  'volume-id': (one) => one.VolumeId,
  'modification-state': (one) => one.ModificationState,
  'original-size': (one) => one.OriginalSize,
  'target-size': (one) => one.TargetSize,
};

/** Volumes and network interfaces that an instance of the Nitro kind takes together; the root volume is one. */
const mostAttachments = 28;

export const volumeOperations = {
  CreateVolume(input: CreateVolumeRequest, call: CallContext): Volume {
    const record = createVolume(call, input);
    putTags(call, record.VolumeId, specifiedTags(input.TagSpecifications, 'volume'));
    return viewVolume(call, record);
  },

  DeleteVolume(input: DeleteVolumeRequest, call: CallContext) {
    const volume = find(call.tables.volumes, names.volume, input.VolumeId);
    const [attachment] = volume.Attachments;
    if (attachment) throw new AwsError('VolumeInUse', `Volume ${volume.VolumeId} is currently attached to ${attachment.InstanceId}`);
    if (volume.State === 'deleting') throw new AwsError('InvalidVolume.NotFound', `The volume '${volume.VolumeId}' does not exist.`);
    if (volume.State !== 'available' && volume.State !== 'error')
      throw new AwsError('IncorrectState', `The volume '${volume.VolumeId}' is '${volume.State}'`);
    call.tables.volumes.change(volume.VolumeId, { State: 'deleting' });
  },

  DescribeVolumes(input: DescribeVolumesRequest, call: CallContext): DescribeVolumesResult {
    const page = describe(
      call.tables.volumes,
      names.volume,
      (r) => viewVolume(call, r),
      (v) => v.VolumeId,
      filters,
      input.VolumeIds,
      input,
    );
    return { Volumes: page.items, NextToken: page.NextToken };
  },

  DescribeVolumeStatus(input: DescribeVolumeStatusRequest, call: CallContext): DescribeVolumeStatusResult {
    const page = describe(
      call.tables.volumes,
      names.volume,
      (r) => viewVolume(call, r),
      (v) => v.VolumeId,
      filters,
      input.VolumeIds,
      input,
    );
    return {
      VolumeStatuses: page.items.map((v) => ({
        VolumeId: v.VolumeId,
        AvailabilityZone: v.AvailabilityZone,
        VolumeStatus: {
          Status: v.State === 'error' ? 'impaired' : 'ok',
          Details: [{ Name: 'io-enabled', Status: v.State === 'error' ? 'failed' : 'passed' }],
        },
        Actions: [],
        Events: [],
      })),
      NextToken: page.NextToken,
    };
  },

  AttachVolume(input: AttachVolumeRequest, call: CallContext): VolumeAttachment {
    const volume = find(call.tables.volumes, names.volume, input.VolumeId);
    const { instance } = find(call.tables.instances, names.instance, input.InstanceId);
    const device = input.Device;
    if (!device) throw new AwsError('MissingParameter', 'The request must contain the parameter device');
    if (!/^(\/dev\/)?(sd|xvd|nvme)[a-z0-9]+$/.test(device))
      throw invalidParameter(`Value (${device}) for parameter device is invalid. ${device} is not a valid EBS device name.`);
    if (volume.Attachments.length) {
      throw new AwsError('VolumeInUse', `${volume.VolumeId} is already attached to an instance`);
    }
    if (volume.State !== 'available')
      throw new AwsError('IncorrectState', `Volume '${volume.VolumeId}' is in the '${volume.State}' state. Volume must be in the 'available' state.`);
    const state = instance.State.Name;
    if (state !== 'running' && state !== 'stopped') throw new AwsError('IncorrectState', `Instance '${instance.InstanceId}' is not 'running'.`);
    const zone = instance.Placement?.AvailabilityZone;
    if (zone !== volume.AvailabilityZone) {
      throw new AwsError(
        'InvalidVolume.ZoneMismatch',
        `The volume '${volume.VolumeId}' is not in the same availability zone as instance '${instance.InstanceId}'`,
      );
    }
    const others = call.tables.volumes.by('instance', instance.InstanceId).flatMap((one) => one.Attachments);
    if (device === instance.RootDeviceName || others.some((one) => one.Device === device)) {
      throw invalidParameter(`Invalid value '${device}' for unixDevice. Attachment point ${device} is already in use`);
    }
    const interfaces = call.tables.networkInterfaces.by('instance', instance.InstanceId);
    // The root volume is an overlay here and not listed, unless the instance was launched with a mapping for it.
    const root = others.some((one) => one.Device === instance.RootDeviceName) ? 0 : 1;
    if (others.length + root + interfaces.length >= mostAttachments) {
      throw new AwsError('AttachmentLimitExceeded', `Maximum number of attachments (${mostAttachments}) exceeded for instance ${instance.InstanceId}`);
    }
    const attachment = {
      VolumeId: volume.VolumeId,
      InstanceId: instance.InstanceId,
      Device: device,
      State: 'attaching' as const,
      AttachTime: now(call),
      DeleteOnTermination: false,
    };
    call.tables.volumes.change(volume.VolumeId, { State: 'in-use', Attachments: [attachment] });
    return attachment;
  },

  DetachVolume(input: DetachVolumeRequest, call: CallContext): VolumeAttachment {
    const volume = find(call.tables.volumes, names.volume, input.VolumeId);
    const attachment = volume.Attachments.find((one) => input.InstanceId === undefined || one.InstanceId === input.InstanceId);
    if (!attachment || (input.Device !== undefined && attachment.Device !== input.Device)) {
      throw new AwsError('IncorrectState', `Volume '${volume.VolumeId}' is in the '${volume.State}' state.`);
    }
    if (attachment.State === 'detaching' && !input.Force)
      throw new AwsError('IncorrectState', `Volume '${volume.VolumeId}' is in the 'detaching' state.`);
    const detaching = { ...attachment, State: 'detaching' as const, ...(input.Force ? { forced: true } : {}) };
    call.tables.volumes.change(volume.VolumeId, { Attachments: volume.Attachments.map((one) => (one === attachment ? detaching : one)) });
    return viewAttachment(detaching);
  },

  ModifyVolume(input: ModifyVolumeRequest, call: CallContext): ModifyVolumeResult {
    const volume = find(call.tables.volumes, names.volume, input.VolumeId);
    if (volume.State !== 'available' && volume.State !== 'in-use')
      throw new AwsError('IncorrectState', `Volume '${volume.VolumeId}' is '${volume.State}'`);
    const type = input.VolumeType ?? volume.VolumeType;
    const size = checkSize(type, input.Size ?? volume.Size);
    if (size < volume.Size) throw invalidParameter('New size cannot be smaller than existing size');
    // What is not asked for stays, as long as the type does.
    const kept = type === volume.VolumeType && type !== 'gp2' ? volume : undefined;
    const figures = performance(type, size, input.Iops ?? kept?.Iops, input.Throughput ?? kept?.Throughput);
    const time = now(call);
    // The file grows at the data plane's next look; there is nothing to optimise.
    const modification = {
      VolumeId: volume.VolumeId,
      ModificationState: 'completed' as const,
      OriginalSize: volume.Size,
      OriginalVolumeType: volume.VolumeType,
      ...(volume.Iops === undefined ? {} : { OriginalIops: volume.Iops }),
      TargetSize: size,
      TargetVolumeType: type,
      ...(figures.Iops === undefined ? {} : { TargetIops: figures.Iops }),
      Progress: 100,
      StartTime: time,
      EndTime: time,
    };
    call.tables.volumes.change(volume.VolumeId, { Size: size, VolumeType: type, ...figures, modification });
    return { VolumeModification: modification };
  },

  DescribeVolumesModifications(input: DescribeVolumesModificationsRequest, call: CallContext): DescribeVolumesModificationsResult {
    const records = input.VolumeIds?.length ? input.VolumeIds.map((id) => find(call.tables.volumes, names.volume, id)) : call.tables.volumes.values();
    const tests = (input.Filters ?? []).map(({ Name, Values = [] }) => {
      const field = modificationFilters[Name ?? ''];
      if (!field) throw invalidParameter(`The filter '${Name}' is invalid`);
      return (one: VolumeModification) => Values.includes(String(field(one)));
    });
    const found = records.flatMap((one) => one.modification ?? []);
    return { VolumesModifications: found.filter((one) => tests.every((fits) => fits(one))) };
  },
} satisfies Operations;
