import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Pod } from '../api/generated/types.ts';
import type { PodSandboxConfig, PodSandboxStatus } from '../runtime/cri.ts';
import { RuntimeError } from '../runtime/cri.ts';
import { computePodActions, type PodActions } from './compute-actions.ts';
import { killContainer, killPod } from './container-kill.ts';
import { sandboxConfig } from './container-config.ts';
import type { WaitingReason } from './container-status.ts';
import { StartError, startContainer } from './container-start.ts';
import type { PodContext } from './context.ts';
import { hostsFile, podDns, sandboxHostname } from './network-identity.ts';
import { containerNameOf, type PodState } from './pod-state.ts';
import { resizeContainers } from './resize.ts';
import { isSidecar } from './pods.ts';

export interface SyncResult {
  /** Nothing is left to run: the pod has come to its end. */
  finished: boolean;
  /** Milliseconds until another try makes sense. */
  retryMs: number | undefined;
  error?: Error;
  /** The volumes were brought up to date on the way. */
  mounted: boolean;
}

/** Does once what the plan for this pod says. waiting is updated with why containers could not start. */
export async function syncPod(
  ctx: PodContext,
  pod: Pod,
  state: PodState,
  waiting: Map<string, WaitingReason>,
  signal: AbortSignal,
): Promise<SyncResult> {
  const actions = computePodActions(pod, state, ctx.probes);
  const grace = Number(pod.spec.terminationGracePeriodSeconds ?? 30);
  if (actions.killPod) {
    if (!actions.createSandbox) return { finished: true, retryMs: undefined, mounted: false };
    ctx.recorder.event(pod, 'Normal', 'SandboxChanged', 'Pod sandbox changed, it will be killed and re-created.');
    await killPod(ctx, pod, state, grace);
  }
  for (const kill of actions.kill) {
    const container = state.containers.find((c) => c.id === kill.id);
    if (!container) continue;
    await killContainer(ctx, pod, container, graceFor(pod, kill.name, kill.reason, grace), kill.message);
  }
  if (!actions.killPod && !actions.createSandbox) await resizeContainers(ctx, pod, state);
  if (actions.start.length === 0 && !actions.createSandbox) return { finished: false, retryMs: undefined, mounted: false };

  const network = pod.spec.hostNetwork ? undefined : await ctx.networkError();
  if (network) {
    ctx.recorder.event(pod, 'Warning', 'NetworkNotReady', `network is not ready: ${network}`);
    return { finished: false, retryMs: 2_000, mounted: false, error: new Error(`network is not ready: ${network}`) };
  }
  await ctx.cgroups.ensurePod(pod);
  await prepareResources(ctx, pod, signal);
  const volumes = await ctx.volumes.mount(pod, signal);
  const { sandbox, config } = await ensureSandbox(ctx, pod, state, actions);
  await writeHosts(ctx, pod, sandbox);
  signal.throwIfAborted();

  // What was killed above counts as ended now.
  const fresh = actions.kill.length > 0 || actions.killPod ? await ctx.states.read(pod.metadata.uid) : state;
  let retryMs: number | undefined;
  let error: Error | undefined;
  for (const container of actions.start) {
    signal.throwIfAborted();
    const { name } = container.spec;
    try {
      await startContainer({ ctx, pod, container, state: fresh, sandbox, sandboxConfig: config, volumes, signal });
      waiting.delete(name);
      await removeOldGenerations(ctx, fresh, name);
    } catch (failure) {
      if (signal.aborted) throw failure;
      const known = failure instanceof StartError ? failure : new StartError('CreateContainerError', (failure as Error).message);
      waiting.set(name, { reason: known.reason, message: known.message });
      retryMs = Math.min(retryMs ?? Number.POSITIVE_INFINITY, known.retryMs ?? 1000);
      if (known.retryMs === undefined) error = known;
      // Without its init containers the rest must not start.
      if (container.kind === 'init' && !(isSidecar(container.spec) && initialized(pod, fresh))) break;
    }
  }
  return { finished: false, retryMs, mounted: true, ...(error ? { error } : {}) };
}

async function prepareResources(ctx: PodContext, pod: Pod, signal: AbortSignal): Promise<void> {
  if (!pod.spec.resourceClaims?.length) return;
  try {
    await ctx.dynamicResources.prepare(pod, signal);
  } catch (error) {
    if (signal.aborted) throw error;
    const message = `Failed to prepare dynamic resources: ${(error as Error).message}`;
    ctx.recorder.event(pod, 'Warning', 'FailedPrepareDynamicResources', message);
    throw new Error(message, { cause: error });
  }
}

const initialized = (pod: Pod, state: PodState) => pod.spec.containers.some((c) => state.containers.some((s) => containerNameOf(s) === c.name));

/** A probe may set a grace period of its own for the restart that it brings about. */
function graceFor(pod: Pod, name: string, reason: string, grace: number): number {
  const spec = [...(pod.spec.initContainers ?? []), ...pod.spec.containers].find((c) => c.name === name);
  if (reason === 'liveness') return Number(spec?.livenessProbe?.terminationGracePeriodSeconds ?? grace);
  if (reason === 'startup') return Number(spec?.startupProbe?.terminationGracePeriodSeconds ?? grace);
  return grace;
}

async function ensureSandbox(
  ctx: PodContext,
  pod: Pod,
  state: PodState,
  actions: PodActions,
): Promise<{ sandbox: PodSandboxStatus; config: PodSandboxConfig }> {
  const logDirectory = ctx.paths.podLogs(pod);
  const make = (attempt: number) =>
    sandboxConfig({
      pod,
      attempt,
      nodeName: ctx.nodeName,
      hostname: sandboxHostname(pod, ctx.clusterDomain, ctx.nodeHostname),
      logDirectory,
      dns: podDns(pod, ctx.nodeDns, ctx.clusterDns, ctx.clusterDomain),
      cgroupParent: ctx.cgroups.podParent(pod),
    });
  if (!actions.createSandbox) return { sandbox: actions.sandbox!, config: make(actions.attempt) };
  const config = make(actions.attempt);
  try {
    await mkdir(logDirectory, { recursive: true });
    const id = await ctx.runtime.runPodSandbox(config);
    const sandbox = await ctx.runtime.podSandboxStatus(id);
    for (const old of state.sandboxes) await removeSandbox(ctx, state, old.id);
    return { sandbox, config };
  } catch (error) {
    ctx.recorder.event(pod, 'Warning', 'FailedCreatePodSandBox', `Failed to create pod sandbox: ${(error as Error).message}`);
    throw error;
  }
}

/** Old sandboxes go when nothing of them is of interest any more; their dead containers are kept for logs and lastState. */
async function removeSandbox(ctx: PodContext, state: PodState, id: string): Promise<void> {
  if (state.containers.some((c) => c.podSandboxId === id)) return;
  await ctx.runtime.removePodSandbox(id).catch((error: unknown) => ctx.log.warn({ err: error, sandbox: id }, 'cannot remove old sandbox'));
}

async function writeHosts(ctx: PodContext, pod: Pod, sandbox: PodSandboxStatus): Promise<void> {
  const file = ctx.paths.etcHosts(pod.metadata.uid);
  const ips = [sandbox.network.ip, ...sandbox.network.additionalIps].filter(Boolean);
  const nodeHosts = pod.spec.hostNetwork ? await readFile('/etc/hosts', 'utf8').catch(() => '') : '';
  const text = hostsFile(pod, ips, ctx.clusterDomain, nodeHosts);
  if ((await readFile(file, 'utf8').catch(() => undefined)) === text) return;
  await mkdir(dirname(file), { recursive: true, mode: 0o750 });
  // In place: running containers have this very file mounted.
  await writeFile(file, text, { mode: 0o644 });
}

/** Keeps the newest dead container of a name, for lastState and `logs --previous`; removes older ones with their logs. */
async function removeOldGenerations(ctx: PodContext, state: PodState, name: string): Promise<void> {
  const dead = state.containers.filter((c) => containerNameOf(c) === name && c.state !== 'CONTAINER_RUNNING').slice(1);
  for (const container of dead) {
    try {
      await ctx.runtime.removeContainer(container.id);
    } catch (error) {
      if (!(error instanceof RuntimeError && error.code === 'NotFound'))
        ctx.log.warn({ err: error, container: container.id }, 'cannot remove old container');
    }
    ctx.states.forget(container.id);
    if (container.logPath) await rm(logFile(ctx, container.logPath, state), { force: true }).catch(() => {});
  }
}

function logFile(ctx: PodContext, logPath: string, state: PodState): string {
  if (logPath.startsWith('/')) return logPath;
  const metadata = state.sandboxes[0]?.metadata;
  return metadata ? join(ctx.paths.podLogs({ metadata }), logPath) : logPath;
}
