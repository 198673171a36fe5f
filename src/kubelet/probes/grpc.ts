import http2 from 'node:http2';
import type { ProbeOutcome } from './execute.ts';

const serving = 1;
const names = ['UNKNOWN', 'SERVING', 'NOT_SERVING', 'SERVICE_UNKNOWN'];

/** grpc.health.v1.Health/Check over plaintext HTTP/2. */
export function grpcHealth(host: string, port: number, service: string, timeoutMs: number): Promise<ProbeOutcome> {
  return new Promise((resolve) => {
    const session = http2.connect(`http://${host.includes(':') ? `[${host}]` : host}:${port}`);
    const done = (outcome: ProbeOutcome) => {
      clearTimeout(timer);
      session.destroy();
      resolve(outcome);
    };
    const timer = setTimeout(
      () =>
        done({ ok: false, message: `timeout: failed to connect service "${host}:${port}" within ${timeoutMs / 1000}s: context deadline exceeded` }),
      timeoutMs,
    );
    session.on('error', (error) => done({ ok: false, message: `failed to connect service "${host}:${port}": ${error.message}` }));
    const stream = session.request({
      ':method': 'POST',
      ':path': '/grpc.health.v1.Health/Check',
      'content-type': 'application/grpc',
      te: 'trailers',
      'user-agent': 'kube-probe/1.37',
    });
    const name = Buffer.from(service);
    // HealthCheckRequest{ string service = 1 }, as a length-prefixed gRPC message.
    const message = name.length === 0 ? Buffer.alloc(0) : Buffer.concat([Buffer.from([0x0a, ...varint(name.length)]), name]);
    const head = Buffer.alloc(5);
    head.writeUInt32BE(message.length, 1);
    stream.end(Buffer.concat([head, message]));
    const chunks: Buffer[] = [];
    let grpcStatus = '';
    stream.on('response', (headers) => {
      if (headers['grpc-status'] !== undefined) grpcStatus = String(headers['grpc-status']);
    });
    stream.on('trailers', (trailers) => {
      grpcStatus = String(trailers['grpc-status'] ?? grpcStatus);
    });
    stream.on('data', (chunk: Buffer) => chunks.push(chunk));
    stream.on('error', (error) =>
      done({ ok: false, message: `error: this server does not implement the grpc health protocol (grpc.health.v1.Health): ${error.message}` }),
    );
    stream.on('end', () => {
      if (grpcStatus && grpcStatus !== '0') return done({ ok: false, message: `service unhealthy (rpc error: code = ${grpcStatus})` });
      // HealthCheckResponse{ ServingStatus status = 1 }
      const body = Buffer.concat(chunks).subarray(5);
      const value = body[0] === 0x08 ? (body[1] ?? 0) : 0;
      done(
        value === serving
          ? { ok: true, message: 'service healthy' }
          : { ok: false, message: `service unhealthy (responded with "${names[value] ?? value}")` },
      );
    });
  });
}

function varint(n: number): number[] {
  const bytes: number[] = [];
  for (let rest = n; ; rest >>>= 7) {
    if (rest < 0x80) return [...bytes, rest];
    bytes.push((rest & 0x7f) | 0x80);
  }
}
