import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { groupVersionOf } from './object.ts';
import { decodeProtobuf } from './protobuf.ts';
import { encodeMessage, encodeProtobuf } from './protobuf-encode.ts';
import { definitionOfKind } from './protobuf-messages.ts';

type Fixture = { json: { apiVersion: string; kind: string }; protobuf: string };
/** Kubernetes' own objects with every field set; made by scripts/pack-fixtures.ts. */
const fixtures: Record<string, Fixture> = JSON.parse(
  gunzipSync(readFileSync(join(import.meta.dirname, '../../test/fixtures/kubernetes-objects.json.gz'))).toString('utf8'),
);

describe("Kubernetes' own objects in both formats", () => {
  it.each(Object.keys(fixtures))('%s', (name) => {
    const { json, protobuf } = fixtures[name] as Fixture;
    const { group, version } = groupVersionOf(json.apiVersion);
    const definition = definitionOfKind(group, version, json.kind) as string;
    const bytes = Buffer.from(protobuf, 'base64');
    expect(decodeProtobuf(bytes, definition)).toEqual(json);
    expect(encodeProtobuf(json, definition)?.toString('hex')).toBe(bytes.toString('hex'));
  });
});

describe('values at the edges', () => {
  const configMap = 'io.k8s.api.core.v1.ConfigMap';
  const through = (definition: string, object: Record<string, unknown>) =>
    decodeProtobuf(encodeProtobuf({ apiVersion: 'v1', kind: 'X', ...object }, definition) as Buffer, definition);

  it('negative and large integers', () => {
    for (const value of [0, -1, 127, 128, 2 ** 31, -(2 ** 31), 2 ** 53 - 1, -(2 ** 53 - 1)])
      expect(through(configMap, { metadata: { deletionGracePeriodSeconds: value } })).toMatchObject({
        metadata: { deletionGracePeriodSeconds: value },
      });
  });

  it('texts of every length and script, and keys in the order of their bytes', () => {
    const data: Record<string, string> = { '😀': 'a', '￿': 'b', a: 'x'.repeat(47), b: 'é'.repeat(40), c: 'y'.repeat(200_000), __proto__: '1' };
    Object.defineProperty(data, '__proto__', { value: 'own', enumerable: true, configurable: true, writable: true });
    const back = through(configMap, { data })['data'] as Record<string, string>;
    expect(Object.keys(back)).toEqual(['__proto__', 'a', 'b', 'c', '￿', '😀']);
    expect(back['c']).toBe(data['c']);
    expect(Object.getPrototypeOf(back)).toBe(Object.prototype);
  });

  it('zero is shown where Go shows it', () => {
    const deployment = 'io.k8s.api.apps.v1.Deployment';
    const spec = { replicas: 0, selector: {}, template: { metadata: {}, spec: { containers: [{ name: '', image: '' }] } } };
    expect(through(deployment, { spec })['spec']).toEqual({
      replicas: 0,
      selector: {},
      template: { metadata: {}, spec: { containers: [{ name: '' }] } },
    });
  });

  it('schemas of custom resources', () => {
    const schema = {
      type: 'object',
      required: ['a'],
      properties: {
        a: { type: 'array', items: { type: 'string', enum: ['x', 1, null, { y: [] }] } },
        b: { type: 'object', additionalProperties: { type: 'integer', default: 5, minimum: -1.5 } },
        c: { type: 'object', additionalProperties: false },
        d: { type: 'object', additionalProperties: true, 'x-kubernetes-preserve-unknown-fields': true },
        e: { items: { type: 'string' }, dependencies: { f: ['g', 'h'], i: { type: 'string' } }, default: { deep: [1, { er: true }] } },
      },
      'x-kubernetes-validations': [{ rule: 'self.a.size() > 0', messageExpression: '"x"' }],
    };
    const spec = {
      group: 'g.example.com',
      names: { plural: 'gs', kind: 'G' },
      scope: 'Cluster',
      versions: [{ name: 'v1', served: true, storage: false, schema: { openAPIV3Schema: schema } }],
    };
    const definition = 'io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition';
    expect(through(definition, { spec })['spec']).toEqual(spec);
  });

  it('what is no protobuf is refused', () => {
    expect(() => decodeProtobuf(Buffer.from('{}'), configMap)).toThrow(/expected prefix/);
    const whole = encodeProtobuf({ apiVersion: 'v1', kind: 'ConfigMap' }, configMap) as Buffer;
    expect(() => decodeProtobuf(whole.subarray(0, 8), configMap)).toThrow(/unexpected EOF/);
    expect(encodeMessage('com.example.v1.Custom', {})).toBeUndefined();
  });
});
