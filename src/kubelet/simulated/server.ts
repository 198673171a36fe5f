import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, type Server } from 'node:https';
import { type Duplex, duplexPair, Readable } from 'node:stream';
import type { TLSSocket } from 'node:tls';
import { WebSocketServer } from 'ws';
import type { Pod } from '../../api/generated/types.ts';
import type { StreamSession } from '../../runtime/cri.ts';
import { execProtocols, serveStreams } from '../server/streams.ts';
import { logText, type PodBehaviour } from './behaviour.ts';
import type { SimulatedNode, Stage } from './status.ts';

/** What the nodes' HTTPS needs. */
export interface SimulatedKubeletKeys {
  /** PEM of the authority of the API server's client certificate. */
  clientCa: string;
  /** Common name of that certificate: nobody else is answered. */
  clientName: string;
  /** A serving certificate for a node. */
  issue(node: SimulatedNode): Promise<{ cert: string; key: string }>;
}

type Find = (node: string, namespace: string, pod: string) => { pod: Pod; behaviour: PodBehaviour; stage: Stage | undefined } | undefined;

/** The kubelet API of simulated nodes: logs and exec, answered from behaviour. No port is opened: connections come by connect(). */
export class SimulatedKubeletApi {
  private readonly keys: SimulatedKubeletKeys;
  private readonly find: Find;
  private readonly servers = new Map<string, Promise<Server>>();
  private readonly open = new Map<string, Set<Duplex>>();
  private readonly sockets = new WebSocketServer({
    noServer: true,
    perMessageDeflate: false,
    handleProtocols: (offered) => execProtocols.find((p) => offered.has(p)) ?? false,
  });

  constructor(keys: SimulatedKubeletKeys, find: Find, signal: AbortSignal) {
    this.keys = keys;
    this.find = find;
    signal.addEventListener('abort', () => [...this.open.keys()].forEach((name) => this.drop(name)), { once: true });
  }

  /** A connection to the node's server, which is made with the first one. */
  async connect(node: SimulatedNode): Promise<Duplex> {
    let server = this.servers.get(node.name);
    if (!server) this.servers.set(node.name, (server = this.serve(node)));
    const [near, far] = duplexPair();
    const open = this.open.get(node.name) ?? new Set();
    this.open.set(node.name, open);
    open.add(far);
    far.on('close', () => open.delete(far));
    far.on('error', () => {});
    (await server).emit('connection', far);
    return near;
  }

  /** Ends the node's connections. */
  drop(name: string): void {
    for (const socket of this.open.get(name) ?? []) socket.destroy();
    this.open.delete(name);
    this.servers.delete(name);
  }

  private async serve(node: SimulatedNode): Promise<Server> {
    const pair = await this.keys.issue(node);
    const server = createServer({ ...pair, ca: this.keys.clientCa, requestCert: true, rejectUnauthorized: true, minVersion: 'TLSv1.2' });
    server.on('tlsClientError', () => {});
    server.on('request', (request, response) => this.answer(node, request, response));
    server.on('upgrade', (request, socket, head) => this.upgrade(node, request, socket, head));
    return server;
  }

  private allowed(request: IncomingMessage): boolean {
    return (request.socket as TLSSocket).getPeerCertificate()?.subject?.CN === this.keys.clientName;
  }

  private answer(node: SimulatedNode, request: IncomingMessage, response: ServerResponse): void {
    const say = (status: number, body: string) => void response.writeHead(status, { 'content-type': 'text/plain; charset=utf-8' }).end(body);
    if (!this.allowed(request)) return say(403, 'Forbidden\n');
    const url = new URL(request.url ?? '/', 'https://kubelet');
    const [first, namespace = '', name = '', container = ''] = url.pathname.split('/').filter(Boolean).map(decodeURIComponent);
    if (first === 'healthz') return say(200, 'ok');
    if (first !== 'containerLogs') return say(404, '404 page not found\n');
    const found = this.find(node.name, namespace, name);
    if (!found) return say(404, `pod "${name}" not found\n`);
    if (url.searchParams.get('previous') === 'true') return say(400, `previous terminated container "${container}" in pod "${name}" not found\n`);
    if (found.stage === undefined || found.stage === 'waiting')
      return say(400, `container "${container}" in pod "${name}" is waiting to start: ${found.behaviour.waiting?.reason ?? 'ContainerCreating'}\n`);
    say(200, selectLines(logText(found.pod, container, found.behaviour), url.searchParams, found.pod));
  }

  private upgrade(node: SimulatedNode, request: IncomingMessage, socket: Duplex, head: Buffer): void {
    const refuse = (status: string, text: string) =>
      void socket.end(`HTTP/1.1 ${status}\r\ncontent-type: text/plain\r\nconnection: close\r\n\r\n${text}\n`);
    if (!this.allowed(request)) return refuse('403 Forbidden', 'Forbidden');
    const url = new URL(request.url ?? '/', 'https://kubelet');
    const [first, namespace = '', name = ''] = url.pathname.split('/').filter(Boolean).map(decodeURIComponent);
    const found = this.find(node.name, namespace, name);
    if (first !== 'exec') return refuse('501 Not Implemented', `a simulated pod has no ${first}`);
    if (!found) return refuse('404 Not Found', `pod "${name}" not found`);
    const command = url.searchParams.getAll('command');
    this.sockets.handleUpgrade(request, socket, head, (ws) => {
      void serveStreams(ws, async () => session(command, found.behaviour), command);
    });
  }
}

/** tailLines, limitBytes and timestamps of a log request. Lines of a simulated log are as old as their container. */
function selectLines(text: string, query: URLSearchParams, pod: Pod): string {
  let lines = text.split('\n').slice(0, -1);
  const tail = query.get('tailLines');
  if (tail !== null) lines = Number(tail) === 0 ? [] : lines.slice(-Number(tail));
  const startedAt = pod.status?.startTime ?? '';
  if (query.get('timestamps') === 'true') lines = lines.map((line) => `${startedAt.replace('Z', '.000000000Z')} ${line}`);
  const body = lines.map((line) => `${line}\n`).join('');
  const limit = query.get('limitBytes');
  return limit === null ? body : Buffer.from(body).subarray(0, Number(limit)).toString();
}

function session(command: string[], behaviour: PodBehaviour): StreamSession {
  const answer = behaviour.exec?.[command.join(' ')] ?? behaviour.exec?.['*'];
  if (!answer) throw new Error(`this pod is simulated: its behaviour has no answer for the command "${command.join(' ')}"`);
  return {
    stdin: undefined,
    stdout: Readable.from(answer.stdout ? [Buffer.from(answer.stdout)] : []),
    stderr: Readable.from(answer.stderr ? [Buffer.from(answer.stderr)] : []),
    exitCode: Promise.resolve(answer.exitCode ?? 0),
    resize: () => {},
    close: () => {},
  } as unknown as StreamSession;
}
