/**
 * Counters, gauges and histograms in Prometheus' text format. Made for hot paths: a series is found once, by its labels' values, and
 * costs an addition from then on. Names, labels and buckets are upstream's, so that dashboards and alerts made for it read ours.
 */

interface Metric {
  readonly name: string;
  write(lines: string[]): void;
}

const escaped = (value: string): string => (/[\\"\n]/.test(value) ? value.replace(/\\/g, '\\\\').replace(/"/g, '\\"').replace(/\n/g, '\\n') : value);
const labelsOf = (names: readonly string[], values: readonly string[]): string => names.map((name, i) => `${name}="${escaped(values[i] ?? '')}"`).join(',');
const sample = (name: string, labels: string, value: number): string => `${name}${labels ? `{${labels}}` : ''} ${Number.isFinite(value) ? value : value > 0 ? '+Inf' : value < 0 ? '-Inf' : 'NaN'}`;

/** The buckets of upstream's request latencies, in seconds. */
export const latencyBuckets = [0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1, 1.25, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 45, 60];
export const exponential = (first: number, factor: number, count: number): number[] => Array.from({ length: count }, (_, i) => Number((first * factor ** i).toPrecision(12)));

abstract class Family<S> implements Metric {
  readonly name: string;
  readonly #help: string;
  readonly #type: string;
  protected readonly labelNames: readonly string[];
  protected readonly series = new Map<string, S>();
  protected readonly texts = new Map<S, string>();
  /** Called before the values are read. */
  refresh: (() => void) | undefined;

  constructor(name: string, help: string, type: string, labelNames: readonly string[]) {
    this.name = name;
    this.#help = help;
    this.#type = type;
    this.labelNames = labelNames;
  }

  protected abstract make(): S;
  protected abstract writeSeries(lines: string[], labels: string, series: S): void;

  /** The series with these values of the labels, in their order. */
  of(...values: string[]): S {
    const key = values.length === 1 ? (values[0] as string) : values.join('\u0000');
    let one = this.series.get(key);
    if (!one) {
      this.series.set(key, (one = this.make()));
      this.texts.set(one, labelsOf(this.labelNames, values));
    }
    return one;
  }

  clear(): void {
    this.series.clear();
    this.texts.clear();
  }

  write(lines: string[]): void {
    this.refresh?.();
    if (this.series.size === 0) return;
    lines.push(`# HELP ${this.name} ${this.#help.replace(/\n/g, ' ')}`, `# TYPE ${this.name} ${this.#type}`);
    for (const one of this.series.values()) this.writeSeries(lines, this.texts.get(one) as string, one);
  }
}

/** One number: of a counter it only grows. */
export class NumberSeries {
  value = 0;
  inc(by = 1): void {
    this.value += by;
  }
  set(value: number): void {
    this.value = value;
  }
}

export class NumberFamily extends Family<NumberSeries> {
  protected make(): NumberSeries {
    return new NumberSeries();
  }
  protected writeSeries(lines: string[], labels: string, { value }: NumberSeries): void {
    lines.push(sample(this.name, labels, value));
  }
}

export class HistogramSeries {
  readonly buckets: readonly number[];
  /** In each bucket alone, and in none of them. */
  readonly counts: number[];
  sum = 0;
  count = 0;

  constructor(buckets: readonly number[]) {
    this.buckets = buckets;
    this.counts = new Array(buckets.length).fill(0);
  }

  observe(value: number): void {
    this.sum += value;
    this.count++;
    const { buckets } = this;
    for (let i = 0; i < buckets.length; i++) {
      if (value > (buckets[i] as number)) continue;
      (this.counts[i] as number)++;
      return;
    }
  }
}

export class HistogramFamily extends Family<HistogramSeries> {
  readonly #buckets: readonly number[];

  constructor(name: string, help: string, labelNames: readonly string[], buckets: readonly number[]) {
    super(name, help, 'histogram', labelNames);
    this.#buckets = buckets;
  }

  protected make(): HistogramSeries {
    return new HistogramSeries(this.#buckets);
  }

  protected writeSeries(lines: string[], labels: string, { counts, sum, count }: HistogramSeries): void {
    const before = labels ? `${labels},` : '';
    let upTo = 0;
    for (let i = 0; i < counts.length; i++) {
      upTo += counts[i] as number;
      lines.push(`${this.name}_bucket{${before}le="${goNumber(this.#buckets[i] as number)}"} ${upTo}`);
    }
    lines.push(`${this.name}_bucket{${before}le="+Inf"} ${count}`, sample(`${this.name}_sum`, labels, sum), sample(`${this.name}_count`, labels, count));
  }
}

/** As Go's %g: what series are compared by. */
const goNumber = (value: number): string =>
  value >= 1e6 || (value > 0 && value < 1e-4) ? value.toExponential().replace(/e([+-])(\d)$/, 'e$10$2') : String(value);

export class MetricRegistry {
  readonly #metrics: Metric[] = [];

  #add<M extends Metric>(metric: M): M {
    this.#metrics.push(metric);
    return metric;
  }

  counter(name: string, help: string, labelNames: readonly string[] = []): NumberFamily {
    return this.#add(new NumberFamily(name, help, 'counter', labelNames));
  }

  gauge(name: string, help: string, labelNames: readonly string[] = []): NumberFamily {
    return this.#add(new NumberFamily(name, help, 'gauge', labelNames));
  }

  /** A gauge or counter whose values are read when they are asked for. */
  collected(type: 'gauge' | 'counter', name: string, help: string, labelNames: readonly string[], read: (set: (value: number, ...labels: string[]) => void) => void): NumberFamily {
    const family = this.#add(new NumberFamily(name, help, type, labelNames));
    family.refresh = () => {
      family.clear();
      read((value, ...labels) => family.of(...labels).set(value));
    };
    return family;
  }

  histogram(name: string, help: string, labelNames: readonly string[], buckets: readonly number[]): HistogramFamily {
    return this.#add(new HistogramFamily(name, help, labelNames, buckets));
  }

  text(): string {
    const lines: string[] = [];
    for (const metric of this.#metrics) metric.write(lines);
    return lines.length ? `${lines.join('\n')}\n` : '';
  }
}

/** What components of this process have in common, as upstream's legacy registry: work queues, clients, scheduler and controllers. */
export const componentMetrics = new MetricRegistry();
