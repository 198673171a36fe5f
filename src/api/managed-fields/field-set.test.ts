import { describe, expect, it } from 'vitest';
import { compareValues, fieldsOf } from './compare.ts';
import { FieldSet, type FieldsV1 } from './field-set.ts';
import { mergeValues, removeFields } from './merge.ts';
import { compareSteps, IdentityError, parseStep, pathText } from './path-element.ts';
import { fieldTypeOf, type FieldType, type ListType } from './types.ts';
import { configurationProblems } from './validate.ts';

const setOf = (json: FieldsV1) => FieldSet.fromJson(json);
const pod = fieldTypeOf('io.k8s.api.core.v1.Pod') as FieldType;
const setList: ListType = { kind: 'list', identity: 'set', items: { kind: 'scalar', of: undefined }, keyDefaults: new Map() };

describe('sets of fields', () => {
  const a = { 'f:a': {}, 'f:b': { '.': {}, 'f:c': {} }, 'f:l': { 'k:{"name":"x"}': { '.': {}, 'f:image': {} } } };
  const b = { 'f:b': { 'f:c': {} }, 'f:l': { 'k:{"name":"x"}': { 'f:image': {} }, 'k:{"name":"y"}': {} } };

  it('stand as they were written', () => {
    expect(setOf(a).toJson()).toEqual(a);
    expect(JSON.stringify(setOf({ 'f:z': {}, 'v:2': {}, 'k:{"b":1,"a":"x"}': {}, 'f:a': {}, 'v:10': {} }).toJson())).toBe(
      '{"f:a":{},"f:z":{},"k:{"a":"x","b":1}":{},"v:2":{},"v:10":{}}'.replaceAll('{"a":"x","b":1}', '{\\"a\\":\\"x\\",\\"b\\":1}'),
    );
  });

  it('are joined, cut and taken away', () => {
    expect(setOf(a).union(setOf(b)).toJson()).toEqual({
      'f:a': {},
      'f:b': { '.': {}, 'f:c': {} },
      'f:l': { 'k:{"name":"x"}': { '.': {}, 'f:image': {} }, 'k:{"name":"y"}': {} },
    });
    expect(setOf(a).intersection(setOf(b)).toJson()).toEqual({ 'f:b': { 'f:c': {} }, 'f:l': { 'k:{"name":"x"}': { 'f:image': {} } } });
    expect(setOf(a).difference(setOf(b)).toJson()).toEqual({ 'f:a': {}, 'f:b': {}, 'f:l': { 'k:{"name":"x"}': {} } });
    // A member takes nothing below it along, unless asked.
    expect(
      setOf(a)
        .difference(setOf({ 'f:l': {} }))
        .toJson(),
    ).toEqual(a);
    expect(
      setOf(a)
        .without(setOf({ 'f:l': {}, 'f:b': { 'f:c': {} } }))
        .toJson(),
    ).toEqual({ 'f:a': {}, 'f:b': {} });
  });

  it('are read with care', () => {
    expect(() => setOf({ 'f:a': [] } as never)).toThrow();
    expect(() => setOf({ bad: {} } as never)).toThrow(/missing colon/);
    expect(() => setOf({ 'k:{': {} } as never)).toThrow();
    expect(setOf({ 'x:unknown': {}, 'f:a': {} } as never).toJson()).toEqual({ 'f:a': {} });
  });

  it('list their members level by level', () => {
    expect([...setOf(a).paths()].map(pathText)).toEqual(['.a', '.b', '.b.c', '.l[name="x"]', '.l[name="x"].image']);
  });
});

describe('steps', () => {
  it('are ordered by what they are and by their values', () => {
    const steps = ['i:2', 'v:"b"', 'v:"a!"', 'v:"a"', 'v:10', 'v:9', 'v:true', 'k:{"p":80}', 'k:{"p":9}', 'f:b', 'f:a', 'i:10'];
    expect(steps.sort(compareSteps)).toEqual([
      'f:a',
      'f:b',
      'k:{"p":9}',
      'k:{"p":80}',
      'v:9',
      'v:10',
      'v:"a"',
      'v:"a!"',
      'v:"b"',
      'v:true',
      'i:2',
      'i:10',
    ]);
  });

  it('have one text', () => {
    expect(parseStep('k:{"b":1,"a":"<"}')).toBe('k:{"a":"\\u003c","b":1}');
    expect(pathText(['f:spec', 'v:"x"', 'i:3', 'k:{"port":80,"protocol":"TCP"}'])).toBe('.spec[="x"][3][port=80,protocol="TCP"]');
  });
});

describe('comparisons', () => {
  it('tell items by their keys, and know keys that have defaults', () => {
    const spec = (ports: object[]) => ({ spec: { containers: [{ name: 'c', ports }] } });
    const { added, modified, removed } = compareValues(
      pod,
      spec([{ containerPort: 1 }]),
      spec([{ containerPort: 1, protocol: 'TCP', name: 'n' }, { containerPort: 2 }]),
    );
    const below = (inner: FieldsV1): FieldsV1 => ({ 'f:spec': { 'f:containers': { 'k:{"name":"c"}': { 'f:ports': inner } } } });
    expect(added.toJson()).toEqual(
      below({
        'k:{"containerPort":1,"protocol":"TCP"}': { 'f:name': {}, 'f:protocol': {} },
        'k:{"containerPort":2,"protocol":"TCP"}': { '.': {}, 'f:containerPort': {} },
      }),
    );
    expect(modified.empty && removed.empty).toBe(true);
  });

  it('several items of one identity are one thing', () => {
    const env = (...values: string[]) => ({ spec: { containers: [{ name: 'c', env: values.map((value) => ({ name: 'A', value })) }] } });
    const at = (set: FieldSet) => set.below('f:spec')?.below('f:containers')?.below('k:{"name":"c"}')?.below('f:env')?.toJson();
    expect(at(compareValues(pod, env('1'), env('1', '2')).added)).toEqual({ 'k:{"name":"A"}': {} });
    expect(at(compareValues(pod, env('1', '2'), env('1', '3')).modified)).toEqual({ 'k:{"name":"A"}': {} });
    expect(at(compareValues(pod, env('1', '2'), env('1')).removed)).toEqual({ 'k:{"name":"A"}': {} });
  });

  it('what Go shows of nothing counts as there', () => {
    const { added } = compareValues(pod, {}, { metadata: { name: 'x' }, spec: { containers: [{ name: 'c', image: 'i' }] } });
    expect(added.below('f:spec')?.toJson()).toEqual({
      'f:containers': { 'k:{"name":"c"}': { '.': {}, 'f:image': {}, 'f:name': {}, 'f:resources': {} } },
    });
  });

  it('items without identity are an error', () => {
    expect(() => fieldsOf(setList, [{}])).toThrow(IdentityError);
    expect(() => fieldsOf(setList, [null])).toThrow(/explicit null/);
  });
});

describe('merges', () => {
  it('keep the order of the configuration, and the others where they stood', () => {
    const merged = (live: string[], config: string[]) => mergeValues(setList, live, config);
    expect(merged(['a', 'b', 'c'], ['c', 'a'])).toEqual(['b', 'c', 'a']);
    expect(merged(['a', 'b', 'c'], ['x', 'b'])).toEqual(['a', 'x', 'b', 'c']);
    expect(merged([], ['b', 'a'])).toEqual(['b', 'a']);
    expect(merged(['a'], [])).toEqual(['a']);
  });

  it('replace whole what is owned whole', () => {
    const selector = fieldTypeOf('io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector') as FieldType;
    expect(mergeValues(selector, { matchLabels: { a: '1', b: '2' } }, { matchLabels: { a: '2' } })).toEqual({ matchLabels: { a: '2' } });
  });

  it('take away items and members, not parts of what is owned whole', () => {
    const object = {
      metadata: { labels: { a: '1', b: '2' } },
      spec: { containers: [{ name: 'x', image: 'i' }, { name: 'y' }], nodeSelector: { k: 'v' } },
    };
    const gone = setOf({
      'f:metadata': { 'f:labels': { 'f:a': {} } },
      'f:spec': { 'f:containers': { 'k:{"name":"x"}': { 'f:image': {} }, 'k:{"name":"y"}': {} } },
    });
    expect(removeFields(pod, object, gone)).toEqual({
      metadata: { labels: { b: '2' } },
      spec: { containers: [{ name: 'x' }], nodeSelector: { k: 'v' } },
    });
  });

  it('keys such as __proto__ are keys', () => {
    const labels = { kind: 'map', atomic: false, values: { kind: 'scalar', of: 'string' } } as FieldType;
    const merged = mergeValues(labels, JSON.parse('{"a":"1"}'), JSON.parse('{"__proto__":"x"}'));
    expect(Object.keys(merged)).toEqual(['a', '__proto__']);
    expect(Object.getPrototypeOf(merged)).toBe(Object.prototype);
  });
});

describe('configurations', () => {
  it.each([
    [{ spec: { nope: 1 } }, '.spec.nope: field not declared in schema'],
    [{ spec: { containers: {} } }, '.spec.containers: expected list, got '],
    [{ spec: { containers: [{ name: 'a' }, { name: 'a' }] } }, '.spec.containers: duplicate entries for key [name="a"]'],
    [{ spec: { containers: [null] } }, '.spec.containers: element 0: associative list with keys may not have a null element'],
    [{ spec: { containers: ['a'] } }, '.spec.containers: element 0: associative list with keys may not have non-map elements'],
    [{ spec: { priority: 'x' } }, '.spec.priority: expected numeric (int or float), got string'],
    [{ metadata: { labels: { a: null } } }, ''],
  ])('%j', (config, problem) => {
    expect(configurationProblems(pod, config)).toBe(problem);
  });
});
