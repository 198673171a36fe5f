import { rmSync } from 'node:fs';
import { connect, createServer, isIPv4, type Server, type Socket } from 'node:net';
import type { AgentConfig } from '../agent-protocol.ts';
import { join } from './pipe.ts';

const CONNECT_TIMEOUT = 10_000;

/**
 * The dial socket: `CONNECT address:port\n` is answered with `OK\n` and then is that connection, or with `ERR reason\n`.
 * Resolves when it listens. `from` gives the source address of connections, if they shall have a certain one.
 */
export function listenForDials(path: string, from: () => string | undefined): Promise<Server> {
  rmSync(path, { force: true });
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    let received = Buffer.alloc(0);
    socket.on('error', () => socket.destroy());
    socket.setTimeout(CONNECT_TIMEOUT, () => socket.destroy());
    const onData = (chunk: Buffer) => {
      received = Buffer.concat([received, chunk]);
      const end = received.indexOf(10);
      if (end === -1 && received.length <= 100) return;
      socket.off('data', onData);
      socket.pause();
      socket.setTimeout(0);
      const line = received.toString('latin1', 0, Math.max(end, 0));
      if (end + 1 < received.length) socket.unshift(received.subarray(end + 1));
      dial(socket, line, from());
    };
    socket.on('data', onData);
    socket.on('end', () => received.indexOf(10) === -1 && socket.destroy());
  });
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    const before = process.umask(0o177);
    server.listen(path, () => resolve(server));
    process.umask(before);
  });
}

function dial(socket: Socket, line: string, localAddress: string | undefined): void {
  const match = /^CONNECT ([0-9.]+):(\d+)$/.exec(line.trimEnd());
  if (!match || !isIPv4(match[1]) || Number(match[2]) > 65535) {
    socket.end('ERR expected "CONNECT address:port"\n');
    return;
  }
  const upstream = connect({ host: match[1], port: Number(match[2]), localAddress, allowHalfOpen: true });
  const failed = (reason: string) => {
    upstream.destroy();
    socket.end(`ERR ${reason}\n`);
  };
  const onError = (error: NodeJS.ErrnoException) => failed(error.message);
  upstream.setTimeout(CONNECT_TIMEOUT, () => failed(`connect ETIMEDOUT ${match[1]}:${match[2]} after ${CONNECT_TIMEOUT / 1000} s`));
  upstream.once('error', onError);
  socket.once('close', () => upstream.destroyed || !upstream.connecting || upstream.destroy());
  upstream.once('connect', () => {
    upstream.setTimeout(0);
    upstream.off('error', onError);
    socket.write('OK\n');
    join(socket, upstream);
  });
}

/** The interfaces held for the host: each connection to one is joined to its Unix socket. */
export class HeldInterfaces {
  private readonly servers = new Map<string, Server>();

  async update(held: AgentConfig['held']): Promise<void> {
    const wanted = new Map(held.map((one) => [`${one.address}:${one.port} ${one.socketPath}`, one]));
    for (const [key, server] of this.servers) {
      if (wanted.has(key)) continue;
      server.close();
      this.servers.delete(key);
    }
    for (const [key, one] of wanted) {
      if (this.servers.has(key)) continue;
      const server = createServer({ allowHalfOpen: true }, (client) => {
        const upstream = connect({ path: one.socketPath, allowHalfOpen: true });
        upstream.once('error', () => client.resetAndDestroy());
        join(client, upstream);
      });
      this.servers.set(key, server);
      await listen(server, one.address, one.port);
    }
  }
}

export function listen(server: Server, host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen({ host, port, backlog: 511 }, () => {
      server.off('error', reject);
      server.on('error', () => {});
      resolve();
    });
  });
}
