import { createServer, type Server } from 'node:http';
import type { Logger } from 'pino';
import type { ServicePortInfo } from './endpoints.ts';

/**
 * /healthz of the proxy, and one server per service with externalTrafficPolicy Local on its healthCheckNodePort, which
 * answers 200 while this node has endpoints of it: load balancers send their traffic by that.
 */
export function startHealthServers(o: { healthzPort: number; log: Logger }): { update(ports: ServicePortInfo[]): void; close(): Promise<void> } {
  let lastUpdate = new Date().toISOString();
  const servers = new Map<number, { server: Server; body: { service: { namespace: string; name: string }; localEndpoints: number } }>();
  const listen = (server: Server, port: number) => {
    server.on('error', (error) => o.log.warn({ err: error, port }, 'cannot serve health checks'));
    server.listen(port);
    server.unref();
  };
  const healthz = createServer((request, response) => {
    response.setHeader('content-type', 'application/json');
    if (request.url !== '/healthz' && request.url !== '/livez') response.statusCode = 404;
    response.end(`${JSON.stringify({ lastUpdated: lastUpdate, currentTime: new Date().toISOString() })}\n`);
  });
  if (o.healthzPort) listen(healthz, o.healthzPort);
  return {
    update(ports) {
      lastUpdate = new Date().toISOString();
      const wanted = new Map<number, { service: { namespace: string; name: string }; localEndpoints: number }>();
      for (const p of ports) {
        if (!p.healthCheckNodePort) continue;
        const before = wanted.get(p.healthCheckNodePort)?.localEndpoints ?? 0;
        wanted.set(p.healthCheckNodePort, { service: { namespace: p.namespace, name: p.name }, localEndpoints: Math.max(before, p.localReady) });
      }
      for (const [port, entry] of servers) {
        if (wanted.has(port)) continue;
        entry.server.close();
        entry.server.closeAllConnections();
        servers.delete(port);
      }
      for (const [port, body] of wanted) {
        const entry = servers.get(port);
        if (entry) {
          entry.body = body;
          continue;
        }
        const server = createServer((_request, response) => {
          const current = servers.get(port)?.body ?? body;
          response.writeHead(current.localEndpoints ? 200 : 503, { 'content-type': 'application/json' });
          response.end(`${JSON.stringify({ ...current, serviceProxyHealthy: true })}\n`);
        });
        servers.set(port, { server, body });
        listen(server, port);
      }
    },
    async close() {
      for (const server of [healthz, ...[...servers.values()].map((s) => s.server)]) {
        server.closeAllConnections();
        await new Promise<void>((resolve) => server.close(() => resolve()));
      }
    },
  };
}
