import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { type WebSocket, WebSocketServer } from 'ws';
import { badRequest, StatusError } from '../../api/errors.ts';
import type { HttpResponse, ResponseStream } from './exchange.ts';

/** What a reader may speak: messages of bytes (also where nothing is named), or of their base64. */
const protocols = ['binary.k8s.io', 'base64.binary.k8s.io'];
const mostBuffered = 1 << 20;

/** Whether a request asks for a WebSocket, as browsers and older clients read logs. */
export const wantsWebSocket = (message: IncomingMessage): boolean => message.headers.upgrade?.toLowerCase() === 'websocket';

/**
 * An answer that goes to a WebSocket: its body in messages, the first of which is empty, and a close at the end. The connection is taken
 * when the answer begins, so that an error before is an answer of HTTP. Throws where the client speaks no protocol of readers.
 */
export function webSocketResponse(message: IncomingMessage, socket: Duplex, head: Buffer): HttpResponse {
  const offered = (message.headers['sec-websocket-protocol'] ?? '').split(',').map((p) => p.trim());
  const chosen = offered.find((p) => protocols.includes(p)) ?? '';
  if (!chosen && offered.some((p) => p))
    throw badRequest(`requested protocol(s) are not supported: [${offered.join(' ')}]; supports ["" ${protocols.join(' ')}]`);
  const encode = (chunk: Buffer): Buffer | string => (chosen === 'base64.binary.k8s.io' ? chunk.toString('base64') : chunk);
  let status = 0;
  const begin = (): ResponseStream => {
    const server = new WebSocketServer({ noServer: true, handleProtocols: () => chosen || false });
    let client: WebSocket | undefined;
    // With no server behind it the handshake is answered within this call.
    server.handleUpgrade(message, socket, head, (ws) => {
      client = ws;
    });
    let drained = () => {};
    client?.on('error', () => socket.destroy());
    client?.send(encode(Buffer.alloc(0)));
    return {
      write(chunk) {
        client?.send(encode(Buffer.isBuffer(chunk) ? chunk : Buffer.from(chunk)), () => {
          if (client && client.bufferedAmount < mostBuffered) drained();
        });
        return (client?.bufferedAmount ?? 0) < mostBuffered;
      },
      onDrain(callback: () => void) {
        drained = callback;
      },
      end: () => client?.close(1000),
      destroy: () => socket.destroy(),
    } as ResponseStream;
  };
  return {
    headers: {},
    get begun() {
      return status !== 0;
    },
    get status() {
      return status;
    },
    send(code, _headers, body = []) {
      const bytes = Buffer.isBuffer(body) ? body : Buffer.concat(body);
      if (code !== 200) throw new StatusError(code, '', bytes.toString());
      status = code;
      const stream = begin();
      if (bytes.length > 0) stream.write(bytes);
      stream.end();
    },
    stream(code) {
      status = code;
      return begin();
    },
  };
}
