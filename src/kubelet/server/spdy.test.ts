import { createServer, type AddressInfo, type Server } from 'node:net';
import { duplexPair, type Duplex } from 'node:stream';
import { connect } from 'node:net';
import { createDeflate } from 'node:zlib';
import { pino } from 'pino';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { eventually } from '../testing/cluster.ts';
import { HeaderCodec, spdyDictionary } from './spdy-headers.ts';
import { forwardPorts } from './spdy-port-forward.ts';

let echo: Server;
beforeAll(async () => {
  echo = createServer({ allowHalfOpen: true }, (socket) => socket.pipe(socket).on('error', () => {}));
  await new Promise<void>((resolve) => echo.listen(0, '127.0.0.1', resolve));
});
afterAll(() => void echo?.close());

test('the dictionary is that of SPDY 3', async () => {
  const deflate = createDeflate({ dictionary: spdyDictionary });
  const [first] = (await deflate.end('x').toArray()) as Buffer[];
  // The checksum of the dictionary stands in the zlib header.
  expect(first!.subarray(2, 6).toString('hex')).toBe('e3c6a7c2');
});

/** The client's end: writes frames, keeps what comes by stream. */
class Client {
  readonly data = new Map<number, string>();
  readonly fins = new Set<number>();
  readonly replies = new Set<number>();
  readonly codec = new HeaderCodec();
  private readonly socket: Duplex;
  private rest = Buffer.alloc(0);

  constructor(socket: Duplex) {
    this.socket = socket;
    socket.on('data', (chunk: Buffer) => {
      this.rest = Buffer.concat([this.rest, chunk]);
      while (this.rest.length >= 8 && this.rest.length >= 8 + this.rest.readUIntBE(5, 3)) {
        const size = this.rest.readUIntBE(5, 3);
        const body = this.rest.subarray(8, 8 + size);
        const first = this.rest.readUInt32BE(0);
        if (first & 0x80000000) {
          if ((first & 0xffff) === 2) this.replies.add(body.readUInt32BE(0));
        } else {
          this.data.set(first, (this.data.get(first) ?? '') + body.toString());
          if (this.rest[4]! & 1) this.fins.add(first);
        }
        this.rest = this.rest.subarray(8 + size);
      }
    });
  }

  async open(id: number, headers: Record<string, string>): Promise<void> {
    const block = await this.codec.encode(new Map(Object.entries(headers)));
    const body = Buffer.concat([Buffer.alloc(10), block]);
    body.writeUInt32BE(id, 0);
    const head = Buffer.from([0x80, 3, 0, 1, 0, 0, 0, 0]);
    head.writeUIntBE(body.length, 5, 3);
    this.socket.write(Buffer.concat([head, body]));
  }

  send(id: number, text: string, fin = false): void {
    const head = Buffer.alloc(8);
    head.writeUInt32BE(id, 0);
    head[4] = fin ? 1 : 0;
    head.writeUIntBE(Buffer.byteLength(text), 5, 3);
    // Split, so that frames do not come in one piece.
    this.socket.write(Buffer.concat([head, Buffer.from(text)]).subarray(0, 5));
    this.socket.write(Buffer.concat([head, Buffer.from(text)]).subarray(5));
  }
}

test('connections share one connection; the end of one side reaches the other', async () => {
  const [server, socket] = duplexPair();
  const connection = forwardPorts(
    server,
    async (port) => (port === 80 ? connect((echo.address() as AddressInfo).port, '127.0.0.1') : Promise.reject(new Error('refused'))),
    pino({ level: 'silent' }),
  );
  const client = new Client(socket);
  for (const [n, port] of [
    [0, 80],
    [1, 80],
    [2, 99],
  ] as const) {
    await client.open(1 + n * 4, { streamType: 'error', port: String(port), requestID: String(n) });
    await client.open(3 + n * 4, { streamType: 'data', port: String(port), requestID: String(n) });
  }
  await eventually('replies', () => client.replies.size === 6);
  client.send(3, 'one', true);
  client.send(7, 'two');
  await eventually('both echoes', () => client.data.get(3) === 'one' && client.data.get(7) === 'two');
  await eventually('the end of the first, without an error', () => client.fins.has(3) && client.fins.has(1));
  expect(client.data.get(1) ?? '').toBe('');
  expect(client.fins.has(7)).toBe(false);
  await eventually('the error of the third', () => client.fins.has(9));
  expect(client.data.get(9)).toBe('an error occurred forwarding 99: refused');
  socket.destroy();
  connection.close();
  await connection.done;
});

test('what is no SPDY ends the connection, and nothing else', async () => {
  const [server, socket] = duplexPair();
  const connection = forwardPorts(server, async () => Promise.reject(new Error('never')), pino({ level: 'silent' }));
  socket.on('error', () => {});
  socket.write('GET / HTTP/1.1\r\nhost: x\r\n\r\n'.repeat(100_000));
  await connection.done;
});
