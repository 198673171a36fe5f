import 'reflect-metadata';
import { BasicConstraintsExtension, type X509Certificate, X509CertificateGenerator } from '@peculiar/x509';
import type { webcrypto } from 'node:crypto';
import { resources } from '../../api/generated/resources.ts';
import type { PodCertificateRequest } from '../../api/generated/types.ts';
import type { Client } from '../../client/client.ts';
import { certificationRequest } from '../../api/kinds/certificates.ts';

const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
const hourMs = 3_600_000;

export interface PodSigner {
  /** PEM. */
  ca: string;
  /** Of requests not answered yet. */
  pending(): Promise<PodCertificateRequest[]>;
  /** Answers with a certificate for an hour. beginRefreshAt: milliseconds since the epoch. */
  issue(request: PodCertificateRequest, change?: Record<string, unknown>): Promise<PodCertificateRequest>;
  deny(request: PodCertificateRequest, message: string): Promise<void>;
}

/** An authority that answers PodCertificateRequests when a test tells it to. */
export async function newPodSigner(client: Client, name: string): Promise<PodSigner> {
  const keys = (await crypto.subtle.generateKey(algorithm, true, ['sign', 'verify'])) as webcrypto.CryptoKeyPair;
  const ca: X509Certificate = await X509CertificateGenerator.createSelfSigned({
    name: `CN=${name}`,
    notBefore: new Date(Date.now() - hourMs),
    notAfter: new Date(Date.now() + 240 * hourMs),
    keys: keys as never,
    signingAlgorithm: algorithm,
    extensions: [new BasicConstraintsExtension(true, undefined, true)],
  });
  const write = (request: PodCertificateRequest, status: object) =>
    client.update(resources.podcertificaterequests, { ...request, status } as PodCertificateRequest, { subresource: 'status' });
  const condition = (type: string, message: string) => [
    { type, status: 'True', reason: 'Tested', message, lastTransitionTime: new Date().toISOString().replace(/\.\d+/, '') },
  ];
  let serial = 1;
  return {
    ca: `${ca.toString('pem')}\n`,
    async pending() {
      const { items } = await client.list(resources.podcertificaterequests, {});
      return items.filter((r) => r.spec.signerName === name && !r.status?.conditions?.length);
    },
    async issue(request, change = {}) {
      const spki = certificationRequest(Buffer.from(request.spec.stubPKCS10Request, 'base64'))!.key.export({ format: 'der', type: 'spki' });
      const notBefore = new Date(Math.floor(Date.now() / 1000) * 1000);
      const notAfter = new Date(notBefore.getTime() + hourMs);
      const leaf = await X509CertificateGenerator.create({
        serialNumber: (++serial).toString(16).padStart(2, '0'),
        subject: `CN=${request.spec.podName}`,
        issuer: ca.subject,
        notBefore,
        notAfter,
        publicKey: await crypto.subtle.importKey('spki', spki as never, algorithm, true, ['verify']),
        signingKey: keys.privateKey as never,
        signingAlgorithm: algorithm,
      });
      const time = (date: Date) => date.toISOString().replace(/\.\d+/, '');
      return await write(request, {
        conditions: condition('Issued', ''),
        certificateChain: `# the pod's\n${leaf.toString('pem')}\n`,
        notBefore: time(notBefore),
        notAfter: time(notAfter),
        beginRefreshAt: time(new Date(notBefore.getTime() + hourMs / 2)),
        ...change,
      });
    },
    async deny(request, message) {
      await write(request, { conditions: condition('Denied', message) });
    },
  };
}
