import { execFile } from 'node:child_process';
import { createSocket, type Socket } from 'node:dgram';
import { readFileSync } from 'node:fs';
import { createServer, type Server, type Socket as TcpSocket } from 'node:net';
import { promisify } from 'node:util';
import packet, { type DecodedPacket, type Packet, type Question } from 'dns-packet';
import type { Logger } from 'pino';
import type { InformerFactory } from '../client/informer.ts';
import { createClusterRecords } from './dns-records.ts';

export interface ClusterDnsOptions {
  informers: InformerFactory;
  /** cluster.local */
  domain: string;
  /** The service's address, which this node takes on its loopback interface: every node answers its own pods. */
  address: string;
  port?: number;
  /** Resolvers for every other name; those of /etc/resolv.conf by default. */
  upstreams?: string[];
  /** Whether to put the address on the loopback interface. */
  takeAddress?: boolean;
  log: Logger;
  signal: AbortSignal;
}

const upstreamTimeoutMs = 2000;
/** Answers beyond this are cut over UDP where the asker names no larger size (RFC 1035). */
const smallestUdp = 512;

function resolvConf(): string[] {
  try {
    return [...readFileSync('/etc/resolv.conf', 'utf8').matchAll(/^nameserver\s+(\S+)/gm)].map((m) => m[1] as string);
  } catch {
    return [];
  }
}

/** Cluster DNS of one node: answers for the cluster's domain from informers, and asks the node's resolvers for the rest. */
export function startClusterDns(o: ClusterDnsOptions): { name: string; done: Promise<void>; listening: Promise<void> } {
  const records = createClusterRecords(o.informers, o.domain);
  const port = o.port ?? 53;
  const upstreams = (o.upstreams ?? resolvConf()).filter((u) => u !== o.address);

  async function answer(raw: Buffer, overTcp: boolean): Promise<Buffer | undefined> {
    let query: DecodedPacket;
    try {
      query = packet.decode(raw);
    } catch {
      return undefined;
    }
    const question = query.questions?.[0];
    if (query.type !== 'query' || !question) return undefined;
    const found = records.lookup(question);
    if (!found) return forward(raw, overTcp, query);
    const answers = [...found.answers];
    if (found.follow) answers.push(...(await followed(found.follow, question)));
    const reply: Packet = {
      type: 'response',
      id: query.id ?? 0,
      flags:
        packet.AUTHORITATIVE_ANSWER |
        packet.RECURSION_AVAILABLE |
        ((query.flags ?? 0) & packet.RECURSION_DESIRED) |
        (found.rcode === 'NXDOMAIN' ? 3 : 0),
      questions: [question],
      answers,
      ...(answers.length ? {} : { authorities: records.authority() ?? [] }),
    };
    return sized(reply, query, overTcp);
  }

  function sized(reply: Packet, query: DecodedPacket, overTcp: boolean): Buffer {
    const bytes = packet.encode(reply);
    const opt = query.additionals?.find((r) => r.type === 'OPT') as { udpPayloadSize?: number } | undefined;
    const limit = Math.max(smallestUdp, opt?.udpPayloadSize ?? smallestUdp);
    if (overTcp || bytes.length <= limit) return bytes;
    return packet.encode({ ...reply, flags: (reply.flags ?? 0) | packet.TRUNCATED_RESPONSE, answers: [], authorities: [] });
  }

  const failure = (query: DecodedPacket): Buffer =>
    packet.encode({ type: 'response', id: query.id ?? 0, flags: packet.RECURSION_AVAILABLE | 2, questions: query.questions ?? [] });

  async function forward(raw: Buffer, overTcp: boolean, query: DecodedPacket): Promise<Buffer> {
    for (const upstream of upstreams) {
      const reply = await (overTcp ? askTcp : askUdp)(upstream, raw).catch(() => undefined);
      if (reply) return reply;
    }
    return failure(query);
  }

  async function followed(name: string, question: Question) {
    const inside = records.lookup({ ...question, name });
    if (inside) return inside.answers;
    const raw = packet.encode({
      type: 'query',
      id: 1 + Math.floor(Math.random() * 65_534),
      flags: packet.RECURSION_DESIRED,
      questions: [{ ...question, name }],
    });
    for (const upstream of upstreams) {
      const reply = await askUdp(upstream, raw).catch(() => undefined);
      if (reply) return packet.decode(reply).answers ?? [];
    }
    return [];
  }

  let udp: Socket | undefined;
  let tcp: Server | undefined;
  const connections = new Set<TcpSocket>();

  async function listen(): Promise<void> {
    if (o.takeAddress ?? true) await promisify(execFile)('ip', ['address', 'replace', `${o.address}/32`, 'dev', 'lo']);
    const u = createSocket('udp4');
    udp = u;
    u.on('message', (raw, from) => {
      void answer(raw, false)
        .then((reply) => reply && u.send(reply, from.port, from.address))
        .catch((error) => o.log.warn({ err: error }, 'cannot answer a query'));
    });
    tcp = createServer((socket) => {
      connections.add(socket);
      socket.setTimeout(30_000, () => socket.destroy());
      socket.on('error', () => socket.destroy());
      socket.on('close', () => connections.delete(socket));
      let buffer = Buffer.alloc(0);
      socket.on('data', (chunk: Buffer) => {
        buffer = Buffer.concat([buffer, chunk]);
        while (buffer.length >= 2 && buffer.length >= 2 + buffer.readUInt16BE(0)) {
          const length = buffer.readUInt16BE(0);
          const raw = buffer.subarray(2, 2 + length);
          buffer = buffer.subarray(2 + length);
          void answer(Buffer.from(raw), true).then(
            (reply) => {
              if (!reply || socket.destroyed) return;
              const head = Buffer.alloc(2);
              head.writeUInt16BE(reply.length);
              socket.write(Buffer.concat([head, reply]));
            },
            () => socket.destroy(),
          );
        }
      });
    });
    await Promise.all([
      new Promise<void>((resolve, reject) => {
        u.once('error', reject);
        u.bind(port, o.address, () => {
          u.off('error', reject);
          u.on('error', (error) => o.log.warn({ err: error }, 'DNS socket'));
          resolve();
        });
      }),
      new Promise<void>((resolve, reject) => tcp?.once('error', reject).listen(port, o.address, () => resolve())),
    ]);
    o.log.info(`cluster DNS on ${o.address}:${port}, upstreams ${upstreams.join(', ') || 'none'}`);
  }

  const listening = records.synced(o.signal).then(listen);
  const done = (async () => {
    await listening.catch((error) => {
      if (!o.signal.aborted) o.log.error({ err: error }, 'cluster DNS cannot start');
    });
    if (!o.signal.aborted) await new Promise<void>((resolve) => o.signal.addEventListener('abort', () => resolve(), { once: true }));
    udp?.close();
    for (const socket of connections) socket.destroy();
    tcp?.close();
  })();
  return { name: 'cluster-dns', done, listening: listening.catch(() => {}) };
}

function askUdp(server: string, raw: Buffer): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const socket = createSocket(server.includes(':') ? 'udp6' : 'udp4');
    const finish = (error?: Error, reply?: Buffer) => {
      clearTimeout(timer);
      socket.close();
      if (reply) resolve(reply);
      else reject(error);
    };
    const timer = setTimeout(() => finish(new Error(`no answer from ${server} in ${upstreamTimeoutMs} ms`)), upstreamTimeoutMs);
    socket.on('error', finish);
    // A reply to somebody else's question must not pass for ours.
    socket.on('message', (reply) => reply.length > 2 && reply.readUInt16BE(0) === raw.readUInt16BE(0) && finish(undefined, reply));
    socket.send(raw, 53, server, (error) => error && finish(error));
  });
}

async function askTcp(server: string, raw: Buffer): Promise<Buffer> {
  const { createConnection } = await import('node:net');
  return new Promise((resolve, reject) => {
    const socket = createConnection({ host: server, port: 53, timeout: upstreamTimeoutMs });
    let buffer = Buffer.alloc(0);
    const fail = (error: Error) => {
      socket.destroy();
      reject(error);
    };
    socket.on('error', fail);
    socket.on('timeout', () => fail(new Error(`no answer from ${server} in ${upstreamTimeoutMs} ms`)));
    socket.on('connect', () => {
      const head = Buffer.alloc(2);
      head.writeUInt16BE(raw.length);
      socket.write(Buffer.concat([head, raw]));
    });
    socket.on('data', (chunk: Buffer) => {
      buffer = Buffer.concat([buffer, chunk]);
      if (buffer.length < 2 || buffer.length < 2 + buffer.readUInt16BE(0)) return;
      socket.destroy();
      resolve(buffer.subarray(2, 2 + buffer.readUInt16BE(0)));
    });
  });
}
