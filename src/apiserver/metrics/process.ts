import { readdirSync, readFileSync } from 'node:fs';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import type { MetricRegistry } from '../../client/metrics.ts';

const proc = (file: string): string => {
  try {
    return readFileSync(`/proc/self/${file}`, 'utf8');
  } catch {
    // Not on Linux: what it would say is left out.
    return '';
  }
};

/** By which a reader tells that counters have begun anew. */
export function startTime(registry: MetricRegistry): void {
  const started = Date.now() / 1000 - process.uptime();
  registry.collected('gauge', 'process_start_time_seconds', 'Start time of the process since unix epoch in seconds.', [], (set) => set(started));
}

/** What this process takes of the machine, under the names that every exporter uses, and what is Node's own. */
export function processMetrics(registry: MetricRegistry, version: string): void {
  const gauge = (name: string, help: string, read: () => number | undefined) =>
    registry.collected('gauge', name, help, [], (set) => {
      const value = read();
      if (value !== undefined) set(value);
    });
  registry.collected('counter', 'process_cpu_seconds_total', 'Total user and system CPU time spent in seconds.', [], (set) => {
    const { user, system } = process.cpuUsage();
    set((user + system) / 1e6);
  });
  startTime(registry);
  gauge('process_resident_memory_bytes', 'Resident memory size in bytes.', () => process.memoryUsage.rss());
  gauge('process_virtual_memory_bytes', 'Virtual memory size in bytes.', () => {
    const pages = Number(proc('statm').split(' ')[0]);
    return pages ? pages * 4096 : undefined;
  });
  gauge('process_open_fds', 'Number of open file descriptors.', () => {
    try {
      return readdirSync('/proc/self/fd').length;
    } catch {
      return undefined;
    }
  });
  gauge('process_max_fds', 'Maximum number of open file descriptors.', () => {
    const limit = /^Max open files\s+(\d+)/m.exec(proc('limits'))?.[1];
    return limit ? Number(limit) : undefined;
  });
  const delay = monitorEventLoopDelay({ resolution: 20 });
  delay.enable();
  const lag = (name: string, help: string, read: () => number) => gauge(`nodejs_eventloop_lag_${name}seconds`, help, () => Math.max(0, read() / 1e9 - 0.02));
  lag('', 'Mean delay of the event loop since it was last asked for.', () => delay.mean || 0);
  lag('p50_', 'Median of these delays.', () => delay.percentile(50));
  lag('p99_', '99th percentile of these delays.', () => delay.percentile(99));
  registry.collected('gauge', 'nodejs_eventloop_lag_max_seconds', 'The longest of these delays.', [], (set) => {
    set(Math.max(0, delay.max / 1e9 - 0.02));
    // The last of them that is read: the next answer tells of the time from here on.
    delay.reset();
  });
  gauge('nodejs_heap_size_total_bytes', "Size of V8's heap.", () => process.memoryUsage().heapTotal);
  gauge('nodejs_heap_size_used_bytes', 'What of it is in use.', () => process.memoryUsage().heapUsed);
  gauge('nodejs_external_memory_bytes', 'Memory of buffers outside of it.', () => process.memoryUsage().external);
  const [, major = '', minor = ''] = /^v(\d+)\.(\d+)/.exec(version) ?? [];
  const build = ['', 'node', '', 'archive', version, process.version, major, minor, `${process.platform}/${process.arch}`];
  registry.collected(
    'gauge',
    'kubernetes_build_info',
    "A metric with a constant '1' value labeled by major, minor, git version, git commit, git tree state, build date, Go version, and compiler from which Kubernetes was built, and platform on which it is running.",
    ['build_date', 'compiler', 'git_commit', 'git_tree_state', 'git_version', 'go_version', 'major', 'minor', 'platform'],
    (set) => set(1, ...build),
  );
}
