import { WebSocket } from 'ws';
import type { ExecResult } from './types.ts';

export interface ExecRequest {
  server: string;
  ca: string;
  cert: string;
  key: string;
  namespace: string;
  pod: string;
  container: string | undefined;
  command: string[];
  stdin: string | undefined;
  signal: AbortSignal;
}

const channel = { stdin: 0, stdout: 1, stderr: 2, error: 3, close: 255 };

/** Runs a command in a container through the API server, over WebSockets as kubectl does. */
export function exec(o: ExecRequest): Promise<ExecResult> {
  const query = new URLSearchParams({ stdout: 'true', stderr: 'true' });
  if (o.container) query.set('container', o.container);
  if (o.stdin !== undefined) query.set('stdin', 'true');
  for (const word of o.command) query.append('command', word);
  const url = `${o.server.replace(/^http/, 'ws')}/api/v1/namespaces/${encodeURIComponent(o.namespace)}/pods/${encodeURIComponent(o.pod)}/exec?${query}`;
  const ws = new WebSocket(url, ['v5.channel.k8s.io'], { ca: o.ca, cert: o.cert, key: o.key });
  const output: Record<number, Buffer[]> = { 1: [], 2: [], 3: [] };
  const text = (n: number) => Buffer.concat(output[n] ?? []).toString('utf8');
  return new Promise<ExecResult>((resolve, reject) => {
    const onAbort = () => {
      ws.terminate();
      reject(o.signal.reason);
    };
    if (o.signal.aborted) return onAbort();
    o.signal.addEventListener('abort', onAbort, { once: true });
    ws.on('unexpected-response', (_, response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk) => chunks.push(chunk));
      response.on('end', () => {
        const body = Buffer.concat(chunks).toString('utf8');
        let message = body.trim();
        try {
          message = JSON.parse(body).message;
        } catch {
          // What is no Status is told as it is.
        }
        ws.terminate();
        reject(new Error(`exec in pod ${o.namespace}/${o.pod}: ${message || response.statusCode}`));
      });
    });
    ws.on('error', (error) => reject(new Error(`exec in pod ${o.namespace}/${o.pod}: ${error.message}`)));
    ws.on('open', () => {
      if (o.stdin === undefined) return;
      if (o.stdin) ws.send(Buffer.concat([Buffer.from([channel.stdin]), Buffer.from(o.stdin)]));
      ws.send(Buffer.from([channel.close, channel.stdin]));
    });
    ws.on('message', (raw: Buffer) => {
      const message = Buffer.from(raw);
      if (message.length > 1) output[message[0] as number]?.push(message.subarray(1));
    });
    ws.on('close', () => {
      o.signal.removeEventListener('abort', onAbort);
      const status = text(channel.error);
      if (!status) return reject(new Error(`exec in pod ${o.namespace}/${o.pod}: the connection ended before the command did`));
      const parsed = JSON.parse(status);
      const code = parsed.details?.causes?.find((c: { reason: string }) => c.reason === 'ExitCode')?.message;
      if (parsed.status !== 'Success' && code === undefined) return reject(new Error(`exec in pod ${o.namespace}/${o.pod}: ${parsed.message}`));
      resolve({ stdout: text(channel.stdout), stderr: text(channel.stderr), exitCode: parsed.status === 'Success' ? 0 : Number(code) });
    });
  });
}
