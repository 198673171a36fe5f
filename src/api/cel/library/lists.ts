import {
  CelError,
  type CelList,
  type CelMap,
  compareValues,
  Duration,
  isList,
  isMap,
  itemsOfList,
  listOf,
  mapOf,
  Uint,
  type Value,
  valuesEqual,
} from '../values.ts';
import { library } from './library.ts';

const comparableTypes = ['int', 'uint', 'double', 'bool', 'duration', 'timestamp', 'string', 'bytes'];
type Row = [string, string, (...args: any[]) => Value];

const ordered = (a: Value, b: Value): number => {
  const order = compareValues(a, b);
  if (order === undefined) throw new CelError('no such overload');
  return order;
};

function isSorted(list: CelList): boolean {
  for (let i = 1; i < list.length; i++) if (ordered(list.at(i - 1), list.at(i)) > 0) return false;
  return true;
}

const extreme =
  (name: string, better: (order: number) => boolean) =>
  (list: CelList): Value => {
    if (list.length === 0) throw new CelError(`${name} called on empty list`);
    let best = list.at(0);
    for (const item of itemsOfList(list)) if (better(ordered(item, best))) best = item;
    return best;
  };

const sums: Record<string, (list: CelList) => Value> = {
  int: (list) => {
    const sum = [...itemsOfList(list)].reduce<bigint>((total, item) => total + (item as bigint), 0n);
    if (sum > 0x7fff_ffff_ffff_ffffn || sum < -0x8000_0000_0000_0000n) throw new CelError('integer overflow');
    return sum;
  },
  uint: (list) => new Uint([...itemsOfList(list)].reduce<bigint>((total, item) => total + (item as Uint).value, 0n)),
  double: (list) => [...itemsOfList(list)].reduce<number>((total, item) => total + (item as number), 0),
  duration: (list) => new Duration([...itemsOfList(list)].reduce<bigint>((total, item) => total + (item as Duration).ns, 0n)),
};

const position = (list: CelList, value: Value): bigint => BigInt([...itemsOfList(list)].findIndex((item) => valuesEqual(item, value)));
const lastPosition = (list: CelList, value: Value): bigint => BigInt([...itemsOfList(list)].findLastIndex((item) => valuesEqual(item, value)));
const includes = (list: CelList, value: Value): boolean => position(list, value) >= 0n;

function flatten(list: CelList, depth: bigint): CelList {
  if (depth < 0n) throw new CelError('level must be non-negative');
  const out: Value[] = [];
  for (const item of itemsOfList(list)) {
    if (isList(item) && depth > 0n) out.push(...itemsOfList(flatten(item, depth - 1n)));
    else out.push(item);
  }
  return listOf(out);
}

function slice(list: CelList, start: bigint, end: bigint): CelList {
  if (start < 0n || end < 0n) throw new CelError(`cannot slice(${start}, ${end}), negative indexes not supported`);
  if (start > end) throw new CelError(`cannot slice(${start}, ${end}), start index must be less than or equal to end index`);
  if (end > list.length) throw new CelError(`cannot slice(${start}, ${end}), list is length ${list.length}`);
  return listOf([...itemsOfList(list)].slice(Number(start), Number(end)));
}

function distinct(list: CelList): CelList {
  const out: Value[] = [];
  for (const item of itemsOfList(list)) if (!out.some((o) => valuesEqual(o, item))) out.push(item);
  return listOf(out);
}

function sortedBy(list: CelList, keys: CelList): CelList {
  const order = [...itemsOfList(keys)].map((key, i) => ({ key, i }));
  order.sort((a, b) => ordered(a.key, b.key) || a.i - b.i);
  return listOf(order.map(({ i }) => list.at(i)));
}

const contained = (list: CelList, part: CelList): boolean => [...itemsOfList(part)].every((item) => includes(list, item));

/** The accumulator of transformMap with one more entry, or with another map's. */
function insert(into: CelMap, key: Value, value?: Value): CelMap {
  const entries = into.keys().map((k) => [k, into.get(k) as Value] as [Value, Value]);
  if (value !== undefined) return mapOf([...entries, [key, value]]);
  if (!isMap(key)) throw new CelError('no such overload');
  return mapOf([...entries, ...key.keys().map((k) => [k, key.get(k) as Value] as [Value, Value])]);
}

export const listsLibrary = library({
  isSorted: comparableTypes.map((type): Row => [`list_${type}_is_sorted_bool`, `list<${type}>.() bool`, isSorted]),
  min: comparableTypes.map((type): Row => [`list_${type}_min_${type}`, `list<${type}>.() ${type}`, extreme('min', (o) => o < 0)]),
  max: comparableTypes.map((type): Row => [`list_${type}_max_${type}`, `list<${type}>.() ${type}`, extreme('max', (o) => o > 0)]),
  sum: Object.entries(sums).map(([type, run]): Row => [`list_${type}_sum_${type}`, `list<${type}>.() ${type}`, run]),
  indexOf: [['list_a_index_of_int', 'list<A>.(A) int', position]],
  lastIndexOf: [['list_a_last_index_of_int', 'list<A>.(A) int', lastPosition]],
  includes: [['list_a_includes_a_bool', 'list<A>.(A) bool', includes]],
  slice: [['list_slice', 'list<A>.(int, int) list<A>', slice]],
  flatten: [
    ['list_flatten', 'list<list<A>>.() list<A>', (list: CelList) => flatten(list, 1n)],
    ['list_flatten_int', 'list<dyn>.(int) list<dyn>', flatten],
  ],
  distinct: [['list_distinct', 'list<A>.() list<A>', distinct]],
  reverse: [['list_reverse', 'list<A>.() list<A>', (list: CelList) => listOf([...itemsOfList(list)].reverse())]],
  sort: comparableTypes.map((type): Row => [`list_${type}_sort`, `list<${type}>.() list<${type}>`, (list: CelList) => sortedBy(list, list)]),
  '@sortByAssociatedKeys': comparableTypes.map((type): Row => [`list_${type}_sortByAssociatedKeys`, `list<A>.(list<${type}>) list<A>`, sortedBy]),
  'lists.range': [['lists_range', '(int) list<int>', (n: bigint) => listOf(Array.from({ length: Math.max(0, Number(n)) }, (_, i) => BigInt(i)))]],
  'sets.contains': [['list_sets_contains_list', '(list<A>, list<A>) bool', contained]],
  'sets.equivalent': [['list_sets_equivalent_list', '(list<A>, list<A>) bool', (a: CelList, b: CelList) => contained(a, b) && contained(b, a)]],
  'sets.intersects': [
    ['list_sets_intersects_list', '(list<A>, list<A>) bool', (a: CelList, b: CelList) => [...itemsOfList(b)].some((item) => includes(a, item))],
  ],
  'cel.@mapInsert': [
    ['@mapInsert_map_key_value', '(map<A, B>, A, B) map<A, B>', insert],
    ['@mapInsert_map_map', '(map<A, B>, map<A, B>) map<A, B>', insert],
  ],
});
