import { createSocket, type Socket as UdpSocket } from 'node:dgram';
import { createServer } from 'node:net';
import { type Answer, decode, encode, type Packet } from 'dns-packet';
import { contains } from '../addresses.ts';
import type { AgentConfig } from '../agent-protocol.ts';
import { AWS_ADDRESS } from '../names.ts';
import { listen } from './tunnel.ts';

const AUTHORITATIVE = 1 << 10;
const RECURSION_DESIRED = 1 << 8;
const RECURSION_AVAILABLE = 1 << 7;
const SERVFAIL = 2;
const NXDOMAIN = 3;
const LINK_LOCAL = '169.254.0.0/16';

/** What a VPC's resolver answers itself; undefined for a name that the host's name servers have to be asked for. */
export function localAnswer(config: AgentConfig, name: string, type: string): { answers: Answer[]; code: number } | undefined {
  const key = name.toLowerCase().replace(/\.$/, '');
  const addresses = config.names[key];
  if (addresses) {
    const answers = type === 'A' ? shuffled(addresses).map((data): Answer => ({ type: 'A', name, ttl: 60, data })) : [];
    return { answers, code: 0 };
  }
  if (key === 'localhost') return { answers: type === 'A' ? [{ type: 'A', name, ttl: 60, data: '127.0.0.1' }] : [], code: 0 };
  const reverse = /^(\d+)\.(\d+)\.(\d+)\.(\d+)\.in-addr\.arpa$/.exec(key);
  if (reverse) {
    const address = reverse.slice(1, 5).reverse().join('.');
    const hostname =
      config.subjects[address]?.hostname ??
      (config.names[`ip-${address.replaceAll('.', '-')}.ec2.internal`] && `ip-${address.replaceAll('.', '-')}.ec2.internal`);
    if (hostname) return { answers: type === 'PTR' ? [{ type: 'PTR', name, ttl: 60, data: hostname }] : [], code: 0 };
    return [...config.cidrs, LINK_LOCAL].some((cidr) => contains(cidr, address)) ? { answers: [], code: NXDOMAIN } : undefined;
  }
  if (config.authoritative.some((suffix) => key === suffix || key.endsWith(`.${suffix}`))) return { answers: [], code: NXDOMAIN };
  // AWS's own endpoints are the embedded one's: also those of its registry.
  if (key.endsWith('.amazonaws.com')) return { answers: type === 'A' ? [{ type: 'A', name, ttl: 60, data: AWS_ADDRESS }] : [], code: 0 };
  return undefined;
}

function shuffled<T>(items: T[]): T[] {
  const start = Math.floor(Math.random() * items.length);
  return [...items.slice(start), ...items.slice(0, start)];
}

/** DNS at one address, over UDP and TCP. `forward` asks the host's name servers. */
export async function serveDns(address: string, config: () => AgentConfig, forward: (message: Buffer) => Promise<Buffer>): Promise<() => void> {
  const respond = async (message: Buffer): Promise<Buffer | undefined> => {
    let query: Packet;
    try {
      query = decode(message);
    } catch {
      return undefined;
    }
    const question = query.questions?.[0];
    if (query.type !== 'query' || !question) return undefined;
    const reply = (answers: Answer[], code: number, authoritative: boolean) =>
      encode({
        type: 'response',
        id: query.id,
        flags: RECURSION_AVAILABLE | ((query.flags ?? 0) & RECURSION_DESIRED) | (authoritative ? AUTHORITATIVE : 0) | code,
        questions: [question],
        answers,
      });
    const local = localAnswer(config(), question.name, question.type);
    if (local) return reply(local.answers, local.code, true);
    try {
      return await forward(message);
    } catch {
      return reply([], SERVFAIL, false);
    }
  };

  const udp: UdpSocket = createSocket('udp4');
  udp.on('message', (message, from) => {
    respond(message).then(
      (answer) => answer && udp.send(answer, from.port, from.address, () => {}),
      () => {},
    );
  });
  await new Promise<void>((resolve, reject) => {
    udp.once('error', reject);
    udp.bind(53, address, resolve);
  });
  udp.on('error', () => {});

  const tcp = createServer((socket) => {
    let received = Buffer.alloc(0);
    socket.on('error', () => socket.destroy());
    socket.setTimeout(30_000, () => socket.destroy());
    socket.on('data', (chunk) => {
      received = Buffer.concat([received, chunk]);
      while (received.length >= 2 && received.length >= 2 + received.readUInt16BE(0)) {
        const message = received.subarray(2, 2 + received.readUInt16BE(0));
        received = received.subarray(2 + message.length);
        respond(message).then(
          (answer) => {
            if (!answer) return void socket.destroy();
            const length = Buffer.alloc(2);
            length.writeUInt16BE(answer.length);
            socket.write(Buffer.concat([length, answer]));
          },
          () => socket.destroy(),
        );
      }
    });
  });
  await listen(tcp, address, 53);
  return () => {
    udp.close();
    tcp.close();
  };
}
