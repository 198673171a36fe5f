import {
  AttachVolumeCommand,
  DescribeVolumesCommand,
  DescribeVolumesModificationsCommand,
  DetachVolumeCommand,
  type Filter,
  type Volume,
  type VolumeType,
} from '@aws-sdk/client-ec2';
import { hasCode, waitUntil } from '../../aws/clients.ts';
import type { HandlerContext } from '../../aws/handlers/handler.ts';
import { deleteVolume, growVolume, volume, type VolumeProperties } from '../../aws/handlers/volume.ts';
import { clusterTag } from '../../aws/tags.ts';
import type { Node } from '../../api/generated/types.ts';
import type { VolumeSpec, Volumes } from '../provider.ts';
import { everyPage, Gather } from './gather.ts';
import { type AwsInstances, instanceIdOf } from './instances.ts';
import type { AwsProviderOptions } from './provider.ts';

const gibibyte = 1024 ** 3;
const attachLimitMs = 60_000;
/** Names that the EBS CSI driver gives to devices: /dev/xvdaa to /dev/xvddx, here those from ba on, which no image uses itself. */
const deviceNames = [...'bc'].flatMap((a) => [...'abcdefghijklmnopqrstuvwxyz'].map((b) => `/dev/xvd${a}${b}`));

/** EBS volumes as the EBS CSI driver makes, tags and attaches them. */
export class AwsVolumes implements Volumes {
  readonly driver = 'ebs.csi.aws.com';
  private readonly o: AwsProviderOptions;
  /** The last attachment under way, by instance. */
  private readonly attaching = new Map<string, Promise<void>>();

  private readonly instances: AwsInstances;
  private readonly context: HandlerContext;

  constructor(o: AwsProviderOptions, instances: AwsInstances) {
    this.o = o;
    this.context = {
      clients: o.clients,
      cluster: o.cluster,
      // As the EBS CSI driver's are found, by the name that the claim gives them.
      identity: (name) => [
        { Name: 'tag:CSIVolumeName', Values: [name] },
        { Name: `tag:${clusterTag(o.cluster)}`, Values: ['owned'] },
      ],
    };
    this.instances = instances;
  }

  /** By filter rather than by id: one that is gone must not fail the others of the same call. */
  private readonly lookUps = new Gather<Volume>(async (Values) => {
    const found = await this.describeAll([{ Name: 'volume-id', Values }]);
    return new Map(found.map((one) => [one.VolumeId ?? '', one]));
  });

  private describe(volumeId: string): Promise<Volume | undefined> {
    return this.lookUps.find(volumeId);
  }

  private async describeAll(Filters: Filter[]): Promise<Volume[]> {
    const ec2 = await this.o.clients.ec2();
    return everyPage(
      (NextToken) => ec2.send(new DescribeVolumesCommand({ Filters, ...(NextToken ? { NextToken } : {}) })),
      (page) => page.Volumes,
      (page) => page.NextToken,
    );
  }

  async create(spec: VolumeSpec): Promise<{ volumeId: string; zone: string; sizeBytes: number }> {
    const { type, encrypted, iops, throughput, kmsKeyId, ...unknown } = Object.fromEntries(
      Object.entries(spec.parameters).map(([key, value]) => [key.charAt(0).toLowerCase() + key.slice(1), value]),
    );
    const strange = Object.keys(unknown).filter((key) => !key.startsWith('tagSpecification_') && !key.startsWith('csi.storage.k8s.io/'));
    if (strange.length) throw new Error(`Invalid parameter key ${strange[0]} for CreateVolume`);
    const properties: VolumeProperties = {
      AvailabilityZone: spec.zone,
      Size: Math.max(1, Math.ceil(spec.sizeBytes / gibibyte)),
      VolumeType: (type ?? 'gp3') as VolumeType,
      Encrypted: encrypted === undefined ? undefined : encrypted === 'true',
      ...(kmsKeyId ? { KmsKeyId: kmsKeyId } : {}),
      ...(iops ? { Iops: Number(iops) } : {}),
      ...(throughput ? { Throughput: Number(throughput) } : {}),
    };
    const tags = {
      CSIVolumeName: spec.name,
      'ebs.csi.aws.com/cluster': 'true',
      [clusterTag(this.o.cluster)]: 'owned',
      KubernetesCluster: this.o.cluster,
      Name: `${this.o.cluster}-dynamic-${spec.name}`,
      ...spec.tags,
      ...extraTags(spec.parameters),
    };
    // Of one that is there already the size is another's question: claims grow by expand().
    const made = (await volume.find(this.context, spec.name)) ?? (await volume.create(this.context, spec.name, properties, tags));
    const volumeId = made.id;
    const ready = await waitUntil(
      `volume ${volumeId} to be available`,
      async () => {
        const now = await this.describe(volumeId);
        if (now?.State === 'error') throw new Error(`volume ${volumeId} is in state error`);
        return now?.State === 'available' || now?.State === 'in-use' ? now : undefined;
      },
      { timeoutMs: attachLimitMs },
    );
    return { volumeId, zone: ready.AvailabilityZone ?? spec.zone, sizeBytes: (ready.Size ?? 0) * gibibyte };
  }

  async delete(volumeId: string): Promise<void> {
    await deleteVolume(this.context, volumeId);
  }

  /** Resolves when the volume is at least that large, for its users too. Idempotent. */
  async expand(volumeId: string, sizeBytes: number): Promise<{ sizeBytes: number }> {
    const ec2 = await this.o.clients.ec2();
    const Size = Math.ceil(sizeBytes / gibibyte);
    const before = await this.describe(volumeId);
    if (!before) throw new Error(`volume ${volumeId} does not exist`);
    if ((before.Size ?? 0) < Size) await growVolume(this.context, volumeId, Size);
    const ready = await waitUntil(
      `volume ${volumeId} to have ${Size} GiB`,
      async () => {
        const answer = await ec2.send(new DescribeVolumesModificationsCommand({ Filters: [{ Name: 'volume-id', Values: [volumeId] }] }));
        const state = answer.VolumesModifications?.[0];
        if (state?.ModificationState === 'failed')
          throw new Error(`volume ${volumeId} could not be modified: ${state.StatusMessage ?? 'no reason given'}`);
        // Optimizing: the new size is there, and its speed will be.
        if (state?.ModificationState === 'modifying') return undefined;
        const now = await this.describe(volumeId);
        return (now?.Size ?? 0) >= Size ? now : undefined;
      },
      { timeoutMs: attachLimitMs },
    );
    return { sizeBytes: (ready.Size ?? 0) * gibibyte };
  }

  async attach(volumeId: string, node: Node): Promise<{ devicePath: string }> {
    const instanceId = instanceIdOf(node.spec.providerID);
    if (!instanceId) throw new Error(`node ${node.metadata.name} has no instance: ${node.spec.providerID ?? 'no provider id'}`);
    const found = await this.describe(volumeId);
    if (!found) throw new Error(`volume ${volumeId} does not exist`);
    const mine = found.Attachments?.find((one) => one.InstanceId === instanceId);
    const other = found.Attachments?.find((one) => one.InstanceId !== instanceId);
    if (other) throw new Error(`volume ${volumeId} is still attached to ${other.InstanceId}`);
    if (mine?.State === 'detaching') throw new Error(`volume ${volumeId} is being detached from ${instanceId}`);
    if (!mine) await this.attachAt(volumeId, instanceId);
    const device = await waitUntil(
      `volume ${volumeId} to be attached to ${instanceId}`,
      async () => {
        const attachment = (await this.describe(volumeId))?.Attachments?.find((one) => one.InstanceId === instanceId);
        return attachment?.State === 'attached' ? attachment.Device : undefined;
      },
      { timeoutMs: attachLimitMs },
    );
    return { devicePath: device };
  }

  /** One at a time on an instance: a device name that another call is about to take cannot be seen yet. */
  private attachAt(volumeId: string, instanceId: string): Promise<void> {
    const turn = (this.attaching.get(instanceId) ?? Promise.resolve()).catch(() => {}).then(() => this.attachNow(volumeId, instanceId));
    this.attaching.set(instanceId, turn);
    const done = () => {
      if (this.attaching.get(instanceId) === turn) this.attaching.delete(instanceId);
    };
    turn.then(done, done);
    return turn;
  }

  private async attachNow(volumeId: string, instanceId: string): Promise<void> {
    const ec2 = await this.o.clients.ec2();
    const there = await this.describeAll([{ Name: 'attachment.instance-id', Values: [instanceId] }]);
    const used = new Set(there.flatMap((one) => one.Attachments ?? []).map((one) => one.Device));
    const device = deviceNames.find((name) => !used.has(name));
    if (!device) throw new Error(`instance ${instanceId} has no free device name`);
    await ec2.send(new AttachVolumeCommand({ VolumeId: volumeId, InstanceId: instanceId, Device: device }));
  }

  async detach(volumeId: string, node: { name: string; providerId: string }): Promise<void> {
    // By its name where its Node is gone. Where the instance is gone too, AWS has detached its volumes, which may be elsewhere by now.
    const instanceId = instanceIdOf(node.providerId) ?? (await this.instances.byName.find(node.name))?.InstanceId;
    if (!instanceId) return;
    const ec2 = await this.o.clients.ec2();
    const attachmentNow = async () => (await this.describe(volumeId))?.Attachments?.find((one) => one.InstanceId === instanceId);
    const attachment = await attachmentNow();
    if (!attachment) return;
    if (attachment.State !== 'detaching') {
      await ec2.send(new DetachVolumeCommand({ VolumeId: volumeId, InstanceId: instanceId })).catch((error) => {
        if (!hasCode(error, 'IncorrectState', 'InvalidVolume.NotFound', 'InvalidAttachment.NotFound')) throw error;
      });
    }
    await waitUntil(`volume ${volumeId} to be detached from ${attachment.InstanceId}`, async () => ((await attachmentNow()) ? undefined : true), {
      timeoutMs: attachLimitMs,
    });
  }
}

/** Of the parameters tagSpecification_1, tagSpecification_2 and so on, each `key=value`. */
function extraTags(parameters: Record<string, string>): Record<string, string> {
  const given = Object.entries(parameters).filter(([name]) => name.startsWith('tagSpecification_'));
  return Object.fromEntries(
    given.map(([name, text]) => {
      const at = text.indexOf('=');
      if (at < 1) throw new Error(`parameter ${name}: '${text}' is not of the form key=value`);
      return [text.slice(0, at), text.slice(at + 1)];
    }),
  );
}
