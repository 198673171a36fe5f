import { createPublicKey, type KeyObject, verify, X509Certificate } from 'node:crypto';
import { labelProblems, subdomainProblems } from '../validation.ts';
import type { Findings } from './findings.ts';

export interface PemBlock {
  type: string;
  der: Buffer;
  /** Lines such as `Proc-Type: 4,ENCRYPTED` stand before the bytes. */
  headers: boolean;
}

/** The PEM blocks of a text; what stands between them is no part of it. */
export function pemBlocks(text: string): PemBlock[] {
  const blocks: PemBlock[] = [];
  for (const [, type, body] of text.matchAll(/^-----BEGIN ([^\n]*)-----[ \t\r]*\n([\s\S]*?)^-----END \1-----[ \t\r]*$/gm)) {
    const headers = /^[^\n]*:/.test(body!);
    const base64 = headers ? body!.slice(body!.search(/\n[ \t\r]*\n/) + 1) : body!;
    blocks.push({ type: type!, der: Buffer.from(base64.replace(/\s+/g, ''), 'base64'), headers });
  }
  return blocks;
}

/** Undefined where these bytes are no certificate. */
export function certificateOf(der: Buffer): X509Certificate | undefined {
  try {
    return new X509Certificate(der);
  } catch {
    return undefined;
  }
}

export interface CertificationRequest {
  key: KeyObject;
  /** The signature was made with the private key to `key`. */
  verified: boolean;
}

/** The hash of each signature algorithm, by the bytes of its object identifier. Ed25519 hashes by itself. */
const hashes = new Map<string, string | null>([
  ['2b6570', null],
  ['2a8648ce3d040302', 'sha256'],
  ['2a8648ce3d040303', 'sha384'],
  ['2a8648ce3d040304', 'sha512'],
  ['2a864886f70d01010b', 'sha256'],
  ['2a864886f70d01010c', 'sha384'],
  ['2a864886f70d01010d', 'sha512'],
]);

/** A PKCS #10 request: whose key it is about, and whether whoever made it has that key. Undefined where it does not parse. */
export function certificationRequest(der: Buffer): CertificationRequest | undefined {
  try {
    const [outer] = elements(der);
    const [info, algorithm, signature] = elements(outer!.content);
    const [, , publicKey] = elements(info!.content);
    const key = createPublicKey({ key: publicKey!.whole, format: 'der', type: 'spki' });
    const hash = hashes.get(elements(algorithm!.content)[0]!.content.toString('hex'));
    // The first byte of a bit string counts its unused bits.
    return { key, verified: hash !== undefined && verify(hash, info!.whole, key, signature!.content.subarray(1)) };
  } catch {
    return undefined;
  }
}

/** The DER elements that stand one after another in these bytes. */
function elements(bytes: Buffer): { whole: Buffer; content: Buffer }[] {
  const found: { whole: Buffer; content: Buffer }[] = [];
  for (let at = 0; at < bytes.length; ) {
    let length = bytes[at + 1] ?? 0;
    let start = at + 2;
    if (length & 0x80) {
      const count = length & 0x7f;
      length = bytes.readUIntBE(start, count);
      start += count;
    }
    if (start + length > bytes.length) throw new RangeError('an element reaches beyond its end');
    found.push({ whole: bytes.subarray(at, start + length), content: bytes.subarray(start, start + length) });
    at = start + length;
  }
  return found;
}

/** Signers of Kubernetes itself, for which narrower limits hold. */
export const isKubernetesSigner = (name: string): boolean => /(^|\.)kubernetes\.io$/.test(name.split('/')[0]!);

/** A signer's name: a domain and a path, as `example.com/signer`. */
export function validateSignerName(found: Findings, field: string, name: string): void {
  if (!name) return found.required(field);
  const segments = name.split('/');
  if (segments.length !== 2) return found.invalid(field, name, "must be a fully qualified domain and path of the form 'example.com/signer-name'");
  const [domain, path] = segments as [string, string];
  if (domain.length > 253) found.tooLong(field, 'may not be more than 253 bytes');
  const labels = domain.split('.');
  const first = (whole: string, parts: string[], check: (part: string) => string[]) => {
    const bad = parts.find((part) => check(part).length > 0);
    if (bad !== undefined) for (const detail of check(bad)) found.invalid(field, whole, `validating label ${JSON.stringify(bad)}: ${detail}`);
  };
  first(domain, labels, labelProblems);
  if (labels.length < 2) found.invalid(field, domain, 'should be a domain with at least two segments separated by dots');
  first(path, path.split('.'), subdomainProblems);
  if (name.length > 571) found.tooLong(field, 'may not be more than 571 bytes');
}
