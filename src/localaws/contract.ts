import type { Instance, InternetGateway, NetworkInterface, RouteTable, SecurityGroup, Subnet, Volume, Vpc } from '@aws-sdk/client-ec2';
import type { Listener, LoadBalancer, TargetDescription, TargetGroup, TargetGroupAttribute } from '@aws-sdk/client-elastic-load-balancing-v2';

/** Between api/ (which holds AWS state) and dataplane/ (which makes it real). Shapes are the AWS SDK's. */
export interface CloudState {
  vpcs: Vpc[];
  subnets: Subnet[];
  routeTables: RouteTable[];
  internetGateways: InternetGateway[];
  securityGroups: SecurityGroup[];
  networkInterfaces: NetworkInterface[];
  instances: Instance[];
  volumes: Volume[];
  loadBalancers: LoadBalancer[];
  listeners: Listener[];
  /** attributes: those that differ from AWS's defaults suffice (`deregistration_delay.timeout_seconds` is read). */
  targetGroups: { group: TargetGroup; targets: TargetDescription[]; attributes?: TargetGroupAttribute[] }[];
}

export interface RoleCredentials {
  accessKeyId: string;
  secretAccessKey: string;
  sessionToken: string;
  expiration: Date;
}

/** What a data plane reads of an endpoint. */
export interface CloudSource {
  region: string;
  accountId: string;
  /** States move without a data plane's reports, so that a volume may be first seen when it is available already. */
  autonomous?: boolean;
  read(): Promise<CloudState>;
  /** Calls back (coalesced) after every change that a read() would show. Returns its end. */
  onChange(callback: () => void): () => void;
  /** Decoded user data. */
  userData(instanceId: string): Promise<string | undefined>;
  /** Credentials of the instance profile's role, for instance metadata. */
  roleCredentials(instanceId: string): Promise<{ roleName: string; credentials: RoleCredentials } | undefined>;
  /** How often RebootInstances was called for the instance so far; a call counts as a change. Without it no instance reboots. */
  reboots?(instanceId: string): number;
  /** Whether the detachment under way was asked for with Force, which gives up on a volume still mounted. */
  detachForced?(volumeId: string, instanceId: string): boolean;
}

export type TargetHealthState = 'initial' | 'healthy' | 'unhealthy' | 'unused' | 'draining' | 'unavailable';

/** What a data plane tells the embedded endpoint back. Each is idempotent; an unknown id is ignored. */
export interface CloudReports {
  instanceState(instanceId: string, state: 'running' | 'stopped' | 'terminated', reason?: string): void;
  /** Appends to what GetConsoleOutput returns (the last 64 KiB are kept). */
  consoleOutput(instanceId: string, text: string): void;
  /** attached: the device node is there. detached: it is gone from the instance. */
  volumeAttachment(volumeId: string, instanceId: string, state: 'attached' | 'detached'): void;
  volumeState(volumeId: string, state: 'available' | 'deleted' | 'error'): void;
  loadBalancerState(arn: string, state: 'active' | 'failed', reason?: string): void;
  /** Where an internet-facing load balancer listens on the host: told as its tag kumulus:host-address. Told once by each data plane. */
  loadBalancerHostAddress?(arn: string, address: string): void;
  targetHealth(targetGroupArn: string, target: TargetDescription, state: TargetHealthState, reason?: string, description?: string): void;
}
