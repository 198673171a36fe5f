import { createServer } from 'node:net';
import { UserError } from './state.ts';

const isFree = (port: number) =>
  new Promise<boolean>((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });

/** The first port from wanted on that nobody listens on and that no other cluster has in its record. */
export async function freePort(wanted: number, taken: ReadonlySet<number>): Promise<number> {
  for (let port = wanted; port < wanted + 1000; port++) {
    if (!taken.has(port) && (await isFree(port))) return port;
  }
  throw new UserError(`no free port from ${wanted} to ${wanted + 999} on 127.0.0.1`);
}
