import type * as ec2 from '@aws-sdk/client-ec2';
import type * as ecr from '@aws-sdk/client-ecr';
import type * as elb from '@aws-sdk/client-elastic-load-balancing-v2';
import type * as iam from '@aws-sdk/client-iam';
import type * as ssm from '@aws-sdk/client-ssm';

/** A type with some of its fields always there. */
type With<T, K extends keyof T> = Omit<T, K> & { [P in K]-?: NonNullable<T[P]> };

export type VpcRecord = With<ec2.Vpc, 'VpcId' | 'CidrBlock' | 'OwnerId'> & { dnsSupport: boolean; dnsHostnames: boolean };

/** AvailableIpAddressCount is counted when it is described. */
export type SubnetRecord = With<ec2.Subnet, 'SubnetId' | 'VpcId' | 'CidrBlock' | 'AvailabilityZone' | 'AvailabilityZoneId'>;

export type InternetGatewayRecord = With<ec2.InternetGateway, 'InternetGatewayId'>;

/** The state of a route is found when it is described. */
export type RouteTableRecord = With<ec2.RouteTable, 'RouteTableId' | 'VpcId' | 'Routes' | 'Associations'>;

/** The rules stand in a table of their own. */
export type SecurityGroupRecord = With<ec2.SecurityGroup, 'GroupId' | 'GroupName' | 'VpcId' | 'Description'>;

export type SecurityGroupRuleRecord = With<
  ec2.SecurityGroupRule,
  'SecurityGroupRuleId' | 'GroupId' | 'IsEgress' | 'IpProtocol' | 'FromPort' | 'ToPort'
>;

export type NetworkInterfaceRecord = With<
  ec2.NetworkInterface,
  'NetworkInterfaceId' | 'SubnetId' | 'VpcId' | 'PrivateIpAddress' | 'PrivateIpAddresses' | 'Groups' | 'Status' | 'MacAddress'
> & {
  /** An address given to an instance for as long as it runs (not an Elastic IP). */
  publicIp?: string;
  /** Whether the instance gets such an address at each of its starts. */
  mapsPublicIp?: boolean;
};

/**
 * An instance without what is found elsewhere when it is described: its interfaces, addresses, groups, volumes and tags.
 */
export interface InstanceRecord {
  instance: With<ec2.Instance, 'InstanceId' | 'ImageId' | 'InstanceType' | 'State' | 'LaunchTime' | 'SubnetId' | 'VpcId'>;
  reservationId: string;
  /** Base64, as it was given. */
  userData?: string;
  instanceProfileName?: string;
  instanceProfileAssociationId?: string;
  terminationProtection: boolean;
  stopProtection: boolean;
  shutdownBehavior: 'stop' | 'terminate';
  /** How often RebootInstances was called. */
  reboots: number;
  terminatedAt?: Date;
}

export type VolumeRecord = Omit<With<ec2.Volume, 'VolumeId' | 'Size' | 'State' | 'AvailabilityZone' | 'VolumeType'>, 'Attachments'> & {
  Attachments: With<ec2.VolumeAttachment, 'InstanceId' | 'VolumeId' | 'Device' | 'State'>[];
  modification?: ec2.VolumeModification;
};

export type SnapshotRecord = With<ec2.Snapshot, 'SnapshotId' | 'VolumeSize'>;
export type KeyPairRecord = With<ec2.KeyPairInfo, 'KeyPairId' | 'KeyName'> & { publicKey: string };
export type AddressRecord = With<ec2.Address, 'AllocationId' | 'PublicIp'>;
export type NatGatewayRecord = With<ec2.NatGateway, 'NatGatewayId' | 'SubnetId' | 'VpcId' | 'State'>;

export interface LaunchTemplateRecord {
  template: With<ec2.LaunchTemplate, 'LaunchTemplateId' | 'LaunchTemplateName' | 'DefaultVersionNumber' | 'LatestVersionNumber'>;
  versions: With<ec2.LaunchTemplateVersion, 'VersionNumber' | 'LaunchTemplateData'>[];
}

export interface TagsRecord {
  tags: { Key: string; Value: string }[];
}

/** A request with a client token and what it returned. */
export interface ClientTokenRecord {
  parameters: string;
  output: unknown;
  at: Date;
}

export type LoadBalancerRecord = With<
  elb.LoadBalancer,
  'LoadBalancerArn' | 'LoadBalancerName' | 'DNSName' | 'Type' | 'Scheme' | 'VpcId' | 'AvailabilityZones' | 'State'
> & { attributes: Record<string, string>; networkInterfaceIds: string[] };

export type ListenerRecord = With<elb.Listener, 'ListenerArn' | 'LoadBalancerArn' | 'Port' | 'Protocol' | 'DefaultActions'> & {
  attributes: Record<string, string>;
};

export type RuleRecord = With<elb.Rule, 'RuleArn' | 'Priority' | 'Actions' | 'Conditions'> & { listenerArn: string };

export interface TargetRecord {
  target: With<elb.TargetDescription, 'Id'>;
  health: elb.TargetHealth;
  /** When a draining target is gone. */
  drainedAt?: Date;
}

/** LoadBalancerArns is found when it is described. */
export type TargetGroupRecord = With<elb.TargetGroup, 'TargetGroupArn' | 'TargetGroupName' | 'TargetType'> & {
  attributes: Record<string, string>;
  targets: TargetRecord[];
};

export type RoleRecord = With<iam.Role, 'RoleName' | 'RoleId' | 'Arn'> & { policies: Record<string, string>; attached: string[] };
export type InstanceProfileRecord = With<iam.InstanceProfile, 'InstanceProfileName' | 'InstanceProfileId' | 'Arn'> & { roleNames: string[] };
export type UserRecord = With<iam.User, 'UserName' | 'UserId' | 'Arn'> & { policies: Record<string, string>; attached: string[] };
export type AccessKeyRecord = With<iam.AccessKey, 'UserName' | 'AccessKeyId' | 'SecretAccessKey' | 'Status'>;
export type PolicyRecord = With<iam.Policy, 'Arn' | 'PolicyName' | 'DefaultVersionId'> & {
  versions: With<iam.PolicyVersion, 'VersionId' | 'Document'>[];
  /** The number of the version made last, if it may be gone. */
  lastVersion?: number;
};
export interface OpenIdProviderRecord {
  arn: string;
  url: string;
  clientIds: string[];
  thumbprints: string[];
  created: Date;
  tags?: { Key: string; Value: string }[];
}

export type ParameterRecord = With<ssm.Parameter, 'Name' | 'Type' | 'Value' | 'Version'> & {
  metadata: ssm.ParameterMetadata;
  history: ssm.ParameterHistory[];
  tags?: ssm.Tag[];
};

export type RepositoryRecord = With<ecr.Repository, 'repositoryName' | 'repositoryArn' | 'repositoryUri'> & { policy?: string };

/** A manifest of a repository; its bytes are a blob on disk. */
export interface ManifestRecord {
  repository: string;
  digest: string;
  mediaType: string;
  size: number;
  /** Bytes of the manifest's configuration and layers. */
  imageSize: number;
  tags: string[];
  /** Digests of the blobs and manifests that it names. */
  references: string[];
  artifactType?: string;
  subject?: string;
  pushedAt: Date;
}

/** Which blobs a repository has: a push to one repository does not make them readable in another. */
export interface RepositoryBlobRecord {
  repository: string;
  digest: string;
  size: number;
  at: Date;
}
