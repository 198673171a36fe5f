import { AwsError } from '../errors.ts';
import type { Member, Shape } from './shapes.ts';

function mismatch(path: string, kind: string): AwsError {
  return new AwsError('SerializationException', `${path || 'The body'} is not a ${kind}`);
}

function decode(shape: Shape, value: any, path: string): unknown {
  if (value === null || value === undefined) return undefined;
  switch (shape.kind) {
    case 'structure': {
      if (typeof value !== 'object' || Array.isArray(value)) throw mismatch(path, 'structure');
      const result: Record<string, unknown> = {};
      for (const member of shape.members) {
        const decoded = decode(member.shape, Object.hasOwn(value, nameOf(member)) ? value[nameOf(member)] : undefined, `${path}.${member.name}`);
        if (decoded !== undefined) result[member.name] = decoded;
        else if (member.required) throw missing(member);
      }
      return result;
    }
    case 'list':
      if (!Array.isArray(value)) throw mismatch(path, 'list');
      return value.map((item, i) => decode(shape.member.shape, item, `${path}[${i}]`));
    case 'map':
      if (typeof value !== 'object' || Array.isArray(value)) throw mismatch(path, 'map');
      return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, decode(shape.value.shape, item, `${path}.${key}`)]));
    case 'string':
      if (typeof value !== 'string') throw mismatch(path, 'string');
      return value;
    case 'number':
      if (typeof value !== 'number') throw mismatch(path, 'number');
      return value;
    case 'boolean':
      if (typeof value !== 'boolean') throw mismatch(path, 'boolean');
      return value;
    case 'blob':
      if (typeof value !== 'string') throw mismatch(path, 'base64 string');
      return new Uint8Array(Buffer.from(value, 'base64'));
    case 'timestamp': {
      const time = typeof value === 'number' ? value * 1000 : Date.parse(value);
      if (Number.isNaN(time)) throw mismatch(path, 'timestamp');
      return new Date(time);
    }
    default:
      return value;
  }
}

function nameOf(member: Member): string {
  return member.traits.jsonName ?? member.name;
}

function missing(member: Member): AwsError {
  const field = member.name[0]!.toLowerCase() + member.name.slice(1);
  return new AwsError(
    'ValidationException',
    `1 validation error detected: Value at '${field}' failed to satisfy constraint: Member must not be null`,
  );
}

function encode(shape: Shape, value: any): unknown {
  if (value === undefined || value === null) return undefined;
  switch (shape.kind) {
    case 'structure': {
      const result: Record<string, unknown> = {};
      for (const member of shape.members) {
        const encoded = encode(member.shape, value[member.name]);
        if (encoded !== undefined) result[nameOf(member)] = encoded;
      }
      return result;
    }
    case 'list':
      return value.map((item: unknown) => encode(shape.member.shape, item));
    case 'map':
      return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, encode(shape.value.shape, item)]));
    case 'blob':
      return Buffer.from(value).toString('base64');
    case 'timestamp':
      return shape.format === 'date-time' ? value.toISOString() : value.getTime() / 1000;
    default:
      return value;
  }
}

/** Reads the body of an awsJson1.1 request by a shape. */
export function decodeJson(shape: Shape, body: string): unknown {
  let value: unknown = {};
  if (body.trim() !== '') {
    try {
      value = JSON.parse(body);
    } catch {
      throw new AwsError('SerializationException', 'The body is not JSON');
    }
  }
  return shape.kind === 'structure' ? decode(shape, value, '') : {};
}

/** A result as the body of an awsJson1.1 response; undefined where the operation returns nothing. */
export function encodeJson(shape: Shape, value: unknown): string {
  return shape.kind === 'structure' ? JSON.stringify(encode(shape, value ?? {})) : '';
}
