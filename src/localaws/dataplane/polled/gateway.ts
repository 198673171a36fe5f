import { Agent, createServer, type IncomingMessage, request as requestPlain, type Server, type ServerResponse } from 'node:http';
import { Agent as SecureAgent, request as requestSecure } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import type { Logger } from 'pino';
import { foreign } from '../../foreign.ts';
import type { Registry } from '../../registry/registry.ts';

export interface GatewayOptions {
  endpoint: string;
  /** Of the endpoint's ECR. Without it, the endpoint has one of its own. */
  registry?: Registry;
  log: Logger;
}

const isRegistry = (message: IncomingMessage) => /^\/v2(\/|$|\?)/.test(message.url ?? '');

/** What an endpoint elsewhere is to instances (its API and its registry, at one address), and on the host its registry alone. */
export class Gateway {
  private readonly o: GatewayOptions;
  private readonly url: URL;
  private readonly agent: Agent;
  private readonly inside: Server;
  private readonly host: Server;
  private readonly sockets = new Set<Socket>();

  constructor(o: GatewayOptions) {
    this.o = o;
    this.url = new URL(o.endpoint);
    this.agent = this.url.protocol === 'https:' ? new SecureAgent({ keepAlive: true }) : new Agent({ keepAlive: true });
    this.inside = this.serve((message, response) => this.forward(message, response));
    this.host = this.serve((message, response) => {
      const refusal = foreign(message);
      if (refusal) return void response.writeHead(403, { 'content-type': 'text/plain', connection: 'close' }).end(`${refusal}\n`);
      if (isRegistry(message)) return this.forward(message, response);
      response.writeHead(404, { 'content-type': 'text/plain' }).end(`this is the registry of ${o.endpoint}, whose API is there\n`);
    });
  }

  /** Takes a connection that an instance made to the endpoint's address in its VPC. */
  handleConnection(socket: Socket): void {
    this.inside.emit('connection', socket);
  }

  /** Serves the registry on loopback; resolves to its port. Rejects with EADDRINUSE where that is taken. */
  async listen(port: number): Promise<number> {
    await new Promise<void>((resolve, reject) => {
      this.host.once('error', reject);
      this.host.listen(port, '127.0.0.1', () => {
        this.host.off('error', reject);
        resolve();
      });
    });
    return (this.host.address() as AddressInfo).port;
  }

  stop(): void {
    this.host.close();
    for (const socket of this.sockets) socket.destroy();
    this.agent.destroy();
  }

  private serve(otherwise: (message: IncomingMessage, response: ServerResponse) => void): Server {
    const server = createServer({ keepAliveTimeout: 30_000 }, (message, response) => {
      if (isRegistry(message) && this.o.registry && !foreign(message)) void this.o.registry.answer(message, response);
      else otherwise(message, response);
    });
    // Pushes of large layers take as long as they take; a request without progress ends by its socket's timeout.
    server.requestTimeout = 0;
    server.timeout = 120_000;
    server.on('connection', (socket: Socket) => {
      this.sockets.add(socket);
      socket.on('close', () => this.sockets.delete(socket));
      socket.on('error', (error) => this.o.log.debug({ err: error }, 'a connection failed'));
    });
    return server;
  }

  /** Headers pass as they are, for they are signed. */
  private forward(message: IncomingMessage, response: ServerResponse): void {
    const { url } = this;
    const far = (url.protocol === 'https:' ? requestSecure : requestPlain)({
      agent: this.agent,
      host: url.hostname.replace(/^\[|\]$/g, ''),
      port: url.port || (url.protocol === 'https:' ? 443 : 80),
      method: message.method,
      path: message.url,
      headers: message.rawHeaders,
      setHost: false,
    });
    far.on('response', (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.statusMessage, answer.rawHeaders);
      answer.pipe(response);
      answer.on('error', () => response.destroy());
    });
    far.on('error', (error) => {
      if (response.headersSent) return void response.destroy();
      response.writeHead(502, { 'content-type': 'text/plain', connection: 'close' }).end(`${this.o.endpoint} does not answer: ${error.message}\n`);
    });
    response.on('close', () => far.destroy());
    message.pipe(far);
  }
}

/** Whether an endpoint serves images itself, as `kumulus aws serve` does. */
export async function hasRegistry(endpoint: string): Promise<boolean> {
  const answer = await fetch(new URL('/v2/', endpoint), { signal: AbortSignal.timeout(10_000) }).catch(() => undefined);
  await answer?.body?.cancel();
  return answer?.headers.has('docker-distribution-api-version') ?? false;
}
