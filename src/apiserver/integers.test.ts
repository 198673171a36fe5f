import { afterAll, beforeAll, expect, test } from 'vitest';
import { createHttpClient } from '../client/http.ts';
import { decodeProtobuf } from '../api/protobuf.ts';
import { requestOverHttp1, requestOverHttp2, startTestServer, type TestAnswer, type TestServer } from './testing.ts';

/** 2^53 + 1, which a number cannot hold, and the ends of 64 bits. */
const odd = '9007199254740993';
const largest = '9223372036854775807';
const smallest = '-9223372036854775808';

let server: TestServer;
const send = (method: string, path: string, body?: string | Buffer, headers: Record<string, string> = {}): Promise<TestAnswer> =>
  requestOverHttp2(server, { method, path, user: server.admin, headers: { ...(body ? { 'content-type': 'application/json' } : {}), ...headers }, ...(body ? { body } : {}) });
const textOf = (answer: TestAnswer) => answer.body.toString('utf8');

const things = '/apis/example.com/v1/namespaces/default/things';
const definition = {
  apiVersion: 'apiextensions.k8s.io/v1',
  kind: 'CustomResourceDefinition',
  metadata: { name: 'things.example.com' },
  spec: {
    group: 'example.com',
    scope: 'Namespaced',
    names: { plural: 'things', kind: 'Thing' },
    versions: [
      {
        name: 'v1',
        served: true,
        storage: true,
        additionalPrinterColumns: [{ name: 'Size', type: 'integer', jsonPath: '.size' }],
        schema: {
          openAPIV3Schema: {
            type: 'object',
            'x-kubernetes-validations': [{ rule: '!has(self.size) || self.size - 2 > 9007199254740990', message: 'too small' }],
            properties: {
              size: { type: 'integer', format: 'int64', minimum: -9007199254740991 },
              share: { type: 'number' },
              set: { type: 'array', 'x-kubernetes-list-type': 'set', items: { type: 'integer' } },
              any: { 'x-kubernetes-preserve-unknown-fields': true },
              defaulted: { type: 'integer', default: 5 },
            },
          },
        },
      },
    ],
  },
};

beforeAll(async () => {
  server = await startTestServer();
  const defined = await send('POST', '/apis/apiextensions.k8s.io/v1/customresourcedefinitions', JSON.stringify(definition));
  expect(defined.status, textOf(defined)).toBe(201);
  expect((await send('POST', '/api/v1/namespaces/default/serviceaccounts', '{"metadata":{"name":"default"}}')).status).toBe(201);
  for (let i = 0; i < 100 && (await send('GET', things)).status !== 200; i++) await new Promise((resolve) => setTimeout(resolve, 50));
});
afterAll(() => server?.stop());

const pod = (name: string, seconds: string) =>
  `{"metadata":{"name":"${name}"},"spec":{"containers":[{"name":"c","image":"i"}],"tolerations":[{"key":"a","operator":"Exists","effect":"NoExecute","tolerationSeconds":${seconds}}],"terminationGracePeriodSeconds":${largest}}}`;
const pods = '/api/v1/namespaces/default/pods';

test.each([['application/json'], ['application/yaml']])('fields of built-in kinds, from %s', async (type) => {
  const name = type.slice(-4);
  for (const [i, seconds] of [odd, largest, smallest].entries()) {
    const made = await send('POST', pods, pod(`${name}-${i}`, seconds), { 'content-type': type });
    expect(made.status, textOf(made)).toBe(201);
    for (const text of [textOf(made), textOf(await send('GET', `${pods}/${name}-${i}`)), textOf(await send('GET', pods))]) {
      expect(text).toContain(`"tolerationSeconds":${seconds}`);
      expect(text).toContain(`"terminationGracePeriodSeconds":${largest}`);
    }
    expect(textOf(await send('GET', `${pods}/${name}-${i}`, undefined, { accept: 'application/yaml' }))).toContain(`tolerationSeconds: ${seconds}\n`);
  }
});

test('protobuf, both ways', async () => {
  const protobuf = 'application/vnd.kubernetes.protobuf';
  for (const [i, seconds] of [odd, largest, smallest].entries()) {
    const made = await send('POST', pods, pod(`proto-${i}`, seconds), { accept: protobuf });
    const object = decodeProtobuf(made.body, 'io.k8s.api.core.v1.Pod') as any;
    expect(object.spec.tolerations[0].tolerationSeconds).toBe(BigInt(seconds));
    expect((await send('DELETE', `${pods}/proto-${i}?gracePeriodSeconds=0`)).status).toBe(200);
    const again = await send('POST', pods, withoutVersion(made.body, object.metadata.resourceVersion), { 'content-type': protobuf });
    expect(again.status, textOf(again)).toBe(201);
    expect(textOf(again)).toContain(`"tolerationSeconds":${seconds}`);
  }
});
/** A resource version, which a creation may not have, made a text of the same length in no field that anybody knows. */
function withoutVersion(body: Buffer, version: string): Buffer {
  const copy = Buffer.from(body);
  const at = copy.indexOf(Buffer.from([0x32, version.length, ...Buffer.from(version)]));
  copy[at] = 0x7a;
  return copy;
}

test('a grace period of a deletion', async () => {
  const name = 'graceful';
  await send('POST', pods, pod(name, '1'));
  await send('POST', `${pods}/${name}/binding`, '{"target":{"kind":"Node","name":"n"}}');
  const marked = await send('DELETE', `${pods}/${name}`);
  expect(marked.status).toBe(200);
  expect(textOf(marked)).toContain(`"deletionGracePeriodSeconds":${largest}`);
  const sooner = await send('DELETE', `${pods}/${name}?gracePeriodSeconds=30`);
  expect(sooner.json.metadata.deletionGracePeriodSeconds).toBe(30);
  expect(Math.abs(Date.parse(sooner.json.metadata.deletionTimestamp) - Date.now())).toBeLessThan(10 * 60_000);
});

test('what is no 64-bit integer is refused by its digits', async () => {
  const refused = await send('POST', pods, pod('refused', '9223372036854775808'));
  expect(refused.status).toBe(400);
  expect(refused.json.message).toContain('json: cannot unmarshal number 9223372036854775808 into Go struct field');
  const service = '{"metadata":{"name":"s"},"spec":{"ports":[{"port":80,"targetPort":9007199254740993}]}}';
  const port = await send('POST', '/api/v1/namespaces/default/services', service);
  expect(port.status).toBe(400);
  expect(port.json.message).toContain('json: cannot unmarshal number 9007199254740993 into Go value of type int32');
  const limited = await send('POST', pods, pod('limited', '1').replace('"containers"', `"activeDeadlineSeconds":${odd},"containers"`));
  expect(limited.status).toBe(422);
  expect(limited.json.message).toContain(`spec.activeDeadlineSeconds: Invalid value: ${odd}`);
});

test('raw extensions', async () => {
  const path = '/apis/apps/v1/namespaces/default/controllerrevisions';
  const made = await send('POST', path, `{"metadata":{"name":"r"},"revision":${largest},"data":{"kept":[${odd},{"a":${smallest}}]}}`);
  expect(made.status, textOf(made)).toBe(201);
  const text = textOf(await send('GET', `${path}/r`));
  expect(text).toContain(`"data":{"kept":[${odd},{"a":${smallest}}]}`);
  expect(text).toContain(`"revision":${largest}`);
});

test('custom resources: stored, defaulted, shown, judged by rules', async () => {
  const body = `{"apiVersion":"example.com/v1","kind":"Thing","metadata":{"name":"t"},"size":${odd},"share":${odd},"set":[${odd},${largest}],"any":{"deep":[${smallest}]}}`;
  const made = await send('POST', things, body);
  expect(made.status, textOf(made)).toBe(201);
  for (const text of [textOf(made), textOf(await send('GET', things))]) expect(text).toContain(`"any":{"deep":[${smallest}]},"defaulted":5`);
  expect(textOf(await send('GET', `${things}/t`))).toContain(`"size":${odd}`);
  const table = await send('GET', things, undefined, { accept: 'application/json;as=Table;g=meta.k8s.io;v=v1' });
  expect(textOf(table)).toContain(`"cells":["t",${odd}]`);
  // One less is too little by exactly one: doubles could not tell.
  const refused = await send('POST', things, body.replace('"name":"t"', '"name":"u"').replace(`"size":${odd}`, '"size":9007199254740992'));
  expect(refused.status).toBe(422);
  expect(refused.json.message).toContain('too small');
  const below = await send('POST', things, body.replace('"name":"t"', '"name":"u"').replace(`"size":${odd}`, `"size":${smallest}`));
  expect(below.json.message).toContain('size in body should be greater than or equal to -9007199254740991');
});

test('patches of every kind', async () => {
  await send('POST', things, `{"apiVersion":"example.com/v1","kind":"Thing","metadata":{"name":"p"}}`);
  const patch = (type: string, body: string, query = '', path = `${things}/p`) =>
    send('PATCH', `${path}${query}`, body, { 'content-type': `application/${type}` }).then(textOf);
  expect(await patch('merge-patch+json', `{"size":${odd}}`)).toContain(`"size":${odd}`);
  expect(await patch('json-patch+json', `[{"op":"test","path":"/size","value":${odd}},{"op":"replace","path":"/size","value":${largest}}]`)).toContain(`"size":${largest}`);
  expect(await patch('json-patch+json', `[{"op":"test","path":"/size","value":9223372036854775806}]`)).toContain('"code":422');
  const strategic = await patch('strategic-merge-patch+json', `{"spec":{"tolerations":[{"key":"a","operator":"Exists","effect":"NoExecute","tolerationSeconds":${odd}}]}}`, '', `${pods}/json-1`);
  expect(strategic).toContain(`"tolerationSeconds":${odd}`);
});

test.each([['JSON'], ['YAML']])('server-side apply of %s owns items of sets by all their digits', async (format) => {
  const name = format.toLowerCase();
  const apply = (manager: string, set: string[]) => {
    const json = `{"apiVersion":"example.com/v1","kind":"Thing","metadata":{"name":"${name}"},"set":[${set.join(',')}]}`;
    const yaml = `apiVersion: example.com/v1\nkind: Thing\nmetadata: {name: ${name}}\nset:\n${set.map((n) => `- ${n}\n`).join('')}`;
    return send('PATCH', `${things}/${name}?fieldManager=${manager}`, format === 'JSON' ? json : yaml, { 'content-type': 'application/apply-patch+yaml' }).then(textOf);
  };
  await apply('one', [odd, largest]);
  const both = await apply('two', ['9007199254740992', '9007199254740994']);
  expect(both).toContain(`"set":[${odd},${largest},9007199254740992,9007199254740994]`);
  expect(both).toContain(`"v:${odd}":{}`);
  // What its only owner leaves out goes; its neighbour, the same as a double, stays.
  expect(await apply('one', [largest])).toContain(`"set":[${largest},9007199254740992,9007199254740994]`);
});

test('the client keeps them, and so does whoever writes back what it read', async () => {
  await send('POST', things, `{"apiVersion":"example.com/v1","kind":"Thing","metadata":{"name":"back"},"size":${odd}}`);
  const type = { group: 'example.com', version: 'v1', resource: 'things', kind: 'Thing', namespaced: true };
  const key = { namespace: 'default', name: 'back' };
  const http = createHttpClient({ server: server.address, ca: server.ca, ...server.admin });
  for (const client of [http, server.localClient({ name: 'admin', groups: ['system:masters'] })]) {
    const read = structuredClone(await client.get<any>(type, key));
    read.metadata.labels = { by: String(Math.random()).slice(2) };
    await client.update(type, read);
    expect(textOf(await requestOverHttp1(server, { path: `${things}/back`, user: server.admin }))).toContain(`"size":${odd}`);
    client.close();
  }
});
