import 'reflect-metadata';
import { ExtendedKeyUsageExtension, Pkcs10CertificateRequestGenerator, SubjectAlternativeNameExtension } from '@peculiar/x509';
import { createHash, type webcrypto } from 'node:crypto';
import { resources } from '../api/generated/resources.ts';
import type { CertificateSigningRequest } from '../api/generated/types.ts';
import { isAlreadyExists } from '../api/errors.ts';
import type { Client } from '../client/client.ts';

export interface KeyPair {
  keys: webcrypto.CryptoKeyPair;
  /** PKCS #8. */
  pem: string;
}
const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };

const pemOf = (label: string, der: Uint8Array): string =>
  `-----BEGIN ${label}-----\n${Buffer.from(der)
    .toString('base64')
    .match(/.{1,64}/g)!
    .join('\n')}\n-----END ${label}-----\n`;

export async function newKey(): Promise<KeyPair> {
  const keys = (await crypto.subtle.generateKey(algorithm, true, ['sign', 'verify'])) as webcrypto.CryptoKeyPair;
  return { keys, pem: pemOf('PRIVATE KEY', new Uint8Array(await crypto.subtle.exportKey('pkcs8', keys.privateKey))) };
}

export interface CsrRequest {
  client: Client;
  signerName: 'kubernetes.io/kube-apiserver-client-kubelet' | 'kubernetes.io/kubelet-serving';
  nodeName: string;
  key: KeyPair;
  /** Subject alternative names; serving certificates only. */
  names?: { dns: string[]; ips: string[] };
  signal: AbortSignal;
}

/** Asks the cluster for a certificate for this node and waits until it is issued. Resolves to PEM; rejects when denied or failed. */
export async function requestCertificate(o: CsrRequest): Promise<string> {
  const serving = o.signerName === 'kubernetes.io/kubelet-serving';
  const names = [
    ...(o.names?.dns ?? []).map((value) => ({ type: 'dns' as const, value })),
    ...(o.names?.ips ?? []).map((value) => ({ type: 'ip' as const, value })),
  ];
  const csr = await Pkcs10CertificateRequestGenerator.create({
    name: [{ O: ['system:nodes'] }, { CN: [`system:node:${o.nodeName}`] }],
    keys: o.key.keys as never,
    signingAlgorithm: algorithm,
    extensions: [
      ...(names.length > 0 ? [new SubjectAlternativeNameExtension(names)] : []),
      ...(serving ? [new ExtendedKeyUsageExtension(['1.3.6.1.5.5.7.3.1'])] : []),
    ],
  });
  const pem = `${csr.toString('pem')}\n`;
  // One key, one request: asked again after a restart it is the same object.
  const digest = createHash('sha256')
    .update(new Uint8Array(csr.publicKey.rawData))
    .digest('base64url')
    .toLowerCase()
    .replace(/[^a-z0-9]/g, 'x');
  const name = serving ? `csr-${digest.slice(0, 10)}` : `node-csr-${digest}`;
  const body: CertificateSigningRequest['spec'] = {
    request: Buffer.from(pem).toString('base64'),
    signerName: o.signerName,
    usages: ['digital signature', serving ? 'server auth' : 'client auth'],
  };
  await o.client.create(resources.certificatesigningrequests, { metadata: { name }, spec: body }, { signal: o.signal }).catch((error: unknown) => {
    if (!isAlreadyExists(error)) throw error;
  });
  return waitForCertificate(o.client, name, o.signal);
}

async function waitForCertificate(client: Client, name: string, signal: AbortSignal): Promise<string> {
  const type = resources.certificatesigningrequests;
  while (true) {
    signal.throwIfAborted();
    const list = await client.list(type, { fieldSelector: `metadata.name=${name}`, signal });
    const now = list.items[0] && outcome(list.items[0]);
    if (now) return now;
    for await (const event of client.watch(type, {
      fieldSelector: `metadata.name=${name}`,
      resourceVersion: list.metadata.resourceVersion,
      signal,
    })) {
      if (event.type === 'ERROR') break;
      if (event.type === 'DELETED') throw new Error(`certificate signing request ${name} was deleted before it was signed`);
      const found = event.type !== 'BOOKMARK' && outcome(event.object);
      if (found) return found;
    }
  }
}

function outcome(csr: CertificateSigningRequest): string | undefined {
  for (const condition of csr.status?.conditions ?? [])
    if (condition.type === 'Denied' || condition.type === 'Failed')
      throw new Error(
        `certificate signing request ${csr.metadata.name} is ${condition.type.toLowerCase()}: ${condition.reason ?? ''} ${condition.message ?? ''}`,
      );
  return csr.status?.certificate ? Buffer.from(csr.status.certificate, 'base64').toString('utf8') : undefined;
}
