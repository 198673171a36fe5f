import type { Clock } from '../client/clock.ts';
import type { ClusterEvent } from './framework.ts';
import { Heap } from './heap.ts';
import type { PodInfo } from './pod-info.ts';

/** Milliseconds; as upstream's podInitialBackoffSeconds and podMaxBackoffSeconds. */
const INITIAL_BACKOFF = 1000;
const MAX_BACKOFF = 10_000;
/** A pod that no event has moved is tried again after this long, in case an event was missed. */
const MAX_UNSCHEDULABLE = 5 * 60_000;

export interface QueuedPod {
  info: PodInfo;
  /** When it came, milliseconds: among equal priorities the first is served first. */
  since: number;
  attempts: number;
  /** When the last attempt ended. */
  triedAt: number;
  rejectedBy: ReadonlySet<string>;
}

/**
 * Pods that wait for a node: active ones by priority and age; those that failed a moment ago, in backoff; and those that do not
 * fit, which wait for an event that may change that.
 */
export class SchedulingQueue {
  readonly #clock: Clock;
  readonly #wake: () => void;
  readonly #eventsOf: (plugin: string) => readonly ClusterEvent[];
  readonly #active = new Heap<QueuedPod>(
    (q) => q.info.uid,
    (a, b) => a.info.priority > b.info.priority || (a.info.priority === b.info.priority && a.since < b.since),
  );
  readonly #backoff = new Heap<QueuedPod>(
    (q) => q.info.uid,
    (a, b) => backoffEnd(a) < backoffEnd(b),
  );
  readonly #unschedulable = new Map<string, QueuedPod>();
  readonly #pending = new Set<ClusterEvent>();
  #cancelTimer?: () => void;
  #timerAt = Number.POSITIVE_INFINITY;

  /** wake is called when a pod became active; eventsOf says what may help a pod that the plugin rejected. */
  constructor(clock: Clock, eventsOf: (plugin: string) => readonly ClusterEvent[], wake: () => void) {
    this.#clock = clock;
    this.#eventsOf = eventsOf;
    this.#wake = wake;
  }

  /** A new pod, or a change of a pod that may make it fit. */
  add(info: PodInfo): void {
    const known = this.#find(info.uid);
    this.delete(info.uid);
    this.#activate(known ? { ...known, info } : { info, since: this.#clock.now(), attempts: 0, triedAt: 0, rejectedBy: new Set() });
  }

  /** A change of a pod that makes no difference to where it fits, such as of its status. */
  replace(info: PodInfo): void {
    const known = this.#find(info.uid);
    if (known) known.info = info;
    else this.add(info);
  }

  has(uid: string): boolean {
    return this.#find(uid) !== undefined;
  }

  delete(uid: string): void {
    this.#active.remove(uid);
    this.#backoff.remove(uid);
    this.#unschedulable.delete(uid);
  }

  pop(): QueuedPod | undefined {
    const next = this.#active.pop();
    if (next) next.attempts++;
    return next;
  }

  get hasActive(): boolean {
    return this.#active.size > 0;
  }

  counts(): { active: number; backoff: number; unschedulable: number } {
    return { active: this.#active.size, backoff: this.#backoff.size, unschedulable: this.#unschedulable.size };
  }

  /** Back after an attempt that found no node. */
  park(pod: QueuedPod, rejectedBy: ReadonlySet<string>): void {
    this.#unschedulable.set(pod.info.uid, { ...pod, rejectedBy, triedAt: this.#clock.now() });
    this.#arm();
  }

  /** Back after an attempt that failed for a reason outside the pod: tried again after its backoff. */
  retry(pod: QueuedPod): void {
    this.#backoff.push({ ...pod, triedAt: this.#clock.now() });
    this.#arm();
  }

  /** Something happened: pods that may fit now move on. Many events of one turn cost one scan. */
  happened(event: ClusterEvent): void {
    if (this.#unschedulable.size === 0) return;
    if (this.#pending.size === 0) queueMicrotask(() => this.#move());
    this.#pending.add(event);
  }

  stop(): void {
    this.#cancelTimer?.();
  }

  #move(): void {
    const events = new Set(this.#pending);
    this.#pending.clear();
    for (const [uid, pod] of this.#unschedulable) {
      const helps = pod.rejectedBy.size === 0 || [...pod.rejectedBy].some((plugin) => this.#eventsOf(plugin).some((e) => events.has(e)));
      if (!helps) continue;
      this.#unschedulable.delete(uid);
      if (backoffEnd(pod) <= this.#clock.now()) this.#activate(pod);
      else this.#backoff.push(pod);
    }
    this.#arm();
  }

  #activate(pod: QueuedPod): void {
    this.#active.push(pod);
    this.#wake();
  }

  #find(uid: string): QueuedPod | undefined {
    return this.#active.get(uid) ?? this.#backoff.get(uid) ?? this.#unschedulable.get(uid);
  }

  /** One timer, for whatever is due first. */
  #arm(): void {
    const first = this.#backoff.peek();
    const due = Math.min(
      first ? backoffEnd(first) : Number.POSITIVE_INFINITY,
      this.#unschedulable.size ? this.#clock.now() + MAX_UNSCHEDULABLE : Number.POSITIVE_INFINITY,
    );
    if (due >= this.#timerAt) return;
    this.#cancelTimer?.();
    this.#timerAt = due;
    this.#cancelTimer = this.#clock.after(Math.max(0, due - this.#clock.now()), () => {
      this.#timerAt = Number.POSITIVE_INFINITY;
      this.#flush();
      this.#arm();
    });
  }

  #flush(): void {
    const now = this.#clock.now();
    for (let pod = this.#backoff.peek(); pod && backoffEnd(pod) <= now; pod = this.#backoff.peek()) this.#activate(this.#backoff.pop()!);
    for (const [uid, pod] of this.#unschedulable) {
      if (now - pod.triedAt < MAX_UNSCHEDULABLE) continue;
      this.#unschedulable.delete(uid);
      this.#activate(pod);
    }
  }
}

function backoffEnd(pod: QueuedPod): number {
  if (pod.attempts === 0) return 0;
  return pod.triedAt + Math.min(MAX_BACKOFF, INITIAL_BACKOFF * 2 ** Math.min(10, pod.attempts - 1));
}
