import { createHash } from 'node:crypto';
import type { TargetGroup } from '@aws-sdk/client-elastic-load-balancing-v2';
import { tagsOfAll } from '../../aws/handlers/elbv2.ts';
import { findOrCreate, type HandlerContext } from '../../aws/handlers/handler.ts';
import { inspectTargetGroup, targetGroup, type TargetGroupProperties, targetGroupsOf, TargetsRefused } from '../../aws/handlers/target-group.ts';
import { clusterTag } from '../../aws/tags.ts';
import type { Service, ServicePort } from '../../api/generated/types.ts';
import type { BalancerWishes } from './annotations.ts';
import type { AwsProviderOptions } from './provider.ts';

const plain = (text: string) => text.replace(/[^a-z0-9]/g, '').slice(0, 8);
const prefixOf = (service: { namespace?: string | undefined; name: string }) => `k8s-${plain(service.namespace ?? '')}-${plain(service.name)}-`;

/** A target group's name says which Service and port it is for, and changes with what cannot be changed in it. */
function nameOf(service: Service, port: ServicePort): string {
  const { uid } = service.metadata;
  const hash = createHash('sha256').update(`${uid} ${port.port} ${port.nodePort} ${port.protocol}`).digest('hex').slice(0, 10);
  return `${prefixOf(service.metadata)}${hash}`;
}

const ownerTag = 'kubernetes.io/service-name';
const ownerOf = (service: { namespace?: string | undefined; name: string }) => `${service.namespace}/${service.name}`;

/** The tags of what belongs to a Service. */
export const serviceTags = (cluster: string, service: { namespace?: string | undefined; name: string }, more: Record<string, string> = {}) => ({
  [clusterTag(cluster)]: 'owned',
  [ownerTag]: ownerOf(service),
  ...more,
});

/** The target groups of Services, one a port, with all nodes as their targets. */
export class TargetGroups {
  private readonly o: AwsProviderOptions;
  private readonly context: HandlerContext;

  constructor(o: AwsProviderOptions) {
    this.o = o;
    // Their names have the Service's uid in them.
    this.context = { clients: o.clients, cluster: o.cluster, uniqueNames: true };
  }

  /** Those that a load balancer has listeners for. */
  attachedTo(loadBalancerArn: string): Promise<TargetGroup[]> {
    return targetGroupsOf(this.context, { loadBalancerArn });
  }

  /** Finds or makes the group of a port, and resolves to its ARN; `attached` saves looking for it. */
  async ensure(service: Service, port: ServicePort, wishes: BalancerWishes, instanceIds: string[], attached: TargetGroup[]): Promise<string> {
    const { health } = wishes;
    const properties: TargetGroupProperties = {
      Name: nameOf(service, port),
      VpcId: this.o.vpcId,
      Port: port.nodePort as number,
      TargetIds: instanceIds,
      HealthCheck: {
        HealthCheckProtocol: health.protocol,
        HealthCheckPort: health.port,
        HealthCheckIntervalSeconds: health.interval,
        HealthCheckTimeoutSeconds: health.timeout,
        HealthyThresholdCount: health.healthy,
        UnhealthyThresholdCount: health.unhealthy,
        ...(health.path ? { HealthCheckPath: health.path } : {}),
      },
      Attributes: { 'deregistration_delay.timeout_seconds': '30', ...wishes.targetGroupAttributes },
    };
    const tags = serviceTags(this.o.cluster, service.metadata, wishes.tags);
    const shape = attached.find((one) => one.TargetGroupName === properties.Name);
    const known = shape && (await inspectTargetGroup(this.context, shape, properties));
    try {
      return (await findOrCreate(targetGroup, this.context, { logicalId: '', properties, tags }, known)).id;
    } catch (error) {
      // One instance that is going must not keep the others out.
      if (!(error instanceof TargetsRefused) || error.registered === 0) throw error;
      this.o.log.warn({ instances: error.refused, err: error }, 'instances that cannot be targets now');
      return error.groupArn;
    }
  }

  /** ARNs of all groups of a Service, with a load balancer or without: by their names, and by their tags. */
  async of(service: { namespace?: string | undefined; name: string }): Promise<string[]> {
    const start = prefixOf(service);
    const all = await targetGroupsOf(this.context, { vpcId: this.o.vpcId });
    const arns = all.filter((one) => one.TargetGroupName?.startsWith(start)).map((one) => one.TargetGroupArn as string);
    const tags = await tagsOfAll(this.context, arns);
    const mine = (arn: string) => tags.get(arn)?.[ownerTag] === ownerOf(service) && tags.get(arn)?.[clusterTag(this.o.cluster)] === 'owned';
    return arns.filter(mine);
  }

  async remove(arns: string[]): Promise<void> {
    for (const id of arns) await targetGroup.remove(this.context, { id });
  }
}
