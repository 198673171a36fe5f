import { componentMetrics, exponential } from '../client/metrics.ts';
import type { Cache } from './cache.ts';
import type { QueuedPod, SchedulingQueue } from './queue.ts';

const latencies = exponential(0.001, 2, 15);
const attempts = componentMetrics.counter(
  'scheduler_schedule_attempts_total',
  "Number of attempts to schedule pods, by the result. 'unschedulable' means a pod could not be scheduled, while 'error' means an internal scheduler problem.",
  ['profile', 'result'],
);
const attemptTimes = componentMetrics.histogram('scheduler_scheduling_attempt_duration_seconds', 'Scheduling attempt latency in seconds (scheduling algorithm + binding)', ['profile', 'result'], latencies);
const algorithm = componentMetrics.histogram('scheduler_scheduling_algorithm_duration_seconds', 'Scheduling algorithm latency in seconds', [], latencies);
const tries = componentMetrics.histogram('scheduler_pod_scheduling_attempts', 'Number of attempts to successfully schedule a pod.', [], exponential(1, 2, 5));
const sli = componentMetrics.histogram(
  'scheduler_pod_scheduling_sli_duration_seconds',
  'E2e latency for a pod being scheduled, from the time the pod enters the scheduling queue and might involve multiple scheduling attempts.',
  ['attempts'],
  exponential(0.01, 2, 20),
);
const preemptions = componentMetrics.counter('scheduler_preemption_attempts_total', 'Total preemption attempts in the cluster till now');
const victims = componentMetrics.histogram('scheduler_preemption_victims', 'Number of selected preemption victims for preemption initiated by a single pod', [], exponential(1, 2, 7));

/** Schedulers of this process. */
const running = new Set<{ queue: SchedulingQueue; cache: Cache }>();
componentMetrics.collected(
  'gauge',
  'scheduler_pending_pods',
  "Number of pending pods, by the queue type. 'active' means number of pods in activeQ; 'backoff' means number of pods in backoffQ; 'unschedulable' means number of pods in unschedulablePods that the scheduler attempted to schedule and failed.",
  ['queue'],
  (set) => {
    const sum = { active: 0, backoff: 0, unschedulable: 0 };
    for (const { queue } of running) for (const [name, n] of Object.entries(queue.counts())) sum[name as keyof typeof sum] += n;
    if (running.size > 0) for (const [name, n] of Object.entries(sum)) set(n, name);
  },
);
componentMetrics.collected('gauge', 'scheduler_cache_size', 'Number of nodes, pods, and assumed (bound) pods in the scheduler cache.', ['type'], (set) => {
  const sum = { nodes: 0, pods: 0, assumed_pods: 0 };
  for (const { cache } of running) {
    const { pods, assumed } = cache.counts();
    sum.nodes += cache.nodes.length;
    sum.pods += pods;
    sum.assumed_pods += assumed;
  }
  if (running.size > 0) for (const [name, n] of Object.entries(sum)) set(n, name);
});

export type AttemptResult = 'scheduled' | 'unschedulable' | 'error';

/** What one scheduler does, under upstream's names. */
export class SchedulerMetrics {
  readonly #profile: string;
  readonly #what: { queue: SchedulingQueue; cache: Cache };

  constructor(profile: string, queue: SchedulingQueue, cache: Cache) {
    this.#profile = profile;
    this.#what = { queue, cache };
    running.add(this.#what);
  }

  /** Where a pod fits has been looked for since `started` (performance.now()). */
  placed(started: number): void {
    algorithm.of().observe((performance.now() - started) / 1000);
  }

  attempted(result: AttemptResult, started: number): void {
    attempts.of(this.#profile, result).inc();
    attemptTimes.of(this.#profile, result).observe((performance.now() - started) / 1000);
  }

  /** A pod is bound. `now` is of the clock that its `since` is of. */
  scheduled(queued: QueuedPod, started: number, now: number): void {
    this.attempted('scheduled', started);
    tries.of().observe(queued.attempts);
    sli.of(queued.attempts > 15 ? '16+' : String(queued.attempts)).observe((now - queued.since) / 1000);
  }

  preempted(victimCount: number): void {
    preemptions.of().inc();
    if (victimCount > 0) victims.of().observe(victimCount);
  }

  close(): void {
    running.delete(this.#what);
  }
}
