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
    from.on('error', () => to.destroy());
    from.on('close', () => {
      // Closed in the middle of what it sent: the other side must not take that for an orderly end.
      if (!from.readableEnded) to.destroyed || ('resetAndDestroy' in to ? to.resetAndDestroy() : (to as Socket).destroy());
    });
  }
}
