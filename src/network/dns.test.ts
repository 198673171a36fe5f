import { createSocket, type Socket } from 'node:dgram';
import { Resolver } from 'node:dns/promises';
import { connect, createServer, type Server } from 'node:net';
import packet, { type DecodedPacket as Decoded, type Packet, type Question } from 'dns-packet';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { FakeClock } from '../client/fake-clock.ts';
import { systemClock } from '../client/clock.ts';
import { createFakeClient } from '../client/fake.ts';
import { createInformerFactory } from '../client/informers.ts';
import { type ClusterDnsOptions, startClusterDns } from './dns.ts';
import { listenForDns } from './dns-listener.ts';
import { namespace, service, slice } from './testing-objects.ts';

type DecodedPacket = Decoded & { rcode?: string };
const log = pino({ level: 'silent' });
const many = Array.from({ length: 60 }, (_, i) => ({ ip: `10.244.0.${i + 2}` }));

describe('cluster DNS', () => {
  let stop: AbortController;
  let port: number;
  let done: Promise<void>[];
  const closing: (() => void)[] = [];

  beforeEach(() => {
    stop = new AbortController();
    done = [];
  });
  afterEach(async () => {
    stop.abort();
    await Promise.all(done);
    for (const close of closing.splice(0)) close();
  });

  function begin(more: Partial<ClusterDnsOptions> = {}) {
    const client = createFakeClient([
      namespace('shop'),
      service('web', { clusterIP: '10.96.0.20', ports: [{ name: 'http', port: 80 }] }),
      service('many', { clusterIP: 'None' }),
      slice('many', many),
      service('out', { type: 'ExternalName', externalName: 'www.example.com' }),
      service('inward', { type: 'ExternalName', externalName: 'web.shop.svc.cluster.local' }),
      service('twice', { type: 'ExternalName', externalName: 'inward.shop.svc.cluster.local' }),
      service('ring', { type: 'ExternalName', externalName: 'ring.shop.svc.cluster.local' }),
    ]);
    const informers = createInformerFactory(client, { log, clock: systemClock, signal: stop.signal });
    const dns = startClusterDns({
      informers,
      domain: 'cluster.local',
      address: '127.0.0.1',
      port: 0,
      takeAddress: false,
      upstreams: [],
      log,
      signal: stop.signal,
      ...more,
    });
    done.push(dns.done);
    return dns;
  }
  const start = async (more: Partial<ClusterDnsOptions> = {}) => {
    port = (await begin(more).listening) as number;
  };

  /** A resolver of the outer world that answers all A questions with one address, or as told; gives its ADDRESS:PORT. */
  async function upstream(reply: (query: DecodedPacket, overTcp: boolean) => Partial<Packet> | undefined = () => ({})): Promise<string> {
    const answer = async (message: Buffer, overTcp: boolean) => {
      const query = packet.decode(message);
      const questions = query.questions as Question[];
      const answers = [{ type: 'A' as const, name: questions[0]!.name, ttl: 60, data: '192.0.2.53' }];
      const more = reply(query, overTcp);
      return more && packet.encode({ type: 'response', id: query.id ?? 0, flags: packet.RECURSION_AVAILABLE, questions, answers, ...more });
    };
    const listener = await listenForDns({ address: '127.0.0.1', port: 0, answer, log });
    closing.push(listener.close);
    return `127.0.0.1:${listener.port}`;
  }

  const encode = (name: string, type = 'A', more: Partial<Packet> = {}) =>
    packet.encode({ type: 'query', id: 4711, flags: packet.RECURSION_DESIRED, questions: [{ name, type: type as Question['type'] }], ...more });

  function askUdp(message: Buffer): Promise<{ reply: DecodedPacket; size: number }> {
    const socket: Socket = createSocket('udp4');
    return new Promise<{ reply: DecodedPacket; size: number }>((resolve, reject) => {
      socket.on('message', (m) => resolve({ reply: packet.decode(m), size: m.length }));
      socket.on('error', reject);
      socket.connect(port, '127.0.0.1', () => socket.send(message));
    }).finally(() => socket.close());
  }
  const ask = async (name: string, type?: string, more?: Partial<Packet>) => (await askUdp(encode(name, type, more))).reply;
  const addresses = (reply: DecodedPacket) => reply.answers?.map((a) => ('data' in a ? a.data : undefined));

  /** Sends messages in the chunks given, then ends its side, and gives what comes back until the server ends. */
  function askTcp(chunks: Buffer[]): Promise<DecodedPacket[]> {
    return new Promise((resolve, reject) => {
      const socket = connect({ port, host: '127.0.0.1' });
      const got: Buffer[] = [];
      socket.on('data', (chunk) => got.push(chunk));
      socket.on('error', reject);
      socket.on('end', () => {
        let all = Buffer.concat(got);
        const replies: DecodedPacket[] = [];
        for (; all.length; all = all.subarray(2 + all.readUInt16BE(0))) replies.push(packet.decode(all.subarray(2, 2 + all.readUInt16BE(0))));
        resolve(replies);
      });
      void (async () => {
        for (const chunk of chunks) await new Promise((sent) => socket.write(chunk, sent));
        socket.end();
      })();
    });
  }
  const framed = (message: Buffer) => Buffer.concat([Buffer.from([message.length >> 8, message.length & 255]), message]);

  it('answers with authority, the question and the wish for recursion repeated', async () => {
    await start();
    const reply = await ask('web.shop.svc.cluster.local');
    expect(reply).toMatchObject({ id: 4711, type: 'response', rcode: 'NOERROR', flag_aa: true, flag_ra: true, flag_rd: true, flag_tc: false });
    expect(reply.questions).toEqual([{ name: 'web.shop.svc.cluster.local', type: 'A', class: 'IN' }]);
    expect(addresses(reply)).toEqual(['10.96.0.20']);
    const srv = await ask('_http._tcp.web.shop.svc.cluster.local', 'SRV');
    expect(addresses(srv)).toEqual([{ priority: 0, weight: 100, port: 80, target: 'web.shop.svc.cluster.local' }]);
    expect(srv.additionals).toMatchObject([{ type: 'A', data: '10.96.0.20' }]);
  });

  it('says what is not there with the zone that says so', async () => {
    await start();
    const missing = await ask('nothing.shop.svc.cluster.local');
    expect(missing).toMatchObject({ rcode: 'NXDOMAIN', answers: [], authorities: [{ type: 'SOA', name: 'cluster.local' }] });
    for (const type of ['AAAA', 'UNKNOWN_65', 'MX']) {
      const empty = await ask('web.shop.svc.cluster.local', type);
      expect(empty).toMatchObject({ rcode: 'NOERROR', answers: [], authorities: [{ type: 'SOA' }] });
    }
  });

  it('serves ordinary resolvers', async () => {
    await start();
    const resolver = new Resolver();
    resolver.setServers([`127.0.0.1:${port}`]);
    expect(await resolver.resolve4('web.shop.svc.cluster.local')).toEqual(['10.96.0.20']);
    expect(await resolver.reverse('10.96.0.20')).toEqual(['web.shop.svc.cluster.local']);
    expect((await resolver.resolve4('many.shop.svc.cluster.local')).sort()).toEqual(many.map((e) => e.ip).sort());
    await expect(resolver.resolve4('nothing.shop.svc.cluster.local')).rejects.toMatchObject({ code: 'ENOTFOUND' });
    await expect(resolver.resolve6('web.shop.svc.cluster.local')).rejects.toMatchObject({ code: 'ENODATA' });
  });

  it('cuts answers to what the asker takes over UDP, and tells all over TCP', async () => {
    await start();
    const small = await askUdp(encode('many.shop.svc.cluster.local'));
    expect(small.size).toBeLessThanOrEqual(512);
    expect(small.reply.flag_tc).toBe(true);
    expect(small.reply.answers!.length).toBeGreaterThan(5);
    const opt = { type: 'OPT', name: '.', udpPayloadSize: 4096, extendedRcode: 0, ednsVersion: 0, flags: 0, flag_do: false, options: [] };
    const larger = await askUdp(encode('many.shop.svc.cluster.local', 'A', { additionals: [opt as never] }));
    expect(larger.size).toBeGreaterThan(1100);
    expect(larger.size).toBeLessThanOrEqual(1232);
    expect(larger.reply.flag_tc).toBe(true);
    expect(larger.reply.additionals).toMatchObject([{ type: 'OPT', udpPayloadSize: 1232 }]);
    const [all] = await askTcp([framed(encode('many.shop.svc.cluster.local'))]);
    expect(all!.flag_tc).toBe(false);
    expect(all!.answers).toHaveLength(60);
  });

  it('spreads those who take the first address', async () => {
    await start();
    const first = new Set<unknown>();
    for (let i = 0; i < 40; i++) first.add(addresses(await ask('many.shop.svc.cluster.local'))![0]);
    expect(first.size).toBeGreaterThan(3);
  });

  it('answers several questions of one connection, however they are cut', async () => {
    await start();
    const bytes = Buffer.concat(['web', 'nothing', 'web'].map((n, id) => framed(encode(`${n}.shop.svc.cluster.local`, 'A', { id }))));
    const replies = await askTcp([bytes.subarray(0, 1), bytes.subarray(1, 30), bytes.subarray(30, 70), bytes.subarray(70)]);
    expect(replies.map((r) => [r.id, r.rcode]).sort()).toEqual([
      [0, 'NOERROR'],
      [1, 'NXDOMAIN'],
      [2, 'NOERROR'],
    ]);
  });

  it('survives rubbish, and refuses what it does not do', async () => {
    await start();
    const rubbish = createSocket('udp4');
    for (const text of ['', 'x', 'x'.repeat(600)]) await new Promise((sent) => rubbish.send(Buffer.from(text), port, '127.0.0.1', sent));
    rubbish.close();
    await askTcp([Buffer.from([0, 3, 1, 2, 3])]);
    expect((await ask('web.shop.svc.cluster.local', 'A', { flags: 0x2000 })).rcode).toBe('NOTIMP');
    expect((await ask('x', 'A', { questions: [] })).rcode).toBe('FORMERR');
    expect((await ask('web.shop.svc.cluster.local')).rcode).toBe('NOERROR');
  });

  it('asks others for other names, over UDP and TCP', async () => {
    const asked: [string, boolean][] = [];
    const server = await upstream((query, overTcp) => {
      asked.push([query.questions![0]!.name, overTcp]);
      return {};
    });
    await start({ upstreams: [server] });
    const reply = await ask('www.example.com');
    expect(reply).toMatchObject({ id: 4711, rcode: 'NOERROR', flag_aa: false });
    expect(addresses(reply)).toEqual(['192.0.2.53']);
    expect(addresses((await askTcp([framed(encode('tcp.example.com'))]))[0]!)).toEqual(['192.0.2.53']);
    await ask('9.9.9.9.in-addr.arpa', 'PTR');
    await ask('nothing.shop.svc.cluster.local');
    expect(asked).toEqual([
      ['www.example.com', false],
      ['tcp.example.com', true],
      ['9.9.9.9.in-addr.arpa', false],
    ]);
  });

  it('asks the next where one is away or fails, and says so where all do', async () => {
    const gone = createServer();
    await new Promise<void>((listening) => (gone as Server).listen(0, '127.0.0.1', listening));
    const closed = `127.0.0.1:${(gone.address() as { port: number }).port}`;
    await new Promise((ended) => gone.close(ended));
    const failing = await upstream(() => ({ flags: packet.RECURSION_AVAILABLE | 2, answers: [] }));
    const refusing = await upstream(() => ({ flags: packet.RECURSION_AVAILABLE | 5, answers: [] }));
    const absent = await upstream(() => ({ flags: packet.RECURSION_AVAILABLE | 3, answers: [] }));
    await start({ upstreams: [closed, failing, refusing, await upstream()] });
    expect(addresses(await ask('www.example.com'))).toEqual(['192.0.2.53']);
    stop.abort();
    stop = new AbortController();
    await start({ upstreams: [refusing, closed] });
    expect((await ask('www.example.com')).rcode).toBe('REFUSED');
    await start({ upstreams: [closed] });
    expect((await ask('www.example.com')).rcode).toBe('SERVFAIL');
    await start({ upstreams: [] });
    expect((await ask('www.example.com')).rcode).toBe('SERVFAIL');
    // That a name is not there is an answer.
    await start({ upstreams: [absent, await upstream()] });
    expect((await ask('www.example.com')).rcode).toBe('NXDOMAIN');
  });

  it('takes no other answer for that to its question', async () => {
    const strange = await upstream((query) => ({ id: ((query.id ?? 0) + 1) & 0xffff }));
    await start({ upstreams: [strange, await upstream()] });
    expect(addresses(await ask('www.example.com'))).toEqual(['192.0.2.53']);
  });

  it('follows external names, within the cluster and without', async () => {
    await start({
      upstreams: [await upstream((query, overTcp) => (overTcp ? {} : { flags: packet.TRUNCATED_RESPONSE, answers: [], id: query.id ?? 0 }))],
    });
    expect(addresses(await ask('out.shop.svc.cluster.local'))).toEqual(['www.example.com', '192.0.2.53']);
    expect(addresses(await ask('out.shop.svc.cluster.local', 'CNAME'))).toEqual(['www.example.com']);
    expect(addresses(await ask('inward.shop.svc.cluster.local'))).toEqual(['web.shop.svc.cluster.local', '10.96.0.20']);
    expect(addresses(await ask('twice.shop.svc.cluster.local'))).toEqual([
      'inward.shop.svc.cluster.local',
      'web.shop.svc.cluster.local',
      '10.96.0.20',
    ]);
    const ring = await ask('ring.shop.svc.cluster.local');
    expect(new Set(addresses(ring))).toEqual(new Set(['ring.shop.svc.cluster.local']));
  });

  it('tries again where its port is taken', async () => {
    const clock = new FakeClock();
    const other = await listenForDns({ address: '127.0.0.1', port: 0, answer: async () => undefined, log });
    const dns = begin({ port: other.port, clock });
    await vi.waitFor(() => expect(clock.pending).toBe(1));
    other.close();
    await vi.waitFor(() => {
      clock.advanceToNext();
      return expect(Promise.race([dns.listening, Promise.resolve('not yet')])).resolves.toBe(other.port);
    });
    port = other.port;
    expect(addresses(await ask('web.shop.svc.cluster.local'))).toEqual(['10.96.0.20']);
  });

  it('ends while it waits, too', async () => {
    const clock = new FakeClock();
    const other = await listenForDns({ address: '127.0.0.1', port: 0, answer: async () => undefined, log });
    closing.push(other.close);
    const dns = begin({ port: other.port, clock });
    await vi.waitFor(() => expect(clock.pending).toBe(1));
    stop.abort();
    await dns.done;
    expect(await dns.listening).toBeUndefined();
  });
});
