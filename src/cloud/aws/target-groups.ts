import { createHash } from 'node:crypto';
import {
  CreateTargetGroupCommand,
  DeleteTargetGroupCommand,
  DeregisterTargetsCommand,
  DescribeTagsCommand,
  DescribeTargetGroupAttributesCommand,
  DescribeTargetGroupsCommand,
  DescribeTargetHealthCommand,
  ModifyTargetGroupAttributesCommand,
  ModifyTargetGroupCommand,
  RegisterTargetsCommand,
  type DescribeTargetGroupsOutput,
  type TargetGroup,
} from '@aws-sdk/client-elastic-load-balancing-v2';
import { hasCode, waitUntil } from '../../aws/clients.ts';
import { clusterTag, toTags } from '../../aws/tags.ts';
import type { Service, ServicePort } from '../../api/generated/types.ts';
import type { BalancerWishes } from './annotations.ts';
import { everyPage } from './gather.ts';
import type { AwsProviderOptions } from './provider.ts';

const plain = (text: string) => text.replace(/[^a-z0-9]/g, '').slice(0, 8);
const prefixOf = (service: { namespace?: string | undefined; name: string }) => `k8s-${plain(service.namespace ?? '')}-${plain(service.name)}-`;

/** A target group's name says which Service and port it is for, and changes with what cannot be changed in it. */
function nameOf(service: Service, port: ServicePort): string {
  const { uid } = service.metadata;
  const hash = createHash('sha256').update(`${uid} ${port.port} ${port.nodePort} ${port.protocol}`).digest('hex').slice(0, 10);
  return `${prefixOf(service.metadata)}${hash}`;
}

/** The tags of what belongs to a Service. */
export const serviceTags = (cluster: string, service: { namespace?: string | undefined; name: string }, more: Record<string, string> = {}) =>
  toTags({ [clusterTag(cluster)]: 'owned', 'kubernetes.io/service-name': `${service.namespace}/${service.name}`, ...more });

/** What of the wished attributes is not so yet. */
export function changedAttributes(wished: Record<string, string>, there: { Key?: string; Value?: string }[] | undefined) {
  const known = new Map(there?.map((one) => [one.Key, one.Value]));
  return Object.entries(wished)
    .filter(([key, value]) => known.get(key) !== value)
    .map(([Key, Value]) => ({ Key, Value }));
}

/** The target groups of Services, one a port, with all nodes as their targets. */
export class TargetGroups {
  private readonly o: AwsProviderOptions;

  constructor(o: AwsProviderOptions) {
    this.o = o;
  }

  /** Those that a load balancer has listeners for. */
  async attachedTo(loadBalancerArn: string): Promise<TargetGroup[]> {
    const elb = await this.o.clients.elbv2();
    const none: DescribeTargetGroupsOutput = {};
    return everyPage(
      (Marker) =>
        elb.send(new DescribeTargetGroupsCommand({ LoadBalancerArn: loadBalancerArn, ...(Marker ? { Marker } : {}) })).catch((error) => {
          // What moto and LocalStack say where there are none.
          if (hasCode(error, 'TargetGroupNotFound', 'TargetGroupNotFoundException')) return none;
          throw error;
        }),
      (page) => page.TargetGroups,
      (page) => page.NextMarker,
    ).catch((error) => {
      // moto says so of a load balancer that has none yet; AWS gives an empty list.
      if (hasCode(error, 'TargetGroupNotFound', 'TargetGroupNotFoundException')) return [];
      throw error;
    });
  }

  /** Finds or makes the group of a port; `attached` saves looking for it. */
  async ensure(service: Service, port: ServicePort, wishes: BalancerWishes, attached: TargetGroup[]): Promise<TargetGroup> {
    const elb = await this.o.clients.elbv2();
    const Name = nameOf(service, port);
    const { health } = wishes;
    const check = {
      HealthCheckProtocol: health.protocol,
      HealthCheckPort: health.port,
      HealthCheckIntervalSeconds: health.interval,
      HealthCheckTimeoutSeconds: health.timeout,
      HealthyThresholdCount: health.healthy,
      UnhealthyThresholdCount: health.unhealthy,
      ...(health.path ? { HealthCheckPath: health.path } : {}),
    };
    let group = attached.find((one) => one.TargetGroupName === Name) ?? (await this.find(Name));
    if (!group) {
      const more = { Tags: serviceTags(this.o.cluster, service.metadata, wishes.tags), VpcId: this.o.vpcId };
      const created = await elb.send(
        new CreateTargetGroupCommand({ Name, Protocol: 'TCP', Port: port.nodePort, TargetType: 'instance', ...check, ...more }),
      );
      group = created.TargetGroups?.[0];
      if (!group?.TargetGroupArn) throw new Error('CreateTargetGroup answered without a target group');
    } else if (Object.entries(check).some(([key, value]) => group?.[key as keyof TargetGroup] !== value)) {
      await elb.send(new ModifyTargetGroupCommand({ TargetGroupArn: group.TargetGroupArn, ...check }));
    }
    const wished = { 'deregistration_delay.timeout_seconds': '30', ...wishes.targetGroupAttributes };
    const there = await elb.send(new DescribeTargetGroupAttributesCommand({ TargetGroupArn: group.TargetGroupArn }));
    const Attributes = changedAttributes(wished, there.Attributes);
    if (Attributes.length) await elb.send(new ModifyTargetGroupAttributesCommand({ TargetGroupArn: group.TargetGroupArn, Attributes }));
    return group;
  }

  private async find(name: string): Promise<TargetGroup | undefined> {
    const elb = await this.o.clients.elbv2();
    const answer = await elb.send(new DescribeTargetGroupsCommand({ Names: [name] })).catch((error) => {
      if (hasCode(error, 'TargetGroupNotFound', 'TargetGroupNotFoundException')) return undefined;
      throw error;
    });
    return answer?.TargetGroups?.[0];
  }

  /** Makes these instances, and no others, the group's targets. */
  async setTargets(arn: string, instanceIds: string[]): Promise<void> {
    const elb = await this.o.clients.elbv2();
    const health = (await elb.send(new DescribeTargetHealthCommand({ TargetGroupArn: arn }))).TargetHealthDescriptions ?? [];
    const there = new Set(health.filter((one) => one.TargetHealth?.State !== 'draining').map((one) => one.Target?.Id ?? ''));
    const missing = instanceIds.filter((id) => !there.has(id));
    const extra = [...there].filter((id) => !instanceIds.includes(id));
    if (extra.length) await elb.send(new DeregisterTargetsCommand({ TargetGroupArn: arn, Targets: extra.map((Id) => ({ Id })) }));
    if (!missing.length) return;
    await elb.send(new RegisterTargetsCommand({ TargetGroupArn: arn, Targets: missing.map((Id) => ({ Id })) })).catch(async (error) => {
      if (!hasCode(error, 'InvalidTarget', 'InvalidTargetException')) throw error;
      // One instance that is going must not keep the others out.
      let registered = 0;
      for (const Id of missing) {
        await elb.send(new RegisterTargetsCommand({ TargetGroupArn: arn, Targets: [{ Id }] })).then(
          () => registered++,
          (single) => {
            if (!hasCode(single, 'InvalidTarget', 'InvalidTargetException')) throw single;
            this.o.log.warn({ instance: Id, err: single }, 'an instance cannot be a target now');
          },
        );
      }
      if (!registered && !there.size) throw error;
    });
  }

  /** ARNs of all groups of a Service, with a load balancer or without: by their names, and by their tags. */
  async of(service: { namespace?: string | undefined; name: string }): Promise<string[]> {
    const elb = await this.o.clients.elbv2();
    const start = prefixOf(service);
    const all = await everyPage(
      (Marker) => elb.send(new DescribeTargetGroupsCommand(Marker ? { Marker } : {})),
      (page) => page.TargetGroups,
      (page) => page.NextMarker,
    );
    const found = all
      .filter((one) => one.TargetGroupName?.startsWith(start) && one.VpcId === this.o.vpcId)
      .map((one) => one.TargetGroupArn as string);
    const owner = `${service.namespace}/${service.name}`;
    const mine: string[] = [];
    for (let at = 0; at < found.length; at += 20) {
      const answer = await elb.send(new DescribeTagsCommand({ ResourceArns: found.slice(at, at + 20) }));
      for (const one of answer.TagDescriptions ?? []) {
        const tags = new Map(one.Tags?.map((tag) => [tag.Key, tag.Value]));
        if (tags.get('kubernetes.io/service-name') === owner && tags.get(clusterTag(this.o.cluster)) === 'owned') {
          mine.push(one.ResourceArn as string);
        }
      }
    }
    return mine;
  }

  /** Deletes a group as soon as no listener uses it: one of a load balancer that is just gone may for a moment. */
  async remove(arn: string): Promise<void> {
    const elb = await this.o.clients.elbv2();
    const free = () =>
      elb.send(new DeleteTargetGroupCommand({ TargetGroupArn: arn })).then(
        () => true as const,
        (error) => {
          if (hasCode(error, 'TargetGroupNotFound', 'TargetGroupNotFoundException')) return true as const;
          if (!hasCode(error, 'ResourceInUse', 'ResourceInUseException')) throw error;
          return undefined;
        },
      );
    await waitUntil(`target group ${arn} to be free`, free, { timeoutMs: 120_000 });
  }
}
