import {
  AssignPrivateIpAddressesCommand,
  AssociateIamInstanceProfileCommand,
  AttachNetworkInterfaceCommand,
  CreateLaunchTemplateCommand,
  CreateNetworkInterfaceCommand,
  CreateSecurityGroupCommand,
  CreateSubnetCommand,
  CreateVpcCommand,
  DeleteNetworkInterfaceCommand,
  DeleteSubnetCommand,
  DeleteVpcCommand,
  DescribeIamInstanceProfileAssociationsCommand,
  DescribeInstanceAttributeCommand,
  DescribeInstancesCommand,
  DescribeInstanceStatusCommand,
  DescribeNetworkInterfacesCommand,
  DescribeSubnetsCommand,
  DescribeVolumesCommand,
  DetachNetworkInterfaceCommand,
  type EC2Client,
  type Instance,
  ModifyInstanceAttributeCommand,
  ModifyInstanceMetadataOptionsCommand,
  ModifyNetworkInterfaceAttributeCommand,
  ModifySubnetAttributeCommand,
  ReplaceIamInstanceProfileAssociationCommand,
  RunInstancesCommand,
  type RunInstancesCommandInput,
  StartInstancesCommand,
  StopInstancesCommand,
  TerminateInstancesCommand,
  UnassignPrivateIpAddressesCommand,
} from '@aws-sdk/client-ec2';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Clock } from '../clock.ts';
import { codeOf, TestEndpoint, until } from '../testing.ts';

const image = 'resolve:ssm:/aws/service/kumulus/node/recommended/image_id';

let endpoint: TestEndpoint;
let ec2: EC2Client;
let vpcId: string;
let subnetId: string;

async function open(options: Parameters<typeof TestEndpoint.start>[0] = {}): Promise<void> {
  endpoint = await TestEndpoint.start(options);
  ec2 = endpoint.ec2();
  vpcId = (await ec2.send(new CreateVpcCommand({ CidrBlock: '10.0.0.0/16' }))).Vpc!.VpcId!;
  const zone = `${endpoint.aws.source.region}a`;
  subnetId = (await ec2.send(new CreateSubnetCommand({ VpcId: vpcId, CidrBlock: '10.0.0.0/28', AvailabilityZone: zone }))).Subnet!.SubnetId!;
}

beforeEach(() => open());
afterEach(() => endpoint.end());

const run = async (more: Partial<RunInstancesCommandInput> = {}): Promise<Instance[]> => {
  const placed = more.NetworkInterfaces ? {} : { SubnetId: subnetId };
  const answer = await ec2.send(new RunInstancesCommand({ ImageId: image, InstanceType: 't3.medium', MinCount: 1, MaxCount: 1, ...placed, ...more }));
  return answer.Instances!;
};
const describe = async (id: string): Promise<Instance> =>
  (await ec2.send(new DescribeInstancesCommand({ InstanceIds: [id] }))).Reservations![0]!.Instances![0]!;
const reach = (id: string, state: string) => until(`${id} ${state}`, async () => (await describe(id)).State?.Name === state);
const volumeStates = async (...ids: string[]) =>
  (await ec2.send(new DescribeVolumesCommand({ Filters: [{ Name: 'volume-id', Values: ids }] }))).Volumes!.map((one) => one.State);

test('an instance goes through its states, and takes with it what was made with it', async () => {
  const [made] = await run({
    BlockDeviceMappings: [
      { DeviceName: '/dev/sdf', Ebs: { VolumeSize: 1, VolumeType: 'gp3' } },
      { DeviceName: '/dev/sdg', Ebs: { VolumeSize: 2, VolumeType: 'gp3', DeleteOnTermination: false } },
    ],
    TagSpecifications: [
      { ResourceType: 'instance', Tags: [{ Key: 'Name', Value: 'one' }] },
      { ResourceType: 'volume', Tags: [{ Key: 'of', Value: 'one' }] },
    ],
  });
  const id = made!.InstanceId!;
  expect(made!.State).toEqual({ Code: 0, Name: 'pending' });
  expect(made!.PrivateDnsName).toBe(`ip-${made!.PrivateIpAddress!.replaceAll('.', '-')}.ec2.internal`);
  expect(made!.Tags).toEqual([{ Key: 'Name', Value: 'one' }]);
  await reach(id, 'running');
  const volumes = (await ec2.send(new DescribeVolumesCommand({ Filters: [{ Name: 'tag:of', Values: ['one'] }] }))).Volumes!;
  const [goes, stays] = [1, 2].map((size) => volumes.find((one) => one.Size === size)!.VolumeId!);
  await until('volumes in use', async () => (await volumeStates(goes!, stays!)).join() === 'in-use,in-use');
  await until('attached', async () => (await describe(id)).BlockDeviceMappings?.every((one) => one.Ebs?.Status === 'attached'));

  const second = await ec2.send(new CreateNetworkInterfaceCommand({ SubnetId: subnetId, SecondaryPrivateIpAddressCount: 1 }));
  const eni = second.NetworkInterface!.NetworkInterfaceId!;
  const { AttachmentId } = await ec2.send(new AttachNetworkInterfaceCommand({ NetworkInterfaceId: eni, InstanceId: id, DeviceIndex: 1 }));
  expect((await describe(id)).NetworkInterfaces).toHaveLength(2);
  expect(await codeOf(ec2.send(new DeleteNetworkInterfaceCommand({ NetworkInterfaceId: eni })))).toBe('InvalidParameterValue');
  expect(await codeOf(ec2.send(new DeleteSubnetCommand({ SubnetId: subnetId })))).toBe('DependencyViolation');

  await ec2.send(new StopInstancesCommand({ InstanceIds: [id] }));
  await reach(id, 'stopped');
  expect((await describe(id)).StateReason?.Code).toBe('Client.UserInitiatedShutdown');
  const { StartingInstances } = await ec2.send(new StartInstancesCommand({ InstanceIds: [id] }));
  expect(StartingInstances![0]!.PreviousState?.Name).toBe('stopped');
  await reach(id, 'running');

  const ended = await ec2.send(new TerminateInstancesCommand({ InstanceIds: [id] }));
  expect(ended.TerminatingInstances![0]!.CurrentState).toEqual({ Code: 32, Name: 'shutting-down' });
  await reach(id, 'terminated');
  await until('the volume gone', async () => (await volumeStates(goes!, stays!)).join() === 'available');
  const left = (await ec2.send(new DescribeNetworkInterfacesCommand({}))).NetworkInterfaces!;
  expect(left.map((one) => [one.NetworkInterfaceId, one.Status, one.Attachment])).toEqual([[eni, 'available', undefined]]);
  expect((await describe(id)).PrivateIpAddress).toBeUndefined();
  expect(await codeOf(ec2.send(new DetachNetworkInterfaceCommand({ AttachmentId: AttachmentId! })))).toBe('InvalidAttachmentID.NotFound');
  await ec2.send(new DeleteNetworkInterfaceCommand({ NetworkInterfaceId: eni }));
  await ec2.send(new DeleteSubnetCommand({ SubnetId: subnetId }));
  await ec2.send(new DeleteVpcCommand({ VpcId: vpcId }));
});

test('what RunInstances refuses', async () => {
  const refused = async (more: Partial<RunInstancesCommandInput>) => codeOf(run(more));
  expect(await refused({ ImageId: 'ami-00000000000000000' })).toBe('InvalidAMIID.NotFound');
  expect(await refused({ ImageId: 'nonsense' })).toBe('InvalidAMIID.Malformed');
  expect(await refused({ ImageId: 'resolve:ssm:/no/such' })).toBe('InvalidParameterValue');
  expect(await refused({ SubnetId: 'subnet-00000000000000000' })).toBe('InvalidSubnetID.NotFound');
  expect(await refused({ SubnetId: undefined })).toBe('VPCIdNotSpecified');
  expect(await refused({ InstanceType: 'x9.huge' as never })).toBe('InvalidParameterValue');
  expect(await refused({ SecurityGroupIds: ['sg-00000000000000000'] })).toBe('InvalidGroup.NotFound');
  expect(await refused({ MinCount: 2, MaxCount: 1 })).toBe('InvalidParameterValue');
  expect(await refused({ IamInstanceProfile: { Name: 'nobody' } })).toBe('InvalidParameterValue');
  expect(await refused({ KeyName: 'none' })).toBe('InvalidKeyPair.NotFound');
  expect(await refused({ PrivateIpAddress: '10.0.0.1' })).toBe('InvalidParameterValue');
  expect(await refused({ Placement: { AvailabilityZone: 'us-east-1b' } })).toBe('InvalidParameterValue');
  expect(await refused({ UserData: Buffer.alloc(16 * 1024 + 1).toString('base64') })).toBe('InvalidParameterValue');
  expect(await refused({ UserData: '#!/bin/sh' })).toBe('InvalidParameterValue');
  expect(await refused({ LaunchTemplate: { LaunchTemplateName: 'none' } })).toBe('InvalidLaunchTemplateName.NotFoundException');
  expect(await refused({ TagSpecifications: [{ ResourceType: 'vpc', Tags: [{ Key: 'a', Value: 'b' }] }] })).toBe('InvalidParameterValue');
  expect((await ec2.send(new DescribeInstancesCommand({}))).Reservations).toEqual([]);
  expect((await ec2.send(new DescribeNetworkInterfacesCommand({}))).NetworkInterfaces).toEqual([]);
});

test('a subnet that is full takes as many as it has room for, and not fewer than asked for', async () => {
  // A /28 has 16 addresses, of which five are kept.
  const answer = await run({ MinCount: 2, MaxCount: 20 });
  expect(answer).toHaveLength(11);
  expect(new Set(answer.map((one) => one.PrivateIpAddress)).size).toBe(11);
  expect(await codeOf(run())).toBe('InsufficientFreeAddressesInSubnet');
  expect((await ec2.send(new DescribeInstancesCommand({}))).Reservations![0]!.Instances).toHaveLength(11);
  expect((await ec2.send(new DescribeSubnetsCommand({}))).Subnets![0]!.AvailableIpAddressCount).toBe(0);
});

test('instances are found by filters and in pages, and unknown ids are told apart', async () => {
  const group = (await ec2.send(new CreateSecurityGroupCommand({ VpcId: vpcId, GroupName: 'g', Description: 'd' }))).GroupId!;
  const [a] = await run({ SecurityGroupIds: [group], PrivateIpAddress: '10.0.0.9' });
  await run({ MinCount: 6, MaxCount: 6 });
  const found = async (Name: string, ...Values: string[]) =>
    (await ec2.send(new DescribeInstancesCommand({ Filters: [{ Name, Values }] }))).Reservations!.flatMap((one) =>
      one.Instances!.map((i) => i.InstanceId),
    );
  expect(await found('instance.group-id', group)).toEqual([a!.InstanceId]);
  expect(await found('private-dns-name', 'ip-10-0-0-9.*')).toEqual([a!.InstanceId]);
  expect(await found('network-interface.addresses.private-ip-address', '10.0.0.9')).toEqual([a!.InstanceId]);
  expect(await found('owner-id', '000000000000')).toHaveLength(7);
  expect(await found('instance-state-name', 'terminated')).toEqual([]);
  const first = await ec2.send(new DescribeInstancesCommand({ MaxResults: 5 }));
  const second = await ec2.send(new DescribeInstancesCommand({ MaxResults: 5, NextToken: first.NextToken! }));
  const ids = [first, second].flatMap((page) => page.Reservations!.flatMap((one) => one.Instances!.map((i) => i.InstanceId)));
  expect([ids.length, new Set(ids).size, second.NextToken]).toEqual([7, 7, undefined]);
  expect(await codeOf(ec2.send(new DescribeInstancesCommand({ InstanceIds: ['i-00000000000000000'] })))).toBe('InvalidInstanceID.NotFound');
  expect(await codeOf(ec2.send(new DescribeInstancesCommand({ InstanceIds: ['i-xyz'] })))).toBe('InvalidInstanceID.Malformed');
  await reach(a!.InstanceId!, 'running');
  const status = await ec2.send(new DescribeInstanceStatusCommand({ InstanceIds: [a!.InstanceId!] }));
  expect(status.InstanceStatuses![0]!.InstanceStatus?.Status).toBe('ok');
});

test('attributes: protection, source/destination check, groups, metadata, user data', async () => {
  const id = (await run({ UserData: Buffer.from('#!/bin/sh\n').toString('base64'), DisableApiTermination: true }))[0]!.InstanceId!;
  await reach(id, 'running');
  const modify = (more: object) => ec2.send(new ModifyInstanceAttributeCommand({ InstanceId: id, ...more }));
  const terminate = () => ec2.send(new TerminateInstancesCommand({ InstanceIds: [id] }));
  expect(await codeOf(terminate())).toBe('OperationNotPermitted');
  const other = (await ec2.send(new CreateSecurityGroupCommand({ VpcId: vpcId, GroupName: 'g', Description: 'd' }))).GroupId!;
  await modify({ SourceDestCheck: { Value: false } });
  await modify({ Groups: [other] });
  const shown = await describe(id);
  expect([shown.SourceDestCheck, shown.SecurityGroups]).toEqual([false, [{ GroupId: other, GroupName: 'g' }]]);
  expect(await codeOf(modify({ UserData: { Value: Buffer.from('x') } }))).toBe('IncorrectInstanceState');
  const { InstanceMetadataOptions: options } = await ec2.send(new ModifyInstanceMetadataOptionsCommand({ InstanceId: id, HttpTokens: 'optional' }));
  expect([options?.HttpTokens, options?.HttpEndpoint]).toEqual(['optional', 'enabled']);
  await ec2.send(new StopInstancesCommand({ InstanceIds: [id] }));
  await reach(id, 'stopped');
  await modify({ UserData: { Value: Buffer.from('#!/bin/sh\necho new\n') } });
  const { UserData } = await ec2.send(new DescribeInstanceAttributeCommand({ InstanceId: id, Attribute: 'userData' }));
  expect(Buffer.from(UserData!.Value!, 'base64').toString()).toBe('#!/bin/sh\necho new\n');
  expect(await endpoint.aws.source.userData(id)).toBe('#!/bin/sh\necho new\n');
  await modify({ DisableApiTermination: { Value: false } });
  await terminate();
  await reach(id, 'terminated');
});

test('an address outside belongs to a running instance only', async () => {
  await ec2.send(new ModifySubnetAttributeCommand({ SubnetId: subnetId, MapPublicIpOnLaunch: { Value: true } }));
  const id = (await run())[0]!.InstanceId!;
  await reach(id, 'running');
  expect((await describe(id)).PublicIpAddress).toMatch(/^54\./);
  await ec2.send(new StopInstancesCommand({ InstanceIds: [id] }));
  await reach(id, 'stopped');
  expect((await describe(id)).PublicIpAddress).toBeUndefined();
  await ec2.send(new StartInstancesCommand({ InstanceIds: [id] }));
  expect((await describe(id)).PublicIpAddress).toMatch(/^54\./);
});

test('reports that come late or twice change nothing', async () => {
  await endpoint.end();
  await open({ dataPlane: 'external' });
  const { reports } = endpoint.aws;
  const id = (await run())[0]!.InstanceId!;
  const state = async () => (await describe(id)).State?.Name;
  reports.instanceState(id, 'stopped');
  expect(await state()).toBe('pending');
  reports.instanceState(id, 'running');
  await ec2.send(new StopInstancesCommand({ InstanceIds: [id] }));
  reports.instanceState(id, 'running');
  expect(await state()).toBe('stopping');
  reports.instanceState(id, 'stopped');
  await ec2.send(new StartInstancesCommand({ InstanceIds: [id] }));
  reports.instanceState(id, 'stopped');
  expect(await state()).toBe('pending');
  reports.instanceState(id, 'running');
  reports.instanceState(id, 'stopped', 'Client.InstanceInitiatedShutdown: Instance initiated shutdown');
  expect(await state()).toBe('stopped');
  await ec2.send(new TerminateInstancesCommand({ InstanceIds: [id] }));
  reports.instanceState(id, 'running');
  expect(await state()).toBe('shutting-down');
  reports.instanceState(id, 'terminated');
  reports.instanceState(id, 'terminated');
  reports.instanceState(id, 'running');
  reports.instanceState('i-00000000000000000', 'running');
  expect(await state()).toBe('terminated');
});

test('several interfaces at launch, and addresses of each', async () => {
  const held = (await ec2.send(new CreateNetworkInterfaceCommand({ SubnetId: subnetId, PrivateIpAddress: '10.0.0.7' }))).NetworkInterface!;
  const [one] = await run({
    NetworkInterfaces: [
      { DeviceIndex: 1, SubnetId: subnetId, Description: 'second' },
      { DeviceIndex: 0, NetworkInterfaceId: held.NetworkInterfaceId! },
    ],
  });
  expect(one!.NetworkInterfaces!.map((n) => [n.Attachment!.DeviceIndex, n.Attachment!.DeleteOnTermination, n.Description])).toEqual([
    [0, false, ''],
    [1, true, 'second'],
  ]);
  expect(one!.PrivateIpAddress).toBe('10.0.0.7');
  const NetworkInterfaceId = held.NetworkInterfaceId!;
  const { AssignedPrivateIpAddresses } = await ec2.send(
    new AssignPrivateIpAddressesCommand({ NetworkInterfaceId, PrivateIpAddresses: ['10.0.0.12'] }),
  );
  expect(AssignedPrivateIpAddresses).toEqual([{ PrivateIpAddress: '10.0.0.12' }]);
  expect(await codeOf(ec2.send(new AssignPrivateIpAddressesCommand({ NetworkInterfaceId, PrivateIpAddresses: ['10.0.0.12'] })))).toBe(
    'InvalidIPAddress.InUse',
  );
  await ec2.send(new UnassignPrivateIpAddressesCommand({ NetworkInterfaceId, PrivateIpAddresses: ['10.0.0.12'] }));
  expect(await codeOf(ec2.send(new UnassignPrivateIpAddressesCommand({ NetworkInterfaceId, PrivateIpAddresses: ['10.0.0.7'] })))).toBe(
    'InvalidParameterValue',
  );
  await ec2.send(new ModifyNetworkInterfaceAttributeCommand({ NetworkInterfaceId, SourceDestCheck: { Value: false } }));
  expect((await describe(one!.InstanceId!)).SourceDestCheck).toBe(false);
});

test('a launch template fills in what the request leaves out', async () => {
  await ec2.send(
    new CreateLaunchTemplateCommand({
      LaunchTemplateName: 'nodes',
      LaunchTemplateData: {
        InstanceType: 't3.large',
        UserData: Buffer.from('#!/bin/sh\n').toString('base64'),
        TagSpecifications: [{ ResourceType: 'instance', Tags: [{ Key: 'from', Value: 'template' }] }],
      },
    }),
  );
  const [one] = await run({
    InstanceType: undefined,
    LaunchTemplate: { LaunchTemplateName: 'nodes' },
    TagSpecifications: [{ ResourceType: 'instance', Tags: [{ Key: 'own', Value: 'yes' }] }],
  });
  expect(one!.InstanceType).toBe('t3.large');
  expect(one!.Tags!.map((tag) => tag.Key).sort()).toEqual(['from', 'own']);
  expect(await endpoint.aws.source.userData(one!.InstanceId!)).toBe('#!/bin/sh\n');
});

test('an instance is given roles through its profile, whose credentials the endpoint then knows', async () => {
  const { IAMClient, CreateRoleCommand, CreateInstanceProfileCommand, AddRoleToInstanceProfileCommand } = await import('@aws-sdk/client-iam');
  const { STSClient, GetCallerIdentityCommand } = await import('@aws-sdk/client-sts');
  const iam = endpoint.keep(new IAMClient(endpoint.config()));
  for (const name of ['a', 'b']) {
    const policy = { Version: '2012-10-17', Statement: [{ Effect: 'Allow', Principal: { Service: 'ec2.amazonaws.com' }, Action: 'sts:AssumeRole' }] };
    await iam.send(new CreateRoleCommand({ RoleName: name, AssumeRolePolicyDocument: JSON.stringify(policy) }));
    await iam.send(new CreateInstanceProfileCommand({ InstanceProfileName: name }));
    await iam.send(new AddRoleToInstanceProfileCommand({ InstanceProfileName: name, RoleName: name }));
  }
  const id = (await run())[0]!.InstanceId!;
  expect(await endpoint.aws.source.roleCredentials(id)).toBeUndefined();
  const associated = await ec2.send(new AssociateIamInstanceProfileCommand({ InstanceId: id, IamInstanceProfile: { Name: 'a' } }));
  const credentials = (await endpoint.aws.source.roleCredentials(id))!;
  expect(credentials.roleName).toBe('a');
  const sts = endpoint.keep(new STSClient(endpoint.config({ credentials: credentials.credentials })));
  expect((await sts.send(new GetCallerIdentityCommand({}))).Arn).toBe(`arn:aws:sts::000000000000:assumed-role/a/${id}`);
  const AssociationId = associated.IamInstanceProfileAssociation!.AssociationId!;
  await ec2.send(new ReplaceIamInstanceProfileAssociationCommand({ AssociationId, IamInstanceProfile: { Name: 'b' } }));
  const { IamInstanceProfileAssociations: now } = await ec2.send(new DescribeIamInstanceProfileAssociationsCommand({}));
  expect(now!.map((one) => one.IamInstanceProfile?.Arn)).toEqual(['arn:aws:iam::000000000000:instance-profile/b']);
  expect((await endpoint.aws.source.roleCredentials(id))?.roleName).toBe('b');
});

test('outside us-east-1 names are those of the region', async () => {
  await endpoint.end();
  await open({ region: 'eu-west-1' });
  const [one] = await run();
  expect(one!.PrivateDnsName).toMatch(/^ip-10-0-0-\d+\.eu-west-1\.compute\.internal$/);
});

test('a terminated instance is shown for about an hour, also across a restart', async () => {
  await endpoint.end();
  let passed = 0;
  const waiting = new Set<{ at: number; callback: () => void }>();
  const clock: Clock = {
    now: () => Date.now() + passed,
    after(ms, callback) {
      const one = { at: clock.now() + ms, callback };
      waiting.add(one);
      return () => waiting.delete(one);
    },
  };
  /** Moves time on, and does what is due then. */
  const pass = async (ms: number) => {
    passed += ms;
    for (const one of waiting) {
      if (one.at > clock.now()) continue;
      waiting.delete(one);
      one.callback();
    }
    await new Promise((resolve) => setImmediate(resolve));
  };
  endpoint = await TestEndpoint.start({ clock });
  const root = endpoint.aws.rootCredentials;
  // The SDK corrects its clock by the answers' real time, so each call after a leap has a client of its own.
  const client = () => {
    const one = endpoint.ec2({ credentials: root });
    one.config.systemClockOffset = passed;
    return one;
  };
  ec2 = client();
  vpcId = (await ec2.send(new CreateVpcCommand({ CidrBlock: '10.0.0.0/16' }))).Vpc!.VpcId!;
  subnetId = (await ec2.send(new CreateSubnetCommand({ VpcId: vpcId, CidrBlock: '10.0.0.0/28' }))).Subnet!.SubnetId!;
  const id = (await run())[0]!.InstanceId!;
  await ec2.send(new TerminateInstancesCommand({ InstanceIds: [id] }));
  await pass(100);
  expect((await describe(id)).State?.Name).toBe('terminated');
  await endpoint.aws.stop();
  await endpoint.open({ clock });
  await pass(59 * 60_000);
  ec2 = client();
  expect((await describe(id)).State?.Name).toBe('terminated');
  await pass(2 * 60_000);
  ec2 = client();
  expect(await codeOf(describe(id))).toBe('InvalidInstanceID.NotFound');
});
