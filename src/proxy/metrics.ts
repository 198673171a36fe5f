import { createServer } from 'node:http';
import { writeFile } from 'node:fs/promises';
import type { Logger } from 'pino';

/** What /metrics tells, under upstream's names. Times in milliseconds. */
export interface SyncFacts {
  syncs: number;
  failures: number;
  totalMs: number;
  /** When the rules were last written. */
  lastSync: number;
}

/** kube-proxy's own port on loopback: /proxyMode, /healthz and /metrics. */
export function startMetricsServer(o: { port: number; facts: SyncFacts; log: Logger }): { close(): Promise<void> } {
  const server = createServer((request, response) => {
    const path = (request.url ?? '').split('?')[0];
    response.setHeader('content-type', 'text/plain; charset=utf-8');
    if (path === '/proxyMode') response.end('nftables');
    else if (path === '/healthz') response.end('ok');
    else if (path === '/metrics') response.end(metricsText(o.facts));
    else response.writeHead(404).end('404 page not found\n');
  });
  server.on('error', (error) => o.log.warn({ err: error, port: o.port }, 'cannot serve metrics'));
  server.listen(o.port, '127.0.0.1');
  server.unref();
  return {
    async close() {
      server.closeAllConnections();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}

const metricsText = ({ syncs, failures, totalMs, lastSync }: SyncFacts) =>
  [
    '# TYPE kubeproxy_sync_proxy_rules_duration_seconds summary',
    `kubeproxy_sync_proxy_rules_duration_seconds_sum ${totalMs / 1000}`,
    `kubeproxy_sync_proxy_rules_duration_seconds_count ${syncs}`,
    '# TYPE kubeproxy_sync_proxy_rules_last_timestamp_seconds gauge',
    `kubeproxy_sync_proxy_rules_last_timestamp_seconds ${lastSync / 1000}`,
    '# TYPE kubeproxy_sync_proxy_rules_nftables_sync_failures_total counter',
    `kubeproxy_sync_proxy_rules_nftables_sync_failures_total ${failures}`,
    '',
  ].join('\n');

/** Seconds for which the kernel remembers connections of this network namespace; kube-proxy's defaults. */
const conntrackSeconds = { established: 86_400, close_wait: 3_600 };

/** Sets them, where the kernel lets. Never rejects. */
export async function setConntrackTimeouts(log: Logger): Promise<void> {
  for (const [state, seconds] of Object.entries(conntrackSeconds)) {
    const file = `/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_${state}`;
    await writeFile(file, `${seconds}`).catch((error: Error) => log.warn({ err: error }, `cannot set ${file}`));
  }
}
