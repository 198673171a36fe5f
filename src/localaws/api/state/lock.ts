import { createHash } from 'node:crypto';
import { realpath, rm } from 'node:fs/promises';
import { createConnection, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/**
 * Takes a directory for this process, until the returned function is called or the process ends, however it does. The lock is
 * an abstract Unix socket, which the kernel removes with its process; elsewhere than on Linux a socket file. Throws when another process has it.
 */
export async function lockDirectory(directory: string): Promise<() => Promise<void>> {
  const name = createHash('sha256')
    .update(await realpath(directory))
    .digest('hex')
    .slice(0, 32);
  const path = process.platform === 'linux' ? `\0kumulus-aws-${name}` : join(tmpdir(), `kumulus-aws-${name}.sock`);
  // A socket file of a process that was killed stays, and nobody answers on it.
  if (process.platform !== 'linux' && !(await answers(path))) await rm(path, { force: true });
  const server = createServer((socket) => socket.destroy());
  server.unref();
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EADDRINUSE') return reject(error);
      reject(new Error(`the state of the embedded AWS in ${directory} is in use by another process`));
    });
    server.listen(path, resolve);
  });
  return () => new Promise((resolve) => server.close(() => resolve()));
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}
