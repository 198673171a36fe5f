import {
  DescribeInstancesCommand,
  type Instance,
  ModifyNetworkInterfaceAttributeCommand,
  RunInstancesCommand,
  TerminateInstancesCommand,
} from '@aws-sdk/client-ec2';
import { hasCode, ignore, waitUntil } from '../clients.ts';
import { fromTags, ownershipFilters, tagSpecification } from '../tags.ts';
import { madeId, tagEc2 } from './ec2-tags.ts';
import { type Existing, type HandlerContext, inOrder, type ResourceHandler } from './handler.ts';
import { createOnce } from './once.ts';

export interface InstanceProperties {
  LaunchTemplateId: string;
  /** A number, as text. */
  LaunchTemplateVersion: string;
  SubnetId: string;
  SecurityGroupIds: string[];
  /** The profile's name, the template's once more: moto and LocalStack do not take it from there. */
  InstanceProfile: string;
  /** One of the subnet's choice where left out. */
  PrivateIpAddress?: string;
}

/** Where an instance keeps which template and version it was launched from. */
const templateTag = 'kumulus:launch-template';
const alive = ['pending', 'running', 'stopping', 'stopped'];

/**
 * The instance's only interface, all of it in words: what is said beside it is refused, and LocalStack and moto keep an interface, with
 * its address, whose deletion was left to the default.
 */
const networkInterface = (p: InstanceProperties) => ({
  DeviceIndex: 0,
  SubnetId: p.SubnetId,
  Groups: p.SecurityGroupIds,
  DeleteOnTermination: true,
  ...(p.PrivateIpAddress ? { PrivateIpAddress: p.PrivateIpAddress } : {}),
});

const groupsOf = (i: Instance): string[] => (i.NetworkInterfaces?.[0]?.Groups ?? []).map((g) => g.GroupId ?? '');

const existing = (i: Instance): Existing => ({
  id: madeId(i.InstanceId),
  attributes: {
    PrivateIpAddress: i.PrivateIpAddress ?? '',
    PublicIpAddress: i.PublicIpAddress ?? '',
    PrivateDnsName: i.PrivateDnsName ?? '',
  },
});

async function describe({ clients }: HandlerContext, id: string): Promise<Instance | undefined> {
  const answer = await (await clients.ec2()).send(new DescribeInstancesCommand({ InstanceIds: [id] })).catch(ignore('InvalidInstanceID.NotFound'));
  return answer?.Reservations?.[0]?.Instances?.[0];
}

const stateOf = async (context: HandlerContext, id: string) => (await describe(context, id))?.State?.Name;

async function look(context: HandlerContext, id: string): Promise<Instance | undefined> {
  const found = await describe(context, id);
  return alive.includes(found?.State?.Name ?? '') ? found : undefined;
}

export const instance: ResourceHandler<InstanceProperties> = {
  async find({ clients, cluster }, logicalId) {
    const found = await (await clients.ec2()).send(
      new DescribeInstancesCommand({ Filters: [...ownershipFilters(cluster, logicalId), { Name: 'instance-state-name', Values: alive }] }),
    );
    const first = found.Reservations?.[0]?.Instances?.[0];
    return first && existing(first);
  },
  async create(context, logicalId, p, tags) {
    const { clients, cluster, signal } = context;
    const ec2 = await clients.ec2();
    const template = `${p.LaunchTemplateId}:${p.LaunchTemplateVersion}`;
    const run = (ClientToken: string) =>
      new RunInstancesCommand({
        LaunchTemplate: { LaunchTemplateId: p.LaunchTemplateId, Version: p.LaunchTemplateVersion },
        NetworkInterfaces: [networkInterface(p)],
        IamInstanceProfile: { Name: p.InstanceProfile },
        MetadataOptions: { HttpTokens: 'required', HttpEndpoint: 'enabled' },
        MinCount: 1,
        MaxCount: 1,
        ClientToken,
        TagSpecifications: tagSpecification('instance', { ...tags, [templateTag]: template }),
      });
    // A fresh instance profile takes EC2 some seconds to hear of, and the address of an instance just terminated to be free.
    const launch = (token: string) =>
      waitUntil(
        `EC2 to launch ${logicalId}`,
        () =>
          ec2.send(run(token)).catch((error) => {
            const passing = /Invalid IAM Instance Profile|Address.*in use/i.test((error as Error).message);
            if (passing && hasCode(error, 'InvalidParameterValue', 'InvalidIPAddress.InUse')) return undefined;
            throw error;
          }),
        { timeoutMs: 60_000, signal },
      );
    const answer = await createOnce(context, [cluster, logicalId, p.SubnetId, template], launch, async ({ Instances }) => {
      const state = await stateOf(context, madeId(Instances?.[0]?.InstanceId));
      if (state === undefined) return 'unseen';
      return alive.includes(state) ? 'there' : 'gone';
    });
    return existing(answer.Instances?.[0] as Instance);
  },
  async read(context, id, declared) {
    const found = await look(context, id);
    if (!found) return undefined;
    const { [templateTag]: template = '', ...tags } = fromTags(found.Tags);
    const [LaunchTemplateId = '', LaunchTemplateVersion = ''] = template.split(':');
    return {
      ...existing(found),
      properties: {
        LaunchTemplateId,
        LaunchTemplateVersion,
        SubnetId: found.SubnetId ?? '',
        SecurityGroupIds: inOrder(declared?.SecurityGroupIds, groupsOf(found)),
        InstanceProfile: found.IamInstanceProfile?.Arn?.split('/').at(-1) ?? '',
        PrivateIpAddress: found.PrivateIpAddress ?? '',
      },
      tags,
    };
  },
  async repair(context, { id }, p) {
    const found = await look(context, id);
    const NetworkInterfaceId = found?.NetworkInterfaces?.[0]?.NetworkInterfaceId;
    if (!NetworkInterfaceId || inOrder(p.SecurityGroupIds, groupsOf(found)) === p.SecurityGroupIds) return undefined;
    const change = new ModifyNetworkInterfaceAttributeCommand({ NetworkInterfaceId, Groups: p.SecurityGroupIds });
    await (await context.clients.ec2()).send(change);
    return undefined;
  },
  async settle(context, id) {
    await waitUntil(
      `instance ${id} to run`,
      async () => {
        const found = await look(context, id);
        if (!found) throw new Error(`instance ${id} ended while it was launched`);
        return found.State?.Name === 'running' ? true : undefined;
      },
      { signal: context.signal },
    );
  },
  tag: tagEc2,
  async remove(context, { id }) {
    const ec2 = await context.clients.ec2();
    await ec2.send(new TerminateInstancesCommand({ InstanceIds: [id] })).catch(ignore('InvalidInstanceID.NotFound'));
    await waitUntil(
      `instance ${id} to be terminated`,
      async () => {
        const state = await stateOf(context, id);
        return state === undefined || state === 'terminated' ? true : undefined;
      },
      { signal: context.signal },
    );
  },
};
