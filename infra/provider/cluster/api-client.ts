import { request } from 'node:https';

export interface ApiAddress {
  host: string;
  port: number;
  /** The name in the server's certificate. */
  serverName: string;
  ca: string;
  cert?: string;
  key?: string;
}

/** GET of one path of a Kubernetes API. Rejects where no connection comes about within five seconds. */
export function apiGet(to: ApiAddress, path: string, signal: AbortSignal): Promise<{ status: number; body: string }> {
  return new Promise((resolve, reject) => {
    const limit = AbortSignal.any([signal, AbortSignal.timeout(5000)]);
    const call = request(
      {
        host: to.host,
        port: to.port,
        path,
        ca: to.ca,
        servername: to.serverName,
        ...(to.cert ? { cert: to.cert, key: to.key } : {}),
        headers: { accept: 'application/json', 'user-agent': 'pulumi-resource-kumulus' },
        agent: false,
        signal: limit,
      },
      (answer) => {
        const chunks: Buffer[] = [];
        answer.on('data', (chunk) => chunks.push(chunk));
        answer.on('end', () => resolve({ status: answer.statusCode ?? 0, body: Buffer.concat(chunks).toString() }));
        answer.on('error', reject);
      },
    );
    call.on('error', reject);
    call.end();
  });
}
