import { targetGroupsOf } from '../elbv2/forwards.ts';
import type * as records from './records.ts';
import { type Change, Table } from './table.ts';

export interface Tables {
  tags: Table<records.TagsRecord>;
  clientTokens: Table<records.ClientTokenRecord>;
  vpcs: Table<records.VpcRecord>;
  /** Index: vpc. */
  subnets: Table<records.SubnetRecord>;
  /** Index: vpc. */
  internetGateways: Table<records.InternetGatewayRecord>;
  /** Indexes: vpc, subnet. */
  routeTables: Table<records.RouteTableRecord>;
  /** Index: vpc. */
  securityGroups: Table<records.SecurityGroupRecord>;
  /** Indexes: group, reference (the group that a rule names). */
  securityGroupRules: Table<records.SecurityGroupRuleRecord>;
  /** Indexes: vpc, subnet, instance, group, address (`SUBNET ADDRESS`). */
  networkInterfaces: Table<records.NetworkInterfaceRecord>;
  /** Indexes: subnet, state. */
  instances: Table<records.InstanceRecord>;
  /** Index: instance. */
  volumes: Table<records.VolumeRecord>;
  snapshots: Table<records.SnapshotRecord>;
  /** By name. */
  keyPairs: Table<records.KeyPairRecord>;
  addresses: Table<records.AddressRecord>;
  natGateways: Table<records.NatGatewayRecord>;
  launchTemplates: Table<records.LaunchTemplateRecord>;
  /** By ARN. Index: name. */
  loadBalancers: Table<records.LoadBalancerRecord>;
  /** By ARN. Indexes: loadBalancer, group (target group that it forwards to). */
  listeners: Table<records.ListenerRecord>;
  /** By ARN. Indexes: listener, group (target group that it forwards to). */
  rules: Table<records.RuleRecord>;
  /** By ARN. Indexes: name, target. */
  targetGroups: Table<records.TargetGroupRecord>;
  /** By name. */
  roles: Table<records.RoleRecord>;
  /** By name. Index: role. */
  instanceProfiles: Table<records.InstanceProfileRecord>;
  /** By name. */
  users: Table<records.UserRecord>;
  /** By id. Index: user. */
  accessKeys: Table<records.AccessKeyRecord>;
  /** By ARN. */
  policies: Table<records.PolicyRecord>;
  /** By ARN. */
  openIdProviders: Table<records.OpenIdProviderRecord>;
  /** By name. */
  parameters: Table<records.ParameterRecord>;
  /** By name. */
  repositories: Table<records.RepositoryRecord>;
  /** By `REPOSITORY DIGEST`. Indexes: repository, tag (`REPOSITORY:TAG`), blob (digest that it names). */
  manifests: Table<records.ManifestRecord>;
  /** By `REPOSITORY DIGEST`. Indexes: repository, digest. */
  repositoryBlobs: Table<records.RepositoryBlobRecord>;
}

const some = (...keys: (string | undefined)[]): string[] => keys.filter((key) => key !== undefined);

export function makeTables(note: (change: Change) => void): Tables {
  const table = <R extends object>(name: string, indexes?: Record<string, (record: R) => readonly string[]>) => new Table<R>(name, note, indexes);
  return {
    tags: table('tags'),
    clientTokens: table('clientTokens'),
    vpcs: table('vpcs'),
    subnets: table('subnets', { vpc: (record) => [record.VpcId] }),
    internetGateways: table('internetGateways', { vpc: (record) => some(...(record.Attachments ?? []).map((attachment) => attachment.VpcId)) }),
    routeTables: table('routeTables', {
      vpc: (record) => [record.VpcId],
      subnet: (record) => some(...record.Associations.map((association) => association.SubnetId)),
    }),
    securityGroups: table('securityGroups', { vpc: (record) => [record.VpcId] }),
    securityGroupRules: table('securityGroupRules', {
      group: (record) => [record.GroupId],
      reference: (record) => some(record.ReferencedGroupInfo?.GroupId),
    }),
    networkInterfaces: table('networkInterfaces', {
      vpc: (record) => [record.VpcId],
      subnet: (record) => [record.SubnetId],
      instance: (record) => some(record.Attachment?.InstanceId),
      group: (record) => some(...record.Groups.map((group) => group.GroupId)),
      address: (record) => record.PrivateIpAddresses.map((address) => `${record.SubnetId} ${address.PrivateIpAddress}`),
    }),
    instances: table('instances', {
      subnet: (record) => [record.instance.SubnetId],
      state: (record) => some(record.instance.State.Name),
    }),
    volumes: table('volumes', { instance: (record) => record.Attachments.map((attachment) => attachment.InstanceId) }),
    snapshots: table('snapshots'),
    keyPairs: table('keyPairs'),
    addresses: table('addresses'),
    natGateways: table('natGateways'),
    launchTemplates: table('launchTemplates'),
    loadBalancers: table('loadBalancers', { name: (record) => [record.LoadBalancerName] }),
    listeners: table('listeners', {
      loadBalancer: (record) => [record.LoadBalancerArn],
      group: (record) => targetGroupsOf(record.DefaultActions),
    }),
    rules: table('rules', { listener: (record) => [record.listenerArn], group: (record) => targetGroupsOf(record.Actions) }),
    targetGroups: table('targetGroups', {
      name: (record) => [record.TargetGroupName],
      target: (record) => record.targets.map((target) => target.target.Id),
    }),
    roles: table('roles'),
    instanceProfiles: table('instanceProfiles', { role: (record) => record.roleNames }),
    users: table('users'),
    accessKeys: table('accessKeys', { user: (record) => [record.UserName] }),
    policies: table('policies'),
    openIdProviders: table('openIdProviders'),
    parameters: table('parameters'),
    repositories: table('repositories'),
    manifests: table('manifests', {
      repository: (record) => [record.repository],
      tag: (record) => record.tags.map((tag) => `${record.repository}:${tag}`),
      blob: (record) => record.references,
      digest: (record) => [record.digest],
    }),
    repositoryBlobs: table('repositoryBlobs', { repository: (record) => [record.repository], digest: (record) => [record.digest] }),
  };
}
