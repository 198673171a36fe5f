import { rm } from 'node:fs/promises';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import type { Server as TlsServer, TLSSocket } from 'node:tls';
import type { Api } from '../api.ts';
import { handle } from '../handler.ts';
import { Http2Connection } from '../http2/connection.ts';
import type { Http2Stream } from '../http2/stream.ts';
import { type ConnectionLimits, Http1Answers } from './connections.ts';
import { http1Exchange, http2Exchange } from './transport.ts';
import { handleUpgrade } from './upgrade.ts';

const tlsOptions = { minVersion: 'TLSv1.2' } as const;

/** Milliseconds between two looks at connections that are idle or stalled. */
const lookMs = 5000;

/** Requests that are being served. */
export class InFlight {
  #count = 0;
  #idle: (() => void)[] = [];

  /** The work's own promise; it must not reject. */
  track(work: Promise<void>): Promise<void> {
    this.#count++;
    return work.then(this.#leave);
  }

  #leave = (): void => {
    if (--this.#count > 0) return;
    for (const resolve of this.#idle.splice(0)) resolve();
  };

  idle(): Promise<void> {
    return this.#count === 0 ? Promise.resolve() : new Promise((resolve) => this.#idle.push(resolve));
  }
}

/** What is no HTTP/1.1 at all: told so where the connection still takes an answer, and closed. */
function refuseUnreadable(error: Error, socket: Duplex): void {
  if (!socket.writable || (error as { code?: string }).code === 'ECONNRESET') {
    socket.destroy();
    return;
  }
  const status = unreadable[(error as { code?: string }).code ?? ''] ?? '400 Bad Request';
  const head = `HTTP/1.1 ${status}\r\ncontent-type: text/plain; charset=utf-8\r\nconnection: close\r\ncontent-length: ${status.length}\r\n\r\n`;
  socket.end(head + status, () => socket.destroy());
}
const unreadable: Record<string, string | undefined> = {
  HPE_HEADER_OVERFLOW: '431 Request Header Fields Too Large',
  ERR_HTTP_REQUEST_TIMEOUT: '408 Request Timeout',
};

export interface Listening {
  address: AddressInfo;
  /** Certificates of connections from now on; PEM. */
  updateCertificates(tls: { cert: string; key: string }, clientCa: string): void;
  /** Takes no new connections; resolves when the last one is closed. */
  close(): Promise<void>;
  destroyConnections(): void;
}

/**
 * Serves HTTP/2 and HTTP/1.1 over TLS at an address or the path of a socket. HTTP/1.1, with what is upgraded from it, is node:https's.
 * Rejects where it cannot listen.
 */
export async function listen(
  api: Api,
  tls: { cert: string; key: string },
  inFlight: InFlight,
  limits: ConnectionLimits,
  where: { host?: string; port?: number; path?: string },
): Promise<Listening> {
  const secure = {
    requestCert: true,
    // Who has no certificate may have a token: the handler decides.
    rejectUnauthorized: false,
    ALPNProtocols: ['h2', 'http/1.1'],
    ...tlsOptions,
  };
  // As long as upstream's: a client must not find a connection closed that it is about to use again.
  const server: Server = createServer({ ...tls, ca: api.trust.pem, ...secure, noDelay: true, keepAliveTimeout: 90_000 });
  const sockets = new Set<Duplex>();
  const connections = new Set<Http2Connection>();
  const answers = new Http1Answers(limits);
  const serve = (stream: Http2Stream): Promise<void> => {
    const { request, response } = http2Exchange(stream, stream.fields!, api.trust);
    return inFlight.track(handle(api, request, response));
  };
  const serveHttp1 = server.listeners('secureConnection') as ((socket: TLSSocket) => void)[];
  server.removeAllListeners('secureConnection');
  server.on('secureConnection', (socket: TLSSocket) => {
    socket.setNoDelay(true);
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    socket.on('error', () => {});
    if (socket.alpnProtocol !== 'h2') {
      for (const listener of serveHttp1) listener.call(server, socket);
      return;
    }
    const connection = new Http2Connection(socket, serve, limits);
    connections.add(connection);
    socket.on('close', () => connections.delete(connection));
  });
  server.on('tlsClientError', (error) => {
    api.metrics.tlsFailed();
    api.log.debug({ err: error.message }, 'TLS handshake failed');
  });
  server.on('request', (message: IncomingMessage, response: ServerResponse) => {
    const exchange = http1Exchange(message, response, api.trust);
    answers.add(response, exchange.response);
    void inFlight.track(handle(api, exchange.request, exchange.response));
  });
  server.on('upgrade', (message, socket, head) => {
    void handleUpgrade(api, message, socket, head);
  });
  server.on('clientError', refuseUnreadable);
  server.setTimeout(0);
  const looking = setInterval(() => {
    const now = performance.now();
    answers.look(now);
    for (const connection of connections) connection.look(now);
  }, Math.min(lookMs, Math.max(50, Math.min(limits.idleMs, limits.answerMs) / 10))).unref();
  if (where.path) await rm(where.path, { force: true });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(where, () => {
      server.removeListener('error', reject);
      resolve();
    });
  }).catch((error) => {
    clearInterval(looking);
    throw error;
  });
  server.on('error', (error) => api.log.error({ err: error }, 'a listener failed'));
  return {
    address: server.address() as AddressInfo,
    updateCertificates: (next, clientCa) => (server as unknown as TlsServer).setSecureContext({ ...secure, ...next, ca: clientCa }),
    close: () =>
      new Promise((resolve) => {
        server.close(() => {
          clearInterval(looking);
          resolve();
        });
        // Idle connections need not be waited for.
        for (const connection of connections) connection.leave();
      }),
    destroyConnections() {
      for (const connection of connections) connection.destroy();
      for (const socket of sockets) socket.destroy();
    },
  };
}
