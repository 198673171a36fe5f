import {
  CreateNetworkInterfaceCommand,
  DeleteNetworkInterfaceCommand,
  DescribeInstancesCommand,
  DescribeNetworkInterfacesCommand,
  type Instance,
  RunInstancesCommand,
  TerminateInstancesCommand,
} from '@aws-sdk/client-ec2';
import { waitUntil } from '../clients.ts';
import { clientToken, ownershipFilters, tagSpecification } from '../tags.ts';
import type { Existing, ResourceHandler } from './handler.ts';
import { ignore } from './network.ts';

export const networkInterface: ResourceHandler<{ SubnetId: string; Groups: string[]; Description: string }> = {
  async find({ clients, cluster }, logicalId) {
    const found = await (await clients.ec2()).send(new DescribeNetworkInterfacesCommand({ Filters: ownershipFilters(cluster, logicalId) }));
    const eni = found.NetworkInterfaces?.[0];
    return eni?.NetworkInterfaceId ? { id: eni.NetworkInterfaceId, attributes: { PrivateIpAddress: eni.PrivateIpAddress ?? '' } } : undefined;
  },
  async create({ clients, cluster }, logicalId, p, tags) {
    const answer = await (await clients.ec2()).send(
      new CreateNetworkInterfaceCommand({
        ...p,
        ClientToken: clientToken(cluster, logicalId, p.SubnetId),
        TagSpecifications: tagSpecification('network-interface', tags),
      }),
    );
    const eni = answer.NetworkInterface;
    return { id: eni?.NetworkInterfaceId as string, attributes: { PrivateIpAddress: eni?.PrivateIpAddress ?? '' } };
  },
  async remove({ clients }, { id }) {
    await (await clients.ec2())
      .send(new DeleteNetworkInterfaceCommand({ NetworkInterfaceId: id }))
      .catch(ignore('InvalidNetworkInterfaceID.NotFound'));
  },
};

export interface InstanceProperties {
  ImageId: string;
  InstanceType: string;
  SubnetId: string;
  SecurityGroupIds: string[];
  /** The profile's name. */
  InstanceProfile: string;
  UserData: string;
}

const alive = ['pending', 'running', 'stopping', 'stopped'];
const describe = (i: Instance | undefined): Existing | undefined =>
  i?.InstanceId
    ? { id: i.InstanceId, attributes: { PrivateIpAddress: i.PrivateIpAddress ?? '', PrivateDnsName: i.PrivateDnsName ?? '' } }
    : undefined;

export const instance: ResourceHandler<InstanceProperties> = {
  async find({ clients, cluster }, logicalId) {
    const found = await (await clients.ec2()).send(
      new DescribeInstancesCommand({ Filters: [...ownershipFilters(cluster, logicalId), { Name: 'instance-state-name', Values: alive }] }),
    );
    return describe(found.Reservations?.[0]?.Instances?.[0]);
  },
  async create({ clients, cluster }, logicalId, p, tags) {
    const answer = await (await clients.ec2()).send(
      new RunInstancesCommand({
        ImageId: p.ImageId,
        InstanceType: p.InstanceType as never,
        SubnetId: p.SubnetId,
        SecurityGroupIds: p.SecurityGroupIds,
        IamInstanceProfile: { Name: p.InstanceProfile },
        UserData: Buffer.from(p.UserData).toString('base64'),
        MetadataOptions: { HttpTokens: 'required', HttpEndpoint: 'enabled' },
        MinCount: 1,
        MaxCount: 1,
        // A terminated predecessor has the same logical id, so the token must not outlive this attempt's user data.
        ClientToken: clientToken(cluster, logicalId, p.SubnetId, p.UserData, String(await generation(clients, cluster, logicalId))),
        TagSpecifications: tagSpecification('instance', tags),
      }),
    );
    return describe(answer.Instances?.[0]) as Existing;
  },
  async remove({ clients, signal }, { id }) {
    const ec2 = await clients.ec2();
    await ec2.send(new TerminateInstancesCommand({ InstanceIds: [id] })).catch(ignore('InvalidInstanceID.NotFound'));
    await waitUntil(
      `instance ${id} to be terminated`,
      async () => {
        const answer = await ec2.send(new DescribeInstancesCommand({ InstanceIds: [id] })).catch(ignore('InvalidInstanceID.NotFound'));
        const state = answer?.Reservations?.[0]?.Instances?.[0]?.State?.Name;
        return state === undefined || state === 'terminated' ? true : undefined;
      },
      signal ? { timeoutMs: 120_000, signal } : { timeoutMs: 120_000 },
    );
  },
};

/** How many instances of this logical id have come and gone. */
async function generation(clients: Parameters<typeof instance.find>[0]['clients'], cluster: string, logicalId: string): Promise<number> {
  const found = await (await clients.ec2()).send(
    new DescribeInstancesCommand({
      Filters: [...ownershipFilters(cluster, logicalId), { Name: 'instance-state-name', Values: ['terminated', 'shutting-down'] }],
    }),
  );
  return (found.Reservations ?? []).reduce((n, r) => n + (r.Instances?.length ?? 0), 0);
}
