import { createSocket } from 'node:dgram';
import { readFileSync } from 'node:fs';
import { createConnection, isIPv4, isIPv6 } from 'node:net';
import packet from 'dns-packet';

const timeoutMs = 2000;

/** The name servers of a resolv.conf, in its order. */
export function nameServers(path = '/etc/resolv.conf'): string[] {
  try {
    return [...readFileSync(path, 'utf8').matchAll(/^nameserver\s+([^\s%]+)/gm)].map((m) => m[1] as string);
  } catch {
    return [];
  }
}

/** Resolvers that are asked one after the other; each is an address, or `ADDRESS:PORT` (`[ADDRESS]:PORT`) where the port is not 53. */
export class Upstreams {
  readonly #servers: { host: string; port: number }[];

  constructor(servers: string[]) {
    this.#servers = servers.map((text) => {
      const [, host = text, port = '53'] = /^\[?([^\]]*?)\]?:(\d+)$/.exec(isIPv6(text) ? `[${text}]:53` : text) ?? [];
      if (!isIPv4(host) && !isIPv6(host)) throw new Error(`${text} is not the address of a DNS resolver`);
      return { host, port: Number(port) };
    });
  }

  /** The first answer to the query, as it came; undefined where nobody answers. One that failed is passed on only if all did. */
  async ask(query: Buffer, overTcp: boolean): Promise<Buffer | undefined> {
    let failed: Buffer | undefined;
    for (const { host, port } of this.#servers) {
      const reply = await (overTcp ? askTcp : askUdp)(host, port, query).catch(() => undefined);
      if (reply && !failsToAnswer(reply)) return reply;
      failed ??= reply;
    }
    return failed;
  }

  /** The records that a name outside of the cluster leads to. */
  async resolve(name: string, type: packet.RecordType): Promise<packet.Answer[]> {
    const questions = [{ name, type, class: 'IN' as const }];
    const id = Math.floor(Math.random() * 65_536);
    const query = packet.encode({ type: 'query', id, flags: packet.RECURSION_DESIRED, questions });
    const reply = (await this.ask(query, false)) ?? Buffer.alloc(0);
    try {
      const decoded = packet.decode(reply);
      if (!decoded.flag_tc) return decoded.answers ?? [];
      return packet.decode((await this.ask(query, true)) ?? reply).answers ?? [];
    } catch {
      return [];
    }
  }
}

/** SERVFAIL or REFUSED: another resolver may know. */
const failsToAnswer = (reply: Buffer): boolean => [2, 5].includes((reply[3] ?? 0) & 15);

/** An answer to somebody else's question must not pass for ours. */
const answers = (reply: Buffer, query: Buffer): boolean =>
  reply.length >= 12 && reply.readUInt16BE(0) === query.readUInt16BE(0) && ((reply[2] as number) & 0x80) !== 0;

function askUdp(host: string, port: number, query: Buffer): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const socket = createSocket(isIPv6(host) ? 'udp6' : 'udp4');
    const finish = (error: Error | undefined, reply?: Buffer) => {
      clearTimeout(timer);
      socket.close();
      if (reply) resolve(reply);
      else reject(error);
    };
    const timer = setTimeout(() => finish(new Error(`no answer from ${host} in ${timeoutMs} ms`)), timeoutMs);
    socket.once('error', finish);
    socket.on('message', (reply) => answers(reply, query) && finish(undefined, reply));
    // Connected, so that only this server's answers come in, and its refusal is heard.
    socket.connect(port, host, () => socket.send(query));
  });
}

function askTcp(host: string, port: number, query: Buffer): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const socket = createConnection({ host, port });
    const finish = (error: Error | undefined, reply?: Buffer) => {
      clearTimeout(timer);
      socket.destroy();
      if (reply) resolve(reply);
      else reject(error);
    };
    const timer = setTimeout(() => finish(new Error(`no answer from ${host} in ${timeoutMs} ms`)), timeoutMs);
    socket.on('error', finish);
    socket.on('close', () => finish(new Error(`${host} closed the connection`)));
    socket.write(framed(query));
    let buffer = Buffer.alloc(0);
    socket.on('data', (chunk: Buffer) => {
      buffer = Buffer.concat([buffer, chunk]);
      if (buffer.length < 2 || buffer.length < 2 + buffer.readUInt16BE(0)) return;
      const reply = buffer.subarray(2, 2 + buffer.readUInt16BE(0));
      if (answers(reply, query)) finish(undefined, reply);
      else finish(new Error(`${host} answered something else`));
    });
  });
}

/** A message as it goes over TCP: behind its length. */
export function framed(message: Buffer): Buffer {
  const head = Buffer.alloc(2);
  head.writeUInt16BE(message.length);
  return Buffer.concat([head, message]);
}
