import type { TLSSocket } from 'node:tls';
import { type ConnectionLimits, isOverdue } from '../http/connections.ts';
import { FloodGuard } from './flood-guard.ts';
import { ConnectionError, type FrameHandler, FrameReader, unpad } from './frame-reader.ts';
import { errorCode, flag, frame, goaway, pingAck, rstStream, setting, settings, settingsAck, windowLimit, windowUpdate } from './frames.ts';
import { HpackDecoder, HpackError } from './hpack.ts';
import { type Fields, malformed, readFields } from './fields.ts';
import { Http2Stream } from './stream.ts';

/** Requests at once on one connection. */
export const maxConcurrentStreams = 1000;
/** Octets of a body that a client may send ahead of who reads it: of one request, and of all on the connection. */
export const streamWindow = 256 * 1024;
export const connectionWindow = 16 * 1024 * 1024;
/** Octets of all fields of a request, as SETTINGS_MAX_HEADER_LIST_SIZE counts them. */
const headerListLimit = 64 * 1024;
/** Answers to control frames that a client lets pile up unread, octets. */
const unreadLimit = 4 * 1024 * 1024;

/** Milliseconds that a client has to send the preface or the rest of a header block, at most; and to close a connection that has ended. */
const headersMs = 10_000;
const closeMs = 500;

/**
 * One client's HTTP/2 connection (RFC 9113): reads frames, keeps streams and windows, writes what the streams have. What is written within
 * one turn of the event loop goes out in one write. Faster than node:http2, whose streams cost more than what is served through them.
 */
export class Http2Connection implements FrameHandler {
  readonly socket: TLSSocket;
  readonly remoteAddress: string;
  readonly streams = new Map<number, Http2Stream>();
  /** Of the whole connection, for data that goes out. */
  sendWindow = 65_535;
  /** That the client gives new streams. */
  peerStreamWindow = 65_535;
  peerFrameLimit = 16_384;
  closed = false;
  readonly #limits: ConnectionLimits;
  readonly #serve: (stream: Http2Stream) => Promise<void>;
  readonly #decoder = new HpackDecoder();
  #running = 0;
  readonly #reader = new FrameReader(this);
  readonly #flood = new FloodGuard();
  #lastStream = 0;
  #receiveWindow = connectionWindow;
  #consumed = 0;
  #out: Buffer[] = [];
  #outSize = 0;
  #flushing = false;
  /** The socket takes no more until it drains. */
  blocked = false;
  /** Streams with data that waits for windows or the socket. */
  readonly #waiting = new Set<Http2Stream>();
  /** Streams that were ended before the client had sent everything. */
  readonly #cut = new Set<number>();
  #leaving = false;
  /** When it last became idle. */
  #since = performance.now();

  constructor(socket: TLSSocket, serve: (stream: Http2Stream) => Promise<void>, limits: ConnectionLimits) {
    this.#limits = limits;
    this.socket = socket;
    this.remoteAddress = socket.remoteAddress ?? '';
    this.#serve = serve;
    socket.on('data', (chunk: Buffer) => this.#read(chunk));
    socket.on('drain', () => this.#drained());
    socket.on('error', () => {});
    socket.on('close', () => this.#gone());
    socket.on('end', () => this.#gone());
    this.write(
      settings([
        [setting.maxConcurrentStreams, maxConcurrentStreams],
        [setting.initialWindowSize, streamWindow],
        [setting.maxHeaderListSize, headerListLimit],
      ]),
    );
    this.write(windowUpdate(0, connectionWindow - 65_535));
  }

  /** No new streams; ends when those there are have ended. */
  leave(): void {
    if (this.#leaving || this.closed) return;
    this.#leaving = true;
    this.write(goaway(this.#lastStream, errorCode.none));
    this.#endIfIdle();
  }

  destroy(): void {
    this.socket.destroy();
    this.#gone();
  }

  /** Ends what is idle, slow, or not taken by the client; called now and then. */
  look(now: number): void {
    const { idleMs } = this.#limits;
    const silent = now - this.#since;
    if (this.#reader.waitingMs(now) > Math.min(headersMs, idleMs))
      return this.#fail(new ConnectionError(errorCode.none, 'the header is too slow'));
    if (this.streams.size === 0 && this.#running === 0 && silent > idleMs) return this.leave();
    for (const stream of this.#waiting)
      if (stream.answeredAt && isOverdue(this.#limits, stream.answeredAt, stream.answerBytes, now)) this.reset(stream, errorCode.cancel);
  }

  /** Whether the client may be given another large answer, besides those that it has not taken yet. */
  hasRoom(): boolean {
    let untaken = 0;
    for (const stream of this.#waiting) untaken += stream.untaken;
    return untaken <= this.#limits.untakenBytes;
  }

  /** Queues bytes for the socket, after all that were queued before. */
  write(bytes: Buffer): void {
    if (this.closed) return;
    this.#out.push(bytes);
    this.#outSize += bytes.length;
    if (this.#flushing) return;
    this.#flushing = true;
    process.nextTick(flush, this);
  }

  flush(): void {
    this.#flushing = false;
    if (this.closed || this.#out.length === 0) return;
    const bytes = this.#out.length === 1 ? (this.#out[0] as Buffer) : Buffer.concat(this.#out, this.#outSize);
    this.#out = [];
    this.#outSize = 0;
    if (!this.socket.write(bytes)) this.blocked = true;
  }

  /** Writes at once, behind what was queued; calls back when the bytes are not needed any more. */
  writeNow(bytes: Buffer, done: () => void): void {
    this.flush();
    if (this.closed) return;
    if (!this.socket.write(bytes, done)) this.blocked = true;
  }

  /** The client reads nothing, though much is written. */
  get congested(): boolean {
    return this.socket.writableLength > unreadLimit / 4;
  }

  /** A stream has data that could not go out now. */
  wait(stream: Http2Stream): void {
    this.#waiting.add(stream);
  }

  /** Octets of data have been taken from what was received: the client may send as many more. */
  consumed(size: number): void {
    this.#consumed += size;
    if (this.#consumed < connectionWindow / 2 || this.closed) return;
    this.#receiveWindow += this.#consumed;
    this.write(windowUpdate(0, this.#consumed));
    this.#consumed = 0;
  }

  /** Ends a stream at once. */
  reset(stream: Http2Stream, code: number): void {
    if (this.streams.get(stream.id) !== stream) return;
    this.write(rstStream(stream.id, code));
    this.close(stream, true);
  }

  /** A stream has ended; `cut` where something was still to come or to go. */
  close(stream: Http2Stream, cut: boolean): void {
    if (!this.streams.delete(stream.id)) return;
    this.#waiting.delete(stream);
    if (!stream.remoteEnded) this.#remember(stream.id);
    stream.closed(cut);
    if (this.streams.size === 0) this.#since = performance.now();
    this.#endIfIdle();
  }

  /** What was ended here may have frames on the way. */
  #remember(id: number): void {
    this.#cut.add(id);
    if (this.#cut.size <= maxConcurrentStreams) return;
    for (const oldest of this.#cut) {
      this.#cut.delete(oldest);
      return;
    }
  }

  #endIfIdle(): void {
    if (!this.#leaving || this.streams.size > 0 || this.closed) return;
    this.#hangUp();
  }

  /** Writes what is queued and closes; a client that does not close its end is not waited for. */
  #hangUp(): void {
    this.flush();
    this.closed = true;
    this.socket.end();
    setTimeout(() => this.socket.destroy(), closeMs).unref();
  }

  #gone(): void {
    this.closed = true;
    this.#out = [];
    for (const stream of [...this.streams.values()]) {
      this.streams.delete(stream.id);
      stream.closed(true);
    }
    this.#waiting.clear();
  }

  #fail(error: ConnectionError): void {
    if (this.closed) return;
    this.write(goaway(this.#lastStream, error.code));
    this.#hangUp();
    this.#gone();
  }

  #drained(): void {
    this.blocked = false;
    this.#pump();
  }

  #pump(): void {
    for (const stream of [...this.#waiting]) {
      if (this.blocked || this.sendWindow <= 0) return;
      this.#waiting.delete(stream);
      // Back into the set, behind the others, where it has more.
      stream.pump();
    }
  }

  #read(chunk: Buffer): void {
    if (this.closed) return;
    try {
      this.#reader.read(chunk);
    } catch (error) {
      if (error instanceof HpackError) this.#fail(new ConnectionError(errorCode.compression, error.message));
      else if (error instanceof ConnectionError) this.#fail(error);
      else {
        this.#fail(new ConnectionError(errorCode.internal, ''));
        throw error;
      }
    }
  }

  /** Every frame but those of headers. */
  frame(type: number, flags: number, id: number, payload: Buffer): void {
    switch (type) {
      case frame.data:
        return this.#data(flags, id, payload);
      case frame.rstStream:
        return this.#rstStream(id, payload);
      case frame.windowUpdate:
        return this.#windowUpdate(id, payload);
      case frame.settings:
        return this.#settings(flags, id, payload);
      case frame.ping:
        if (id !== 0) throw new ConnectionError(errorCode.protocol, 'PING on a stream');
        if (payload.length !== 8) throw new ConnectionError(errorCode.frameSize, 'PING of another size');
        this.#idle();
        if (!(flags & flag.ack)) this.write(pingAck(payload));
        return;
      case frame.priority:
        if (id === 0) throw new ConnectionError(errorCode.protocol, 'PRIORITY of the connection');
        this.#idle();
        if (payload.length !== 5) return this.#streamError(id, errorCode.frameSize);
        if ((payload.readUInt32BE(0) & windowLimit) === id) return this.#streamError(id, errorCode.protocol);
        return;
      case frame.goaway:
        if (id !== 0) throw new ConnectionError(errorCode.protocol, 'GOAWAY on a stream');
        if (payload.length < 8) throw new ConnectionError(errorCode.frameSize, 'GOAWAY of another size');
        // The client opens no more; what it has opened is served.
        this.#leaving = true;
        return this.#endIfIdle();
      case frame.pushPromise:
        throw new ConnectionError(errorCode.protocol, 'clients do not push');
      default:
        // Other types are ignored, as the protocol says.
        this.#idle();
    }
  }

  /** A frame that brings nothing forward; nor does one whose answers are not read. */
  #idle(): void {
    this.#flood.idle();
    if (this.socket.writableLength > unreadLimit) throw new ConnectionError(errorCode.enhanceYourCalm, 'answers to control frames are not read');
  }

  #streamError(id: number, code: number): void {
    const stream = this.streams.get(id);
    if (stream) return this.reset(stream, code);
    this.#idle();
    this.write(rstStream(id, code));
  }

  /** Whether a stream has never been opened. */
  #isIdle(id: number): boolean {
    return id > this.#lastStream || id % 2 === 0;
  }

  #data(flags: number, id: number, payload: Buffer): void {
    if (id === 0) throw new ConnectionError(errorCode.protocol, 'DATA of the connection');
    if (this.#isIdle(id)) throw new ConnectionError(errorCode.protocol, 'DATA of an idle stream');
    this.#receiveWindow -= payload.length;
    if (this.#receiveWindow < 0) throw new ConnectionError(errorCode.flowControl, 'more data than the window');
    const data = unpad(flags, payload);
    const last = (flags & flag.endStream) !== 0;
    if (data.length > 0 || last) this.#flood.progress();
    else this.#idle();
    const stream = this.streams.get(id);
    if (!stream) {
      this.consumed(payload.length);
      if (!this.#cut.has(id)) this.#streamError(id, errorCode.streamClosed);
      return;
    }
    if (stream.remoteEnded) {
      this.consumed(payload.length);
      return this.reset(stream, errorCode.streamClosed);
    }
    this.consumed(payload.length - data.length);
    const wrong = stream.receive(data, payload.length, last);
    if (wrong !== undefined) this.reset(stream, wrong);
  }

  headers(id: number, flags: number, block: Buffer, dependsOnItself: boolean): void {
    if (!dependsOnItself) return this.#open(id, flags, block);
    // Its block must be read all the same.
    this.#decoder.decode(block, 0, () => {});
    this.#lastStream = Math.max(this.#lastStream, id);
    this.#streamError(id, errorCode.protocol);
  }

  #open(id: number, flags: number, block: Buffer): void {
    const last = (flags & flag.endStream) !== 0;
    const known = this.streams.get(id);
    if (known || id <= this.#lastStream) {
      // Trailers: read for the table's sake, and told to nobody.
      let wrong = false;
      this.#decoder.decode(block, headerListLimit, (name) => (wrong ||= name.startsWith(':')));
      if (!known) {
        if (this.#cut.has(id)) return;
        throw new ConnectionError(errorCode.streamClosed, 'HEADERS of a stream that has ended');
      }
      if (known.remoteEnded) return this.reset(known, errorCode.streamClosed);
      const code = !last || wrong ? errorCode.protocol : known.receive(noData, 0, true);
      if (code !== undefined) this.reset(known, code);
      return;
    }
    this.#lastStream = id;
    this.#flood.progress();
    const read: Fields | typeof malformed | 'large' = readFields(this.#decoder, block, headerListLimit);
    if (read === malformed) return this.#streamError(id, errorCode.protocol);
    if (this.#leaving || this.#running >= maxConcurrentStreams || this.streams.size >= maxConcurrentStreams)
      return this.#streamError(id, errorCode.refusedStream);
    const stream = new Http2Stream(this, id, read === 'large' ? undefined : read, last);
    this.streams.set(id, stream);
    if (read === 'large') return stream.refuse(431);
    if (last && read.contentLength) return this.reset(stream, errorCode.protocol);
    this.#running++;
    void this.#serve(stream).then(() => {
      this.#running--;
      this.#since = performance.now();
    });
  }

  #rstStream(id: number, payload: Buffer): void {
    if (id === 0 || this.#isIdle(id)) throw new ConnectionError(errorCode.protocol, 'RST_STREAM of no stream');
    if (payload.length !== 4) throw new ConnectionError(errorCode.frameSize, 'RST_STREAM of another size');
    this.#flood.reset();
    const stream = this.streams.get(id);
    if (!stream) return this.#idle();
    this.close(stream, true);
    // What the client itself has ended has no frames on the way.
    this.#cut.delete(id);
  }

  #windowUpdate(id: number, payload: Buffer): void {
    if (payload.length !== 4) throw new ConnectionError(errorCode.frameSize, 'WINDOW_UPDATE of another size');
    const more = payload.readUInt32BE(0) & windowLimit;
    if (id === 0) {
      if (more === 0) throw new ConnectionError(errorCode.protocol, 'a window update of 0');
      this.sendWindow += more;
      if (this.sendWindow > windowLimit) throw new ConnectionError(errorCode.flowControl, 'the window is too large');
      this.#idle();
      return this.#pump();
    }
    if (this.#isIdle(id)) throw new ConnectionError(errorCode.protocol, 'WINDOW_UPDATE of an idle stream');
    const stream = this.streams.get(id);
    if (!stream) return this.#idle();
    if (more === 0) return this.reset(stream, errorCode.protocol);
    stream.sendWindow += more;
    if (stream.sendWindow > windowLimit) return this.reset(stream, errorCode.flowControl);
    this.#idle();
    if (this.#waiting.delete(stream)) stream.pump();
  }

  #settings(flags: number, id: number, payload: Buffer): void {
    if (id !== 0) throw new ConnectionError(errorCode.protocol, 'SETTINGS of a stream');
    if (flags & flag.ack) {
      if (payload.length > 0) throw new ConnectionError(errorCode.frameSize, 'an acknowledgement with settings');
      return;
    }
    if (payload.length % 6 !== 0) throw new ConnectionError(errorCode.frameSize, 'SETTINGS of another size');
    this.#idle();
    this.write(settingsAck);
    for (let at = 0; at < payload.length; at += 6) this.#set(payload.readUInt16BE(at), payload.readUInt32BE(at + 2));
    this.#pump();
  }

  #set(id: number, value: number): void {
    if (id === setting.initialWindowSize) {
      if (value > windowLimit) throw new ConnectionError(errorCode.flowControl, 'the window is too large');
      for (const stream of this.streams.values()) {
        stream.sendWindow += value - this.peerStreamWindow;
        if (stream.sendWindow > windowLimit) throw new ConnectionError(errorCode.flowControl, 'the window is too large');
        if (stream.sendWindow > 0 && this.#waiting.delete(stream)) stream.pump();
      }
      this.peerStreamWindow = value;
    } else if (id === setting.maxFrameSize) {
      if (value < 16_384 || value > 16_777_215) throw new ConnectionError(errorCode.protocol, 'no size of frames');
      this.peerFrameLimit = value;
    } else if (id === setting.enablePush && value > 1) throw new ConnectionError(errorCode.protocol, 'neither 0 nor 1');
  }
}

const noData = Buffer.alloc(0);
const flush = (connection: Http2Connection) => connection.flush();
