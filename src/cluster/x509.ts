import { createHash, createPrivateKey, generateKeyPair, type KeyObject, randomBytes, sign, X509Certificate } from 'node:crypto';
import { isIPv4 } from 'node:net';
import { promisify } from 'node:util';

/*
 * Certificates as a cluster has them (RFC 5280), written in DER. Every cluster starts with some, and the libraries for it take longer to
 * load than a program should wait for its API; requests of others are parsed by one (src/controllers/certificates).
 */

const SEQUENCE = 0x30;
const SET = 0x31;
const context = (n: number, constructed: boolean) => (constructed ? 0xa0 : 0x80) | n;

function der(tag: number, ...contents: Uint8Array[]): Buffer {
  const content = Buffer.concat(contents);
  const { length } = content;
  if (length < 0x80) return Buffer.concat([Buffer.from([tag, length]), content]);
  const bytes = length < 0x100 ? [length] : [length >> 8, length & 0xff];
  return Buffer.concat([Buffer.from([tag, 0x80 | bytes.length, ...bytes]), content]);
}
const sequence = (...contents: Uint8Array[]) => der(SEQUENCE, ...contents);
const bits = (content: Uint8Array, unused = 0) => der(0x03, Buffer.from([unused]), content);
const octets = (content: Uint8Array) => der(0x04, content);
const yes = der(0x01, Buffer.from([0xff]));

function oid(text: string): Buffer {
  const [a = 0, b = 0, ...rest] = text.split('.').map(Number);
  const bytes = [a * 40 + b];
  for (const part of rest) {
    const groups = [part & 0x7f];
    for (let n = Math.floor(part / 128); n > 0; n = Math.floor(n / 128)) groups.unshift((n & 0x7f) | 0x80);
    bytes.push(...groups);
  }
  return der(0x06, Buffer.from(bytes));
}

/** UTCTime up to 2049, GeneralizedTime from then on. */
function time(at: Date): Buffer {
  const digits = at.toISOString().replace(/\D/g, '').slice(0, 14);
  return at.getUTCFullYear() < 2050 ? der(0x17, Buffer.from(`${digits.slice(2)}Z`)) : der(0x18, Buffer.from(`${digits}Z`));
}

interface Element {
  tag: number;
  /** Header and content. */
  whole: Buffer;
  content: Buffer;
}

/** What stands one after the other in DER that OpenSSL has taken already. */
function elements(bytes: Buffer): Element[] {
  const found: Element[] = [];
  for (let at = 0; at < bytes.length; ) {
    let length = bytes[at + 1] as number;
    let header = 2;
    if (length & 0x80) {
      header += length & 0x7f;
      length = bytes.readUIntBE(at + 2, length & 0x7f);
    }
    const end = at + header + length;
    found.push({ tag: bytes[at] as number, whole: bytes.subarray(at, end), content: bytes.subarray(at + header, end) });
    at = end;
  }
  return found;
}
const inside = (bytes: Buffer) => elements(elements(bytes)[0]?.content ?? Buffer.alloc(0));

export interface Name {
  commonName: string;
  organizations?: string[];
}

function nameOf({ commonName, organizations = [] }: Name): Buffer {
  const attribute = (type: string, value: string) => der(SET, sequence(oid(type), der(0x0c, Buffer.from(value))));
  return sequence(...organizations.map((one) => attribute('2.5.4.10', one)), attribute('2.5.4.3', commonName));
}

const extension = (id: string, critical: boolean, value: Uint8Array) => sequence(oid(id), ...(critical ? [yes] : []), octets(value));

/** Bits of KeyUsage, the first of which is the highest. */
const usages = { digitalSignature: 0x80, keyEncipherment: 0x20, keyCertSign: 0x04 };

function keyUsage(...names: (keyof typeof usages)[]): Buffer {
  const value = names.reduce((sum, name) => sum | usages[name], 0);
  const unused = 31 - Math.clz32(value & -value);
  return extension('2.5.29.15', true, bits(Buffer.from([value]), unused));
}

const purposes = { server: '1.3.6.1.5.5.7.3.1', client: '1.3.6.1.5.5.7.3.2' };

/** SHA-1 of the key, as RFC 5280 proposes. */
const keyId = (spki: Buffer): Buffer => {
  const key = inside(spki)[1]?.content.subarray(1) ?? Buffer.alloc(0);
  return createHash('sha1').update(key).digest();
};

function addressBytes(ip: string): Buffer {
  if (isIPv4(ip)) return Buffer.from(ip.split('.').map(Number));
  const [head = '', tail] = ip.split('::');
  const groups = (text: string | undefined) => (text ? text.split(':') : []);
  const [before, after] = [groups(head), groups(tail)];
  const zeros = Array(8 - before.length - after.length).fill('0');
  return Buffer.from([...before, ...zeros, ...after].map((group) => group.padStart(4, '0')).join(''), 'hex');
}

const newKeys = promisify(generateKeyPair) as unknown as (type: 'ec', o: { namedCurve: string }) => Promise<{ publicKey: KeyObject; privateKey: KeyObject }>;

interface Contents {
  issuer: Buffer;
  subject: Buffer;
  days: number;
  spki: Buffer;
  extensions: Buffer[];
}

/** PEM. The algorithm follows from the key that signs. */
function certificate({ issuer, subject, days, spki, extensions }: Contents, signer: KeyObject): string {
  const rsa = signer.asymmetricKeyType === 'rsa';
  const algorithm = rsa ? sequence(oid('1.2.840.113549.1.1.11'), der(0x05)) : sequence(oid('1.2.840.10045.4.3.2'));
  const serial = randomBytes(16);
  // Positive, and of sixteen bytes.
  serial[0] = ((serial[0] as number) & 0x7f) | 0x40;
  const now = Date.now();
  const body = sequence(
    der(context(0, true), der(0x02, Buffer.from([2]))),
    der(0x02, serial),
    algorithm,
    issuer,
    // For clocks that lag.
    sequence(time(new Date(now - 300_000)), time(new Date(now + days * 86_400_000))),
    subject,
    spki,
    der(context(3, true), sequence(...extensions)),
  );
  const whole = sequence(body, algorithm, bits(sign('sha256', body, signer)));
  const lines = whole.toString('base64').match(/.{1,64}/g) ?? [];
  return `-----BEGIN CERTIFICATE-----\n${lines.join('\n')}\n-----END CERTIFICATE-----\n`;
}

export interface KeyPair {
  /** PEM. */
  cert: string;
  key: string;
}

const pem = (key: KeyObject) => key.export({ type: 'pkcs8', format: 'pem' }) as string;

/** A new authority with a P-256 key. */
export async function makeAuthority(name: Name, days: number): Promise<KeyPair> {
  const { publicKey, privateKey } = await newKeys('ec', { namedCurve: 'P-256' });
  const spki = publicKey.export({ type: 'spki', format: 'der' });
  const subject = nameOf(name);
  const extensions = [
    extension('2.5.29.19', true, sequence(yes)),
    keyUsage('keyCertSign', 'digitalSignature', 'keyEncipherment'),
    extension('2.5.29.14', false, octets(keyId(spki))),
  ];
  return { cert: certificate({ issuer: subject, subject, days, spki, extensions }, privateKey), key: pem(privateKey) };
}

export interface LeafRequest extends Name {
  dnsNames?: string[];
  ips?: string[];
  usage: 'server' | 'client';
}

/** A certificate of this authority, whose key may be of any kind, with a fresh P-256 key. */
export async function makeLeaf(authority: KeyPair, request: LeafRequest, days: number): Promise<KeyPair> {
  const { publicKey, privateKey } = await newKeys('ec', { namedCurve: 'P-256' });
  const { subject: issuer, keyId: authorityKeyId } = identityOf(authority.cert);
  const names = [
    ...(request.dnsNames ?? []).map((name) => der(context(2, false), Buffer.from(name))),
    ...(request.ips ?? []).map((ip) => der(context(7, false), addressBytes(ip))),
  ];
  const extensions = [
    extension('2.5.29.19', true, sequence()),
    keyUsage('digitalSignature', 'keyEncipherment'),
    extension('2.5.29.37', false, sequence(oid(purposes[request.usage]))),
    extension('2.5.29.35', false, sequence(der(context(0, false), authorityKeyId))),
    ...(names.length ? [extension('2.5.29.17', false, sequence(...names))] : []),
  ];
  const spki = publicKey.export({ type: 'spki', format: 'der' });
  const contents = { issuer, subject: nameOf(request), days, spki, extensions };
  return { cert: certificate(contents, createPrivateKey(authority.key)), key: pem(privateKey) };
}

/** How an authority is named in what it issues: its subject in DER, and the key id that it gives itself. */
function identityOf(cert: string): { subject: Buffer; keyId: Buffer } {
  const { raw, publicKey } = new X509Certificate(cert);
  const [body] = inside(raw);
  const fields = elements((body as Element).content).filter((one) => one.tag !== context(0, true));
  const subject = fields[4]?.whole ?? Buffer.alloc(0);
  const given = fields.find((one) => one.tag === context(3, true));
  const id = oid('2.5.29.14');
  for (const one of given ? inside(given.content) : []) {
    const parts = elements(one.content);
    if (parts[0]?.whole.equals(id)) return { subject, keyId: elements(parts.at(-1)?.content ?? Buffer.alloc(0))[0]?.content ?? Buffer.alloc(0) };
  }
  return { subject, keyId: keyId(publicKey.export({ type: 'spki', format: 'der' })) };
}
