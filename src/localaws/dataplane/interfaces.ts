import { createHash } from 'node:crypto';
import type { CloudState } from '../contract.ts';
import { linkName } from './names.ts';

/** A network interface as the data plane sees it. */
export interface Interface {
  id: string;
  /** Its name on the router's side. */
  link: string;
  vpcId: string;
  subnetId: string;
  instanceId?: string;
  deviceIndex: number;
  mac?: string;
  /** The primary one first. */
  addresses: string[];
  groups: string[];
  sourceDestCheck: boolean;
  description: string;
  /** Tags kumulus:host-socket and kumulus:host-port, on an interface attached to nothing. */
  hostSocket?: string;
  hostPort?: number;
}

type Shape = NonNullable<CloudState['networkInterfaces']>[number] | NonNullable<CloudState['instances'][number]['NetworkInterfaces']>[number];

/** As the endpoint says, or, where that is no address that a device can have (moto's may be none), one that follows from the interface's id. */
function hardwareAddress(shape: Shape): string | undefined {
  const given = shape.MacAddress;
  if (!given) return undefined;
  if (/^[0-9a-f][02468ace](:[0-9a-f]{2}){5}$/i.test(given)) return given;
  const digits = createHash('sha256').update(shape.NetworkInterfaceId!).digest('hex').slice(0, 10);
  return `02:${digits.match(/../g)!.join(':')}`;
}

function fromShape(shape: Shape, instanceId: string | undefined): Interface | undefined {
  if (!shape.NetworkInterfaceId || !shape.PrivateIpAddress || !shape.VpcId || !shape.SubnetId) return undefined;
  const others = (shape.PrivateIpAddresses ?? []).map((entry) => entry.PrivateIpAddress!).filter((address) => address !== shape.PrivateIpAddress);
  const tags = new Map(('TagSet' in shape ? (shape.TagSet ?? []) : []).map((tag) => [tag.Key, tag.Value]));
  const hostPort = Number(tags.get('kumulus:host-port'));
  return {
    id: shape.NetworkInterfaceId,
    link: linkName(shape.NetworkInterfaceId),
    vpcId: shape.VpcId,
    subnetId: shape.SubnetId,
    instanceId,
    deviceIndex: shape.Attachment?.DeviceIndex ?? 0,
    mac: hardwareAddress(shape),
    addresses: [shape.PrivateIpAddress, ...others],
    groups: (shape.Groups ?? []).map((group) => group.GroupId!),
    sourceDestCheck: shape.SourceDestCheck !== false,
    description: shape.Description ?? '',
    hostSocket: instanceId ? undefined : tags.get('kumulus:host-socket'),
    hostPort: instanceId || !(hostPort > 0) ? undefined : hostPort,
  };
}

/** Every network interface: those listed, and those that only an instance's description shows (as some endpoints do). */
export function interfacesOf(state: CloudState): Interface[] {
  const found = new Map<string, Interface>();
  for (const shape of state.networkInterfaces) {
    const made = fromShape(shape, shape.Attachment?.InstanceId);
    if (made) found.set(made.id, made);
  }
  for (const instance of state.instances) {
    for (const shape of instance.NetworkInterfaces ?? []) {
      const known = found.get(shape.NetworkInterfaceId ?? '');
      if (known) {
        known.instanceId ??= instance.InstanceId;
        // The check of the first interface can be asked of the instance, and moto notes it there alone.
        if (known.deviceIndex === 0 && instance.SourceDestCheck === false) known.sourceDestCheck = false;
        continue;
      }
      const made = fromShape(shape, instance.InstanceId);
      if (made) found.set(made.id, made);
    }
  }
  return [...found.values()].sort((a, b) => (a.id < b.id ? -1 : 1));
}

/** Whether an instance in this state has a place in the network. */
export function wantsNetwork(stateName: string | undefined): boolean {
  return stateName === 'pending' || stateName === 'running' || stateName === 'stopping' || stateName === 'shutting-down';
}
