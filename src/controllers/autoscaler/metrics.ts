import type { CrossVersionObjectReference, LabelSelector, Status } from '../../api/generated/types.ts';
import { parseQuantity } from '../../api/quantity.ts';
import { formatLabelSelector } from '../../api/selectors.ts';
import type { Client } from '../../client/client.ts';

/** One pod's value of a metric, in thousandths; at and window in milliseconds. */
export interface PodMetric {
  value: number;
  at: number;
  windowMs: number;
}
export type PodMetrics = Map<string, PodMetric>;

const milli = (text: string | number): number => Number(parseQuantity(text).nano / 1_000_000n);
/** A duration as Go's JSON has it: 30s, 1m0s. Milliseconds. */
const duration = (text: string | undefined): number => {
  const units: Record<string, number> = { h: 3_600_000, m: 60_000, s: 1000, ms: 1 };
  return [...(text ?? '').matchAll(/([\d.]+)(ms|h|m|s)/g)].reduce((sum, [, n, unit]) => sum + Number(n) * units[unit!]!, 0);
};

interface PodMetricsList {
  items?: {
    metadata: { name: string };
    timestamp: string;
    window?: string;
    containers?: { name: string; usage: Record<string, string> }[];
  }[];
}

interface MetricValueList {
  items?: { describedObject: { name: string }; timestamp: string; windowSeconds?: number; value: string }[];
}

/** The metrics APIs, as metrics-server and adapters serve them through the aggregation layer. */
export class MetricsClient {
  readonly #client: Client;

  constructor(client: Client) {
    this.#client = client;
  }

  /** What pods use of cpu or memory, or one of their containers where it is named. */
  async resource(resource: string, namespace: string, selector: string, container?: string): Promise<PodMetrics> {
    const path = `/apis/metrics.k8s.io/v1beta1/namespaces/${namespace}/pods?labelSelector=${encodeURIComponent(selector)}`;
    const { items = [] } = await this.#get<PodMetricsList>(path, 'resource metrics API', 'get pods.metrics.k8s.io');
    if (!items.length) throw new Error('no metrics returned from resource metrics API');
    const metrics: PodMetrics = new Map();
    for (const { metadata, timestamp, window, containers = [] } of items) {
      const measured = container === undefined ? containers : containers.filter((c) => c.name === container);
      if (!measured.length || measured.some((c) => c.usage[resource] === undefined)) continue;
      const value = measured.reduce((sum, c) => sum + milli(c.usage[resource]!), 0);
      metrics.set(metadata.name, { value, at: Date.parse(timestamp), windowMs: duration(window) });
    }
    return metrics;
  }

  /** A metric of every pod. */
  async pods(metric: string, namespace: string, selector: string, metricSelector?: LabelSelector): Promise<PodMetrics> {
    const query = `labelSelector=${encodeURIComponent(selector)}${metricLabels(metricSelector, '&metricLabelSelector=')}`;
    const path = `/apis/custom.metrics.k8s.io/v1beta2/namespaces/${namespace}/pods/*/${metric}?${query}`;
    const { items = [] } = await this.#get<MetricValueList>(path, 'custom metrics API', `get pods.custom.metrics.k8s.io *`);
    if (!items.length) throw new Error('no metrics returned from custom metrics API');
    return new Map(
      items.map((m) => [m.describedObject.name, { value: milli(m.value), at: Date.parse(m.timestamp), windowMs: (m.windowSeconds ?? 60) * 1000 }]),
    );
  }

  /** A metric of one object; resource as `services`, `ingresses.networking.k8s.io`. Thousandths. */
  async object(metric: string, namespace: string, object: CrossVersionObjectReference, resource: string, selector?: LabelSelector): Promise<number> {
    const place = object.kind === 'Namespace' ? `namespaces/${namespace}/metrics` : `namespaces/${namespace}/${resource}/${object.name}`;
    const path = `/apis/custom.metrics.k8s.io/v1beta2/${place}/${metric}${metricLabels(selector, '?metricLabelSelector=')}`;
    const { items = [] } = await this.#get<MetricValueList>(path, 'custom metrics API', `get ${resource}.custom.metrics.k8s.io ${object.name}`);
    if (!items.length) throw new Error('no metrics returned from custom metrics API');
    return milli(items[0]!.value);
  }

  /** The sum of a metric that belongs to no object. Thousandths. */
  async external(metric: string, namespace: string, selector?: LabelSelector): Promise<number> {
    const path = `/apis/external.metrics.k8s.io/v1beta1/namespaces/${namespace}/${metric}${metricLabels(selector, '?labelSelector=')}`;
    const { items = [] } = await this.#get<MetricValueList>(path, 'external metrics API', `get ${metric}.external.metrics.k8s.io`);
    if (!items.length) throw new Error('no metrics returned from external metrics API');
    return items.reduce((sum, m) => sum + milli(m.value), 0);
  }

  async #get<T>(path: string, api: string, what: string): Promise<T> {
    const response = await this.#client.raw({ method: 'GET', path, headers: { accept: 'application/json' } });
    const text = await response.text();
    if (response.status === 200) return JSON.parse(text) as T;
    throw new Error(`unable to fetch metrics from ${api}: ${reasonOf(response.status, text, what)}`);
  }
}

const metricLabels = (selector: LabelSelector | undefined, prefix: string) =>
  selector && (selector.matchLabels || selector.matchExpressions) ? `${prefix}${encodeURIComponent(formatLabelSelector(selector))}` : '';

function reasonOf(status: number, text: string, what: string): string {
  try {
    const { message } = JSON.parse(text) as Status;
    if (message && status !== 404) return message;
  } catch {
    // Not a Status: a server that does not know the path, or a proxy.
  }
  if (status === 404) return `the server could not find the requested resource (${what})`;
  return status === 503 ? `the server is currently unable to handle the request (${what})` : `the server answered ${status} (${what})`;
}
