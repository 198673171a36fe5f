import type { Pod } from '../api/generated/types.ts';
import type { ContainerStatus } from '../runtime/cri.ts';
import type { PodContext } from './context.ts';
import { runHook } from './hooks.ts';
import { podGraceAnnotation } from './labels.ts';
import { containerNameOf, isRunning, type PodState } from './pod-state.ts';
import { containerNamed, isSidecar } from './pods.ts';

/** Seconds a container is always given after its preStop hook. */
const minimumGrace = 2;

/** preStop, the stop signal, SIGKILL when the grace (seconds) is over. `event`: what the Killing event says. */
export async function killContainer(ctx: PodContext, pod: Pod, container: ContainerStatus, graceSeconds: number, event: string): Promise<void> {
  const name = containerNameOf(container);
  const spec = containerNamed(pod, name)?.spec;
  ctx.recorder.event(pod, 'Normal', 'Killing', event);
  let grace = graceSeconds;
  const hook = spec?.lifecycle?.preStop;
  if (hook && grace > 0) {
    const started = ctx.clock.now();
    const podIP = ctx.statuses.get(pod.metadata.uid)?.podIP ?? pod.status?.podIP ?? '127.0.0.1';
    let cancel = () => {};
    const timeout = new Promise<void>((_, reject) => {
      cancel = ctx.clock.after(grace * 1000, () => reject(new Error(`preStop hook did not end within the grace period of ${graceSeconds} seconds`)));
    });
    try {
      const target = { runtime: ctx.runtime, clock: ctx.clock, container: spec, containerId: container.id, podIP, timeoutMs: grace * 1000 };
      await Promise.race([runHook(hook, target), timeout]);
    } catch (error) {
      ctx.recorder.event(pod, 'Warning', 'FailedPreStopHook', `PreStopHook failed: ${error instanceof Error ? error.message : String(error)}`);
    } finally {
      cancel();
    }
    grace = Math.max(minimumGrace, grace - (ctx.clock.now() - started) / 1000);
  }
  await ctx.runtime.stopContainer(container.id, Math.ceil(grace));
}

/** The grace period of an ordinary end, from the pod or, where that is no longer known, from what the sandbox was labelled with. */
export function graceOf(pod: Pod, state?: PodState): number {
  const labelled = Number(state?.sandboxes[0]?.annotations[podGraceAnnotation]);
  return Number(pod.metadata.deletionGracePeriodSeconds ?? pod.spec.terminationGracePeriodSeconds ?? (Number.isFinite(labelled) ? labelled : 30));
}

/**
 * Ends every container and sandbox of a pod: all but the sidecars at once, then the sidecars from the last to the first,
 * within the same grace period.
 */
export async function killPod(ctx: PodContext, pod: Pod, state: PodState, graceSeconds: number): Promise<void> {
  const deadline = ctx.clock.now() + graceSeconds * 1000;
  const rank = (c: ContainerStatus): number => {
    const found = containerNamed(pod, containerNameOf(c));
    return found?.kind === 'init' && isSidecar(found.spec) ? found.index : -1;
  };
  const running = state.containers.filter((c) => isRunning(c) || c.state === 'CONTAINER_UNKNOWN');
  const kill = (c: ContainerStatus, grace: number) => killContainer(ctx, pod, c, grace, `Stopping container ${containerNameOf(c)}`);
  await Promise.all(running.filter((c) => rank(c) < 0).map((c) => kill(c, graceSeconds)));
  const sidecars = running.filter((c) => rank(c) >= 0).sort((a, b) => rank(b) - rank(a));
  for (const sidecar of sidecars) await kill(sidecar, Math.max(minimumGrace, (deadline - ctx.clock.now()) / 1000));
  for (const sandbox of state.sandboxes) await ctx.runtime.stopPodSandbox(sandbox.id);
}
