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
  | 'ec2:Instance'
  | 'iam:InstanceProfile';

export interface Declaration {
  /** Unique in the cluster; becomes the tag kumulus:logical-id. */
  id: string;
  kind: ResourceKind;
  properties: Record<string, unknown>;
  tags?: Record<string, string>;
}

export interface NodeGroupSpec {
  name: string;
  size: number;
  instanceType: string;
  imageId: string;
  /** Not base64. At most 16 KiB. */
  userData: string;
}

export interface TopologySpec {
  cluster: string;
  zones: string[];
  vpcCidr: string;
  podCidr: string;
  /** Hosted: the control plane runs beside the nodes, behind a network interface whose connections go to this socket. */
  controlPlane: { type: 'hosted'; socket: string; port: number };
  nodeGroups: NodeGroupSpec[];
}

/** The ids of the parts that others ask for. */
export const ids = {
  vpc: 'vpc',
  routeTable: 'public',
  nodeSecurityGroup: 'nodes',
  controlPlaneInterface: 'control-plane',
  subnet: (zone: string) => `subnet-${zone}`,
  instance: (group: string, index: number) => `${group}-${index}`,
};

/** The n-th /20 of a VPC's range. */
export function subnetCidr(vpcCidr: string, n: number): string {
  const [address = ''] = vpcCidr.split('/');
  const [a, b] = address.split('.').map(Number);
  return `${a}.${b}.${n * 16}.0/20`;
}

export function topology(spec: TopologySpec): Declaration[] {
  const { zones } = spec;
  const subnets = zones.map(
    (zone, n): Declaration => ({
      id: ids.subnet(zone),
      kind: 'ec2:Subnet',
      properties: { VpcId: ref(ids.vpc), CidrBlock: subnetCidr(spec.vpcCidr, n), AvailabilityZone: zone, MapPublicIpOnLaunch: true },
      // So that the service controller (and upstream's) finds where internet-facing load balancers go.
      tags: { 'kubernetes.io/role/elb': '1' },
    }),
  );
  const firstSubnet = ref(ids.subnet(zones[0] as string));
  const declarations: Declaration[] = [
    { id: ids.vpc, kind: 'ec2:Vpc', properties: { CidrBlock: spec.vpcCidr, EnableDnsHostnames: true } },
    { id: 'internet-gateway', kind: 'ec2:InternetGateway', properties: { VpcId: ref(ids.vpc) } },
    ...subnets,
    {
      id: ids.routeTable,
      kind: 'ec2:RouteTable',
      properties: {
        VpcId: ref(ids.vpc),
        Routes: [{ DestinationCidrBlock: '0.0.0.0/0', GatewayId: ref('internet-gateway') }],
        SubnetIds: subnets.map((s) => ref(s.id)),
      },
    },
    {
      id: 'control-plane-sg',
      kind: 'ec2:SecurityGroup',
      properties: {
        VpcId: ref(ids.vpc),
        GroupName: `${spec.cluster}-control-plane`,
        Description: `API server of ${spec.cluster}`,
        Ingress: [
          { IpProtocol: 'tcp', FromPort: 443, ToPort: 443, CidrIp: spec.vpcCidr },
          { IpProtocol: 'tcp', FromPort: 6443, ToPort: 6443, CidrIp: spec.vpcCidr },
          { IpProtocol: 'tcp', FromPort: 6443, ToPort: 6443, CidrIp: spec.podCidr },
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
          // Pods of other nodes keep their addresses, which belong to no group.
          { IpProtocol: '-1', CidrIp: spec.podCidr },
          { IpProtocol: 'tcp', FromPort: 10250, ToPort: 10250, CidrIp: spec.vpcCidr },
        ],
      },
      tags: { 'kumulus:node-group': 'true' },
    },
    {
      id: 'node-role',
      kind: 'iam:InstanceProfile',
      properties: {
        Name: `${spec.cluster}-node`,
        ManagedPolicies: ['arn:aws:iam::aws:policy/AmazonEC2ContainerRegistryReadOnly', 'arn:aws:iam::aws:policy/AmazonEKSWorkerNodePolicy'],
      },
    },
    {
      id: ids.controlPlaneInterface,
      kind: 'ec2:NetworkInterface',
      properties: { SubnetId: firstSubnet, Groups: [ref('control-plane-sg')], Description: `API server of ${spec.cluster}` },
      tags: { 'kumulus:host-socket': spec.controlPlane.socket, 'kumulus:host-port': String(spec.controlPlane.port) },
    },
  ];
  for (const group of spec.nodeGroups) {
    for (let n = 0; n < group.size; n++) declarations.push(instance(spec, group, n));
  }
  return declarations;
}

/** One instance of a node group; the zones take turns. */
export function instance(spec: Pick<TopologySpec, 'zones' | 'cluster'>, group: NodeGroupSpec, n: number): Declaration {
  return {
    id: ids.instance(group.name, n),
    kind: 'ec2:Instance',
    properties: {
      ImageId: group.imageId,
      InstanceType: group.instanceType,
      SubnetId: ref(ids.subnet(spec.zones[n % spec.zones.length] as string)),
      SecurityGroupIds: [ref(ids.nodeSecurityGroup)],
      InstanceProfile: ref('node-role'),
      UserData: group.userData,
    },
    tags: { 'kumulus:node-group': group.name },
  };
}
