import { createHash } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Readable } from 'node:stream';
import type { TLSSocket } from 'node:tls';
import { tooLarge } from '../../api/errors.ts';
import type { Fields } from '../http2/fields.ts';
import type { Http2Stream } from '../http2/stream.ts';
import { clientGone, type HttpRequest, type HttpResponse, type Peer, type ResponseStream, sizeOf } from './exchange.ts';
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

const noQuery = new URLSearchParams();

function splitUrl(url: string): { path: string; query: URLSearchParams } {
  const at = url.indexOf('?');
  return at < 0 ? { path: url, query: noQuery } : { path: url.slice(0, at), query: new URLSearchParams(url.slice(at + 1)) };
}

/** Collects a body; the limit holds for what was announced and for what comes. */
function readBody(stream: Readable, announced: string | undefined, limit: number, answer: NodeJS.EventEmitter): Promise<Buffer> {
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
    // It is the answer that closes: with its connection, and once it has been sent.
    answer.on('close', () => reject(new Error('the client went away while it sent the body')));
  });
}

const lingerMs = 500;

/** A request on an HTTP/2 stream. A class, since one is made for every request. */
class Http2Request implements HttpRequest {
  readonly method: string;
  readonly url: string;
  readonly path: string;
  readonly query: URLSearchParams;
  readonly headers: Record<string, string | undefined>;
  readonly peer: Peer | 'invalid' | undefined;
  readonly remoteAddress: string;
  /** Not private: the audit's request is made with this one as prototype. */
  protected readonly incoming: Http2Stream;

  constructor(stream: Http2Stream, fields: Fields, peer: Peer | 'invalid' | undefined) {
    this.incoming = stream;
    this.method = fields.method;
    this.url = fields.url;
    const { path, query } = splitUrl(fields.url);
    this.path = path;
    this.query = query;
    this.headers = fields.headers;
    this.peer = peer;
    this.remoteAddress = stream.connection.remoteAddress;
  }

  get signal(): AbortSignal {
    return this.incoming.signal;
  }

  body(limit: number): Promise<Buffer> {
    return this.incoming.body(limit);
  }

  bodyStream(): NodeJS.ReadableStream | undefined {
    return this.incoming.bodyStream();
  }
}

class Http2Response implements HttpResponse {
  readonly headers: Record<string, string | string[]> = {};
  status = 0;
  readonly #outgoing: Http2Stream;
  readonly #head: boolean;

  constructor(stream: Http2Stream, head: boolean) {
    this.#outgoing = stream;
    this.#head = head;
  }

  get begun(): boolean {
    return this.status !== 0;
  }

  get answeredAt(): number {
    return this.#outgoing.answeredAt;
  }

  get answerBytes(): number {
    return this.#outgoing.answerBytes;
  }

  send(status: number, more: Record<string, string | string[]>, body?: Buffer | Buffer[]): void {
    this.status = status;
    const parts = Array.isArray(body) ? body : body && [body];
    if (this.#head && parts) this.#outgoing.begin(status, this.headers, more, true, sizeOf(parts));
    else this.#outgoing.send(status, this.headers, more, parts);
  }

  abandon(): void {
    this.#outgoing.abandon();
  }

  stream(status: number, more: Record<string, string | string[]>): ResponseStream {
    this.status = status;
    this.#outgoing.streaming = true;
    this.#outgoing.begin(status, this.headers, more, false);
    return this.#outgoing;
  }
}

export function http2Exchange(stream: Http2Stream, fields: Fields, trust: Trust): { request: HttpRequest; response: HttpResponse } {
  const request = new Http2Request(stream, fields, peerOf(stream.connection.socket, trust));
  return { request, response: new Http2Response(stream, fields.method === 'HEAD') };
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
      response.answeredAt = performance.now();
      response.answerBytes = data.length;
      outgoing.writeHead(code, { ...own, ...more, 'content-length': String(data.length) });
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
