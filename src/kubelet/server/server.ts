import type { IncomingMessage, ServerResponse } from 'node:http';
import https from 'node:https';
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { Readable } from 'node:stream';
import { join } from 'node:path';
import type { Logger } from 'pino';
import { WebSocketServer } from 'ws';
import type { Pod } from '../../api/generated/types.ts';
import type { Client } from '../../client/client.ts';
import type { Clock } from '../../client/clock.ts';
import type { ContainerStatus, Runtime } from '../../runtime/cri.ts';
import type { CertificatePair } from '../certificates.ts';
import type { Paths } from '../paths.ts';
import type { PodManager } from '../pod-manager.ts';
import { generations, type PodState, type PodStateReader, restartCountOf } from '../pod-state.ts';
import { containerNamed } from '../pods.ts';
import type { StatusManager } from '../status-manager.ts';
import { ServerAuth } from './auth.ts';
import { logOptions, readLog } from './logs.ts';
import { portForwardProtocols, servePortForward } from './port-forward.ts';
import type { SpdyConnection } from './spdy.ts';
import { forwardPorts, isSpdyTunnel, serveSpdyPortForward, spdyPortForwardProtocol, spdyProtocol } from './spdy-port-forward.ts';
import { serveSpdyStreams, spdyExecProtocols } from './spdy-streams.ts';
import { kubeletMetrics, resourceMetrics, statsSummary, type StatsSource } from './stats.ts';
import { execProtocols, serveStreams } from './streams.ts';

export interface KubeletServerOptions {
  client: Client;
  runtime: Runtime;
  pods: PodManager;
  states: PodStateReader;
  statuses: StatusManager;
  paths: Paths;
  nodeName: string;
  /** PEM of the authority whose client certificates are accepted. */
  clientCa: string;
  address: string;
  port: number;
  configuration: Record<string, unknown>;
  log: Logger;
  clock: Clock;
  signal: AbortSignal;
}

/** What to tell a client, as plain text. */
class HttpError extends Error {
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

/** The kubelet's own HTTPS API, which the API server speaks for logs, exec, attach and port-forward. */
export class KubeletServer {
  private readonly o: KubeletServerOptions;
  private readonly auth: ServerAuth;
  private readonly server: https.Server;
  private readonly sockets = new WebSocketServer({ noServer: true, perMessageDeflate: false, handleProtocols: (offered) => choose(offered) });
  private readonly tunnels = new WebSocketServer({ noServer: true, perMessageDeflate: false });
  private readonly connections = new Set<SpdyConnection>();
  private readonly stats: StatsSource;

  constructor(o: KubeletServerOptions) {
    this.o = o;
    this.auth = new ServerAuth(o.client, o.clock, o.nodeName);
    this.stats = { runtime: o.runtime, nodeName: o.nodeName, startedAt: o.clock.now(), now: () => o.clock.now(), pods: () => o.pods.list() };
    this.tunnels.on('headers', (headers) => headers.push(`Sec-WebSocket-Protocol: ${spdyPortForwardProtocol}`));
    this.server = https.createServer({ ca: o.clientCa, requestCert: true, rejectUnauthorized: false, minVersion: 'TLSv1.2' });
    this.server.on('request', (request, response) => void this.handle(request, response));
    this.server.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => void this.upgrade(request, socket, head));
    this.server.on('tlsClientError', (error) => o.log.debug({ err: error }, 'TLS handshake failed'));
  }

  /** Resolves to the port. Handshakes fail until there is a certificate. */
  async listen(): Promise<number> {
    await new Promise<void>((resolve, reject) => {
      this.server.once('error', reject);
      this.server.listen(this.o.port, this.o.address, () => {
        this.server.removeListener('error', reject);
        resolve();
      });
    });
    return (this.server.address() as AddressInfo).port;
  }

  useCertificate(pair: CertificatePair): void {
    this.server.setSecureContext({ cert: pair.cert, key: pair.key, ca: this.o.clientCa, minVersion: 'TLSv1.2' });
  }

  async stop(): Promise<void> {
    for (const client of [...this.sockets.clients, ...this.tunnels.clients]) client.terminate();
    for (const connection of this.connections) connection.close();
    this.server.closeAllConnections();
    await new Promise<void>((resolve) => this.server.close(() => resolve()));
  }

  private keep(connection: SpdyConnection): void {
    this.connections.add(connection);
    void connection.done.then(() => this.connections.delete(connection));
  }

  /** Throws HttpError where the request may not be made. */
  private async check(request: IncomingMessage, path: string, upgrade: boolean): Promise<void> {
    if (path === '/healthz' && !upgrade) return;
    const user = await this.auth.authenticate(request);
    if (!user) throw new HttpError(401, 'Unauthorized');
    if (!(await this.auth.authorize(user, request.method ?? 'GET', path, upgrade)))
      throw new HttpError(403, `Forbidden (user=${user.name}, verb=${request.method?.toLowerCase()}, resource=nodes, node=${this.o.nodeName})`);
  }

  private async handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', 'https://kubelet');
    try {
      await this.check(request, url.pathname, false);
      await this.route(request, response, url);
    } catch (error) {
      if (response.headersSent) return void response.destroy();
      const status = error instanceof HttpError ? error.status : 500;
      if (status === 500) this.o.log.warn({ err: error, path: url.pathname }, 'request failed');
      response.writeHead(status, { 'content-type': 'text/plain; charset=utf-8' }).end(`${error instanceof Error ? error.message : String(error)}\n`);
    }
  }

  private async route(request: IncomingMessage, response: ServerResponse, url: URL): Promise<void> {
    const [first = '', ...rest] = url.pathname.split('/').filter(Boolean).map(decodeURIComponent);
    const text = (body: string, type = 'text/plain; charset=utf-8') => void response.writeHead(200, { 'content-type': type }).end(body);
    const json = (body: unknown) => text(JSON.stringify(body), 'application/json');
    if (first === 'healthz') return text('ok');
    if (first === 'pods') return json({ kind: 'PodList', apiVersion: 'v1', metadata: {}, items: this.o.pods.list().map((p) => this.withStatus(p)) });
    if (first === 'containerLogs' && rest.length === 3) return this.logs(request, response, url, rest as [string, string, string]);
    if (first === 'run' && rest.length === 3) return text(await this.runCommand(url, rest as [string, string, string]));
    if (first === 'stats' && (rest[0] ?? 'summary') === 'summary') return json(await statsSummary(this.stats));
    if (first === 'metrics' && rest[0] === undefined) return text(await kubeletMetrics(this.stats), 'text/plain; version=0.0.4');
    if (first === 'metrics' && (rest[0] === 'resource' || rest[0] === 'cadvisor'))
      return text(await resourceMetrics(this.stats), 'text/plain; version=0.0.4');
    if (first === 'configz')
      return json({ kubeletconfig: { kind: 'KubeletConfiguration', apiVersion: 'kubelet.config.k8s.io/v1beta1', ...this.o.configuration } });
    throw new HttpError(404, '404 page not found');
  }

  private withStatus(pod: Pod): Pod {
    const status = this.o.statuses.get(this.o.pods.mirrorOf(pod)?.metadata.uid ?? pod.metadata.uid);
    return status ? { ...pod, status } : pod;
  }

  private async stateOf(namespace: string, name: string): Promise<{ pod: Pod; state: PodState }> {
    const worker = this.o.pods.find(namespace, name);
    if (!worker) throw new HttpError(404, `pod "${name}" not found`);
    return { pod: worker.current, state: await this.o.states.read(worker.current.metadata.uid) };
  }

  private async containerOf(namespace: string, name: string, container: string): Promise<ContainerStatus> {
    const { pod, state } = await this.stateOf(namespace, name);
    if (!containerNamed(pod, container)) throw new HttpError(404, `container "${container}" not found in pod "${name}"`);
    const running = generations(state, container).find((c) => c.state === 'CONTAINER_RUNNING');
    if (!running) throw new HttpError(404, `container not found ("${container}")`);
    return running;
  }

  private async logs(
    request: IncomingMessage,
    response: ServerResponse,
    url: URL,
    [namespace, name, container]: [string, string, string],
  ): Promise<void> {
    const { pod, state } = await this.stateOf(namespace, name);
    if (!containerNamed(pod, container)) throw new HttpError(404, `container "${container}" not found in pod "${name}"`);
    let options: ReturnType<typeof logOptions>;
    try {
      options = logOptions(url.searchParams, this.o.clock.now());
    } catch (error) {
      throw new HttpError(400, (error as Error).message);
    }
    const seen = generations(state, container).filter((c) => c.state !== 'CONTAINER_CREATED');
    const target = options.previous ? seen[1] : seen[0];
    if (!target && options.previous) throw new HttpError(400, `previous terminated container "${container}" in pod "${name}" not found`);
    if (!target) {
      const status = this.withStatus(pod).status;
      const waiting = [...(status?.initContainerStatuses ?? []), ...(status?.containerStatuses ?? [])].find((s) => s.name === container)?.state
        ?.waiting;
      const image = waiting?.reason?.includes('Image')
        ? `trying and failing to pull image`
        : `waiting to start: ${waiting?.reason ?? 'ContainerCreating'}`;
      throw new HttpError(400, `container "${container}" in pod "${name}" is ${image}`);
    }
    const file = join(this.o.paths.podLogs(pod), container, `${restartCountOf(target)}.log`);
    const gone = new AbortController();
    response.on('close', () => gone.abort());
    request.on('error', () => gone.abort());
    const running = async () => (await this.o.runtime.containerStatus(target.id).catch(() => undefined))?.state === 'CONTAINER_RUNNING';
    const chunks = readLog(file, options, running, AbortSignal.any([gone.signal, this.o.signal]));
    // The first piece before the head: a file that is not there is an error to be told.
    const first = await chunks.next().catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') throw new HttpError(404, `failed to try resolving symlinks in path "${file}": no such file or directory`);
      throw error;
    });
    response.writeHead(200, { 'content-type': 'text/plain' });
    response.flushHeaders();
    if (!first.done) {
      response.write(first.value);
      await pipeline(Readable.from(chunks), response).catch(() => response.destroy());
    } else response.end();
  }

  private async runCommand(url: URL, [namespace, name, container]: [string, string, string]): Promise<string> {
    const target = await this.containerOf(namespace, name, container);
    const result = await this.o.runtime.execSync(target.id, (url.searchParams.get('cmd') ?? '').split(' ').filter(Boolean), 0);
    return Buffer.concat([result.stdout, result.stderr]).toString('utf8');
  }

  private async upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    socket.on('error', () => {});
    const url = new URL(request.url ?? '/', 'https://kubelet');
    try {
      await this.check(request, url.pathname, true);
      const [kind = '', namespace = '', name = '', last] = url.pathname.split('/').filter(Boolean).map(decodeURIComponent);
      if (kind === 'portForward') return await this.portForward(request, socket, head, url, namespace, name);
      const container = kind === 'exec' || kind === 'attach' ? last : undefined;
      if (!container) throw new HttpError(404, '404 page not found');
      const target = await this.containerOf(namespace, name, container);
      const flag = (param: string) => ['1', 'true'].includes(url.searchParams.get(param) ?? '');
      const tty = flag('tty');
      const options = { stdin: flag('input'), stdout: flag('output'), stderr: flag('error') && !tty, tty };
      const command = url.searchParams.getAll('command');
      if (!options.stdin && !options.stdout && !options.stderr) throw new HttpError(400, 'you must specify at least 1 of stdin, stdout, stderr');
      const start = () => (kind === 'exec' ? this.o.runtime.exec(target.id, command, options) : this.o.runtime.attach(target.id, options));
      if (isWebSocket(request)) this.sockets.handleUpgrade(request, socket, head, (ws) => void serveStreams(ws, start, command));
      else this.keep(serveSpdyStreams(acceptSpdy(request, socket, head, spdyExecProtocols), options, start, command));
    } catch (error) {
      refuse(socket, error instanceof HttpError ? error.status : 500, error instanceof Error ? error.message : String(error));
    }
  }

  private async portForward(request: IncomingMessage, socket: Duplex, head: Buffer, url: URL, namespace: string, name: string): Promise<void> {
    const { state } = await this.stateOf(namespace, name);
    const sandbox = state.sandboxes.find((s) => s.state === 'SANDBOX_READY');
    if (!sandbox) throw new HttpError(404, `pod "${name}" is not running`);
    const connect = (port: number) => this.o.runtime.portForward(sandbox.id, port);
    if (!isWebSocket(request)) {
      this.keep(forwardPorts(acceptSpdy(request, socket, head, [spdyProtocol]), connect, this.o.log));
      return;
    }
    if (isSpdyTunnel(request.headers['sec-websocket-protocol'])) {
      // The name of this protocol is no token of HTTP, which the WebSocket library insists on.
      delete request.headers['sec-websocket-protocol'];
      this.tunnels.handleUpgrade(request, socket, head, (ws) => this.keep(serveSpdyPortForward(ws, connect, this.o.log)));
      return;
    }
    const ports = url.searchParams
      .getAll('port')
      .flatMap((p) => p.split(','))
      .map(Number);
    if (ports.length === 0 || ports.some((p) => !Number.isInteger(p) || p < 1 || p > 65535))
      throw new HttpError(400, 'port must be a number from 1 to 65535');
    this.sockets.handleUpgrade(request, socket, head, (ws) => void servePortForward(ws, ports, connect));
  }
}

const isWebSocket = (request: IncomingMessage) => request.headers.upgrade?.toLowerCase() === 'websocket';

/** Answers a request for SPDY/3.1 and gives the bare connection. Throws HttpError where no version in common is asked for. */
function acceptSpdy(request: IncomingMessage, socket: Duplex, head: Buffer, supported: string[]): Duplex {
  if (request.headers.upgrade?.toLowerCase() !== 'spdy/3.1')
    throw new HttpError(400, 'unable to upgrade: neither WebSocket nor SPDY/3.1 is asked for');
  const offered = [request.headers['x-stream-protocol-version'] ?? []].flat().flatMap((v) => v.split(',').map((p) => p.trim()));
  const version = supported.find((p) => offered.includes(p));
  if (!version)
    throw new HttpError(
      403,
      `unable to upgrade: unable to negotiate protocol: client supports [${offered.join(' ')}], server accepts [${supported.join(' ')}]`,
    );
  socket.write(`HTTP/1.1 101 Switching Protocols\r\nUpgrade: SPDY/3.1\r\nConnection: Upgrade\r\nX-Stream-Protocol-Version: ${version}\r\n\r\n`);
  if (head.length > 0) socket.unshift(head);
  return socket;
}

function choose(offered: Set<string>): string | false {
  for (const protocol of [...execProtocols, ...portForwardProtocols]) if (offered.has(protocol)) return protocol;
  return false;
}

function refuse(socket: Duplex, status: number, message: string): void {
  if (socket.destroyed) return;
  const body = `${message}\n`;
  socket.end(
    `HTTP/1.1 ${status} ${status === 404 ? 'Not Found' : 'Error'}\r\ncontent-type: text/plain\r\ncontent-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n${body}`,
  );
}
