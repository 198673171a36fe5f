import { createHash } from 'node:crypto';

/**
 * What a cluster consists of on AWS, as one pure function: `create cluster`, the Pulumi components and the tests all start
 * from the same list, and the handlers in handlers/ find or create each entry.
 */

/** A property of another resource of the topology, filled in when that one exists. */
export interface Ref {
  ref: string;
  /** id by default. */
  attribute?: string;
}
export const ref = (id: string, attribute?: string): Ref => (attribute ? { ref: id, attribute } : { ref: id });
export const isRef = (v: unknown): v is Ref => typeof v === 'object' && v !== null && typeof (v as Ref).ref === 'string';

export type ResourceKind =
  | 'ec2:Vpc'
  | 'ec2:InternetGateway'
  | 'ec2:Subnet'
  | 'ec2:RouteTable'
  | 'ec2:SecurityGroup'
  | 'ec2:NetworkInterface'
  | 'ec2:LaunchTemplate'
  | 'ec2:Instance'
  | 'ec2:Volume'
  | 'elbv2:LoadBalancer'
  | 'elbv2:TargetGroup'
  | 'elbv2:Listener'
  | 'iam:InstanceProfile'
  | 'ssm:Parameter';

export interface Declaration {
  /** Unique in the cluster; becomes the tag kumulus:logical-id. */
  id: string;
  kind: ResourceKind;
  properties: Record<string, unknown>;
  tags?: Record<string, string>;
  /** Ids of what has to be there before, though no property refers to it. */
  after?: string[];
}

/**
 * A value that may become known only when others exist: the text itself here, an Output in a Pulumi program. topology() passes
 * it on and never looks inside.
 */
export type Later<T> = T | object;

export interface NodeGroupSpec {
  name: string;
  size: number;
  instanceType: string;
  imageId: string;
  /** Not base64. At most 16 KiB. */
  userData: Later<string>;
}

/** The control plane runs beside the nodes, behind a network interface whose connections go to this socket. */
export interface HostedControlPlane {
  type: 'hosted';
  socket: string;
  port: number;
  /** The interface's, where it shall not be the subnet's choice: moto's choice may be an address that is taken or none at all. */
  address?: string;
}

/** The control plane runs on an EC2 instance of its own, at controlPlaneAddress(), behind a network load balancer. */
export interface InstanceControlPlane {
  type: 'instance';
  instanceType: string;
  imageId: string;
  userData: Later<string>;
  /** Who may reach the API through the load balancer; its scheme is internal where nobody may. */
  publicAccessCidrs: string[];
  /** GiB of the volume that the store lives on; it outlives the instance. */
  volumeSize: number;
  /** What the instance takes from Systems Manager at boot, by the names' last part. */
  secrets: Record<string, Later<string>>;
}

export interface TopologySpec {
  cluster: string;
  region: string;
  zones: string[];
  vpcCidr: string;
  podCidr: string;
  controlPlane: HostedControlPlane | InstanceControlPlane;
  nodeGroups: NodeGroupSpec[];
}

/** The ids of the parts that others ask for. */
export const ids = {
  vpc: 'vpc',
  internetGateway: 'internet-gateway',
  routeTable: 'public',
  controlPlaneSecurityGroup: 'control-plane-sg',
  nodeSecurityGroup: 'nodes',
  nodeProfile: 'node-role',
  controlPlaneProfile: 'control-plane-role',
  controlPlaneInterface: 'control-plane',
  controlPlaneTemplate: 'control-plane-template',
  controlPlaneInstance: 'control-plane-0',
  controlPlaneVolume: 'control-plane-data',
  apiLoadBalancer: 'api',
  apiTargetGroup: 'api-targets',
  apiListener: 'api-listener',
  secret: (name: string) => `secret-${name}`,
  subnet: (zone: string) => `subnet-${zone}`,
  template: (group: string) => `${group}-template`,
  instance: (group: string, index: number) => `${group}-${index}`,
};

/** The port of the API server, on its instance and at its load balancer. */
export const apiPort = 6443;

/** The n-th /20 of a VPC's range. */
export function subnetCidr(vpcCidr: string, n: number): string {
  const [address = ''] = vpcCidr.split('/');
  const [a, b] = address.split('.').map(Number);
  return `${a}.${b}.${n * 16}.0/20`;
}

/** Where a control plane on an instance is: an address near the end of the first subnet, known before anything exists. */
export function controlPlaneAddress(vpcCidr: string): string {
  const [a, b] = vpcCidr.split('.').map(Number);
  return `${a}.${b}.15.250`;
}

/** The folder of a cluster's parameters in Systems Manager. */
export const parameterPath = (cluster: string): string => `/kumulus/${cluster}`;

/** A name of at most 32 characters, as ELBv2 wants; what is cut off is told apart by a hash. */
export function shortName(cluster: string, what: string): string {
  const whole = `${cluster}-${what}`;
  return whole.length <= 32 ? whole : `${whole.slice(0, 23)}-${createHash('sha256').update(whole).digest('hex').slice(0, 8)}`;
}

export function topology(spec: TopologySpec): Declaration[] {
  return [
    ...networkTopology(spec),
    ...(spec.controlPlane.type === 'hosted' ? hostedTopology(spec, spec.controlPlane) : controlPlaneTopology(spec, spec.controlPlane)),
    ...spec.nodeGroups.flatMap((group) => nodeGroupTopology(spec, group)),
  ];
}

/** VPC, a public subnet a zone, and who may reach whom. */
export function networkTopology(spec: Pick<TopologySpec, 'cluster' | 'zones' | 'vpcCidr' | 'podCidr'> & { publicAccessCidrs?: string[] }): Declaration[] {
  const subnets = spec.zones.map(
    (zone, n): Declaration => ({
      id: ids.subnet(zone),
      kind: 'ec2:Subnet',
      properties: { VpcId: ref(ids.vpc), CidrBlock: subnetCidr(spec.vpcCidr, n), AvailabilityZone: zone, MapPublicIpOnLaunch: true },
      // So that the service controller (and upstream's) finds where internet-facing load balancers go.
      tags: { 'kubernetes.io/role/elb': '1' },
    }),
  );
  const tcp = (port: number, CidrIp: string) => ({ IpProtocol: 'tcp', FromPort: port, ToPort: port, CidrIp });
  const outside = (spec.publicAccessCidrs ?? []).filter((cidr) => cidr !== spec.vpcCidr && cidr !== spec.podCidr);
  return [
    { id: ids.vpc, kind: 'ec2:Vpc', properties: { CidrBlock: spec.vpcCidr, EnableDnsHostnames: true } },
    { id: ids.internetGateway, kind: 'ec2:InternetGateway', properties: { VpcId: ref(ids.vpc) } },
    ...subnets,
    {
      id: ids.routeTable,
      kind: 'ec2:RouteTable',
      properties: {
        VpcId: ref(ids.vpc),
        Routes: [{ DestinationCidrBlock: '0.0.0.0/0', GatewayId: ref(ids.internetGateway) }],
        SubnetIds: subnets.map((s) => ref(s.id)),
      },
    },
    {
      id: ids.controlPlaneSecurityGroup,
      kind: 'ec2:SecurityGroup',
      properties: {
        VpcId: ref(ids.vpc),
        GroupName: `${spec.cluster}-control-plane`,
        Description: `API server of ${spec.cluster}`,
        Ingress: [
          tcp(443, spec.vpcCidr),
          tcp(apiPort, spec.vpcCidr),
          tcp(apiPort, spec.podCidr),
          // Network load balancers pass the client's address on to instances.
          ...outside.map((cidr) => tcp(apiPort, cidr)),
        ],
      },
    },
    {
      id: ids.nodeSecurityGroup,
      kind: 'ec2:SecurityGroup',
      properties: {
        VpcId: ref(ids.vpc),
        GroupName: `${spec.cluster}-nodes`,
        Description: `Nodes of ${spec.cluster}`,
        Ingress: [
          { IpProtocol: '-1', SourceGroup: 'self' },
          // The API server reaches webhooks and proxied pods, whose addresses the nodes hold.
          { IpProtocol: '-1', SourceGroup: ref(ids.controlPlaneSecurityGroup) },
          // Pods of other nodes keep their addresses, which belong to no group.
          { IpProtocol: '-1', CidrIp: spec.podCidr },
          tcp(10250, spec.vpcCidr),
        ],
      },
      tags: { 'kumulus:node-group': 'true' },
    },
    {
      id: ids.nodeProfile,
      kind: 'iam:InstanceProfile',
      properties: {
        Name: `${spec.cluster}-node`,
        ManagedPolicies: ['arn:aws:iam::aws:policy/AmazonEC2ContainerRegistryReadOnly', 'arn:aws:iam::aws:policy/AmazonEKSWorkerNodePolicy'],
      },
    },
  ];
}

function hostedTopology(spec: TopologySpec, controlPlane: HostedControlPlane): Declaration[] {
  return [
    {
      id: ids.controlPlaneInterface,
      kind: 'ec2:NetworkInterface',
      properties: {
        SubnetId: ref(ids.subnet(spec.zones[0] as string)),
        Groups: [ref(ids.controlPlaneSecurityGroup)],
        Description: `API server of ${spec.cluster}`,
        ...(controlPlane.address ? { PrivateIpAddress: controlPlane.address } : {}),
      },
      tags: { 'kumulus:host-socket': controlPlane.socket, 'kumulus:host-port': String(controlPlane.port) },
    },
  ];
}

/** A load balancer for the API, the instance behind it, and what that instance may do and read. */
export function controlPlaneTopology(
  spec: Pick<TopologySpec, 'cluster' | 'region' | 'zones' | 'vpcCidr'>,
  controlPlane: InstanceControlPlane,
): Declaration[] {
  const secrets = Object.entries(controlPlane.secrets).map(
    ([name, value]): Declaration => ({
      id: ids.secret(name),
      kind: 'ssm:Parameter',
      properties: { Name: `${parameterPath(spec.cluster)}/${name}`, Type: 'SecureString', Value: value },
    }),
  );
  return [
    {
      id: ids.controlPlaneProfile,
      kind: 'iam:InstanceProfile',
      properties: { Name: `${spec.cluster}-control-plane`, ManagedPolicies: [], PolicyDocument: controlPlanePolicy(spec.cluster, spec.region) },
    },
    ...secrets,
    {
      id: ids.apiLoadBalancer,
      kind: 'elbv2:LoadBalancer',
      properties: {
        Name: shortName(spec.cluster, 'api'),
        Scheme: controlPlane.publicAccessCidrs.length ? 'internet-facing' : 'internal',
        SubnetIds: spec.zones.map((zone) => ref(ids.subnet(zone))),
      },
      // ELBv2 refuses an internet-facing one before.
      after: [ids.internetGateway],
    },
    {
      id: ids.controlPlaneVolume,
      kind: 'ec2:Volume',
      properties: { AvailabilityZone: spec.zones[0], Size: controlPlane.volumeSize },
    },
    {
      id: ids.controlPlaneTemplate,
      kind: 'ec2:LaunchTemplate',
      properties: {
        Name: `${spec.cluster}-control-plane`,
        ImageId: controlPlane.imageId,
        InstanceType: controlPlane.instanceType,
        InstanceProfile: ref(ids.controlPlaneProfile),
        UserData: controlPlane.userData,
      },
    },
    {
      id: ids.controlPlaneInstance,
      kind: 'ec2:Instance',
      properties: {
        LaunchTemplateId: ref(ids.controlPlaneTemplate),
        LaunchTemplateVersion: ref(ids.controlPlaneTemplate, 'Version'),
        SubnetId: ref(ids.subnet(spec.zones[0] as string)),
        SecurityGroupIds: [ref(ids.controlPlaneSecurityGroup)],
        InstanceProfile: ref(ids.controlPlaneProfile),
        PrivateIpAddress: controlPlaneAddress(spec.vpcCidr),
      },
      tags: { 'kumulus:control-plane': 'true' },
      // At its first boot it reads its keys, and may install what it lacks from the internet.
      after: [ids.routeTable, ...secrets.map((secret) => secret.id)],
    },
    {
      id: ids.apiTargetGroup,
      kind: 'elbv2:TargetGroup',
      properties: { Name: shortName(spec.cluster, 'api'), VpcId: ref(ids.vpc), Port: apiPort, TargetIds: [ref(ids.controlPlaneInstance)] },
    },
    {
      id: ids.apiListener,
      kind: 'elbv2:Listener',
      properties: { LoadBalancerArn: ref(ids.apiLoadBalancer), Port: apiPort, TargetGroupArn: ref(ids.apiTargetGroup) },
    },
  ];
}

/** What the API server's keys and the cloud controllers need: the cluster's parameters, and nodes, routes, volumes, load balancers. */
function controlPlanePolicy(cluster: string, region: string): string {
  return JSON.stringify({
    Version: '2012-10-17',
    Statement: [
      { Effect: 'Allow', Action: ['ssm:GetParameter', 'ssm:GetParameters'], Resource: `arn:aws:ssm:${region}:*:parameter${parameterPath(cluster)}/*` },
      {
        Effect: 'Allow',
        Action: [
          'ec2:Describe*',
          'ec2:CreateTags',
          'ec2:DeleteTags',
          'ec2:ModifyInstanceAttribute',
          'ec2:CreateRoute',
          'ec2:ReplaceRoute',
          'ec2:DeleteRoute',
          'ec2:CreateSecurityGroup',
          'ec2:DeleteSecurityGroup',
          'ec2:AuthorizeSecurityGroupIngress',
          'ec2:RevokeSecurityGroupIngress',
          'ec2:CreateVolume',
          'ec2:DeleteVolume',
          'ec2:ModifyVolume',
          'ec2:AttachVolume',
          'ec2:DetachVolume',
          'ec2:CreateSnapshot',
          'ec2:DeleteSnapshot',
          'elasticloadbalancing:*',
        ],
        Resource: '*',
      },
    ],
  });
}

/** A launch template, and the group's instances from it; the zones take turns. */
export function nodeGroupTopology(spec: Pick<TopologySpec, 'cluster' | 'zones'>, group: NodeGroupSpec): Declaration[] {
  const template: Declaration = {
    id: ids.template(group.name),
    kind: 'ec2:LaunchTemplate',
    properties: {
      Name: `${spec.cluster}-${group.name}`,
      ImageId: group.imageId,
      InstanceType: group.instanceType,
      InstanceProfile: ref(ids.nodeProfile),
      UserData: group.userData,
    },
    tags: { 'kumulus:node-group': group.name },
  };
  const instances = Array.from(
    { length: group.size },
    (_, n): Declaration => ({
      id: ids.instance(group.name, n),
      kind: 'ec2:Instance',
      properties: {
        LaunchTemplateId: ref(template.id),
        LaunchTemplateVersion: ref(template.id, 'Version'),
        SubnetId: ref(ids.subnet(spec.zones[n % spec.zones.length] as string)),
        SecurityGroupIds: [ref(ids.nodeSecurityGroup)],
        InstanceProfile: ref(ids.nodeProfile),
      },
      tags: { 'kumulus:node-group': group.name },
      after: [ids.routeTable],
    }),
  );
  return [template, ...instances];
}
