import { CreateVolumeCommand, DeleteVolumeCommand, DescribeVolumesCommand, ModifyVolumeCommand, type Volume } from '@aws-sdk/client-ec2';
import { hasCode, ignore, waitUntil } from '../clients.ts';
import { fromTags, ownershipFilters, tagSpecification } from '../tags.ts';
import { madeId, tagEc2 } from './ec2-tags.ts';
import type { HandlerContext, ResourceHandler } from './handler.ts';
import { createOnce } from './once.ts';

export interface VolumeProperties {
  AvailabilityZone: string;
  /** GiB; it can only grow. */
  Size: number;
}

const gone = ignore('InvalidVolume.NotFound');

async function look({ clients }: HandlerContext, id: string): Promise<Volume | undefined> {
  const found = (await (await clients.ec2()).send(new DescribeVolumesCommand({ VolumeIds: [id] })).catch(gone))?.Volumes?.[0];
  return found?.State === 'deleting' || found?.State === 'deleted' ? undefined : found;
}

/** An encrypted gp3 volume of its own, which outlives the instances that it is attached to. */
export const volume: ResourceHandler<VolumeProperties> = {
  async find({ clients, cluster }, logicalId) {
    const filters = [...ownershipFilters(cluster, logicalId), { Name: 'status', Values: ['creating', 'available', 'in-use'] }];
    const found = await (await clients.ec2()).send(new DescribeVolumesCommand({ Filters: filters }));
    const id = found.Volumes?.[0]?.VolumeId;
    return id ? { id, attributes: {} } : undefined;
  },
  async create(context, logicalId, p, tags) {
    const ec2 = await context.clients.ec2();
    const make = (ClientToken: string) =>
      ec2.send(
        new CreateVolumeCommand({
          AvailabilityZone: p.AvailabilityZone,
          Size: p.Size,
          VolumeType: 'gp3',
          Encrypted: true,
          ClientToken,
          TagSpecifications: tagSpecification('volume', tags),
        }),
      );
    const words = [context.cluster, logicalId, p.AvailabilityZone, String(p.Size)];
    const made = await createOnce(context, words, make, async ({ VolumeId }) => ((await look(context, madeId(VolumeId))) ? 'there' : 'unseen'));
    return { id: madeId(made.VolumeId), attributes: {} };
  },
  async read(context, id) {
    const found = await look(context, id);
    return found && { id, attributes: {}, properties: { AvailabilityZone: found.AvailabilityZone ?? '', Size: found.Size ?? 0 }, tags: fromTags(found.Tags) };
  },
  async repair(context, { id }, p) {
    const found = await look(context, id);
    if (!found || (found.Size ?? 0) >= p.Size) return;
    await (await context.clients.ec2()).send(new ModifyVolumeCommand({ VolumeId: id, Size: p.Size }));
  },
  async settle(context, id) {
    await waitUntil(
      `volume ${id} to be available`,
      async () => {
        const state = (await look(context, id))?.State;
        if (state === undefined || state === 'error') throw new Error(`volume ${id} could not be made`);
        return state === 'creating' ? undefined : true;
      },
      context.signal ? { signal: context.signal } : {},
    );
  },
  tag: tagEc2,
  /** An instance that was just terminated holds it for a moment. */
  async remove({ clients, signal }, { id }) {
    const ec2 = await clients.ec2();
    await waitUntil(
      `volume ${id} to be out of use`,
      async () => {
        try {
          await ec2.send(new DeleteVolumeCommand({ VolumeId: id }));
        } catch (error) {
          if (hasCode(error, 'VolumeInUse')) return undefined;
          gone(error);
        }
        return true;
      },
      signal ? { signal } : {},
    );
  },
};
