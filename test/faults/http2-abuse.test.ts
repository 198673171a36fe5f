/** Clients that speak HTTP/2 to wear the server out: what they hold is taken from them, others notice nothing. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { requestOverHttp1, requestOverHttp2, startTestServer, type TestServer } from '../../src/apiserver/testing.ts';
import { flag, frame, FrameClient, get, hpack } from './http2-frames.ts';
import { heapAfterCollection, random } from './measure.ts';

const seed = Number(process.env['KUMULUS_FUZZ_SEED'] ?? 20_260);
const megabyte = 1024 * 1024;
const [initialWindow, untaken] = [4, 16 * megabyte];
const configMaps = '/api/v1/namespaces/default/configmaps';

let server: TestServer;
beforeAll(async () => {
  server = await startTestServer({
    requestTimeoutMs: 2000,
    connectionLimits: { idleMs: 2000, answerMs: 2000, answerBytesPerMs: 10_000, untakenBytes: untaken },
    flowControl: { maxRequestsInflight: 400, maxMutatingRequestsInflight: 200 },
  });
  for (let i = 0; i < 8; i++) {
    const body = JSON.stringify({ metadata: { name: `large-${i}` }, data: { a: 'x'.repeat(500_000) } });
    const made = await requestOverHttp2(server, { method: 'POST', path: configMaps, user: server.admin, headers: { 'content-type': 'application/json' }, body });
    expect(made.status).toBe(201);
  }
});
afterAll(async () => server?.stop());

/** Others are served as ever. */
async function serves(): Promise<void> {
  for (const send of [requestOverHttp1, requestOverHttp2]) expect((await send(server, { path: '/version', user: server.admin })).status).toBe(200);
}
const goAwayOrClosed = (client: FrameClient) => client.until((f) => f.type === frame.goAway);
const figure = async (name: string) => {
  const text = (await requestOverHttp1(server, { path: '/metrics', user: server.admin })).body.toString('utf8');
  return text
    .split('\n')
    .filter((line) => line.startsWith(name))
    .reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' '))), 0);
};
/** The request that asks has a seat itself. */
const seatsBesides = async () => (await figure('apiserver_current_inflight_requests{')) - 1;

describe('floods end the connection that sends them', () => {
  test('rapid reset (CVE-2023-44487)', async () => {
    const client = await FrameClient.connect(server, server.admin);
    let stream = 1;
    await client.flood(() => {
      for (let i = 0; i < 50; i++, stream += 2) {
        client.request(stream, get(configMaps));
        client.send(frame.reset, 0, stream, Buffer.from([0, 0, 0, 8]));
      }
      return stream < 200_000;
    });
    await goAwayOrClosed(client);
    expect(stream).toBeLessThan(200_000);
    client.socket.destroy();
    await serves();
    await expect.poll(seatsBesides, { timeout: 15_000 }).toBe(0);
  });

  test('headers that never end (CONTINUATION)', async () => {
    const client = await FrameClient.connect(server, server.admin);
    client.send(frame.headers, flag.endStream, 1, hpack(get('/version')));
    let sent = 0;
    await client.flood(() => {
      client.send(frame.continuation, 0, 1, hpack([['x', 'y'.repeat(1000)]]));
      return ++sent < 100_000;
    });
    expect(sent).toBeLessThan(100_000);
    await serves();
  });

  test.each([
    ['PING', frame.ping, Buffer.alloc(8)],
    ['SETTINGS', frame.settings, Buffer.from([0, initialWindow, 0, 0, 1, 0])],
  ])('%s without reading', async (_name, type, payload) => {
    const client = await FrameClient.connect(server, server.admin);
    client.socket.pause();
    const before = heapAfterCollection();
    let sent = 0;
    // It is either cut off, or its frames wait in the kernel: the server keeps no answers to them.
    await client.flood(() => {
      for (let i = 0; i < 1000; i++) client.send(type, 0, 0, payload);
      return (sent += 1000) < 300_000;
    });
    await serves();
    client.socket.destroy();
    expect(heapAfterCollection() - before).toBeLessThan(64 * megabyte);
  });

  test('headers that are too large, or too many', async () => {
    for (const headers of [[['x', 'y'.repeat(200_000)]], Array.from({ length: 5000 }, (_, i) => [`x-${i}`, 'y'])] as [string, string][][]) {
      const client = await FrameClient.connect(server, server.admin);
      const block = hpack([...get('/version'), ...headers]);
      for (let at = 0; at < block.length; at += 16_000) {
        const last = at + 16_000 >= block.length;
        client.send(at === 0 ? frame.headers : frame.continuation, (at === 0 ? flag.endStream : 0) | (last ? flag.endHeaders : 0), 1, block.subarray(at, at + 16_000));
      }
      const end = await client.until((f) => f.type === frame.goAway || f.type === frame.reset || f.type === frame.headers);
      expect(end?.type === frame.headers ? client.statusOf(1) : 431).toBe(431);
      client.socket.destroy();
    }
    await serves();
  });
});

describe('what is held for nothing is taken back', () => {
  test('answers that are not taken: streams end, and a connection gets no more of them than it may leave lying', async () => {
    const client = await FrameClient.connect(server, server.admin, [[initialWindow, 0]]);
    const before = heapAfterCollection();
    for (let stream = 1; stream < 400; stream += 2) client.request(stream, get(configMaps));
    await client.until((f) => f.type === frame.reset);
    const resets = () => client.received.filter((f) => f.type === frame.reset);
    const calm = () => resets().filter((f) => f.payload.readUInt32BE(0) === 11).length;
    await expect.poll(calm, { timeout: 20_000 }).toBeGreaterThan(150);
    expect(heapAfterCollection() - before).toBeLessThan(untaken + 16 * megabyte);
    // Those that it was given end when their time is over.
    await expect.poll(() => resets().length, { timeout: 60_000 }).toBe(200);
    expect(heapAfterCollection() - before).toBeLessThan(8 * megabyte);
    client.socket.destroy();
    await serves();
  }, 90_000);

  test('over HTTP/1.1 too', async () => {
    const { connect } = await import('node:tls');
    const socket = connect({ host: '127.0.0.1', port: server.port, ca: server.ca, ...server.admin, ALPNProtocols: ['http/1.1'] });
    socket.on('error', () => {});
    socket.pause();
    // Asked for so often that the kernel cannot hold the answers.
    socket.write(`GET ${configMaps} HTTP/1.1\r\nHost: x\r\n\r\n`.repeat(20));
    // It reads nothing: that the server has hung up, a write tells.
    const knock = setInterval(() => socket.write('\r\n'), 500);
    await new Promise((resolve) => socket.once('close', resolve));
    clearInterval(knock);
    await serves();
  });

  test('connections without requests', async () => {
    const idle = await FrameClient.connect(server);
    const unfinished = await FrameClient.connect(server);
    unfinished.send(frame.headers, 0, 1, hpack(get('/version')));
    expect((await idle.until((f) => f.type === frame.goAway))?.payload.readUInt32BE(4) ?? 0).toBe(0);
    await Promise.all([idle.closed, unfinished.closed]);
  });

  test('but not one with a watch', async () => {
    const client = await FrameClient.connect(server, server.admin);
    client.request(1, get(`${configMaps}?watch=1&resourceVersion=0`));
    await client.until((f) => f.type === frame.headers && f.stream === 1);
    await new Promise((resolve) => setTimeout(resolve, 5000));
    expect(client.open).toBe(true);
    client.request(3, get('/version'));
    await client.until((f) => f.type === frame.headers && f.stream === 3);
    expect(client.statusOf(3)).toBe(200);
    client.socket.destroy();
  });

  test.each([
    ['HTTP/2', async () => {
      const client = await FrameClient.connect(server, server.admin);
      const post: [string, string][] = [[':method', 'POST'], ...get(configMaps).slice(1), ['content-type', 'application/json']];
      for (let stream = 1; stream < 20; stream += 2) client.request(stream, post, false);
      let at = 1;
      const drip = setInterval(() => client.send(frame.data, 0, (at += 2) % 20 | 1, Buffer.from(' ')), 50);
      await expect.poll(seatsBesides).toBeGreaterThanOrEqual(10);
      for (let stream = 1; stream < 20; stream += 2) {
        await client.until((f) => f.type === frame.headers && f.stream === stream);
        expect(client.statusOf(stream)).toBe(504);
        await client.until((f) => f.type === frame.reset && f.stream === stream);
      }
      return () => {
        clearInterval(drip);
        client.socket.destroy();
      };
    }],
    ['HTTP/1.1', async () => {
      const { connect } = await import('node:tls');
      const sockets = Array.from({ length: 10 }, () => connect({ host: '127.0.0.1', port: server.port, ca: server.ca, ...server.admin, ALPNProtocols: ['http/1.1'] }));
      const texts = sockets.map((socket) => {
        const got = { text: '' };
        socket.on('error', () => {}).on('data', (b: Buffer) => (got.text += b.toString('latin1')));
        socket.write(`POST ${configMaps} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{`);
        return got;
      });
      const drip = setInterval(() => {
        for (const socket of sockets) if (socket.writable) socket.write(' ');
      }, 50);
      await expect.poll(seatsBesides).toBeGreaterThanOrEqual(10);
      await Promise.all(sockets.map((socket) => new Promise((resolve) => socket.once('close', resolve))));
      for (const { text } of texts) expect(text).toMatch(/^HTTP\/1\.1 504 /);
      return () => clearInterval(drip);
    }],
  ])('slow bodies over %s are answered 504, and leave their seats', async (_name, begin) => {
    const end = await begin();
    await expect.poll(seatsBesides, { timeout: 10_000 }).toBe(0);
    end();
  });
});

describe('what is no HTTP/2, or would be another request behind a proxy', () => {
  test.each<[string, [string, string][]]>([
    ['a line break in the path', [[':method', 'GET'], [':scheme', 'https'], [':authority', 'x'], [':path', '/version HTTP/1.1\r\nx: y']]],
    ['a line break in a value', [...get('/version'), ['x', 'y\r\nauthorization: Bearer z']]],
    ['a line break in a name', [...get('/version'), ['x\r\ny', 'z']]],
    ['a connection header', [...get('/version'), ['transfer-encoding', 'chunked']]],
    ['two lengths', [...get('/version'), ['content-length', '1'], ['content-length', '2']]],
    ['a length without a body', [...get('/version'), ['content-length', '10']]],
    ['two paths', [...get('/version'), [':path', '/api']]],
    ['no path', get('/version').slice(0, 3)],
    ['a name in capitals', [...get('/version'), ['X-Upper', 'y']]],
    ['a pseudo-header after others', [['x', 'y'], ...get('/version')]],
  ])('%s', async (_name, headers) => {
    const client = await FrameClient.connect(server, server.admin);
    client.request(1, headers);
    const end = await client.until((f) => f.type === frame.reset || f.type === frame.goAway || (f.type === frame.headers && f.stream === 1));
    if (end?.type === frame.headers) expect(client.statusOf(1)).toBeGreaterThanOrEqual(400);
    client.socket.destroy();
  });

  test(`frames without sense, of seed ${seed}`, async () => {
    const next = random(seed);
    const below = (n: number) => Math.floor(next() * n);
    const rounds = Math.ceil(Number(process.env['KUMULUS_FUZZ_INPUTS'] ?? 2000) / 15);
    const before = heapAfterCollection();
    for (let round = 0; round < rounds; round++) {
      const client = await FrameClient.connect(server, server.admin);
      for (let i = 0; i < 30 && client.open; i++) {
        const payload = Buffer.from(Array.from({ length: below(40) }, () => below(256)));
        const kind = below(4);
        if (kind === 0) client.request(below(20), [...get(`/${'a'.repeat(below(50))}`), ['x', String(below(1000))]], below(2) === 0);
        else if (kind === 1) client.send(below(12), below(256), below(20), payload, below(3) ? payload.length : below(70_000));
        else if (kind === 2) client.send(frame.windowUpdate, 0, below(5), Buffer.from([below(256), below(256), below(256), below(256)]));
        else if (!client.socket.destroyed) client.socket.write(payload);
      }
      await new Promise((resolve) => setImmediate(resolve));
      client.socket.destroy();
    }
    await serves();
    await expect.poll(seatsBesides, { timeout: 15_000 }).toBe(0);
    expect(heapAfterCollection() - before).toBeLessThan(24 * megabyte);
  }, 1_200_000);
});
