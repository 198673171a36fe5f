import { DescribeInstancesCommand, type Instance, RunInstancesCommand, TerminateInstancesCommand } from '@aws-sdk/client-ec2';
import { hasCode, ignore, waitUntil } from '../clients.ts';
import { clientToken, fromTags, ownershipFilters, tagSpecification } from '../tags.ts';
import { madeId, tagEc2 } from './ec2-tags.ts';
import type { Existing, HandlerContext, ResourceHandler } from './handler.ts';

export interface InstanceProperties {
  LaunchTemplateId: string;
  /** A number, as text. */
  LaunchTemplateVersion: string;
  SubnetId: string;
  /** One of the subnet's choice where left out. */
  PrivateIpAddress?: string;
}

/** Where an instance keeps which template and version it was launched from. */
const templateTag = 'kumulus:launch-template';
const alive = ['pending', 'running', 'stopping', 'stopped'];

const existing = (i: Instance): Existing => ({
  id: madeId(i.InstanceId),
  attributes: {
    PrivateIpAddress: i.PrivateIpAddress ?? '',
    PublicIpAddress: i.PublicIpAddress ?? '',
    PrivateDnsName: i.PrivateDnsName ?? '',
  },
});

async function look({ clients }: HandlerContext, id: string): Promise<Instance | undefined> {
  const answer = await (await clients.ec2()).send(new DescribeInstancesCommand({ InstanceIds: [id] })).catch(ignore('InvalidInstanceID.NotFound'));
  const found = answer?.Reservations?.[0]?.Instances?.[0];
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
    const run = new RunInstancesCommand({
      LaunchTemplate: { LaunchTemplateId: p.LaunchTemplateId, Version: p.LaunchTemplateVersion },
      SubnetId: p.SubnetId,
      ...(p.PrivateIpAddress ? { PrivateIpAddress: p.PrivateIpAddress } : {}),
      MinCount: 1,
      MaxCount: 1,
      // A terminated predecessor has the same logical id, so the token must not outlive it.
      ClientToken: clientToken(cluster, logicalId, p.SubnetId, template, String(await generation(context, logicalId))),
      TagSpecifications: tagSpecification('instance', { ...tags, [templateTag]: template }),
    });
    // A fresh instance profile takes EC2 some seconds to hear of, and the address of an instance just terminated to be free.
    const answer = await waitUntil(
      `EC2 to launch ${logicalId}`,
      () =>
        ec2.send(run).catch((error) => {
          const passing = /Invalid IAM Instance Profile|Address.*in use/i.test((error as Error).message);
          if (passing && hasCode(error, 'InvalidParameterValue', 'InvalidIPAddress.InUse')) return undefined;
          throw error;
        }),
      { timeoutMs: 60_000, ...(signal ? { signal } : {}) },
    );
    return existing(answer.Instances?.[0] as Instance);
  },
  async read(context, id) {
    const found = await look(context, id);
    if (!found) return undefined;
    const { [templateTag]: template = '', ...tags } = fromTags(found.Tags);
    const [LaunchTemplateId = '', LaunchTemplateVersion = ''] = template.split(':');
    return {
      ...existing(found),
      properties: { LaunchTemplateId, LaunchTemplateVersion, SubnetId: found.SubnetId ?? '', PrivateIpAddress: found.PrivateIpAddress ?? '' },
      tags,
    };
  },
  async settle(context, id) {
    await waitUntil(
      `instance ${id} to run`,
      async () => {
        const found = await look(context, id);
        if (!found) throw new Error(`instance ${id} ended while it was launched`);
        return found.State?.Name === 'running' ? true : undefined;
      },
      context.signal ? { signal: context.signal } : {},
    );
  },
  tag: tagEc2,
  async remove(context, { id }) {
    const ec2 = await context.clients.ec2();
    await ec2.send(new TerminateInstancesCommand({ InstanceIds: [id] })).catch(ignore('InvalidInstanceID.NotFound'));
    await waitUntil(
      `instance ${id} to be terminated`,
      async () => {
        const answer = await ec2.send(new DescribeInstancesCommand({ InstanceIds: [id] })).catch(ignore('InvalidInstanceID.NotFound'));
        const state = answer?.Reservations?.[0]?.Instances?.[0]?.State?.Name;
        return state === undefined || state === 'terminated' ? true : undefined;
      },
      context.signal ? { signal: context.signal } : {},
    );
  },
};

/** How many instances of this logical id have come and gone. */
async function generation({ clients, cluster }: HandlerContext, logicalId: string): Promise<number> {
  const found = await (await clients.ec2()).send(
    new DescribeInstancesCommand({
      Filters: [...ownershipFilters(cluster, logicalId), { Name: 'instance-state-name', Values: ['terminated', 'shutting-down'] }],
    }),
  );
  return (found.Reservations ?? []).reduce((n, r) => n + (r.Instances?.length ?? 0), 0);
}
