/** HTTP/2's frames (RFC 9113). */
export const frame = {
  data: 0,
  headers: 1,
  priority: 2,
  rstStream: 3,
  settings: 4,
  pushPromise: 5,
  ping: 6,
  goaway: 7,
  windowUpdate: 8,
  continuation: 9,
} as const;

export const flag = { endStream: 1, ack: 1, endHeaders: 4, padded: 8, priority: 32 } as const;

export const errorCode = {
  none: 0,
  protocol: 1,
  internal: 2,
  flowControl: 3,
  streamClosed: 5,
  frameSize: 6,
  refusedStream: 7,
  cancel: 8,
  compression: 9,
  enhanceYourCalm: 11,
  http11Required: 13,
} as const;

export const setting = { headerTableSize: 1, enablePush: 2, maxConcurrentStreams: 3, initialWindowSize: 4, maxFrameSize: 5, maxHeaderListSize: 6 } as const;

export const preface = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'latin1');

/** The largest window there may be. */
export const windowLimit = 2 ** 31 - 1;

export function writeHeader(out: Buffer, at: number, length: number, type: number, flags: number, stream: number): number {
  out[at] = length >>> 16;
  out[at + 1] = (length >>> 8) & 255;
  out[at + 2] = length & 255;
  out[at + 3] = type;
  out[at + 4] = flags;
  out.writeUInt32BE(stream, at + 5);
  return at + 9;
}

function frameOf(type: number, flags: number, stream: number, payload: number[]): Buffer {
  const out = Buffer.allocUnsafe(9 + payload.length * 4);
  let at = writeHeader(out, 0, payload.length * 4, type, flags, stream);
  for (const word of payload) at = out.writeUInt32BE(word, at);
  return out;
}

export const rstStream = (stream: number, code: number): Buffer => frameOf(frame.rstStream, 0, stream, [code]);
export const windowUpdate = (stream: number, increment: number): Buffer => frameOf(frame.windowUpdate, 0, stream, [increment]);
export const goaway = (lastStream: number, code: number): Buffer => frameOf(frame.goaway, 0, 0, [lastStream, code]);
export const settingsAck = frameOf(frame.settings, flag.ack, 0, []);

export function settings(values: [id: number, value: number][]): Buffer {
  const out = Buffer.allocUnsafe(9 + values.length * 6);
  let at = writeHeader(out, 0, values.length * 6, frame.settings, 0, 0);
  for (const [id, value] of values) at = out.writeUInt32BE(value, out.writeUInt16BE(id, at));
  return out;
}

export function pingAck(payload: Buffer): Buffer {
  const out = Buffer.allocUnsafe(17);
  payload.copy(out, writeHeader(out, 0, 8, frame.ping, flag.ack, 0));
  return out;
}
