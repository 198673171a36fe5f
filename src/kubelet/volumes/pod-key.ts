import { generateKeyPair, type KeyObject, sign } from 'node:crypto';
import { promisify } from 'node:util';

const generate = promisify(generateKeyPair);

export interface PodKey {
  /** PKCS #8, PEM. */
  privateKey: string;
  /** A PKCS #10 request without a subject, base64 of its DER: it proves who has the key, and no more. */
  stubRequest: string;
}

/** How each key type signs: the DER of the AlgorithmIdentifier, and the hash (Ed25519 has its own). */
const ecdsa = (last: number) => Buffer.from([0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, last]);
const rsaSha256 = Buffer.from('300d06092a864886f70d01010b0500', 'hex');
const keyTypes: Record<string, { make(): Promise<{ privateKey: KeyObject; publicKey: KeyObject }>; algorithm: Buffer; hash: string | null }> = {
  RSA3072: { make: () => generate('rsa', { modulusLength: 3072 }), algorithm: rsaSha256, hash: 'sha256' },
  RSA4096: { make: () => generate('rsa', { modulusLength: 4096 }), algorithm: rsaSha256, hash: 'sha256' },
  ECDSAP256: { make: () => generate('ec', { namedCurve: 'P-256' }), algorithm: ecdsa(2), hash: 'sha256' },
  ECDSAP384: { make: () => generate('ec', { namedCurve: 'P-384' }), algorithm: ecdsa(3), hash: 'sha384' },
  ECDSAP521: { make: () => generate('ec', { namedCurve: 'P-521' }), algorithm: ecdsa(4), hash: 'sha512' },
  ED25519: { make: () => generate('ed25519'), algorithm: Buffer.from('300506032b6570', 'hex'), hash: null },
};

/** A new key of the type that a podCertificate source names, with the request that goes to the signer. */
export async function newPodKey(keyType: string): Promise<PodKey> {
  const type = keyTypes[keyType];
  if (!type) throw new Error(`unknown key type ${JSON.stringify(keyType)}`);
  const { privateKey, publicKey } = await type.make();
  // Version 0, an empty name, the public key, no attributes.
  const empty = [Buffer.from([0x02, 0x01, 0x00]), Buffer.from([0x30, 0x00])];
  const info = sequence(...empty, publicKey.export({ format: 'der', type: 'spki' }), Buffer.from([0xa0, 0x00]));
  const signature = sign(type.hash, info, privateKey);
  const request = sequence(info, type.algorithm, element(0x03, Buffer.concat([Buffer.from([0]), signature])));
  return { privateKey: privateKey.export({ format: 'pem', type: 'pkcs8' }) as string, stubRequest: request.toString('base64') };
}

const sequence = (...parts: Buffer[]): Buffer => element(0x30, Buffer.concat(parts));

/** DER: tag, length, content. */
function element(tag: number, content: Buffer): Buffer {
  const length: number[] = [];
  for (let rest = content.length; rest > 0; rest >>= 8) length.unshift(rest & 0xff);
  const head = content.length < 0x80 ? [content.length] : [0x80 | length.length, ...length];
  return Buffer.concat([Buffer.from([tag, ...head]), content]);
}
