import { componentMetrics, exponential, type HistogramSeries, type NumberSeries } from './metrics.ts';

const name = ['name'];
const durations = exponential(1e-8, 10, 10);
const adds = componentMetrics.counter('workqueue_adds_total', 'Total number of adds handled by workqueue', name);
const retries = componentMetrics.counter('workqueue_retries_total', 'Total number of retries handled by workqueue', name);
const queued = componentMetrics.histogram('workqueue_queue_duration_seconds', 'How long in seconds an item stays in workqueue before being requested.', name, durations);
const worked = componentMetrics.histogram('workqueue_work_duration_seconds', 'How long in seconds processing an item from workqueue takes.', name, durations);
const open = new Set<QueueMetrics>();
const collected = (metric: string, help: string, value: (queue: QueueMetrics) => number) =>
  componentMetrics.collected('gauge', metric, help, name, (set) => {
    // Two queues of one name, as of two clusters in a process, are told as one.
    const sums = new Map<string, number>();
    for (const queue of open) sums.set(queue.name, (sums.get(queue.name) ?? 0) + value(queue));
    for (const [queue, sum] of sums) set(sum, queue);
  });
collected('workqueue_depth', 'Current depth of workqueue', (q) => q.depth());
collected(
  'workqueue_unfinished_work_seconds',
  "How many seconds of work has done that is in progress and hasn't been observed by work_duration. Large values indicate stuck threads. One can deduce the number of stuck threads by observing the rate at which this increases.",
  (q) => q.unfinished().reduce((sum, seconds) => sum + seconds, 0),
);
collected('workqueue_longest_running_processor_seconds', 'How many seconds has the longest running processor for workqueue been running.', (q) => Math.max(0, ...q.unfinished()));

/** What one work queue does, under upstream's names. */
export class QueueMetrics {
  readonly name: string;
  readonly depth: () => number;
  readonly #adds: NumberSeries;
  readonly #retries: NumberSeries;
  readonly #queued: HistogramSeries;
  readonly #worked: HistogramSeries;
  readonly #waiting = new Map<string, number>();
  readonly #working = new Map<string, number>();

  constructor(name: string, depth: () => number) {
    this.name = name;
    this.depth = depth;
    this.#adds = adds.of(name);
    this.#retries = retries.of(name);
    this.#queued = queued.of(name);
    this.#worked = worked.of(name);
    open.add(this);
  }

  /** A key was put in; it waits, unless it is being worked on. */
  added(key?: string): void {
    this.#adds.inc();
    if (key !== undefined) this.waiting(key);
  }

  waiting(key: string): void {
    this.#waiting.set(key, performance.now());
  }

  begun(key: string): void {
    const now = performance.now();
    const since = this.#waiting.get(key);
    if (since !== undefined) this.#queued.observe((now - since) / 1000);
    this.#waiting.delete(key);
    this.#working.set(key, now);
  }

  done(key: string): void {
    const since = this.#working.get(key);
    if (since !== undefined) this.#worked.observe((performance.now() - since) / 1000);
    this.#working.delete(key);
  }

  retried(): void {
    this.#retries.inc();
  }

  /** Seconds that each key that is worked on has taken so far. */
  unfinished(): number[] {
    const now = performance.now();
    return [...this.#working.values()].map((since) => (now - since) / 1000);
  }

  close(): void {
    open.delete(this);
    this.#waiting.clear();
    this.#working.clear();
  }
}
