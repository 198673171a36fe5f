import type { Duplex } from 'node:stream';
import type { WebSocket } from 'ws';

export const portForwardProtocols = ['v4.channel.k8s.io', 'portforward.k8s.io'];
const highWater = 1024 * 1024;

/**
 * Port forwarding over WebSocket channels: port i has channel 2i for data and 2i+1 for errors, each of which begins with the port number
 * in two bytes, low byte first.
 */
export async function servePortForward(ws: WebSocket, ports: number[], connect: (port: number) => Promise<Duplex>): Promise<void> {
  const send = (to: number, data: Buffer) => {
    if (ws.readyState === ws.OPEN) ws.send(Buffer.concat([Buffer.from([to]), data]));
  };
  const early = ports.map((): Buffer[] => []);
  const sockets: (Duplex | undefined)[] = ports.map(() => undefined);
  ws.on('error', () => {});
  ws.on('message', (raw: Buffer) => {
    const message = Buffer.from(raw);
    const on = message[0] ?? 255;
    const index = on >> 1;
    if (on % 2 === 1 || index >= ports.length || message.length === 1) return;
    const socket = sockets[index];
    if (!socket) early[index]!.push(message.subarray(1));
    else if (!socket.write(message.subarray(1))) {
      ws.pause();
      socket.once('drain', () => ws.resume());
    }
  });
  ws.on('close', () => {
    for (const socket of sockets) socket?.destroy();
  });
  let open = ports.length;
  const ended = () => {
    if (--open === 0) ws.close(1000);
  };
  for (const [index, port] of ports.entries()) {
    const head = Buffer.from([port & 0xff, port >> 8]);
    send(2 * index, head);
    send(2 * index + 1, head);
    try {
      const socket = await connect(port);
      sockets[index] = socket;
      for (const data of early[index]!) socket.write(data);
      socket.on('data', (chunk: Buffer) => {
        send(2 * index, chunk);
        if (ws.bufferedAmount > highWater) {
          socket.pause();
          setTimeout(() => socket.resume(), 10);
        }
      });
      socket.on('error', (error) => send(2 * index + 1, Buffer.from(error.message)));
      socket.on('close', ended);
    } catch (error) {
      send(2 * index + 1, Buffer.from(error instanceof Error ? error.message : String(error)));
      ended();
    }
  }
}
