import { rm } from 'node:fs/promises';
import type { Logger } from 'pino';
import { isConflict, isNotFound } from '../api/errors.ts';
import { resources } from '../api/generated/resources.ts';
import type { Pod } from '../api/generated/types.ts';
import type { ResizeProblem } from './admission.ts';
import type { WaitingReason } from './container-status.ts';
import { graceOf, killPod } from './container-kill.ts';
import type { PodContext } from './context.ts';
import { isRunning, type PodState } from './pod-state.ts';
import { formatTime, isStaticPod, isTerminal } from './pods.ts';
import { qosClassOf } from './qos.ts';
import { appliedResources, asApplied, isResizing } from './resize.ts';
import { ownConditions } from './status-manager.ts';
import { podStatus } from './status.ts';
import { syncPod } from './sync-pod.ts';

type Phase = 'sync' | 'terminating' | 'terminated' | 'gone';
type Override = { phase: 'Failed'; reason: string; message: string };

const resyncMs = 60_000;
const maxRetryMs = 10_000;

/**
 * Looks after one pod, one step at a time: keeps its containers as the spec says (sync), ends them (terminating), gives back volumes and
 * cgroups and has the API server delete the pod (terminated), and once it is gone from there, removes what the runtime kept of it.
 * Steps are woken by events; a failed one is tried again with growing pauses.
 */
export class PodWorker {
  private readonly ctx: PodContext;
  private readonly log: Logger;
  private readonly onGone: () => void;
  private readonly waiting = new Map<string, WaitingReason>();
  private pod: Pod;
  private phase: Phase = 'sync';
  private admitted = false;
  /** The pod is no longer among those this node is to run. */
  private removed = false;
  private override: Override | undefined;
  private grace: number | undefined;
  private deleted = false;
  private released = false;
  /** Files of volumes may be out of date: after a start of the kubelet, and when something they show has changed. */
  private volumesStale = true;
  /** Why the node cannot give the containers what the spec asks now. */
  private resizeProblem: ResizeProblem | undefined;
  private abort = new AbortController();
  private pending = true;
  private stopped = false;
  private failures = 0;
  private wake: () => void = () => {};
  private cancelTimer: () => void = () => {};
  private timerAt = Number.POSITIVE_INFINITY;
  private readonly finished: Promise<void>;

  /** orphan: a pod that only the runtime still knows; its containers are ended and removed. */
  constructor(ctx: PodContext, pod: Pod, o: { onGone: () => void; orphan?: boolean }) {
    this.ctx = ctx;
    this.pod = pod;
    this.onGone = o.onGone;
    this.log = ctx.log.child({ pod: `${pod.metadata.namespace}/${pod.metadata.name}`, uid: pod.metadata.uid });
    if (o.orphan) this.removed = true;
    this.changed();
    this.finished = this.loop();
  }

  get current(): Pod {
    return this.pod;
  }
  /** Whether it was let in and its containers are to run: counts for admission of other pods. */
  get active(): boolean {
    // What is gone from the API is counted by nobody else any more, however long its end takes here.
    if (this.removed) return false;
    if (!this.admitted && !this.pod.status?.startTime) return false;
    return (
      (this.phase === 'sync' || this.phase === 'terminating') &&
      !isTerminal(this.ctx.statuses.get(this.pod.metadata.uid)?.phase ?? this.pod.status?.phase)
    );
  }

  update(pod: Pod): void {
    const specOrMeta = pod.metadata.resourceVersion !== this.pod.metadata.resourceVersion;
    const onlyStatus = specOrMeta && sameButStatus(this.pod, pod);
    const phase = this.phase;
    this.pod = pod;
    this.changed();
    if (!onlyStatus) this.volumesStale = true;
    // Our own status writes come back as events; they ask for nothing. Conditions of others (readiness gates) do.
    if (onlyStatus && phase === 'sync' && this.phase === phase && !pod.spec.readinessGates?.length) return;
    this.trigger();
  }

  /** The pod was deleted from the API server, or its manifest is gone. */
  remove(): void {
    this.removed = true;
    this.changed();
    this.trigger();
  }

  /** Ends the pod for a reason of the node's own; it stays in the API as Failed. */
  evict(reason: string, message: string, graceSeconds: number): void {
    this.fail(reason, message, graceSeconds);
    this.trigger();
  }

  refreshVolumes(): void {
    this.volumesStale = true;
    this.trigger();
  }

  trigger(): void {
    this.pending = true;
    this.wake();
  }

  /** Lets go of the pod; its containers go on. */
  async stop(): Promise<void> {
    this.stopped = true;
    this.abort.abort(new Error('the kubelet is stopping'));
    this.cancelTimer();
    this.wake();
    await this.finished;
  }

  private fail(reason: string, message: string, graceSeconds: number): void {
    if (this.override) return;
    this.override = { phase: 'Failed', reason, message };
    this.toTerminating(graceSeconds);
  }

  private changed(): void {
    const { deletionTimestamp } = this.pod.metadata;
    if (this.removed || deletionTimestamp) this.toTerminating(Math.max(1, graceOf(this.pod)));
    else if (isTerminal(this.pod.status?.phase)) this.toTerminating(0);
  }

  private toTerminating(graceSeconds: number): void {
    const shorter = this.grace === undefined || graceSeconds < this.grace;
    if (shorter) this.grace = graceSeconds;
    if (this.phase === 'sync') {
      this.phase = 'terminating';
      this.abort.abort(new Error('the pod is being terminated'));
    } else if (this.phase === 'terminating' && shorter) void this.hasten(graceSeconds);
  }

  /** The grace period was cut while containers are being stopped. */
  private async hasten(graceSeconds: number): Promise<void> {
    try {
      const state = await this.ctx.states.read(this.pod.metadata.uid);
      await Promise.all(state.containers.filter(isRunning).map((c) => this.ctx.runtime.stopContainer(c.id, graceSeconds)));
    } catch (error) {
      this.log.warn({ err: error }, 'cannot hasten the end of containers');
    }
  }

  private wakeIn(ms: number): void {
    const at = this.ctx.clock.now() + ms;
    if (at >= this.timerAt) return;
    this.cancelTimer();
    this.timerAt = at;
    this.cancelTimer = this.ctx.clock.after(Math.max(0, ms), () => {
      this.timerAt = Number.POSITIVE_INFINITY;
      this.trigger();
    });
  }

  private async loop(): Promise<void> {
    while (!this.stopped && this.phase !== 'gone') {
      if (!this.pending)
        await new Promise<void>((resolve) => {
          this.wake = resolve;
          if (this.pending || this.stopped) resolve();
        });
      if (this.stopped) break;
      this.pending = false;
      this.cancelTimer();
      this.timerAt = Number.POSITIVE_INFINITY;
      const phase: Phase = this.phase;
      try {
        await this.step();
        this.failures = 0;
      } catch (error) {
        if (this.stopped) break;
        if (this.phase !== phase) {
          this.pending = true;
          continue;
        }
        this.failures++;
        this.log.warn({ err: error, phase }, 'pod sync failed, will retry');
        this.wakeIn(Math.min(maxRetryMs, 500 * 2 ** this.failures));
      }
    }
    this.cancelTimer();
    if (this.phase === 'gone') this.onGone();
  }

  private async step(): Promise<void> {
    if (this.phase === 'sync') await this.sync();
    if (this.stopped) return;
    if (this.phase === 'terminating') await this.terminate();
    if (this.stopped) return;
    if (this.phase === 'terminated') await this.finish();
  }

  private async sync(): Promise<void> {
    const { ctx } = this;
    const pod = this.pod;
    const { uid } = pod.metadata;
    let state = await ctx.states.read(uid);
    if (!this.admitted && state.sandboxes.length === 0 && !pod.status?.startTime && !this.admit(pod)) return;
    this.admitted = true;
    if (this.pastDeadline(pod)) return;
    this.resizeProblem = isResizing(pod, state, ctx.resized) ? ctx.resizeProblem(pod) : undefined;
    this.publish(state, false);
    const stale = this.volumesStale;
    this.volumesStale = false;
    const result = await syncPod(ctx, this.resizeProblem ? asApplied(pod, state, ctx.resized) : pod, state, this.waiting, this.abort.signal);
    state = await ctx.states.read(uid);
    // Nothing asked for an end while this ran: what was found there stands.
    if (this.phase !== 'sync') return;
    this.publish(state, false);
    if (result.finished) {
      this.toTerminating(graceOf(pod));
      return;
    }
    this.wakeIn(resyncMs * (1 + Math.random() * 0.2));
    if (stale && !result.mounted && state.containers.length > 0) {
      await ctx.volumes.mount(pod, this.abort.signal).catch((error: unknown) => {
        this.volumesStale = true;
        throw error;
      });
    }
    if (result.retryMs !== undefined) this.wakeIn(result.retryMs);
    if (result.error && result.retryMs === undefined) throw result.error;
  }

  private admit(pod: Pod): boolean {
    const refusal = this.ctx.admit(pod);
    if (!refusal) return true;
    this.ctx.recorder.event(pod, 'Warning', refusal.reason, refusal.message);
    const api = this.ctx.apiPod(pod);
    if (api)
      this.ctx.statuses.set(api, {
        phase: 'Failed',
        ...(api.metadata.generation === undefined ? {} : { observedGeneration: api.metadata.generation }),
        reason: refusal.reason,
        message: `Pod was rejected: ${refusal.message}`,
        startTime: formatTime(this.ctx.clock.now()),
        qosClass: api.status?.qosClass ?? qosClassOf(pod),
        ...(api.status?.conditions ? { conditions: api.status.conditions } : {}),
      });
    this.phase = 'terminated';
    return false;
  }

  private pastDeadline(pod: Pod): boolean {
    const seconds = pod.spec.activeDeadlineSeconds && Number(pod.spec.activeDeadlineSeconds);
    const start = pod.status?.startTime ?? this.ctx.statuses.get(pod.metadata.uid)?.startTime;
    if (seconds === undefined) return false;
    const left = start ? Date.parse(start) + seconds * 1000 - this.ctx.clock.now() : seconds * 1000;
    if (left > 0) {
      this.wakeIn(left);
      return false;
    }
    const message = 'Pod was active on the node longer than the specified deadline';
    this.ctx.recorder.event(pod, 'Normal', 'DeadlineExceeded', message);
    this.fail('DeadlineExceeded', message, Number(pod.spec.terminationGracePeriodSeconds ?? 30));
    return true;
  }

  /** Computes the status and hands it to the API server. */
  private publish(state: PodState, terminal: boolean): void {
    const { ctx } = this;
    const api = ctx.apiPod(this.pod);
    const podIP = this.pod.spec.hostNetwork ? (ctx.hostIPs()[0] ?? '') : (state.sandboxes[0]?.network.ip ?? '');
    if (!terminal && this.pod.spec.containers.length > 0) ctx.probes.update(this.pod, state, podIP, this.phase !== 'sync');
    if (!api || this.removed) return;
    const latest = ctx.statuses.get(api.metadata.uid);
    // The newest known status, which may be ahead of the API's copy; conditions of others come from the API.
    const base = latest ? { ...api, status: { ...latest, conditions: mergeConditions(latest.conditions, api.status?.conditions) } } : api;
    const pod = { ...this.pod, status: base.status } as Pod;
    const status = podStatus({
      pod,
      state,
      runtimeName: ctx.runtimeName,
      waiting: this.waiting,
      ready: (id, c) => ctx.probes.ready(id, c),
      started: (id, c) => ctx.probes.started(id, c),
      resources: (c) => appliedResources(c, ctx.resized),
      terminal,
      resizing: this.phase === 'sync' && isResizing(this.pod, state, ctx.resized),
      ...(this.resizeProblem ? { resizeProblem: this.resizeProblem } : {}),
      now: ctx.clock.now(),
      hostIPs: ctx.hostIPs(),
      ...(this.override ? { override: this.override } : {}),
    });
    ctx.statuses.set(api, status);
  }

  private async terminate(): Promise<void> {
    const { ctx } = this;
    const { uid } = this.pod.metadata;
    const state = await ctx.states.read(uid);
    this.publish(state, false);
    await killPod(ctx, this.pod, state, this.grace ?? 30);
    await ctx.dynamicResources.unprepare(uid);
    ctx.probes.remove(uid);
    this.publish(await ctx.states.read(uid), true);
    this.phase = 'terminated';
  }

  private async finish(): Promise<void> {
    const { ctx } = this;
    const { uid, name, namespace } = this.pod.metadata;
    if (!this.released) {
      await ctx.volumes.unmount(this.pod);
      await ctx.cgroups.removePod(this.pod);
      ctx.images.forgetPod(uid);
      ctx.crashBackoff.forget(`${uid}/`);
      this.released = true;
    }
    if (this.removed) return this.purge();
    const api = ctx.apiPod(this.pod);
    if (!this.pod.metadata.deletionTimestamp || this.deleted || isStaticPod(this.pod) || !api) return;
    await ctx.statuses.flush(uid);
    try {
      await ctx.client.delete(resources.pods, { namespace, name }, { gracePeriodSeconds: 0, preconditions: { uid } });
    } catch (error) {
      // Already gone, or another pod has the name now.
      if (!isNotFound(error) && !isConflict(error)) throw error;
    }
    this.deleted = true;
  }

  /** Removes what the runtime and the node still have of a pod that is gone from the API. */
  private async purge(): Promise<void> {
    const { ctx } = this;
    const { uid } = this.pod.metadata;
    const state = await ctx.states.read(uid);
    for (const container of state.containers) {
      await ctx.runtime.removeContainer(container.id);
      ctx.states.forget(container.id);
      ctx.resized.delete(container.id);
      await rm(ctx.paths.containerLogLink(this.pod, container.metadata.name, container.id), { force: true });
    }
    for (const sandbox of state.sandboxes) await ctx.runtime.removePodSandbox(sandbox.id);
    await rm(ctx.paths.podLogs(this.pod), { recursive: true, force: true });
    await rm(ctx.paths.pod(uid), { recursive: true, force: true });
    ctx.statuses.forget(uid);
    this.phase = 'gone';
  }
}

type Conditions = NonNullable<NonNullable<Pod['status']>['conditions']>;
const mergeConditions = (ours: Conditions | undefined, api: Conditions | undefined): Conditions => [
  ...(ours ?? []).filter((c) => ownConditions.has(c.type)),
  ...(api ?? []).filter((c) => !ownConditions.has(c.type)),
];

function sameButStatus(a: Pod, b: Pod): boolean {
  const strip = ({ metadata: { resourceVersion: _r, managedFields: _m, ...metadata }, spec }: Pod) => JSON.stringify([metadata, spec]);
  return strip(a) === strip(b);
}
