import { createConnection } from 'node:net';
import { createInterface } from 'node:readline';
import type { CloudState } from '../localaws/contract.ts';
import type { AwsControlAnswer, AwsControlRequest, FollowedInstance } from './aws-control.ts';

/** Asks the aws process of a cluster one thing. Rejects with its words. */
export function askAws(path: string, request: AwsControlRequest): Promise<any> {
  return new Promise((resolve, reject) => {
    const socket = createConnection(path);
    socket.on('error', reject);
    socket.on('connect', () => socket.write(`${JSON.stringify(request)}\n`));
    createInterface({ input: socket })
      .on('line', (line) => {
        socket.destroy();
        const answer: AwsControlAnswer = JSON.parse(line);
        if ('error' in answer) reject(new Error(answer.error));
        else resolve(answer);
      })
      .on('error', () => {});
    socket.on('close', () => reject(new Error(`the embedded AWS did not answer on ${path}`)));
  });
}

const reconnectMs = 500;

/** The simulated instances of a cluster as its aws process tells of them; over its restarts, with what was last known meanwhile. */
export function followAws(path: string, signal: AbortSignal) {
  let instances: FollowedInstance[] = [];
  const callbacks = new Set<() => void>();
  const connect = () => {
    if (signal.aborted) return;
    const socket = createConnection(path);
    const end = () => socket.destroy();
    signal.addEventListener('abort', end, { once: true });
    socket.on('error', () => {});
    socket.on('connect', () => socket.write(`${JSON.stringify({ do: 'follow' })}\n`));
    createInterface({ input: socket })
      .on('line', (line) => {
        instances = JSON.parse(line).instances ?? instances;
        for (const callback of callbacks) callback();
      })
      .on('error', () => {});
    socket.on('close', () => {
      signal.removeEventListener('abort', end);
      if (!signal.aborted) setTimeout(connect, reconnectMs).unref();
    });
  };
  connect();
  return {
    read: async () => ({ instances }) as unknown as CloudState & { instances: FollowedInstance[] },
    onChange(callback: () => void) {
      callbacks.add(callback);
      return () => callbacks.delete(callback);
    },
  };
}
