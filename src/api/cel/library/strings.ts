import {
  CelError,
  type CelList,
  Duration,
  isList,
  isMap,
  itemsOfList,
  listOf,
  Timestamp,
  TypeValue,
  typeNameOf,
  Uint,
  type Value,
} from '../values.ts';
import { library } from './library.ts';
import { doubleText } from './standard.ts';
import { durationText, timestampText } from './time.ts';

/** Positions count characters, not the halves of surrogate pairs. */
const runes = (text: string): string[] => [...text];

function indexIn(text: string, part: string, from: bigint): bigint {
  const chars = runes(text);
  if (from < 0n || from > chars.length) throw new CelError(`index out of range: ${from}`);
  const wanted = runes(part);
  for (let i = Number(from); i + wanted.length <= chars.length; i++) if (wanted.every((c, k) => chars[i + k] === c)) return BigInt(i);
  return -1n;
}

function lastIndexIn(text: string, part: string, from?: bigint): bigint {
  const chars = runes(text);
  const wanted = runes(part);
  if (from !== undefined && (from < 0n || from > chars.length)) throw new CelError(`index out of range: ${from}`);
  if (wanted.length === 0) return from ?? BigInt(chars.length);
  for (let i = Math.min(from === undefined ? chars.length : Number(from), chars.length - wanted.length); i >= 0; i--)
    if (wanted.every((c, k) => chars[i + k] === c)) return BigInt(i);
  return -1n;
}

function substring(text: string, start: bigint, end?: bigint): string {
  const chars = runes(text);
  const to = end ?? BigInt(chars.length);
  if (start < 0n || start > chars.length) throw new CelError(`index out of range: ${start}`);
  if (to < 0n || to > chars.length) throw new CelError(`index out of range: ${to}`);
  if (start > to) throw new CelError(`invalid substring range. start: ${start}, end: ${to}`);
  return chars.slice(Number(start), Number(to)).join('');
}

function split(text: string, separator: string, limit: bigint): CelList {
  if (limit === 0n) return listOf([]);
  const parts = separator === '' ? runes(text) : text.split(separator);
  if (limit < 0n || parts.length <= limit) return listOf(parts);
  const most = Number(limit);
  const head = parts.slice(0, most - 1);
  return listOf([...head, parts.slice(most - 1).join(separator)]);
}

function replace(text: string, before: string, after: string, limit: bigint): string {
  if (limit === 0n) return text;
  const chars = before === '' ? runes(text) : undefined;
  if (chars) {
    const most = limit < 0n ? chars.length + 1 : Number(limit);
    return chars.map((c, i) => (i < most ? after + c : c)).join('') + (chars.length < most ? after : '');
  }
  const parts = text.split(before);
  const most = limit < 0n ? parts.length : Number(limit) + 1;
  return (
    parts.slice(0, most).join(after) +
    parts
      .slice(most)
      .map((p) => before + p)
      .join('')
  );
}

const lower = (text: string) => text.replace(/[A-Z]+/g, (s) => s.toLowerCase());
const upper = (text: string) => text.replace(/[a-z]+/g, (s) => s.toUpperCase());
const edges =
  /^[\t-\r \u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+|[\t-\r \u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+$/g;

function quote(text: string): string {
  const short: Record<string, string> = {
    '\x07': '\\a',
    '\b': '\\b',
    '\f': '\\f',
    '\n': '\\n',
    '\r': '\\r',
    '\t': '\\t',
    '\v': '\\v',
    '\\': '\\\\',
    '"': '\\"',
  };
  return `"${text.replace(/[\x07\b\f\n\r\t\v\\"]/g, (c) => short[c] as string)}"`;
}

function join(list: CelList, separator: string): string {
  return [...itemsOfList(list)]
    .map((item) => {
      if (typeof item !== 'string') throw new CelError('no such overload');
      return item;
    })
    .join(separator);
}

/** A value within a %s. */
function shown(value: Value): string {
  if (typeof value === 'string') return value;
  if (typeof value === 'number') return doubleText(value);
  if (value === null) return 'null';
  if (typeof value === 'bigint' || typeof value === 'boolean') return String(value);
  if (value instanceof Uint) return String(value.value);
  if (value instanceof Uint8Array) return Buffer.from(value).toString('utf8');
  if (value instanceof Timestamp) return timestampText(value);
  if (value instanceof Duration) return durationText(value);
  if (value instanceof TypeValue) return value.name;
  if (isList(value)) return `[${[...itemsOfList(value)].map(shown).join(', ')}]`;
  if (isMap(value)) {
    const entries = value.keys().map((key) => [shown(key), shown(value.get(key) as Value)] as const);
    return `{${entries
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([k, v]) => `${k}: ${v}`)
      .join(', ')}}`;
  }
  throw new CelError(
    `error during formatting: string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, types, durations, and timestamps, was given ${typeNameOf(value)}`,
  );
}

function format(template: string, args: CelList): string {
  let used = 0;
  const text = template.replace(/%(?:(%)|(?:\.(\d+))?([sdfeboxX])|([\s\S]?))/g, (_, percent, precision, verb, bad) => {
    if (percent) return '%';
    if (verb === undefined) throw new CelError(`could not parse formatting clause: unrecognized formatting clause "${bad ?? ''}"`);
    if (used >= args.length) throw new CelError(`index ${used} out of range`);
    return formatted(verb, precision === undefined ? 6 : Number(precision), args.at(used++));
  });
  return text;
}

function formatted(verb: string, precision: number, value: Value): string {
  const integer = typeof value === 'bigint' ? value : value instanceof Uint ? value.value : undefined;
  const wrong = (what: string): never => {
    throw new CelError(`error during formatting: ${what}, was given ${typeNameOf(value)}`);
  };
  const signed = (base: number, n: bigint) => (n < 0n ? `-${(-n).toString(base)}` : n.toString(base));
  switch (verb) {
    case 's':
      return shown(value);
    case 'd':
      if (typeof value === 'number' && !Number.isFinite(value)) return Number.isNaN(value) ? 'NaN' : value > 0 ? 'Infinity' : '-Infinity';
      if (typeof value === 'number' && Number.isInteger(value)) return String(value);
      return integer === undefined ? wrong('decimal clause can only be used on integers') : String(integer);
    case 'f':
    case 'e': {
      const number = typeof value === 'number' ? value : integer === undefined ? undefined : Number(integer);
      if (number === undefined) return wrong(`${verb === 'f' ? 'fixed-point' : 'scientific'} clause can only be used on doubles`);
      return verb === 'f' ? number.toFixed(precision) : number.toExponential(precision).replace(/e([+-])(\d)$/, 'e$10$2');
    }
    case 'b':
      if (typeof value === 'boolean') return value ? '1' : '0';
      return integer === undefined ? wrong('only integers and bools can be formatted as binary') : signed(2, integer);
    case 'o':
      return integer === undefined ? wrong('octal clause can only be used on integers') : signed(8, integer);
    default: {
      const hex =
        integer !== undefined
          ? signed(16, integer)
          : typeof value === 'string' || value instanceof Uint8Array
            ? Buffer.from(value as string).toString('hex')
            : wrong('only integers, byte buffers, and strings can be formatted as hex');
      return verb === 'X' ? hex.toUpperCase() : hex;
    }
  }
}

export const stringsLibrary = library({
  charAt: [
    [
      'string_char_at_int',
      'string.(int) string',
      (text: string, index: bigint) => {
        const chars = runes(text);
        if (index < 0n || index > chars.length) throw new CelError(`index out of range: ${index}`);
        return chars[Number(index)] ?? '';
      },
    ],
  ],
  indexOf: [
    ['string_index_of_string', 'string.(string) int', (text: string, part: string) => indexIn(text, part, 0n)],
    ['string_index_of_string_int', 'string.(string, int) int', indexIn],
  ],
  lastIndexOf: [
    ['string_last_index_of_string', 'string.(string) int', (text: string, part: string) => lastIndexIn(text, part)],
    ['string_last_index_of_string_int', 'string.(string, int) int', lastIndexIn],
  ],
  lowerAscii: [['string_lower_ascii', 'string.() string', lower]],
  upperAscii: [['string_upper_ascii', 'string.() string', upper]],
  replace: [
    ['string_replace_string_string', 'string.(string, string) string', (s: string, a: string, b: string) => replace(s, a, b, -1n)],
    ['string_replace_string_string_int', 'string.(string, string, int) string', replace],
  ],
  split: [
    ['string_split_string', 'string.(string) list<string>', (s: string, by: string) => split(s, by, -1n)],
    ['string_split_string_int', 'string.(string, int) list<string>', split],
  ],
  substring: [
    ['string_substring_int', 'string.(int) string', (s: string, start: bigint) => substring(s, start)],
    ['string_substring_int_int', 'string.(int, int) string', substring],
  ],
  trim: [['string_trim', 'string.() string', (s: string) => s.replace(edges, '')]],
  join: [
    ['list_join', 'list<string>.() string', (list: CelList) => join(list, '')],
    ['list_join_string', 'list<string>.(string) string', join],
  ],
  format: [['string_format', 'string.(list<dyn>) string', format]],
  'strings.quote': [['strings_quote', '(string) string', quote]],
});
