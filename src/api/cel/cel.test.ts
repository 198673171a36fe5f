import { describe, expect, test } from 'vitest';
import type { JsonSchema } from '../crd/json-schema.ts';
import { adapt } from './adapt.ts';
import { CompilationError, Environment } from './environment.ts';
import { escapeName, typeOfSchema } from './schema-types.ts';
import { t } from './types.ts';
import { CelError, CostExceededError, Duration, isList, isMap, itemsOfList, Optional, Timestamp, Uint, type Value } from './values.ts';

const schema: JsonSchema = {
  type: 'object',
  properties: {
    name: { type: 'string', maxLength: 10 },
    count: { type: 'integer' },
    ratio: { type: 'number' },
    on: { type: 'boolean' },
    when: { type: 'string', format: 'date-time' },
    wait: { type: 'string', format: 'duration' },
    port: { 'x-kubernetes-int-or-string': true },
    list: { type: 'array', items: { type: 'string' } },
    set: { type: 'array', items: { type: 'string' }, 'x-kubernetes-list-type': 'set' },
    map: { type: 'object', additionalProperties: { type: 'integer' } },
    inner: { type: 'object', properties: { 'a-b': { type: 'string' }, namespace: { type: 'string' } } },
  },
};
const self = {
  name: 'web',
  count: 3,
  ratio: 0.5,
  on: true,
  when: '2024-02-29T12:30:00Z',
  wait: '1h30m',
  port: 80,
  list: ['a', 'b', 'c'],
  set: ['x', 'y'],
  map: { one: 1, two: 2 },
  inner: { 'a-b': 'dash', namespace: 'ns' },
};
const environment = new Environment({ variables: { self: typeOfSchema(schema, false) as never, any: t.dyn, ints: t.list(t.int) } });
const variables: Record<string, Value> = { self: adapt(self, schema), any: adapt(self, undefined), ints: adapt([3, 1, 2], { type: 'array', items: { type: 'integer' } }) };

function plain(value: Value): unknown {
  if (isList(value)) return [...itemsOfList(value)].map(plain);
  if (isMap(value)) return Object.fromEntries(value.keys().map((k) => [String(k), plain(value.get(k) as Value)]));
  if (value instanceof Uint) return `${value.value}u`;
  if (value instanceof Optional) return value.value === undefined ? 'none' : ['some', plain(value.value)];
  if (value instanceof Timestamp || value instanceof Duration) return `${value.ns}ns`;
  return value;
}
const run = (source: string) => plain(environment.compile(source).run((name) => variables[name]).value);
function failure(source: string): string {
  try {
    run(source);
  } catch (error) {
    if (error instanceof CelError || error instanceof CompilationError || error instanceof CostExceededError) return error.message;
    throw error;
  }
  throw new Error(`${source} did not fail`);
}

describe('values', () => {
  test.each<[string, unknown]>([
    ['1 + 2 * 3', 7n],
    ['-5 / 2', -2n],
    ['-5 % 2', -1n],
    ['5.0 / 2.0', 2.5],
    ['7u - 2u', '5u'],
    ['"a" + "b"', 'ab'],
    ['[1] + [2, 3]', [1n, 2n, 3n]],
    ['1 < 2.5 && 3u > 2', true],
    ['dyn(1) == dyn(1.0)', true],
    ['0x10', 16n],
    ['-9223372036854775808', -9223372036854775808n],
    [String.raw`"\x41\u00e9\n" == r"A" + "é\n"`, true],
    ["b'abc' == bytes('abc')", true],
    ['{"a": 1, "b": 2}["b"]', 2n],
    ['"b" in {"a": 1}', false],
    ['2 in [1, 2]', true],
    ['size("héllo") + size([1, 2]) + "abc".size()', 10n],
    ['true ? 1 : 2', 1n],
    ['type(1) == int && type("") == string && type([]) == list', true],
    ['int("42") + int(3.9) + int(2u)', 47n],
    ['string(1.5) + string(true) + string(7)', '1.5true7'],
    ['double("1e3")', 1000],
    ['timestamp("2024-01-01T00:00:00Z") + duration("1h") == timestamp("2024-01-01T01:00:00Z")', true],
    ['timestamp("2024-02-29T12:30:00Z").getDayOfYear()', 59n],
    ['timestamp("2024-01-01T23:00:00Z").getDate("+02:00")', 2n],
    ['duration("90m").getHours()', 1n],
    ['string(duration("90m"))', '5400s'],
    ['string(timestamp("2024-01-01T00:00:00.5Z"))', '2024-01-01T00:00:00.5Z'],
  ])('%s', (source, expected) => expect(run(source)).toEqual(expected));

  test('logic absorbs errors where the other side decides', () => {
    expect(run('1 / 0 == 1 || true')).toBe(true);
    expect(run('false && 1 / 0 == 1')).toBe(false);
    expect(failure('1 / 0 == 1 && true')).toBe('division by zero');
    expect(run('[0, 2].exists(x, 4 / x == 2)')).toBe(true);
    expect(run('[0, 2].all(x, 4 / x == 2 && false)')).toBe(false);
  });

  test('errors say what kube-apiserver says', () => {
    expect(failure('{"a": 1}["x"]')).toBe('no such key: x');
    expect(failure('[1][3]')).toBe('index out of bounds: 3');
    expect(failure('9223372036854775807 + 1')).toBe('integer overflow');
    expect(failure('any.missing')).toBe('no such key: missing');
    expect(failure('any.name + 1')).toBe('no such overload');
  });
});

describe('macros', () => {
  test.each<[string, unknown]>([
    ['[1, 2, 3].all(x, x > 0)', true],
    ['[1, 2, 3].exists_one(x, x > 2)', true],
    ['[1, 2, 3].map(x, x * 2)', [2n, 4n, 6n]],
    ['[1, 2, 3].map(x, x > 1, x * 2)', [4n, 6n]],
    ['[1, 2, 3].filter(x, x != 2)', [1n, 3n]],
    ['{"a": 1, "b": 2}.all(k, k.size() == 1)', true],
    ['[[1, 2], [3]].map(l, l.map(x, x + 1))', [[2n, 3n], [4n]]],
    ['cel.bind(x, 2, x * x)', 4n],
    ['{"a": 1}.transformMap(k, v, v + 1)', { a: 2n }],
    ['[5, 6].transformList(i, v, i + v)', [5n, 7n]],
    ['{"a": 1, "b": 2}.transformMapEntry(k, v, {string(v): k})', { '1': 'a', '2': 'b' }],
    ['[1, 2].exists(i, v, i == 1 && v == 2)', true],
    ['has(self.name) && !has(self.inner.namespace_) || true', true],
    ['[3, 1, 2].sortBy(x, -x)', [3n, 2n, 1n]],
  ])('%s', (source, expected) => {
    if (source.includes('namespace_')) expect(failure(source)).toContain("undefined field 'namespace_'");
    else expect(run(source)).toEqual(expected);
  });
});

describe('libraries', () => {
  test.each<[string, unknown]>([
    ['"a,b,c".split(",", 2)', ['a', 'b,c']],
    ['["a", "b"].join("-")', 'a-b'],
    ['"hello".substring(1, 3) + "x".upperAscii() + " t ".trim()', 'elXt'],
    ['"banana".replace("a", "o", 2)', 'bonona'],
    ['"banana".indexOf("n", 3) + "banana".lastIndexOf("a")', 9n],
    ['"%s has %d (%.2f) %x".format([dyn("a"), dyn(3), dyn(1.5), dyn(255)])', 'a has 3 (1.50) ff'],
    ['[3, 1, 2].sort() == [1, 2, 3] && [1, 2].sum() == 3 && [1, 5, 2].max() == 5 && [1, 2, 2].isSorted()', true],
    ['[dyn(1), dyn([dyn(2), dyn([3])])].flatten(2)', [1n, 2n, 3n]],
    ['[1, 2, 1].distinct().reverse()', [2n, 1n]],
    ['lists.range(3)', [0n, 1n, 2n]],
    ['sets.contains([1, 2], [2]) && sets.intersects([1], [1, 2]) && sets.equivalent([1, 1], [1])', true],
    ['"abc 123".find("[0-9]+") + string("a1b2".findAll("[0-9]").size())', '1232'],
    ['url("https://example.com:80/a?b=c").getHost() + url("https://[::1]:80/").getHostname()', 'example.com:80::1'],
    ['url("https://x/?a=1&a=2").getQuery()["a"]', ['1', '2']],
    ['isURL("../x")', false],
    ['quantity("1.5Gi").isGreaterThan(quantity("1Gi")) && quantity("100m").add(quantity("900m")).asInteger() == 1', true],
    ['isQuantity("1 Gi")', false],
    ['ip("::1").isLoopback() && ip("10.0.0.1").family() == 4 && !isIP("300.1.1.1") && ip.isCanonical("2001:db8::1")', true],
    ['cidr("10.0.0.0/8").containsIP("10.1.2.3") && !cidr("10.0.0.0/8").containsCIDR(cidr("11.0.0.0/9"))', true],
    ['string(cidr("192.168.5.7/16").masked())', '192.168.0.0/16'],
    ['format.dns1123Label().validate("Bad") != optional.none()', true],
    ['!format.named("dns1123Label").value().validate("good").hasValue()', true],
    ['semver("1.2.3").isLessThan(semver("1.10.0")) && semver("v1.2", true).minor() == 2', true],
    ['optional.of(1).or(optional.of(2))', ['some', 1n]],
    ['optional.none().orValue(7)', 7n],
    ['any.?name.orValue("x") + any.?nothing.orValue("y")', 'weby'],
    ['{"a": 1}[?"b"].hasValue()', false],
    ['optional.of(2).optMap(x, x * 2)', ['some', 4n]],
    ['[?optional.none(), 1]', [1n]],
  ])('%s', (source, expected) => expect(run(source)).toEqual(expected));
});

describe('values of a schema', () => {
  test.each<[string, unknown]>([
    ['self.name == "web" && self.count == 3 && self.ratio == 0.5 && self.on', true],
    ['self.when.getFullYear()', 2024n],
    ['self.wait == duration("90m")', true],
    ['self.port == 80', true],
    ['self.list.exists(x, x == "b")', true],
    ['self.set == ["y", "x"]', true],
    ['self.set + ["y", "z"]', ['x', 'y', 'z']],
    ['self.map["two"]', 2n],
    ['self.inner.a__dash__b + self.inner.__namespace__', 'dashns'],
    ['type(self.count) == int', true],
  ])('%s', (source, expected) => expect(run(source)).toEqual(expected));

  test('names that are no identifiers have spellings of their own', () => {
    expect(escapeName('a.b/c-d__e')).toBe('a__dot__b__slash__c__dash__d__underscores__e');
    expect(escapeName('in')).toBe('__in__');
    expect(escapeName('1a')).toBeUndefined();
  });
});

describe('wrong expressions', () => {
  test.each<[string, string]>([
    ['self.foo', "ERROR: <input>:1:5: undefined field 'foo'\n | self.foo\n | ....^"],
    ['1 + "a"', "ERROR: <input>:1:3: found no matching overload for '_+_' applied to '(int, string)'\n | 1 + \"a\"\n | ..^"],
    ['nothing == 1', "ERROR: <input>:1:1: undeclared reference to 'nothing' (in container '')\n | nothing == 1\n | ^"],
    ['self.name.nothing()', "ERROR: <input>:1:18: undeclared reference to 'nothing' (in container '')\n | self.name.nothing()\n | .................^"],
    ['self.count.all(x, true)', "ERROR: <input>:1:5: expression of type 'int' cannot be range of a comprehension (must be list, map, or dynamic)\n | self.count.all(x, true)\n | ....^"],
    ['self.name.x', "ERROR: <input>:1:10: type 'string' does not support field selection\n | self.name.x\n | .........^"],
    ['[1, "a"]', "ERROR: <input>:1:5: expected type 'int' but found 'string'\n | [1, \"a\"]\n | ....^"],
    ['self.name == 1', "ERROR: <input>:1:11: found no matching overload for '_==_' applied to '(string, int)'\n | self.name == 1\n | ..........^"],
    ['"a".matches("(")', 'ERROR: <input>:1:13: invalid matches argument\n | "a".matches("(")\n | ............^'],
  ])('%s', (source, message) => expect(failure(source)).toBe(message));
});

describe('costs', () => {
  const estimate = (at: JsonSchema, rule: string) => new Environment({ variables: { self: typeOfSchema(at, false) as never } }).compile(rule).estimate();
  const list = (items: JsonSchema, maxItems?: number): JsonSchema => ({ type: 'array', items, ...(maxItems === undefined ? {} : { maxItems }) });
  const map = (values: JsonSchema, maxProperties?: number): JsonSchema => ({
    type: 'object',
    additionalProperties: values,
    ...(maxProperties === undefined ? {} : { maxProperties }),
  });
  const text = (maxLength?: number): JsonSchema => ({ type: 'string', ...(maxLength === undefined ? {} : { maxLength }) });

  test.each<[string, JsonSchema, number]>([
    ['self.all(x, true)', list({ type: 'number' }), 4718591],
    ['self.all(x, true)', list({ type: 'number' }, 10), 32],
    ['self.all(x, true)', list(text()), 3145727],
    ['self.all(x, true)', list({ type: 'boolean' }), 1887437],
    ['self.all(x, true)', list(list({ type: 'number' })), 3145727],
    ['self.all(x, true)', map({ type: 'number' }), 1348169],
    ['self.all(x, true)', map(text()), 1179647],
    ["self.contains('test')", text(), 314574],
    ["self.contains('test')", text(10), 5],
    ["self.startsWith('test')", text(), 2],
    ['size(self + "hello") > size("hello")', text(), 314578],
    ['self[1] == 0.0', list({ type: 'number' }), 2],
    ['self[1] == self[1]', list(text()), 314577],
    ['self.all(x, self.all(y, true))', list({ type: 'number' }, 10), 352],
    ['self.matches("x")', text(), 314574],
    ['self.matches("x")', text(50), 22],
    ['self[0].getHours() == 2', list({ type: 'string', format: 'duration' }), 4],
    ['self.all(x, true)', list({ type: 'string', format: 'date-time' }), 428963],
    ['self[0] == 5', list({ 'x-kubernetes-int-or-string': true }), 3],
  ])('%s is estimated as kube-apiserver does', (rule, at, cost) => expect(estimate(at, rule)).toBe(cost));

  test('an evaluation ends where it costs too much', () => {
    const program = environment.compile('lists.range(2000).all(x, lists.range(2000).all(y, x >= 0))');
    expect(() => program.run((name) => variables[name])).toThrow(CostExceededError);
    expect(environment.compile('self.list.all(x, x == "a" || true)').run((name) => variables[name]).cost).toBeGreaterThan(5);
  });
});
