import { readFile } from 'node:fs/promises';
import os from 'node:os';
import type { Pod } from '../../api/generated/types.ts';
import type { Container, ContainerStats, Runtime } from '../../runtime/cri.ts';
import { containerNameLabel, nodeLabel, podNameLabel, podNamespaceLabel, podUidLabel } from '../labels.ts';

export interface StatsSource {
  runtime: Runtime;
  nodeName: string;
  startedAt: number;
  now(): number;
  pods(): Pod[];
}

interface Sample {
  container: Container;
  stats: ContainerStats;
}

async function samples(o: StatsSource): Promise<Sample[]> {
  const [containers, stats] = await Promise.all([
    o.runtime.listContainers({ state: 'CONTAINER_RUNNING', labels: { [nodeLabel]: o.nodeName } }),
    o.runtime.listContainerStats(),
  ]);
  const byId = new Map(stats.map((s) => [s.id, s]));
  return containers.flatMap((container) => {
    const found = byId.get(container.id);
    return found ? [{ container, stats: found }] : [];
  });
}

async function nodeUsage(): Promise<{ cpuNs: number; memoryBytes: number; availableBytes: number }> {
  const cpu = (await readFile('/proc/stat', 'utf8').catch(() => '')).split('\n')[0]?.split(/\s+/).slice(1).map(Number) ?? [];
  // user, nice, system, irq, softirq, steal in hundredths of a second.
  const ticks = [0, 1, 2, 5, 6, 7].reduce((sum, i) => sum + (cpu[i] ?? 0), 0);
  const info = await readFile('/proc/meminfo', 'utf8').catch(() => '');
  const available = Number(/MemAvailable:\s+(\d+)/.exec(info)?.[1] ?? 0) * 1024;
  return { cpuNs: ticks * 1e7, memoryBytes: os.totalmem() - available, availableBytes: available };
}

const podOf = (c: Container) => ({
  name: c.labels[podNameLabel] ?? '',
  namespace: c.labels[podNamespaceLabel] ?? '',
  uid: c.labels[podUidLabel] ?? '',
});

/** /stats/summary, as stats/v1alpha1.Summary. */
export async function statsSummary(o: StatsSource): Promise<unknown> {
  const time = new Date(o.now()).toISOString();
  const [all, node] = await Promise.all([samples(o), nodeUsage()]);
  const pods = new Map<string, { podRef: ReturnType<typeof podOf>; startTime: string; containers: unknown[]; cpu: number; memory: number }>();
  for (const { container, stats } of all) {
    const ref = podOf(container);
    const pod = pods.get(ref.uid) ?? { podRef: ref, startTime: new Date(container.createdAt).toISOString(), containers: [], cpu: 0, memory: 0 };
    pod.cpu += stats.cpu.usageCoreNanoSeconds;
    pod.memory += stats.memory.workingSetBytes;
    pod.containers.push({
      name: container.labels[containerNameLabel],
      startTime: new Date(container.createdAt).toISOString(),
      cpu: { time, usageCoreNanoSeconds: stats.cpu.usageCoreNanoSeconds },
      memory: { time, workingSetBytes: stats.memory.workingSetBytes, usageBytes: stats.memory.usageBytes },
      rootfs: { time, usedBytes: stats.writableLayer.usedBytes },
    });
    pods.set(ref.uid, pod);
  }
  return {
    node: {
      nodeName: o.nodeName,
      startTime: new Date(o.startedAt).toISOString(),
      cpu: { time, usageCoreNanoSeconds: node.cpuNs },
      memory: { time, availableBytes: node.availableBytes, usageBytes: node.memoryBytes, workingSetBytes: node.memoryBytes },
    },
    pods: [...pods.values()].map(({ cpu, memory, ...pod }) => ({
      ...pod,
      cpu: { time, usageCoreNanoSeconds: cpu },
      memory: { time, workingSetBytes: memory },
    })),
  };
}

const quote = (labels: Record<string, string>) =>
  Object.entries(labels)
    .map(([k, v]) => `${k}=${JSON.stringify(v)}`)
    .join(',');

function metric(name: string, type: 'counter' | 'gauge', help: string, values: [Record<string, string>, number][]): string {
  const lines = values.map(([labels, value]) => `${name}${Object.keys(labels).length > 0 ? `{${quote(labels)}}` : ''} ${value}`);
  return [`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`, ...lines, ''].join('\n');
}

/** /metrics/resource, what metrics-server reads. */
export async function resourceMetrics(o: StatsSource): Promise<string> {
  const [all, node] = await Promise.all([samples(o), nodeUsage()]);
  const labels = (c: Container) => ({ container: c.labels[containerNameLabel] ?? '', namespace: podOf(c).namespace, pod: podOf(c).name });
  return [
    metric('node_cpu_usage_seconds_total', 'counter', 'Cumulative cpu time consumed by the node in core-seconds', [[{}, node.cpuNs / 1e9]]),
    metric('node_memory_working_set_bytes', 'gauge', 'Current working set of the node in bytes', [[{}, node.memoryBytes]]),
    metric(
      'container_cpu_usage_seconds_total',
      'counter',
      'Cumulative cpu time consumed by the container in core-seconds',
      all.map(({ container, stats }) => [labels(container), stats.cpu.usageCoreNanoSeconds / 1e9]),
    ),
    metric(
      'container_memory_working_set_bytes',
      'gauge',
      'Current working set of the container in bytes',
      all.map(({ container, stats }) => [labels(container), stats.memory.workingSetBytes]),
    ),
    metric(
      'container_start_time_seconds',
      'gauge',
      'Start time of the container since unix epoch in seconds',
      all.map(({ container }) => [labels(container), container.createdAt / 1000]),
    ),
    metric('scrape_error', 'gauge', '1 if there was an error while getting container metrics, 0 otherwise', [[{}, 0]]),
  ].join('');
}

/** /metrics: the kubelet's own. */
export async function kubeletMetrics(o: StatsSource): Promise<string> {
  const containers = await o.runtime.listContainers({ labels: { [nodeLabel]: o.nodeName } });
  const states = new Map<string, number>();
  for (const c of containers) {
    const state = c.state.replace('CONTAINER_', '').toLowerCase();
    states.set(state, (states.get(state) ?? 0) + 1);
  }
  const sandboxes = await o.runtime.listPodSandbox({ state: 'SANDBOX_READY', labels: { [nodeLabel]: o.nodeName } });
  return [
    metric('kubelet_running_pods', 'gauge', 'Number of pods that have a running pod sandbox', [[{}, sandboxes.length]]),
    metric(
      'kubelet_running_containers',
      'gauge',
      'Number of containers currently running',
      [...states].map(([state, count]) => [{ container_state: state }, count]),
    ),
    metric('kubelet_desired_pods', 'gauge', 'The number of pods the kubelet is being instructed to run', [[{ static: '' }, o.pods().length]]),
    metric('process_start_time_seconds', 'gauge', 'Start time of the process since unix epoch in seconds', [[{}, o.startedAt / 1000]]),
    metric('process_resident_memory_bytes', 'gauge', 'Resident memory size in bytes', [[{}, process.memoryUsage.rss()]]),
  ].join('');
}
