import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { generateKeyPairSync } from 'node:crypto';
import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect } from 'node:tls';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createTestAuthority, type TestAuthority } from '../apiserver/testing.ts';

const folder = mkdtempSync(join(tmpdir(), 'kumulus-apiserver-'));
const file = (name: string) => join(folder, name);
let authority: TestAuthority;
let child: ChildProcess;
let port: number;

const writeCertificate = async (commonName: string) => {
  const { cert, key } = await authority.issue({ commonName, addresses: ['127.0.0.1'], server: true });
  writeFileSync(file('next.key'), key);
  writeFileSync(file('next.crt'), cert);
  renameSync(file('next.key'), file('tls.key'));
  renameSync(file('next.crt'), file('tls.crt'));
};

beforeAll(async () => {
  authority = await createTestAuthority('flags');
  await writeCertificate('first');
  writeFileSync(file('ca.crt'), authority.cert);
  writeFileSync(file('tokens.csv'), 'a-token,alice,1,"dev"\n');
  // As openssl genrsa wrote it for years: PKCS #1.
  const keys = generateKeyPairSync('rsa', { modulusLength: 2048, publicKeyEncoding: { type: 'spki', format: 'pem' }, privateKeyEncoding: { type: 'pkcs1', format: 'pem' } });
  writeFileSync(file('sa.key'), keys.privateKey);
  writeFileSync(file('sa.pub'), keys.publicKey);
  child = spawn(
    process.execPath,
    [
      join(import.meta.dirname, 'main.ts'),
      'apiserver',
      ...['--data-dir', folder, '--secure-port', '0'],
      ...['--tls-cert-file', file('tls.crt'), '--tls-private-key-file', file('tls.key'), '--client-ca-file', file('ca.crt')],
      ...['--service-account-signing-key-file', file('sa.key'), '--service-account-key-file', file('sa.pub')],
      ...['--service-account-issuer', 'https://issuer.example', '--service-account-issuer', 'https://before.example', '--api-audiences', 'api,other'],
      ...['--token-auth-file', file('tokens.csv'), '--anonymous-auth=false', '--authorization-mode', 'AlwaysAllow'],
    ],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  let told = '';
  port = await new Promise<number>((resolve, reject) => {
    child.stdout?.on('data', (text) => {
      told += text;
      const at = /ready on https:\/\/127\.0\.0\.1:(\d+)/.exec(told);
      if (at) resolve(Number(at[1]));
    });
    child.on('exit', (code) => reject(new Error(`the API server ended with ${code}`)));
  });
});
afterAll(async () => {
  child?.removeAllListeners('exit');
  if (child && child.exitCode === null) {
    child.kill('SIGTERM');
    await once(child, 'exit');
  }
  rmSync(folder, { recursive: true, force: true });
});

const ask = (method: string, path: string, o: { token?: string; body?: object; user?: { cert: string; key: string } } = {}) =>
  new Promise<{ status: number; json: any }>((resolve, reject) => {
    const headers = { 'content-type': 'application/json', ...(o.token ? { authorization: `Bearer ${o.token}` } : {}) };
    const sent = request({ host: '127.0.0.1', port, method, path, headers, ca: authority.cert, agent: false, ...o.user }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('end', () => resolve({ status: response.statusCode ?? 0, json: JSON.parse(Buffer.concat(chunks).toString()) }));
    });
    sent.on('error', reject);
    sent.end(o.body ? JSON.stringify(o.body) : undefined);
  });

test('flags of kube-apiserver say who is believed', async () => {
  const review = (o: Parameters<typeof ask>[2]) => ask('POST', '/apis/authentication.k8s.io/v1/selfsubjectreviews', { body: {}, ...o });
  expect((await review({})).status).toBe(401);
  expect((await review({ token: 'a-token' })).json.status.userInfo).toEqual({ username: 'alice', uid: '1', groups: ['dev', 'system:authenticated'] });
  expect((await review({ user: await authority.issue({ commonName: 'jane' }) })).json.status.userInfo.username).toBe('jane');

  const discovery = await ask('GET', '/.well-known/openid-configuration', { token: 'a-token' });
  expect(discovery.json).toMatchObject({ issuer: 'https://issuer.example', id_token_signing_alg_values_supported: ['RS256'] });
  const account = { metadata: { name: 'robot', namespace: 'default' } };
  expect((await ask('POST', '/api/v1/namespaces/default/serviceaccounts', { token: 'a-token', body: account })).status).toBe(201);
  const { json } = await ask('POST', '/api/v1/namespaces/default/serviceaccounts/robot/token', { token: 'a-token', body: { spec: {} } });
  expect(JSON.parse(Buffer.from(json.status.token.split('.')[1], 'base64url').toString())).toMatchObject({ iss: 'https://issuer.example', aud: ['api', 'other'] });
  expect((await review({ token: json.status.token })).json.status.userInfo.username).toBe('system:serviceaccount:default:robot');
});

test('a certificate that changes on disk is taken up', async () => {
  const subject = () =>
    new Promise<string>((resolve, reject) => {
      const socket = connect({ host: '127.0.0.1', port, ca: authority.cert }, () => {
        resolve(String(socket.getPeerCertificate().subject.CN));
        socket.destroy();
      });
      socket.on('error', reject);
    });
  expect(await subject()).toBe('first');
  await writeCertificate('second');
  await expect.poll(subject, { timeout: 20_000 }).toBe('second');
});
