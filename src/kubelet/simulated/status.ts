import type { ContainerStatus, Node, NodeStatus, Pod, PodCondition, PodStatus } from '../../api/generated/types.ts';
import { kubeletVersion } from '../node-status.ts';
import { formatTime } from '../pods.ts';
import type { PodBehaviour } from './behaviour.ts';

/** A simulated node before it is registered. */
export interface SimulatedNode {
  /** Also its Node's name. */
  name: string;
  /** As aws:///us-east-1a/i-0123456789abcdef0. */
  providerId?: string;
  /** InternalIP. */
  address: string;
  /** Quantities; 110 pods where none is said. */
  capacity: { cpu: string; memory: string; pods?: string; [resource: string]: string | undefined };
  labels?: Record<string, string>;
  taints?: { key: string; value?: string; effect: string }[];
  architecture?: string;
}

/** What a simulated kubelet reports of its node. */
export function simulatedNodeStatus(node: SimulatedNode, now: number): NodeStatus {
  const time = formatTime(now);
  const fine = (type: string, status: string, reason: string, message: string) => ({
    type,
    status,
    lastHeartbeatTime: time,
    lastTransitionTime: time,
    reason,
    message,
  });
  const capacity = { pods: '110', 'ephemeral-storage': '20Gi', ...node.capacity } as Record<string, string>;
  return {
    addresses: [
      { type: 'InternalIP', address: node.address },
      { type: 'Hostname', address: node.name },
    ],
    capacity,
    allocatable: capacity,
    conditions: [
      fine('MemoryPressure', 'False', 'KubeletHasSufficientMemory', 'kubelet has sufficient memory available'),
      fine('DiskPressure', 'False', 'KubeletHasNoDiskPressure', 'kubelet has no disk pressure'),
      fine('PIDPressure', 'False', 'KubeletHasSufficientPID', 'kubelet has sufficient PID available'),
      fine('Ready', 'True', 'KubeletReady', 'kubelet is posting ready status'),
    ],
    daemonEndpoints: { kubeletEndpoint: { Port: 10250 } },
    nodeInfo: {
      machineID: node.name,
      systemUUID: node.name,
      bootID: node.name,
      kernelVersion: 'simulated',
      osImage: 'simulated',
      containerRuntimeVersion: 'simulated://1',
      kubeletVersion,
      kubeProxyVersion: '',
      operatingSystem: 'linux',
      architecture: node.architecture ?? 'amd64',
    },
  } as NodeStatus;
}

export const uninitializedTaint = { key: 'node.cloudprovider.kubernetes.io/uninitialized', value: 'true', effect: 'NoSchedule' };

export function simulatedNodeObject(node: SimulatedNode, now: number): Pick<Node, 'metadata' | 'spec' | 'status'> {
  const arch = node.architecture ?? 'amd64';
  return {
    metadata: {
      name: node.name,
      labels: {
        'kubernetes.io/hostname': node.name,
        'kubernetes.io/os': 'linux',
        'kubernetes.io/arch': arch,
        'beta.kubernetes.io/os': 'linux',
        'beta.kubernetes.io/arch': arch,
        'kumulus.dev/simulated': 'true',
        ...node.labels,
      },
      annotations: { 'alpha.kubernetes.io/provided-node-ip': node.address, 'volumes.kubernetes.io/controller-managed-attach-detach': 'true' },
    } as unknown as Node['metadata'],
    spec: {
      ...(node.providerId ? { providerID: node.providerId } : {}),
      taints: [...(node.taints ?? []), ...(node.providerId ? [uninitializedTaint] : [])],
    },
    status: simulatedNodeStatus(node, now),
  };
}

export type Stage = 'waiting' | 'running' | 'ready' | 'ended';

/** The conditions of this pod's readiness gates that other controllers have yet to set. */
const gatesOpen = (pod: Pod): boolean =>
  (pod.spec.readinessGates ?? []).every((g) => pod.status?.conditions?.some((c) => c.type === g.conditionType && c.status === 'True'));

/** Addresses of a pod, and how often its containers have started again. */
export interface PodPlace {
  podIp: string;
  hostIp: string;
  restarts: number;
}

/** The status that a kubelet would report at this stage, as a strategic merge patch's body. */
export function podStatus(pod: Pod, stage: Stage, behaviour: PodBehaviour, where: PodPlace, now: number): Partial<PodStatus> {
  const time = formatTime(now);
  const old = new Map((pod.status?.conditions ?? []).map((c) => [c.type, c]));
  const condition = (type: string, value: boolean, reason?: string, message?: string): PodCondition => {
    const status = value ? 'True' : 'False';
    const before = old.get(type);
    return {
      type,
      status,
      lastTransitionTime: before?.status === status && before.lastTransitionTime ? before.lastTransitionTime : time,
      ...(reason ? { reason } : { reason: null }),
      ...(message ? { message } : { message: null }),
    } as unknown as PodCondition;
  };
  const up = stage === 'running' || stage === 'ready';
  const failed = stage === 'ended' && (behaviour.exitCode ?? 0) !== 0;
  const names = pod.spec.containers.map((c) => c.name).join(' ');
  const notReady: [string, string] = stage === 'ended' ? ['PodCompleted', ''] : ['ContainersNotReady', `containers with unready status: [${names}]`];
  const ready = stage === 'ready';
  const whole = ready && gatesOpen(pod);
  return {
    phase: stage === 'waiting' ? 'Pending' : up ? 'Running' : failed ? 'Failed' : 'Succeeded',
    hostIP: where.hostIp,
    hostIPs: [{ ip: where.hostIp }],
    podIP: where.podIp,
    podIPs: [{ ip: where.podIp }],
    startTime: pod.status?.startTime ?? time,
    conditions: [
      condition('PodReadyToStartContainers', stage !== 'ended'),
      condition('Initialized', true, stage === 'ended' ? 'PodCompleted' : undefined),
      ready ? condition('ContainersReady', true) : condition('ContainersReady', false, ...notReady),
      whole
        ? condition('Ready', true)
        : ready
          ? condition('Ready', false, 'ReadinessGatesNotReady', 'corresponding condition of pod readiness gate does not exist or is not True')
          : condition('Ready', false, ...notReady),
    ],
    containerStatuses: pod.spec.containers.map((c) => containerStatus(pod, c, stage, behaviour, time, where.restarts)),
    ...(pod.spec.initContainers?.length ? { initContainerStatuses: pod.spec.initContainers.map((c) => initStatus(pod, c, stage, time)) } : {}),
  };
}

type SpecContainer = Pod['spec']['containers'][number];
const containerId = (pod: Pod, name: string) => `simulated://${pod.metadata.uid}-${name}`;

function containerStatus(pod: Pod, c: SpecContainer, stage: Stage, behaviour: PodBehaviour, time: string, restarts = 0): ContainerStatus {
  const before = pod.status?.containerStatuses?.find((s) => s.name === c.name);
  const startedAt = (before?.restartCount === restarts && before.state?.running?.startedAt) || time;
  const exitCode = behaviour.exitCode ?? 0;
  const state =
    stage === 'waiting'
      ? { waiting: { reason: 'ContainerCreating', ...behaviour.waiting } }
      : stage === 'ended'
        ? {
            terminated: {
              exitCode,
              reason: exitCode === 0 ? 'Completed' : 'Error',
              startedAt,
              finishedAt: time,
              containerID: containerId(pod, c.name),
            },
          }
        : { running: { startedAt } };
  return {
    name: c.name,
    image: c.image ?? '',
    imageID: stage === 'waiting' ? '' : `simulated://${c.image}`,
    ...(stage === 'waiting' ? {} : { containerID: containerId(pod, c.name) }),
    ready: stage === 'ready',
    started: stage === 'running' || stage === 'ready',
    restartCount: restarts,
    state,
  } as ContainerStatus;
}

/** Init containers have ended well by the time the others run; sidecars (restartPolicy Always) run with them. */
function initStatus(pod: Pod, c: SpecContainer, stage: Stage, time: string): ContainerStatus {
  const sidecar = (c as { restartPolicy?: string }).restartPolicy === 'Always';
  if (stage === 'waiting' || sidecar) return containerStatus(pod, c, stage, {}, time);
  return {
    ...containerStatus(pod, c, 'ended', {}, pod.status?.startTime ?? time),
    ready: true,
    started: false,
  };
}
