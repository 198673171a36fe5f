import { createHash } from 'node:crypto';
import { realpath } from 'node:fs/promises';
import { createServer } from 'node:net';

/**
 * Takes a directory for this process, until the returned function is called or the process ends, however it does. The lock is
 * an abstract Unix socket, which the kernel removes with its process. Throws when another process has it.
 */
export async function lockDirectory(directory: string): Promise<() => Promise<void>> {
  const name = createHash('sha256')
    .update(await realpath(directory))
    .digest('hex')
    .slice(0, 32);
  const server = createServer((socket) => socket.destroy());
  server.unref();
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EADDRINUSE') return reject(error);
      reject(new Error(`the state of the embedded AWS in ${directory} is in use by another process`));
    });
    server.listen(`\0kumulus-aws-${name}`, resolve);
  });
  return () => new Promise((resolve) => server.close(() => resolve()));
}
