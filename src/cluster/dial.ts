import { createConnection, type Socket } from 'node:net';

/**
 * Connects to an address inside a VPC through its agent's Unix socket (protocol in docs/architecture.md).
 * Rejects with the agent's words, or after timeoutMs.
 */
export function dialVpc(agentSocket: string, host: string, port: number, signal?: AbortSignal, timeoutMs = 30_000): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = createConnection(agentSocket);
    let head = Buffer.alloc(0);
    const fail = (error: Error) => {
      cleanup();
      socket.destroy();
      reject(error);
    };
    const onAbort = () => fail(signal?.reason instanceof Error ? signal.reason : new Error('aborted'));
    const timer = setTimeout(() => fail(new Error(`dial tcp ${host}:${port}: i/o timeout`)), timeoutMs);
    const cleanup = () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
      socket.off('data', onData);
      socket.off('error', onError);
      socket.off('close', onClose);
    };
    const onError = (error: Error) => fail(new Error(`dial tcp ${host}:${port}: ${error.message}`));
    const onClose = () => fail(new Error(`dial tcp ${host}:${port}: the VPC's agent closed the connection`));
    const onData = (chunk: Buffer) => {
      head = Buffer.concat([head, chunk]);
      const end = head.indexOf(0x0a);
      if (end < 0) return;
      const answer = head.subarray(0, end).toString();
      if (answer !== 'OK') return fail(new Error(`dial tcp ${host}:${port}: ${answer.replace(/^ERR /, '')}`));
      cleanup();
      socket.pause();
      const rest = head.subarray(end + 1);
      if (rest.length) socket.unshift(rest);
      resolve(socket);
    };
    if (signal?.aborted) return onAbort();
    signal?.addEventListener('abort', onAbort, { once: true });
    socket.on('data', onData);
    socket.on('error', onError);
    socket.on('close', onClose);
    socket.write(`CONNECT ${host}:${port}\n`);
  });
}
