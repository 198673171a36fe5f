import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  AssociateRouteTableCommand,
  AttachInternetGatewayCommand,
  AttachVolumeCommand,
  AuthorizeSecurityGroupIngressCommand,
  CreateInternetGatewayCommand,
  CreateRouteCommand,
  CreateRouteTableCommand,
  CreateSecurityGroupCommand,
  CreateSubnetCommand,
  CreateVolumeCommand,
  CreateVpcCommand,
  DeleteVolumeCommand,
  DescribeInstancesCommand,
  DescribeVolumesCommand,
  DetachVolumeCommand,
  DescribeVpcsCommand,
  type EC2Client,
  GetConsoleOutputCommand,
  type Instance,
  RebootInstancesCommand,
  RunInstancesCommand,
  StartInstancesCommand,
  StopInstancesCommand,
  TerminateInstancesCommand,
} from '@aws-sdk/client-ec2';
import {
  CreateListenerCommand,
  CreateLoadBalancerCommand,
  CreateTargetGroupCommand,
  DeleteLoadBalancerCommand,
  DeregisterTargetsCommand,
  DescribeLoadBalancersCommand,
  DescribeTargetHealthCommand,
  ElasticLoadBalancingV2Client,
  ModifyTargetGroupAttributesCommand,
  RegisterTargetsCommand,
} from '@aws-sdk/client-elastic-load-balancing-v2';
import { AddRoleToInstanceProfileCommand, CreateInstanceProfileCommand, CreateRoleCommand, IAMClient } from '@aws-sdk/client-iam';
import { pino } from 'pino';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type DataPlane, destroyEverything, findLeavings, startDataPlane } from '../dataplane/dataplane.ts';
import { codeOf, TestEndpoint, until } from './testing.ts';

const image = 'resolve:ssm:/aws/service/kumulus/node/recommended/image_id';

/** The endpoint with the real data plane, as a cluster's aws process has them. */
let endpoint: TestEndpoint;
let plane: DataPlane | undefined;
let directory: string;
let id: string;
let ec2: EC2Client;

const startPlane = async () =>
  startDataPlane({
    source: endpoint.aws.source,
    reports: endpoint.aws.reports,
    directory,
    id,
    packageRoot: join(import.meta.dirname, '../../..'),
    nodeBinary: process.execPath,
    awsHandleConnection: (socket) => endpoint.aws.handleConnection(socket),
    log: pino({ level: process.env['KUMULUS_LOG'] ?? 'silent' }),
  });

beforeEach(async () => {
  if (process.getuid?.() !== 0) throw new Error('these tests make Linux namespaces: run them as root');
  directory = mkdtempSync('/tmp/kumulus-localaws-plane-');
  id = randomBytes(3).toString('hex');
  endpoint = await TestEndpoint.start({ dataPlane: 'external' });
  plane = await startPlane();
  ec2 = endpoint.ec2();
});
afterEach(async () => {
  try {
    await plane?.stop({ keepInstances: true });
    await destroyEverything({ directory, id });
  } finally {
    await endpoint.end();
    rmSync(directory, { recursive: true, force: true });
  }
});

const describe = async (instanceId: string): Promise<Instance> =>
  (await ec2.send(new DescribeInstancesCommand({ InstanceIds: [instanceId] }))).Reservations![0]!.Instances![0]!;
const reach = (instanceId: string, state: string) => until(`${instanceId} ${state}`, async () => (await describe(instanceId)).State?.Name === state);
const console = async (instanceId: string) =>
  Buffer.from((await ec2.send(new GetConsoleOutputCommand({ InstanceId: instanceId }))).Output ?? '', 'base64').toString();
const printed = (instanceId: string, text: string) => until(`"${text}" on the console`, async () => (await console(instanceId)).includes(text));

async function network(): Promise<{ subnet: string; group: string }> {
  const vpc = (await ec2.send(new CreateVpcCommand({ CidrBlock: '10.0.0.0/16' }))).Vpc!.VpcId!;
  const subnet = (await ec2.send(new CreateSubnetCommand({ VpcId: vpc, CidrBlock: '10.0.0.0/20' }))).Subnet!.SubnetId!;
  const gateway = (await ec2.send(new CreateInternetGatewayCommand({}))).InternetGateway!.InternetGatewayId!;
  await ec2.send(new AttachInternetGatewayCommand({ InternetGatewayId: gateway, VpcId: vpc }));
  const table = (await ec2.send(new CreateRouteTableCommand({ VpcId: vpc }))).RouteTable!.RouteTableId!;
  await ec2.send(new CreateRouteCommand({ RouteTableId: table, DestinationCidrBlock: '0.0.0.0/0', GatewayId: gateway }));
  await ec2.send(new AssociateRouteTableCommand({ RouteTableId: table, SubnetId: subnet }));
  const group = (await ec2.send(new CreateSecurityGroupCommand({ VpcId: vpc, GroupName: 'all', Description: 'all' }))).GroupId!;
  await ec2.send(
    new AuthorizeSecurityGroupIngressCommand({ GroupId: group, IpPermissions: [{ IpProtocol: '-1', UserIdGroupPairs: [{ GroupId: group }] }] }),
  );
  return { subnet, group };
}

const launch = async (where: { subnet: string; group: string }, userData: string, more = {}): Promise<string> =>
  (
    await ec2.send(
      new RunInstancesCommand({
        ImageId: image,
        InstanceType: 't3.medium',
        MinCount: 1,
        MaxCount: 1,
        SubnetId: where.subnet,
        SecurityGroupIds: [where.group],
        UserData: Buffer.from(userData).toString('base64'),
        ...more,
      }),
    )
  ).Instances![0]!.InstanceId!;

test('an instance boots from user data, calls AWS as its role, stops, starts, reboots and leaves nothing', async () => {
  const iam = endpoint.keep(new IAMClient(endpoint.config()));
  const policy = { Version: '2012-10-17', Statement: [{ Effect: 'Allow', Principal: { Service: 'ec2.amazonaws.com' }, Action: 'sts:AssumeRole' }] };
  await iam.send(new CreateRoleCommand({ RoleName: 'node', AssumeRolePolicyDocument: JSON.stringify(policy) }));
  await iam.send(new CreateInstanceProfileCommand({ InstanceProfileName: 'node' }));
  await iam.send(new AddRoleToInstanceProfileCommand({ InstanceProfileName: 'node', RoleName: 'node' }));
  const script = `#!/bin/sh
printf '#!/bin/sh\\necho booted again\\n' >/etc/rc.local; chmod +x /etc/rc.local
. /etc/environment; export AWS_ENDPOINT_URL AWS_REGION
cd /opt/kumulus
cat >/tmp/who.mjs <<'END'
import { createRequire } from 'node:module';
const require = createRequire('/opt/kumulus/package.json');
const { STSClient, GetCallerIdentityCommand } = require('@aws-sdk/client-sts');
const metadata = 'http://169.254.169.254/latest';
const token = await (await fetch(metadata + '/api/token', { method: 'PUT', headers: { 'x-aws-ec2-metadata-token-ttl-seconds': '60' } })).text();
const get = async (path) => (await fetch(metadata + path, { headers: { 'x-aws-ec2-metadata-token': token } })).text();
const role = await get('/meta-data/iam/security-credentials/');
const keys = JSON.parse(await get('/meta-data/iam/security-credentials/' + role));
const credentials = { accessKeyId: keys.AccessKeyId, secretAccessKey: keys.SecretAccessKey, sessionToken: keys.Token };
const sts = new STSClient({ region: 'us-east-1', endpoint: process.env.AWS_ENDPOINT_URL, credentials });
console.log('I am', (await sts.send(new GetCallerIdentityCommand({}))).Arn);
END
node /tmp/who.mjs
`;
  const where = await network();
  const instance = await launch(where, script, { IamInstanceProfile: { Name: 'node' } });
  await reach(instance, 'running');
  await printed(instance, `I am arn:aws:sts::000000000000:assumed-role/node/${instance}`);

  await ec2.send(new RebootInstancesCommand({ InstanceIds: [instance] }));
  await printed(instance, 'booted again');
  await ec2.send(new StopInstancesCommand({ InstanceIds: [instance] }));
  await reach(instance, 'stopped');
  await ec2.send(new StartInstancesCommand({ InstanceIds: [instance] }));
  await reach(instance, 'running');
  await until('a third boot', async () => (await console(instance)).split('booted again').length === 3);

  await ec2.send(new TerminateInstancesCommand({ InstanceIds: [instance] }));
  await reach(instance, 'terminated');
  await plane!.idle();
  expect((await findLeavings()).filter((one) => one.clusterId === id && one.kind !== 'cgroup')).toEqual([]);
  expect(readdirSync(join(directory, 'instances'))).toEqual([]);
});

test('an instance that shuts itself down stops, or ends for good where it was launched so', async () => {
  const where = await network();
  const off = '#!/bin/sh\npoweroff\n';
  const [a, b] = await Promise.all([launch(where, off), launch(where, off, { InstanceInitiatedShutdownBehavior: 'terminate' })]);
  await Promise.all([reach(a, 'stopped'), reach(b, 'terminated')]);
  expect((await describe(a)).StateReason?.Code).toBe('Client.InstanceInitiatedShutdown');
  await ec2.send(new TerminateInstancesCommand({ InstanceIds: [a] }));
  await reach(a, 'terminated');
});

test('a volume is made, attached, written, detached and read elsewhere', async () => {
  const where = await network();
  const writer = `#!/bin/sh
while [ ! -b /dev/sdf ]; do sleep 0.1; done
mkfs.ext4 -q /dev/sdf && mount /dev/sdf /mnt && echo kept >/mnt/file && umount /mnt && echo written
`;
  const reader = `#!/bin/sh
while [ ! -b /dev/sdg ]; do sleep 0.1; done
mount /dev/sdg /mnt && echo "it is $(cat /mnt/file)"
`;
  const withVolume = { BlockDeviceMappings: [{ DeviceName: '/dev/sdf', Ebs: { VolumeSize: 1, VolumeType: 'gp3', DeleteOnTermination: false } }] };
  const [a, b] = await Promise.all([launch(where, writer, withVolume), launch(where, reader)]);
  await printed(a, 'written');
  const volume = (await describe(a)).BlockDeviceMappings![0]!.Ebs!.VolumeId!;
  // Attached while its instance booted, it is a device of the instance only.
  expect(existsSync(`/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_${volume.replace('-', '')}`)).toBe(false);
  const state = async () => (await ec2.send(new DescribeVolumesCommand({ VolumeIds: [volume] }))).Volumes![0]!;
  await until('attached', async () => (await state()).Attachments?.[0]?.State === 'attached');
  expect(await codeOf(ec2.send(new DeleteVolumeCommand({ VolumeId: volume })))).toBe('VolumeInUse');
  await ec2.send(new DetachVolumeCommand({ VolumeId: volume }));
  await until('available', async () => (await state()).State === 'available');
  await ec2.send(new AttachVolumeCommand({ VolumeId: volume, InstanceId: b, Device: '/dev/sdg' }));
  await printed(b, 'it is kept');
  // Mounted, it goes only by force; so does what is left when its instance ends.
  await ec2.send(new DetachVolumeCommand({ VolumeId: volume, InstanceId: b, Force: true }));
  await until('available again', async () => (await state()).State === 'available');
  const other = (await ec2.send(new CreateVolumeCommand({ AvailabilityZone: 'us-east-1a', Size: 1, VolumeType: 'gp3' }))).VolumeId!;
  await until('created', async () => (await ec2.send(new DescribeVolumesCommand({ VolumeIds: [other] }))).Volumes![0]!.State === 'available');
  for (const one of [volume, other]) await ec2.send(new DeleteVolumeCommand({ VolumeId: one }));
  await until('deleted', async () => (await ec2.send(new DescribeVolumesCommand({}))).Volumes!.length === 0);
  await ec2.send(new TerminateInstancesCommand({ InstanceIds: [a, b] }));
  await Promise.all([reach(a, 'terminated'), reach(b, 'terminated')]);
  await plane!.idle();
  expect(readdirSync(join(directory, 'volumes'))).toEqual([]);
  expect((await findLeavings()).filter((one) => one.name.includes(directory))).toEqual([]);
});

test('a load balancer reaches its targets, and lets go of those that are deregistered or end', async () => {
  const { subnet, group } = await network();
  const everything = [{ IpProtocol: 'tcp', FromPort: 80, ToPort: 80, IpRanges: [{ CidrIp: '0.0.0.0/0' }] }];
  await ec2.send(new AuthorizeSecurityGroupIngressCommand({ GroupId: group, IpPermissions: everything }));
  const serve = `#!/bin/sh
node -e 'require("http").createServer((q, r) => r.setHeader("connection", "close").end(require("os").hostname())).listen(80)'
`;
  const [a, b] = await Promise.all([launch({ subnet, group }, serve), launch({ subnet, group }, serve)]);
  const elb = endpoint.keep(new ElasticLoadBalancingV2Client(endpoint.config()));
  const balancer = (await elb.send(new CreateLoadBalancerCommand({ Name: 'web', Type: 'network', Subnets: [subnet] }))).LoadBalancers![0]!;
  const TargetGroupArn = (
    await elb.send(
      new CreateTargetGroupCommand({
        Name: 'web',
        Protocol: 'TCP',
        Port: 80,
        VpcId: balancer.VpcId!,
        TargetType: 'instance',
        HealthCheckIntervalSeconds: 5,
        HealthCheckTimeoutSeconds: 2,
        HealthyThresholdCount: 2,
        UnhealthyThresholdCount: 2,
      }),
    )
  ).TargetGroups![0]!.TargetGroupArn!;
  const delay = [{ Key: 'deregistration_delay.timeout_seconds', Value: '1' }];
  await elb.send(new ModifyTargetGroupAttributesCommand({ TargetGroupArn, Attributes: delay }));
  await Promise.all([reach(a, 'running'), reach(b, 'running')]);
  await elb.send(new RegisterTargetsCommand({ TargetGroupArn, Targets: [{ Id: a }, { Id: b }] }));
  const LoadBalancerArn = balancer.LoadBalancerArn!;
  await elb.send(new CreateListenerCommand({ LoadBalancerArn, Protocol: 'TCP', Port: 80, DefaultActions: [{ Type: 'forward', TargetGroupArn }] }));
  const healths = async () => {
    const found = (await elb.send(new DescribeTargetHealthCommand({ TargetGroupArn }))).TargetHealthDescriptions!;
    return new Map(found.map((one) => [one.Target!.Id!, one.TargetHealth!.State!]));
  };
  await until('an active load balancer', async () => {
    const found = await elb.send(new DescribeLoadBalancersCommand({ LoadBalancerArns: [LoadBalancerArn] }));
    return found.LoadBalancers![0]!.State!.Code === 'active';
  });
  await until('healthy targets', async () => [...(await healths()).values()].join() === 'healthy,healthy', 30_000);
  const get = async () => (await fetch(`http://${plane!.loadBalancerAddress(LoadBalancerArn)}/`, { signal: AbortSignal.timeout(5000) })).text();
  const nameOf = async (instance: string) => (await describe(instance)).PrivateDnsName!.split('.')[0]!;
  const [nameA, nameB] = [await nameOf(a), await nameOf(b)];
  const answered = new Set<string>();
  await until('answers of both', async () => answered.add(await get()).size === 2);
  expect([...answered].sort()).toEqual([nameA, nameB].sort());

  await elb.send(new DeregisterTargetsCommand({ TargetGroupArn, Targets: [{ Id: a }] }));
  expect((await healths()).get(a)).toBe('draining');
  await until('the target gone', async () => !(await healths()).has(a));
  for (let i = 0; i < 10; i++) expect(await get()).toBe(nameB);
  await elb.send(new DeleteLoadBalancerCommand({ LoadBalancerArn }));
  await until('what the load balancer held to be free', async () => (await healths()).get(b) === 'unused');
  await ec2.send(new TerminateInstancesCommand({ InstanceIds: [a, b] }));
  await Promise.all([reach(a, 'terminated'), reach(b, 'terminated')]);
}, 60_000);

test('endpoint and data plane end and start again under an instance that runs on', async () => {
  const instance = await launch(await network(), '#!/bin/sh\necho first boot; n=0; while sleep 0.2; do n=$((n+1)); echo "turn $n"; done\n');
  await printed(instance, 'turn 2');
  await plane!.stop({ keepInstances: true });
  await endpoint.aws.stop();
  await endpoint.open({ dataPlane: 'external' });
  plane = await startPlane();
  ec2 = endpoint.ec2();
  const turns = async () => Number(/turn (\d+)\n$/.exec(await console(instance))?.[1] ?? 0);
  const before = await turns();
  await until('it to go on', async () => (await turns()) > before + 2);
  expect((await console(instance)).match(/first boot/g)).toHaveLength(1);
  expect((await describe(instance)).State?.Name).toBe('running');
});

test('on a full disk nothing is changed, reads go on, and changes are made again when there is room', async () => {
  const folder = endpoint.directory;
  await endpoint.aws.stop();
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=256k', 'kumulus-localaws-test', folder]);
  try {
    await endpoint.open({ dataPlane: 'simulated' });
    ec2 = endpoint.ec2();
    const make = (n: number) => ec2.send(new CreateVpcCommand({ CidrBlock: `10.${n}.0.0/16` }));
    await make(0);
    const filler = join(folder, 'filler');
    try {
      writeFileSync(filler, Buffer.alloc(1024 * 1024));
    } catch {
      // That is what was wanted.
    }
    let failures = 0;
    for (let n = 1; n < 20 && failures < 2; n++) await make(n).catch(() => failures++);
    expect(failures).toBe(2);
    expect(await codeOf(make(200))).toBe('ServiceUnavailable');
    expect((await ec2.send(new DescribeVpcsCommand({}))).Vpcs!.length).toBeGreaterThan(0);
    rmSync(filler);
    await make(201);
    const known = (await ec2.send(new DescribeVpcsCommand({}))).Vpcs!.map((one) => one.VpcId);
    await endpoint.aws.stop();
    await endpoint.open({ dataPlane: 'simulated' });
    ec2 = endpoint.ec2();
    expect((await ec2.send(new DescribeVpcsCommand({}))).Vpcs!.map((one) => one.VpcId)).toEqual(known);
  } finally {
    await endpoint.aws.stop();
    execFileSync('umount', [folder]);
  }
});
