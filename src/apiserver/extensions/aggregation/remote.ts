import { Agent, request as httpsRequest, type RequestOptions } from 'node:https';
import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { connect as tlsConnect, type TLSSocket } from 'node:tls';
import type { APIService } from '../../../api/generated/types.ts';
import type { Api } from '../../api.ts';
import type { UserInfo } from '../../authn/user.ts';
import { serviceEndpoint } from '../../subresources/connections.ts';

/** The certificate by which this server is known to those that it passes requests on to, and the authority that signed it. */
export interface FrontProxy {
  cert: string;
  key: string;
  ca: string;
}

const answerLimit = 20 * 1024 * 1024;

/** An API server that serves a group version in this server's place, behind a service. */
export class RemoteServer {
  readonly spec: NonNullable<APIService['spec']>;
  readonly #api: Api;
  readonly #agent: Agent;

  constructor(api: Api, spec: NonNullable<APIService['spec']>) {
    this.#api = api;
    this.spec = spec;
    const remote = this;
    this.#agent = new (class extends Agent {
      override createConnection(_options: RequestOptions, callback?: (error: Error | null, stream: Duplex) => void): Duplex {
        remote.connect().then(
          (socket) => callback?.(null, socket),
          (error: Error) => callback?.(error, undefined as never),
        );
        return undefined as never;
      }
    })({ keepAlive: true, maxFreeSockets: 25, timeout: 60_000 });
  }

  /** The name that the server's certificate must have. */
  get serverName(): string {
    const { service } = this.spec;
    return `${service?.name}.${service?.namespace}.svc`;
  }

  /** A TLS connection to one of the service's endpoints. */
  async connect(): Promise<TLSSocket> {
    const { service, caBundle, insecureSkipTLSVerify } = this.spec;
    const { host, port } = await serviceEndpoint(this.#api, service?.namespace ?? '', service?.name ?? '', String(service?.port ?? 443));
    const socket = await this.#api.dial(host, port);
    const { frontProxy } = this.#api;
    return new Promise((resolve, reject) => {
      const secure = tlsConnect({
        socket,
        servername: this.serverName,
        ALPNProtocols: ['http/1.1'],
        rejectUnauthorized: insecureSkipTLSVerify !== true,
        ...(caBundle ? { ca: Buffer.from(caBundle, 'base64').toString('latin1') } : {}),
        ...(frontProxy ? { cert: frontProxy.cert, key: frontProxy.key } : {}),
      });
      secure.once('error', reject);
      secure.once('secureConnect', () => resolve(secure));
      socket.once('error', (error) => secure.destroy(error));
    });
  }

  /** Sends a request; the caller reads the answer. */
  send(
    o: { method: string; path: string; headers: Record<string, string | string[]>; signal?: AbortSignal; body?: NodeJS.ReadableStream },
    onResponse: (response: IncomingMessage) => void,
  ): Promise<void> {
    return new Promise((resolve, reject) => {
      const request = httpsRequest({
        agent: this.#agent,
        method: o.method,
        path: o.path,
        headers: { host: this.serverName, ...o.headers },
        ...(o.signal ? { signal: o.signal } : {}),
      });
      request.on('error', reject);
      request.on('response', (response) => {
        onResponse(response);
        response.on('close', resolve);
      });
      if (o.body) o.body.pipe(request);
      else request.end();
    });
  }

  /** A GET as this server itself. */
  async get(path: string, headers: Record<string, string> = {}, timeoutMs = 5000): Promise<{ status: number; headers: IncomingMessage['headers']; body: Buffer }> {
    let answer: { status: number; headers: IncomingMessage['headers']; body: Buffer } | undefined;
    const user = { name: 'system:kube-aggregator', groups: ['system:masters'] };
    await this.send({ method: 'GET', path, headers: { ...identityHeaders(user), ...headers }, signal: AbortSignal.timeout(timeoutMs) }, (response) => {
      const chunks: Buffer[] = [];
      let size = 0;
      response.on('data', (chunk: Buffer) => {
        size += chunk.length;
        if (size > answerLimit) response.destroy(new Error('the answer is too large'));
        else chunks.push(chunk);
      });
      response.on('end', () => {
        answer = { status: response.statusCode ?? 0, headers: response.headers, body: Buffer.concat(chunks) };
      });
    });
    if (!answer) throw new Error('the answer was cut off');
    return answer;
  }

  close(): void {
    this.#agent.destroy();
  }
}

/** Who makes a request, as told to the server that it is passed on to. */
export function identityHeaders(user: UserInfo): Record<string, string | string[]> {
  return {
    'x-remote-user': user.name,
    ...(user.uid ? { 'x-remote-uid': user.uid } : {}),
    ...(user.groups.length ? { 'x-remote-group': user.groups } : {}),
    ...Object.fromEntries(Object.entries(user.extra ?? {}).map(([key, values]) => [`x-remote-extra-${encodeURIComponent(key)}`, values])),
  };
}
