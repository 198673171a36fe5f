import { type ClientRequest, Agent as HttpAgent, request as httpRequest } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import { parseJson } from '../../api/json.ts';
import type { ClientConfig } from '../../client/config.ts';

export interface WebhookClient {
  /** The answer's JSON. Throws where it is no 2xx, no JSON, or late. */
  post(body: unknown, timeoutMs: number): Promise<any>;
  close(): void;
}

const answerLimit = 10 * 1024 * 1024;

/** Posts JSON to the server of a kubeconfig, whose path and query are kept: HTTP/1.1, which every webhook speaks. */
export function createWebhookClient(config: ClientConfig): WebhookClient {
  const url = new URL(config.server);
  const secure = url.protocol === 'https:';
  const agent = secure ? new HttpsAgent({ keepAlive: true }) : new HttpAgent({ keepAlive: true });
  return {
    post: (body, timeoutMs) =>
      new Promise((resolve, reject) => {
        const signal = AbortSignal.timeout(timeoutMs);
        const text = JSON.stringify(body);
        const request: ClientRequest = (secure ? httpsRequest : httpRequest)(
          url,
          {
            method: 'POST',
            agent,
            signal,
            ...(config.ca ? { ca: config.ca } : {}),
            ...(config.cert ? { cert: config.cert, key: config.key } : {}),
            ...(config.serverName ? { servername: config.serverName } : {}),
            ...(config.insecureSkipTlsVerify ? { rejectUnauthorized: false } : {}),
            headers: {
              'content-type': 'application/json',
              'content-length': Buffer.byteLength(text),
              accept: 'application/json',
              'user-agent': config.userAgent ?? 'kube-apiserver-admission',
              ...(config.token ? { authorization: `Bearer ${config.token}` } : {}),
            },
          },
          (response) => {
            const chunks: Buffer[] = [];
            let size = 0;
            response.on('data', (chunk: Buffer) => {
              size += chunk.length;
              if (size > answerLimit) request.destroy(new Error(`the answer of ${url.href} is larger than ${answerLimit} bytes`));
              else chunks.push(chunk);
            });
            response.on('error', reject);
            response.on('end', () => {
              const answer = Buffer.concat(chunks).toString();
              const { statusCode = 0 } = response;
              if (statusCode < 200 || statusCode > 299)
                reject(Object.assign(new Error(`${url.href} answered ${statusCode}: ${answer.slice(0, 300)}`), { statusCode }));
              else {
                try {
                  resolve(answer === '' ? undefined : parseJson(answer));
                } catch {
                  reject(new Error(`${url.href} did not answer JSON: ${answer.slice(0, 300)}`));
                }
              }
            });
          },
        );
        request.on('error', (error) => reject(signal.aborted ? new Error(`${url.href} did not answer within ${timeoutMs / 1000} s`) : error));
        request.end(text);
      }),
    close: () => agent.destroy(),
  };
}

/** Posts again, with longer and longer pauses, where the webhook was not reached or was overloaded; five times at most. */
export async function postWithRetries(client: WebhookClient, body: unknown, o: { timeoutMs: number; backoffMs: number }): Promise<any> {
  for (let attempt = 1, wait = o.backoffMs; ; attempt++, wait *= 1.5) {
    try {
      return await client.post(body, o.timeoutMs);
    } catch (error) {
      const { statusCode, code } = error as { statusCode?: number; code?: string };
      const again = statusCode === undefined ? code !== undefined : statusCode === 429 || statusCode >= 500;
      if (!again || attempt >= 5) throw error;
      await new Promise((resolve) => setTimeout(resolve, wait * (1 + Math.random() * 0.2)));
    }
  }
}
