import type { ContainerStatus, PodSandboxStatus, Runtime } from '../runtime/cri.ts';
import { RuntimeError } from '../runtime/cri.ts';
import { containerNameLabel, podUidLabel, restartCountAnnotation } from './labels.ts';

/** What the runtime knows of one pod: sandboxes and containers, newest first. */
export interface PodState {
  sandboxes: PodSandboxStatus[];
  containers: ContainerStatus[];
}

export const restartCountOf = (c: { annotations: Record<string, string>; metadata: { attempt: number } }): number => {
  const text = c.annotations[restartCountAnnotation];
  const count = text === undefined ? Number.NaN : Number(text);
  return Number.isInteger(count) ? count : c.metadata.attempt;
};
export const containerNameOf = (c: { labels: Record<string, string>; metadata: { name: string } }): string =>
  c.labels[containerNameLabel] ?? c.metadata.name;

/** All generations of the container with this name, newest first. */
export const generations = (state: PodState, name: string): ContainerStatus[] => state.containers.filter((c) => containerNameOf(c) === name);
export const latest = (state: PodState, name: string): ContainerStatus | undefined => state.containers.find((c) => containerNameOf(c) === name);
export const isRunning = (c: ContainerStatus | undefined): boolean => c?.state === 'CONTAINER_RUNNING';

const isGone = (e: unknown) => e instanceof RuntimeError && e.code === 'NotFound';

/**
 * Reads the state of single pods from the runtime. The status of an exited container never changes, so it is asked for once.
 */
export class PodStateReader {
  private readonly runtime: Runtime;
  private readonly exited = new Map<string, ContainerStatus>();

  private readonly messageOf: (container: ContainerStatus) => Promise<string>;

  /** messageOf: what an ended container left to say; asked once. */
  constructor(runtime: Runtime, messageOf: (container: ContainerStatus) => Promise<string> = async (c) => c.message) {
    this.runtime = runtime;
    this.messageOf = messageOf;
  }

  async read(uid: string): Promise<PodState> {
    const labels = { [podUidLabel]: uid };
    const [sandboxes, containers] = await Promise.all([this.runtime.listPodSandbox({ labels }), this.runtime.listContainers({ labels })]);
    // Between the list and the question one may have gone: leave it out.
    const orUndefined = <T>(promise: Promise<T>) =>
      promise.catch((e: unknown) => {
        if (isGone(e)) return undefined;
        throw e;
      });
    const [sandboxStatuses, statuses] = await Promise.all([
      Promise.all(sandboxes.map((s) => orUndefined(this.runtime.podSandboxStatus(s.id)))),
      Promise.all(containers.map((c) => this.exited.get(c.id) ?? orUndefined(this.runtime.containerStatus(c.id)))),
    ]);
    const state: PodState = {
      sandboxes: sandboxStatuses.filter((s) => s !== undefined).sort((a, b) => b.metadata.attempt - a.metadata.attempt || b.createdAt - a.createdAt),
      containers: statuses.filter((s) => s !== undefined).sort((a, b) => b.createdAt - a.createdAt || restartCountOf(b) - restartCountOf(a)),
    };
    for (const [i, c] of state.containers.entries()) {
      if (c.state !== 'CONTAINER_EXITED' || this.exited.has(c.id)) continue;
      const message = await this.messageOf(c).catch(() => c.message);
      const withMessage = { ...c, message };
      this.exited.set(c.id, withMessage);
      state.containers[i] = withMessage;
    }
    return state;
  }

  /** Forgets a removed container. */
  forget(containerId: string): void {
    this.exited.delete(containerId);
  }
}
