import type { Duplex } from 'node:stream';
import type { StreamOptions, StreamSession } from '../../runtime/cri.ts';
import { SpdyConnection, type SpdyStream } from './spdy.ts';
import { exitStatus, failureStatus } from './streams.ts';

/** Versions of remotecommand over SPDY that end with a Status on the error stream. */
export const spdyExecProtocols = ['v4.channel.k8s.io'];
const streamsTimeoutMs = 30_000;

/** exec and attach over SPDY, as upstream's API server speaks to a kubelet: a stream each for error, input, outputs and sizes. */
export function serveSpdyStreams(socket: Duplex, options: StreamOptions, start: () => Promise<StreamSession>, command: string[]): SpdyConnection {
  const wanted = new Set([
    'error',
    ...(options.stdin ? ['stdin'] : []),
    ...(options.stdout ? ['stdout'] : []),
    ...(options.stderr ? ['stderr'] : []),
  ]);
  if (options.tty) wanted.add('resize');
  const streams = new Map<string, SpdyStream>();
  let began = false;
  const begin = () => {
    if (began) return;
    began = true;
    clearTimeout(timer);
    void serve(connection, streams, start, command);
  };
  const connection = new SpdyConnection(socket, (stream) => {
    const kind = stream.headers.get('streamtype') ?? '';
    if (!wanted.has(kind) || streams.has(kind)) return void stream.destroy(new Error(`unexpected stream ${kind}`));
    streams.set(kind, stream);
    if (streams.size === wanted.size) begin();
  });
  const timer = setTimeout(() => connection.close(), streamsTimeoutMs);
  timer.unref();
  void connection.done.then(() => clearTimeout(timer));
  return connection;
}

async function serve(
  connection: SpdyConnection,
  streams: Map<string, SpdyStream>,
  start: () => Promise<StreamSession>,
  command: string[],
): Promise<void> {
  const errors = streams.get('error')!;
  errors.resume();
  let status: unknown;
  try {
    const session = await start();
    void connection.done.then(() => session.close());
    session.stdin?.on('error', () => {});
    const stdin = streams.get('stdin');
    if (stdin && session.stdin) stdin.pipe(session.stdin);
    followSizes(streams.get('resize'), session);
    const outputs = [
      { from: session.stdout, to: streams.get('stdout') },
      { from: session.stderr, to: streams.get('stderr') },
    ].map(({ from, to }) => (from && to ? ended(from.pipe(to, { end: true })) : undefined));
    const code = await session.exitCode;
    await Promise.all(outputs);
    status = exitStatus(code, command);
  } catch (error) {
    status = failureStatus(error instanceof Error ? error.message : String(error));
  }
  errors.end(JSON.stringify(status));
  for (const stream of streams.values()) if (stream !== errors) stream.end();
}

const ended = (stream: SpdyStream) =>
  new Promise<void>((resolve) => {
    stream.once('finish', resolve);
    stream.once('close', resolve);
  });

/** Each size is a line of JSON. */
function followSizes(stream: SpdyStream | undefined, session: StreamSession): void {
  let rest = '';
  stream?.on('data', (chunk: Buffer) => {
    const lines = (rest + chunk.toString('utf8')).split('\n');
    rest = lines.pop() ?? '';
    // Go's encoder ends each with a newline; one without is whole when it parses.
    for (const line of [...lines, rest]) {
      try {
        const { Width, Height } = JSON.parse(line);
        session.resize(Number(Width), Number(Height));
        if (line === rest) rest = '';
      } catch {
        // Not whole yet, or nothing to go by.
      }
    }
  });
}
