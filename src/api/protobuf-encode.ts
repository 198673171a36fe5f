import { type Field, type Message, messageOf } from './protobuf-messages.ts';

/**
 * Writes Kubernetes' protobuf wire format. Messages are written from their end, so that no length has to be known before: the way of
 * gogo's generated code, whose bytes these are.
 */
class Writer {
  buffer = Buffer.allocUnsafe(64 * 1024);
  /** Where the bytes written so far begin. */
  at = this.buffer.length;

  reserve(bytes: number): void {
    if (this.at >= bytes) return;
    const used = this.buffer.length - this.at;
    const grown = Buffer.allocUnsafe(Math.max(this.buffer.length * 2, used + bytes + 1024));
    this.buffer.copy(grown, grown.length - used, this.at);
    this.buffer = grown;
    this.at = grown.length - used;
  }

  /** Not negative, below 2^53. */
  varint(value: number): void {
    this.reserve(10);
    if (value < 0x80) {
      this.buffer[--this.at] = value;
      return;
    }
    let size = 1;
    for (let rest = value; rest >= 0x80; rest = Math.floor(rest / 0x80)) size++;
    let at = (this.at -= size);
    let rest = value;
    while (rest >= 0x80) {
      this.buffer[at++] = (rest % 0x80) | 0x80;
      rest = Math.floor(rest / 0x80);
    }
    this.buffer[at] = rest;
  }

  /** int32 and int64: what is negative takes ten bytes. */
  integer(value: number | bigint): void {
    if (value >= 0 && (typeof value === 'number' || value <= Number.MAX_SAFE_INTEGER)) return this.varint(Number(value));
    this.reserve(10);
    let rest = BigInt.asUintN(64, BigInt(value));
    let size = 1;
    for (let left = rest; left >= 0x80n; left >>= 7n) size++;
    let at = (this.at -= size);
    for (; rest >= 0x80n; rest >>= 7n) this.buffer[at++] = Number(rest & 0x7fn) | 0x80;
    this.buffer[at] = Number(rest);
  }

  text(value: string): void {
    const { length } = value;
    // Most are short and ASCII: no call into C++ for those.
    if (length <= 48) {
      this.reserve(length + 10);
      const start = this.at - length;
      let i = 0;
      for (; i < length; i++) {
        const code = value.charCodeAt(i);
        if (code > 0x7f) break;
        this.buffer[start + i] = code;
      }
      if (i === length) {
        this.at = start;
        this.varint(length);
        return;
      }
    }
    const size = Buffer.byteLength(value);
    this.reserve(size + 10);
    this.at -= size;
    this.buffer.utf8Write(value, this.at, size);
    this.varint(size);
  }

  bytes(value: Buffer): void {
    this.reserve(value.length + 10);
    this.at -= value.length;
    value.copy(this.buffer, this.at);
    this.varint(value.length);
  }

  double(value: number): void {
    this.reserve(8);
    this.at -= 8;
    this.buffer.writeDoubleLE(value, this.at);
  }
}

declare global {
  interface Buffer {
    utf8Write(text: string, offset: number, length: number): number;
  }
}

const writer = new Writer();

/** The message's own bytes, without the envelope. Undefined where the definition has no protobuf form. */
export function encodeMessage(definition: string, object: unknown): Buffer | undefined {
  const message = messageOf(definition);
  if (!message) return undefined;
  writer.at = writer.buffer.length;
  writeMessage(writer, message, object);
  const bytes = Buffer.from(writer.buffer.subarray(writer.at));
  // One huge object must not hold its memory for ever.
  if (writer.buffer.length > 4 * 1024 * 1024) writer.buffer = Buffer.allocUnsafe(64 * 1024);
  return bytes;
}

const magic = Buffer.from('k8s\0');
/** The envelope's content encoding and content type, both empty. */
const tail = Buffer.from([0x1a, 0, 0x22, 0]);

export function varintBytes(value: number): Buffer {
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) bytes.push((rest % 0x80) | 0x80);
  bytes.push(rest);
  return Buffer.from(bytes);
}

/** What stands before and after a message of `length` bytes in the body of a request or an answer. */
export function envelope(apiVersion: string, kind: string, length: number): { head: Buffer; tail: Buffer } {
  const version = Buffer.from(apiVersion);
  const name = Buffer.from(kind);
  const type = Buffer.concat([Buffer.from([0x0a]), varintBytes(version.length), version, Buffer.from([0x12]), varintBytes(name.length), name]);
  return { head: Buffer.concat([magic, Buffer.from([0x0a]), varintBytes(type.length), type, Buffer.from([0x12]), varintBytes(length)]), tail };
}

/** A whole body: `k8s\0`, then runtime.Unknown with type and message. Undefined where the definition has no protobuf form. */
export function encodeProtobuf(object: { apiVersion?: string; kind?: string }, definition: string): Buffer | undefined {
  const raw = encodeMessage(definition, object);
  if (!raw) return undefined;
  const around = envelope(object.apiVersion ?? '', object.kind ?? '', raw.length);
  return Buffer.concat([around.head, raw, around.tail]);
}

function writeMessage(w: Writer, message: Message, value: any): void {
  const special = specials.get(message.shortName);
  if (special) return special(w, message, value);
  const object = message.list ? { items: value } : value;
  const fields = message.descending;
  for (let i = 0; i < fields.length; i++) {
    const field = fields[i] as Field;
    if (field.inline) writeValue(w, field, field.id, object);
    else {
      const member = object[field.json];
      if (member !== undefined && member !== null) writeField(w, field, member);
    }
  }
}

function writeField(w: Writer, field: Field, value: any): void {
  if (field.map) {
    const keys = sortedKeys(value);
    for (let i = keys.length - 1; i >= 0; i--) {
      const key = keys[i] as string;
      const fromEnd = w.buffer.length - w.at;
      const inner = value[key];
      // A time that is null is a message without fields.
      if (inner !== undefined && inner !== null) writeValue(w, field, 2, inner);
      else if (field.type === 'message') close(w, 2, w.at);
      writeText(w, 1, key);
      close(w, field.id, w.buffer.length - fromEnd);
    }
  } else if (field.repeated) {
    // In a list of any JSON values null is one of them.
    const empty = field.type !== 'message' ? (field.type === 'string' ? '' : 0) : field.message.shortName.endsWith('.JSON') ? null : {};
    for (let i = value.length - 1; i >= 0; i--) writeValue(w, field, field.id, value[i] ?? empty);
  } else writeValue(w, field, field.id, value);
}

/** As Go sorts strings: by their bytes, which differs from UTF-16's order only beyond U+D7FF. */
function sortedKeys(value: object): string[] {
  const keys = Object.keys(value);
  if (keys.length < 2) return keys;
  return keys.some((key) => /[\ud800-\uffff]/.test(key)) ? keys.sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b))) : keys.sort();
}

/** Length and tag before what was written since `end`. */
function close(w: Writer, id: number, end: number): void {
  w.varint(end - w.at);
  w.varint(id * 8 + 2);
}

function writeText(w: Writer, id: number, value: string): void {
  w.text(value);
  w.varint(id * 8 + 2);
}

function writeNumber(w: Writer, id: number, value: number | bigint): void {
  w.integer(value);
  w.varint(id * 8);
}

function writeValue(w: Writer, field: Field, id: number, value: any): void {
  switch (field.type) {
    case 'message': {
      const fromEnd = w.buffer.length - w.at;
      writeMessage(w, field.message, value);
      close(w, id, w.buffer.length - fromEnd);
      return;
    }
    case 'string':
      return writeText(w, id, String(value));
    case 'bytes':
      w.bytes(Buffer.from(value, 'base64'));
      w.varint(id * 8 + 2);
      return;
    case 'bool':
      return writeNumber(w, id, value ? 1 : 0);
    case 'double':
      w.double(Number(value));
      w.varint(id * 8 + 1);
      return;
    default:
      writeNumber(w, id, typeof value === 'bigint' ? value : Number(value));
  }
}

type Special = (w: Writer, message: Message, value: any) => void;

const json: Special = (w, _message, value) => {
  if (value === undefined) return;
  w.bytes(Buffer.from(JSON.stringify(value)));
  w.varint(8 + 2);
};

function timestamp(w: Writer, text: string, digits: number): void {
  const fraction = digits === 0 ? '' : (/\.(\d+)/.exec(text)?.[1] ?? '');
  writeNumber(w, 2, fraction ? Number(fraction.slice(0, digits).padEnd(9, '0')) : 0);
  writeNumber(w, 1, Math.floor(Date.parse(text) / 1000));
}

/** The nanoseconds of a duration as Go prints it. */
function nanoseconds(text: string): number {
  const units: Record<string, number> = { ns: 1, us: 1e3, µs: 1e3, μs: 1e3, ms: 1e6, s: 1e9, m: 6e10, h: 3.6e12 };
  let sum = 0;
  for (const [, number, unit] of text.matchAll(/([\d.]+)(ns|us|µs|μs|ms|s|m|h)/g)) sum += Number(number) * (units[unit as string] as number);
  return Math.round(text.startsWith('-') ? -sum : sum);
}

/** A value or a list of them, in fields 1 and 2. */
const oneOrMany: Special = (w, message, value) => {
  const field = message.fields[Array.isArray(value) ? 2 : 1] as Field;
  writeField(w, field, value);
};
/** A boolean and a schema, in fields 1 and 2; a schema allows. */
const schemaOrBool: Special = (w, message, value) => {
  const isSchema = typeof value === 'object';
  if (isSchema) writeField(w, message.fields[2] as Field, value);
  writeNumber(w, 1, isSchema || value ? 1 : 0);
};

/** Types whose JSON is not an object of their fields, by what follows `.pkg.` in their definition. */
const specials = new Map<string, Special>([
  ['api.resource.Quantity', (w, _message, value) => writeText(w, 1, String(value))],
  [
    'util.intstr.IntOrString',
    (w, _message, value) => {
      const isText = typeof value === 'string';
      writeText(w, 3, isText ? value : '');
      writeNumber(w, 2, isText ? 0 : value);
      writeNumber(w, 1, isText ? 1 : 0);
    },
  ],
  ['apis.meta.v1.Time', (w, _message, value) => timestamp(w, value, 0)],
  ['apis.meta.v1.MicroTime', (w, _message, value) => timestamp(w, value, 6)],
  ['apis.meta.v1.Duration', (w, _message, value) => writeNumber(w, 1, nanoseconds(value))],
  ['apis.meta.v1.FieldsV1', json],
  ['runtime.RawExtension', json],
]);
for (const version of ['v1', 'v1beta1']) {
  specials.set(`apis.apiextensions.${version}.JSON`, json);
  specials.set(`apis.apiextensions.${version}.JSONSchemaPropsOrArray`, oneOrMany);
  specials.set(`apis.apiextensions.${version}.JSONSchemaPropsOrStringArray`, oneOrMany);
  specials.set(`apis.apiextensions.${version}.JSONSchemaPropsOrBool`, schemaOrBool);
}
