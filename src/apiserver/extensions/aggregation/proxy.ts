import { serviceUnavailable, StatusError } from '../../../api/errors.ts';
import type { Permit } from '../../authz/authorizer.ts';
import type { HttpRequest, HttpResponse } from '../../http/exchange.ts';
import { passedHeaders } from '../../subresources/proxies.ts';
import type { RemoteVersion } from './aggregator.ts';
import { identityHeaders, type RemoteServer } from './remote.ts';

const connectionHeaders = new Set(['connection', 'keep-alive', 'transfer-encoding', 'upgrade', 'te', 'trailer', 'proxy-connection']);

/** Throws ServiceUnavailable while its APIService is not available. */
export function availableServer(remote: RemoteVersion): RemoteServer {
  if (!remote.available) throw serviceUnavailable('service unavailable');
  return remote.server;
}

/** What the other server is told: never the sender's credentials, and nobody's word but this server's on who they are. */
export function headersFor(request: HttpRequest, { user }: Permit): Record<string, string | string[]> {
  return {
    ...Object.fromEntries(Object.entries(passedHeaders(request)).filter(([name]) => !name.startsWith('x-remote-'))),
    ...(request.remoteAddress ? { 'x-forwarded-for': request.remoteAddress } : {}),
    ...identityHeaders(user),
  };
}

/** Passes a request on to the server that serves its group version, in the name of its user. */
export async function passOn(remote: RemoteVersion, request: HttpRequest, response: HttpResponse, permit: Permit): Promise<void> {
  const server = availableServer(remote);
  const headers = headersFor(request, permit);
  const hasBody = request.method !== 'GET' && request.method !== 'HEAD';
  const body = hasBody ? request.bodyStream() : undefined;
  if (!hasBody) delete headers['content-length'];
  try {
    await server.send(
      { method: request.method, path: request.url, headers, signal: request.signal, ...(body ? { body } : {}) },
      (incoming) => {
        const answer: Record<string, string | string[]> = {};
        for (const [name, value] of Object.entries(incoming.headers)) if (value !== undefined && !connectionHeaders.has(name)) answer[name] = value;
        const stream = response.stream(incoming.statusCode ?? 502, answer);
        stream.onDrain(() => incoming.resume());
        incoming.on('data', (chunk: Buffer) => {
          if (!stream.write(chunk)) incoming.pause();
        });
        incoming.on('end', () => stream.end());
        incoming.on('error', () => stream.destroy());
      },
    );
  } catch (error) {
    if (response.begun || request.signal.aborted) return;
    if (error instanceof StatusError) throw serviceUnavailable('service unavailable');
    throw serviceUnavailable(`error trying to reach service: ${(error as Error).message}`);
  }
}
