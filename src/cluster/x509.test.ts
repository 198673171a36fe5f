import 'reflect-metadata';
import { createPrivateKey, webcrypto, X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { connect, createServer } from 'node:tls';
import * as x509 from '@peculiar/x509';
import { describe, expect, test } from 'vitest';
import { type KeyPair, makeAuthority, makeLeaf } from './x509.ts';

const day = 86_400_000;
const server = { commonName: 'kube-apiserver', dnsNames: ['localhost', 'a.example'], ips: ['127.0.0.1', '::1', '2001:db8::7'], usage: 'server' as const };

/** An authority as another tool made it: with its own name, key id and kind of key. */
async function foreignAuthority(signingAlgorithm: { name: string; hash: string } & Record<string, unknown>): Promise<KeyPair> {
  const generated = (await webcrypto.subtle.generateKey(signingAlgorithm as never, true, ['sign', 'verify'])) as webcrypto.CryptoKeyPair;
  const cert = await x509.X509CertificateGenerator.createSelfSigned({
    name: 'C=DE, O=Others, CN=their ca',
    notAfter: new Date(Date.now() + 9 * day),
    signingAlgorithm,
    keys: generated as never,
    extensions: [
      new x509.BasicConstraintsExtension(true, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign, true),
      new x509.SubjectKeyIdentifierExtension('0102030405'),
    ],
  });
  const der = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', generated.privateKey));
  return { cert: cert.toString('pem'), key: x509.PemConverter.encode(der, 'PRIVATE KEY') };
}
const rsa = { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256', modulusLength: 2048, publicExponent: new Uint8Array([1, 0, 1]) };
const p384 = { name: 'ECDSA', namedCurve: 'P-384', hash: 'SHA-384' };

/** What a server with this certificate says to a client that trusts the authority; rejects with OpenSSL's reason where it does not. */
async function greeting(ca: KeyPair, leaf: KeyPair, client: KeyPair, servername: string): Promise<string> {
  const listening = createServer({ ...leaf, ca: ca.cert, requestCert: true, rejectUnauthorized: true }, (socket) => {
    socket.on('error', () => {});
    socket.end(`hello ${socket.getPeerCertificate().subject.CN}`);
  });
  listening.on('tlsClientError', () => {});
  listening.listen(0, '127.0.0.1');
  await once(listening, 'listening');
  const { port } = listening.address() as { port: number };
  const socket = connect({ host: '127.0.0.1', port, ca: ca.cert, ...client, servername });
  try {
    const [said] = await once(socket, 'data');
    return String(said);
  } finally {
    socket.destroy();
    listening.close();
  }
}

test('an authority says what it is, and for how long', async () => {
  const ca = await makeAuthority({ commonName: 'kubernetes' }, 3650);
  const cert = new X509Certificate(ca.cert);
  expect(cert).toMatchObject({ ca: true, subject: 'CN=kubernetes', issuer: 'CN=kubernetes' });
  expect(cert.verify(cert.publicKey)).toBe(true);
  expect(cert.checkPrivateKey(createPrivateKey(ca.key))).toBe(true);
  const left = Date.parse(cert.validTo) - Date.now();
  expect(Math.abs(left - 3650 * day)).toBeLessThan(3600_000);
  const parsed = new x509.X509Certificate(ca.cert);
  const usage = parsed.getExtension(x509.KeyUsagesExtension);
  expect(usage?.critical).toBe(true);
  expect(usage?.usages).toBe(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.digitalSignature | x509.KeyUsageFlags.keyEncipherment);
  const id = await x509.SubjectKeyIdentifierExtension.create(parsed.publicKey);
  expect(parsed.getExtension(x509.SubjectKeyIdentifierExtension)?.keyId).toBe(id.keyId);
  // Beyond 2049 the form of the time is another.
  expect(new Date(new X509Certificate((await makeAuthority({ commonName: 'x' }, 36_500)).cert).validTo).getUTCFullYear()).toBeGreaterThan(2100);
});

describe.each([
  ['of our own', () => makeAuthority({ commonName: 'kubernetes' }, 10)],
  ['with an RSA key and a key id of its own', () => foreignAuthority(rsa)],
  ['with a P-384 key', () => foreignAuthority(p384)],
])('by an authority %s', (_, open) => {
  test('certificates that OpenSSL verifies, with their names, for their purpose alone', async () => {
    const ca = await open();
    const leaf = await makeLeaf(ca, server, 365);
    const cert = new X509Certificate(leaf.cert);
    expect(cert.ca).toBe(false);
    expect(cert.checkIssued(new X509Certificate(ca.cert))).toBe(true);
    expect(cert.verify(new X509Certificate(ca.cert).publicKey)).toBe(true);
    expect(cert.checkPrivateKey(createPrivateKey(leaf.key))).toBe(true);
    for (const name of server.dnsNames) expect(cert.checkHost(name)).toBe(name);
    for (const ip of server.ips) expect(cert.checkIP(ip)).toBe(ip);
    expect(cert.checkHost('b.example')).toBeUndefined();
    const client = await makeLeaf(ca, { commonName: 'somebody', usage: 'client' }, 1);
    expect(await greeting(ca, leaf, client, 'localhost')).toBe('hello somebody');
    await expect(greeting(ca, leaf, client, 'b.example')).rejects.toThrow(/altnames/);
    await expect(greeting(ca, client, client, 'localhost')).rejects.toThrow(/purpose/);
  });
});

test('a client certificate has its organizations, no names, and serves as one over TLS', async () => {
  const ca = await makeAuthority({ commonName: 'kubernetes' }, 10);
  const client = await makeLeaf(ca, { commonName: 'käthe', organizations: ['system:masters', 'b'], usage: 'client' }, 1);
  expect(new X509Certificate(client.cert)).toMatchObject({ subject: 'O=system:masters\nO=b\nCN=käthe', subjectAltName: undefined });
  expect(await greeting(ca, await makeLeaf(ca, server, 1), client, 'localhost')).toBe('hello käthe');
});

test('serial numbers are positive and differ', async () => {
  const ca = await makeAuthority({ commonName: 'kubernetes' }, 10);
  const serials = await Promise.all(Array.from({ length: 50 }, async () => new X509Certificate((await makeLeaf(ca, server, 1)).cert).serialNumber));
  expect(new Set(serials).size).toBe(50);
  for (const serial of serials) expect(serial).toMatch(/^[4-7][0-9A-F]{31}$/);
});
