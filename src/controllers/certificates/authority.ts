import 'reflect-metadata';
import { createPrivateKey, randomBytes, webcrypto } from 'node:crypto';
import * as x509 from '@peculiar/x509';

/** Certificates start this long before they are made, for clocks that lag. Milliseconds. */
const BACKDATE = 5 * 60_000;

const SUBJECT_ALT_NAME = '2.5.29.17';

const KEY_USAGES: Record<string, x509.KeyUsageFlags> = {
  signing: x509.KeyUsageFlags.digitalSignature,
  'digital signature': x509.KeyUsageFlags.digitalSignature,
  'content commitment': x509.KeyUsageFlags.nonRepudiation,
  'key encipherment': x509.KeyUsageFlags.keyEncipherment,
  'key agreement': x509.KeyUsageFlags.keyAgreement,
  'data encipherment': x509.KeyUsageFlags.dataEncipherment,
  'cert sign': x509.KeyUsageFlags.keyCertSign,
  'crl sign': x509.KeyUsageFlags.cRLSign,
  'encipher only': x509.KeyUsageFlags.encipherOnly,
  'decipher only': x509.KeyUsageFlags.decipherOnly,
};
const EXTENDED_USAGES: Record<string, string> = {
  any: '2.5.29.37.0',
  'server auth': x509.ExtendedKeyUsage.serverAuth,
  'client auth': x509.ExtendedKeyUsage.clientAuth,
  'code signing': x509.ExtendedKeyUsage.codeSigning,
  'email protection': x509.ExtendedKeyUsage.emailProtection,
  's/mime': x509.ExtendedKeyUsage.emailProtection,
  timestamping: x509.ExtendedKeyUsage.timeStamping,
  'ocsp signing': x509.ExtendedKeyUsage.ocspSigning,
};

/** A certificate authority that signs requests with the cluster's key. */
export class Authority {
  readonly #certificate: x509.X509Certificate;
  readonly #key: Promise<CryptoKeyLike>;
  readonly #algorithm: { name: string; hash: string; namedCurve?: string };

  /** Both PEM; the key EC (P-256, P-384, P-521) or RSA. Throws where it is neither. */
  constructor(certificate: string, privateKey: string) {
    this.#certificate = new x509.X509Certificate(certificate);
    const key = createPrivateKey(privateKey);
    const curves: Record<string, string> = { prime256v1: 'P-256', secp384r1: 'P-384', secp521r1: 'P-521' };
    if (key.asymmetricKeyType === 'ec') {
      this.#algorithm = { name: 'ECDSA', hash: 'SHA-256', namedCurve: curves[key.asymmetricKeyDetails?.namedCurve ?? ''] ?? 'P-256' };
    } else if (key.asymmetricKeyType === 'rsa') this.#algorithm = { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' };
    else throw new Error(`the CA's key is ${key.asymmetricKeyType}; it has to be EC or RSA`);
    const der = key.export({ format: 'der', type: 'pkcs8' });
    this.#key = webcrypto.subtle.importKey('pkcs8', der as Uint8Array<ArrayBuffer>, this.#algorithm, false, ['sign']) as Promise<CryptoKeyLike>;
  }

  /** A certificate (PEM) for the request's subject, names and key, valid for so many milliseconds from now, but no longer than the CA. */
  async sign(csr: x509.Pkcs10CertificateRequest, usages: readonly string[], duration: number, now: number): Promise<string> {
    const flags = usages.reduce((sum, usage) => sum | (KEY_USAGES[usage] ?? 0), 0);
    const extended = usages.map((usage) => EXTENDED_USAGES[usage]).filter((oid) => oid !== undefined);
    const san = csr.getExtension(SUBJECT_ALT_NAME);
    const certificate = await x509.X509CertificateGenerator.create({
      // A positive number of 128 bits.
      serialNumber: `7f${randomBytes(15).toString('hex')}`,
      subject: csr.subjectName,
      issuer: this.#certificate.subjectName,
      notBefore: new Date(now - BACKDATE),
      notAfter: new Date(Math.min(now + duration, this.#certificate.notAfter.getTime())),
      signingAlgorithm: this.#algorithm,
      publicKey: csr.publicKey,
      signingKey: (await this.#key) as never,
      extensions: [
        new x509.BasicConstraintsExtension(false, undefined, true),
        ...(flags ? [new x509.KeyUsagesExtension(flags, true)] : []),
        ...(extended.length ? [new x509.ExtendedKeyUsageExtension(extended)] : []),
        await x509.AuthorityKeyIdentifierExtension.create(this.#certificate),
        ...(san ? [san] : []),
      ],
    });
    return `${certificate.toString('pem').trim()}\n`;
  }
}

type CryptoKeyLike = webcrypto.CryptoKey;
