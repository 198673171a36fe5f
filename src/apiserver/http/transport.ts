import { createHash } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { constants, type IncomingHttpHeaders, type ServerHttp2Session, type ServerHttp2Stream } from 'node:http2';
import type { Readable } from 'node:stream';
import type { TLSSocket } from 'node:tls';
import { tooLarge } from '../../api/errors.ts';
import type { Connections } from './connections.ts';
import type { HttpRequest, HttpResponse, Peer, ResponseStream } from './exchange.ts';
import type { Trust } from './trust.ts';

const peers = new WeakMap<object, Peer | 'invalid' | 'none'>();

/** The client certificate's subject, read once a connection. */
export function peerOf(socket: TLSSocket, trust: Trust): Peer | 'invalid' | undefined {
  let peer = peers.get(socket);
  if (peer === undefined) {
    peer = readPeer(socket, trust);
    peers.set(socket, peer);
  }
  return peer === 'none' ? undefined : peer;
}

function readPeer(socket: TLSSocket, trust: Trust): Peer | 'invalid' | 'none' {
  const certificate = typeof socket.getPeerCertificate === 'function' ? socket.getPeerCertificate() : undefined;
  if (!certificate || Object.keys(certificate).length === 0) return 'none';
  if (!socket.authorized) return 'invalid';
  const { CN, O } = certificate.subject as unknown as { CN?: string | string[]; O?: string | string[] };
  const commonName = Array.isArray(CN) ? CN.at(-1) : CN;
  if (!commonName) return 'invalid';
  const credentialId = `X509SHA256=${createHash('sha256').update(certificate.raw).digest('hex')}`;
  return { commonName, organizations: O === undefined ? [] : Array.isArray(O) ? O : [O], credentialId, ...trust.rolesOf(socket) };
}

/** One for all: a reason made for each request would cost a stack trace each. */
const clientGone = new Error('the client went away');

const noQuery = new URLSearchParams();

function splitUrl(url: string): { path: string; query: URLSearchParams } {
  const at = url.indexOf('?');
  return at < 0 ? { path: url, query: noQuery } : { path: url.slice(0, at), query: new URLSearchParams(url.slice(at + 1)) };
}

/** Collects a body; the limit holds for what was announced and for what comes. */
function readBody(stream: Readable, announced: string | undefined, limit: number, answer: NodeJS.EventEmitter = stream): Promise<Buffer> {
  const refuse = () => tooLarge(`Request entity too large: limit is ${limit}`);
  if (announced !== undefined && Number(announced) > limit) {
    stream.resume();
    return Promise.reject(refuse());
  }
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let size = 0;
    let refused = false;
    stream.on('data', (chunk: Buffer) => {
      if (refused) return;
      size += chunk.length;
      if (size > limit) {
        refused = true;
        chunks.length = 0;
        reject(refuse());
        return;
      }
      chunks.push(chunk);
    });
    stream.on('end', () => resolve(chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks)));
    stream.on('error', reject);
    // Of HTTP/1.1 it is the answer that closes: with its connection, and once it has been sent.
    answer.on('close', () => reject(new Error('the client went away while it sent the body')));
  });
}

const lingerMs = 500;

/** Names that mean the connection, not the message: HTTP/2 refuses them. */
const connectionHeaders = new Set(['connection', 'keep-alive', 'transfer-encoding', 'upgrade', 'proxy-connection']);

export function http2Exchange(
  stream: ServerHttp2Stream,
  headers: IncomingHttpHeaders,
  trust: Trust,
  connections: Connections,
): { request: HttpRequest; response: HttpResponse } {
  const url = headers[constants.HTTP2_HEADER_PATH] as string;
  const socket = (stream.session as ServerHttp2Session).socket as TLSSocket;
  let controller: AbortController | undefined;
  const request: HttpRequest = {
    method: headers[constants.HTTP2_HEADER_METHOD] as string,
    url,
    ...splitUrl(url),
    headers,
    peer: peerOf(socket, trust),
    remoteAddress: socket.remoteAddress ?? '',
    get signal() {
      if (!controller) {
        controller = new AbortController();
        if (stream.destroyed || stream.closed) controller.abort(clientGone);
        else stream.once('close', () => controller!.abort(clientGone));
      }
      return controller.signal;
    },
    body: (limit) => readBody(stream, headers['content-length'], limit),
    bodyStream: () => (stream.readableEnded ? undefined : stream),
  };
  const own: Record<string, string | string[]> = {};
  let status = 0;
  const begin = (code: number, more: Record<string, string | string[]>, endStream: boolean) => {
    status = code;
    if (stream.destroyed || stream.headersSent) return;
    const all: Record<string, string | string[] | number> = { [constants.HTTP2_HEADER_STATUS]: code };
    for (const set of [own, more]) for (const name in set) if (!connectionHeaders.has(name.toLowerCase())) all[name] = set[name]!;
    stream.respond(all, { endStream });
  };
  stream.on('error', () => {});
  const response: HttpResponse = {
    answeredAt: 0,
    answerBytes: 0,
    headers: own,
    get begun() {
      return status !== 0;
    },
    get status() {
      return status;
    },
    send(code, more, body) {
      const head = request.method === 'HEAD';
      const data = body && !head ? (Array.isArray(body) ? Buffer.concat(body) : body) : undefined;
      if (data && !connections.hasRoom(stream, data.length)) {
        status = code;
        stream.close(constants.NGHTTP2_ENHANCE_YOUR_CALM);
        return;
      }
      begin(code, more, !data);
      response.answeredAt = performance.now();
      response.answerBytes = data?.length ?? 0;
      if (data && !stream.destroyed) stream.end(data);
      if (stream.readableEnded) return;
      stream.resume();
      // A client still sending its body is told to stop, once it has its answer.
      if (!stream.endAfterHeaders && !stream.destroyed) stream.close(constants.NGHTTP2_NO_ERROR);
    },
    stream(code, more) {
      begin(code, more, false);
      return writableOf(stream, () => stream.close(constants.NGHTTP2_INTERNAL_ERROR));
    },
  };
  return { request, response };
}

function writableOf(stream: NodeJS.WritableStream & { destroyed?: boolean }, destroy: () => void): ResponseStream {
  return {
    write: (chunk) => (stream.destroyed ? true : stream.write(chunk)),
    onDrain: (listener) => void stream.on('drain', listener),
    end: () => {
      if (!stream.destroyed) stream.end();
    },
    destroy,
  };
}

export function http1Exchange(message: IncomingMessage, outgoing: ServerResponse, trust: Trust): { request: HttpRequest; response: HttpResponse } {
  const url = message.url ?? '/';
  const socket = message.socket as TLSSocket;
  let controller: AbortController | undefined;
  const request: HttpRequest = {
    method: message.method ?? 'GET',
    url,
    ...splitUrl(url),
    headers: message.headers,
    peer: peerOf(socket, trust),
    remoteAddress: socket.remoteAddress ?? '',
    get signal() {
      if (!controller) {
        controller = new AbortController();
        outgoing.once('close', () => controller!.abort(clientGone));
      }
      return controller.signal;
    },
    body: (limit) => readBody(message, message.headers['content-length'], limit, outgoing),
    bodyStream: () => (message.readableEnded ? undefined : message),
  };
  const own: Record<string, string | string[]> = {};
  let status = 0;
  outgoing.on('error', () => {});
  const response: HttpResponse = {
    answeredAt: 0,
    answerBytes: 0,
    headers: own,
    get begun() {
      return status !== 0;
    },
    get status() {
      return status;
    },
    send(code, more, body) {
      status = code;
      if (outgoing.headersSent || outgoing.destroyed) return;
      const data = body ? (Array.isArray(body) ? Buffer.concat(body) : body) : Buffer.alloc(0);
      outgoing.writeHead(code, { ...own, ...more, 'content-length': String(data.length) });
      response.answeredAt = performance.now();
      response.answerBytes = data.length;
      outgoing.end(request.method === 'HEAD' ? undefined : data);
      if (!message.readableEnded) message.resume();
    },
    abandon() {
      if (message.complete || socket.destroyed) return;
      // Closed at once, the answer might be lost with what the client is still sending.
      setTimeout(() => socket.destroy(), lingerMs).unref();
    },
    stream(code, more) {
      status = code;
      outgoing.writeHead(code, { ...own, ...more });
      outgoing.flushHeaders();
      return writableOf(outgoing, () => outgoing.destroy());
    },
  };
  return { request, response };
}
