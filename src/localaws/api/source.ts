import type { CloudSource, CloudState } from '../contract.ts';
import type { Cloud } from './cloud.ts';
import { viewInstance } from './ec2/instances.ts';
import { viewInterface } from './ec2/network-interfaces.ts';
import { viewInternetGateway } from './ec2/internet-gateways.ts';
import { viewRouteTable } from './ec2/route-tables.ts';
import { viewGroup } from './ec2/security-groups.ts';
import { viewSubnet } from './ec2/subnets.ts';
import { viewVolume } from './ec2/volumes.ts';
import { viewVpc } from './ec2/vpcs.ts';

/** Tables whose changes a data plane can see. */
const shown = new Set([
  'vpcs',
  'subnets',
  'routeTables',
  'internetGateways',
  'natGateways',
  'securityGroups',
  'securityGroupRules',
  'networkInterfaces',
  'addresses',
  'instances',
  'volumes',
  'loadBalancers',
  'listeners',
  'targetGroups',
  'instanceProfiles',
  'tags',
]);
/** Seconds that the credentials of an instance's role are good for, as AWS's: about six hours. */
const sessionSeconds = 6 * 3600;

/** The endpoint's state as a data plane reads it: the same views that the operations answer with. */
export function makeSource(cloud: Cloud): CloudSource & { end(): void } {
  const { tables } = cloud;
  const callbacks = new Set<() => void>();
  let scheduled: NodeJS.Immediate | undefined;
  const endCommits = cloud.state.onCommit((changed) => {
    if (scheduled || ![...changed].some((table) => shown.has(table))) return;
    scheduled = setImmediate(() => {
      scheduled = undefined;
      for (const callback of callbacks) callback();
    });
  });
  return {
    region: cloud.region,
    accountId: cloud.accountId,
    read: async (): Promise<CloudState> => ({
      vpcs: tables.vpcs.values().map((one) => viewVpc(cloud, one)),
      subnets: tables.subnets.values().map((one) => viewSubnet(cloud, one)),
      routeTables: tables.routeTables.values().map((one) => viewRouteTable(cloud, one)),
      internetGateways: tables.internetGateways.values().map((one) => viewInternetGateway(cloud, one)),
      securityGroups: tables.securityGroups.values().map((one) => viewGroup(cloud, one)),
      networkInterfaces: tables.networkInterfaces.values().map((one) => viewInterface(cloud, one)),
      instances: tables.instances.values().map((one) => viewInstance(cloud, one)),
      volumes: tables.volumes.values().map((one) => viewVolume(cloud, one)),
      loadBalancers: tables.loadBalancers.values().map(({ attributes: _a, networkInterfaceIds: _n, ...shape }) => shape),
      listeners: tables.listeners.values().map(({ attributes: _a, ...shape }) => shape),
      targetGroups: tables.targetGroups.values().map(({ attributes, targets, ...group }) => ({
        group: { ...group, LoadBalancerArns: balancersOf(cloud, group.TargetGroupArn) },
        targets: targets.filter((one) => one.drainedAt === undefined).map((one) => one.target),
        attributes: Object.entries(attributes).map(([Key, Value]) => ({ Key, Value })),
      })),
    }),
    onChange(callback) {
      callbacks.add(callback);
      return () => callbacks.delete(callback);
    },
    async userData(instanceId) {
      const text = tables.instances.get(instanceId)?.userData;
      return text === undefined ? undefined : Buffer.from(text, 'base64').toString('utf8');
    },
    async roleCredentials(instanceId) {
      const profile = tables.instanceProfiles.get(tables.instances.get(instanceId)?.instanceProfileName);
      const role = tables.roles.get(profile?.roleNames[0]);
      return role ? { roleName: role.RoleName, credentials: cloud.keys.roleSession(role, instanceId, sessionSeconds) } : undefined;
    },
    reboots: (instanceId) => tables.instances.get(instanceId)?.reboots ?? 0,
    detachForced: (volumeId, instanceId) =>
      (tables.volumes.get(volumeId)?.Attachments.find((one) => one.InstanceId === instanceId) as { forced?: boolean } | undefined)?.forced ?? false,
    end() {
      endCommits();
      if (scheduled) clearImmediate(scheduled);
      callbacks.clear();
    },
  };
}

/** The load balancers whose listeners forward to a target group. */
export function balancersOf(cloud: Cloud, targetGroupArn: string): string[] {
  const found = new Set<string>();
  for (const listener of cloud.tables.listeners.values()) {
    const arns = listener.DefaultActions.flatMap((action) => [
      action.TargetGroupArn,
      ...(action.ForwardConfig?.TargetGroups ?? []).map((one) => one.TargetGroupArn),
    ]);
    const rules = cloud.tables.rules.by('listener', listener.ListenerArn).flatMap((rule) => rule.Actions.map((action) => action.TargetGroupArn));
    if (arns.includes(targetGroupArn) || rules.includes(targetGroupArn)) found.add(listener.LoadBalancerArn);
  }
  return [...found];
}
