import packet, { type Answer, type DecodedPacket, type Packet, type Question } from 'dns-packet';
import type { Logger } from 'pino';
import type { InformerFactory } from '../client/informer.ts';
import { type Clock, sleep, systemClock } from '../client/clock.ts';
import { listenForDns } from './dns-listener.ts';
import { createClusterRecords } from './dns-records.ts';
import { nameServers, Upstreams } from './dns-upstream.ts';
import { shell } from './shell.ts';

export interface ClusterDnsOptions {
  informers: InformerFactory;
  /** cluster.local */
  domain: string;
  /** The service's address, which this node takes on its loopback interface: every node answers its own pods. */
  address: string;
  port?: number;
  /** Resolvers for every other name, as ADDRESS or ADDRESS:PORT; those of /etc/resolv.conf by default. */
  upstreams?: string[];
  /** Whether to put the address on the loopback interface. */
  takeAddress?: boolean;
  clock?: Clock;
  log: Logger;
  signal: AbortSignal;
}

/** Answers beyond this are cut over UDP where the asker names no larger size (RFC 1035). */
const smallestUdp = 512;
/** What goes through networks in one piece. */
const largestUdp = 1232;
const longestChain = 8;
const headerLength = 12;
const rcodes = { NOERROR: 0, FORMERR: 1, SERVFAIL: 2, NXDOMAIN: 3, NOTIMP: 4 } as const;

/**
 * Cluster DNS of one node: answers for the cluster's domain from informers, and asks the node's resolvers for the rest.
 * listening resolves to the port once it answers; what hinders that is logged and tried again.
 */
export function startClusterDns(o: ClusterDnsOptions): { name: string; done: Promise<void>; listening: Promise<number | undefined> } {
  const records = createClusterRecords(o.informers, o.domain, o.address);
  const upstreams = new Upstreams((o.upstreams ?? nameServers()).filter((u) => u !== o.address));

  async function answer(message: Buffer, overTcp: boolean): Promise<Buffer | undefined> {
    let query: DecodedPacket;
    try {
      query = packet.decode(message);
    } catch {
      return undefined;
    }
    if (query.type !== 'query') return undefined;
    const question = query.questions?.[0];
    if ((query as { opcode?: string }).opcode !== 'QUERY') return failure(query, rcodes.NOTIMP);
    if (!question || query.questions?.length !== 1) return failure(query, rcodes.FORMERR);
    const found = records.lookup(question);
    if (!found) return (await upstreams.ask(message, overTcp)) ?? failure(query, rcodes.SERVFAIL);
    const answers = rotated(found.answers);
    if (found.follow) answers.push(...(await followed(found.follow, question)));
    const reply: Packet = {
      type: 'response',
      id: query.id ?? 0,
      flags: packet.AUTHORITATIVE_ANSWER | packet.RECURSION_AVAILABLE | ((query.flags ?? 0) & packet.RECURSION_DESIRED) | rcodes[found.rcode],
      questions: [question],
      answers,
      ...(answers.length ? {} : { authorities: [records.authority()] }),
      ...(found.additionals?.length ? { additionals: found.additionals } : {}),
    };
    return sized(reply, query, overTcp);
  }

  /** What a CNAME leads to, inside of the cluster or outside. */
  async function followed(first: string, question: Question): Promise<Answer[]> {
    const chain: Answer[] = [];
    for (let name: string | undefined = first, steps = 0; name && steps < longestChain; steps++) {
      const inside = records.lookup({ ...question, name });
      if (!inside) return [...chain, ...(await upstreams.resolve(name, question.type))];
      chain.push(...rotated(inside.answers));
      name = inside.follow;
    }
    return chain;
  }

  const stopped = new Promise<void>((resolve) => {
    if (o.signal.aborted) resolve();
    else o.signal.addEventListener('abort', () => resolve(), { once: true });
  });

  async function listen(): Promise<{ port: number; close(): void }> {
    await records.synced(o.signal);
    for (let delay = 1000; ; delay = Math.min(delay * 2, 30_000)) {
      try {
        if (o.takeAddress ?? true) await shell('ip address replace "$1/32" dev lo', [o.address]);
        return await listenForDns({ address: o.address, port: o.port ?? 53, answer, log: o.log });
      } catch (error) {
        o.log.error({ err: error, retryInMs: delay }, `cluster DNS cannot listen on ${o.address}`);
        await sleep(o.clock ?? systemClock, delay, o.signal);
      }
    }
  }

  const listening = listen();
  const done = listening.then(
    async (listener) => {
      if (!o.signal.aborted) o.log.info(`cluster DNS answers on ${o.address}:${listener.port}`);
      await stopped;
      listener.close();
    },
    (error) => {
      if (!o.signal.aborted) o.log.error({ err: error }, 'cluster DNS cannot start');
    },
  );
  return {
    name: 'cluster-dns',
    done,
    listening: listening.then(
      (l) => l.port,
      () => undefined,
    ),
  };
}

/** Records of addresses in another order each time, so that askers that take the first one spread. */
function rotated(answers: Answer[]): Answer[] {
  if (answers.length < 2) return [...answers];
  const start = Math.floor(Math.random() * answers.length);
  return [...answers.slice(start), ...answers.slice(0, start)];
}

const optOf = (query: DecodedPacket) => query.additionals?.find((r) => r.type === 'OPT') as { udpPayloadSize?: number } | undefined;

/** An extended query gets an extended answer (RFC 6891). */
function withOpt(reply: Packet, query: DecodedPacket): Packet {
  if (!optOf(query)) return reply;
  const opt = { type: 'OPT', name: '.', udpPayloadSize: largestUdp, extendedRcode: 0, ednsVersion: 0, flags: 0, flag_do: false, options: [] };
  return { ...reply, additionals: [...(reply.additionals ?? []), opt as unknown as Answer] };
}

function failure(query: DecodedPacket, rcode: number): Buffer {
  const flags = packet.RECURSION_AVAILABLE | ((query.flags ?? 0) & (packet.RECURSION_DESIRED | 0x7800)) | rcode;
  return packet.encode(withOpt({ type: 'response', id: query.id ?? 0, flags, questions: query.questions ?? [] }, query));
}

/** As many answers as go into one message; where some do not, the asker is told to come by TCP. Not all can: so they get some. */
function sized(reply: Packet, query: DecodedPacket, overTcp: boolean): Buffer {
  const whole = packet.encode(withOpt(reply, query));
  const size = Math.min(optOf(query)?.udpPayloadSize ?? smallestUdp, largestUdp);
  const limit = overTcp ? 65_535 : Math.max(smallestUdp, size);
  if (whole.length <= limit) return whole;
  const bare = withOpt({ ...reply, additionals: [] }, query);
  const without = packet.encode(bare);
  if (without.length <= limit) return without;
  const answers = [...(reply.answers ?? [])];
  const each = answers.map((a) => packet.encodingLength({ answers: [a] }) - headerLength);
  for (let length = without.length; length > limit && answers.length; ) {
    answers.pop();
    length -= each.pop() as number;
  }
  return packet.encode({ ...bare, flags: (reply.flags ?? 0) | packet.TRUNCATED_RESPONSE, answers });
}
