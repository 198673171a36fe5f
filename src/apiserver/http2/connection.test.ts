import { connect as connectHttp2, type ClientHttp2Session } from 'node:http2';
import { connect as connectTls, createServer, type Server, type TLSSocket } from 'node:tls';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeAll, expect, test, vi } from 'vitest';
import { defaultConnectionLimits } from '../http/connections.ts';
import { createTestAuthority } from '../testing.ts';
import { Http2Connection } from './connection.ts';
import { errorCode, flag, frame, preface, settings, windowUpdate, writeHeader } from './frames.ts';
import { HpackEncoder } from './hpack.ts';
import type { Http2Stream } from './stream.ts';

let tls: { cert: string; key: string };
let server: Server | undefined;
let connections: Http2Connection[] = [];
const clients: { destroy(): void }[] = [];

beforeAll(async () => {
  const authority = await createTestAuthority();
  tls = await authority.issue({ commonName: 'server', hosts: ['localhost'], server: true });
});
afterEach(async () => {
  for (const client of clients.splice(0)) client.destroy();
  for (const connection of connections) connection.destroy();
  connections = [];
  await new Promise((resolve) => (server ? server.close(resolve) : resolve(undefined)));
});

async function serve(handle: (stream: Http2Stream) => Promise<void> | void): Promise<number> {
  server = createServer({ ...tls, ALPNProtocols: ['h2'] }, (socket) => {
    connections.push(new Http2Connection(socket, async (stream) => handle(stream), defaultConnectionLimits));
  });
  await new Promise<void>((resolve) => server!.listen(0, '127.0.0.1', resolve));
  return (server.address() as AddressInfo).port;
}

function session(port: number, o: object = {}): ClientHttp2Session {
  const made = connectHttp2(`https://127.0.0.1:${port}`, { rejectUnauthorized: false, maxSessionMemory: 1000, ...o });
  made.on('error', () => {});
  clients.push(made);
  return made;
}

function request(on: ClientHttp2Session, headers: Record<string, string>, body?: Buffer): Promise<{ status: number; body: Buffer; code: number }> {
  return new Promise((resolve, reject) => {
    const stream = on.request(headers, { endStream: body === undefined });
    const chunks: Buffer[] = [];
    let status = 0;
    stream.on('response', (h) => {
      status = h[':status'] as number;
    });
    stream.on('data', (chunk: Buffer) => chunks.push(chunk));
    stream.on('close', () => resolve({ status, body: Buffer.concat(chunks), code: stream.rstCode ?? 0 }));
    stream.on('error', reject);
    if (body) stream.end(body);
  });
}

/** A connection whose frames are written by hand. */
async function raw(port: number): Promise<{ socket: TLSSocket; received: () => { type: number; flags: number; id: number; payload: Buffer }[] }> {
  const socket = connectTls({ port, host: '127.0.0.1', rejectUnauthorized: false, ALPNProtocols: ['h2'] });
  clients.push(socket);
  socket.on('error', () => {});
  let bytes = Buffer.alloc(0);
  socket.on('data', (chunk: Buffer) => {
    bytes = Buffer.concat([bytes, chunk]);
  });
  await new Promise((resolve) => socket.once('secureConnect', resolve));
  socket.write(preface);
  socket.write(settings([]));
  return {
    socket,
    received() {
      const out = [];
      for (let at = 0; at + 9 <= bytes.length; ) {
        const length = bytes.readUIntBE(at, 3);
        out.push({ type: bytes[at + 3]!, flags: bytes[at + 4]!, id: bytes.readUInt32BE(at + 5), payload: bytes.subarray(at + 9, at + 9 + length) });
        at += 9 + length;
      }
      return out;
    },
  };
}

function frameOf(type: number, flags: number, id: number, payload: Buffer = Buffer.alloc(0)): Buffer {
  const out = Buffer.alloc(9 + payload.length);
  payload.copy(out, writeHeader(out, 0, payload.length, type, flags, id));
  return out;
}

/** A request's header block, without tables. */
function block(fields: [string, string][]): Buffer {
  const encoder = new HpackEncoder();
  encoder.begin(200);
  const skip = encoder.bytes.length;
  for (const [name, value] of fields) encoder.field(name, value);
  return Buffer.from(encoder.bytes.subarray(skip));
}
const get: [string, string][] = [
  [':method', 'GET'],
  [':scheme', 'https'],
  [':path', '/'],
  [':authority', 'x'],
];
const headers = (id: number, fields = get, flags: number = flag.endHeaders | flag.endStream) => frameOf(frame.headers, flags, id, block(fields));

const echo = async (stream: Http2Stream) => stream.body(1e9).then((body) => stream.send(200, {}, {}, [body]), () => {});
const goneWith = async (client: Awaited<ReturnType<typeof raw>>): Promise<number> => {
  await vi.waitFor(() => expect(client.received().some((f) => f.type === frame.goaway)).toBe(true), 10_000);
  return client.received().find((f) => f.type === frame.goaway)!.payload.readUInt32BE(4);
};

test('bodies of any size go both ways, many at once', async () => {
  const port = await serve(echo);
  const client = session(port);
  const sizes = [0, 1, 16_384, 16_385, 300_000, 5_000_000, 20_000_000];
  const answers = await Promise.all(sizes.map((size) => request(client, { ':method': 'POST', ':path': '/' }, Buffer.alloc(size, size % 251))));
  for (const [i, answer] of answers.entries()) {
    expect(answer.status).toBe(200);
    expect(answer.body.length).toBe(sizes[i]);
    expect(answer.body.equals(Buffer.alloc(sizes[i]!, sizes[i]! % 251))).toBe(true);
  }
});

test('a client with small windows gets everything, in pieces', async () => {
  const port = await serve((stream) => stream.send(200, {}, {}, [Buffer.alloc(200_000, 7), Buffer.alloc(0), Buffer.alloc(300_000, 7)]));
  const client = session(port, { settings: { initialWindowSize: 1000, maxFrameSize: 16_384 } });
  const answers = await Promise.all([1, 2, 3].map(() => request(client, { ':path': '/' })));
  for (const { body } of answers) expect(body.equals(Buffer.alloc(500_000, 7))).toBe(true);
});

test('fields come as they were sent, and large ones in continuations', async () => {
  const seen: Record<string, string | undefined>[] = [];
  const port = await serve((stream) => {
    seen.push(stream.fields!.headers);
    stream.send(200, { 'x-large': 'y'.repeat(50_000), 'x-many': ['a', 'b'] }, {}, undefined);
  });
  const client = session(port);
  const answer = await new Promise<any>((resolve) => client.request({ ':path': '/p?q=1', 'x-own': 'z'.repeat(30_000), cookie: ['a=1', 'b=2'] } as never).on('response', resolve));
  expect(answer['x-large']).toBe('y'.repeat(50_000));
  expect(answer['x-many']).toBe('a, b');
  expect(answer['date']).toMatch(/GMT$/);
  expect(seen[0]).toMatchObject({ 'x-own': 'z'.repeat(30_000), cookie: 'a=1; b=2' });
});

test('a body is refused beyond its limit, and the connection lives on', async () => {
  const port = await serve(async (stream) => {
    try {
      await stream.body(1000);
      stream.send(200, {}, {}, undefined);
    } catch (error) {
      stream.send(413, {}, {}, [Buffer.from((error as Error).message)]);
    }
  });
  const client = session(port);
  const answer = await request(client, { ':method': 'POST', ':path': '/' }, Buffer.alloc(3_000_000));
  expect(answer.status).toBe(413);
  expect(answer.code).toBe(0);
  expect((await request(client, { ':method': 'POST', ':path': '/' }, Buffer.alloc(10))).status).toBe(200);
});

test('a body as a stream is pulled only as it is read', async () => {
  let stream: Http2Stream | undefined;
  const port = await serve((one) => {
    stream = one;
  });
  const pending = request(session(port), { ':method': 'POST', ':path': '/' }, Buffer.alloc(2_000_000, 3));
  await vi.waitFor(() => expect(stream).toBeDefined());
  const body = stream!.bodyStream()!;
  let size = 0;
  for await (const chunk of body) size += (chunk as Buffer).length;
  expect(size).toBe(2_000_000);
  stream!.send(200, {}, {}, undefined);
  expect((await pending).status).toBe(200);
});

test('who goes away aborts what was asked for', async () => {
  const signals: AbortSignal[] = [];
  const port = await serve((stream) => void signals.push(stream.signal));
  const client = session(port);
  const one = client.request({ ':path': '/' });
  client.request({ ':path': '/' });
  await vi.waitFor(() => expect(signals).toHaveLength(2));
  one.close(errorCode.cancel);
  await vi.waitFor(() => expect(signals[0]!.aborted).toBe(true));
  expect(signals[1]!.aborted).toBe(false);
  client.destroy();
  await vi.waitFor(() => expect(signals[1]!.aborted).toBe(true));
});

test('a writer is told to pause by a client that does not read, and to go on when it does', async () => {
  let stream: Http2Stream | undefined;
  const port = await serve((one) => {
    one.begin(200, {}, {}, false);
    stream = one;
  });
  const client = session(port);
  const answer = client.request({ ':path': '/' });
  await vi.waitFor(() => expect(stream).toBeDefined());
  let drained = 0;
  stream!.onDrain(() => drained++);
  let written = 0;
  while (stream!.write(Buffer.alloc(10_000))) written += 10_000;
  written += 10_000;
  let size = 0;
  answer.on('data', (chunk: Buffer) => {
    size += chunk.length;
  });
  await vi.waitFor(() => expect(drained).toBeGreaterThan(0));
  stream!.write(Buffer.from('last'));
  stream!.end();
  await new Promise((resolve) => answer.on('end', resolve));
  expect(size).toBe(written + 4);
});

test('leaving lets running requests end', async () => {
  let stream: Http2Stream | undefined;
  const port = await serve((one) => {
    stream = one;
  });
  const client = session(port);
  const pending = request(client, { ':path': '/' });
  await vi.waitFor(() => expect(stream).toBeDefined());
  connections[0]!.leave();
  const closed = new Promise((resolve) => client.on('close', resolve));
  stream!.send(200, {}, {}, [Buffer.from('do'), Buffer.from('ne')]);
  expect((await pending).body.toString()).toBe('done');
  await closed;
});

test.each<[string, [string, string][]]>([
  ['upper case', [...get, ['X-Up', 'a']]],
  ['a header of the connection', [...get, ['transfer-encoding', 'chunked']]],
  ['a pseudo-header behind others', [['x', 'a'], ...get]],
  ['a pseudo-header twice', [...get, [':path', '/other']]],
  ['no path', get.filter(([name]) => name !== ':path')],
  ['a line feed in a value', [...get, ['x', 'a\nb: c']]],
  ['a blank in the path', [...get.slice(0, 2), [':path', '/a b']]],
  ['two lengths', [...get, ['content-length', '0'], ['content-length', '1']]],
  ['a length without a body', [...get, ['content-length', '5']]],
])('a request with %s is refused, and the connection lives on', async (_, fields) => {
  const port = await serve(echo);
  const client = await raw(port);
  client.socket.write(headers(1, fields));
  client.socket.write(headers(3));
  await vi.waitFor(() => expect(client.received().some((f) => f.type === frame.headers && f.id === 3)).toBe(true));
  const refused = client.received().find((f) => f.type === frame.rstStream && f.id === 1);
  expect(refused?.payload.readUInt32BE(0)).toBe(errorCode.protocol);
});

test('headers beyond the limit are answered 431', async () => {
  const port = await serve(echo);
  const client = await raw(port);
  const parts = Array.from({ length: 10 }, (_, i) => block([...(i === 0 ? get : []), [`x-${i}`, 'v'.repeat(10_000)]]));
  client.socket.write(frameOf(frame.headers, flag.endStream, 1, parts[0]!));
  for (const [i, part] of parts.slice(1).entries()) client.socket.write(frameOf(frame.continuation, i === 8 ? flag.endHeaders : 0, 1, part));
  await vi.waitFor(() => expect(client.received().some((f) => f.type === frame.headers && f.id === 1)).toBe(true));
  expect(client.received().find((f) => f.type === frame.headers)!.payload.toString('latin1')).toContain('431');
});

test.each<[string, (client: TLSSocket) => void]>([
  ['endless continuations', (socket) => {
    socket.write(frameOf(frame.headers, 0, 1, block(get)));
    for (let i = 0; i < 500; i++) socket.write(frameOf(frame.continuation, 0, 1, block([['x', 'y'.repeat(1000)]])));
  }],
  ['pings without end', (socket) => {
    for (let i = 0; i < 20; i++) socket.write(Buffer.concat(Array.from({ length: 1000 }, () => frameOf(frame.ping, 0, 0, Buffer.alloc(8)))));
  }],
  ['empty data without end', (socket) => {
    socket.write(headers(1, get, flag.endHeaders));
    for (let i = 0; i < 20; i++) socket.write(Buffer.concat(Array.from({ length: 1000 }, () => frameOf(frame.data, 0, 1))));
  }],
  ['requests that are cancelled at once, without end', (socket) => {
    for (let i = 0; i < 2000; i++) socket.write(Buffer.concat([headers(i * 2 + 1), frameOf(frame.rstStream, 0, i * 2 + 1, Buffer.alloc(4))]));
  }],
])('%s end the connection', async (_, attack) => {
  const port = await serve(() => new Promise((resolve) => setTimeout(resolve, 50)));
  const client = await raw(port);
  attack(client.socket);
  expect(await goneWith(client)).toBe(errorCode.enhanceYourCalm);
});

test('more data than the window ends the connection or the stream', async () => {
  let held: Http2Stream | undefined;
  const port = await serve((stream) => {
    held = stream;
  });
  const client = await raw(port);
  client.socket.write(headers(1, get, flag.endHeaders));
  for (let i = 0; i < 20; i++) client.socket.write(frameOf(frame.data, 0, 1, Buffer.alloc(16_384)));
  await vi.waitFor(() => expect(client.received().some((f) => f.type === frame.rstStream)).toBe(true));
  expect(client.received().find((f) => f.type === frame.rstStream)!.payload.readUInt32BE(0)).toBe(errorCode.flowControl);
  await expect(held!.body(1e9)).rejects.toThrow();
});

test.each<[string, Buffer, number]>([
  ['a window update of nothing', windowUpdate(0, 0), errorCode.protocol],
  ['a window beyond all bounds', windowUpdate(0, 2 ** 31 - 1), errorCode.flowControl],
  ['a frame beyond the limit', frameOf(frame.data, 0, 1, Buffer.alloc(16_385)), errorCode.frameSize],
  ['data of an idle stream', frameOf(frame.data, 0, 5, Buffer.alloc(1)), errorCode.protocol],
  ['a pushed promise', frameOf(frame.pushPromise, 0, 1, Buffer.alloc(4)), errorCode.protocol],
  ['headers of an even stream', headers(2), errorCode.protocol],
  ['a header block that is none', frameOf(frame.headers, flag.endHeaders, 1, Buffer.from([0x80])), errorCode.compression],
  ['padding beyond the frame', frameOf(frame.headers, flag.endHeaders | flag.padded, 1, Buffer.from([9, 0x82])), errorCode.protocol],
])('%s ends the connection', async (_, bytes, code) => {
  const port = await serve(echo);
  const client = await raw(port);
  client.socket.write(bytes);
  expect(await goneWith(client)).toBe(code);
});

test('what is slow, idle or stalled is ended', async () => {
  const port = await serve((stream) => stream.send(200, {}, {}, [Buffer.alloc(5_000_000)]));
  const waiting = session(port, { settings: { initialWindowSize: 0 } });
  const stalled = request(waiting, { ':path': '/' }).catch((error) => error);
  const half = await raw(port);
  half.socket.write(frameOf(frame.headers, 0, 1, block(get)));
  await vi.waitFor(() => expect(connections).toHaveLength(2));
  await vi.waitFor(() => expect(connections.some((c) => c.streams.size === 1)).toBe(true));
  for (const connection of connections) connection.look(performance.now() + 200_000);
  expect(await goneWith(half)).toBe(errorCode.none);
  await stalled;
  for (const connection of connections) connection.look(performance.now() + 1_000_000);
  await new Promise((resolve) => (waiting.closed ? resolve(undefined) : waiting.on('close', resolve)));
});
