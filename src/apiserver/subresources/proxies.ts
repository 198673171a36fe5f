import { type IncomingMessage, request as httpRequest } from 'node:http';
import type { Socket } from 'node:net';
import { gunzipSync } from 'node:zlib';
import { badRequest, internalError } from '../../api/errors.ts';
import type { Api, Call } from '../api.ts';
import type { HttpRequest, HttpResponse } from '../http/exchange.ts';
import { type Destination, logDestination, openConnection, proxyDestination } from './connections.ts';
import { rewriteLinks, throughProxy } from './html-links.ts';

/** Subresources that are answered by a kubelet, a pod or a service. Those that upgrade the connection are in upgrade.ts. */
export const proxies: Record<
  string,
  ((api: Api, request: HttpRequest, response: HttpResponse, call: Call, rest: string) => Promise<void>) | undefined
> = {
  'pods/log': async (api, request, response, call) => {
    const to = await logDestination(api, call, request.query);
    if (!to) {
      response.send(200, { 'content-type': 'text/plain' }, Buffer.alloc(0));
      return;
    }
    await forward(api, request, response, to, { method: 'GET', body: false });
  },
  'pods/exec': upgradeRequired,
  'pods/attach': upgradeRequired,
  'pods/portforward': upgradeRequired,
  'nodes/proxy': forwardAll,
  'pods/proxy': forwardAll,
  'services/proxy': forwardAll,
};

async function upgradeRequired(): Promise<void> {
  throw badRequest('Upgrade request required');
}

async function forwardAll(api: Api, request: HttpRequest, response: HttpResponse, call: Call, rest: string): Promise<void> {
  const query = request.url.indexOf('?');
  // Relative links of the page behind must lead somewhere: its root ends in a slash.
  if (request.path.endsWith('/proxy') && (request.method === 'GET' || request.method === 'HEAD')) {
    response.send(301, { location: `${request.path}/${query < 0 ? '' : request.url.slice(query)}` });
    return;
  }
  const to = await proxyDestination(api, call, rest, query < 0 ? '' : request.url.slice(query));
  await forward(api, request, response, to, {
    method: request.method,
    body: request.method !== 'GET' && request.method !== 'HEAD',
    prefix: request.path.slice(0, request.path.length - rest.length),
  });
}

/** Belongs to one connection, or to this server: never passed on. */
const notPassed = new Set([
  'connection',
  'keep-alive',
  'transfer-encoding',
  'upgrade',
  'te',
  'trailer',
  'proxy-authorization',
  'proxy-connection',
  'host',
  'authorization',
  'http2-settings',
]);

export function passedHeaders(request: Pick<HttpRequest, 'headers'>): Record<string, string | string[]> {
  const headers: Record<string, string | string[]> = {};
  for (const [name, value] of Object.entries(request.headers)) {
    if (value === undefined || name.startsWith(':') || notPassed.has(name) || name.startsWith('impersonate-')) continue;
    headers[name] = value;
  }
  return headers;
}

async function forward(
  api: Api,
  request: HttpRequest,
  response: HttpResponse,
  to: Destination,
  how: {
    method: string;
    body: boolean;
    /** The path behind which a web page stands: its links are led through here. */
    prefix?: string;
  },
): Promise<void> {
  const connection = await openConnection(api, to, request.signal);
  const headers = passedHeaders(request);
  if (!how.body) delete headers['content-length'];
  headers['host'] = `${to.host}:${to.port}`;
  if (request.remoteAddress) headers['x-forwarded-for'] = request.remoteAddress;
  await new Promise<void>((resolve, reject) => {
    const outgoing = httpRequest({ method: how.method, path: to.path, headers, createConnection: () => connection as Socket, setHost: false });
    // A connection through a VPC's agent comes paused, so that nothing is lost before somebody reads.
    outgoing.on('socket', (socket) => socket.resume());
    const stop = () => {
      outgoing.destroy();
      connection.destroy();
    };
    request.signal.addEventListener('abort', stop, { once: true });
    api.stopping.addEventListener('abort', stop, { once: true });
    const done = () => {
      request.signal.removeEventListener('abort', stop);
      api.stopping.removeEventListener('abort', stop);
      connection.destroy();
    };
    outgoing.on('error', (error) => {
      done();
      if (response.begun || request.signal.aborted) resolve();
      else reject(internalError(`error trying to reach service: ${error.message}`));
    });
    outgoing.on('response', (incoming) => {
      const answer: Record<string, string | string[]> = {};
      for (const [name, value] of Object.entries(incoming.headers)) if (value !== undefined && !notPassed.has(name)) answer[name] = value;
      if (how.prefix !== undefined && typeof answer['location'] === 'string')
        answer['location'] = throughProxy(answer['location'], how.prefix, `${to.host}:${to.port}`);
      if (how.prefix !== undefined && how.method !== 'HEAD' && isRewritable(incoming)) {
        sendPage(response, incoming, answer, (page) => rewriteLinks(page, how.prefix as string, `${to.host}:${to.port}`)).then(
          () => {
            done();
            resolve();
          },
          (error) => {
            done();
            reject(internalError(`error trying to reach service: ${error.message}`));
          },
        );
        return;
      }
      const stream = response.stream(incoming.statusCode ?? 502, answer);
      stream.onDrain(() => incoming.resume());
      incoming.on('data', (chunk: Buffer) => {
        if (!stream.write(chunk)) incoming.pause();
      });
      incoming.on('end', () => {
        stream.end();
        done();
        resolve();
      });
      incoming.on('error', () => {
        stream.destroy();
        done();
        resolve();
      });
    });
    const body = how.body ? request.bodyStream() : undefined;
    if (body) body.pipe(outgoing);
    else outgoing.end();
  });
}

/** Larger pages pass as they are. */
const pageLimit = 10 * 1024 * 1024;

function isRewritable(incoming: IncomingMessage): boolean {
  const { 'content-type': type = '', 'content-encoding': encoding = '', 'content-length': length } = incoming.headers;
  return /^text\/html\b/i.test(type) && ['', 'identity', 'gzip'].includes(encoding) && Number(length ?? 0) <= pageLimit;
}

/** A web page, whole, as `change` makes it. */
async function sendPage(
  response: HttpResponse,
  incoming: IncomingMessage,
  headers: Record<string, string | string[]>,
  change: (page: string) => string,
): Promise<void> {
  const chunks: Buffer[] = [];
  for await (const chunk of incoming) chunks.push(chunk as Buffer);
  let page = Buffer.concat(chunks);
  if (headers['content-encoding'] === 'gzip' && page.length) page = gunzipSync(page, { maxOutputLength: 4 * pageLimit });
  const { 'content-length': _length, 'content-encoding': _encoding, ...rest } = headers;
  // Bytes of other encodings than UTF-8 stay as they are: links are ASCII.
  const changed = Buffer.from(change(page.toString('latin1')), 'latin1');
  response.send(incoming.statusCode ?? 502, { ...rest, 'content-length': String(changed.length) }, changed);
}
