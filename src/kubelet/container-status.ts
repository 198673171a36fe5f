import type { ContainerState, ContainerStatus as ApiContainerStatus, Pod, ResourceRequirements } from '../api/generated/types.ts';
import type { ContainerStatus } from '../runtime/cri.ts';
import { generations, type PodState, restartCountOf } from './pod-state.ts';
import { containerStatusNamed, formatTime, type PodContainer } from './pods.ts';

export interface WaitingReason {
  reason: string;
  message: string;
}

export interface ContainerStatusInput {
  pod: Pod;
  state: PodState;
  runtimeName: string;
  /** Why containers could not be started when last tried, by name. */
  waiting: ReadonlyMap<string, WaitingReason>;
  ready(containerId: string, container: PodContainer): boolean;
  started(containerId: string, container: PodContainer): boolean;
  /** What a container has been given, where that is known. */
  resources(container: ContainerStatus): ResourceRequirements | undefined;
  /** Whether a container that is not there is still to come because init containers run. */
  initializing: boolean;
  /** No container will be started any more. */
  terminal: boolean;
}

const stateOf = (c: ContainerStatus, runtimeName: string): ContainerState => {
  const containerID = `${runtimeName}://${c.id}`;
  if (c.state === 'CONTAINER_RUNNING') return { running: { startedAt: formatTime(c.startedAt) } };
  if (c.state === 'CONTAINER_EXITED')
    return {
      terminated: {
        exitCode: c.exitCode,
        reason: c.reason || (c.exitCode === 0 ? 'Completed' : 'Error'),
        ...(c.message ? { message: c.message } : {}),
        startedAt: formatTime(c.startedAt || c.createdAt),
        finishedAt: formatTime(c.finishedAt || c.createdAt),
        containerID,
      },
    };
  return { waiting: { reason: 'ContainerCreating' } };
};

/** The API's status of one container from the generations of it that the runtime still has, and what the API has said before. */
export function containerStatus(input: ContainerStatusInput, container: PodContainer): ApiContainerStatus {
  const { spec } = container;
  const [current, ...older] = generations(input.state, spec.name);
  const reported = containerStatusNamed(input.pod, spec.name);
  const waiting = input.waiting.get(spec.name);
  const has = (current && input.resources(current)) ?? spec.resources;
  const lastExit = older.find((c) => c.state === 'CONTAINER_EXITED');
  const status: ApiContainerStatus = {
    name: spec.name,
    state: {},
    lastState: lastExit ? stateOf(lastExit, input.runtimeName) : {},
    ready: false,
    restartCount: current ? restartCountOf(current) : (reported?.restartCount ?? 0),
    image: current?.image.image || (spec.image ?? ''),
    imageID: current?.imageRef ?? '',
    started: false,
    ...(current ? { containerID: `${input.runtimeName}://${current.id}` } : {}),
    ...(spec.volumeMounts?.length
      ? {
          volumeMounts: spec.volumeMounts.map((m) => ({
            name: m.name,
            mountPath: m.mountPath,
            ...(m.readOnly ? { readOnly: true, recursiveReadOnly: 'Disabled' } : {}),
          })),
        }
      : {}),
    ...(has && Object.keys(has).length > 0 ? { resources: has } : {}),
    ...(has?.requests ? { allocatedResources: has.requests } : {}),
  };
  if (!current) {
    const reason = waiting ?? { reason: input.initializing ? 'PodInitializing' : 'ContainerCreating', message: '' };
    // Seen before but gone from the runtime (removed from outside, or the node was rebooted): that it ended is all that is known.
    if (reported?.state?.terminated) {
      status.state = reported.state;
      status.containerID = reported.containerID;
      status.imageID = reported.imageID;
      if (reported.lastState) status.lastState = reported.lastState;
      if (waiting && !input.terminal) {
        status.lastState = { terminated: reported.state.terminated };
        status.state = { waiting: { reason: waiting.reason, message: waiting.message } };
      }
    } else if (input.terminal || reported?.state?.running) {
      const ended = {
        reason: 'ContainerStatusUnknown',
        message: input.terminal
          ? 'The container could not be located when the pod was terminated'
          : 'The container could not be located when the pod was deleted.  The container used to be Running',
        exitCode: 137,
      };
      if (input.terminal) status.state = { terminated: ended };
      else {
        status.state = { waiting: { reason: reason.reason, ...(reason.message ? { message: reason.message } : {}) } };
        status.lastState = { terminated: ended };
        status.restartCount = (reported?.restartCount ?? 0) + 1;
      }
    } else status.state = { waiting: { reason: reason.reason, ...(reason.message ? { message: reason.message } : {}) } };
    return status;
  }
  status.state = stateOf(current, input.runtimeName);
  if (current.state === 'CONTAINER_RUNNING') {
    status.started = input.started(current.id, container);
    status.ready = status.started && input.ready(current.id, container);
  } else if (waiting && !input.terminal) {
    // It ended and is to be started again, but not yet: the end moves to lastState.
    status.lastState = current.state === 'CONTAINER_EXITED' ? status.state : status.lastState;
    status.state = { waiting: { reason: waiting.reason, ...(waiting.message ? { message: waiting.message } : {}) } };
  } else if (container.kind === 'init' && current.state === 'CONTAINER_EXITED' && current.exitCode === 0) status.ready = true;
  return status;
}
