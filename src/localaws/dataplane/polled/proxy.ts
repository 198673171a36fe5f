import { connect as connectPlain, type Socket } from 'node:net';
import { connect as connectSecure } from 'node:tls';

/** Joins connections that instances made to the endpoint's address in their VPC to an endpoint elsewhere. Bytes pass as they are. */
export function forwardTo(endpoint: string): (socket: Socket) => void {
  const url = new URL(endpoint);
  const secure = url.protocol === 'https:';
  const port = Number(url.port || (secure ? 443 : 80));
  const host = url.hostname.replace(/^\[|\]$/g, '');
  return (socket) => {
    const far = secure ? connectSecure({ host, port, servername: host }) : connectPlain({ host, port });
    for (const [one, other] of [
      [socket, far],
      [far, socket],
    ] as const) {
      one.on('error', () => other.destroy());
      one.on('close', () => other.destroy());
    }
    socket.pipe(far);
    far.pipe(socket);
  };
}
