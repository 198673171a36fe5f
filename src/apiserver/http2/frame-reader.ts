import { errorCode, flag, frame, preface, windowLimit } from './frames.ts';

/** The largest frame that is read: the protocol's default. */
const frameLimit = 16_384;
/** What header blocks may take before their fields are counted, octets and frames. */
const blockLimit = 256 * 1024;
const blockFrames = 64;

/** What ends a connection, with a code of the protocol's. */
export class ConnectionError extends Error {
  readonly code: number;
  constructor(code: number, why: string) {
    super(why);
    this.code = code;
  }
}

/** Takes frames as they come. Header blocks are whole. */
export interface FrameHandler {
  frame(type: number, flags: number, stream: number, payload: Buffer): void;
  /** `dependsOnItself`: its priority makes the block's stream wait for itself. */
  headers(stream: number, flags: number, block: Buffer, dependsOnItself: boolean): void;
  /** Nothing more is read. */
  readonly closed: boolean;
}

/** Octets without their padding. */
export function unpad(flags: number, payload: Buffer): Buffer {
  if (!(flags & flag.padded)) return payload;
  const padding = payload[0];
  if (padding === undefined || padding >= payload.length) throw new ConnectionError(errorCode.protocol, 'more padding than frame');
  return payload.subarray(1, payload.length - padding);
}

/** Cuts what comes over a connection into frames. Throws ConnectionError. */
export class FrameReader {
  readonly #handler: FrameHandler;
  #rest: Buffer | undefined;
  #begun = false;
  #settled = false;
  /** A header block whose CONTINUATION frames are awaited. */
  #block: { stream: number; flags: number; parts: Buffer[]; size: number; dependsOnItself: boolean } | undefined;
  /** When a header block was begun, or the connection; performance.now(). */
  #since = performance.now();

  constructor(handler: FrameHandler) {
    this.#handler = handler;
  }

  /** Milliseconds for which the rest of the preface or of a header block has been awaited. */
  waitingMs(now: number): number {
    return !this.#begun || this.#block ? now - this.#since : 0;
  }

  read(chunk: Buffer): void {
    const bytes = this.#rest ? Buffer.concat([this.#rest, chunk]) : chunk;
    let at = 0;
    this.#rest = undefined;
    if (!this.#begun) {
      const here = Math.min(bytes.length, preface.length);
      if (!bytes.subarray(0, here).equals(preface.subarray(0, here))) throw new ConnectionError(errorCode.protocol, 'no preface');
      if (here < preface.length) {
        this.#rest = bytes;
        return;
      }
      this.#begun = true;
      at = preface.length;
    }
    while (bytes.length - at >= 9) {
      const length = bytes.readUIntBE(at, 3);
      if (length > frameLimit) throw new ConnectionError(errorCode.frameSize, 'the frame is too large');
      if (bytes.length - at - 9 < length) break;
      const type = bytes[at + 3] as number;
      this.#frame(type, bytes[at + 4] as number, bytes.readUInt32BE(at + 5) & windowLimit, bytes.subarray(at + 9, at + 9 + length));
      if (this.#handler.closed) return;
      at += 9 + length;
    }
    // What is kept must not keep the whole of a large read alive.
    if (at < bytes.length) this.#rest = at === 0 ? bytes : Buffer.from(bytes.subarray(at));
  }

  #frame(type: number, flags: number, stream: number, payload: Buffer): void {
    if (this.#block && (type !== frame.continuation || stream !== this.#block.stream))
      throw new ConnectionError(errorCode.protocol, 'a header block was not finished');
    if (!this.#settled) {
      if (type !== frame.settings || flags & flag.ack) throw new ConnectionError(errorCode.protocol, 'the first frame is not SETTINGS');
      this.#settled = true;
    }
    if (type === frame.headers) this.#headers(flags, stream, payload);
    else if (type === frame.continuation) this.#continuation(flags, payload);
    else this.#handler.frame(type, flags, stream, payload);
  }

  #headers(flags: number, stream: number, payload: Buffer): void {
    if (stream % 2 === 0) throw new ConnectionError(errorCode.protocol, 'HEADERS of no stream of a client');
    let block = unpad(flags, payload);
    let dependsOnItself = false;
    if (flags & flag.priority) {
      if (block.length < 5) throw new ConnectionError(errorCode.frameSize, 'no priority');
      dependsOnItself = (block.readUInt32BE(0) & windowLimit) === stream;
      block = block.subarray(5);
    }
    if (flags & flag.endHeaders) return this.#handler.headers(stream, flags, block, dependsOnItself);
    this.#since = performance.now();
    this.#block = { stream, flags, parts: [Buffer.from(block)], size: block.length, dependsOnItself };
  }

  #continuation(flags: number, payload: Buffer): void {
    const block = this.#block;
    if (!block) throw new ConnectionError(errorCode.protocol, 'CONTINUATION of nothing');
    block.parts.push(Buffer.from(payload));
    block.size += payload.length;
    if (block.size > blockLimit || block.parts.length > blockFrames) throw new ConnectionError(errorCode.enhanceYourCalm, 'the header block is too large');
    if (!(flags & flag.endHeaders)) return;
    this.#block = undefined;
    this.#handler.headers(block.stream, block.flags, Buffer.concat(block.parts), block.dependsOnItself);
  }
}
