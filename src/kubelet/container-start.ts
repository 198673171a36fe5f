import { chmod, mkdir, rm, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Pod } from '../api/generated/types.ts';
import type { PodSandboxConfig, PodSandboxStatus } from '../runtime/cri.ts';
import { goDuration } from './backoff.ts';
import { containerConfig, containerMounts, type MountedVolume } from './container-config.ts';
import type { PodContext } from './context.ts';
import { ContainerConfigError, makeEnvironment } from './env.ts';
import { runHook } from './hooks.ts';
import { ImageError } from './images.ts';
import { generations, latest, type PodState, restartCountOf } from './pod-state.ts';
import { containerStatusNamed, describePod, type PodContainer } from './pods.ts';
import { verifyNonRoot } from './security.ts';

/** A container was not started; reason is its waiting reason. retryMs: when to try again, where that is known. */
export class StartError extends Error {
  readonly reason: string;
  readonly retryMs: number | undefined;
  constructor(reason: string, message: string, retryMs?: number) {
    super(message);
    this.reason = reason;
    this.retryMs = retryMs;
  }
}

export interface StartInput {
  ctx: PodContext;
  pod: Pod;
  container: PodContainer;
  state: PodState;
  sandbox: PodSandboxStatus;
  sandboxConfig: PodSandboxConfig;
  volumes: ReadonlyMap<string, MountedVolume>;
  signal: AbortSignal;
}

const postStartTimeoutMs = 600_000;
const text = (error: unknown) => (error instanceof Error ? error.message : String(error));
export const crashKey = (pod: Pod, container: string) => `${pod.metadata.uid}/${container}`;

/** Crash backoff, image, configuration, creation, start, postStart. Throws StartError. */
export async function startContainer(o: StartInput): Promise<void> {
  const { ctx, pod, container } = o;
  const { spec } = container;
  backOff(o);

  const image = await ctx.images.ensure(pod, spec, o.signal).catch((error: unknown) => {
    throw error instanceof ImageError ? new StartError(error.reason, error.message, error.retryMs) : error;
  });

  await pullImageVolumes(o);

  const last = latest(o.state, spec.name);
  const reported = containerStatusNamed(pod, spec.name);
  const seenBefore = reported?.containerID !== undefined;
  const restartCount = last ? restartCountOf(last) + 1 : seenBefore ? reported.restartCount + 1 : 0;

  let containerId: string;
  try {
    verifyNonRoot(pod, spec, image);
    const config = await configOf(o, restartCount);
    await mkdir(join(o.sandboxConfig.logDirectory, spec.name), { recursive: true });
    containerId = await ctx.runtime.createContainer(o.sandbox.id, config, o.sandboxConfig);
  } catch (error) {
    if (o.signal.aborted) throw error;
    ctx.recorder.event(pod, 'Warning', 'Failed', `Error: ${text(error)}`);
    throw new StartError(error instanceof ContainerConfigError ? 'CreateContainerConfigError' : 'CreateContainerError', text(error), 10_000);
  }
  ctx.recorder.event(pod, 'Normal', 'Created', `Container created`);
  try {
    await ctx.runtime.startContainer(containerId);
  } catch (error) {
    ctx.recorder.event(pod, 'Warning', 'Failed', `Error: ${text(error)}`);
    throw new StartError('RunContainerError', text(error), await afterFailedStart(o, containerId));
  }
  ctx.recorder.event(pod, 'Normal', 'Started', `Container started`);
  await linkLog(o, containerId, restartCount);
  const hook = spec.lifecycle?.postStart;
  if (!hook) return;
  try {
    const podIP = o.sandbox.network.ip || (ctx.hostIPs()[0] ?? '127.0.0.1');
    await runHook(hook, {
      runtime: ctx.runtime,
      clock: ctx.clock,
      container: spec,
      containerId,
      podIP,
      timeoutMs: postStartTimeoutMs,
      signal: o.signal,
    });
  } catch (error) {
    if (o.signal.aborted) throw error;
    ctx.recorder.event(pod, 'Warning', 'FailedPostStartHook', `PostStartHook failed: ${text(error)}`);
    ctx.recorder.event(pod, 'Normal', 'Killing', `FailedPostStartHook`);
    await ctx.runtime.stopContainer(containerId, pod.spec.terminationGracePeriodSeconds ?? 30);
    throw new StartError('PostStartHookError', text(error));
  }
}

/** Images of the volumes that the container mounts. Throws StartError as for its own. */
async function pullImageVolumes({ ctx, pod, container, signal }: StartInput): Promise<void> {
  const mounted = new Set((container.spec.volumeMounts ?? []).map((m) => m.name));
  for (const { name, image } of pod.spec.volumes ?? []) {
    if (!image || !mounted.has(name)) continue;
    const wanted = { image: image.reference ?? '', ...(image.pullPolicy ? { imagePullPolicy: image.pullPolicy } : {}) };
    await ctx.images.ensure(pod, wanted, signal).catch((error: unknown) => {
      if (!(error instanceof ImageError)) throw error;
      ctx.recorder.event(pod, 'Warning', 'Failed', `Error: ${error.message}`);
      throw new StartError(error.reason, error.message, error.retryMs);
    });
  }
}

/** Throws CrashLoopBackOff while the container has to wait, else counts this start. */
function backOff({ ctx, pod, container, state }: StartInput): void {
  const exited = generations(state, container.spec.name).find((c) => c.state === 'CONTAINER_EXITED');
  if (!exited) return;
  const key = crashKey(pod, container.spec.name);
  const wait = ctx.crashBackoff.remaining(key, exited.finishedAt);
  if (wait > 0) {
    const message = `back-off ${goDuration(ctx.crashBackoff.delay(key))} restarting failed container=${container.spec.name} pod=${describePod(pod)}`;
    ctx.recorder.event(pod, 'Warning', 'BackOff', `Back-off restarting failed container ${container.spec.name} in pod ${describePod(pod)}`);
    throw new StartError('CrashLoopBackOff', message, wait);
  }
  ctx.crashBackoff.next(key, exited.finishedAt);
}

/** A container that was made but never ran leaves nothing to look at: it is removed, and the next try waits as after a crash. */
async function afterFailedStart({ ctx, pod, container }: StartInput, id: string): Promise<number | undefined> {
  const status = await ctx.runtime.containerStatus(id).catch(() => undefined);
  if (status?.state === 'CONTAINER_EXITED') return undefined;
  await ctx.runtime.removeContainer(id).catch(() => {});
  const key = crashKey(pod, container.spec.name);
  ctx.crashBackoff.next(key, ctx.clock.now());
  return ctx.crashBackoff.remaining(key, ctx.clock.now());
}

async function configOf(o: StartInput, restartCount: number) {
  const { ctx, pod, container } = o;
  const { spec } = container;
  const { uid } = pod.metadata;
  const podIPs = pod.spec.hostNetwork ? ctx.hostIPs() : [o.sandbox.network.ip, ...o.sandbox.network.additionalIps].filter(Boolean);
  const envs = await makeEnvironment(pod, spec, { podIPs, hostIPs: ctx.hostIPs() }, ctx.env(pod, o.signal));

  const message = ctx.paths.terminationLog(uid, spec.name, restartCount);
  await mkdir(dirname(message), { recursive: true });
  await writeFile(message, '');
  // Whatever user the container runs as writes there; not left to the umask.
  await chmod(message, 0o666);
  const mounts = await containerMounts(spec, {
    volumes: o.volumes,
    envs,
    etcHosts: ctx.paths.etcHosts(uid),
    terminationLog: { containerPath: spec.terminationMessagePath ?? '/dev/termination-log', hostPath: message },
    subPath: (volume, name, subPath, containerName, index, readOnly) =>
      ctx.volumes.subPath(pod, volume, name, subPath, containerName, index, readOnly).catch((error: unknown) => {
        throw new ContainerConfigError(`failed to prepare subPath for volumeMount "${name}" of container "${containerName}": ${text(error)}`);
      }),
  });
  const devices = (spec.volumeDevices ?? []).map((d) => {
    const volume = o.volumes.get(d.name);
    if (!volume?.block) throw new ContainerConfigError(`volume "${d.name}" of container "${spec.name}" is no block device`);
    return { containerPath: d.devicePath, hostPath: volume.hostPath, permissions: volume.readOnly ? 'r' : 'mrw' };
  });
  const target = container.target ? latest(o.state, container.target) : undefined;
  if (container.target && target?.state !== 'CONTAINER_RUNNING')
    throw new ContainerConfigError(`unable to find target container ${container.target}`);
  return containerConfig({
    pod,
    container,
    restartCount,
    nodeName: ctx.nodeName,
    envs,
    mounts,
    devices,
    cdiDevices: ctx.dynamicResources.devicesOf(pod, spec),
    memoryCapacity: ctx.memoryCapacity,
    ...(target ? { targetId: target.id } : {}),
  });
}

/** /var/log/containers/POD_NS_CONTAINER-ID.log, where log collectors look. A missing directory is no error. */
async function linkLog({ ctx, pod, container, sandboxConfig }: StartInput, id: string, restartCount: number): Promise<void> {
  const link = ctx.paths.containerLogLink(pod, container.spec.name, id);
  try {
    await mkdir(dirname(link), { recursive: true });
    await rm(link, { force: true });
    await symlink(join(sandboxConfig.logDirectory, container.spec.name, `${restartCount}.log`), link);
  } catch (error) {
    ctx.log.debug({ err: error, link }, 'cannot link container log');
  }
}
