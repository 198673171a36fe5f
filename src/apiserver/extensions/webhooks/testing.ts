import type { IncomingHttpHeaders } from 'node:http';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { TestAuthority } from '../../testing.ts';

export interface TestWebhook {
  port: number;
  /** Base64 of PEM. */
  caBundle: string;
  url(path: string): string;
  /** Bodies of the requests that came, by path. */
  seen: { path: string; body: any; headers: IncomingHttpHeaders }[];
  close(): Promise<void>;
}

/** A webhook server over HTTPS on a free port of loopback; answers by path. A handler that answers undefined leaves the caller waiting. */
export async function startTestWebhook(authority: TestAuthority, handlers: Record<string, (body: any) => unknown>): Promise<TestWebhook> {
  const { cert, key } = await authority.issue({ commonName: 'webhook', hosts: ['localhost', 'hook.default.svc'], addresses: ['127.0.0.1'], server: true });
  const seen: TestWebhook['seen'] = [];
  const server = createServer({ cert, key }, (request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const path = (request.url ?? '').split('?')[0] as string;
      const body = JSON.parse(Buffer.concat(chunks).toString('utf8'));
      seen.push({ path, body, headers: request.headers });
      const answer = handlers[path]?.(body);
      if (answer === undefined) return;
      response.writeHead(200, { 'content-type': 'application/json' });
      response.end(JSON.stringify(answer));
    });
  });
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  const { port } = server.address() as AddressInfo;
  return {
    port,
    caBundle: Buffer.from(authority.cert).toString('base64'),
    url: (path) => `https://127.0.0.1:${port}${path}`,
    seen,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

/** An AdmissionReview's answer. */
export const review = (body: any, response: object): object => ({
  apiVersion: body.apiVersion,
  kind: body.kind,
  response: { uid: body.request.uid, ...response },
});

/** Allows, with a JSON patch. */
export const patched = (body: any, patch: object[], more: object = {}): object =>
  review(body, { allowed: true, patchType: 'JSONPatch', patch: Buffer.from(JSON.stringify(patch)).toString('base64'), ...more });
