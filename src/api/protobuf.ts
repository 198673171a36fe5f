import { badRequest } from './errors.ts';
import { parseJson } from './json.ts';
import { groupVersionOf } from './object.ts';
import { definitionOfKind, type Field, type Message, messageOf } from './protobuf-messages.ts';

/**
 * Reads Kubernetes' protobuf wire format: the four bytes `k8s\0`, then a runtime.Unknown with type and the object's own message.
 * The result is the object as its JSON would be.
 */

declare global {
  interface Buffer {
    utf8Slice(start: number, end: number): string;
  }
}

const magic = Buffer.from('k8s\0');
const prefixMissing = 'provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]';

class Reader {
  readonly bytes: Buffer;
  at: number;
  /** Where the message that is being read ends. */
  end: number;

  constructor(bytes: Buffer, at = 0) {
    this.bytes = bytes;
    this.at = at;
    this.end = bytes.length;
  }

  /** Unsigned; exact below 2^53. */
  varint(): number {
    const first = this.at < this.end ? (this.bytes[this.at++] as number) : this.eof();
    if (first < 0x80) return first;
    let value = first & 0x7f;
    let scale = 128;
    for (let i = 1; i < 10; i++) {
      const byte = this.at < this.end ? (this.bytes[this.at++] as number) : this.eof();
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
      scale *= 128;
    }
    throw new Error('integer overflow');
  }

  eof(): never {
    throw new Error('unexpected EOF');
  }

  /** int32 and int64: ten bytes are a negative number in two's complement. A bigint beyond 2^53. */
  integer(): number | bigint {
    const start = this.at;
    const value = this.varint();
    if (value < 2 ** 53) return value;
    let exact = 0n;
    for (let at = start, shift = 0n; at < this.at; at++, shift += 7n) exact |= BigInt((this.bytes[at] as number) & 0x7f) << shift;
    exact = BigInt.asIntN(64, exact);
    const rounded = Number(exact);
    return Number.isSafeInteger(rounded) ? rounded : exact;
  }

  /** Reads a length; answers where what is that long ends. */
  partEnd(): number {
    const length = this.varint();
    if (this.at + length > this.end) this.eof();
    return this.at + length;
  }

  take(length: number): number {
    if (this.at + length > this.end) this.eof();
    const at = this.at;
    this.at += length;
    return at;
  }

  skip(wire: number): void {
    if (wire === 0) this.varint();
    else if (wire === 1) this.take(8);
    else if (wire === 2) this.at = this.partEnd();
    else if (wire === 5) this.take(4);
    else throw new Error(`illegal wire type ${wire}`);
  }

  text(): string {
    const end = this.partEnd();
    const text = this.bytes.utf8Slice(this.at, end);
    this.at = end;
    return text;
  }

  /** Reads a length and lets `read` have that much. */
  part<T>(read: () => T): T {
    const outer = this.end;
    const end = this.partEnd();
    this.end = end;
    const value = read();
    this.at = end;
    this.end = outer;
    return value;
  }

  /** Calls each with every field's number and wire type, standing at its value. */
  eachField(each: (id: number, wire: number) => void): void {
    while (this.at < this.end) {
      const tag = this.varint();
      each(Math.floor(tag / 8), tag & 7);
    }
  }
}

/** The type and the message that an envelope holds. */
function openEnvelope(body: Buffer): { apiVersion: string; kind: string; raw: Buffer | undefined } {
  if (!body.subarray(0, 4).equals(magic)) throw new Error(prefixMissing);
  const found: { apiVersion: string; kind: string; raw: Buffer | undefined } = { apiVersion: '', kind: '', raw: undefined };
  const reader = new Reader(body, 4);
  reader.eachField((id, wire) => {
    if (id === 2 && wire === 2) {
      const end = reader.partEnd();
      found.raw = body.subarray(reader.at, end);
      reader.at = end;
    } else if (id === 1 && wire === 2) {
      reader.part(() =>
        reader.eachField((field, typeWire) => {
          if (typeWire !== 2) return reader.skip(typeWire);
          const text = reader.text();
          if (field === 1) found.apiVersion = text;
          else if (field === 2) found.kind = text;
        }),
      );
    } else reader.skip(wire);
  });
  return found;
}

/** The body's object; `definition` is the OpenAPI name of the type it must have. StatusError 400 where it cannot be read. */
export function decodeProtobuf(body: Buffer, definition: string): Record<string, unknown> {
  try {
    const { apiVersion, kind, raw } = openEnvelope(body);
    const message = messageOf(definition);
    if (!message) throw new Error(`object ${definition} does not implement the protobuf marshalling interface`);
    const object = raw ? (decodeMessage(new Reader(raw), message) as Record<string, unknown>) : {};
    return { ...(apiVersion ? { apiVersion } : {}), ...(kind ? { kind } : {}), ...object };
  } catch (error) {
    throw badRequest(`unable to decode the body as protobuf: ${(error as Error).message}`);
  }
}

function decodeMessage(reader: Reader, message: Message): unknown {
  const special = specials.get(message.shortName);
  if (special) return special(reader, message);
  const object: Record<string, unknown> = {};
  while (reader.at < reader.end) {
    const tag = reader.varint();
    const wire = tag & 7;
    const field = message.fields[Math.floor(tag / 8)];
    if (!field || wire !== field.wire) {
      // Numbers may come packed.
      if (field?.repeated && wire === 2) decodePacked(reader, field, (object[field.json] ??= []) as unknown[]);
      else reader.skip(wire);
    } else if (field.map) decodeMapEntry(reader, field, (object[field.json] ??= {}) as Record<string, unknown>);
    else if (field.repeated) {
      const list = object[field.json] as unknown[] | undefined;
      const value = decodeValue(reader, field);
      if (list) list.push(value);
      else object[field.json] = [value];
    } else {
      const value = decodeValue(reader, field);
      if (value === undefined || value === null) continue;
      if (field.inline) Object.assign(object, value);
      else if (field.keepZero || !(value === '' || value === 0 || value === false)) object[field.json] = value;
    }
  }
  return message.list ? (object['items'] ?? []) : object;
}

function decodePacked(reader: Reader, field: Field, list: unknown[]): void {
  reader.part(() => {
    while (reader.at < reader.end) list.push(decodeValue(reader, field));
  });
}

/** An own property of any name. */
function setMember(target: Record<string, unknown>, key: string, value: unknown): void {
  if (key === '__proto__') Object.defineProperty(target, key, { value, enumerable: true, configurable: true, writable: true });
  else target[key] = value;
}

function decodeMapEntry(reader: Reader, field: Field, target: Record<string, unknown>): void {
  let key = '';
  let value: unknown = field.type === 'message' ? undefined : field.type === 'string' || field.type === 'bytes' ? '' : 0;
  reader.part(() =>
    reader.eachField((id, wire) => {
      if (id === 1 && wire === 2) key = reader.text();
      else if (id === 2) value = decodeValue(reader, field);
      else reader.skip(wire);
    }),
  );
  if (value !== undefined) setMember(target, key, value);
}

function decodeValue(reader: Reader, field: Field): unknown {
  switch (field.type) {
    case 'message': {
      const outer = reader.end;
      const end = reader.partEnd();
      reader.end = end;
      const value = decodeMessage(reader, field.message);
      reader.at = end;
      reader.end = outer;
      return value;
    }
    case 'string':
      return reader.text();
    case 'bytes': {
      const end = reader.partEnd();
      const text = reader.bytes.toString('base64', reader.at, end);
      reader.at = end;
      return text;
    }
    case 'bool':
      return reader.varint() !== 0;
    case 'double':
      return reader.bytes.readDoubleLE(reader.take(8));
    case 'float':
      return reader.bytes.readFloatLE(reader.take(4));
    case 'uint32':
    case 'uint64':
      return reader.varint();
    default:
      return reader.integer();
  }
}

/** The scalar fields of a small message, by number. */
function scalars(reader: Reader, message: Message): Record<number, unknown> {
  const values: Record<number, unknown> = {};
  reader.eachField((id, wire) => {
    const field = message.fields[id];
    if (field?.wire !== wire) reader.skip(wire);
    else values[id] = decodeValue(reader, field);
  });
  return values;
}

/** Bytes in field 1 that are JSON, or a whole body in this format. */
function raw(reader: Reader): unknown {
  let value: unknown;
  reader.eachField((id, wire) => {
    if (id !== 1 || wire !== 2) return reader.skip(wire);
    const end = reader.partEnd();
    const bytes = reader.bytes.subarray(reader.at, end);
    reader.at = end;
    if (bytes.length === 0) return;
    if (!bytes.subarray(0, 4).equals(magic)) {
      value = parseJson(bytes.toString('utf8'));
      return;
    }
    const { apiVersion, kind } = openEnvelope(bytes);
    const { group, version } = groupVersionOf(apiVersion);
    value = decodeProtobuf(bytes, definitionOfKind(group, version, kind) ?? kind);
  });
  return value;
}

function time(reader: Reader, message: Message, digits: number): unknown {
  const parts = scalars(reader, message);
  const [seconds, nanos] = [Number(parts[1] ?? 0), Number(parts[2] ?? 0)];
  // Go's zero time, and an empty message, mean that there is none.
  if ((seconds === 0 && nanos === 0) || seconds <= -62135596800) return null;
  const text = new Date(seconds * 1000).toISOString().slice(0, 19);
  return digits ? `${text}.${String(Math.floor(nanos / 1000)).padStart(6, '0')}Z` : `${text}Z`;
}

type Special = (reader: Reader, message: Message) => unknown;
/** The last of its fields: a value, a list of them, or whether anything is allowed. */
const orSchema: Special = (reader, message) => {
  let answer: unknown = {};
  reader.eachField((id, wire) => {
    const field = message.fields[id];
    if (field?.wire !== wire) return reader.skip(wire);
    const value = decodeValue(reader, field);
    if (field.repeated) answer = Array.isArray(answer) ? [...answer, value] : [value];
    else answer = value;
  });
  return answer;
};

/** Types whose JSON is not an object of their fields, by what follows `.pkg.` in their definition. */
const specials = new Map<string, Special>([
  ['api.resource.Quantity', (reader, message) => String(scalars(reader, message)[1] ?? '0') || '0'],
  [
    'util.intstr.IntOrString',
    (reader, message) => {
      const { 1: type = 0, 2: number = 0, 3: text = '' } = scalars(reader, message);
      return type === 1 ? text : number;
    },
  ],
  ['apis.meta.v1.Time', (reader, message) => time(reader, message, 0)],
  ['apis.meta.v1.MicroTime', (reader, message) => time(reader, message, 6)],
  ['apis.meta.v1.Duration', (reader, message) => goDuration(Number(scalars(reader, message)[1] ?? 0))],
  ['apis.meta.v1.FieldsV1', raw],
  ['runtime.RawExtension', raw],
]);
for (const version of ['v1', 'v1beta1']) {
  specials.set(`apis.apiextensions.${version}.JSON`, raw);
  for (const other of ['Array', 'Bool', 'StringArray']) specials.set(`apis.apiextensions.${version}.JSONSchemaPropsOr${other}`, orSchema);
}

/** As Go's time.Duration prints itself; from nanoseconds. */
export function goDuration(nanoseconds: number): string {
  if (nanoseconds === 0) return '0s';
  const sign = nanoseconds < 0 ? '-' : '';
  const n = Math.abs(nanoseconds);
  const trimmed = (value: number, digits: number) =>
    value
      .toFixed(digits)
      .replace(/(\.\d*?)0+$/, '$1')
      .replace(/\.$/, '');
  if (n < 1000) return `${sign}${n}ns`;
  if (n < 1e6) return `${sign}${trimmed(n / 1e3, 3)}µs`;
  if (n < 1e9) return `${sign}${trimmed(n / 1e6, 6)}ms`;
  const hours = Math.floor(n / 3.6e12);
  const minutes = Math.floor((n % 3.6e12) / 6e10);
  const seconds = `${trimmed((n % 6e10) / 1e9, 9)}s`.replace(/^\./, '0.');
  return `${sign}${hours ? `${hours}h` : ''}${hours || minutes ? `${minutes}m` : ''}${seconds}`;
}
