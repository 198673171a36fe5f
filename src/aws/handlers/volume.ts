import {
  CreateVolumeCommand,
  DeleteVolumeCommand,
  DescribeVolumesCommand,
  ModifyVolumeCommand,
  type Volume,
  type VolumeType,
} from '@aws-sdk/client-ec2';
import { ignore, removeWhenFree, waitUntil } from '../clients.ts';
import { fromTags, tagSpecification } from '../tags.ts';
import { madeId, tagEc2 } from './ec2-tags.ts';
import { type Found, type HandlerContext, identityOf, isFound, type ResourceHandler } from './handler.ts';
import { createOnce } from './once.ts';

export interface VolumeProperties {
  AvailabilityZone: string;
  /** GiB; it can only grow. */
  Size: number;
  /** gp3 where left out. */
  VolumeType?: VolumeType;
  /** true where left out; undefined: as the account's setting says. */
  Encrypted?: boolean | undefined;
  Iops?: number;
  /** MiB a second. */
  Throughput?: number;
  KmsKeyId?: string;
}

const gone = ignore('InvalidVolume.NotFound');

async function look({ clients }: HandlerContext, id: string): Promise<Volume | undefined> {
  const found = (await (await clients.ec2()).send(new DescribeVolumesCommand({ VolumeIds: [id] })).catch(gone))?.Volumes?.[0];
  return found?.State === 'deleting' || found?.State === 'deleted' ? undefined : found;
}

const foundOf = (one: Volume): Found<VolumeProperties> => ({
  id: madeId(one.VolumeId),
  attributes: {},
  properties: { AvailabilityZone: one.AvailabilityZone ?? '', Size: one.Size ?? 0 },
  tags: fromTags(one.Tags),
});

/** Deletes what is there; throws VolumeInUse while an instance has it. */
export async function deleteVolume({ clients }: HandlerContext, VolumeId: string): Promise<void> {
  await (await clients.ec2()).send(new DeleteVolumeCommand({ VolumeId })).catch(gone);
}

/** Begins to make it at least that large, GiB. */
export async function growVolume({ clients }: HandlerContext, VolumeId: string, Size: number): Promise<void> {
  // An answer that was lost: the change is on its way.
  await (await clients.ec2()).send(new ModifyVolumeCommand({ VolumeId, Size })).catch(ignore('IncorrectModificationState'));
}

/** A volume of its own, which outlives the instances that it is attached to. */
export const volume = {
  async find(context, logicalId): Promise<Found<VolumeProperties> | undefined> {
    const filters = [...identityOf(context, logicalId), { Name: 'status', Values: ['creating', 'available', 'in-use'] }];
    const answer = await (await context.clients.ec2()).send(new DescribeVolumesCommand({ Filters: filters }));
    const found = answer.Volumes?.[0];
    return found && foundOf(found);
  },
  async create(context, logicalId, p, tags): Promise<Found<VolumeProperties>> {
    const ec2 = await context.clients.ec2();
    const make = (ClientToken: string) =>
      ec2.send(
        new CreateVolumeCommand({
          VolumeType: 'gp3',
          Encrypted: true,
          ...p,
          ClientToken,
          TagSpecifications: tagSpecification('volume', tags),
        }),
      );
    const words = [context.cluster, logicalId, p.AvailabilityZone, String(p.Size)];
    const made = await createOnce(context, words, make, async ({ VolumeId }) => ((await look(context, madeId(VolumeId))) ? 'there' : 'unseen'));
    return foundOf(made);
  },
  read,
  async repair(context, known, p) {
    const found = isFound(known) ? known : await read(context, known.id);
    if (found && found.properties.Size < p.Size) await growVolume(context, found.id, p.Size);
    return undefined;
  },
  async settle(context, id) {
    await waitUntil(
      `volume ${id} to be available`,
      async () => {
        const state = (await look(context, id))?.State;
        if (state === undefined || state === 'error') throw new Error(`volume ${id} could not be made`);
        return state === 'creating' ? undefined : true;
      },
      { signal: context.signal },
    );
  },
  tag: tagEc2,
  /** An instance that was just terminated holds it for a moment. */
  async remove(context, { id }) {
    await removeWhenFree(`volume ${id} to be out of use`, () => deleteVolume(context, id), ['VolumeInUse'], { signal: context.signal });
  },
} satisfies ResourceHandler<VolumeProperties>;

async function read(context: HandlerContext, id: string): Promise<Found<VolumeProperties> | undefined> {
  const found = await look(context, id);
  return found && foundOf(found);
}
