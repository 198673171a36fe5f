import type { Logger } from 'pino';
import type { Pod, Probe } from '../../api/generated/types.ts';
import type { Clock } from '../../client/clock.ts';
import type { EventRecorder } from '../../client/events.ts';
import type { ContainerStatus, Runtime } from '../../runtime/cri.ts';
import { containerNameOf, type PodState } from '../pod-state.ts';
import { containersOf, containerStatusNamed, isSidecar, type PodContainer } from '../pods.ts';
import { executeProbe, type ProbeKind, type ProbeOutcome } from './execute.ts';

const kinds: ProbeKind[] = ['startup', 'liveness', 'readiness'];
const probeOf = (c: PodContainer, kind: ProbeKind): Probe | undefined => c.spec[`${kind}Probe`];

interface Worker {
  cancel(): void;
}

interface Watched {
  pod: Pod;
  container: PodContainer;
  status: ContainerStatus;
  podIP: string;
  workers: Map<ProbeKind, Worker>;
}

export interface ProbeManagerOptions {
  runtime: Runtime;
  recorder: EventRecorder;
  log: Logger;
  clock: Clock;
  /** Something about this pod changed: readiness, or a container has to be restarted. */
  onChange(uid: string): void;
}

/**
 * Probes running containers. Results belong to container ids, so that a restarted container starts from nothing.
 * Readiness and liveness wait until the startup probe has passed.
 */
export class ProbeManager {
  private readonly o: ProbeManagerOptions;
  private readonly startedAt: number;
  private readonly watched = new Map<string, Watched>();
  private readonly byPod = new Map<string, Set<string>>();
  private readonly results = new Map<string, boolean>();

  constructor(o: ProbeManagerOptions) {
    this.o = o;
    this.startedAt = o.clock.now();
  }

  /** Watches exactly the running containers of this state. With terminating, only readiness goes on. */
  update(pod: Pod, state: PodState, podIP: string, terminating = false): void {
    const uid = pod.metadata.uid;
    const seen = new Set<string>();
    const specs = new Map(containersOf(pod).map((c) => [c.spec.name, c]));
    for (const status of state.containers) {
      const container = specs.get(containerNameOf(status));
      if (status.state !== 'CONTAINER_RUNNING' || !container || container.kind === 'ephemeral') continue;
      if (container.kind === 'init' && !isSidecar(container.spec)) continue;
      if (!kinds.some((k) => probeOf(container, k))) continue;
      seen.add(status.id);
      const known = this.watched.get(status.id);
      if (known) {
        known.pod = pod;
        known.podIP = podIP;
        known.container = container;
        if (terminating)
          for (const kind of ['startup', 'liveness'] as const) {
            known.workers.get(kind)?.cancel();
            known.workers.delete(kind);
          }
      } else if (!terminating) this.watch({ pod, container, status, podIP, workers: new Map() });
    }
    for (const id of this.byPod.get(uid) ?? []) if (!seen.has(id)) this.drop(id);
    if (seen.size > 0) this.byPod.set(uid, seen);
    else this.byPod.delete(uid);
  }

  remove(uid: string): void {
    for (const id of this.byPod.get(uid) ?? []) this.drop(id);
    this.byPod.delete(uid);
  }

  stop(): void {
    for (const uid of [...this.byPod.keys()]) this.remove(uid);
  }

  /** Which probe, if any, says that the container is to be ended. */
  failedProbe(id: string): 'liveness' | 'startup' | undefined {
    if (this.results.get(`${id}/startup`) === false) return 'startup';
    return this.results.get(`${id}/liveness`) === false ? 'liveness' : undefined;
  }

  started(id: string, container: PodContainer): boolean {
    return !container.spec.startupProbe || this.results.get(`${id}/startup`) === true;
  }

  /** Without a readiness probe a running container is ready. */
  ready(id: string, container: PodContainer): boolean {
    return !container.spec.readinessProbe || this.results.get(`${id}/readiness`) === true;
  }

  private drop(id: string): void {
    for (const worker of this.watched.get(id)?.workers.values() ?? []) worker.cancel();
    this.watched.delete(id);
    for (const kind of kinds) this.results.delete(`${id}/${kind}`);
  }

  private watch(w: Watched): void {
    this.watched.set(w.status.id, w);
    // Containers that ran before this kubelet keep what the API server was told of them until the first probe.
    const reported = containerStatusNamed(w.pod, w.container.spec.name);
    const same = w.status.startedAt < this.startedAt && reported?.containerID?.endsWith(`/${w.status.id}`);
    const carried = same ? reported : undefined;
    if (carried?.started) this.results.set(`${w.status.id}/startup`, true);
    if (carried?.ready) this.results.set(`${w.status.id}/readiness`, true);
    for (const kind of kinds) {
      const probe = probeOf(w.container, kind);
      if (probe && !(kind === 'startup' && carried?.started)) w.workers.set(kind, this.run(w, kind, probe));
    }
  }

  private run(w: Watched, kind: ProbeKind, probe: Probe): Worker {
    const { clock } = this.o;
    const abort = new AbortController();
    const key = `${w.status.id}/${kind}`;
    const period = (probe.periodSeconds || 10) * 1000;
    let successes = 0;
    let failures = 0;
    let cancelTimer = () => {};
    const tick = async () => {
      if (abort.signal.aborted) return;
      if (kind !== 'startup' && !this.started(w.status.id, w.container)) {
        cancelTimer = clock.after(Math.min(period, 1000), () => void tick());
        return;
      }
      const container = w.container.spec;
      const outcome = await executeProbe(probe, {
        runtime: this.o.runtime,
        container,
        containerId: w.status.id,
        podIP: w.podIP,
        signal: abort.signal,
      });
      if (abort.signal.aborted) return;
      successes = outcome.ok ? successes + 1 : 0;
      failures = outcome.ok ? 0 : failures + 1;
      this.report(w, kind, outcome);
      const before = this.results.get(key);
      if (outcome.ok && successes >= (probe.successThreshold || 1)) this.results.set(key, true);
      if (!outcome.ok && failures >= (probe.failureThreshold || 3)) this.results.set(key, false);
      const after = this.results.get(key);
      if (before !== after) {
        this.o.log.debug({ pod: w.pod.metadata.name, container: container.name, probe: kind, result: after }, 'probe result changed');
        this.o.onChange(w.pod.metadata.uid);
      }
      // A started container's startup probe is done; one that is to be ended is not probed on.
      if (kind === 'startup' && after !== undefined) return;
      if (kind === 'liveness' && after === false) return;
      cancelTimer = clock.after(period, () => void tick());
    };
    const age = clock.now() - w.status.startedAt;
    cancelTimer = clock.after(Math.max(0, (probe.initialDelaySeconds ?? 0) * 1000 - age), () => void tick());
    return {
      cancel: () => {
        abort.abort();
        cancelTimer();
      },
    };
  }

  private report(w: Watched, kind: ProbeKind, outcome: ProbeOutcome): void {
    const title = kind[0]!.toUpperCase() + kind.slice(1);
    if (outcome.warning) this.o.recorder.event(w.pod, 'Warning', 'ProbeWarning', `${title} probe warning: ${outcome.message}`);
    else if (!outcome.ok) this.o.recorder.event(w.pod, 'Warning', 'Unhealthy', `${title} probe failed: ${outcome.message}`);
  }
}
