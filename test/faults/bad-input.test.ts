import { connect, type ClientHttp2Session } from 'node:http2';
import { Agent, request } from 'node:https';
import { connect as tlsConnect } from 'node:tls';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startTestServer, type TestServer } from '../../src/apiserver/testing.ts';
import { heapAfterCollection, random } from './measure.ts';

/** How many inputs; KUMULUS_FUZZ_INPUTS asks for more, KUMULUS_FUZZ_SEED for others. */
const inputs = Number(process.env['KUMULUS_FUZZ_INPUTS'] ?? 2000);
const seed = Number(process.env['KUMULUS_FUZZ_SEED'] ?? 20_260);
/** Milliseconds after which an answer that has not come is a hang. */
const hangMs = 30_000;

const next = random(seed);
const below = (n: number): number => Math.floor(next() * n);
const one = <T>(list: readonly T[]): T => list[below(list.length)]!;

const template = { metadata: { labels: { a: 'b' } }, spec: { containers: [{ name: 'c', image: 'i', resources: { limits: { cpu: '1' } } }] } };
const samples: [path: string, object: any][] = [
  ['/api/v1/namespaces/default/configmaps', { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'fuzz', labels: { a: 'b' } }, data: { k: 'v' } }],
  ['/api/v1/namespaces/default/pods', { apiVersion: 'v1', kind: 'Pod', metadata: { name: 'fuzz' }, ...{ spec: template.spec } }],
  ['/apis/apps/v1/namespaces/default/deployments', { apiVersion: 'apps/v1', kind: 'Deployment', metadata: { name: 'fuzz' }, spec: { selector: { matchLabels: { a: 'b' } }, template } }],
  ['/api/v1/namespaces/default/services', { apiVersion: 'v1', kind: 'Service', metadata: { name: 'fuzz' }, spec: { ports: [{ port: 80 }], selector: { a: 'b' } } }],
  [
    '/apis/apiextensions.k8s.io/v1/customresourcedefinitions',
    {
      apiVersion: 'apiextensions.k8s.io/v1',
      kind: 'CustomResourceDefinition',
      metadata: { name: 'fuzzes.example.com' },
      spec: {
        group: 'example.com',
        scope: 'Namespaced',
        names: { plural: 'fuzzes', kind: 'Fuzz' },
        versions: [{ name: 'v1', served: true, storage: true, schema: { openAPIV3Schema: { type: 'object', properties: { spec: { type: 'object' } } } } }],
      },
    },
  ],
];

const nested = (depth: number, open: string, close: string, inner = '1') => open.repeat(depth) + inner + close.repeat(depth);
const values = [
  ...['null', 'true', '0', '-1', '1e999', '-0', '9007199254740993', '123456789012345678901234567890', '1.5', '""', '"\\u0000"', '"\\ud800"', '[]', '{}', '[[]]', '[null]'],
  ...['{"__proto__":{"polluted":1}}', '{"constructor":{"prototype":{"polluted":1}}}', '"__proto__"', '"constructor"', '"../../etc/passwd"', `"${'x'.repeat(5000)}"`],
];
const keys = ['__proto__', 'constructor', 'prototype', 'toString', 'hasOwnProperty', 'valueOf', '', ' ', '$patch', '$setElementOrder/containers', '\u0000', 'apiVersion', 'kind', 'metadata', 'spec', '-1', '0'];

/** JSON with one place changed: another value, another key, or a key more. Text, for no object can hold all of it. */
function mutated(value: any): string {
  const places: [object: any, key: string][] = [];
  const walk = (v: any): void => {
    if (!v || typeof v !== 'object') return;
    for (const key of Object.keys(v)) {
      places.push([v, key]);
      walk(v[key]);
    }
  };
  const copy = structuredClone(value);
  walk(copy);
  const [object, key] = one(places);
  const mark = '@@mark@@';
  const action = below(3);
  if (action === 0 || Array.isArray(object)) object[key] = mark;
  else if (action === 1) object[mark] = object[key];
  else delete object[key];
  return JSON.stringify(copy)
    .replace(`"${mark}":`, () => `${JSON.stringify(one(keys))}:`)
    .replace(`"${mark}"`, () => one(values));
}

function scrambled(bytes: Buffer): Buffer {
  const copy = Buffer.from(bytes);
  for (let i = 0; i <= below(4); i++) copy[below(copy.length)] = below(256);
  return below(3) === 0 ? copy.subarray(0, below(copy.length)) : copy;
}

const bomb = `a: &a [x,x,x,x,x,x,x,x,x]\n${[...'bcdefghij'].map((c, i) => `${c}: &${c} [${Array(9).fill(`*${'abcdefghij'[i]}`).join(',')}]`).join('\n')}\n`;
const json = 'application/json';
const yaml = 'application/yaml';
const protobuf = 'application/vnd.kubernetes.protobuf';

function someBody(object: any): { type: string; body: Buffer } {
  switch (below(10)) {
    case 0:
      return { type: json, body: scrambled(Buffer.from(JSON.stringify(object))) };
    case 1:
      return { type: json, body: Buffer.from(nested(one([10, 500, 9000, 20_000]), one(['[', '{"a":']), one([']', '}']))) };
    case 2:
      return { type: yaml, body: below(20) === 0 ? Buffer.from(bomb) : scrambled(Buffer.from(JSON.stringify(object))) };
    case 3: {
      const garbage = Buffer.from(Array.from({ length: below(200) }, () => below(256)));
      return { type: protobuf, body: below(2) ? garbage : Buffer.concat([Buffer.from('k8s\0'), garbage]) };
    }
    case 4:
      return { type: one(['', 'text/html', 'application/json; charset=utf-16', 'application/json;;;', 'multipart/form-data']), body: Buffer.from(mutated(object)) };
    default:
      return { type: one([json, json, yaml]), body: Buffer.from(mutated(object)) };
  }
}

function somePatch(object: any): { type: string; body: Buffer } {
  const pointers = ['', '/', '/metadata', '/metadata/name', '/__proto__/polluted', '/constructor/prototype/polluted', '/spec/containers/99999999999', '/spec/containers/-', '/spec/containers/-1', '/metadata/labels/a~2', '/data/k'];
  const operations = Array.from(
    { length: 1 + below(4) },
    () => `{"op":"${one(['add', 'remove', 'replace', 'move', 'copy', 'test', 'nope'])}","path":${JSON.stringify(one(pointers))},"from":${JSON.stringify(one(pointers))},"value":${one(values)}}`,
  );
  return one([
    () => ({ type: 'application/json-patch+json', body: Buffer.from(`[${operations.join(',')}]`) }),
    () => ({ type: 'application/merge-patch+json', body: Buffer.from(mutated(object)) }),
    () => ({ type: 'application/strategic-merge-patch+json', body: Buffer.from(mutated(object)) }),
    () => ({ type: 'application/apply-patch+yaml', body: Buffer.from(below(8) ? mutated(object) : bomb) }),
    () => ({ type: one(['application/merge-patch+json', 'application/json-patch+json']), body: scrambled(Buffer.from(JSON.stringify(object))) }),
  ])();
}

const fragments = ['', '.', '..', '%2e%2e', '%2f', '%00', '%', '%zz', '%c0%af', 'api', 'apis', 'v1', 'namespaces', 'default', 'pods', 'configmaps', 'fuzz', 'status', 'scale', 'watch', 'proxy', '__proto__', 'constructor', 'toString', 'a'.repeat(3000), '~', ';x', '*'];
const parameters = ['labelSelector', 'fieldSelector', 'limit', 'continue', 'resourceVersion', 'resourceVersionMatch', 'fieldManager', 'fieldValidation', 'force', 'pretty', 'timeoutSeconds', '__proto__', 'gracePeriodSeconds', 'propagationPolicy', 'includeObject'];
const texts = ['', '-1', '0', '1e9', '99999999999999999999', 'a=b', 'a in (b', 'a in (b,c),!d', '!!a', 'a==', 'metadata.name=fuzz', 'spec.nodeName=', '__proto__=x', 'constructor', '((((', ','.repeat(500), '%00', '%ff%fe', 'eyJydiI6MX0', 'Strict', 'true', 'Background', 'x'.repeat(4000)];
const someQuery = () => Array.from({ length: below(4) }, () => `${one(parameters)}=${encodeURIComponent(one(texts)).replaceAll('%25', '%')}`).join('&');

interface Input {
  method: string;
  path: string;
  headers: Record<string, string>;
  body?: Buffer;
}

function someInput(): Input {
  const [path, object] = one(samples);
  const kind = below(10);
  if (kind < 3) return { method: 'POST', path: `${path}?dryRun=All&${someQuery()}`, ...written(someBody(object)) };
  if (kind < 5) return { method: 'PUT', path: `${path}/fuzz?dryRun=All`, ...written(someBody(object)) };
  if (kind < 8) return { method: 'PATCH', path: `${path}/fuzz?dryRun=All&fieldManager=fuzz&${below(2) ? 'force=true' : ''}`, ...written(somePatch(object)) };
  const accept = one(['', '*/*', 'application/json;as=Table;g=meta.k8s.io;v=v1', `${protobuf}`, 'a/b;q=x', ';;,,', 'application/json;as=__proto__;g=x;v=y', 'x'.repeat(4000)]);
  const headers: Record<string, string> = accept ? { accept } : {};
  if (below(4) === 0) headers[one(['impersonate-user', 'authorization', 'if-none-match', 'audit-id', 'accept-encoding', 'user-agent'])] = one(['', 'Bearer x.y.z', 'Basic !!', '\t', 'é'.normalize(), 'x'.repeat(2000)]);
  if (kind === 8) return { method: 'GET', path: `${path}?${someQuery()}`, headers };
  const made = `/${Array.from({ length: 1 + below(7) }, () => one(fragments)).join('/')}`;
  return { method: one(['GET', 'GET', 'HEAD', 'OPTIONS', 'POST', 'PUT', 'PATCH']), path: `${made}?${someQuery()}`, headers };
}

const written = ({ type, body }: { type: string; body: Buffer }) => ({ headers: type ? { 'content-type': type } : ({} as Record<string, string>), body });

describe('bad input never hangs, crashes or changes the server, and is answered below 500', () => {
  let server: TestServer;
  let agent: Agent;
  let session: ClientHttp2Session;
  beforeAll(async () => {
    server = await startTestServer();
    agent = new Agent({ keepAlive: true, maxSockets: 8, ca: server.ca, ...server.admin });
    session = connect(server.address, { ca: server.ca, ...server.admin });
    session.on('error', () => {});
    const account: [string, object] = ['/api/v1/namespaces/default/serviceaccounts', { metadata: { name: 'default' } }];
    for (const [path, object] of [account, ...samples]) {
      const body = Buffer.from(JSON.stringify(object));
      expect((await over1({ method: 'POST', path, headers: { 'content-type': json }, body })).status, path).toBe(201);
    }
  });
  afterAll(async () => {
    agent?.destroy();
    session?.destroy();
    await server?.stop();
  });

  const over1 = (input: Input) =>
    new Promise<{ status: number; text: string }>((resolve, reject) => {
      const sent = request({ host: '127.0.0.1', port: server.port, agent, method: input.method, path: input.path, headers: input.headers, timeout: hangMs }, (response) => {
        let text = '';
        response.on('data', (chunk: Buffer) => (text += chunk.toString('latin1')));
        response.on('error', reject);
        response.on('end', () => resolve({ status: response.statusCode ?? 0, text }));
      });
      sent.on('timeout', () => sent.destroy(new Error('no answer')));
      sent.on('error', reject);
      sent.end(input.body);
    });
  const over2 = (input: Input) =>
    new Promise<{ status: number; text: string }>((resolve, reject) => {
      const stream = session.request({ ':method': input.method, ':path': input.path, ...input.headers }, { endStream: !input.body });
      let status = 0;
      let text = '';
      stream.setTimeout(hangMs, () => stream.destroy(new Error('no answer')));
      stream.on('response', (headers) => (status = Number(headers[':status'])));
      stream.on('data', (chunk: Buffer) => (text += chunk.toString('latin1')));
      stream.on('error', reject);
      stream.on('end', () => resolve({ status, text }));
      if (input.body) stream.end(input.body);
    });

  test(`${inputs} made requests of seed ${seed} over HTTP/1.1 and HTTP/2`, async () => {
    const wrong: string[] = [];
    /** What is left of the heap after each twentieth of the inputs. */
    const heaps: number[] = [];
    let at = 0;
    const worker = async (send: typeof over1) => {
      while (at < inputs) {
        if (at % Math.ceil(inputs / 20) === 0) heaps.push(heapAfterCollection());
        at++;
        const input = someInput();
        const shown = `${input.method} ${input.path.slice(0, 200)} ${JSON.stringify(input.headers).slice(0, 200)} ${input.body?.toString('latin1').slice(0, 300) ?? ''}`;
        const answer = await send(input).catch((error: Error) => ({ status: 0, text: `${(error as { code?: string }).code} ${error.message}` }));
        // A name in a header that this client will not send is no input.
        if (answer.text.startsWith('ERR_INVALID_CHAR') || answer.text.startsWith('ERR_UNESCAPED')) continue;
        // HTTP/2 takes no field that is nothing but a space: its stream is refused.
        if (answer.text.includes('NGHTTP2_PROTOCOL_ERROR') && Object.values(input.headers).includes('\t')) continue;
        if (answer.status < 200 || answer.status >= 500) wrong.push(`${answer.status} ${answer.text.slice(0, 300)}\n   ${shown}`);
      }
    };
    await Promise.all([over1, over1, over1, over2, over2, over2].map(worker));
    expect(wrong).toEqual([]);
    // What is kept for good (compiled code, caches with a limit) is kept early: of two halves the later one grows no further.
    const half = (from: number, to: number) => Math.min(...heaps.slice(from, to));
    console.log(`bad input: ${inputs} inputs, heap in MiB ${heaps.map((bytes) => Math.round(bytes / 1024 / 1024)).join(' ')}`);
    expect(half(15, 20) - half(5, 10)).toBeLessThan(8 * 1024 * 1024);
    expect(({} as any).polluted).toBeUndefined();
    for (const [path, object] of samples) {
      if (path.endsWith('definitions')) continue;
      expect((await over1({ method: 'GET', path: `${path}/fuzz`, headers: {} })).text).toContain(`"name":"${object.metadata.name}"`);
    }
  }, 600_000 + inputs * 30);

  test('what a warning repeats of a body may be any text', async () => {
    const body = Buffer.from('{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"warned"},"données \u2028\u007f\\ud800":1}');
    for (const send of [over1, over2])
      expect((await send({ method: 'POST', path: `${samples[0]![0]}?dryRun=All`, headers: { 'content-type': json }, body })).status).toBe(201);
  });

  /** Sends bytes as they are; what came until the server closed, or until it had answered and `quiet` says to stop. */
  const raw = (bytes: string, until: (got: string) => boolean = () => false) =>
    new Promise<string>((resolve, reject) => {
      const socket = tlsConnect({ host: '127.0.0.1', port: server.port, ca: server.ca, ...server.admin, ALPNProtocols: ['http/1.1'] });
      let got = '';
      const timer = setTimeout(() => socket.destroy(new Error(`the server kept the connection: ${got.slice(0, 200)}`)), hangMs);
      socket.on('secureConnect', () => socket.write(bytes, 'latin1'));
      socket.on('data', (chunk: Buffer) => {
        got += chunk.toString('latin1');
        if (until(got)) socket.destroy();
      });
      socket.on('error', (error) => ((error as { code?: string }).code ? resolve(got) : reject(error)));
      socket.on('close', () => {
        clearTimeout(timer);
        resolve(got);
      });
    });
  const answers = (got: string) => got.match(/HTTP\/1\.1 \d+/g) ?? [];
  const head = 'POST /api/v1/namespaces/default/configmaps?dryRun=All HTTP/1.1\r\nHost: x\r\n';
  const smuggled = 'GET /version HTTP/1.1\r\nHost: x\r\n\r\n';

  test.each([
    ['both lengths', `${head}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n${smuggled}`],
    ['two lengths', `${head}Content-Length: 5\r\nContent-Length: 6\r\n\r\n12345${smuggled}`],
    ['a length that is none', `${head}Content-Length: +5\r\n\r\n12345${smuggled}`],
    ['a coding that is none', `${head}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n${smuggled}`],
    ['a chunk size that is none', `${head}Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n${smuggled}`],
    ['a header with a space before the colon', `${head}Content-Length : 5\r\n\r\n12345${smuggled}`],
    ['a folded header', `${head}X: a\r\n Transfer-Encoding: chunked\r\n\r\n${smuggled}`],
    ['an unknown method', `FOO /api HTTP/1.1\r\nHost: x\r\n\r\n${smuggled}`],
    ['no HTTP', `\0\x01\x02garbage\r\n\r\n${smuggled}`],
  ])('%s: refused, and what follows is no request', async (_name, bytes) => {
    const got = await raw(bytes);
    for (const status of answers(got)) expect(status).toBe('HTTP/1.1 400');
    expect(got).not.toContain('gitVersion');
  });

  test('headers that are too large are refused', async () => {
    expect(answers(await raw(`GET /version HTTP/1.1\r\nHost: x\r\nX: ${'x'.repeat(100_000)}\r\n\r\n`))).toEqual(['HTTP/1.1 431']);
  });

  test('the server still answers', async () => {
    const got = await raw(smuggled, (text) => text.includes('gitVersion'));
    expect(answers(got)).toEqual(['HTTP/1.1 200']);
  });
});
