import http from 'node:http';
import https from 'node:https';
import type { Container, LifecycleHandler } from '../api/generated/types.ts';
import { type Clock, sleep } from '../client/clock.ts';
import type { Runtime } from '../runtime/cri.ts';
import { resolvePort } from './pods.ts';

export interface HttpAnswer {
  status: number;
  body: string;
  location?: string;
}

export interface HttpAsk {
  scheme: string;
  host: string;
  port: number;
  path: string;
  headers: { name: string; value: string }[];
  userAgent: string;
  timeoutMs: number;
  signal?: AbortSignal;
}

const maxBody = 10 * 1024;

/** One GET as probes and hooks make it: certificates are not verified, no connection is kept. */
export function httpGet(o: HttpAsk): Promise<HttpAnswer> {
  return new Promise((resolve, reject) => {
    const headers: Record<string, string> = { 'user-agent': o.userAgent, accept: '*/*', connection: 'close' };
    for (const { name, value } of o.headers) headers[name.toLowerCase()] = value;
    for (const name of ['user-agent', 'accept']) if (headers[name] === '') delete headers[name];
    const path = o.path.startsWith('/') ? o.path : `/${o.path}`;
    const secure = o.scheme.toUpperCase() === 'HTTPS';
    const url = `${secure ? 'https' : 'http'}://${o.host.includes(':') ? `[${o.host}]` : o.host}:${o.port}${path}`;
    const options = { host: o.host, port: o.port, path, headers, method: 'GET', agent: false as const, ...(o.signal ? { signal: o.signal } : {}) };
    const timer = setTimeout(
      () => request.destroy(new Error('context deadline exceeded (Client.Timeout exceeded while awaiting headers)')),
      o.timeoutMs,
    );
    const fail = (error: Error) => {
      clearTimeout(timer);
      reject(new Error(`Get "${url}": ${dialMessage(error, o.host, o.port)}`));
    };
    const request = (secure ? https : http).request(
      { ...options, ...(secure ? { rejectUnauthorized: false } : {}) } as https.RequestOptions,
      (response) => {
        const chunks: Buffer[] = [];
        let size = 0;
        const done = () => {
          clearTimeout(timer);
          const location = response.headers.location;
          resolve({
            status: response.statusCode ?? 0,
            body: Buffer.concat(chunks).toString('utf8').slice(0, maxBody),
            ...(location ? { location } : {}),
          });
        };
        response.on('data', (chunk: Buffer) => {
          chunks.push(chunk);
          size += chunk.length;
          if (size > maxBody) {
            done();
            response.destroy();
          }
        });
        response.on('end', done);
        response.on('error', fail);
      },
    );
    request.on('error', fail);
    request.end();
  });
}

/** Node's socket errors in the words that Go's net package has for them, which people search for. */
export function dialMessage(error: Error, host: string, port: number): string {
  const code = (error as NodeJS.ErrnoException).code;
  const at = `dial tcp ${host.includes(':') ? `[${host}]` : host}:${port}`;
  if (code === 'ECONNREFUSED') return `${at}: connect: connection refused`;
  if (code === 'EHOSTUNREACH') return `${at}: connect: no route to host`;
  if (code === 'ENETUNREACH') return `${at}: connect: network is unreachable`;
  if (code === 'ECONNRESET') return `read tcp ${host}:${port}: connection reset by peer`;
  return error.message;
}

export interface HookTarget {
  runtime: Runtime;
  clock: Clock;
  container: Container;
  containerId: string;
  podIP: string;
  timeoutMs: number;
  signal?: AbortSignal;
}

/** Runs a lifecycle hook. Throws with a message for the event when it fails or takes longer than timeoutMs. */
export async function runHook(handler: LifecycleHandler, o: HookTarget): Promise<void> {
  if (handler.exec) {
    const command = handler.exec.command ?? [];
    const result = await o.runtime.execSync(o.containerId, command, Math.max(1, Math.ceil(o.timeoutMs / 1000)));
    if (result.exitCode !== 0)
      throw new Error(`command '${command.join(' ')}' exited with ${result.exitCode}: ${result.stderr.toString('utf8').slice(0, 1024)}`);
  } else if (handler.httpGet) {
    const get = handler.httpGet;
    const answer = await httpGet({
      scheme: get.scheme ?? 'HTTP',
      host: get.host || o.podIP,
      port: resolvePort(get.port, o.container),
      path: get.path ?? '/',
      headers: get.httpHeaders ?? [],
      userAgent: 'kube-lifecycle/1.37',
      timeoutMs: o.timeoutMs,
      ...(o.signal ? { signal: o.signal } : {}),
    });
    if (answer.status >= 400) throw new Error(`HTTP lifecycle hook failed with status ${answer.status}`);
  } else if (handler.sleep) await sleep(o.clock, Math.min(handler.sleep.seconds * 1000, o.timeoutMs), o.signal);
  else throw new Error('invalid handler: no exec, httpGet or sleep');
}
