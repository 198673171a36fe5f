import type { Logger } from 'pino';
import { isConflict, isNotFound } from '../../api/errors.ts';
import { resources } from '../../api/generated/resources.ts';
import type { Pod } from '../../api/generated/types.ts';
import { keyOf } from '../../api/object.ts';
import type { Client } from '../../client/client.ts';
import type { Clock } from '../../client/clock.ts';
import { type BehaviourRule, behaviourOf, type PodBehaviour } from './behaviour.ts';
import { Limiter } from './limiter.ts';
import { PodAddresses } from './pod-addresses.ts';
import { podStatus, type Stage } from './status.ts';

export interface PodSimulatorOptions {
  client: Client;
  clock: Clock;
  log: Logger;
  signal: AbortSignal;
  rules: readonly BehaviourRule[];
  /** The node's own address while its kubelet works; undefined where there is none, or it is silent. */
  hostIpOf(node: string): string | undefined;
}

interface Life {
  pod: Pod;
  behaviour: PodBehaviour;
  /** As last written. */
  stage: Stage | undefined;
  /** From when startAfterMs counts. */
  boundAt: number;
  runningSince: number;
  restarts: number;
  ip: string | undefined;
  cancel: (() => void) | undefined;
  writing: boolean;
  /** Something came while a write was under way. */
  again: boolean;
  /** When its deletion began here. */
  deletedAt: number | undefined;
}

/** Milliseconds after which a container starts again: upstream's back-off. */
const backOffMs = (restarts: number) => Math.min(300_000, 10_000 * 2 ** Math.max(0, restarts - 1));
const retryMs = 500;

/** The lives of all pods on simulated nodes: one timer a pod at most, one write a step. */
export class PodSimulator {
  private readonly o: PodSimulatorOptions;
  private readonly lives = new Map<string, Life>();
  private readonly byNode = new Map<string, Set<Life>>();
  private readonly addresses = new Map<string, PodAddresses>();
  private readonly writes = new Limiter(64);

  constructor(o: PodSimulatorOptions) {
    this.o = o;
  }

  /** A pod that was bound or has changed. */
  observe(pod: Pod): void {
    const node = pod.spec.nodeName;
    if (!node) return;
    let life = this.lives.get(pod.metadata.uid);
    if (!life) {
      life = this.begin(pod);
      this.lives.set(pod.metadata.uid, life);
      const list = this.byNode.get(node) ?? new Set();
      list.add(life);
      if (life.ip) this.addresses.get(node)?.reserve(life.ip);
      this.byNode.set(node, list);
    }
    life.pod = pod;
    this.advance(life);
  }

  forget(pod: Pod): void {
    const life = this.lives.get(pod.metadata.uid);
    if (!life) return;
    life.cancel?.();
    this.lives.delete(pod.metadata.uid);
    const node = pod.spec.nodeName ?? '';
    const list = this.byNode.get(node);
    list?.delete(life);
    if (list?.size === 0) this.byNode.delete(node);
    if (life.ip) this.addresses.get(node)?.free(life.ip);
  }

  /** The node's range is known, or its kubelet works again. */
  nodeChanged(name: string, podCidr: string | undefined): void {
    if (podCidr && this.addresses.get(name)?.cidr !== podCidr) {
      const addresses = new PodAddresses(podCidr);
      for (const { ip } of this.byNode.get(name) ?? []) if (ip) addresses.reserve(ip);
      this.addresses.set(name, addresses);
    }
    for (const life of this.byNode.get(name) ?? []) this.advance(life);
  }

  nodeGone(name: string): void {
    this.addresses.delete(name);
  }

  /** How a pod behaves, for its log. */
  find(namespace: string, name: string, node: string): { pod: Pod; behaviour: PodBehaviour; stage: Stage | undefined } | undefined {
    for (const life of this.byNode.get(node) ?? [])
      if (life.pod.metadata.name === name && life.pod.metadata.namespace === namespace) return { ...life };
    return undefined;
  }

  private begin(pod: Pod): Life {
    let behaviour: PodBehaviour;
    try {
      behaviour = behaviourOf(pod, this.o.rules);
    } catch (error) {
      behaviour = { waiting: { reason: 'CreateContainerConfigError', message: (error as Error).message } };
    }
    const first = pod.status?.containerStatuses?.[0];
    const phase = pod.status?.phase;
    // What a simulation before this one has reported goes on from there.
    const stage: Stage | undefined =
      phase === 'Succeeded' || phase === 'Failed' ? 'ended' : first?.state?.running ? (first.ready ? 'ready' : 'running') : undefined;
    const since = first?.state?.running?.startedAt;
    return {
      pod,
      behaviour,
      stage,
      boundAt: this.boundAt(pod),
      runningSince: since ? Date.parse(since) : this.o.clock.now(),
      restarts: first?.restartCount ?? 0,
      ip: stage ? pod.status?.podIP : undefined,
      cancel: undefined,
      writing: false,
      again: false,
      deletedAt: undefined,
    };
  }

  /** Does what is due, or waits for it. */
  private advance(life: Life): void {
    life.cancel?.();
    life.cancel = undefined;
    if (life.writing) {
      life.again = true;
      return;
    }
    const { pod, behaviour } = life;
    const { clock } = this.o;
    const hostIp = this.o.hostIpOf(pod.spec.nodeName ?? '');
    if (hostIp === undefined || this.o.signal.aborted) return;
    const now = clock.now();
    const wait = (at: number) => {
      life.cancel = clock.after(at - now, () => this.advance(life));
    };
    if (pod.metadata.deletionTimestamp) {
      life.deletedAt ??= now;
      const grace = Number(pod.metadata.deletionGracePeriodSeconds ?? 30) * 1000;
      const at = life.deletedAt + Math.min(grace, behaviour.terminateAfterMs ?? 0);
      return at > now ? wait(at) : void this.remove(life);
    }
    if (life.stage === 'ended') return;
    if (life.stage === undefined || life.stage === 'waiting') {
      if (behaviour.waiting) return life.stage === 'waiting' ? undefined : void this.write(life, 'waiting', hostIp);
      if (life.stage === undefined && !life.restarts) life.runningSince = life.boundAt + (behaviour.startAfterMs ?? 0);
      if (life.runningSince > now) return wait(life.runningSince);
      life.runningSince = now;
      return void this.write(life, behaviour.ready === false || behaviour.readyAfterMs ? 'running' : 'ready', hostIp);
    }
    const endsAt = behaviour.completeAfterMs === undefined ? Infinity : life.runningSince + behaviour.completeAfterMs;
    if (endsAt <= now) return this.end(life, hostIp, now);
    const readyAt = life.stage === 'running' && behaviour.ready !== false ? life.runningSince + (behaviour.readyAfterMs ?? 0) : Infinity;
    if (readyAt <= now) return void this.write(life, 'ready', hostIp);
    if (life.stage === 'ready' && pod.spec.readinessGates?.length && this.gatesDiffer(life, hostIp, now))
      return void this.write(life, 'ready', hostIp);
    const next = Math.min(endsAt, readyAt);
    if (next < Infinity) wait(next);
  }

  /** When the pod came to the node; its own word for that has whole seconds, and counts where it came before this process. */
  private boundAt(pod: Pod): number {
    const bound = pod.status?.conditions?.find((c) => c.type === 'PodScheduled' && c.status === 'True')?.lastTransitionTime;
    const now = this.o.clock.now();
    return bound && now - Date.parse(bound) > 2000 ? Date.parse(bound) : now;
  }

  private gatesDiffer(life: Life, hostIp: string, now: number): boolean {
    const wanted = podStatus(life.pod, 'ready', life.behaviour, { podIp: life.ip ?? '', hostIp, restarts: life.restarts }, now);
    const of = (conditions: { type: string; status: string }[] | undefined) => conditions?.find((c) => c.type === 'Ready')?.status;
    return of(wanted.conditions) !== of(life.pod.status?.conditions);
  }

  private end(life: Life, hostIp: string, now: number): void {
    const policy = life.pod.spec.restartPolicy ?? 'Always';
    const failed = (life.behaviour.exitCode ?? 0) !== 0;
    if (policy === 'Never' || (policy === 'OnFailure' && !failed)) return void this.write(life, 'ended', hostIp);
    life.restarts++;
    life.runningSince = now + backOffMs(life.restarts);
    void this.write(life, 'waiting', hostIp, {
      reason: 'CrashLoopBackOff',
      message: `back-off ${backOffMs(life.restarts) / 1000}s restarting failed container=${life.pod.spec.containers[0]?.name} pod=${life.pod.metadata.name}`,
    });
  }

  private async write(life: Life, stage: Stage, hostIp: string, waiting = life.behaviour.waiting): Promise<void> {
    const { pod } = life;
    const node = pod.spec.nodeName ?? '';
    // Without a range for the node's pods there is no address yet: nodeChanged comes back to it.
    if (!life.ip) life.ip = pod.spec.hostNetwork ? hostIp : this.addresses.get(node)?.take();
    if (!life.ip) return;
    const behaviour = waiting ? { ...life.behaviour, waiting } : life.behaviour;
    const place = { podIp: life.ip, hostIp, restarts: life.restarts };
    await this.call(life, async (signal) => {
      const status = podStatus(pod, stage, behaviour, place, this.o.clock.now());
      const key = { namespace: pod.metadata.namespace as string, name: pod.metadata.name };
      const patch = { metadata: { uid: pod.metadata.uid }, status };
      const written = await this.o.client.patch(resources.pods, key, 'strategic', patch, { subresource: 'status', signal });
      life.stage = stage;
      life.pod = written as Pod;
      life.again = true;
    });
  }

  private async remove(life: Life): Promise<void> {
    const { metadata } = life.pod;
    const key = { namespace: metadata.namespace as string, name: metadata.name };
    await this.call(life, async (signal) => {
      await this.o.client.delete(resources.pods, key, { gracePeriodSeconds: 0, preconditions: { uid: metadata.uid }, signal });
    });
  }

  private async call(life: Life, work: (signal: AbortSignal) => Promise<void>): Promise<void> {
    life.writing = true;
    try {
      await this.writes.run(() => work(this.o.signal));
    } catch (error) {
      if (this.o.signal.aborted) return;
      // Gone, or another of its name by now: the watch says so too.
      if (!isNotFound(error) && !isConflict(error)) {
        this.o.log.warn({ err: error, pod: keyOf(life.pod) }, 'cannot report a simulated pod, will retry');
        life.cancel = this.o.clock.after(retryMs, () => this.advance(life));
      }
    } finally {
      life.writing = false;
      const again = life.again;
      life.again = false;
      if (again && this.lives.get(life.pod.metadata.uid) === life) this.advance(life);
    }
  }
}
