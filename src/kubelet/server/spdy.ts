import { Duplex } from 'node:stream';
import { HeaderCodec, type SpdyHeaders } from './spdy-headers.ts';

const version = 3;
const type = { synStream: 1, synReply: 2, rstStream: 3, settings: 4, ping: 6, goAway: 7, headers: 8, windowUpdate: 9 };
const flagFin = 1;
/** RST_STREAM status codes. */
const cancel = 5;
const refused = 3;
const maxFrame = 1024 * 1024;
const chunkBytes = 32 * 1024;

/** One stream of a connection that the other end has opened. Ending it sends FIN, destroying it with an error resets it. */
export class SpdyStream extends Duplex {
  readonly id: number;
  readonly headers: SpdyHeaders;
  private readonly connection: SpdyConnection;
  private wantsMore: (() => void) | undefined;

  constructor(connection: SpdyConnection, id: number, headers: SpdyHeaders) {
    super({ allowHalfOpen: true });
    this.connection = connection;
    this.id = id;
    this.headers = headers;
    this.on('error', () => {});
  }

  override _read(): void {
    this.wantsMore?.();
    this.wantsMore = undefined;
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: (error?: Error | null) => void): void {
    let sent = Promise.resolve();
    for (let at = 0; at < chunk.length; at += chunkBytes) sent = this.connection.sendData(this.id, chunk.subarray(at, at + chunkBytes), false);
    sent.then(() => callback(), callback);
  }

  override _final(callback: (error?: Error | null) => void): void {
    this.connection.sendData(this.id, Buffer.alloc(0), true).then(() => callback(), callback);
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    this.wantsMore?.();
    this.connection.closed(this.id, !this.writableFinished || !this.readableEnded);
    callback(error);
  }

  /** Data from the other end; resolves when more may come. */
  receive(data: Buffer): Promise<void> {
    if (this.destroyed || this.push(data)) return Promise.resolve();
    return new Promise((resolve) => {
      this.wantsMore = resolve;
    });
  }
}

/**
 * The server's end of a SPDY/3.1 connection, as kubectl speaks it to the kubelet: the client opens streams, both ends write. Flow control
 * by window is left out as in the implementation of Kubernetes; a stream that is not read holds up its connection.
 */
export class SpdyConnection {
  private readonly socket: Duplex;
  private readonly codec = new HeaderCodec();
  private readonly streams = new Map<number, SpdyStream>();
  private readonly onStream: (stream: SpdyStream) => void;
  private encoding: Promise<unknown> = Promise.resolve();
  /** Resolves when the connection is over. */
  readonly done: Promise<void>;

  constructor(socket: Duplex, onStream: (stream: SpdyStream) => void) {
    this.socket = socket;
    this.onStream = onStream;
    socket.on('error', () => {});
    this.done = this.run();
  }

  close(): void {
    this.socket.destroy();
  }

  private async run(): Promise<void> {
    try {
      let rest: Buffer = Buffer.alloc(0);
      for await (const chunk of this.socket) {
        rest = rest.length > 0 ? Buffer.concat([rest, chunk as Buffer]) : (chunk as Buffer);
        while (rest.length >= 8) {
          const size = rest.readUIntBE(5, 3);
          if (size > maxFrame) throw new Error(`a frame of ${size} bytes is too large`);
          if (rest.length < 8 + size) break;
          const frame = rest.subarray(0, 8 + size);
          rest = rest.subarray(8 + size);
          await this.frame(frame);
        }
      }
    } catch {
      // A broken connection, or one that does not speak SPDY: it ends.
    } finally {
      this.socket.destroy();
      for (const stream of this.streams.values()) stream.destroy();
      this.codec.close();
    }
  }

  private async frame(frame: Buffer): Promise<void> {
    const flags = frame[4]!;
    const body = frame.subarray(8);
    if ((frame[0]! & 0x80) === 0) return this.data(frame.readUInt32BE(0) & 0x7fffffff, flags, body);
    if ((frame.readUInt16BE(0) & 0x7fff) !== version) throw new Error('not SPDY/3');
    switch (frame.readUInt16BE(2)) {
      case type.synStream: {
        const id = body.readUInt32BE(0) & 0x7fffffff;
        const headers = await this.codec.decode(body.subarray(10));
        if (id === 0 || this.streams.has(id)) return this.reset(id, refused);
        const stream = new SpdyStream(this, id, headers);
        this.streams.set(id, stream);
        await this.reply(id);
        if (flags & flagFin) stream.push(null);
        this.onStream(stream);
        return;
      }
      case type.rstStream:
        this.streams.get(body.readUInt32BE(0) & 0x7fffffff)?.destroy(new Error('the stream was reset'));
        return;
      case type.headers:
        // The compression state has to go along, though nothing here needs the names.
        await this.codec.decode(body.subarray(4));
        return;
      case type.ping:
        // What the client began has an odd number.
        if (body.readUInt32BE(0) % 2 === 1) this.socket.write(frame);
        return;
      case type.goAway:
      case type.settings:
      case type.windowUpdate:
      case type.synReply:
        return;
    }
  }

  private async data(id: number, flags: number, body: Buffer): Promise<void> {
    const stream = this.streams.get(id);
    if (!stream) return this.reset(id, cancel);
    if (body.length > 0) await stream.receive(body);
    if (flags & flagFin && !stream.destroyed) stream.push(null);
  }

  private control(kind: number, flags: number, body: Buffer): void {
    const head = Buffer.alloc(8);
    head.writeUInt16BE(0x8000 | version, 0);
    head.writeUInt16BE(kind, 2);
    head[4] = flags;
    head.writeUIntBE(body.length, 5, 3);
    if (!this.socket.destroyed && this.socket.writable) this.socket.write(Buffer.concat([head, body]));
  }

  private async reply(id: number): Promise<void> {
    const work = this.encoding.then(() => this.codec.encode(new Map()));
    this.encoding = work.catch(() => {});
    const body = Buffer.alloc(4);
    body.writeUInt32BE(id);
    this.control(type.synReply, 0, Buffer.concat([body, await work]));
  }

  private reset(id: number, status: number): void {
    const body = Buffer.alloc(8);
    body.writeUInt32BE(id, 0);
    body.writeUInt32BE(status, 4);
    this.control(type.rstStream, 0, body);
  }

  /** For SpdyStream: sends a data frame; resolves when the socket takes more. */
  sendData(id: number, data: Buffer, fin: boolean): Promise<void> {
    const head = Buffer.alloc(8);
    head.writeUInt32BE(id, 0);
    head[4] = fin ? flagFin : 0;
    head.writeUIntBE(data.length, 5, 3);
    return new Promise((resolve, reject) => {
      if (this.socket.destroyed || !this.socket.writable) return reject(new Error('the connection is closed'));
      this.socket.write(Buffer.concat([head, data]), (error) => (error ? reject(error) : resolve()));
    });
  }

  /** For SpdyStream: it is over; reset tells the other end that it ended before its time. */
  closed(id: number, reset: boolean): void {
    if (this.streams.delete(id) && reset) this.reset(id, cancel);
  }
}
