import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import type { TLSSocket } from 'node:tls';
import { badRequest, internalError, StatusError } from '../../api/errors.ts';
import type { Api } from '../api.ts';
import { authenticate, impersonate } from '../authn/authenticate.ts';
import { headersFor, availableServer } from '../extensions/aggregation/proxy.ts';
import { parseRequestInfo } from '../request.ts';
import { type Destination, openConnection, proxyDestination, streamDestination } from '../subresources/connections.ts';
import { admitConnection } from '../subresources/connect-options.ts';
import { passedHeaders, proxies } from '../subresources/proxies.ts';
import type { HttpRequest } from './exchange.ts';
import { callOf } from './parameters.ts';
import { pathNotFound } from './routes.ts';
import { peerOf } from './transport.ts';
import { wantsWebSocket, webSocketResponse } from './websocket-reader.ts';

const streaming = new Set(['exec', 'attach', 'portforward']);

/** An HTTP/1.1 request that asks for another protocol: exec, attach, port-forward, proxies and whatever an aggregated server takes. Joined to the other side byte by byte. */
export async function handleUpgrade(api: Api, message: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
  const gone = new AbortController();
  socket.on('close', () => gone.abort());
  socket.on('error', () => gone.abort());
  try {
    const url = message.url ?? '/';
    const at = url.indexOf('?');
    const path = at < 0 ? url : url.slice(0, at);
    const query = new URLSearchParams(at < 0 ? '' : url.slice(at + 1));
    const request: HttpRequest = {
      method: message.method ?? 'GET',
      url,
      path,
      query,
      headers: withProtocolToken(message.headers),
      peer: peerOf(socket as TLSSocket, api.trust),
      remoteAddress: (socket as TLSSocket).remoteAddress ?? '',
      signal: gone.signal,
      body: async () => Buffer.alloc(0),
      bodyStream: () => undefined,
    };
    const info = parseRequestInfo(request.method, path, query);
    const user = await impersonate(api, request, await authenticate(api, request));
    const attributes = {
      user,
      group: info.group,
      version: info.version,
      resource: info.resource,
      subresource: info.subresource,
      namespace: info.namespace,
      name: info.name,
    };
    if (!info.isResource) throw pathNotFound();
    let permit = await api.authorizer.check({ ...attributes, verb: info.verb });
    const remote = api.aggregator.find(info.group, info.version);
    if (remote) {
      const { server } = remote;
      const backend = await availableServer(remote).connect();
      join(api, request, message, socket, head, { backend, host: server.serverName, path: url, headers: headersFor(request, permit) });
      return;
    }
    const target = api.registry.find(info.group, info.version, info.resource);
    if (!target?.served.subresources.some((s) => s.name === info.subresource)) throw pathNotFound();
    // A WebSocket comes as GET: whoever may only read must not run commands by it.
    if (streaming.has(info.subresource) && info.verb !== 'create') permit = await api.authorizer.check({ ...attributes, verb: 'create' });
    const call = callOf(request, info, target, permit);
    if (info.resource === 'pods' && info.subresource === 'log' && info.verb === 'get' && wantsWebSocket(message)) {
      await proxies['pods/log']!(api, { ...request, headers: {} }, webSocketResponse(message, socket, head), call, '');
      return;
    }
    await admitConnection(api, call, query, info.rest);
    let to: Destination;
    if (info.resource === 'pods' && streaming.has(info.subresource)) to = await streamDestination(api, call, query);
    else if (info.subresource === 'proxy') to = await proxyDestination(api, call, info.rest, at < 0 ? '' : url.slice(at));
    else throw badRequest('this resource does not take upgrades');
    const backend = await openConnection(api, to, request.signal);
    join(api, request, message, socket, head, { backend, host: `${to.host}:${to.port}`, path: to.path, headers: passedHeaders(request) });
  } catch (error) {
    const status = error instanceof StatusError ? error : internalError((error as Error).message);
    if (!(error instanceof StatusError)) api.log.error({ err: error, path: message.url }, 'an upgrade failed');
    refuse(socket, status);
  }
}

/** Browsers cannot set Authorization: they send the token as a WebSocket protocol, which is not passed on. */
function withProtocolToken(headers: IncomingMessage['headers']): Record<string, string | string[] | undefined> {
  const offered = headers['sec-websocket-protocol'];
  if (!offered || headers.authorization) return headers;
  const prefix = 'base64url.bearer.authorization.k8s.io.';
  const protocols = offered.split(',').map((p) => p.trim());
  const token = protocols.find((p) => p.startsWith(prefix));
  if (!token) return headers;
  return {
    ...headers,
    authorization: `Bearer ${Buffer.from(token.slice(prefix.length), 'base64url').toString('utf8')}`,
    'sec-websocket-protocol': protocols.filter((p) => p !== token).join(', '),
  };
}

interface OtherSide {
  backend: Duplex;
  /** For its Host header. */
  host: string;
  path: string;
  headers: Record<string, string | string[]>;
}

function join(api: Api, request: HttpRequest, message: IncomingMessage, socket: Duplex, head: Buffer, to: OtherSide): void {
  const { backend } = to;
  // Whoever asked may have gone while the other side was being reached.
  if (request.signal.aborted) {
    backend.destroy();
    return;
  }
  const lines = [
    `${request.method} ${to.path} HTTP/1.1`,
    `Host: ${to.host}`,
    'Connection: Upgrade',
    `Upgrade: ${message.headers.upgrade}`,
  ];
  for (const [name, value] of Object.entries(to.headers)) {
    for (const one of Array.isArray(value) ? value : [value]) lines.push(`${name}: ${one}`);
  }
  const end = () => {
    socket.destroy();
    backend.destroy();
  };
  api.stopping.addEventListener('abort', end, { once: true });
  for (const side of [socket, backend]) {
    side.on('error', end);
    side.on('close', () => {
      api.stopping.removeEventListener('abort', end);
      end();
    });
  }
  backend.write(`${lines.join('\r\n')}\r\n\r\n`);
  if (head.length > 0) backend.write(head);
  (socket as TLSSocket).setNoDelay?.(true);
  backend.pipe(socket);
  socket.pipe(backend);
}

function refuse(socket: Duplex, error: StatusError): void {
  if (socket.destroyed) return;
  const body = JSON.stringify(error.status);
  socket.end(
    `HTTP/1.1 ${error.code} ${error.reason || 'Error'}\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n${body}`,
  );
}
