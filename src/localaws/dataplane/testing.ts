import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Instance, NetworkInterface, SecurityGroup, Volume } from '@aws-sdk/client-ec2';
import type { TargetDescription } from '@aws-sdk/client-elastic-load-balancing-v2';
import { pino } from 'pino';
import type { CloudReports, CloudSource, CloudState, TargetHealthState } from '../contract.ts';
import { run } from './command.ts';
import { type DataPlane, type DataPlaneOptions, destroyEverything, startDataPlane } from './dataplane.ts';
import { readIdentity } from './instance.ts';

export function newId(prefix: string): string {
  return `${prefix}-${randomBytes(9).toString('hex').slice(0, 17)}`;
}

/** A cloud in memory for the data plane's tests: one VPC with one subnet, and what a test adds. Reports change it as the embedded endpoint would. */
export class MemoryCloud implements CloudSource, CloudReports {
  readonly region = 'us-east-1';
  readonly accountId = '000000000000';
  readonly vpcId = newId('vpc');
  readonly subnetId = newId('subnet');
  readonly groupId = newId('sg');
  readonly state: CloudState;
  readonly console = new Map<string, string>();
  readonly health = new Map<string, TargetHealthState>();
  readonly healthLog: string[] = [];
  private readonly data = new Map<string, string>();
  private readonly rebootCounts = new Map<string, number>();
  private readonly callbacks = new Set<() => void>();
  private lastHost = 9;

  constructor() {
    this.state = {
      vpcs: [{ VpcId: this.vpcId, CidrBlock: '10.0.0.0/16' }],
      subnets: [
        { SubnetId: this.subnetId, VpcId: this.vpcId, CidrBlock: '10.0.0.0/20', AvailabilityZone: 'us-east-1a', AvailabilityZoneId: 'use1-az1' },
      ],
      routeTables: [
        {
          RouteTableId: newId('rtb'),
          VpcId: this.vpcId,
          Associations: [{ Main: true, AssociationState: { State: 'associated' } }],
          Routes: [{ DestinationCidrBlock: '10.0.0.0/16', GatewayId: 'local', State: 'active' }],
        },
      ],
      internetGateways: [],
      securityGroups: [this.group(this.groupId, [{ IpProtocol: '-1', IpRanges: [{ CidrIp: '0.0.0.0/0' }] }])],
      networkInterfaces: [],
      instances: [],
      volumes: [],
      loadBalancers: [],
      listeners: [],
      targetGroups: [],
    };
  }

  group(id: string, ingress: SecurityGroup['IpPermissions']): SecurityGroup {
    return {
      GroupId: id,
      GroupName: id,
      VpcId: this.vpcId,
      IpPermissions: ingress,
      IpPermissionsEgress: [{ IpProtocol: '-1', IpRanges: [{ CidrIp: '0.0.0.0/0' }] }],
    };
  }

  changed(): void {
    for (const callback of this.callbacks) setImmediate(callback);
  }

  addInterface(options: { groups?: string[]; tags?: Record<string, string> } = {}): NetworkInterface {
    const id = newId('eni');
    const made: NetworkInterface = {
      NetworkInterfaceId: id,
      VpcId: this.vpcId,
      SubnetId: this.subnetId,
      PrivateIpAddress: `10.0.0.${++this.lastHost}`,
      MacAddress: `02:00:0a:00:00:${this.lastHost.toString(16).padStart(2, '0')}`,
      Groups: (options.groups ?? [this.groupId]).map((GroupId) => ({ GroupId })),
      SourceDestCheck: true,
      TagSet: Object.entries(options.tags ?? {}).map(([Key, Value]) => ({ Key, Value })),
    };
    this.state.networkInterfaces.push(made);
    return made;
  }

  launch(userData = '', options: { groups?: string[] } = {}): Instance & { InstanceId: string; PrivateIpAddress: string } {
    const id = newId('i');
    const network = this.addInterface(options);
    network.Attachment = { InstanceId: id, DeviceIndex: 0 };
    const instance = {
      InstanceId: id,
      ImageId: 'ami-host',
      InstanceType: 't3.medium' as const,
      VpcId: this.vpcId,
      SubnetId: this.subnetId,
      PrivateIpAddress: network.PrivateIpAddress!,
      PrivateDnsName: `ip-${network.PrivateIpAddress!.replaceAll('.', '-')}.ec2.internal`,
      Placement: { AvailabilityZone: 'us-east-1a' },
      LaunchTime: new Date(),
      State: { Name: 'pending' as const },
      MetadataOptions: { HttpTokens: 'required' as const, HttpEndpoint: 'enabled' as const },
    };
    this.data.set(id, userData);
    this.state.instances.push(instance);
    this.changed();
    return instance;
  }

  setState(instanceId: string, name: 'pending' | 'running' | 'stopping' | 'shutting-down'): void {
    this.state.instances.find((one) => one.InstanceId === instanceId)!.State = { Name: name };
    this.changed();
  }

  reboot(instanceId: string): void {
    this.rebootCounts.set(instanceId, this.reboots(instanceId) + 1);
    this.changed();
  }

  addVolume(sizeGiB: number): Volume & { VolumeId: string } {
    const volume = { VolumeId: newId('vol'), Size: sizeGiB, State: 'creating' as const, AvailabilityZone: 'us-east-1a', Attachments: [] };
    this.state.volumes.push(volume);
    this.changed();
    return volume;
  }

  attach(volumeId: string, instanceId: string, device: string): void {
    const volume = this.state.volumes.find((one) => one.VolumeId === volumeId)!;
    volume.State = 'in-use';
    volume.Attachments = [{ VolumeId: volumeId, InstanceId: instanceId, Device: device, State: 'attaching' }];
    this.changed();
  }

  detach(volumeId: string): void {
    this.state.volumes.find((one) => one.VolumeId === volumeId)!.Attachments![0].State = 'detaching';
    this.changed();
  }

  // What the data plane reads.
  async read(): Promise<CloudState> {
    return structuredClone(this.state);
  }
  onChange(callback: () => void): () => void {
    this.callbacks.add(callback);
    return () => this.callbacks.delete(callback);
  }
  async userData(instanceId: string): Promise<string | undefined> {
    return this.data.get(instanceId) || undefined;
  }
  async roleCredentials(instanceId: string) {
    const expiration = new Date(Date.now() + 3600_000);
    return {
      roleName: 'node',
      credentials: { accessKeyId: 'ASIATEST', secretAccessKey: `secret-of-${instanceId}`, sessionToken: 'token', expiration },
    };
  }
  reboots(instanceId: string): number {
    return this.rebootCounts.get(instanceId) ?? 0;
  }

  // What it reports.
  instanceState(instanceId: string, state: 'running' | 'stopped' | 'terminated'): void {
    const instance = this.state.instances.find((one) => one.InstanceId === instanceId);
    if (!instance || instance.State?.Name === state) return;
    instance.State = { Name: state };
    if (state === 'terminated') {
      this.state.networkInterfaces = this.state.networkInterfaces.filter((one) => one.Attachment?.InstanceId !== instanceId);
      for (const volume of this.state.volumes) {
        if (volume.Attachments?.[0]?.InstanceId === instanceId) Object.assign(volume, { Attachments: [], State: 'available' });
      }
    }
    this.changed();
  }
  consoleOutput(instanceId: string, text: string): void {
    this.console.set(instanceId, (this.console.get(instanceId) ?? '') + text);
  }
  volumeAttachment(volumeId: string, _instanceId: string, state: 'attached' | 'detached'): void {
    const volume = this.state.volumes.find((one) => one.VolumeId === volumeId);
    if (!volume || volume.Attachments?.[0]?.State === state) return;
    if (state === 'attached' && volume.Attachments?.[0]) volume.Attachments[0].State = state;
    else if (state === 'detached') Object.assign(volume, { Attachments: [], State: 'available' });
    this.changed();
  }
  volumeState(volumeId: string, state: 'available' | 'deleted' | 'error'): void {
    const volume = this.state.volumes.find((one) => one.VolumeId === volumeId);
    if (!volume || volume.State === state) return;
    volume.State = state;
    if (state === 'deleted') this.state.volumes = this.state.volumes.filter((one) => one !== volume);
    this.changed();
  }
  loadBalancerState(arn: string, state: 'active' | 'failed'): void {
    const balancer = this.state.loadBalancers.find((one) => one.LoadBalancerArn === arn);
    if (!balancer || balancer.State?.Code === state) return;
    balancer.State = { Code: state };
    this.changed();
  }
  targetHealth(targetGroupArn: string, target: TargetDescription, state: TargetHealthState): void {
    this.health.set(`${targetGroupArn} ${target.Id}:${target.Port}`, state);
    this.healthLog.push(`${target.Id} ${state}`);
  }
}

/** Polls until what `look` gives is truthy; throws with `what` after `timeout` milliseconds. */
export async function until<T>(what: string, look: () => T | Promise<T>, timeout = 15_000): Promise<NonNullable<T>> {
  for (const end = Date.now() + timeout; ; ) {
    const value = await look();
    if (value) return value as NonNullable<T>;
    if (Date.now() > end) throw new Error(`waited ${timeout / 1000} s in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** A command that sends one ICMP echo request and prints `reply`, `unreachable`, or `silence` after half a second. */
export function ping(address: string): string {
  const perl = `socket(S, PF_INET, SOCK_RAW, 1) or die $!; my $p = pack("CCnnn", 8, 0, 0, $$ & 65535, 1);
    my $sum = 0; $sum += $_ for unpack("n*", $p); $sum = ($sum >> 16) + ($sum & 65535); substr($p, 2, 2) = pack("n", ~$sum & 65535);
    send(S, $p, 0, pack_sockaddr_in(0, inet_aton("${address}"))) or do { print "unreachable\\n"; exit };
    my $in = ""; vec($in, fileno(S), 1) = 1;
    while (select(my $r = $in, undef, undef, 0.5)) { recv(S, my $b, 200, 0); my $t = unpack("C", substr($b, 20)); if ($t == 0) { print "reply\\n"; exit } if ($t == 3) { print "unreachable\\n"; exit } }
    print "silence\\n"`;
  return `perl -MSocket -e '${perl}'`;
}

/** Folders, cluster id and data planes of one test file. Needs root: it makes namespaces, and says so. */
export class TestHost {
  readonly id = randomBytes(3).toString('hex');
  readonly directory: string;
  readonly planes: DataPlane[] = [];

  constructor() {
    if (process.getuid?.() !== 0) throw new Error('these tests make Linux namespaces: run them as root');
    this.directory = mkdtempSync('/tmp/kumulus-dataplane-');
  }

  async start(cloud: MemoryCloud, more: Partial<DataPlaneOptions> = {}): Promise<DataPlane> {
    const plane = await startDataPlane({
      source: cloud,
      reports: cloud,
      directory: this.directory,
      id: this.id,
      packageRoot: join(import.meta.dirname, '../../..'),
      nodeBinary: process.execPath,
      log: pino({ level: process.env['KUMULUS_LOG'] ?? 'silent' }),
      ...more,
    });
    this.planes.push(plane);
    return plane;
  }

  /** Runs a shell command inside an instance and gives what it printed, errors too. */
  async inside(instanceId: string, command: string): Promise<string> {
    const identity = await readIdentity(join(this.directory, 'instances', instanceId));
    if (!identity) throw new Error(`instance ${instanceId} is not running`);
    const script = `. /etc/environment; export AWS_ENDPOINT_URL; ${command}`;
    return run('nsenter', ['-t', String(identity.pid), '-m', '-u', '-i', '-n', '-p', 'sh', '-c', `{ ${script}\n} 2>&1; true`]);
  }

  async end(): Promise<void> {
    for (const plane of this.planes) await plane.stop({ keepInstances: true });
    await destroyEverything({ directory: this.directory, id: this.id });
    rmSync(this.directory, { recursive: true, force: true });
  }
}
