import { request as httpRequest, Agent as HttpAgent, type IncomingMessage } from 'node:http';
import { request as httpsRequest, Agent as HttpsAgent } from 'node:https';
import type { Readable } from 'node:stream';

export interface HttpResponse {
  status: number;
  headers: Record<string, string>;
  body: IncomingMessage;
  /** The address answered from, after redirects. */
  url: URL;
}

// proxyEnv (HTTP_PROXY, HTTPS_PROXY, NO_PROXY) is known to Node from 24.5 on; older ones ignore it.
// A connection that rests for long may have been forgotten at its other end, or in between, with no word of it: a request on it would wait in vain.
const agentOptions = { keepAlive: true, maxSockets: 16, timeout: 5000, proxyEnv: process.env } as object;
const agents = { 'http:': new HttpAgent(agentOptions), 'https:': new HttpsAgent(agentOptions) };

/** Milliseconds without a byte after which a connection counts as dead. */
const idleTimeout = 60_000;

/**
 * One HTTP exchange; the body is a stream that the caller must read or destroy. Redirects of GET and HEAD are followed, without the
 * Authorization header where they lead to another host. Throws what the socket threw, or a time-out that names the address.
 */
export async function http(
  url: URL,
  o: { method?: string; headers?: Record<string, string>; body?: Buffer | Readable; signal?: AbortSignal | undefined; timeout?: number } = {},
): Promise<HttpResponse> {
  const method = o.method ?? 'GET';
  let headers = o.headers ?? {};
  for (let hop = 0; ; hop++) {
    const response = await once(url, method, headers, o);
    const location = response.headers['location'];
    if (![301, 302, 303, 307, 308].includes(response.statusCode!) || !location || (method !== 'GET' && method !== 'HEAD')) {
      const flat = Object.fromEntries(Object.entries(response.headers).map(([k, v]) => [k, Array.isArray(v) ? v.join(', ') : (v ?? '')]));
      return { status: response.statusCode!, headers: flat, body: response, url };
    }
    response.resume();
    if (hop === 10) throw new Error(`too many redirects from ${url.origin}`);
    const next = new URL(location, url);
    if (next.host !== url.host) headers = Object.fromEntries(Object.entries(headers).filter(([name]) => name.toLowerCase() !== 'authorization'));
    url = next;
  }
}

function once(
  url: URL,
  method: string,
  headers: Record<string, string>,
  o: { body?: Buffer | Readable; signal?: AbortSignal | undefined; timeout?: number },
): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const secure = url.protocol === 'https:';
    const make = secure ? httpsRequest : httpRequest;
    const timeout = o.timeout ?? idleTimeout;
    const request = make(
      url,
      {
        method,
        headers: { 'user-agent': 'kumulus', ...headers },
        agent: secure ? agents['https:'] : agents['http:'],
        ...(o.signal && { signal: o.signal }),
      },
      resolve,
    );
    request.setTimeout(timeout, () => request.destroy(new Error(`${method} ${url.origin}${url.pathname}: no byte for ${timeout / 1000} s`)));
    request.on('error', reject);
    if (o.body === undefined) request.end();
    else if (Buffer.isBuffer(o.body)) request.end(o.body);
    else o.body.on('error', (error) => request.destroy(error)).pipe(request);
  });
}

/** Reads a whole body; more than `limit` bytes is an error. */
export async function readBody(body: Readable, limit = 8 << 20): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of body) {
    size += (chunk as Buffer).length;
    if (size > limit) throw new Error(`answer is longer than ${limit} bytes`);
    chunks.push(chunk as Buffer);
  }
  return Buffer.concat(chunks);
}
