import { randomInt } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { getServers } from 'node:dns';
import { connect } from 'node:net';

/**
 * Asks the host's own name servers a question from inside a VPC: the message goes out and the answer comes back as it is.
 * Tries each server for `timeout` milliseconds; over TCP where UDP's answer was cut short.
 */
export async function forwardQuery(message: Buffer, timeout = 2500): Promise<Buffer> {
  let last: Error = new Error('the host has no name server');
  for (const server of getServers()) {
    const { host, port } = splitServer(server);
    try {
      const answer = await overUdp(message, host, port, timeout);
      return answer[2] & 0x02 ? await overTcp(message, host, port, timeout) : answer;
    } catch (error) {
      last = error as Error;
    }
  }
  throw last;
}

function splitServer(server: string): { host: string; port: number } {
  const match = /^\[(.+)\]:(\d+)$/.exec(server) ?? /^([^:]+):(\d+)$/.exec(server);
  return match ? { host: match[1], port: Number(match[2]) } : { host: server, port: 53 };
}

function overUdp(message: Buffer, host: string, port: number, timeout: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const socket = createSocket(host.includes(':') ? 'udp6' : 'udp4');
    const own = Buffer.from(message);
    // An id of our own: that of the asker may be known to others.
    own.writeUInt16BE(randomInt(65536), 0);
    const finish = (error: Error | undefined, answer?: Buffer) => {
      clearTimeout(timer);
      socket.close();
      if (error) reject(error);
      else resolve(answer!);
    };
    const timer = setTimeout(() => finish(new Error(`name server ${host} did not answer within ${timeout / 1000} s`)), timeout);
    socket.once('error', (error) => finish(error));
    socket.on('message', (answer) => {
      if (answer.length < 12 || answer.readUInt16BE(0) !== own.readUInt16BE(0)) return;
      message.copy(answer, 0, 0, 2);
      finish(undefined, answer);
    });
    socket.connect(port, host, () => socket.send(own));
  });
}

function overTcp(message: Buffer, host: string, port: number, timeout: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port });
    socket.setTimeout(timeout, () => socket.destroy(new Error(`name server ${host} did not answer within ${timeout / 1000} s`)));
    socket.once('error', reject);
    socket.once('close', () => reject(new Error(`name server ${host} closed the connection`)));
    const length = Buffer.alloc(2);
    length.writeUInt16BE(message.length);
    socket.write(Buffer.concat([length, message]));
    let received = Buffer.alloc(0);
    socket.on('data', (chunk) => {
      received = Buffer.concat([received, chunk]);
      if (received.length < 2 || received.length < 2 + received.readUInt16BE(0)) return;
      resolve(received.subarray(2, 2 + received.readUInt16BE(0)));
      socket.destroy();
    });
  });
}
