import { parseJson } from '../json.ts';
import type { ListType } from './types.ts';

/**
 * One step of a path in its serialized form: `f:NAME` a field, `k:{"name":"x"}` the item of a list with those keys, `v:VALUE` the
 * item of a set, `i:N` an index. Sets of paths use these texts as keys: equal steps have equal texts.
 */

/** Why a list's items cannot be told apart. */
export class IdentityError extends Error {
  override name = 'IdentityError';
}

/** JSON as Go's encoder writes it in the paths. */
const goJson = (value: unknown): string =>
  JSON.stringify(value).replace(/[<>&\u2028\u2029]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`);

/** The step to an item of a list that is not atomic. Throws IdentityError. */
export function itemStep(type: ListType, item: any): string {
  if (type.identity === 'set') {
    if (item === null) throw new IdentityError("associative list without keys has an element that's an explicit null");
    if (Array.isArray(item)) throw new IdentityError('not supported: associative list with lists as elements');
    if (typeof item === 'object') throw new IdentityError("associative list without keys has an element that's a map type");
    return `v:${goJson(item)}`;
  }
  if (item === null || item === undefined) throw new IdentityError('associative list with keys may not have a null element');
  if (typeof item !== 'object' || Array.isArray(item)) throw new IdentityError('associative list with keys may not have non-map elements');
  const names = type.identity as readonly string[];
  if (names.length === 1) {
    // The usual case, without building anything.
    const name = names[0] as string;
    const value = Object.hasOwn(item, name) ? item[name] : type.keyDefaults.get(name);
    if (value !== undefined) return `k:{${JSON.stringify(name)}:${goJson(value)}}`;
  }
  const parts: string[] = [];
  for (const name of [...names].sort()) {
    const value = Object.hasOwn(item, name) ? item[name] : type.keyDefaults.get(name);
    if (value !== undefined) parts.push(`${JSON.stringify(name)}:${goJson(value)}`);
  }
  if (parts.length === 0) {
    throw new IdentityError(
      `associative list with keys has an element that omits all key fields [${names.map((n) => JSON.stringify(n)).join(' ')}] (and doesn't have default values for any key fields)`,
    );
  }
  return `k:{${parts.join(',')}}`;
}

export const fieldStep = (name: string): string => `f:${name}`;
export const isField = (step: string): boolean => step.charCodeAt(0) === 0x66;
export const fieldName = (step: string): string => step.slice(2);

/** The step's canonical text; undefined for kinds of steps that this version does not know. Throws on what is no step. */
export function parseStep(text: string): string | undefined {
  if (text.length < 2) throw new Error('key must be 2 characters long:');
  if (text[1] !== ':') throw new Error(`missing colon: ${text}`);
  const rest = text.slice(2);
  switch (text[0]) {
    case 'f':
      return text;
    case 'v':
      return `v:${goJson(parseJson(rest))}`;
    case 'k': {
      const keys = parseJson(rest) as Record<string, unknown>;
      if (typeof keys !== 'object' || keys === null || Array.isArray(keys)) throw new Error(`expect { or n, but found ${rest[0]}`);
      const names = Object.keys(keys).sort();
      return `k:{${names.map((name) => `${JSON.stringify(name)}:${goJson(keys[name])}`).join(',')}}`;
    }
    case 'i':
      if (!/^[-+]?\d+$/.test(rest)) throw new Error(`strconv.Atoi: parsing ${JSON.stringify(rest)}: invalid syntax`);
      return `i:${Number(rest)}`;
    default:
      return undefined;
  }
}

const classes: Record<string, number> = { f: 0, k: 1, v: 2, i: 3 };

/** The order in which steps are written: fields, keys, values, indexes; each by its value. */
export function compareSteps(a: string, b: string): number {
  if (a === b) return 0;
  const kind = a[0] as string;
  if (kind !== b[0]) return (classes[kind] as number) - (classes[b[0] as string] as number);
  if (kind === 'f') return a < b ? -1 : 1;
  if (kind === 'i') return Number(a.slice(2)) - Number(b.slice(2));
  const x = parseJson(a.slice(2));
  const y = parseJson(b.slice(2));
  return kind === 'v' ? compareValues(x, y) : compareKeys(x, y);
}

function compareKeys(a: Record<string, unknown>, b: Record<string, unknown>): number {
  const x = Object.keys(a);
  const y = Object.keys(b);
  for (let i = 0; ; i++) {
    const [m, n] = [x[i], y[i]];
    if (m === undefined || n === undefined) return m === n ? 0 : m === undefined ? -1 : 1;
    if (m !== n) return m < n ? -1 : 1;
    const order = compareValues(a[m], b[n]);
    if (order !== 0) return order;
  }
}

/** Numbers, texts, booleans, lists, objects, null. */
const rankOf = (value: unknown): number =>
  typeof value === 'number' || typeof value === 'bigint' ? 0 : typeof value === 'string' ? 1 : typeof value === 'boolean' ? 2 : Array.isArray(value) ? 3 : value === null ? 5 : 4;

function compareValues(a: any, b: any): number {
  const rank = rankOf(a) - rankOf(b);
  if (rank !== 0) return rank;
  if (rankOf(a) < 3) return a < b ? -1 : a > b ? 1 : 0;
  const [x, y] = [JSON.stringify(a), JSON.stringify(b)];
  return x < y ? -1 : x > y ? 1 : 0;
}

const shown = (value: unknown): string => (typeof value === 'string' ? JSON.stringify(value) : JSON.stringify(value));

/** A path as people read it: .spec.containers[name="x"].image */
export function pathText(path: readonly string[]): string {
  return path
    .map((step) => {
      const rest = step.slice(2);
      if (step[0] === 'f') return `.${rest}`;
      if (step[0] === 'i') return `[${rest}]`;
      if (step[0] === 'v') return `[=${shown(parseJson(rest))}]`;
      return `[${Object.entries(parseJson(rest))
        .map(([name, value]) => `${name}=${shown(value)}`)
        .join(',')}]`;
    })
    .join('');
}
