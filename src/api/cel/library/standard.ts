import {
  CelError,
  compareValues,
  Duration,
  hasType,
  isList,
  isMap,
  itemsOfList,
  joinLists,
  Optional,
  sizeOf,
  type Timestamp,
  TypeValue,
  typeNameOf,
  Uint,
  type CelList,
  type CelMap,
  type Value,
  valuesEqual,
} from '../values.ts';
import { t } from '../types.ts';
import { compileRegex } from './regex.ts';
import { library } from './library.ts';
import { durationText, timestampText } from './time.ts';

const int = (value: bigint): bigint => {
  if (value > 0x7fff_ffff_ffff_ffffn || value < -0x8000_0000_0000_0000n) throw new CelError('integer overflow');
  return value;
};
const uint = (value: bigint): Uint => new Uint(value);

function arithmetic(name: string, onInt: (a: bigint, b: bigint) => bigint, onDouble?: (a: number, b: number) => number) {
  const rows: [string, string, (...args: any[]) => Value][] = [
    [`${name}_int64`, '(int, int) int', (a, b) => int(onInt(a, b))],
    [`${name}_uint64`, '(uint, uint) uint', (a: Uint, b: Uint) => uint(onInt(a.value, b.value))],
  ];
  if (onDouble) rows.push([`${name}_double`, '(double, double) double', onDouble]);
  return rows;
}

const nonZero =
  (run: (a: bigint, b: bigint) => bigint, message: string) =>
  (a: bigint, b: bigint): bigint => {
    if (b === 0n) throw new CelError(message);
    return run(a, b);
  };

const comparable = ['bool', 'int', 'uint', 'double', 'string', 'bytes', 'timestamp', 'duration'];
const numbers = ['int', 'uint', 'double'];

function ordering(name: string, test: (order: number) => boolean) {
  const run = (a: Value, b: Value): boolean => {
    const order = compareValues(a, b);
    return order !== undefined && test(order);
  };
  const rows: [string, string, (...args: any[]) => Value][] = comparable.map((type) => [`${name}_${type}`, `(${type}, ${type}) bool`, run]);
  for (const a of numbers) for (const b of numbers) if (a !== b) rows.push([`${name}_${a}_${b}`, `(${a}, ${b}) bool`, run]);
  return rows;
}

function toInt(value: number): bigint {
  if (!Number.isFinite(value) || value >= 2 ** 63 || value <= -(2 ** 63)) throw new CelError('integer overflow');
  return BigInt(Math.trunc(value));
}

const integerText = (text: string, name: string): bigint => {
  if (!/^[-+]?\d+$/.test(text)) throw new CelError(`strconv.Parse${name}: parsing ${JSON.stringify(text)}: invalid syntax`);
  return BigInt(text.replace(/^\+/, ''));
};

/** A double as Go prints it. */
export function doubleText(value: number): string {
  if (value === Number.POSITIVE_INFINITY) return '+Inf';
  if (value === Number.NEGATIVE_INFINITY) return '-Inf';
  return String(value).replace(/e([+-])(\d)$/, 'e$10$2');
}

const lookUp = (container: CelMap, key: Value): Value => {
  const found = container.get(key);
  if (found === undefined) throw new CelError(`no such key: ${typeof key === 'string' ? key : String(key instanceof Uint ? key.value : key)}`);
  return found;
};
const indexOf = (key: Value): number | undefined =>
  typeof key === 'bigint'
    ? Number(key)
    : key instanceof Uint
      ? Number(key.value)
      : typeof key === 'number' && Number.isInteger(key)
        ? key
        : undefined;
const itemAt = (list: CelList, key: Value): Value => {
  const index = indexOf(key);
  if (index === undefined) throw new CelError(`unsupported index type '${typeNameOf(key)}' in list`);
  if (index < 0 || index >= list.length) throw new CelError(`index out of bounds: ${index}`);
  return list.at(index);
};

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
const utf8 = (bytes: Uint8Array): string => {
  try {
    return decoder.decode(bytes);
  } catch {
    throw new CelError('invalid UTF-8 in bytes, cannot convert to string');
  }
};

const typeOf = (value: Value): TypeValue => new TypeValue(typeNameOf(value));

export const standardLibrary = library({
  '_+_': [
    ...arithmetic(
      'add',
      (a, b) => a + b,
      (a, b) => a + b,
    ),
    ['add_string', '(string, string) string', (a: string, b: string) => a + b],
    ['add_bytes', '(bytes, bytes) bytes', (a: Uint8Array, b: Uint8Array) => Buffer.concat([a, b])],
    ['add_list', '(list<A>, list<A>) list<A>', joinLists],
  ],
  '_-_': arithmetic(
    'subtract',
    (a, b) => a - b,
    (a, b) => a - b,
  ),
  '_*_': arithmetic(
    'multiply',
    (a, b) => a * b,
    (a, b) => a * b,
  ),
  '_/_': arithmetic(
    'divide',
    nonZero((a, b) => a / b, 'division by zero'),
    (a, b) => a / b,
  ),
  '_%_': arithmetic(
    'modulo',
    nonZero((a, b) => a % b, 'modulus by zero'),
  ),
  '-_': [
    ['negate_int64', '(int) int', (a: bigint) => int(-a)],
    ['negate_double', '(double) double', (a: number) => -a],
  ],
  '!_': [['logical_not', '(bool) bool', (a: boolean) => !a]],
  '_==_': [['equals', '(A, A) bool', valuesEqual]],
  '_!=_': [['not_equals', '(A, A) bool', (a: Value, b: Value) => !valuesEqual(a, b)]],
  '_<_': ordering('less', (o) => o < 0),
  '_<=_': ordering('less_equals', (o) => o <= 0),
  '_>_': ordering('greater', (o) => o > 0),
  '_>=_': ordering('greater_equals', (o) => o >= 0),
  '@in': [
    ['in_list', '(A, list<A>) bool', (a: Value, list: CelList) => [...itemsOfList(list)].some((item) => valuesEqual(item, a))],
    ['in_map', '(A, map<A, B>) bool', (a: Value, map: CelMap) => map.get(a) !== undefined],
  ],
  '_[_]': [
    ['index_list', '(list<A>, int) A', itemAt],
    ['index_map', '(map<A, B>, A) B', lookUp],
    ['optional_list_index_value', '(optional<list<A>>, int) optional<A>', (o: Optional, key: Value) => optionalAt(o, key)],
    ['optional_map_index_value', '(optional<map<A, B>>, A) optional<B>', (o: Optional, key: Value) => optionalAt(o, key)],
  ],
  '_[?_]': [
    ['list_optindex_optional_int', '(list<A>, int) optional<A>', (c: Value, key: Value) => optionalAt(new Optional(c), key)],
    ['map_optindex_optional_value', '(map<A, B>, A) optional<B>', (c: Value, key: Value) => optionalAt(new Optional(c), key)],
    ['optional_list_optindex_optional_int', '(optional<list<A>>, int) optional<A>', (o: Optional, key: Value) => optionalAt(o, key)],
    ['optional_map_optindex_optional_value', '(optional<map<A, B>>, A) optional<B>', (o: Optional, key: Value) => optionalAt(o, key)],
  ],
  size: [
    ...['string', 'bytes', 'list<A>', 'map<A, B>'].flatMap((type): [string, string, (v: Value) => Value][] => [
      [`size_${type.slice(0, 4)}`, `(${type}) int`, (v) => BigInt(sizeOf(v))],
      [`${type.slice(0, 4)}_size`, `${type}.() int`, (v) => BigInt(sizeOf(v))],
    ]),
  ],
  contains: [['contains_string', 'string.(string) bool', (s: string, part: string) => s.includes(part)]],
  startsWith: [['starts_with_string', 'string.(string) bool', (s: string, part: string) => s.startsWith(part)]],
  endsWith: [['ends_with_string', 'string.(string) bool', (s: string, part: string) => s.endsWith(part)]],
  matches: [
    ['matches', '(string, string) bool', (s: string, pattern: string) => compileRegex(pattern).matcher(s).find()],
    ['matches_string', 'string.(string) bool', (s: string, pattern: string) => compileRegex(pattern).matcher(s).find()],
  ],
  int: [
    ['int64_to_int64', '(int) int', (a: bigint) => a],
    ['uint64_to_int64', '(uint) int', (a: Uint) => int(a.value)],
    ['double_to_int64', '(double) int', toInt],
    ['string_to_int64', '(string) int', (s: string) => int(integerText(s, 'Int'))],
    ['timestamp_to_int64', '(timestamp) int', (at: Timestamp) => at.ns / 1_000_000_000n],
    ['duration_to_int64', '(duration) int', (d: Duration) => d.ns],
  ],
  uint: [
    ['uint64_to_uint64', '(uint) uint', (a: Uint) => a],
    ['int64_to_uint64', '(int) uint', uint],
    ['double_to_uint64', '(double) uint', (a: number) => uint(Number.isFinite(a) && a < 2 ** 64 ? BigInt(Math.trunc(a)) : -1n)],
    ['string_to_uint64', '(string) uint', (s: string) => uint(integerText(s, 'Uint'))],
  ],
  double: [
    ['double_to_double', '(double) double', (a: number) => a],
    ['int64_to_double', '(int) double', (a: bigint) => Number(a)],
    ['uint64_to_double', '(uint) double', (a: Uint) => Number(a.value)],
    [
      'string_to_double',
      '(string) double',
      (s: string) => {
        if (!/^[-+]?(\d+\.?\d*([eE][-+]?\d+)?|\.\d+([eE][-+]?\d+)?|inf|infinity|nan)$/i.test(s))
          throw new CelError(`strconv.ParseFloat: parsing ${JSON.stringify(s)}: invalid syntax`);
        return Number(s.replace(/^([-+]?)inf(inity)?$/i, '$1Infinity').replace(/nan/i, 'NaN'));
      },
    ],
  ],
  string: [
    ['string_to_string', '(string) string', (a: string) => a],
    ['int64_to_string', '(int) string', (a: bigint) => String(a)],
    ['uint64_to_string', '(uint) string', (a: Uint) => String(a.value)],
    ['double_to_string', '(double) string', doubleText],
    ['bool_to_string', '(bool) string', (a: boolean) => String(a)],
    ['bytes_to_string', '(bytes) string', utf8],
    ['timestamp_to_string', '(timestamp) string', timestampText],
    ['duration_to_string', '(duration) string', durationText],
  ],
  bytes: [
    ['bytes_to_bytes', '(bytes) bytes', (a: Uint8Array) => a],
    ['string_to_bytes', '(string) bytes', (s: string) => Buffer.from(s)],
  ],
  bool: [
    ['bool_to_bool', '(bool) bool', (a: boolean) => a],
    [
      'string_to_bool',
      '(string) bool',
      (s: string) => {
        if (['true', 'TRUE', 'True', 't', 'T', '1'].includes(s)) return true;
        if (['false', 'FALSE', 'False', 'f', 'F', '0'].includes(s)) return false;
        throw new CelError(`strconv.ParseBool: parsing ${JSON.stringify(s)}: invalid syntax`);
      },
    ],
  ],
  dyn: [['to_dyn', '(A) dyn', (a: Value) => a]],
  type: [['type', '(A) type', typeOf]],
});

/** An item or a member, where there is one. */
export function optionalAt(container: Optional, key: Value): Optional {
  const { value } = container;
  if (value === undefined) return Optional.none;
  if (isList(value)) {
    const index = indexOf(key);
    return index === undefined || index < 0 || index >= value.length ? Optional.none : new Optional(value.at(index));
  }
  if (!hasType(value, t.map(t.dyn, t.dyn))) throw new CelError('no such overload');
  const found = (value as CelMap).get(key);
  return found === undefined ? Optional.none : new Optional(found);
}

const isZero = (value: Value): boolean =>
  value === null ||
  value === false ||
  value === 0 ||
  value === 0n ||
  value === '' ||
  (value instanceof Uint && value.value === 0n) ||
  (value instanceof Duration && value.ns === 0n) ||
  ((isList(value) || value instanceof Uint8Array) && value.length === 0) ||
  (isMap(value) && value.size === 0);

export const optionalLibrary = library({
  'optional.of': [['optional_of', '(A) optional<A>', (a: Value) => new Optional(a)]],
  'optional.ofNonZeroValue': [['optional_ofNonZeroValue', '(A) optional<A>', (a: Value) => (isZero(a) ? Optional.none : new Optional(a))]],
  'optional.none': [['optional_none', '() optional<A>', () => Optional.none]],
  hasValue: [['optional_hasValue', 'optional<A>.() bool', (o: Optional) => o.value !== undefined]],
  value: [
    [
      'optional_value',
      'optional<A>.() A',
      (o: Optional) => {
        if (o.value === undefined) throw new CelError('optional.none() dereference');
        return o.value;
      },
    ],
  ],
});
