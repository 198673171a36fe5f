import type { TargetGroup } from '@aws-sdk/client-elastic-load-balancing-v2';
import { type AwsClients, hasCode } from '../aws/clients.ts';
import { clusterTag, fromTags, logicalIdTag } from '../aws/tags.ts';
import type { RecordedCall } from '../localaws/api/calls.ts';
import type { AwsInstance, AwsLeftover, AwsLoadBalancer, AwsSecurityGroup, AwsVolume, ClusterAws } from './types.ts';

export interface AwsViewOptions {
  clients: AwsClients;
  cluster: string;
  vpcId: string;
  config: ClusterAws['config'];
  calls(): Promise<RecordedCall[]>;
}

const ifNone = (error: unknown): { TargetGroups: TargetGroup[] } => {
  if (!hasCode(error, 'TargetGroupNotFound', 'TargetGroupNotFoundException')) throw error;
  return { TargetGroups: [] };
};

const serviceTag = 'kubernetes.io/service-name';

/** Looks into the cluster's AWS, by its own API. */
export class AwsView implements ClusterAws {
  readonly config: ClusterAws['config'];
  readonly vpcId: string;
  readonly calls: () => Promise<RecordedCall[]>;
  private readonly o: AwsViewOptions;

  constructor(o: AwsViewOptions) {
    this.o = o;
    this.config = o.config;
    this.vpcId = o.vpcId;
    this.calls = o.calls;
  }

  get environment(): Record<string, string> {
    const { region, endpoint, credentials } = this.config;
    return {
      AWS_ENDPOINT_URL: endpoint,
      AWS_REGION: region,
      AWS_DEFAULT_REGION: region,
      AWS_ACCESS_KEY_ID: credentials.accessKeyId,
      AWS_SECRET_ACCESS_KEY: credentials.secretAccessKey,
    };
  }

  async instances(): Promise<AwsInstance[]> {
    const { paginateDescribeInstances } = await import('../aws/sdk/ec2.ts');
    const client = await this.o.clients.ec2();
    const found: AwsInstance[] = [];
    for await (const page of paginateDescribeInstances({ client }, { Filters: [{ Name: 'vpc-id', Values: [this.vpcId] }] })) {
      for (const i of (page.Reservations ?? []).flatMap((r) => r.Instances ?? [])) {
        if (i.State?.Name === 'terminated') continue;
        found.push({
          id: i.InstanceId ?? '',
          state: i.State?.Name ?? '',
          type: i.InstanceType ?? '',
          zone: i.Placement?.AvailabilityZone ?? '',
          privateIp: i.PrivateIpAddress,
          privateDnsName: i.PrivateDnsName,
          tags: fromTags(i.Tags),
        });
      }
    }
    return found;
  }

  async loadBalancers(): Promise<AwsLoadBalancer[]> {
    const sdk = await import('../aws/sdk/elbv2.ts');
    const client = await this.o.clients.elbv2();
    const found: AwsLoadBalancer[] = [];
    for await (const page of sdk.paginateDescribeLoadBalancers({ client }, {})) {
      for (const lb of page.LoadBalancers ?? []) {
        if (lb.VpcId !== this.vpcId) continue;
        const arn = lb.LoadBalancerArn ?? '';
        const [listeners, groups, tags] = await Promise.all([
          client.send(new sdk.DescribeListenersCommand({ LoadBalancerArn: arn })),
          // moto finds none where there are none yet.
          client.send(new sdk.DescribeTargetGroupsCommand({ LoadBalancerArn: arn })).catch(ifNone),
          client.send(new sdk.DescribeTagsCommand({ ResourceArns: [arn] })),
        ]);
        const targetGroups = await Promise.all(
          (groups.TargetGroups ?? []).map(async (group) => {
            const health = await client.send(new sdk.DescribeTargetHealthCommand({ TargetGroupArn: group.TargetGroupArn }));
            return {
              arn: group.TargetGroupArn ?? '',
              name: group.TargetGroupName ?? '',
              port: group.Port ?? 0,
              targets: (health.TargetHealthDescriptions ?? []).map((t) => ({
                id: t.Target?.Id ?? '',
                port: t.Target?.Port ?? 0,
                health: t.TargetHealth?.State ?? '',
              })),
            };
          }),
        );
        found.push({
          arn,
          name: lb.LoadBalancerName ?? '',
          dnsName: lb.DNSName ?? '',
          type: lb.Type ?? '',
          scheme: lb.Scheme ?? '',
          state: lb.State?.Code ?? '',
          listeners: (listeners.Listeners ?? []).map((l) => ({ port: l.Port ?? 0, protocol: l.Protocol ?? '' })),
          targetGroups,
          tags: fromTags(tags.TagDescriptions?.[0]?.Tags as never),
        });
      }
    }
    return found;
  }

  async volumes(): Promise<AwsVolume[]> {
    const { paginateDescribeVolumes } = await import('../aws/sdk/ec2.ts');
    const client = await this.o.clients.ec2();
    const found: AwsVolume[] = [];
    // Root volumes of instances carry no cluster tag: those of claims do.
    const Filters = [{ Name: `tag:${clusterTag(this.o.cluster)}`, Values: ['owned'] }];
    for await (const page of paginateDescribeVolumes({ client }, { Filters })) {
      for (const v of page.Volumes ?? [])
        found.push({
          id: v.VolumeId ?? '',
          state: v.State ?? '',
          sizeGiB: v.Size ?? 0,
          type: v.VolumeType ?? '',
          zone: v.AvailabilityZone ?? '',
          attachedTo: v.Attachments?.[0]?.InstanceId,
          tags: fromTags(v.Tags),
        });
    }
    return found;
  }

  async securityGroups(): Promise<AwsSecurityGroup[]> {
    const { paginateDescribeSecurityGroups } = await import('../aws/sdk/ec2.ts');
    const client = await this.o.clients.ec2();
    const found: AwsSecurityGroup[] = [];
    for await (const page of paginateDescribeSecurityGroups({ client }, { Filters: [{ Name: 'vpc-id', Values: [this.vpcId] }] })) {
      for (const g of page.SecurityGroups ?? [])
        found.push({
          id: g.GroupId ?? '',
          name: g.GroupName ?? '',
          ingress: (g.IpPermissions ?? []).map((p) => ({
            protocol: p.IpProtocol ?? '',
            from: p.FromPort,
            to: p.ToPort,
            sources: [...(p.IpRanges ?? []).map((r) => r.CidrIp ?? ''), ...(p.UserIdGroupPairs ?? []).map((r) => r.GroupId ?? '')],
          })),
          tags: fromTags(g.Tags),
        });
    }
    return found;
  }

  async leftovers(): Promise<AwsLeftover[]> {
    const sdk = await import('../aws/sdk/elbv2.ts');
    const client = await this.o.clients.elbv2();
    const [balancers, volumes, groups] = await Promise.all([this.loadBalancers(), this.volumes(), this.securityGroups()]);
    const targetGroups: AwsLeftover[] = [];
    for await (const page of sdk.paginateDescribeTargetGroups({ client }, {})) {
      for (const group of page.TargetGroups ?? [])
        if (group.VpcId === this.vpcId) targetGroups.push({ kind: 'target group', id: group.TargetGroupName ?? '', of: '' });
    }
    const service = (tags: Record<string, string>) => (tags[serviceTag] ? `Service ${tags[serviceTag]}` : '');
    return [
      ...balancers.map((lb): AwsLeftover => ({ kind: 'load balancer', id: lb.name, of: service(lb.tags) })),
      ...targetGroups,
      ...volumes.map((v): AwsLeftover => {
        const claim = v.tags['kubernetes.io/created-for/pvc/name'];
        return { kind: 'volume', id: v.id, of: claim ? `PersistentVolumeClaim ${v.tags['kubernetes.io/created-for/pvc/namespace']}/${claim}` : '' };
      }),
      ...groups
        .filter((g) => g.name !== 'default' && g.tags[logicalIdTag] === undefined)
        .map((g): AwsLeftover => ({ kind: 'security group', id: g.id, of: service(g.tags) })),
    ];
  }
}
