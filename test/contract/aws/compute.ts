import * as sdk from '@aws-sdk/client-ec2';
import { expect } from 'vitest';
import { network } from './network.ts';
import { type Check, type Peer, refusal, until } from './peer.ts';

async function describe(peer: Peer, id: string): Promise<sdk.Instance> {
  const found = await peer.ec2.send(new sdk.DescribeInstancesCommand({ InstanceIds: [id] }));
  return found.Reservations![0]!.Instances![0]!;
}

async function run(peer: Peer, more: Partial<sdk.RunInstancesCommandInput> = {}): Promise<string[]> {
  const { subnetIds, groupId } = await network(peer);
  const where = { SubnetId: subnetIds[0], SecurityGroupIds: [groupId] };
  const input = { ImageId: await peer.image(), InstanceType: 't3.medium' as const, MinCount: 1, MaxCount: 1, ...where, ...more };
  const answer = await peer.ec2.send(new sdk.RunInstancesCommand(input));
  return answer.Instances!.map((one) => one.InstanceId!);
}

/** Two instances that run, which the other checks use. */
export function instances(peer: Peer): Promise<string[]> {
  return peer.once('instances', async () => {
    const userData = Buffer.from('#!/bin/sh\necho hello\n').toString('base64');
    const TagSpecifications = [{ ResourceType: 'instance' as const, Tags: [{ Key: 'of', Value: 'contract' }] }];
    const ids = await run(peer, { MinCount: 2, MaxCount: 2, UserData: userData, TagSpecifications });
    for (const id of ids) await until('an instance to run', async () => (await describe(peer, id)).State?.Name === 'running');
    return ids;
  });
}

/** A volume that is available. */
export async function volume(peer: Peer, more: Partial<sdk.CreateVolumeCommandInput> = {}): Promise<string> {
  const input = { AvailabilityZone: 'us-east-1a', Size: 2, VolumeType: 'gp3' as const, ...more };
  const { VolumeId } = await peer.ec2.send(new sdk.CreateVolumeCommand(input));
  await until('the volume', async () => (await volumeNow(peer, VolumeId!))?.State === 'available');
  return VolumeId!;
}
const volumeNow = async (peer: Peer, id: string) =>
  (await peer.ec2.send(new sdk.DescribeVolumesCommand({ Filters: [{ Name: 'volume-id', Values: [id] }] }))).Volumes![0];

export const computeChecks: Check[] = [
  {
    name: 'instances have an address of their subnet, a name, their tags, and their user data',
    async run(peer) {
      const [id] = await instances(peer);
      const one = await describe(peer, id!);
      expect(one.PrivateIpAddress).toMatch(/^10\.0\.(\d|1[0-5])\.\d+$/);
      expect(one.PrivateDnsName).toBe(`ip-${one.PrivateIpAddress!.replaceAll('.', '-')}.ec2.internal`);
      expect(one).toMatchObject({
        Placement: { AvailabilityZone: 'us-east-1a' },
        InstanceType: 't3.medium',
        Tags: [{ Key: 'of', Value: 'contract' }],
      });
      const input = { InstanceId: id, Attribute: 'userData' as const };
      const { UserData } = await peer.ec2.send(new sdk.DescribeInstanceAttributeCommand(input));
      expect(Buffer.from(UserData!.Value!, 'base64').toString()).toContain('echo hello');
      expect((await peer.ec2.send(new sdk.GetConsoleOutputCommand({ InstanceId: id }))).InstanceId).toBe(id);
    },
  },
  {
    name: 'instances are found by id, private DNS name, tag and state',
    async run(peer) {
      const [id] = await instances(peer);
      const { PrivateDnsName = '' } = await describe(peer, id!);
      const find = async (Name: string, Value: string) => {
        const Filters = [
          { Name, Values: [Value] },
          { Name: 'instance-state-name', Values: ['running'] },
        ];
        const found = await peer.ec2.send(new sdk.DescribeInstancesCommand({ Filters }));
        return found.Reservations!.flatMap((one) => one.Instances!.map((instance) => instance.InstanceId));
      };
      expect(await find('instance-id', id!)).toEqual([id]);
      expect(await find('private-dns-name', PrivateDnsName)).toEqual([id]);
      expect(await find('tag:of', 'contract')).toContain(id);
      expect(await find('tag:of', 'nobody')).toEqual([]);
    },
  },
  {
    name: 'RunInstances with a client token that was used launches nothing again',
    async run(peer) {
      const more = { ClientToken: 'contract-once' };
      const [first] = await run(peer, more);
      const [second] = await run(peer, more);
      await peer.ec2.send(new sdk.TerminateInstancesCommand({ InstanceIds: [...new Set([first!, second!])] }));
      expect(second).toBe(first);
    },
  },
  {
    name: 'a client token with other parameters is refused',
    async run(peer) {
      const [first] = await run(peer, { ClientToken: 'contract-mismatch' });
      const again = run(peer, { ClientToken: 'contract-mismatch', InstanceType: 't3.large' });
      try {
        expect(await refusal(again)).toBe('IdempotentParameterMismatch');
      } finally {
        const ids = [first!, ...(await again.catch(() => []))];
        await peer.ec2.send(new sdk.TerminateInstancesCommand({ InstanceIds: ids }));
      }
    },
  },
  {
    name: 'the same client token gives one volume',
    async run(peer) {
      const first = await volume(peer, { ClientToken: 'contract-volume' });
      const second = await volume(peer, { ClientToken: 'contract-volume' });
      for (const VolumeId of new Set([first, second])) await peer.ec2.send(new sdk.DeleteVolumeCommand({ VolumeId }));
      expect(second).toBe(first);
    },
  },
  {
    name: 'DryRun launches nothing and says DryRunOperation',
    async run(peer) {
      expect(await refusal(run(peer, { DryRun: true }))).toBe('DryRunOperation');
    },
  },
  {
    name: 'an image, subnet or instance profile that does not exist is refused',
    async run(peer) {
      expect(await refusal(run(peer, { ImageId: 'ami-0123456789abcdef0' }))).toBe('InvalidAMIID.NotFound');
      expect(await refusal(run(peer, { SubnetId: 'subnet-0123456789abcdef0' }))).toBe('InvalidSubnetID.NotFound');
      expect(await refusal(run(peer, { IamInstanceProfile: { Name: 'nobody' } }))).toBe('InvalidParameterValue');
    },
  },
  {
    name: 'the source/destination check is switched off and shown so',
    async run(peer) {
      const [id] = await instances(peer);
      await peer.ec2.send(new sdk.ModifyInstanceAttributeCommand({ InstanceId: id, SourceDestCheck: { Value: false } }));
      const input = { InstanceId: id, Attribute: 'sourceDestCheck' as const };
      expect((await peer.ec2.send(new sdk.DescribeInstanceAttributeCommand(input))).SourceDestCheck?.Value).toBe(false);
      expect((await describe(peer, id!)).SourceDestCheck).toBe(false);
    },
  },
  {
    name: 'a route leads to an instance, and to nowhere when that is terminated',
    async run(peer) {
      const { routeTableId } = await network(peer);
      const [id] = await run(peer);
      await until('it to run', async () => (await describe(peer, id!)).State?.Name === 'running');
      const DestinationCidrBlock = '10.244.0.0/24';
      await peer.ec2.send(new sdk.CreateRouteCommand({ RouteTableId: routeTableId, DestinationCidrBlock, InstanceId: id }));
      const route = async () => {
        const { RouteTables } = await peer.ec2.send(new sdk.DescribeRouteTablesCommand({ RouteTableIds: [routeTableId] }));
        return RouteTables![0]!.Routes!.find((one) => one.DestinationCidrBlock === DestinationCidrBlock);
      };
      expect(await route()).toMatchObject({ InstanceId: id, State: 'active' });
      await peer.ec2.send(new sdk.TerminateInstancesCommand({ InstanceIds: [id!] }));
      await until('its end', async () => (await describe(peer, id!)).State?.Name === 'terminated');
      try {
        expect((await route())?.State).toBe('blackhole');
      } finally {
        await peer.ec2.send(new sdk.DeleteRouteCommand({ RouteTableId: routeTableId, DestinationCidrBlock }));
      }
    },
  },
  {
    name: 'stopping and starting pass through stopping and pending, and keep the private address',
    async run(peer) {
      const [, id] = await instances(peer);
      const before = await describe(peer, id!);
      const stopped = await peer.ec2.send(new sdk.StopInstancesCommand({ InstanceIds: [id!] }));
      await until('it to stop', async () => (await describe(peer, id!)).State?.Name === 'stopped');
      const started = await peer.ec2.send(new sdk.StartInstancesCommand({ InstanceIds: [id!] }));
      await until('it to run', async () => (await describe(peer, id!)).State?.Name === 'running');
      expect((await describe(peer, id!)).PrivateIpAddress).toBe(before.PrivateIpAddress);
      expect(stopped.StoppingInstances![0]).toMatchObject({ PreviousState: { Name: 'running' }, CurrentState: { Name: 'stopping' } });
      expect(started.StartingInstances![0]).toMatchObject({ PreviousState: { Name: 'stopped' }, CurrentState: { Name: 'pending' } });
    },
  },
  {
    name: 'a volume has the size, type and tags that were asked for, grows, and does not shrink',
    async run(peer) {
      const Tags = [{ Key: 'CSIVolumeName', Value: 'pvc-1' }];
      const VolumeId = await volume(peer, { TagSpecifications: [{ ResourceType: 'volume', Tags }] });
      const found = await peer.ec2.send(new sdk.DescribeVolumesCommand({ Filters: [{ Name: 'tag:CSIVolumeName', Values: ['pvc-1'] }] }));
      expect(found.Volumes![0]).toMatchObject({ VolumeId, Size: 2, VolumeType: 'gp3', AvailabilityZone: 'us-east-1a', Tags });
      await peer.ec2.send(new sdk.ModifyVolumeCommand({ VolumeId, Size: 4 }));
      await until('its size', async () => (await volumeNow(peer, VolumeId))?.Size === 4);
      const Filters = [{ Name: 'volume-id', Values: [VolumeId] }];
      const { VolumesModifications } = await peer.ec2.send(new sdk.DescribeVolumesModificationsCommand({ Filters }));
      expect(VolumesModifications![0]).toMatchObject({ VolumeId, TargetSize: 4, OriginalSize: 2 });
      const smaller = await refusal(peer.ec2.send(new sdk.ModifyVolumeCommand({ VolumeId, Size: 1 }))).finally(() =>
        peer.ec2.send(new sdk.DeleteVolumeCommand({ VolumeId })),
      );
      expect(smaller).toBe('InvalidParameterValue');
    },
  },
  {
    name: 'a volume is attached, not deleted meanwhile, and detached',
    async run(peer) {
      const [InstanceId] = await instances(peer);
      const VolumeId = await volume(peer);
      await peer.ec2.send(new sdk.AttachVolumeCommand({ VolumeId, InstanceId, Device: '/dev/xvdba' }));
      await until('the attachment', async () => (await volumeNow(peer, VolumeId))?.Attachments?.[0]?.State === 'attached');
      const Filters = [{ Name: 'attachment.instance-id', Values: [InstanceId!] }];
      const there = await peer.ec2.send(new sdk.DescribeVolumesCommand({ Filters }));
      const mine = there.Volumes!.find((one) => one.VolumeId === VolumeId);
      expect(mine).toMatchObject({ State: 'in-use', Attachments: [{ InstanceId, Device: '/dev/xvdba' }] });
      expect(await refusal(peer.ec2.send(new sdk.DeleteVolumeCommand({ VolumeId })))).toBe('VolumeInUse');
      await peer.ec2.send(new sdk.DetachVolumeCommand({ VolumeId, InstanceId }));
      await until('the detachment', async () => (await volumeNow(peer, VolumeId))?.State === 'available');
      await peer.ec2.send(new sdk.DeleteVolumeCommand({ VolumeId }));
      await until('its end', async () => !(await volumeNow(peer, VolumeId)));
    },
  },
  {
    name: 'a second attachment of a volume is refused',
    async run(peer) {
      const [a, b] = await instances(peer);
      const VolumeId = await volume(peer);
      await peer.ec2.send(new sdk.AttachVolumeCommand({ VolumeId, InstanceId: a, Device: '/dev/xvdbb' }));
      const second = peer.ec2.send(new sdk.AttachVolumeCommand({ VolumeId, InstanceId: b, Device: '/dev/xvdbb' }));
      expect(await refusal(second)).toBe('VolumeInUse');
      await peer.ec2.send(new sdk.DetachVolumeCommand({ VolumeId, InstanceId: a, Force: true }));
    },
  },
  {
    name: 'a volume of another zone is not attached',
    async run(peer) {
      const [InstanceId] = await instances(peer);
      const VolumeId = await volume(peer, { AvailabilityZone: 'us-east-1b' });
      const attach = peer.ec2.send(new sdk.AttachVolumeCommand({ VolumeId, InstanceId, Device: '/dev/xvdbc' }));
      expect(await refusal(attach)).toBe('InvalidVolume.ZoneMismatch');
    },
  },
  {
    name: 'pages of DescribeInstances follow one another without gaps',
    async run(peer) {
      const [first] = await instances(peer);
      const VpcId = (await describe(peer, first!)).VpcId!;
      const made = await run(peer, { MinCount: 10, MaxCount: 10 });
      const seen: string[] = [];
      let token: string | undefined;
      let pages = 0;
      do {
        const Filters = [{ Name: 'vpc-id', Values: [VpcId] }];
        const page: sdk.DescribeInstancesCommandOutput = await peer.ec2.send(
          new sdk.DescribeInstancesCommand({ Filters, MaxResults: 5, ...(token ? { NextToken: token } : {}) }),
        );
        const ids = page.Reservations!.flatMap((one) => one.Instances!.map((instance) => instance.InstanceId!));
        expect(ids.length).toBeLessThanOrEqual(5);
        seen.push(...ids);
        token = page.NextToken;
        pages++;
      } while (token && pages < 20);
      await peer.ec2.send(new sdk.TerminateInstancesCommand({ InstanceIds: made }));
      expect(new Set(seen).size).toBe(seen.length);
      expect(seen).toEqual(expect.arrayContaining(made));
    },
  },
  {
    name: 'launch templates have versions, and one launches instances',
    async run(peer) {
      const LaunchTemplateName = 'contract';
      const data = async (InstanceType: sdk._InstanceType) => ({ ImageId: await peer.image(), InstanceType });
      await peer.ec2.send(new sdk.CreateLaunchTemplateCommand({ LaunchTemplateName, LaunchTemplateData: await data('t3.small') }));
      await peer.ec2.send(new sdk.CreateLaunchTemplateVersionCommand({ LaunchTemplateName, LaunchTemplateData: await data('t3.large') }));
      await peer.ec2.send(new sdk.ModifyLaunchTemplateCommand({ LaunchTemplateName, DefaultVersion: '2' }));
      const LaunchTemplateNames = [LaunchTemplateName];
      const { LaunchTemplates } = await peer.ec2.send(new sdk.DescribeLaunchTemplatesCommand({ LaunchTemplateNames }));
      expect(LaunchTemplates![0]).toMatchObject({ LatestVersionNumber: 2, DefaultVersionNumber: 2 });
      const { LaunchTemplateVersions } = await peer.ec2.send(new sdk.DescribeLaunchTemplateVersionsCommand({ LaunchTemplateName }));
      expect(LaunchTemplateVersions!.map((one) => one.LaunchTemplateData!.InstanceType).sort()).toEqual(['t3.large', 't3.small']);
      const { subnetIds } = await network(peer);
      const launch = { LaunchTemplate: { LaunchTemplateName, Version: '1' }, SubnetId: subnetIds[0], MinCount: 1, MaxCount: 1 };
      const [made] = (await peer.ec2.send(new sdk.RunInstancesCommand(launch))).Instances!;
      await peer.ec2.send(new sdk.TerminateInstancesCommand({ InstanceIds: [made!.InstanceId!] }));
      await peer.ec2.send(new sdk.DeleteLaunchTemplateCommand({ LaunchTemplateName }));
      expect(made!.InstanceType).toBe('t3.small');
      const find = peer.ec2.send(new sdk.DescribeLaunchTemplatesCommand({ LaunchTemplateNames }));
      expect(await refusal(find)).toBe('InvalidLaunchTemplateName.NotFoundException');
    },
  },
  {
    name: 'terminated instances are shown as such, without an address, and free what they had',
    async run(peer) {
      const [id] = await run(peer);
      const [change] = (await peer.ec2.send(new sdk.TerminateInstancesCommand({ InstanceIds: [id!] }))).TerminatingInstances!;
      await until('its end', async () => (await describe(peer, id!)).State?.Name === 'terminated');
      const gone = await describe(peer, id!);
      expect(change!.CurrentState!.Name).toBe('shutting-down');
      expect(gone.PrivateIpAddress).toBeUndefined();
      expect(gone.NetworkInterfaces ?? []).toEqual([]);
    },
  },
  {
    name: 'an address asked for by an interface that goes with its instance can be asked for again when that is terminated',
    async run(peer) {
      const { subnetIds, groupId } = await network(peer);
      const wanted = { DeviceIndex: 0, SubnetId: subnetIds[0], Groups: [groupId], PrivateIpAddress: '10.0.14.77', DeleteOnTermination: true };
      const input = { MinCount: 1, MaxCount: 1, InstanceType: 't3.medium' as const, NetworkInterfaces: [wanted] };
      for (let n = 0; n < 2; n++) {
        const made = await peer.ec2.send(new sdk.RunInstancesCommand({ ...input, ImageId: await peer.image() }));
        const id = made.Instances![0]!.InstanceId!;
        const { PrivateIpAddress, NetworkInterfaces } = await describe(peer, id);
        expect(PrivateIpAddress).toBe(wanted.PrivateIpAddress);
        expect(NetworkInterfaces![0]!.Groups!.map((one) => one.GroupId)).toEqual([groupId]);
        await peer.ec2.send(new sdk.TerminateInstancesCommand({ InstanceIds: [id] }));
        await until('its end', async () => (await describe(peer, id)).State?.Name === 'terminated');
      }
    },
  },
];

/** Everything that the checks launched ends. */
export const computeRemoval: Check = {
  name: 'all instances end, and leave no interface',
  async run(peer) {
    const { vpcId } = await network(peer);
    const Filters = [{ Name: 'vpc-id', Values: [vpcId] }];
    const left = async () => {
      const found = await peer.ec2.send(
        new sdk.DescribeInstancesCommand({
          Filters: [...Filters, { Name: 'instance-state-name', Values: ['pending', 'running', 'stopping', 'stopped', 'shutting-down'] }],
        }),
      );
      return found.Reservations!.flatMap((one) => one.Instances!.map((instance) => instance.InstanceId!));
    };
    const ids = await left();
    if (ids.length) await peer.ec2.send(new sdk.TerminateInstancesCommand({ InstanceIds: ids }));
    await until('their end', async () => (await left()).length === 0);
    const { NetworkInterfaces } = await peer.ec2.send(new sdk.DescribeNetworkInterfacesCommand({ Filters }));
    expect(NetworkInterfaces).toEqual([]);
  },
};
