import type { Node, NodeCondition, NodeStatus } from '../api/generated/types.ts';
import type { Image } from '../runtime/cri.ts';
import type { Machine, Pressure } from './machine.ts';
import { formatTime } from './pods.ts';

export const kubeletVersion = 'v1.37.0';
const maxImages = 50;

export interface NodeStatusInput {
  machine: Machine;
  pressure: Pressure;
  runtime: { name: string; version: string };
  /** Why the node cannot run pods, empty when it can. */
  notReady: string[];
  addresses: { type: string; address: string }[];
  /** The cloud's own controllers own the addresses. */
  externalCloud: boolean;
  port: number;
  maxPods: number;
  reserved: Record<string, string>;
  images: Image[];
  volumesInUse: string[];
  now: number;
}

const toKi = (bytes: number) => `${Math.floor(bytes / 1024)}Ki`;
const cpuQuantity = (milli: number) => (milli % 1000 === 0 ? String(milli / 1000) : `${milli}m`);

export function capacityOf(machine: Machine, maxPods: number): Record<string, string> {
  return {
    cpu: cpuQuantity(machine.cpuMilli),
    memory: toKi(machine.memoryBytes),
    pods: String(maxPods),
    'ephemeral-storage': toKi(machine.diskBytes),
    ...Object.fromEntries(Object.entries(machine.hugePages).map(([size, bytes]) => [`hugepages-${size}`, bytes === 0 ? '0' : toKi(bytes)])),
  };
}

/** Capacity less what is reserved for the system and the hard eviction thresholds. reserved: milli-CPUs and bytes by resource name. */
export function allocatableOf(machine: Machine, maxPods: number, reserved: { cpuMilli: number; memoryBytes: number }): Record<string, string> {
  const eviction = 100 * 1024 * 1024;
  return {
    ...capacityOf(machine, maxPods),
    cpu: cpuQuantity(Math.max(0, machine.cpuMilli - reserved.cpuMilli)),
    memory: toKi(Math.max(0, machine.memoryBytes - reserved.memoryBytes - eviction)),
    'ephemeral-storage': String(Math.floor(machine.diskBytes * 0.9)),
  };
}

/** The status to report, over what the Node says now: what others own (volumesAttached, their conditions, cloud addresses) stays. */
export function nodeStatus(node: Node, o: NodeStatusInput & { capacity: Record<string, string>; allocatable: Record<string, string> }): NodeStatus {
  const { machine } = o;
  const now = formatTime(o.now);
  const before = node.status;
  const condition = (type: string, value: boolean, reason: string, message: string): NodeCondition => {
    const status = value ? 'True' : 'False';
    const old = before?.conditions?.find((c) => c.type === type);
    return {
      type,
      status,
      lastHeartbeatTime: now,
      lastTransitionTime: old?.status === status && old.lastTransitionTime ? old.lastTransitionTime : now,
      reason,
      message,
    };
  };
  const own = [
    o.pressure.memory
      ? condition('MemoryPressure', true, 'KubeletHasInsufficientMemory', 'kubelet has insufficient memory available')
      : condition('MemoryPressure', false, 'KubeletHasSufficientMemory', 'kubelet has sufficient memory available'),
    o.pressure.disk
      ? condition('DiskPressure', true, 'KubeletHasDiskPressure', 'kubelet has disk pressure')
      : condition('DiskPressure', false, 'KubeletHasNoDiskPressure', 'kubelet has no disk pressure'),
    o.pressure.pid
      ? condition('PIDPressure', true, 'KubeletHasInsufficientPID', 'kubelet has insufficient PID available')
      : condition('PIDPressure', false, 'KubeletHasSufficientPID', 'kubelet has sufficient PID available'),
    o.notReady.length > 0
      ? condition('Ready', false, 'KubeletNotReady', o.notReady.length === 1 ? o.notReady[0]! : `[${o.notReady.join(', ')}]`)
      : condition('Ready', true, 'KubeletReady', 'kubelet is posting ready status'),
  ];
  const ownTypes = new Set(own.map((c) => c.type));
  const images = [...o.images].sort((a, b) => b.size - a.size).slice(0, maxImages);
  // With an external cloud the cloud's controller sets the addresses; until it has, those the node knows make it reachable.
  const keepAddresses = o.externalCloud && (before?.addresses ?? []).length > 0;
  return {
    addresses: keepAddresses ? before!.addresses! : o.addresses,
    capacity: { ...extended(before?.capacity, o.capacity), ...o.capacity },
    allocatable: { ...extended(before?.allocatable, o.allocatable), ...o.allocatable },
    conditions: [...own, ...(before?.conditions ?? []).filter((c) => !ownTypes.has(c.type))],
    daemonEndpoints: { kubeletEndpoint: { Port: o.port } },
    nodeInfo: {
      machineID: machine.machineId,
      systemUUID: machine.systemUuid,
      bootID: machine.bootId,
      kernelVersion: machine.kernelVersion,
      osImage: machine.osImage,
      containerRuntimeVersion: `${o.runtime.name}://${o.runtime.version}`,
      kubeletVersion,
      kubeProxyVersion: '',
      operatingSystem: 'linux',
      architecture: machine.architecture,
    },
    images: images.map((i) => ({ names: [...i.repoDigests, ...i.repoTags], sizeBytes: i.size })),
    volumesInUse: o.volumesInUse,
    ...(before?.volumesAttached ? { volumesAttached: before.volumesAttached } : {}),
  };
}

/** Extended resources (names with a domain) are others' to set. */
const extended = (before: Record<string, string> | undefined, own: Record<string, string>): Record<string, string> =>
  Object.fromEntries(Object.entries(before ?? {}).filter(([name]) => name.includes('/') && !(name in own)));

/** A text that differs only when something but heartbeat times has changed. */
export function comparableStatus(status: NodeStatus): string {
  const sorted = (value: unknown): unknown =>
    Array.isArray(value)
      ? value.map(sorted)
      : value && typeof value === 'object'
        ? Object.fromEntries(
            Object.entries(value)
              .filter(([, v]) => v !== undefined && v !== null)
              .sort(([a], [b]) => (a < b ? -1 : 1))
              .map(([k, v]) => [k, sorted(v)]),
          )
        : value;
  const conditions = (status.conditions ?? []).map(({ lastHeartbeatTime: _, ...c }) => c).sort((a, b) => (a.type < b.type ? -1 : 1));
  const volumesInUse = status.volumesInUse?.length ? status.volumesInUse : undefined;
  const images = status.images?.length ? status.images : undefined;
  return JSON.stringify(sorted({ ...status, conditions, volumesInUse, images }));
}
