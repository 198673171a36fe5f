import type { Container, Pod, ResourceRequirements } from '../api/generated/types.ts';
import type { ContainerStatus } from '../runtime/cri.ts';
import type { PodContext } from './context.ts';
import { resourcesAnnotation } from './labels.ts';
import { isRunning, latest, type PodState } from './pod-state.ts';
import { containersOf } from './pods.ts';
import { containerResources } from './qos.ts';

/** Resources that were given to running containers after their start, by container id. */
export type Resized = Map<string, string>;

const textOf = (resources: ResourceRequirements | undefined): string => {
  const sorted = (map: Record<string, string> | undefined) => Object.entries(map ?? {}).sort(([a], [b]) => (a < b ? -1 : 1));
  return JSON.stringify([sorted(resources?.requests), sorted(resources?.limits)]);
};

/** What a container has, as its spec said when it was made or last resized; undefined where it was made without a note. */
export function appliedResources(status: ContainerStatus, resized: Resized): ResourceRequirements | undefined {
  const text = resized.get(status.id) ?? status.annotations[resourcesAnnotation];
  return text === undefined ? undefined : (JSON.parse(text) as ResourceRequirements);
}

/** Whether the new resources of a running container ask for its restart, by its resizePolicy. */
export function resizeRestarts(spec: Container, status: ContainerStatus, resized: Resized = new Map()): boolean {
  const applied = appliedResources(status, resized);
  if (!applied || textOf(applied) === textOf(spec.resources)) return false;
  return (spec.resizePolicy ?? []).some(
    ({ resourceName, restartPolicy }) =>
      restartPolicy === 'RestartContainer' &&
      (applied.limits?.[resourceName] !== spec.resources?.limits?.[resourceName] ||
        applied.requests?.[resourceName] !== spec.resources?.requests?.[resourceName]),
  );
}

/** Whether a running container still has to get what its spec says now. */
export function isResizing(pod: Pod, state: PodState, resized: Resized): boolean {
  return containersOf(pod).some(({ kind, spec }) => {
    const status = kind === 'ephemeral' ? undefined : latest(state, spec.name);
    if (!status || !isRunning(status)) return false;
    const applied = appliedResources(status, resized);
    return applied !== undefined && textOf(applied) !== textOf(spec.resources);
  });
}

/** The pod with what its running containers have, where its spec asks for something that the node cannot give. */
export function asApplied(pod: Pod, state: PodState, resized: Resized): Pod {
  const applied = (spec: Container): Container => {
    const status = latest(state, spec.name);
    const has = status && isRunning(status) ? appliedResources(status, resized) : undefined;
    return has ? { ...spec, resources: has } : spec;
  };
  const { containers, initContainers, ...spec } = pod.spec;
  return {
    ...pod,
    spec: { ...spec, containers: containers.map(applied), ...(initContainers ? { initContainers: initContainers.map(applied) } : {}) },
  };
}

/** Gives running containers the resources that their spec says now. Throws what the runtime says. */
export async function resizeContainers(ctx: PodContext, pod: Pod, state: PodState): Promise<void> {
  for (const { kind, spec } of containersOf(pod)) {
    const status = latest(state, spec.name);
    if (kind === 'ephemeral' || !status || !isRunning(status)) continue;
    const applied = appliedResources(status, ctx.resized);
    if (!applied || textOf(applied) === textOf(spec.resources) || resizeRestarts(spec, status, ctx.resized)) continue;
    // The pod's cgroup must have room before the container grows, and can lose it only after the container has shrunk.
    await ctx.cgroups.ensurePod(pod);
    const { oomScoreAdj: _, ...resources } = containerResources(pod, spec, ctx.memoryCapacity);
    await ctx.runtime.updateContainerResources(status.id, resources);
    await ctx.cgroups.ensurePod(pod);
    ctx.resized.set(status.id, JSON.stringify(spec.resources ?? {}));
    ctx.log.info({ pod: `${pod.metadata.namespace}/${pod.metadata.name}`, container: spec.name }, 'resized a container');
  }
}
