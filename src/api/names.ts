import { randomInt } from 'node:crypto';

/** Letters and digits without vowels and look-alikes, so that no words arise. */
const alphabet = 'bcdfghjklmnpqrstvwxz2456789';
const maxNameLength = 63;
const suffixLength = 5;

/** A random string of `length` characters in the alphabet of generated names. */
export function randomSuffix(length = suffixLength): string {
  let s = '';
  for (let i = 0; i < length; i++) s += alphabet[randomInt(alphabet.length)];
  return s;
}

/** The name for metadata.generateName: the base (cut to 58 characters) and five random ones. */
export function generateName(base: string): string {
  return base.slice(0, maxNameLength - suffixLength) + randomSuffix();
}
