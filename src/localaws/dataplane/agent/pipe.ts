import type { Socket } from 'node:net';

/**
 * Joins two connections, each made with allowHalfOpen: bytes go both ways with backpressure, an end of one direction is passed
 * on as such, and a connection that breaks breaks the other.
 */
export function join(a: Socket, b: Socket): void {
  for (const [from, to] of [
    [a, b],
    [b, a],
  ]) {
    from.setNoDelay(true);
    from.pipe(to);
    from.on('error', () => {});
    from.on('close', (failed) => {
      // Broken, or closed in the middle of what it sent: the other side must not take that for an orderly end.
      if ((failed || !from.readableEnded || !to.readableEnded) && !to.destroyed) reset(to);
    });
  }
}

/** A Unix socket knows no reset. */
function reset(socket: Socket): void {
  if (socket.remoteFamily) socket.resetAndDestroy();
  else socket.destroy();
}
