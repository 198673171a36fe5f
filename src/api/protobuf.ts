import { badRequest } from './errors.ts';
import { protobufMessages } from './generated/protobuf.ts';

/**
 * Reads Kubernetes' protobuf wire format: the four bytes `k8s\0`, then a runtime.Unknown with type and the object's own message.
 * The result is the object as its JSON would be.
 */

type Field = [id: number, json: string, type: number | string, flags: number];
interface Message {
  definition: string;
  list: boolean;
  fields: Map<number, Field>;
}
const repeated = 1;
const map = 2;
const inline = 4;
const keepZero = 8;

let messages: Message[] | undefined;
let byDefinition: Map<string, Message>;

/** The tables are parsed when the first body in this format comes. */
function load(): Message[] {
  if (!messages) {
    const table = JSON.parse(protobufMessages) as [string, number, Field[]][];
    messages = table.map(([definition, list, fields]) => ({ definition, list: list === 1, fields: new Map(fields.map((f) => [f[0], f])) }));
    byDefinition = new Map(messages.map((m) => [m.definition, m]));
  }
  return messages;
}

const magic = Buffer.from('k8s\0');

class Reader {
  readonly bytes: Buffer;
  at: number;
  readonly end: number;

  constructor(bytes: Buffer, at = 0, end = bytes.length) {
    this.bytes = bytes;
    this.at = at;
    this.end = end;
  }

  get done(): boolean {
    return this.at >= this.end;
  }

  /** Unsigned, as a BigInt where it does not fit 53 bits. */
  varint(): bigint {
    let value = 0n;
    for (let shift = 0n; shift < 70n; shift += 7n) {
      if (this.at >= this.end) throw new Error('unexpected EOF');
      const byte = this.bytes[this.at++]!;
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return BigInt.asUintN(64, value);
    }
    throw new Error('integer overflow');
  }

  part(): Reader {
    const length = Number(this.varint());
    if (this.at + length > this.end) throw new Error('unexpected EOF');
    const part = new Reader(this.bytes, this.at, this.at + length);
    this.at += length;
    return part;
  }

  take(length: number): number {
    if (this.at + length > this.end) throw new Error('unexpected EOF');
    const at = this.at;
    this.at += length;
    return at;
  }

  skip(wire: number): void {
    if (wire === 0) this.varint();
    else if (wire === 1) this.take(8);
    else if (wire === 2) this.part();
    else if (wire === 5) this.take(4);
    else throw new Error(`illegal wire type ${wire}`);
  }

  text(): string {
    return this.bytes.toString('utf8', this.at, this.end);
  }
}

/** Calls each with every field's number, wire type and the reader standing at its value. */
function eachField(reader: Reader, each: (id: number, wire: number) => void): void {
  while (!reader.done) {
    const tag = Number(reader.varint());
    each(tag >>> 3, tag & 7);
  }
}

/** The body's object; `definition` is the OpenAPI name of the type it must have. StatusError 400 where it cannot be read. */
export function decodeProtobuf(body: Buffer, definition: string): Record<string, unknown> {
  load();
  try {
    if (!body.subarray(0, 4).equals(magic)) throw new Error('provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]');
    let raw: Reader | undefined;
    let apiVersion = '';
    let kind = '';
    const envelope = new Reader(body, 4);
    eachField(envelope, (id, wire) => {
      if (id === 2 && wire === 2) raw = envelope.part();
      else if (id === 1 && wire === 2) {
        const type = envelope.part();
        eachField(type, (field, typeWire) => {
          if (typeWire !== 2) return type.skip(typeWire);
          const text = type.part().text();
          if (field === 1) apiVersion = text;
          else if (field === 2) kind = text;
        });
      } else envelope.skip(wire);
    });
    const message = byDefinition.get(definition);
    if (!message) throw new Error(`object ${definition} does not implement the protobuf marshalling interface`);
    const object = raw ? (decodeMessage(raw, message) as Record<string, unknown>) : {};
    return { ...(apiVersion ? { apiVersion } : {}), ...(kind ? { kind } : {}), ...object };
  } catch (error) {
    throw badRequest(`unable to decode the body as protobuf: ${(error as Error).message}`);
  }
}

function decodeMessage(reader: Reader, message: Message): unknown {
  const special = specials[message.definition.slice(message.definition.lastIndexOf('.pkg.') + 5)];
  if (special) return special(reader, message);
  const object: Record<string, unknown> = {};
  eachField(reader, (id, wire) => {
    const field = message.fields.get(id);
    if (!field) return reader.skip(wire);
    const [, name, type, flags] = field;
    if (flags & map) {
      const [key, value] = decodeMapEntry(reader.part(), type);
      const target = (object[name] ??= {}) as Record<string, unknown>;
      if (value !== undefined) target[key] = value;
      return;
    }
    if (flags & repeated) {
      const list = (object[name] ??= []) as unknown[];
      // Numbers may come packed.
      if (wire === 2 && typeof type === 'string' && type !== 'string' && type !== 'bytes') {
        const packed = reader.part();
        while (!packed.done) list.push(decodeValue(packed, type === 'double' ? 1 : 0, type));
      } else list.push(decodeValue(reader, wire, type));
      return;
    }
    const value = decodeValue(reader, wire, type);
    if (value === undefined || value === null) return;
    if (flags & inline) Object.assign(object, value);
    else if ((flags & keepZero) !== 0 || !(value === '' || value === 0 || value === false)) object[name] = value;
  });
  if (message.list) return object['items'] ?? [];
  return object;
}

function decodeMapEntry(entry: Reader, type: number | string): [string, unknown] {
  let key = '';
  let value: unknown = typeof type === 'number' ? undefined : type === 'string' || type === 'bytes' ? '' : 0;
  eachField(entry, (id, wire) => {
    if (id === 1) key = entry.part().text();
    else if (id === 2) value = decodeValue(entry, wire, type);
    else entry.skip(wire);
  });
  return [key, value];
}

function decodeValue(reader: Reader, wire: number, type: number | string): unknown {
  if (typeof type === 'number') return decodeMessage(reader.part(), load()[type]!);
  switch (type) {
    case 'string':
      return reader.part().text();
    case 'bytes': {
      const part = reader.part();
      return part.bytes.toString('base64', part.at, part.end);
    }
    case 'bool':
      return reader.varint() !== 0n;
    case 'double':
      return reader.bytes.readDoubleLE(reader.take(8));
    case 'float':
      return reader.bytes.readFloatLE(reader.take(4));
    case 'uint32':
    case 'uint64':
      return Number(reader.varint());
    case 'int32':
    case 'int64':
      return Number(BigInt.asIntN(64, reader.varint()));
    default:
      reader.skip(wire);
      return undefined;
  }
}

/** The scalar fields of a small message, by number. */
function scalars(reader: Reader, message: Message): Record<number, unknown> {
  const values: Record<number, unknown> = {};
  eachField(reader, (id, wire) => {
    const field = message.fields.get(id);
    if (!field) reader.skip(wire);
    else values[id] = decodeValue(reader, wire, field[2]);
  });
  return values;
}

function rawJson(reader: Reader): unknown {
  let value: unknown;
  eachField(reader, (id, wire) => {
    if (id === 1 && wire === 2) {
      const text = reader.part().text();
      value = text === '' ? undefined : JSON.parse(text);
    } else reader.skip(wire);
  });
  return value;
}

function time(reader: Reader, message: Message, digits: number): unknown {
  const { 1: seconds = 0, 2: nanos = 0 } = scalars(reader, message) as Record<number, number>;
  // Go's zero time, and an empty message, mean that there is none.
  if ((seconds === 0 && nanos === 0) || seconds <= -62135596800) return null;
  const text = new Date(seconds * 1000).toISOString().slice(0, 19);
  return digits ? `${text}.${String(Math.floor(nanos / 1000)).padStart(6, '0')}Z` : `${text}Z`;
}

type Special = (reader: Reader, message: Message) => unknown;
const orSchema: Special = (reader, message) => {
  let answer: unknown = {};
  eachField(reader, (id, wire) => {
    const field = message.fields.get(id);
    if (!field) return reader.skip(wire);
    const value = decodeValue(reader, wire, field[2]);
    if (field[3] & repeated) answer = Array.isArray(answer) ? [...answer, value] : [value];
    else if (field[1] === 'allows') answer = value;
    else answer = value;
  });
  return answer;
};

/** Types whose JSON is not an object of their fields, by what follows `.pkg.` in their definition. */
const specials: Record<string, Special | undefined> = {
  'api.resource.Quantity': (reader, message) => String(scalars(reader, message)[1] ?? '0') || '0',
  'util.intstr.IntOrString': (reader, message) => {
    const { 1: type = 0, 2: number = 0, 3: text = '' } = scalars(reader, message);
    return type === 1 ? text : number;
  },
  'apis.meta.v1.Time': (reader, message) => time(reader, message, 0),
  'apis.meta.v1.MicroTime': (reader, message) => time(reader, message, 6),
  'apis.meta.v1.Duration': (reader, message) => goDuration(Number(scalars(reader, message)[1] ?? 0)),
  'apis.meta.v1.FieldsV1': rawJson,
  'runtime.RawExtension': rawJson,
  'apis.apiextensions.v1.JSON': rawJson,
  'apis.apiextensions.v1.JSONSchemaPropsOrArray': orSchema,
  'apis.apiextensions.v1.JSONSchemaPropsOrBool': orSchema,
  'apis.apiextensions.v1.JSONSchemaPropsOrStringArray': orSchema,
};

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
