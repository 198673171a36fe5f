import type { ContainerStatus, Pod, PodCondition, PodStatus } from '../api/generated/types.ts';
import type { ResizeProblem } from './admission.ts';
import { type ContainerStatusInput, containerStatus } from './container-status.ts';
import { containersOf, findCondition, formatTime, isSidecar } from './pods.ts';
import { qosClassOf } from './qos.ts';

export interface PodStatusInput extends Omit<ContainerStatusInput, 'initializing'> {
  now: number;
  hostIPs: string[];
  /** Running containers do not have yet what the spec gives them. */
  resizing: boolean;
  /** Why they will not get it, or not yet. */
  resizeProblem?: ResizeProblem;
  /** Set where the kubelet itself ended the pod (DeadlineExceeded, Evicted, an admission failure). */
  override?: { phase: 'Failed'; reason: string; message: string };
}

const ended = (s: ContainerStatus) => s.state?.terminated !== undefined;
const succeeded = (s: ContainerStatus) => s.state?.terminated?.exitCode === 0;

/** The pod's phase, by the rules of the API: see "Pod phase" in the Kubernetes documentation. */
export function podPhase(pod: Pod, init: ContainerStatus[], regular: ContainerStatus[], terminal: boolean): string {
  const policy = pod.spec.restartPolicy ?? 'Always';
  const specs = pod.spec.initContainers ?? [];
  const anyRegularSeen = regular.some((s) => s.containerID !== undefined);
  if (!anyRegularSeen) {
    for (const [i, spec] of specs.entries()) {
      const status = init[i]!;
      if (isSidecar(spec)) {
        if (!status.started && !terminal) return 'Pending';
        continue;
      }
      if (succeeded(status)) continue;
      const failedForGood = ended(status) && (spec.restartPolicy ?? policy) === 'Never';
      return failedForGood || (terminal && ended(status)) ? 'Failed' : 'Pending';
    }
  }
  const running = regular.filter((s) => s.state?.running).length;
  const stopped = regular.filter((s) => ended(s) || (s.state?.waiting && s.lastState?.terminated)).length;
  const waiting = regular.length - running - stopped;
  const good = regular.filter(succeeded).length;
  if (terminal && running === 0) return waiting === 0 && good === regular.length ? 'Succeeded' : 'Failed';
  if (waiting > 0) return 'Pending';
  if (running > 0) return 'Running';
  if (policy === 'Always') return 'Running';
  const sidecarsRun = specs.some((spec, i) => isSidecar(spec) && init[i]?.state?.running);
  if (stopped === good) return sidecarsRun ? 'Running' : 'Succeeded';
  return policy === 'Never' && !sidecarsRun ? 'Failed' : 'Running';
}

/** The whole status of a pod. Conditions that others own are kept; lastTransitionTime moves only with the status. */
export function podStatus(input: PodStatusInput): PodStatus {
  const { pod, state } = input;
  const all = containersOf(pod);
  const initSpecs = all.filter((c) => c.kind === 'init');
  const early = initSpecs.map((c) => containerStatus({ ...input, initializing: true }, c));
  const initDone = early.every((s, i) => (isSidecar(initSpecs[i]!.spec) ? s.started === true : succeeded(s)));
  const full = { ...input, initializing: !initDone };
  const init = initSpecs.map((c) => containerStatus(full, c));
  const regular = all.filter((c) => c.kind === 'regular').map((c) => containerStatus(full, c));
  const ephemeral = all.filter((c) => c.kind === 'ephemeral').map((c) => containerStatus(full, c));

  const previous = pod.status?.phase;
  let phase = input.override?.phase ?? podPhase(pod, init, regular, input.terminal);
  // Terminal phases are final, whatever became of the containers since.
  if (previous === 'Failed' || previous === 'Succeeded') phase = previous;

  const sandbox = state.sandboxes[0];
  const ips = pod.spec.hostNetwork ? input.hostIPs : sandbox?.network.ip ? [sandbox.network.ip, ...sandbox.network.additionalIps] : [];
  const podIPs = ips.length > 0 ? ips.map((ip) => ({ ip })) : (pod.status?.podIPs ?? []);

  const status: PodStatus = {
    phase,
    ...(input.override
      ? { reason: input.override.reason, message: input.override.message }
      : { ...(pod.status?.reason ? { reason: pod.status.reason } : {}), ...(pod.status?.message ? { message: pod.status.message } : {}) }),
    ...(input.hostIPs[0] ? { hostIP: input.hostIPs[0], hostIPs: input.hostIPs.map((ip) => ({ ip })) } : {}),
    ...(podIPs[0] ? { podIP: podIPs[0].ip, podIPs } : {}),
    startTime: pod.status?.startTime ?? formatTime(input.now),
    ...(init.length > 0 ? { initContainerStatuses: init } : {}),
    containerStatuses: regular,
    ...(ephemeral.length > 0 ? { ephemeralContainerStatuses: ephemeral } : {}),
    qosClass: pod.status?.qosClass ?? qosClassOf(pod),
    ...(pod.metadata.generation === undefined ? {} : { observedGeneration: pod.metadata.generation }),
    conditions: [],
  };
  status.conditions = conditions(input, status, init, regular);
  return status;
}

const ownedTypes = new Set([
  'PodScheduled',
  'PodResizePending',
  'PodResizeInProgress',
  'PodReadyToStartContainers',
  'Initialized',
  'ContainersReady',
  'Ready',
]);

function conditions(input: PodStatusInput, status: PodStatus, init: ContainerStatus[], regular: ContainerStatus[]): PodCondition[] {
  const { pod } = input;
  const before = pod.status?.conditions;
  const now = formatTime(input.now);
  const make = (type: string, ok: boolean, reason?: string, message?: string): PodCondition => {
    const value = ok ? 'True' : 'False';
    const old = findCondition(before, type);
    return {
      type,
      status: value,
      lastProbeTime: null as unknown as string,
      lastTransitionTime: old?.status === value && old.lastTransitionTime ? old.lastTransitionTime : now,
      ...(reason ? { reason } : {}),
      ...(message ? { message } : {}),
      ...(pod.metadata.generation === undefined ? {} : { observedGeneration: pod.metadata.generation }),
    };
  };
  const done = status.phase === 'Succeeded';
  const sandbox = input.state.sandboxes[0];
  const sandboxReady = sandbox?.state === 'SANDBOX_READY' && (pod.spec.hostNetwork === true || sandbox.network.ip !== '');

  const specs = pod.spec.initContainers ?? [];
  const notInit = init.filter((s, i) => (isSidecar(specs[i]!) ? !s.started && !done : !succeeded(s))).map((s) => s.name);
  const initialized = done || notInit.length === 0 || regular.some((s) => s.containerID !== undefined);
  const sidecars = init.filter((_, i) => isSidecar(specs[i]!));
  const unready = [...sidecars, ...regular].filter((s) => !s.ready).map((s) => s.name);

  let readyReason: [string?, string?] = [];
  let containersReady = true;
  if (done) [containersReady, readyReason] = [false, ['PodCompleted']];
  else if (status.phase === 'Failed') [containersReady, readyReason] = [false, ['PodFailed']];
  else if (unready.length > 0)
    [containersReady, readyReason] = [false, ['ContainersNotReady', `containers with unready status: [${unready.join(' ')}]`]];

  let ready = containersReady;
  let gateReason: [string?, string?] = readyReason;
  if (containersReady) {
    const messages = (pod.spec.readinessGates ?? []).flatMap(({ conditionType }) => {
      const gate = findCondition(before, conditionType);
      if (!gate) return [`corresponding condition of pod readiness gate "${conditionType}" does not exist.`];
      return gate.status === 'True' ? [] : [`the status of pod readiness gate "${conditionType}" is not "True", but ${gate.status}`];
    });
    if (messages.length > 0) [ready, gateReason] = [false, ['ReadinessGatesNotReady', messages.join(', ')]];
  }
  const others = (before ?? []).filter((c) => !ownedTypes.has(c.type));
  const own = [
    make('PodReadyToStartContainers', sandboxReady),
    make(
      'Initialized',
      initialized,
      done ? 'PodCompleted' : initialized ? undefined : 'ContainersNotInitialized',
      initialized ? undefined : `containers with incomplete status: [${notInit.join(' ')}]`,
    ),
    make('Ready', ready, ...gateReason),
    make('ContainersReady', containersReady, ...readyReason),
  ];
  if (input.resizing && input.resizeProblem) own.push(make('PodResizePending', true, input.resizeProblem.reason, input.resizeProblem.message));
  else if (input.resizing) own.push(make('PodResizeInProgress', true));
  own.push(make('PodScheduled', true));
  return [...own, ...others];
}
