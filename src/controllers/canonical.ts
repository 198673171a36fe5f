import { canonicalJson } from '../api/equality.ts';

/** Missing, null, or without members: what is undefined is none. */
function isEmpty(value: unknown): boolean {
  if (value === undefined || value === null) return true;
  if (typeof value !== 'object') return false;
  if (Array.isArray(value)) return value.length === 0;
  for (const key in value) if ((value as Record<string, unknown>)[key] !== undefined) return false;
  return true;
}

/**
 * Equality as apimachinery's Semantic.DeepEqual sees it on JSON: a missing member, null, {} and [] are the same.
 */
export function semanticEqual(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (isEmpty(a) && isEmpty(b)) return true;
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) return false;
  if (Array.isArray(a) || Array.isArray(b)) {
    return Array.isArray(a) && Array.isArray(b) && a.length === b.length && a.every((item, i) => semanticEqual(item, b[i]));
  }
  const left = a as Record<string, unknown>;
  const right = b as Record<string, unknown>;
  for (const key in left) if (!semanticEqual(left[key], right[key])) return false;
  for (const key in right) if (!(key in left) && !isEmpty(right[key])) return false;
  return true;
}

/** What Go's omitempty leaves out of JSON, where the field is no pointer. */
const isZero = (value: unknown) => isEmpty(value) || value === 0 || value === '' || value === false;

/**
 * Equality of statuses: as semanticEqual, and zero counters, empty texts and false are the same as missing ones, which is how the
 * server gives them back. Not for specs, where a zero may well differ from nothing.
 */
export function statusEqual(a: unknown, b: unknown): boolean {
  if (a === b || (isZero(a) && isZero(b))) return true;
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) return false;
  if (Array.isArray(a) || Array.isArray(b)) {
    return Array.isArray(a) && Array.isArray(b) && a.length === b.length && a.every((item, i) => statusEqual(item, b[i]));
  }
  const left = a as Record<string, unknown>;
  const right = b as Record<string, unknown>;
  return Object.keys({ ...left, ...right }).every((key) => statusEqual(left[key], right[key]));
}

const ALPHABET = 'bcdfghjklmnpqrstvwxz2456789';

/** Turns any text into one of letters and digits that cannot form words, of the same length (apimachinery's rand.SafeEncodeString). */
export const safeEncode = (text: string): string => [...text].map((c) => ALPHABET[c.charCodeAt(0) % ALPHABET.length]).join('');

/** 32-bit FNV-1a of the text's UTF-8 bytes. */
export function fnv32a(text: string): number {
  let hash = 0x811c9dc5;
  for (const byte of Buffer.from(text)) hash = Math.imul(hash ^ byte, 0x01000193);
  return hash >>> 0;
}

/**
 * A hash of an object for use in names and labels, safely encoded. The digest is stable but differs from upstream's,
 * which hashes a dump of Go structures. A collision count changes it.
 */
export function objectHash(value: unknown, collisionCount?: number): string {
  const text = canonicalJson(value) + (collisionCount === undefined ? '' : `#${collisionCount}`);
  return safeEncode(String(fnv32a(text)));
}
