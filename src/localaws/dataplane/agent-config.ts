import { join } from 'node:path';
import type { Instance } from '@aws-sdk/client-ec2';
import type { TargetGroup } from '@aws-sdk/client-elastic-load-balancing-v2';
import type { CloudState } from '../contract.ts';
import type { AgentConfig, HealthCheckConfig, ListenerConfig, MetadataSubject, TargetGroupConfig } from './agent-protocol.ts';
import { hostname } from './instance.ts';
import { wantsNetwork } from './interfaces.ts';
import type { Balancer } from './load-balancers.ts';
import { routedNetworks, type VpcPlan } from './vpc-plan.ts';

export interface AgentConfigInput {
  state: CloudState;
  plan: VpcPlan;
  /** Those of this VPC. */
  balancers: Balancer[];
  region: string;
  accountId: string;
  /** run/ of the cluster's state. */
  runDirectory: string;
  /** Last reported health by target group ARN and target key. */
  health: Map<string, Map<string, string>>;
}

/** What a VPC's agent has to know, from the state of AWS alone. */
export function agentConfig(input: AgentConfigInput): AgentConfig {
  const { state, plan, balancers, region } = input;
  const instances = state.instances.filter((one) => one.VpcId === plan.vpcId && wantsNetwork(one.State?.Name));
  const names: Record<string, string[]> = {};
  for (const balancer of balancers) if (balancer.dnsName && balancer.addresses.length) names[balancer.dnsName.toLowerCase()] = balancer.addresses;
  for (const one of plan.interfaces) {
    for (const address of one.addresses) {
      names[`ip-${address.replaceAll('.', '-')}.ec2.internal`] = [address];
      names[`ip-${address.replaceAll('.', '-')}.${region}.compute.internal`] = [address];
    }
  }
  const subjects: Record<string, MetadataSubject> = {};
  for (const instance of instances) {
    if (instance.PrivateIpAddress) names[hostname(instance).toLowerCase()] = [instance.PrivateIpAddress];
    const subject = metadataSubject(instance, input);
    for (const one of subject.interfaces) for (const address of one.addresses) subjects[address] = subject;
  }
  const held = plan.interfaces
    .filter((one) => one.hostSocket && one.hostPort)
    .map((one) => ({ address: one.addresses[0], port: one.hostPort!, socketPath: one.hostSocket! }));
  const listeners = balancers.flatMap((balancer) => balancer.listeners.flatMap((listener) => listenerConfig(balancer, listener)));
  const used = new Set(listeners.flatMap((listener) => listener.forward.map((one) => one.targetGroupArn)));
  return {
    vpcId: plan.vpcId,
    cidrs: plan.cidrs,
    resolver: plan.resolver,
    region,
    names,
    authoritative: ['ec2.internal', `${region}.compute.internal`, `elb.${region}.amazonaws.com`],
    subjects,
    networks: routedNetworks(state, plan),
    held,
    dialFrom: held[0]?.address,
    dialSocket: join(input.runDirectory, `${plan.vpcId}.sock`),
    listeners,
    targetGroups: state.targetGroups
      .filter(({ group }) => used.has(group.TargetGroupArn!))
      .map(({ group, targets, attributes }): TargetGroupConfig => {
        const delay = attributes?.find((one) => one.Key === 'deregistration_delay.timeout_seconds')?.Value;
        return {
          arn: group.TargetGroupArn!,
          targets: targets.map((target) => ({
            id: target.Id!,
            port: target.Port ?? group.Port ?? 0,
            address: group.TargetType === 'ip' ? target.Id! : addressOfInstance(state, target.Id!),
          })),
          check: healthCheck(group),
          deregistrationDelay: Number(delay ?? 300) * 1000,
          known: Object.fromEntries(input.health.get(group.TargetGroupArn!) ?? []),
        };
      }),
  };
}

/** Empty for an instance that does not run: nothing is sent there. */
function addressOfInstance(state: CloudState, instanceId: string): string {
  const instance = state.instances.find((one) => one.InstanceId === instanceId);
  return (instance?.State?.Name === 'running' && instance.PrivateIpAddress) || '';
}

function listenerConfig(balancer: Balancer, listener: Balancer['listeners'][number]): ListenerConfig[] {
  // UDP and TLS are not forwarded; an Application Load Balancer's HTTP is, as bytes, by the default action.
  if (!['TCP', 'TCP_UDP', 'HTTP'].includes(listener.Protocol ?? '') || !listener.Port) return [];
  const action = listener.DefaultActions?.find((one) => one.Type === 'forward');
  const groups = action?.ForwardConfig?.TargetGroups ?? (action?.TargetGroupArn ? [{ TargetGroupArn: action.TargetGroupArn }] : []);
  return [
    {
      arn: listener.ListenerArn!,
      loadBalancerArn: balancer.arn,
      port: listener.Port,
      addresses: balancer.addresses,
      forward: groups.map((one) => ({ targetGroupArn: one.TargetGroupArn!, weight: one.Weight ?? 1 })),
    },
  ];
}

function healthCheck(group: TargetGroup): HealthCheckConfig {
  const protocol = group.HealthCheckProtocol === 'HTTP' || group.HealthCheckProtocol === 'HTTPS' ? group.HealthCheckProtocol : 'TCP';
  const port = Number(group.HealthCheckPort);
  return {
    protocol,
    port: port > 0 ? port : undefined,
    path: group.HealthCheckPath ?? '/',
    matcher: group.Matcher?.HttpCode ?? (group.Protocol === 'HTTP' || group.Protocol === 'HTTPS' ? '200' : '200-399'),
    interval: (group.HealthCheckIntervalSeconds ?? 30) * 1000,
    timeout: (group.HealthCheckTimeoutSeconds ?? (protocol === 'TCP' ? 10 : 6)) * 1000,
    healthyThreshold: group.HealthyThresholdCount ?? 5,
    unhealthyThreshold: group.UnhealthyThresholdCount ?? 2,
  };
}

function metadataSubject(instance: Instance, { state, plan, region, accountId }: AgentConfigInput): MetadataSubject {
  const own = plan.interfaces.filter((one) => one.instanceId === instance.InstanceId).sort((a, b) => a.deviceIndex - b.deviceIndex);
  const subnetOf = (id: string | undefined) => state.subnets.find((one) => one.SubnetId === id);
  const subnet = subnetOf(instance.SubnetId);
  const groups = new Set([...(own[0]?.groups ?? []), ...(instance.SecurityGroups ?? []).map((one) => one.GroupId!)]);
  return {
    instanceId: instance.InstanceId!,
    imageId: instance.ImageId ?? '',
    instanceType: instance.InstanceType ?? '',
    accountId,
    region,
    availabilityZone: instance.Placement?.AvailabilityZone ?? subnet?.AvailabilityZone ?? '',
    availabilityZoneId: subnet?.AvailabilityZoneId ?? '',
    hostname: hostname(instance),
    localIpv4: instance.PrivateIpAddress ?? own[0]?.addresses[0] ?? '',
    publicIpv4: instance.PublicIpAddress,
    launchTime: (instance.LaunchTime ?? new Date(0)).toISOString().replace(/\.\d+Z$/, 'Z'),
    reservationId: '',
    amiLaunchIndex: instance.AmiLaunchIndex ?? 0,
    architecture: instance.Architecture ?? (process.arch === 'arm64' ? 'arm64' : 'x86_64'),
    securityGroups: [...groups].map((id) => ({ id, name: state.securityGroups.find((one) => one.GroupId === id)?.GroupName ?? id })),
    interfaces: own.map((one) => ({
      id: one.id,
      mac: one.mac ?? '',
      deviceNumber: one.deviceIndex,
      addresses: one.addresses,
      subnetId: one.subnetId,
      subnetCidr: subnetOf(one.subnetId)?.CidrBlock ?? '',
      vpcId: one.vpcId,
      vpcCidr: plan.cidrs[0],
    })),
    tokensRequired: instance.MetadataOptions?.HttpTokens !== 'optional',
    enabled: instance.MetadataOptions?.HttpEndpoint !== 'disabled',
    tags:
      instance.MetadataOptions?.InstanceMetadataTags === 'enabled'
        ? Object.fromEntries((instance.Tags ?? []).map((one) => [one.Key, one.Value]))
        : undefined,
  };
}
