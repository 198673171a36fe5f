import 'reflect-metadata';
import {
  BasicConstraintsExtension,
  ExtendedKeyUsageExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  SubjectAlternativeNameExtension,
  type X509Certificate,
  X509CertificateGenerator,
} from '@peculiar/x509';
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';
import { connect as http2Connect } from 'node:http2';
import { request as httpsRequest } from 'node:https';
import { generateKeyPairSync, type webcrypto } from 'node:crypto';
import { pino } from 'pino';
import { openMemoryStore } from '../store/memory.ts';
import type { Store } from '../store/store.ts';
import { type ApiServer, type ApiServerOptions, startApiServer } from './server.ts';

/** A certificate authority for tests, with what it signs. All keys are EC P-256, all texts PEM. */
export interface TestAuthority {
  cert: string;
  issue(o: {
    commonName: string;
    organizations?: string[];
    hosts?: string[];
    addresses?: string[];
    server?: boolean;
  }): Promise<{ cert: string; key: string }>;
}

const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
const { subtle } = globalThis.crypto;

async function newKeys(): Promise<{ pair: webcrypto.CryptoKeyPair; pem: string }> {
  const pair = (await subtle.generateKey(algorithm, true, ['sign', 'verify'])) as webcrypto.CryptoKeyPair;
  const der = Buffer.from(await subtle.exportKey('pkcs8', pair.privateKey));
  const lines = der.toString('base64').match(/.{1,64}/g)!;
  return { pair, pem: `-----BEGIN PRIVATE KEY-----\n${lines.join('\n')}\n-----END PRIVATE KEY-----\n` };
}

const validity = () => ({ notBefore: new Date(Date.now() - 60_000), notAfter: new Date(Date.now() + 86_400_000) });

/** Authorities that one server is to know need names of their own. */
export async function createTestAuthority(name = 'kumulus-test-ca'): Promise<TestAuthority> {
  const { pair } = await newKeys();
  const ca = await X509CertificateGenerator.createSelfSigned({
    serialNumber: '01',
    name: `CN=${name}`,
    ...validity(),
    keys: pair as never,
    signingAlgorithm: algorithm,
    extensions: [
      new BasicConstraintsExtension(true, undefined, true),
      new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.digitalSignature, true),
    ],
  });
  let serial = 1;
  return {
    cert: ca.toString('pem'),
    async issue({ commonName, organizations = [], hosts = [], addresses = [], server = false }) {
      const { pair: own, pem } = await newKeys();
      const certificate: X509Certificate = await X509CertificateGenerator.create({
        serialNumber: (++serial).toString(16).padStart(2, '0'),
        subject: [...organizations.map((o) => ({ O: [o] })), { CN: [commonName] }],
        issuer: ca.subject,
        ...validity(),
        publicKey: own.publicKey as never,
        signingKey: pair.privateKey as never,
        signingAlgorithm: algorithm,
        extensions: [
          new ExtendedKeyUsageExtension([server ? '1.3.6.1.5.5.7.3.1' : '1.3.6.1.5.5.7.3.2']),
          new SubjectAlternativeNameExtension([
            ...hosts.map((value) => ({ type: 'dns' as const, value })),
            ...addresses.map((value) => ({ type: 'ip' as const, value })),
          ]),
        ],
      });
      return { cert: certificate.toString('pem'), key: pem };
    },
  };
}

export interface TestServer extends ApiServer {
  store: Store;
  ca: string;
  authority: TestAuthority;
  /** Client certificate of a user in system:masters. */
  admin: { cert: string; key: string };
  /** A kubeconfig (JSON) of a user. */
  kubeconfig(user: { cert: string; key: string } | { token: string }): string;
}

/** An API server on a free port of loopback, over a memory store unless another is given; ready. */
export async function startTestServer(options: Partial<ApiServerOptions> = {}): Promise<TestServer> {
  const authority = await createTestAuthority();
  const store = options.store ?? openMemoryStore();
  const keys = generateKeyPairSync('ec', {
    namedCurve: 'P-256',
    publicKeyEncoding: { type: 'spki', format: 'pem' },
    privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
  });
  const server = await startApiServer({
    store,
    tls: await authority.issue({ commonName: 'kube-apiserver', hosts: ['localhost', 'kubernetes'], addresses: ['127.0.0.1'], server: true }),
    clientCa: authority.cert,
    serviceAccount: { issuer: 'https://kubernetes.default.svc', privateKey: keys.privateKey, publicKeys: [keys.publicKey] },
    serviceCidr: '10.96.0.0/16',
    log: pino({ level: process.env['KUMULUS_TEST_LOG'] ?? 'fatal' }),
    ...options,
  });
  await server.ready;
  const admin = await authority.issue({ commonName: 'kubernetes-admin', organizations: ['system:masters'] });
  const base64 = (text: string) => Buffer.from(text).toString('base64');
  return {
    ...server,
    store,
    ca: authority.cert,
    authority,
    admin,
    kubeconfig(user) {
      const credentials =
        'token' in user ? { token: user.token } : { 'client-certificate-data': base64(user.cert), 'client-key-data': base64(user.key) };
      return JSON.stringify({
        apiVersion: 'v1',
        kind: 'Config',
        clusters: [{ name: 'test', cluster: { server: server.address, 'certificate-authority-data': base64(authority.cert) } }],
        users: [{ name: 'user', user: credentials }],
        contexts: [{ name: 'test', context: { cluster: 'test', user: 'user' } }],
        'current-context': 'test',
      });
    },
    async stop(graceMs, delayMs) {
      await server.stop(graceMs ?? 100, delayMs);
      if (!options.store) await store.close();
    },
  };
}

export interface TestAnswer {
  status: number;
  headers: Record<string, string | string[] | undefined>;
  body: Buffer;
  /** The body as JSON. */
  json: any;
}

export interface TestRequest {
  method?: string;
  path: string;
  headers?: Record<string, string>;
  body?: string | Buffer;
  /** Client certificate; none is sent where left out. */
  user?: { cert: string; key: string };
}

/** One request over HTTP/1.1. */
export function requestOverHttp1(server: TestServer, o: TestRequest): Promise<TestAnswer> {
  return new Promise((resolve, reject) => {
    const request = httpsRequest(
      {
        host: '127.0.0.1',
        port: server.port,
        method: o.method ?? 'GET',
        path: o.path,
        headers: o.headers ?? {},
        ca: server.ca,
        agent: false,
        ...o.user,
      },
      (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('end', () => resolve(answerOf(response.statusCode ?? 0, response.headers, Buffer.concat(chunks))));
        response.on('error', reject);
      },
    );
    request.on('error', reject);
    request.end(o.body);
  });
}

/** One request over HTTP/2, on a connection of its own. */
export function requestOverHttp2(server: TestServer, o: TestRequest): Promise<TestAnswer> {
  return new Promise((resolve, reject) => {
    const session = http2Connect(`https://127.0.0.1:${server.port}`, { ca: server.ca, ...o.user });
    session.on('error', reject);
    const stream = session.request({ ':method': o.method ?? 'GET', ':path': o.path, ...o.headers }, { endStream: o.body === undefined });
    let head: Record<string, any> = {};
    const chunks: Buffer[] = [];
    stream.on('response', (headers) => {
      head = headers;
    });
    stream.on('data', (chunk: Buffer) => chunks.push(chunk));
    stream.on('error', reject);
    stream.on('end', () => {
      session.close();
      resolve(answerOf(head[':status'] ?? 0, head, Buffer.concat(chunks)));
    });
    if (o.body !== undefined) stream.end(o.body);
  });
}

function answerOf(status: number, headers: TestAnswer['headers'], body: Buffer): TestAnswer {
  return {
    status,
    headers,
    body,
    get json() {
      return JSON.parse(body.toString('utf8'));
    },
  };
}

/** kubectl 1.37 from the tools' cache or PATH: another version speaks otherwise. */
export async function findKubectl(): Promise<string> {
  const tools = process.env['KUMULUS_TOOLS'] ?? join(homedir(), '.cache/kumulus-tools');
  const candidates = [join(tools, 'bin/kubectl'), ...(process.env['PATH'] ?? '').split(delimiter).map((dir) => join(dir, 'kubectl'))];
  for (const candidate of candidates) {
    if (!existsSync(candidate)) continue;
    const { stdout } = await promisify(execFile)(candidate, ['version', '--client', '-o', 'json']);
    if (JSON.parse(stdout).clientVersion.gitVersion.startsWith('v1.37.')) return candidate;
  }
  throw new Error('these tests need kubectl 1.37 in PATH or in ~/.cache/kumulus-tools/bin');
}
