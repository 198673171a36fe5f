import { createSocket, type Socket } from 'node:dgram';
import { createServer, type Server, type Socket as TcpSocket } from 'node:net';
import type { Logger } from 'pino';
import { framed } from './dns-upstream.ts';

/** Answers one message; undefined where it deserves no answer. */
export type Answerer = (message: Buffer, overTcp: boolean) => Promise<Buffer | undefined>;

const idleMs = 30_000;

/** Listens for DNS messages over UDP and TCP on one address and port. Rejects where it cannot. */
export async function listenForDns(o: { address: string; port: number; answer: Answerer; log: Logger }): Promise<{ port: number; close(): void }> {
  const connections = new Set<TcpSocket>();
  let udp: Socket | undefined;
  let tcp: Server | undefined;
  const close = () => {
    udp?.close();
    tcp?.close();
    for (const socket of connections) socket.destroy();
  };
  try {
    tcp = await openTcp(o, connections);
    const { port } = tcp.address() as { port: number };
    udp = await openUdp({ ...o, port });
    return { port, close };
  } catch (error) {
    close();
    throw error;
  }
}

async function openUdp(o: { address: string; port: number; answer: Answerer; log: Logger }): Promise<Socket> {
  const socket = createSocket('udp4');
  await new Promise<void>((resolve, reject) => {
    socket.once('error', (error) => {
      socket.close();
      reject(error);
    });
    socket.bind(o.port, o.address, resolve);
  });
  socket.removeAllListeners('error');
  socket.on('error', (error) => o.log.warn({ err: error }, 'DNS socket'));
  socket.on('message', (message, from) => {
    o.answer(message, false)
      .then((reply) => reply && socket.send(reply, from.port, from.address))
      .catch((error) => o.log.warn({ err: error }, 'cannot answer a query'));
  });
  return socket;
}

async function openTcp(o: { address: string; port: number; answer: Answerer; log: Logger }, connections: Set<TcpSocket>): Promise<Server> {
  // Askers may close their side after the question.
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    connections.add(socket);
    socket.setTimeout(idleMs, () => socket.destroy());
    socket.on('error', () => socket.destroy());
    socket.on('close', () => connections.delete(socket));
    const open = new Set<Promise<void>>();
    let buffer: Buffer = Buffer.alloc(0);
    socket.on('data', (chunk: Buffer) => {
      buffer = Buffer.concat([buffer, chunk]);
      while (buffer.length >= 2 && buffer.length >= 2 + buffer.readUInt16BE(0)) {
        const message = Buffer.from(buffer.subarray(2, 2 + buffer.readUInt16BE(0)));
        buffer = buffer.subarray(2 + message.length);
        const answering = o.answer(message, true).then(
          (reply) => {
            if (reply && socket.writable) socket.write(framed(reply));
          },
          (error) => {
            o.log.warn({ err: error }, 'cannot answer a query');
            socket.destroy();
          },
        );
        open.add(answering);
        void answering.finally(() => open.delete(answering));
      }
    });
    socket.on('end', () => void Promise.all(open).then(() => socket.end()));
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(o.port, o.address, resolve);
  });
  server.removeAllListeners('error');
  server.on('error', (error) => o.log.warn({ err: error }, 'DNS server'));
  return server;
}
