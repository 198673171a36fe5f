import type { CloudSource, CloudState } from '../contract.ts';
import type { Cloud } from './cloud.ts';
import { viewInstance } from './ec2/instance-view.ts';
import { viewInterface } from './ec2/network-interfaces.ts';
import { viewInternetGateway } from './ec2/internet-gateways.ts';
import { viewRouteTable } from './ec2/route-tables.ts';
import { viewGroup } from './ec2/security-groups.ts';
import { viewSubnet } from './ec2/subnets.ts';
import { viewVolume } from './ec2/volumes.ts';
import { viewVpc } from './ec2/vpcs.ts';
import { balancersOf } from './elbv2/forwards.ts';
import type { Tables } from './state/tables.ts';

/** Each list of a CloudState: how it is made, and from which tables. */
const lists: { [K in keyof CloudState]: { from: (keyof Tables)[]; make: (cloud: Cloud) => CloudState[K] } } = {
  vpcs: { from: ['vpcs', 'tags'], make: (cloud) => cloud.tables.vpcs.values().map((one) => viewVpc(cloud, one)) },
  subnets: { from: ['subnets', 'networkInterfaces', 'tags'], make: (cloud) => cloud.tables.subnets.values().map((one) => viewSubnet(cloud, one)) },
  routeTables: {
    from: ['routeTables', 'networkInterfaces', 'internetGateways', 'natGateways', 'instances', 'tags'],
    make: (cloud) => cloud.tables.routeTables.values().map((one) => viewRouteTable(cloud, one)),
  },
  internetGateways: {
    from: ['internetGateways', 'tags'],
    make: (cloud) => cloud.tables.internetGateways.values().map((one) => viewInternetGateway(cloud, one)),
  },
  securityGroups: {
    from: ['securityGroups', 'securityGroupRules', 'tags'],
    make: (cloud) => cloud.tables.securityGroups.values().map((one) => viewGroup(cloud, one)),
  },
  networkInterfaces: {
    from: ['networkInterfaces', 'addresses', 'tags'],
    make: (cloud) => cloud.tables.networkInterfaces.values().map((one) => viewInterface(cloud, one)),
  },
  instances: {
    from: ['instances', 'networkInterfaces', 'addresses', 'volumes', 'vpcs', 'instanceProfiles', 'tags'],
    make: (cloud) => cloud.tables.instances.values().map((one) => viewInstance(cloud, one)),
  },
  volumes: { from: ['volumes', 'tags'], make: (cloud) => cloud.tables.volumes.values().map((one) => viewVolume(cloud, one)) },
  loadBalancers: {
    from: ['loadBalancers'],
    make: (cloud) => cloud.tables.loadBalancers.values().map(({ attributes: _a, networkInterfaceIds: _n, ...shape }) => shape),
  },
  listeners: { from: ['listeners'], make: (cloud) => cloud.tables.listeners.values().map(({ attributes: _, ...shape }) => shape) },
  targetGroups: {
    from: ['targetGroups', 'listeners', 'rules'],
    make: (cloud) =>
      cloud.tables.targetGroups.values().map(({ attributes, targets, ...group }) => ({
        group: { ...group, LoadBalancerArns: balancersOf(cloud, group.TargetGroupArn) },
        // One that is draining gets no new connections; the data plane lets its old ones end.
        targets: targets.filter((one) => one.drainedAt === undefined).map((one) => one.target),
        attributes: Object.entries(attributes).map(([Key, Value]) => ({ Key, Value })),
      })),
  },
};
const names = Object.keys(lists) as (keyof CloudState)[];

/** Seconds that the credentials of an instance's role are good for, as AWS's: about six hours. */
const sessionSeconds = 6 * 3600;

/**
 * The endpoint's state as a data plane reads it: the same views that the operations answer with. What read() gives is shared
 * between calls and not to be changed.
 */
export function makeSource(cloud: Cloud): CloudSource & { end(): void } {
  const { tables } = cloud;
  const callbacks = new Set<() => void>();
  /** What was read last, but for the lists whose tables have changed since. */
  const known: Partial<CloudState> = {};
  let scheduled: NodeJS.Immediate | undefined;
  const endCommits = cloud.state.onCommit((changed) => {
    const stale = names.filter((name) => lists[name].from.some((table) => changed.has(table)));
    for (const name of stale) delete known[name];
    if (scheduled || stale.length === 0) return;
    scheduled = setImmediate(() => {
      scheduled = undefined;
      for (const callback of callbacks) callback();
    });
  });
  const list = <K extends keyof CloudState>(name: K): CloudState[K] => (known[name] ??= lists[name].make(cloud) as Partial<CloudState>[K])!;
  return {
    region: cloud.region,
    accountId: cloud.accountId,
    read: async (): Promise<CloudState> => Object.fromEntries(names.map((name) => [name, list(name)])) as unknown as CloudState,
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
