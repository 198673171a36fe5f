import type { Pod } from '../api/generated/types.ts';
import type { ContainerStatus, PodSandboxStatus } from '../runtime/cri.ts';
import { containerHash, hashAnnotation } from './labels.ts';
import { generations, isRunning, latest, type PodState } from './pod-state.ts';
import { resizeRestarts } from './resize.ts';
import { containersOf, isSidecar, type PodContainer } from './pods.ts';

export interface ProbeView {
  /** Whether the liveness or the startup probe of this container has failed for good. */
  failedProbe(containerId: string): 'liveness' | 'startup' | undefined;
  /** Whether the container counts as started: its startup probe has passed, or it has none, and postStart is done. */
  started(containerId: string, container: PodContainer): boolean;
}

export interface ContainerToKill {
  id: string;
  name: string;
  message: string;
  reason: 'spec' | 'liveness' | 'startup' | 'unknown';
}

/** What has to be done so that the runtime holds what the pod's spec says. */
export interface PodActions {
  /** End everything of the pod: nothing more is to run, or the sandbox is to be replaced. */
  killPod: boolean;
  createSandbox: boolean;
  /** The sandbox to work in, where none is to be created. */
  sandbox?: PodSandboxStatus;
  attempt: number;
  start: PodContainer[];
  kill: ContainerToKill[];
}

/** Whether a container that is not running (or was never created) is to be started, by the restart policy. */
export function shouldStart(pod: Pod, container: PodContainer, last: ContainerStatus | undefined): boolean {
  if (!last || last.state === 'CONTAINER_CREATED') return true;
  if (last.state === 'CONTAINER_RUNNING') return false;
  if (last.state === 'CONTAINER_UNKNOWN') return true;
  if (container.kind === 'ephemeral') return false;
  const rules = container.spec.restartPolicyRules ?? [];
  for (const rule of rules) {
    const codes = rule.exitCodes;
    if (!codes) continue;
    const listed = (codes.values ?? []).includes(last.exitCode);
    if (rule.action === 'Restart' && (codes.operator === 'In' ? listed : !listed)) return true;
  }
  if (isSidecar(container.spec)) return true;
  const policy = container.spec.restartPolicy ?? pod.spec.restartPolicy ?? 'Always';
  if (policy === 'Never') return false;
  if (policy === 'OnFailure') return last.exitCode !== 0;
  // An init container that did its work is not run again, whatever the pod's policy.
  return container.kind === 'init' ? last.exitCode !== 0 : true;
}

/** Whether a new sandbox is needed, and the number of its attempt. */
export function sandboxChange(pod: Pod, state: PodState): { changed: boolean; attempt: number; sandbox?: PodSandboxStatus } {
  const newest = state.sandboxes[0];
  if (!newest) return { changed: true, attempt: 0 };
  const ready = state.sandboxes.filter((s) => s.state === 'SANDBOX_READY');
  const attempt = newest.metadata.attempt + 1;
  if (ready.length > 1 || newest.state !== 'SANDBOX_READY') return { changed: true, attempt, sandbox: newest };
  if ((newest.namespaces.network === 'NODE') !== (pod.spec.hostNetwork === true)) return { changed: true, attempt, sandbox: newest };
  if (!pod.spec.hostNetwork && !newest.network.ip) return { changed: true, attempt, sandbox: newest };
  return { changed: false, attempt: newest.metadata.attempt, sandbox: newest };
}

/**
 * The plan of one sync of a pod, from its spec and what the runtime holds. Pure: backoff, admission and volumes are the executor's matter.
 * Containers of `start` are started in order; where init containers are not done, only the next of them is in it.
 */
export function computePodActions(pod: Pod, state: PodState, probes: ProbeView): PodActions {
  const { changed, attempt, sandbox } = sandboxChange(pod, state);
  const all = containersOf(pod);
  const init = all.filter((c) => c.kind === 'init');
  const regular = all.filter((c) => c.kind === 'regular');
  const actions: PodActions = { killPod: changed && sandbox !== undefined, createSandbox: changed, attempt, start: [], kill: [] };

  if (changed) {
    // What ran in an earlier sandbox counts: a container that has done its work is not run again.
    const wanted = regular.filter((c) => shouldStart(pod, c, lastExited(state, c)));
    if (wanted.length === 0) return { ...actions, killPod: true, createSandbox: false };
    actions.start = init.length > 0 ? [init[0]!] : wanted;
    return actions;
  }

  actions.sandbox = sandbox!;
  const here: PodState = { sandboxes: state.sandboxes, containers: state.containers.filter((c) => c.podSandboxId === sandbox!.id) };
  const ephemeral = all.filter((c) => c.kind === 'ephemeral' && !latest(state, c.spec.name));

  const progress = planInit(pod, init, regular, here, probes, actions);
  if (progress === 'failed') {
    const sidecarsOrOthersRun = here.containers.some(isRunning);
    return { ...actions, start: [], killPod: true, kill: sidecarsOrOthersRun ? actions.kill : [] };
  }
  if (progress === 'waiting') {
    actions.start.unshift(...ephemeral);
    return actions;
  }

  let kept = 0;
  const starts: PodContainer[] = [];
  for (const container of regular) {
    const status = latest(here, container.spec.name);
    if (!isRunning(status)) {
      const last = status ?? lastExited(state, container);
      if (!shouldStart(pod, container, last)) continue;
      if (status?.state === 'CONTAINER_UNKNOWN')
        actions.kill.push({
          id: status.id,
          name: container.spec.name,
          reason: 'unknown',
          message: `Container ${container.spec.name} is in unknown state`,
        });
      starts.push(container);
      continue;
    }
    const kill = reasonToKill(container, status!, probes);
    if (!kill) {
      kept++;
      continue;
    }
    const policy = container.spec.restartPolicy ?? pod.spec.restartPolicy ?? 'Always';
    const restart = kill.reason === 'spec' || policy !== 'Never';
    actions.kill.push(restart ? { ...kill, message: `${kill.message}, will be restarted` } : kill);
    if (restart) starts.push(container);
    // It is being ended and counts until it has.
    else kept++;
  }
  if (kept === 0 && starts.length === 0) return { ...actions, killPod: true, start: [] };
  actions.start.push(...ephemeral, ...starts);
  return actions;
}

const lastExited = (state: PodState, c: PodContainer): ContainerStatus | undefined =>
  generations(state, c.spec.name).find((s) => s.state === 'CONTAINER_EXITED') ?? undefined;

function reasonToKill(container: PodContainer, status: ContainerStatus, probes: ProbeView): ContainerToKill | undefined {
  const name = container.spec.name;
  const hash = status.annotations[hashAnnotation];
  if (hash !== undefined && hash !== containerHash(container.spec))
    return { id: status.id, name, reason: 'spec', message: `Container ${name} definition changed` };
  if (resizeRestarts(container.spec, status)) return { id: status.id, name, reason: 'spec', message: `Container ${name} resize requires restart` };
  const failed = probes.failedProbe(status.id);
  return failed ? { id: status.id, name, reason: failed, message: `Container ${name} failed ${failed} probe` } : undefined;
}

/** Adds to actions what init containers need. `done`: the others may run. */
function planInit(
  pod: Pod,
  init: PodContainer[],
  regular: PodContainer[],
  here: PodState,
  probes: ProbeView,
  actions: PodActions,
): 'done' | 'waiting' | 'failed' {
  const initialized = regular.some((c) => latest(here, c.spec.name) !== undefined);
  for (const container of init) {
    const status = latest(here, container.spec.name);
    const sidecar = isSidecar(container.spec);
    if (initialized && !sidecar) continue;
    if (isRunning(status)) {
      const kill = sidecar ? reasonToKill(container, status!, probes) : undefined;
      if (kill) {
        actions.kill.push({ ...kill, message: `${kill.message}, will be restarted` });
        actions.start.push(container);
        if (!initialized) return 'waiting';
      } else if (!initialized && (!sidecar || !probes.started(status!.id, container))) return 'waiting';
      continue;
    }
    if (status?.state === 'CONTAINER_EXITED' && !sidecar) {
      if (status.exitCode === 0) continue;
      if (!shouldStart(pod, container, status)) return 'failed';
    }
    actions.start.push(container);
    if (!initialized) return 'waiting';
  }
  return 'done';
}
