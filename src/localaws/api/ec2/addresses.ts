import { AwsError, invalidParameter } from '../errors.ts';

/** An IPv4 range: the numbers of its first address and its prefix length. */
export interface Range {
  base: number;
  prefix: number;
  size: number;
}

export function addressNumber(address: string): number | undefined {
  const match = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(address);
  if (!match) return undefined;
  const bytes = match.slice(1).map(Number);
  return bytes.some((byte) => byte > 255) ? undefined : bytes.reduce((number, byte) => number * 256 + byte, 0);
}

export function addressText(number: number): string {
  return [24, 16, 8, 0].map((shift) => Math.floor(number / 2 ** shift) % 256).join('.');
}

/** Reads a CIDR; undefined when it is none. The base has its host bits cleared. */
export function parseRange(cidr: string): Range | undefined {
  const match = /^([\d.]+)\/(\d{1,2})$/.exec(cidr);
  const address = match ? addressNumber(match[1]!) : undefined;
  const prefix = Number(match?.[2]);
  if (address === undefined || prefix > 32) return undefined;
  const size = 2 ** (32 - prefix);
  return { base: Math.floor(address / size) * size, prefix, size };
}

export function rangeText(range: Range): string {
  return `${addressText(range.base)}/${range.prefix}`;
}

export function contains(outer: Range, inner: Range): boolean {
  return inner.base >= outer.base && inner.base + inner.size <= outer.base + outer.size;
}

export function overlaps(a: Range, b: Range): boolean {
  return a.base < b.base + b.size && b.base < a.base + a.size;
}

/** A block of a VPC or subnet: /16 to /28, as EC2 allows. code names the error for another size. */
export function block(cidr: string, code: string, noun: string): Range {
  const range = parseRange(cidr);
  if (!range) throw invalidParameter(`Value (${cidr}) for parameter cidrBlock is invalid. This is not a valid CIDR block.`);
  if (range.prefix < 16 || range.prefix > 28) throw new AwsError(code, `The CIDR '${cidr}' is invalid.`);
  if (cidr !== rangeText(range)) {
    throw invalidParameter(`Value (${cidr}) for parameter cidrBlock is invalid. The ${noun}'s block must begin at ${rangeText(range)}.`);
  }
  return range;
}

/** EC2 keeps the first four and the last address of a subnet. */
export const keptFirst = 4;
export const keptLast = 1;
