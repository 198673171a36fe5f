import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Server, ServerCredentials } from '@grpc/grpc-js';
import protobuf from 'protobufjs';
import { afterEach, describe, expect, it } from 'vitest';
import { openMemoryStore } from '../../store/memory.ts';
import type { Store } from '../../store/store.ts';
import { resources } from '../../api/generated/resources.ts';
import { startTestServer } from '../testing.ts';
import { parseEncryptionConfiguration } from './configuration.ts';
import { EncryptedStore } from './encrypted-store.ts';

const key = (name: string, size = 32) => ({ name, secret: randomBytes(size).toString('base64') });
const configuration = (providers: object[], names = ['secrets']) =>
  JSON.stringify({
    kind: 'EncryptionConfiguration',
    apiVersion: 'apiserver.config.k8s.io/v1',
    resources: [{ resources: names, providers }],
  });
const put = (store: Store, name: string, value: string) => store.transaction([], [{ type: 'put', key: name, value: Buffer.from(value) }]);
const secretKey = '/registry/secrets/default/s';

const ends: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});
/** Over the same inner store with other providers: as after a restart. */
const over = (inner: Store, providers: object[], names?: string[]) => new EncryptedStore(inner, parseEncryptionConfiguration(configuration(providers, names)));

describe.each([
  ['aescbc', 32],
  ['aescbc', 16],
  ['aesgcm', 32],
  ['secretbox', 32],
])('%s with %d bytes', (kind, size) => {
  it('stores no plain text, reads it back, tells it to watches, and leaves other resources alone', async () => {
    const inner = openMemoryStore();
    const store = over(inner, [{ [kind]: { keys: [key('k1', size)] } }]);
    const heard: string[] = [];
    store.watch({
      start: '/registry/',
      end: '/registry0',
      onError: (e) => heard.push(String(e)),
      onEvents: ({ events }) => heard.push(...events.map((e) => `${e.item.key} ${e.item.value}`)),
    });
    await put(store, secretKey, '{"top":"secret"}');
    await put(store, '/registry/configmaps/default/c', '{"open":1}');
    const raw = (await inner.get(secretKey))!.value;
    expect(raw.toString('latin1')).toMatch(new RegExp(`^k8s:enc:${kind}:v1:k1:`));
    expect(raw.includes('secret"')).toBe(false);
    expect((await store.get(secretKey))!.value.toString()).toBe('{"top":"secret"}');
    expect((await store.range({ start: '/registry/', end: '/registry0' })).items.map((i) => i.value.toString())).toEqual(['{"open":1}', '{"top":"secret"}']);
    expect((await inner.get('/registry/configmaps/default/c'))!.value.toString()).toBe('{"open":1}');
    await expect.poll(() => heard).toEqual([`${secretKey} {"top":"secret"}`, '/registry/configmaps/default/c {"open":1}']);
  });
});

it('a value that is bound to its key cannot be moved to another', async () => {
  const inner = openMemoryStore();
  const store = over(inner, [{ aesgcm: { keys: [key('k')] } }]);
  await put(store, secretKey, 'mine');
  const stolen = (await inner.get(secretKey))!.value;
  await inner.transaction([], [{ type: 'put', key: '/registry/secrets/default/other', value: stolen }]);
  await expect(store.get('/registry/secrets/default/other')).rejects.toThrow(/other cannot be decrypted/);
});

it('rotation: older keys and plain values are read, and what they wrote counts as stale', async () => {
  const inner = openMemoryStore();
  const [k1, k2] = [key('k1'), key('k2')];
  await put(inner, secretKey, 'plain');
  const first = over(inner, [{ aescbc: { keys: [k1] } }]);
  expect((await first.get(secretKey))!.value.toString()).toBe('plain');
  expect(first.isStale(secretKey)).toBe(true);
  await put(first, secretKey, 'one');
  await first.get(secretKey);
  expect(first.isStale(secretKey)).toBe(false);
  const second = over(inner, [{ secretbox: { keys: [k2] } }, { aescbc: { keys: [k1] } }]);
  expect((await second.get(secretKey))!.value.toString()).toBe('one');
  expect(second.isStale(secretKey)).toBe(true);
  const without = over(inner, [{ secretbox: { keys: [k2] } }]);
  await expect(without.get(secretKey)).rejects.toThrow(`${secretKey} cannot be read: no matching prefix found`);
});

it('covers resources by name, group and wildcard', async () => {
  const inner = openMemoryStore();
  const store = over(inner, [{ aesgcm: { keys: [key('k')] } }], ['*.apps', 'widgets.example.com']);
  const sealed = async (path: string) => {
    await put(store, `/registry/${path}`, 'v');
    return (await inner.get(`/registry/${path}`))!.value.subarray(0, 8).toString() === 'k8s:enc:';
  };
  expect(await sealed('deployments/default/d')).toBe(true);
  expect(await sealed('example.com/widgets/default/w')).toBe(true);
  expect(await sealed('example.com/gadgets/default/w')).toBe(false);
  expect(await sealed('secrets/default/s')).toBe(false);
});

it.each([
  ['{}', /not an EncryptionConfiguration/],
  [configuration([]), 'resources[0].providers: Required value'],
  [configuration([{ aescbc: { keys: [key('a', 20)] } }]), 'resources[0].providers[0].aescbc.keys[0].secret: Invalid value: must be base64 of 16, 24, 32 bytes, and is of 20'],
  [configuration([{ rot13: {} }]), 'provider must contain one of aesgcm'],
  [configuration([{ identity: {} }], ['nonsense']), 'resources[0].resources[0]: Invalid value: "nonsense": no such resource'],
  [configuration([{ kms: { name: 'k', endpoint: 'unix:///x' } }]), 'kms.apiVersion: Unsupported value: "v1"'],
])('says what is wrong with a configuration', (text, message) => {
  expect(() => parseEncryptionConfiguration(text)).toThrow(message);
});

/** A KMS plugin that turns bytes round; its key can be changed. */
async function startPlugin() {
  const folder = mkdtempSync(join(tmpdir(), 'kumulus-kms-'));
  const state = { keyId: 'key-1', calls: { Encrypt: 0, Decrypt: 0 } };
  const types = protobuf.parse(`syntax = "proto3";
    message S { string version = 1; string healthz = 2; string keyId = 3; }
    message D { bytes ciphertext = 1; string uid = 2; string keyId = 3; }
    message P { bytes plaintext = 1; }
    message E { bytes ciphertext = 1; string keyId = 2; map<string, bytes> annotations = 3; }`).root;
  const method = (name: string, input: string, output: string) => ({
    path: `/v2.KeyManagementService/${name}`,
    requestStream: false,
    responseStream: false,
    requestSerialize: (m: object) => Buffer.from(types.lookupType(input).encode(m).finish()),
    requestDeserialize: (b: Buffer) => types.lookupType(input).decode(b),
    responseSerialize: (m: object) => Buffer.from(types.lookupType(output).encode(m).finish()),
    responseDeserialize: (b: Buffer) => types.lookupType(output).decode(b),
  });
  const reversed = (bytes: Uint8Array) => Buffer.from(bytes).reverse();
  const server = new Server();
  server.addService(
    { Status: method('Status', 'P', 'S'), Encrypt: method('Encrypt', 'P', 'E'), Decrypt: method('Decrypt', 'D', 'P') } as never,
    {
      Status: (_call: never, done: (e: null, a: object) => void) => done(null, { version: 'v2', healthz: 'ok', keyId: state.keyId }),
      Encrypt: (call: { request: { plaintext: Uint8Array } }, done: (e: null, a: object) => void) => {
        state.calls.Encrypt++;
        done(null, { ciphertext: reversed(call.request.plaintext), keyId: state.keyId, annotations: { 'example.com': Buffer.from('x') } });
      },
      Decrypt: (call: { request: { ciphertext: Uint8Array } }, done: (e: null, a: object) => void) => {
        state.calls.Decrypt++;
        done(null, { plaintext: reversed(call.request.ciphertext) });
      },
    } as never,
  );
  const socket = join(folder, 'kms.sock');
  await new Promise<void>((resolve, reject) =>
    server.bindAsync(`unix:${socket}`, ServerCredentials.createInsecure(), (error) => (error ? reject(error) : resolve())),
  );
  ends.push(() => {
    server.forceShutdown();
    rmSync(folder, { recursive: true, force: true });
  });
  return { state, provider: { kms: { apiVersion: 'v2', name: 'test', endpoint: `unix://${socket}` } } };
}

it('KMS v2: one call for many values, also after a restart; events keep their order while the plugin is asked', async () => {
  const { state, provider } = await startPlugin();
  const inner = openMemoryStore();
  const first = over(inner, [provider]);
  ends.push(() => first.close());
  for (let i = 0; i < 20; i++) await put(first, `${secretKey}${i}`, `value ${i}`);
  expect(state.calls).toEqual({ Encrypt: 1, Decrypt: 0 });
  expect((await inner.get(`${secretKey}0`))!.value.toString('latin1')).toMatch(/^k8s:enc:kms:v2:test:/);

  const second = over(inner, [provider]);
  const heard: string[] = [];
  second.watch({
    start: '/registry/',
    end: '/registry0',
    startRevision: 1,
    onError: (e) => heard.push(String(e)),
    onEvents: ({ events }) => heard.push(...events.map((e) => e.item.value.toString())),
  });
  await expect.poll(() => heard).toEqual(Array.from({ length: 20 }, (_, i) => `value ${i}`));
  expect(state.calls).toEqual({ Encrypt: 1, Decrypt: 1 });
  ends.pop();
  await second.close();
});

it('KMS v2: a plugin that does not answer is named, and nothing is written', async () => {
  const inner = openMemoryStore();
  const store = over(inner, [{ kms: { apiVersion: 'v2', name: 'gone', endpoint: 'unix:///nonexistent.sock', timeout: '0.5s' } }]);
  ends.push(() => store.close());
  await expect(put(store, secretKey, 'v')).rejects.toThrow(/KMS plugin gone/);
  expect(await inner.get(secretKey)).toBeUndefined();
});

it('the API server keeps Secrets encrypted, and writes them anew with the new key when they are written back', async () => {
  const inner = openMemoryStore();
  const [k1, k2] = [key('old'), key('new')];
  const start = async (providers: object[]) => {
    const server = await startTestServer({ store: over(inner, providers) });
    return { server, admin: server.localClient({ name: 'admin', groups: ['system:masters'] }) };
  };
  const stored = async () => (await inner.get('/registry/secrets/default/mine'))!.value.toString('latin1');
  const one = await start([{ aescbc: { keys: [k1] } }]);
  await one.admin.create(resources.secrets as any, { metadata: { namespace: 'default', name: 'mine' }, stringData: { password: 'hunter2' } } as any);
  expect(await stored()).toMatch(/^k8s:enc:aescbc:v1:old:/);
  await one.server.stop(0);
  const two = await start([{ aescbc: { keys: [k2, k1] } }]);
  ends.push(() => two.server.stop());
  const secret: any = await two.admin.get(resources.secrets as any, { namespace: 'default', name: 'mine' });
  expect(Buffer.from(secret.data.password, 'base64').toString()).toBe('hunter2');
  await two.admin.update(resources.secrets as any, structuredClone(secret));
  expect(await stored()).toMatch(/^k8s:enc:aescbc:v1:new:/);
});
