import { Readable } from 'node:stream';
import { tooLarge } from '../../api/errors.ts';
import { clientGone, type ResponseStream, sizeOf } from '../http/exchange.ts';
import { type Http2Connection, streamWindow } from './connection.ts';
import { connectionFields, type Fields } from './fields.ts';
import { errorCode, flag, frame, rstStream, windowUpdate, writeHeader } from './frames.ts';
import { HpackEncoder } from './hpack.ts';

/** Octets of an answer that are framed at once; then others have their turn. */
const turn = 256 * 1024;
/** Octets from which an answer counts as large. */
const largeAnswer = 256 * 1024;
/** Octets that a writer may have waiting before it is asked to pause. */
const writeAhead = 64 * 1024;

/** Memory for the frames of a turn, used again once it is written: to ask the system for so much anew costs more than filling it. */
const spareLength = turn + 1024;
const sparesKept = 8;
const spares: Buffer[] = [];

const encoder = new HpackEncoder();

/** The fields of an answer; names in lower case. */
export type AnswerFields = Record<string, string | string[]>;

/** A request's stream: its body on the way in, its answer on the way out. */
export class Http2Stream implements ResponseStream {
  readonly id: number;
  readonly connection: Http2Connection;
  readonly fields: Fields | undefined;
  /** The client has sent everything. */
  remoteEnded: boolean;
  sendWindow: number;
  /** When a whole answer was handed over (performance.now()), and its octets; 0 for what is written bit by bit. */
  answeredAt = 0;
  answerBytes = 0;
  /** Both sides have ended, or one was cut off. */
  isClosed = false;
  /** The fields of the answer have been sent. */
  answered = false;
  #received: Buffer[] = [];
  #receivedSize = 0;
  /** All that ever came, octets. */
  #total = 0;
  #receiveWindow = streamWindow;
  #consumed = 0;
  /** Is told that something has come, or that nothing more will. */
  #reader: ((ended: boolean) => void) | undefined;
  #discarding = false;
  /** What waits to be sent: from an octet of one of the parts on. */
  #out: Buffer[] = [];
  #outAt = 0;
  #outFrom = 0;
  #outSize = 0;
  #ending = false;
  #drain: (() => void) | undefined;
  /** Whoever writes was told to pause. */
  #full = false;
  #controller: AbortController | undefined;
  /** The answer is no single piece. */
  streaming = false;

  constructor(connection: Http2Connection, id: number, fields: Fields | undefined, ended: boolean) {
    this.connection = connection;
    this.id = id;
    this.fields = fields;
    this.remoteEnded = ended;
    this.sendWindow = connection.peerStreamWindow;
  }

  /** Aborts when it is cut off, and when an answer that is streamed has ended. */
  get signal(): AbortSignal {
    if (!this.#controller) {
      this.#controller = new AbortController();
      if (this.isClosed) this.#controller.abort(clientGone);
    }
    return this.#controller.signal;
  }

  /** Data has come; `size` with padding. The code of what is wrong with it, where something is. */
  receive(data: Buffer, size: number, last: boolean): number | undefined {
    this.#receiveWindow -= size;
    if (this.#receiveWindow < 0) return errorCode.flowControl;
    this.#consumed += size - data.length;
    this.#total += data.length;
    const announced = this.fields?.contentLength;
    if (announced !== undefined && (this.#total > announced || (last && this.#total !== announced))) return errorCode.protocol;
    if (last) this.remoteEnded = true;
    if (data.length > 0) {
      if (this.#discarding) this.#take(data.length);
      else {
        this.#received.push(data);
        this.#receivedSize += data.length;
      }
    }
    this.#reader?.(last);
    return undefined;
  }

  /** Received octets have been taken: the client may send as many more. */
  #take(size: number): void {
    this.connection.consumed(size);
    this.#consumed += size;
    if (this.remoteEnded || this.isClosed || this.#consumed < streamWindow / 2) return;
    this.#receiveWindow += this.#consumed;
    this.connection.write(windowUpdate(this.id, this.#consumed));
    this.#consumed = 0;
  }

  /** All that has been received since it was last asked. */
  #takeAll(): Buffer[] {
    const chunks = this.#received;
    const size = this.#receivedSize;
    this.#received = [];
    this.#receivedSize = 0;
    if (size > 0) this.#take(size);
    return chunks;
  }

  #discard(): void {
    this.#discarding = true;
    this.#reader = undefined;
    this.#takeAll();
  }

  /** The whole body. StatusError 413 beyond limit octets; Error where the client went away. */
  body(limit: number): Promise<Buffer> {
    const refuse = () => {
      this.#discard();
      return tooLarge(`Request entity too large: limit is ${limit}`);
    };
    if ((this.fields?.contentLength ?? 0) > limit || this.#receivedSize > limit) return Promise.reject(refuse());
    if (this.remoteEnded) return Promise.resolve(joined(this.#takeAll()));
    this.#continue();
    return new Promise((resolve, reject) => {
      const chunks: Buffer[] = [];
      let size = 0;
      this.#reader = (ended) => {
        for (const chunk of this.#takeAll()) {
          // A copy: the read that it came with may be larger by far.
          chunks.push(Buffer.from(chunk));
          size += chunk.length;
        }
        if (size > limit) return reject(refuse());
        if (ended) resolve(joined(chunks));
        else if (this.isClosed) reject(new Error('the client went away while it sent the body'));
      };
      this.#reader(this.remoteEnded);
    });
  }

  /** The body as it comes; undefined where there is none. */
  bodyStream(): Readable | undefined {
    if (this.remoteEnded && this.#receivedSize === 0) return undefined;
    this.#continue();
    // A reader that has enough asks for no more: data stays here, and the window shut.
    let wanted = false;
    const deliver = () => {
      if (!wanted) return;
      const chunks = this.#takeAll();
      if (chunks.length > 0) wanted = false;
      for (const chunk of chunks) readable.push(chunk);
      if (this.remoteEnded) readable.push(null);
      else if (this.isClosed) readable.destroy(clientGone);
    };
    const readable = new Readable({
      read() {
        wanted = true;
        deliver();
      },
    });
    this.#reader = deliver;
    readable.on('close', () => this.#discard());
    return readable;
  }

  /** A client may wait to be told that its body is wanted. */
  #continue(): void {
    if (this.fields?.headers['expect'] !== '100-continue' || this.answered || this.isClosed) return;
    encoder.begin(100);
    this.#headers(encoder.bytes, false, 0);
    this.answered = false;
  }

  /** Sends the fields of the answer. */
  begin(status: number, own: AnswerFields, more: AnswerFields, end: boolean, length?: number): void {
    if (this.isClosed || this.answered) return;
    const block = this.#block(status, own, more, length);
    this.#headers(block, end, 0);
  }

  /** The whole answer; its body may come in parts, which need not be put together before. */
  send(status: number, own: AnswerFields, more: AnswerFields, parts: Buffer[] | undefined): void {
    if (this.isClosed || this.answered) return;
    const size = parts ? sizeOf(parts) : 0;
    this.answeredAt = performance.now();
    this.answerBytes = size;
    const block = this.#block(status, own, more, parts ? size : undefined);
    if (!parts || size === 0) return void this.#headers(block, true, 0);
    const { connection } = this;
    if (size > connection.peerFrameLimit || size > this.sendWindow || size > connection.sendWindow || connection.congested) {
      if (size >= largeAnswer && !connection.hasRoom()) return connection.reset(this, errorCode.enhanceYourCalm);
      this.#headers(block, false, 0);
      this.#out = parts;
      this.#outSize = size;
      this.#ending = true;
      return this.pump();
    }
    // Most answers are one frame each: fields and body then go in one piece.
    const out = this.#headers(block, false, 9 + size) as Buffer;
    let at = writeHeader(out, out.length - size - 9, size, frame.data, flag.endStream, this.id);
    for (const part of parts) at += part.copy(out, at);
    this.sendWindow -= size;
    connection.sendWindow -= size;
    this.#finish();
  }

  /** The answer to a request that is not even looked at. */
  refuse(status: number): void {
    this.#discard();
    this.send(status, {}, {}, undefined);
  }

  #block(status: number, own: AnswerFields, more: AnswerFields, length: number | undefined): Buffer {
    encoder.begin(status);
    for (const set of [own, more]) {
      for (const name in set) {
        if (set === own && name in more) continue;
        const lower = name.toLowerCase();
        if (connectionFields.has(lower)) continue;
        const values = set[name] as string | string[];
        if (typeof values === 'string') encoder.field(lower, values);
        else for (const value of values) encoder.field(lower, value);
      }
    }
    encoder.field('date', httpDate());
    if (length !== undefined && !('content-length' in more)) encoder.field('content-length', String(length));
    return encoder.bytes;
  }

  /** Writes fields as HEADERS and CONTINUATION, with room for `extra` octets behind, which the caller fills; the buffer is queued. */
  #headers(block: Buffer, end: boolean, extra: number): Buffer {
    this.answered = true;
    const most = this.connection.peerFrameLimit;
    const frames = Math.max(1, Math.ceil(block.length / most));
    const out = Buffer.allocUnsafe(block.length + frames * 9 + extra);
    let at = 0;
    for (let i = 0; i < frames; i++) {
      const part = block.subarray(i * most, (i + 1) * most);
      const flags = (i === frames - 1 ? flag.endHeaders : 0) | (end && i === 0 ? flag.endStream : 0);
      at = writeHeader(out, at, part.length, i === 0 ? frame.headers : frame.continuation, flags, this.id);
      at += part.copy(out, at);
    }
    this.connection.write(out);
    if (end) this.#finish();
    return out;
  }

  /** False where the reader does not keep up. */
  write(chunk: Buffer): boolean {
    if (this.isClosed || this.#ending || chunk.length === 0) return true;
    this.#out.push(chunk);
    this.#outSize += chunk.length;
    if (this.#outSize === chunk.length) this.pump();
    const room = this.#outSize < writeAhead && !this.connection.blocked;
    if (!room) {
      this.#full = true;
      this.connection.wait(this);
    }
    return room;
  }

  onDrain(listener: () => void): void {
    this.#drain = listener;
  }

  end(): void {
    if (this.isClosed || this.#ending) return;
    this.#ending = true;
    if (this.#outSize === 0) this.#endFrame();
  }

  destroy(): void {
    this.connection.reset(this, errorCode.internal);
  }

  #endFrame(): void {
    const out = Buffer.allocUnsafe(9);
    writeHeader(out, 0, 0, frame.data, flag.endStream, this.id);
    this.connection.write(out);
    this.#finish();
  }

  /** Octets that wait to be sent. */
  get untaken(): number {
    return this.#outSize;
  }

  /** What the answer did not wait for is not worth going on with. */
  abandon(): void {
    this.#controller?.abort(clientGone);
  }

  /** Everything has been sent. A client that is still sending is told to stop. */
  #finish(): void {
    if (!this.remoteEnded) this.connection.write(rstStream(this.id, errorCode.none));
    this.connection.close(this, !this.remoteEnded);
  }

  /** Frames as much as the windows and the socket take. */
  pump(): void {
    const { connection } = this;
    while (this.#outSize > 0) {
      const size = Math.min(this.#outSize, this.sendWindow, connection.sendWindow, turn);
      if (size <= 0 || connection.blocked) {
        connection.wait(this);
        return;
      }
      const last = this.#ending && size === this.#outSize;
      this.#frame(size, last);
      if (last) return this.#finish();
      // Large answers reach the socket in turns, so that it can say when it is full.
      if (this.#outSize > 0) connection.flush();
    }
    if (!this.#full) return;
    if (connection.blocked) return connection.wait(this);
    this.#full = false;
    this.#drain?.();
  }

  #frame(size: number, last: boolean): void {
    const most = this.connection.peerFrameLimit;
    const frames = Math.ceil(size / most);
    const length = size + frames * 9;
    const spare = length > spareLength / 4 && length <= spareLength ? (spares.pop() ?? Buffer.allocUnsafeSlow(spareLength)) : undefined;
    const out = spare ?? Buffer.allocUnsafe(length);
    let at = 0;
    let left = size;
    let used = this.#outAt;
    let from = this.#outFrom;
    while (left > 0) {
      let part = Math.min(left, most);
      left -= part;
      at = writeHeader(out, at, part, frame.data, last && left === 0 ? flag.endStream : 0, this.id);
      while (part > 0) {
        const chunk = this.#out[used] as Buffer;
        const copied = chunk.copy(out, at, from, Math.min(chunk.length, from + part));
        at += copied;
        part -= copied;
        from += copied;
        if (from === chunk.length) {
          used++;
          from = 0;
        }
      }
    }
    this.#outSize -= size;
    this.#outFrom = from;
    this.#outAt = used;
    if (this.#outSize === 0) {
      this.#out = [];
      this.#outAt = 0;
    }
    this.sendWindow -= size;
    this.connection.sendWindow -= size;
    if (!spare) return this.connection.write(out);
    this.connection.writeNow(spare.subarray(0, length), () => {
      if (spares.length < sparesKept) spares.push(spare);
    });
  }

  /** The connection has taken it from its streams. */
  closed(cut: boolean): void {
    this.isClosed = true;
    this.#out = [];
    this.#outSize = 0;
    const reader = this.#reader;
    this.#reader = undefined;
    reader?.(false);
    // What nobody read still holds some of the connection's window.
    if (this.#receivedSize > 0) this.connection.consumed(this.#receivedSize);
    this.#received = [];
    this.#receivedSize = 0;
    if (this.#controller && (cut || this.streaming)) this.#controller.abort(clientGone);
  }
}

function joined(chunks: Buffer[]): Buffer {
  return chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks);
}

let date = '';
let dateUntil = 0;
/** The Date field, made once a second. */
function httpDate(): string {
  const now = Date.now();
  if (now >= dateUntil) {
    date = new Date(now).toUTCString();
    dateUntil = now - (now % 1000) + 1000;
  }
  return date;
}
