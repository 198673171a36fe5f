import type { WebSocket } from 'ws';
import type { StreamSession } from '../../runtime/cri.ts';

/** Channels of remotecommand over WebSockets: the first byte of each message. */
const channel = { stdin: 0, stdout: 1, stderr: 2, error: 3, resize: 4, close: 255 };
export const execProtocols = ['v5.channel.k8s.io', 'v4.channel.k8s.io', 'channel.k8s.io'];
const highWater = 1024 * 1024;

/** How exec ended, as clients read it from the error channel. */
export function exitStatus(code: number, command: string[]): { status: string; message?: string; [member: string]: unknown } {
  if (code === 0) return { metadata: {}, status: 'Success' };
  return {
    metadata: {},
    status: 'Failure',
    message: `command terminated with non-zero exit code: error executing command [${command.join(' ')}], exit code ${code}`,
    reason: 'NonZeroExitCode',
    details: { causes: [{ reason: 'ExitCode', message: String(code) }] },
  };
}

/** That exec or attach could not be done. */
export const failureStatus = (message: string) => ({ metadata: {}, status: 'Failure', message, reason: 'InternalError', code: 500 });

/** Joins a client's WebSocket to a session in a container until either ends. start is called when the connection is there. */
export async function serveStreams(ws: WebSocket, start: () => Promise<StreamSession>, command: string[]): Promise<void> {
  const send = (to: number, data: Buffer) => new Promise<void>((resolve) => ws.send(Buffer.concat([Buffer.from([to]), data]), () => resolve()));
  // Before version 4 the error channel carries the text of an error and nothing else.
  const old = !/^v[45]\./.test(ws.protocol);
  const tell = async (status: { status: string; message?: string }) => {
    if (!old) await send(channel.error, Buffer.from(JSON.stringify(status)));
    else if (status.status !== 'Success') await send(channel.error, Buffer.from(status.message ?? ''));
  };
  const early: Buffer[] = [];
  let session: StreamSession | undefined;
  const receive = (message: Buffer) => {
    const data = message.subarray(1);
    const on = message[0];
    if (on === channel.stdin && session?.stdin && !session.stdin.writableEnded) {
      // Backpressure goes to the client by not reading on.
      if (!session.stdin.write(data)) {
        ws.pause();
        session.stdin.once('drain', () => ws.resume());
      }
    } else if (on === channel.resize) {
      try {
        const { Width, Height } = JSON.parse(data.toString('utf8'));
        session?.resize(Number(Width), Number(Height));
      } catch {
        // A size that cannot be read changes nothing.
      }
    } else if (on === channel.close && data[0] === channel.stdin) session?.stdin?.end();
  };
  ws.on('message', (raw: Buffer) => {
    const message = Buffer.from(raw);
    if (message.length === 0) return;
    if (session) receive(message);
    else early.push(message);
  });
  let closed = false;
  ws.on('close', () => {
    closed = true;
    session?.close();
  });
  ws.on('error', () => {});
  try {
    session = await start();
    if (closed) return session.close();
    session.stdin?.on('error', () => {});
    for (const message of early) receive(message);
    const pump = async (stream: NonNullable<StreamSession['stderr']>, to: number) => {
      for await (const chunk of stream) {
        if (ws.readyState !== ws.OPEN) return;
        const sent = send(to, Buffer.from(chunk));
        if (ws.bufferedAmount > highWater) await sent;
      }
    };
    const pumps = [pump(session.stdout, channel.stdout), ...(session.stderr ? [pump(session.stderr, channel.stderr)] : [])];
    const code = await session.exitCode;
    await Promise.allSettled(pumps);
    await tell(exitStatus(code, command));
  } catch (error) {
    if (!closed) await tell(failureStatus(error instanceof Error ? error.message : String(error)));
  } finally {
    if (!closed) ws.close(1000);
  }
}
