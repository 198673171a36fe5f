// What the data plane and a VPC's agent say to each other, over IPC with structured clones (so bytes are Buffers).

export interface MetadataSubject {
  instanceId: string;
  imageId: string;
  instanceType: string;
  accountId: string;
  region: string;
  availabilityZone: string;
  availabilityZoneId: string;
  hostname: string;
  localIpv4: string;
  publicIpv4?: string;
  launchTime: string;
  reservationId: string;
  amiLaunchIndex: number;
  architecture: string;
  securityGroups: { id: string; name: string }[];
  interfaces: {
    id: string;
    mac: string;
    deviceNumber: number;
    addresses: string[];
    subnetId: string;
    subnetCidr: string;
    vpcId: string;
    vpcCidr: string;
  }[];
  /** IMDSv1 is refused. */
  tokensRequired: boolean;
  enabled: boolean;
  /** With InstanceMetadataTags enabled. */
  tags?: Record<string, string>;
}

export interface TargetConfig {
  /** As in the AWS state; the key of its health. */
  id: string;
  port: number;
  /** What to connect to. */
  address: string;
}

export interface HealthCheckConfig {
  protocol: 'TCP' | 'HTTP' | 'HTTPS';
  /** undefined: the target's own. */
  port?: number;
  path: string;
  /** Codes and ranges, such as 200-399,404. */
  matcher: string;
  /** Milliseconds. */
  interval: number;
  timeout: number;
  healthyThreshold: number;
  unhealthyThreshold: number;
}

export interface TargetGroupConfig {
  arn: string;
  targets: TargetConfig[];
  check: HealthCheckConfig;
  /** Milliseconds that connections to a deregistered target may go on. */
  deregistrationDelay: number;
  /** Health known from before, by target key: so that a new agent starts where the last one was. */
  known: Record<string, string>;
}

export interface ListenerConfig {
  arn: string;
  loadBalancerArn: string;
  port: number;
  /** The load balancer's addresses in the VPC. */
  addresses: string[];
  /** Target groups with their weights. */
  forward: { targetGroupArn: string; weight: number }[];
}

export interface AgentConfig {
  vpcId: string;
  cidrs: string[];
  resolver: string;
  region: string;
  /** A and reverse records by name in lower case without the last dot. */
  names: Record<string, string[]>;
  /** Suffixes within which a name that is not in `names` does not exist, such as ec2.internal. */
  authoritative: string[];
  /** Instances by their addresses; networks behind them (pod CIDRs) by CIDR. */
  subjects: Record<string, MetadataSubject>;
  networks: { cidr: string; instanceId: string }[];
  held: { address: string; port: number; socketPath: string }[];
  /** The source address of connections made through the dial socket, if there is a held interface. */
  dialFrom?: string;
  dialSocket: string;
  listeners: ListenerConfig[];
  targetGroups: TargetGroupConfig[];
}

export type ToAgent =
  | { type: 'config'; config: AgentConfig }
  /** Comes with a listening handle: connections to it belong to that listener. */
  | { type: 'listener'; listenerArn: string; host: string; port: number }
  | { type: 'close-listener'; host: string; port: number }
  | { type: 'answer'; id: number; value?: unknown; error?: string };

export type ToDataPlane =
  | { type: 'ready' }
  | { type: 'configured' }
  /** Comes with a socket: a connection to the AWS endpoint. */
  | { type: 'aws' }
  | { type: 'ask'; id: number; what: 'resolve'; message: Uint8Array }
  | { type: 'ask'; id: number; what: 'credentials' | 'user-data'; instanceId: string }
  | { type: 'health'; targetGroupArn: string; target: { id: string; port: number }; state: string; reason?: string; description?: string }
  | { type: 'log'; level: 'debug' | 'info' | 'warn'; message: string };

export function targetKey(target: { id: string; port: number }): string {
  return `${target.id}:${target.port}`;
}
