import * as pulumi from '@pulumi/pulumi';

/*
 * The resources of the provider as Pulumi classes. Inputs and outputs are `declare`d only: Node strips types, and a field
 * that were really there would hide what Pulumi puts in its place.
 */

type Inputs<T> = { [K in keyof T]: pulumi.Input<T[K]> };

/** Whose a resource is, and what it is in the cluster: by these it is found again, so that it is never made twice. */
export interface Owned {
  cluster: pulumi.Input<string>;
  logicalId: pulumi.Input<string>;
  tags?: pulumi.Input<Record<string, pulumi.Input<string>>>;
}

abstract class KumulusResource extends pulumi.CustomResource {
  constructor(type: string, name: string, args: object, attributes: string[], secrets: string[], opts?: pulumi.CustomResourceOptions) {
    const outputs = Object.fromEntries(attributes.map((attribute) => [attribute, undefined]));
    super(type, name, { ...outputs, ...args }, pulumi.mergeOptions({ additionalSecretOutputs: secrets }, opts));
  }
}

export type VpcArgs = Owned & Inputs<{ cidrBlock: string; enableDnsHostnames?: boolean }>;
export class Vpc extends KumulusResource {
  declare readonly cidrBlock: pulumi.Output<string>;
  constructor(name: string, args: VpcArgs, opts?: pulumi.CustomResourceOptions) {
    super('kumulus:ec2:Vpc', name, args, [], [], opts);
  }
}

export type InternetGatewayArgs = Owned & Inputs<{ vpcId: string }>;
export class InternetGateway extends KumulusResource {
  constructor(name: string, args: InternetGatewayArgs, opts?: pulumi.CustomResourceOptions) {
    super('kumulus:ec2:InternetGateway', name, args, [], [], opts);
  }
}

export type SubnetArgs = Owned & Inputs<{ vpcId: string; cidrBlock: string; availabilityZone: string; mapPublicIpOnLaunch?: boolean }>;
export class Subnet extends KumulusResource {
  declare readonly cidrBlock: pulumi.Output<string>;
  declare readonly availabilityZone: pulumi.Output<string>;
  constructor(name: string, args: SubnetArgs, opts?: pulumi.CustomResourceOptions) {
    super('kumulus:ec2:Subnet', name, args, [], [], opts);
  }
}

export type RouteTableArgs = Owned &
  Inputs<{ vpcId: string; routes?: Inputs<{ destinationCidrBlock: string; gatewayId: string }>[]; subnetIds?: pulumi.Input<string>[] }>;
export class RouteTable extends KumulusResource {
  constructor(name: string, args: RouteTableArgs, opts?: pulumi.CustomResourceOptions) {
    super('kumulus:ec2:RouteTable', name, args, [], [], opts);
  }
}

export type IngressRule = Inputs<{ ipProtocol: string; fromPort?: number; toPort?: number; cidrIp?: string; sourceGroup?: string }>;
export type SecurityGroupArgs = Owned & Inputs<{ vpcId: string; groupName: string; description: string; ingress?: IngressRule[] }>;
export class SecurityGroup extends KumulusResource {
  constructor(name: string, args: SecurityGroupArgs, opts?: pulumi.CustomResourceOptions) {
    super('kumulus:ec2:SecurityGroup', name, args, [], [], opts);
  }
}

export type NetworkInterfaceArgs = Owned & Inputs<{ subnetId: string; groups: pulumi.Input<string>[]; description: string }>;
export class NetworkInterface extends KumulusResource {
  declare readonly privateIpAddress: pulumi.Output<string>;
  constructor(name: string, args: NetworkInterfaceArgs, opts?: pulumi.CustomResourceOptions) {
    super('kumulus:ec2:NetworkInterface', name, args, ['privateIpAddress'], [], opts);
  }
}

export type LaunchTemplateArgs = Owned &
  Inputs<{
    name: string;
    imageId: string;
    instanceType: string;
    instanceProfile: string;
    userData: string;
  }>;
export class LaunchTemplate extends KumulusResource {
  declare readonly version: pulumi.Output<string>;
  constructor(name: string, args: LaunchTemplateArgs, opts?: pulumi.CustomResourceOptions) {
    super('kumulus:ec2:LaunchTemplate', name, args, ['version'], ['userData'], opts);
  }
}

export type InstanceArgs = Owned &
  Inputs<{
    launchTemplateId: string;
    launchTemplateVersion: string;
    subnetId: string;
    securityGroupIds: pulumi.Input<string>[];
    instanceProfile: string;
    privateIpAddress?: string;
  }>;
export class Instance extends KumulusResource {
  declare readonly privateIpAddress: pulumi.Output<string>;
  declare readonly publicIpAddress: pulumi.Output<string>;
  declare readonly privateDnsName: pulumi.Output<string>;
  constructor(name: string, args: InstanceArgs, opts?: pulumi.CustomResourceOptions) {
    super('kumulus:ec2:Instance', name, args, ['privateIpAddress', 'publicIpAddress', 'privateDnsName'], [], opts);
  }
}

export type VolumeArgs = Owned & Inputs<{ availabilityZone: string; size: number }>;
export class Volume extends KumulusResource {
  constructor(name: string, args: VolumeArgs, opts?: pulumi.CustomResourceOptions) {
    super('kumulus:ec2:Volume', name, args, [], [], opts);
  }
}

export type LoadBalancerArgs = Owned & Inputs<{ name: string; scheme: 'internet-facing' | 'internal'; subnetIds: pulumi.Input<string>[] }>;
export class LoadBalancer extends KumulusResource {
  declare readonly dnsName: pulumi.Output<string>;
  declare readonly hostAddress: pulumi.Output<string>;
  constructor(name: string, args: LoadBalancerArgs, opts?: pulumi.CustomResourceOptions) {
    super('kumulus:elbv2:LoadBalancer', name, args, ['dnsName', 'hostAddress'], [], opts);
  }
}

export type TargetGroupArgs = Owned & Inputs<{ name: string; vpcId: string; port: number; targetIds: pulumi.Input<string>[] }>;
export class TargetGroup extends KumulusResource {
  constructor(name: string, args: TargetGroupArgs, opts?: pulumi.CustomResourceOptions) {
    super('kumulus:elbv2:TargetGroup', name, args, [], [], opts);
  }
}

export type ListenerArgs = Owned & Inputs<{ loadBalancerArn: string; port: number; targetGroupArn: string }>;
export class Listener extends KumulusResource {
  constructor(name: string, args: ListenerArgs, opts?: pulumi.CustomResourceOptions) {
    super('kumulus:elbv2:Listener', name, args, [], [], opts);
  }
}

export type InstanceProfileArgs = Owned & Inputs<{ name: string; managedPolicies?: pulumi.Input<string>[]; policyDocument?: string }>;
export class InstanceProfile extends KumulusResource {
  declare readonly arn: pulumi.Output<string>;
  constructor(name: string, args: InstanceProfileArgs, opts?: pulumi.CustomResourceOptions) {
    super('kumulus:iam:InstanceProfile', name, args, ['arn'], [], opts);
  }
}

export type ParameterArgs = Owned & Inputs<{ name: string; type: 'String' | 'SecureString'; value: string }>;
export class Parameter extends KumulusResource {
  constructor(name: string, args: ParameterArgs, opts?: pulumi.CustomResourceOptions) {
    super('kumulus:ssm:Parameter', name, args, [], ['value'], opts);
  }
}

/** Settings of a provider of its own, as `kumulus:` settings of the stack are of the default one. */
export interface ProviderArgs {
  region?: pulumi.Input<string>;
  endpoint?: pulumi.Input<string>;
  profile?: pulumi.Input<string>;
  accessKeyId?: pulumi.Input<string>;
  secretAccessKey?: pulumi.Input<string>;
}
export class Provider extends pulumi.ProviderResource {
  constructor(name: string, args: ProviderArgs = {}, opts?: pulumi.ResourceOptions) {
    super('kumulus', name, { ...args }, opts);
  }
}

/** The class of each kind, for declarations of topology(). */
export const classes = {
  'ec2:Vpc': Vpc,
  'ec2:InternetGateway': InternetGateway,
  'ec2:Subnet': Subnet,
  'ec2:RouteTable': RouteTable,
  'ec2:SecurityGroup': SecurityGroup,
  'ec2:NetworkInterface': NetworkInterface,
  'ec2:LaunchTemplate': LaunchTemplate,
  'ec2:Instance': Instance,
  'ec2:Volume': Volume,
  'elbv2:LoadBalancer': LoadBalancer,
  'elbv2:TargetGroup': TargetGroup,
  'elbv2:Listener': Listener,
  'iam:InstanceProfile': InstanceProfile,
  'ssm:Parameter': Parameter,
} as const;

/** A cluster's keys; they exist in Pulumi's state alone. */
export class Credentials extends KumulusResource {
  declare readonly caCertificate: pulumi.Output<string>;
  declare readonly caCertHash: pulumi.Output<string>;
  declare readonly caKey: pulumi.Output<string>;
  declare readonly serviceAccountKey: pulumi.Output<string>;
  declare readonly bootstrapToken: pulumi.Output<string>;
  declare readonly adminCertificate: pulumi.Output<string>;
  declare readonly adminKey: pulumi.Output<string>;
  constructor(name: string, args: { cluster: pulumi.Input<string> }, opts?: pulumi.CustomResourceOptions) {
    const open = ['caCertificate', 'caCertHash', 'adminCertificate'];
    const secret = ['caKey', 'serviceAccountKey', 'bootstrapToken', 'adminKey'];
    super('kumulus:cluster:Credentials', name, args, [...open, ...secret], secret, opts);
  }
}

/** What a cluster's controllers make in AWS; deleted after what depends on this. */
export class Leavings extends KumulusResource {
  constructor(name: string, args: Inputs<{ cluster: string; vpcId: string }>, opts?: pulumi.CustomResourceOptions) {
    super('kumulus:cluster:Leavings', name, args, [], [], opts);
  }
}

export type EndpointArgs = Inputs<{ loadBalancerArn: string; port: number; caCertificate: string; instanceId?: string; timeoutSeconds?: number }>;
/** Where a cluster's API answers; waits until it does. */
export class Endpoint extends KumulusResource {
  declare readonly server: pulumi.Output<string>;
  declare readonly tlsServerName: pulumi.Output<string>;
  constructor(name: string, args: EndpointArgs, opts?: pulumi.CustomResourceOptions) {
    super('kumulus:cluster:Endpoint', name, args, ['server', 'tlsServerName'], [], opts);
  }
}

export type ReadyNodesArgs = Inputs<{
  group: string;
  names: pulumi.Input<string>[];
  instanceIds?: pulumi.Input<string>[];
  server: string;
  tlsServerName?: string;
  caCertificate: string;
  adminCertificate: string;
  adminKey: string;
  timeoutSeconds?: number;
}>;
/** Nodes of a group; waits until each of them is Ready. */
export class ReadyNodes extends KumulusResource {
  constructor(name: string, args: ReadyNodesArgs, opts?: pulumi.CustomResourceOptions) {
    super('kumulus:cluster:ReadyNodes', name, args, [], ['adminKey'], opts);
  }
}
