import { connect, type TLSSocket } from 'node:tls';

export const frame = { data: 0, headers: 1, priority: 2, reset: 3, settings: 4, push: 5, ping: 6, goAway: 7, windowUpdate: 8, continuation: 9 } as const;
export const flag = { endStream: 1, ack: 1, endHeaders: 4 } as const;

/** HPACK without tables or Huffman codes: a literal that is not indexed, by name. */
export function hpack(headers: [string, string][]): Buffer {
  const text = (value: string) => {
    const bytes = Buffer.from(value, 'latin1');
    if (bytes.length < 127) return Buffer.concat([Buffer.from([bytes.length]), bytes]);
    const size: number[] = [127];
    let rest = bytes.length - 127;
    for (; rest >= 128; rest = Math.floor(rest / 128)) size.push((rest % 128) | 128);
    return Buffer.concat([Buffer.from([...size, rest]), bytes]);
  };
  return Buffer.concat(headers.flatMap(([name, value]) => [Buffer.from([0]), text(name), text(value)]));
}

export const get = (path: string): [string, string][] => [[':method', 'GET'], [':scheme', 'https'], [':authority', 'x'], [':path', path]];

interface Received {
  type: number;
  flags: number;
  stream: number;
  payload: Buffer;
}

/** An HTTP/2 client that sends any frames in any order, and gives no window unless it is told to. */
export class FrameClient {
  readonly socket: TLSSocket;
  readonly received: Received[] = [];
  readonly closed: Promise<void>;
  #buffer: Buffer = Buffer.alloc(0);
  #waiting: (() => void)[] = [];
  open = true;

  private constructor(socket: TLSSocket) {
    this.socket = socket;
    socket.on('error', () => {});
    socket.on('data', (bytes: Buffer) => this.#read(bytes));
    this.closed = new Promise((resolve) =>
      socket.on('close', () => {
        this.open = false;
        resolve();
        this.#wake();
      }),
    );
  }

  /** Connected, the preface and these settings sent. */
  static async connect(server: { port: number; ca: string }, user: { cert?: string; key?: string } = {}, settings: [id: number, value: number][] = []): Promise<FrameClient> {
    const socket = connect({ host: '127.0.0.1', port: server.port, ca: server.ca, ...user, ALPNProtocols: ['h2'] });
    await new Promise<void>((resolve, reject) => socket.once('secureConnect', resolve).once('error', reject));
    const client = new FrameClient(socket);
    // Without a table every block of headers can be read by itself.
    const all: [number, number][] = [[1, 0], ...settings];
    const payload = Buffer.alloc(all.length * 6);
    all.forEach(([id, value], i) => {
      payload.writeUInt16BE(id, i * 6);
      payload.writeUInt32BE(value, i * 6 + 2);
    });
    socket.write('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
    client.send(frame.settings, 0, 0, payload);
    return client;
  }

  /** False where the server takes no more for now. */
  send(type: number, flags: number, stream: number, payload: Buffer = Buffer.alloc(0), length = payload.length): boolean {
    const head = Buffer.alloc(9);
    head.writeUIntBE(length, 0, 3);
    head[3] = type;
    head[4] = flags;
    head.writeUInt32BE(stream, 5);
    return this.socket.destroyed ? false : this.socket.write(Buffer.concat([head, payload]));
  }

  /** A whole request, or one whose body is to follow. */
  request(stream: number, headers: [string, string][], endStream = true): boolean {
    return this.send(frame.headers, flag.endHeaders | (endStream ? flag.endStream : 0), stream, hpack(headers));
  }

  #read(bytes: Buffer): void {
    this.#buffer = Buffer.concat([this.#buffer, bytes]);
    while (this.#buffer.length >= 9) {
      const length = this.#buffer.readUIntBE(0, 3);
      if (this.#buffer.length < 9 + length) break;
      const [type, flags] = [this.#buffer[3] as number, this.#buffer[4] as number];
      this.received.push({ type, flags, stream: this.#buffer.readUInt32BE(5) & 0x7fffffff, payload: this.#buffer.subarray(9, 9 + length) });
      this.#buffer = this.#buffer.subarray(9 + length);
    }
    this.#wake();
  }

  #wake(): void {
    for (const wake of this.#waiting.splice(0)) wake();
  }

  /** The first frame that fits; undefined when the connection ends without one. */
  async until(fits: (frame: Received) => boolean, ms = 30_000): Promise<Received | undefined> {
    const deadline = Date.now() + ms;
    for (;;) {
      const found = this.received.find(fits);
      if (found || !this.open) return found;
      if (Date.now() > deadline) throw new Error(`no such frame within ${ms} ms`);
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, 200);
        this.#waiting.push(() => {
          clearTimeout(timer);
          resolve();
        });
      });
    }
  }

  /** Sends for as long as the server takes it and `more` says so. */
  async flood(more: () => boolean): Promise<void> {
    while (this.open && more()) {
      if (!this.socket.writableNeedDrain) continue;
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, 1000);
        const go = () => {
          clearTimeout(timer);
          resolve();
        };
        this.socket.once('drain', go);
        void this.closed.then(go);
      });
    }
  }

  /** The :status of a stream's answer, read from the start of its headers; 0 where it has none. Node's are indexed or literal. */
  statusOf(stream: number): number {
    const headers = this.received.find((f) => f.type === frame.headers && f.stream === stream);
    if (!headers) return 0;
    // The first block says how large the table is.
    const payload = headers.payload.subarray(headers.payload.findIndex((byte) => (byte & 0xe0) !== 0x20));
    const first = payload[0] as number;
    // Entries 8 to 14 of the static table.
    const indexed = [200, 204, 206, 304, 400, 404, 500];
    return indexed[first - 0x88] ?? Number(/\d{3}/.exec(huffmanDigits(payload.subarray(1, 6)))?.[0] ?? 0);
  }
}

/** A literal of three digits, plain or in HPACK's code, where 0, 1 and 2 have five bits and the others six. */
function huffmanDigits(bytes: Buffer): string {
  const coded = (bytes[0] as number) & 0x80;
  const length = (bytes[0] as number) & 0x7f;
  const value = bytes.subarray(1, 1 + length);
  if (!coded) return value.toString('latin1');
  let bits = [...value].map((b) => b.toString(2).padStart(8, '0')).join('');
  let text = '';
  while (text.length < 3 && bits) {
    const short = Number.parseInt(bits.slice(0, 5), 2);
    if (short < 3) {
      text += short;
      bits = bits.slice(5);
    } else {
      const digit = Number.parseInt(bits.slice(0, 6), 2) - 0x19 + 3;
      text += digit;
      bits = bits.slice(6);
    }
  }
  return text;
}
