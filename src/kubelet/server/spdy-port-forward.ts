import type { Duplex } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { Logger } from 'pino';
import { createWebSocketStream, type WebSocket } from 'ws';
import { SpdyConnection, type SpdyStream } from './spdy.ts';

/** kubectl's way of port forwarding: SPDY inside of WebSocket messages. */
export const spdyPortForwardProtocol = 'SPDY/3.1+portforward.k8s.io';

/** The same over SPDY alone. */
export const spdyProtocol = 'portforward.k8s.io';

export const isSpdyTunnel = (protocols: string | undefined): boolean =>
  (protocols ?? '').split(',').some((p) => p.trim() === spdyPortForwardProtocol);

/** How long the error stream of a connection waits for its data stream. */
const pairTimeoutMs = 30_000;

export type Connect = (port: number) => Promise<Duplex>;

export function serveSpdyPortForward(ws: WebSocket, connect: Connect, log: Logger): SpdyConnection {
  return forwardPorts(createWebSocketStream(ws), connect, log);
}

/**
 * Port forwarding over SPDY: for each connection the client opens an error and a data stream with the same requestid. What cannot be
 * reached is told on the error stream.
 */
export function forwardPorts(socket: Duplex, connect: Connect, log: Logger): SpdyConnection {
  const pairs = new Map<string, { error?: SpdyStream; data?: SpdyStream; timer: NodeJS.Timeout }>();
  const connection = new SpdyConnection(socket, (stream) => {
    const kind = stream.headers.get('streamtype');
    const port = Number(stream.headers.get('port'));
    // Old clients send no requestid: their streams come in pairs, the error stream first.
    const id = stream.headers.get('requestid') || String(kind === 'error' ? stream.id : stream.id - 2);
    if ((kind !== 'error' && kind !== 'data') || !Number.isInteger(port) || port < 1 || port > 65535) {
      stream.destroy(new Error('a stream has no streamtype or port'));
      return;
    }
    let pair = pairs.get(id);
    if (!pair) {
      const timer = setTimeout(() => {
        const late = pairs.get(id);
        pairs.delete(id);
        late?.error?.end('timed out waiting for the data stream');
        late?.data?.destroy();
      }, pairTimeoutMs);
      timer.unref();
      pair = { timer };
      pairs.set(id, pair);
    }
    pair[kind] = stream;
    const { error, data } = pair;
    if (!error || !data) return;
    clearTimeout(pair.timer);
    pairs.delete(id);
    void join(error, data, port, connect, log);
  });
  void connection.done.then(() => {
    for (const { timer } of pairs.values()) clearTimeout(timer);
  });
  return connection;
}

async function join(errors: SpdyStream, data: SpdyStream, port: number, connect: Connect, log: Logger): Promise<void> {
  errors.resume();
  let target: Duplex | undefined;
  try {
    target = await connect(port);
    const socket = target;
    data.once('close', () => socket.destroy());
    await Promise.all([pipeline(data, socket, { end: true }), pipeline(socket, data, { end: true })]);
    errors.end();
  } catch (error) {
    log.debug({ err: error, port }, 'a forwarded connection ended');
    // A connection that broke after it had been made is the ordinary end of many programs.
    if (target) errors.end();
    else errors.end(`an error occurred forwarding ${port}: ${error instanceof Error ? error.message : String(error)}`);
    data.end();
    data.resume();
    target?.destroy();
  }
}
