import { createCipheriv, createDecipheriv, createHmac, randomBytes } from 'node:crypto';
import { xsalsa20poly1305 } from '@noble/ciphers/salsa.js';

/** One way of writing values at rest. `key` is the key in the store: what binds to it cannot be moved elsewhere. */
export interface Provider {
  /** What stored values of this provider begin with; empty for plain ones. */
  prefix: string;
  encrypt(value: Buffer, key: string): Buffer | Promise<Buffer>;
  /** Of the bytes after the prefix. */
  decrypt(bytes: Buffer, key: string): Buffer | Promise<Buffer>;
  /** Whether a value that it wrote should be written anew, as after a change of its key. */
  isStale?(bytes: Buffer): boolean;
  close?(): void;
}

/** A named secret of 16, 24 or 32 bytes. */
export interface Key {
  name: string;
  secret: Buffer;
}

const tagBytes = 16;

/** Values as they are. */
export const identity: Provider = { prefix: '', encrypt: (value) => value, decrypt: (bytes) => bytes };

/** AES in CBC mode with PKCS #7 padding, the initialisation vector first. Does not bind to the key in the store. */
export function aesCbc({ name, secret }: Key): Provider {
  const algorithm = `aes-${secret.length * 8}-cbc`;
  return {
    prefix: `k8s:enc:aescbc:v1:${name}:`,
    encrypt(value) {
      const iv = randomBytes(16);
      const cipher = createCipheriv(algorithm, secret, iv);
      return Buffer.concat([iv, cipher.update(value), cipher.final()]);
    },
    decrypt(bytes) {
      const decipher = createDecipheriv(algorithm, secret, bytes.subarray(0, 16));
      return Buffer.concat([decipher.update(bytes.subarray(16)), decipher.final()]);
    },
  };
}

function sealGcm(secret: Buffer, value: Buffer, key: string): Buffer {
  const nonce = randomBytes(12);
  const cipher = createCipheriv(`aes-${secret.length * 8}-gcm` as 'aes-256-gcm', secret, nonce);
  cipher.setAAD(Buffer.from(key));
  return Buffer.concat([nonce, cipher.update(value), cipher.final(), cipher.getAuthTag()]);
}

function openGcm(secret: Buffer, bytes: Buffer, key: string): Buffer {
  if (bytes.length < 12 + tagBytes) throw new Error('the stored data was shorter than the required size');
  const decipher = createDecipheriv(`aes-${secret.length * 8}-gcm` as 'aes-256-gcm', secret, bytes.subarray(0, 12));
  decipher.setAAD(Buffer.from(key));
  decipher.setAuthTag(bytes.subarray(bytes.length - tagBytes));
  return Buffer.concat([decipher.update(bytes.subarray(12, bytes.length - tagBytes)), decipher.final()]);
}

/** AES in GCM with a random nonce: a key is good for about 2^32 writes and must be rotated by then. */
export const aesGcm = ({ name, secret }: Key): Provider => ({
  prefix: `k8s:enc:aesgcm:v1:${name}:`,
  encrypt: (value, key) => sealGcm(secret, value, key),
  decrypt: (bytes, key) => openGcm(secret, bytes, key),
});

/** XSalsa20 and Poly1305; the secret has 32 bytes. Does not bind to the key in the store. */
export const secretbox = ({ name, secret }: Key): Provider => ({
  prefix: `k8s:enc:secretbox:v1:${name}:`,
  encrypt(value) {
    const nonce = randomBytes(24);
    return Buffer.concat([nonce, xsalsa20poly1305(secret, nonce).encrypt(value)]);
  },
  decrypt: (bytes) => Buffer.from(xsalsa20poly1305(secret, bytes.subarray(0, 24)).decrypt(bytes.subarray(24))),
});

const infoBytes = 32;

/** A key for one write, derived from a seed: HKDF-Expand with SHA-256, of which one block is enough. */
const derived = (seed: Buffer, info: Buffer) => createHmac('sha256', seed).update(info).update(Buffer.from([1])).digest();

/** AES-GCM with a key of its own for each write: info (32 bytes), nonce (12), sealed value. */
export function sealWithSeed(seed: Buffer, value: Buffer, key: string): Buffer {
  const info = randomBytes(infoBytes);
  return Buffer.concat([info, sealGcm(derived(seed, info), value, key)]);
}

export function openWithSeed(seed: Buffer, bytes: Buffer, key: string): Buffer {
  if (bytes.length < infoBytes) throw new Error('the stored data was shorter than the required size');
  return openGcm(derived(seed, bytes.subarray(0, infoBytes)), bytes.subarray(infoBytes), key);
}
