import { createHash } from 'node:crypto';
import { Agent, request as httpsRequest, type RequestOptions } from 'node:https';
import type { Duplex } from 'node:stream';
import { connect as tlsConnect, type TLSSocket } from 'node:tls';
import { certificatesOf, type ClientConfig } from '../../../api/crd/client-config.ts';
import { parseJson } from '../../../api/json.ts';
import type { Api, Dial } from '../../api.ts';
import { serviceEndpoint } from '../../subresources/connections.ts';

/** The largest answer of a webhook that is read. */
const answerLimit = 10 * 1024 * 1024;
const agentLimit = 100;

/** Keeps TLS connections that were made through the server's dial. */
class DialAgent extends Agent {
  #dial: Dial;
  constructor(dial: Dial) {
    super({ keepAlive: true, maxFreeSockets: 10, timeout: 30_000 });
    this.#dial = dial;
  }
  override createConnection(options: RequestOptions & { servername?: string }, callback?: (error: Error | null, stream: Duplex) => void): Duplex {
    const { host, port, servername, ca } = options;
    this.#dial(String(host), Number(port))
      .then((socket) => {
        const secure: TLSSocket = tlsConnect({ socket, ALPNProtocols: ['http/1.1'], ...(servername ? { servername } : {}), ...(ca ? { ca: ca as string } : {}) });
        secure.once('error', (error) => callback?.(error, secure));
        secure.once('secureConnect', () => callback?.(null, secure));
      })
      .catch((error: Error) => callback?.(error, undefined as never));
    return undefined as never;
  }
}

const agents = new WeakMap<Api, Map<string, DialAgent>>();

function agentOf(api: Api, id: string): DialAgent {
  let own = agents.get(api);
  if (!own) {
    own = new Map();
    agents.set(api, own);
    const all = own;
    api.stopping.addEventListener('abort', () => {
      for (const agent of all.values()) agent.destroy();
    });
  }
  let agent = own.get(id);
  if (!agent) {
    if (own.size >= agentLimit) {
      for (const old of own.values()) old.destroy();
      own.clear();
    }
    own.set(id, (agent = new DialAgent(api.dial)));
  }
  return agent;
}

/** Where a webhook is, as its URL is shown in messages, and how it is reached. */
interface Target {
  url: string;
  host: string;
  port: number;
  path: string;
  servername: string;
}

function shownUrl(config: ClientConfig): string {
  const { service, url } = config;
  if (!service) return url ?? '';
  const path = service.path ?? '/';
  return `https://${service.name}.${service.namespace}.svc:${service.port ?? 443}${path.startsWith('/') ? path : `/${path}`}`;
}

async function targetOf(api: Api, config: ClientConfig): Promise<Target> {
  const url = shownUrl(config);
  if (config.service) {
    const { namespace, name, port = 443, path = '/' } = config.service;
    const at = await serviceEndpoint(api, namespace, name, String(port));
    return { url, ...at, path: path.startsWith('/') ? path : `/${path}`, servername: `${name}.${namespace}.svc` };
  }
  const parsed = new URL(url);
  const host = parsed.hostname.replace(/^\[(.*)\]$/, '$1');
  return { url, host, port: Number(parsed.port || 443), path: `${parsed.pathname}${parsed.search}`, servername: host };
}

/**
 * Posts JSON to a webhook and answers what it answered. Error in the words of Go's HTTP client, with the URL, where it does not answer
 * 200 with JSON within the time.
 */
export async function postToWebhook(api: Api, config: ClientConfig, body: unknown, timeoutMs: number, signal?: AbortSignal, traceparent?: string): Promise<unknown> {
  const query = `?timeout=${timeoutMs / 1000}s`;
  const failed = (why: string) => new Error(`Post ${JSON.stringify(`${shownUrl(config)}${query}`)}: ${why}`);
  const deadline = AbortSignal.timeout(timeoutMs);
  const ended = AbortSignal.any([deadline, api.stopping, ...(signal ? [signal] : [])]);
  try {
    const target = await targetOf(api, config);
    const ca = config.caBundle ? certificatesOf(config.caBundle).join('\n') : undefined;
    const id = createHash('sha256')
      .update(`${target.servername} ${ca ?? ''}`)
      .digest('hex');
    return await post(agentOf(api, id), target, `${target.path}${target.path.includes('?') ? `&${query.slice(1)}` : query}`, ca, JSON.stringify(body), ended, traceparent);
  } catch (error) {
    if (error instanceof BadAnswer) throw error;
    if (deadline.aborted) throw failed('context deadline exceeded');
    const { message, code } = error as { message: string; code?: string };
    throw failed(code === 'ECONNREFUSED' ? `dial tcp: connect: connection refused` : message);
  }
}

/** The webhook answered, but not what it should. */
class BadAnswer extends Error {}

function post(agent: Agent, target: Target, path: string, ca: string | undefined, body: string, signal: AbortSignal, traceparent?: string): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const request = httpsRequest({
      agent,
      method: 'POST',
      host: target.host,
      port: target.port,
      path,
      servername: /^[\d.]+$|:/.test(target.servername) ? '' : target.servername,
      ...(ca ? { ca } : {}),
      headers: {
        host: `${target.servername}:${target.port}`,
        'content-type': 'application/json',
        accept: 'application/json, */*',
        'content-length': Buffer.byteLength(body),
        'user-agent': 'kube-apiserver-admission',
        ...(traceparent ? { traceparent } : {}),
      },
      signal,
    });
    request.on('error', reject);
    request.on('response', (response) => {
      const chunks: Buffer[] = [];
      let size = 0;
      response.on('data', (chunk: Buffer) => {
        size += chunk.length;
        if (size > answerLimit) request.destroy(new Error('the answer is too large'));
        else chunks.push(chunk);
      });
      response.on('error', reject);
      response.on('end', () => {
        const text = Buffer.concat(chunks).toString('utf8');
        if (response.statusCode !== 200) {
          const shown = text.trim() || `an error on the server ("unknown") has prevented the request from succeeding`;
          return reject(new BadAnswer(response.statusCode === 404 ? 'the server could not find the requested resource' : shown));
        }
        try {
          resolve(parseJson(text));
        } catch (error) {
          reject(new BadAnswer(`couldn't get version/kind; json parse error: ${(error as Error).message}`));
        }
      });
    });
    request.end(body);
  });
}
