import {
  CreateNetworkInterfaceCommand,
  DeleteNetworkInterfaceCommand,
  DescribeNetworkInterfacesCommand,
  ModifyNetworkInterfaceAttributeCommand,
  type NetworkInterface,
} from '@aws-sdk/client-ec2';
import { ignore } from '../clients.ts';
import { fromTags, ownershipFilters, tagSpecification } from '../tags.ts';
import { madeId, tagEc2 } from './ec2-tags.ts';
import type { Existing, ResourceHandler } from './handler.ts';
import { createOnce } from './once.ts';

export interface NetworkInterfaceProperties {
  SubnetId: string;
  Groups: string[];
  Description: string;
  /** One of the subnet's choice where left out. */
  PrivateIpAddress?: string;
}

const existing = (eni: NetworkInterface | undefined): Existing => ({
  id: madeId(eni?.NetworkInterfaceId),
  attributes: { PrivateIpAddress: eni?.PrivateIpAddress ?? '' },
});

export const networkInterface: ResourceHandler<NetworkInterfaceProperties> = {
  async find({ clients, cluster }, logicalId) {
    const found = await (await clients.ec2()).send(new DescribeNetworkInterfacesCommand({ Filters: ownershipFilters(cluster, logicalId) }));
    const eni = found.NetworkInterfaces?.[0];
    return eni && existing(eni);
  },
  async create(context, logicalId, p, tags) {
    const ec2 = await context.clients.ec2();
    const make = (ClientToken: string) =>
      ec2.send(new CreateNetworkInterfaceCommand({ ...p, ClientToken, TagSpecifications: tagSpecification('network-interface', tags) }));
    const answer = await createOnce(context, [context.cluster, logicalId, p.SubnetId], make, async (made) =>
      (await networkInterface.read(context, madeId(made.NetworkInterface?.NetworkInterfaceId))) ? 'there' : 'unseen',
    );
    return existing(answer.NetworkInterface);
  },
  async read({ clients }, id) {
    const answer = await (await clients.ec2())
      .send(new DescribeNetworkInterfacesCommand({ NetworkInterfaceIds: [id] }))
      .catch(ignore('InvalidNetworkInterfaceID.NotFound'));
    const eni = answer?.NetworkInterfaces?.[0];
    return (
      eni && {
        ...existing(eni),
        properties: {
          SubnetId: eni.SubnetId ?? '',
          Groups: (eni.Groups ?? []).map((g) => g.GroupId ?? ''),
          Description: eni.Description ?? '',
        },
        tags: fromTags(eni.TagSet),
      }
    );
  },
  async repair(context, { id }, p) {
    const found = await networkInterface.read(context, id);
    const ec2 = await context.clients.ec2();
    if (found && [...found.properties.Groups].sort().join() !== [...p.Groups].sort().join())
      await ec2.send(new ModifyNetworkInterfaceAttributeCommand({ NetworkInterfaceId: id, Groups: p.Groups }));
  },
  tag: tagEc2,
  async remove({ clients }, { id }) {
    await (await clients.ec2())
      .send(new DeleteNetworkInterfaceCommand({ NetworkInterfaceId: id }))
      .catch(ignore('InvalidNetworkInterfaceID.NotFound'));
  },
};
