import { isIP, isIPv4 } from 'node:net';
import { t } from '../types.ts';
import { CelError, Opaque } from '../values.ts';
import { library } from './library.ts';

/** 4 or 16 bytes. */
function addressBytes(text: string): number[] | undefined {
  if (isIPv4(text)) return text.split('.').map(Number);
  if (isIP(text) !== 6 || text.includes('%')) return undefined;
  const plain = text.replace(/\d+\.\d+\.\d+\.\d+$/, (four) => {
    const [a = 0, b = 0, c = 0, d = 0] = four.split('.').map(Number);
    return `${((a << 8) | b).toString(16)}:${((c << 8) | d).toString(16)}`;
  });
  const [head = '', tail] = plain.split('::');
  const words = (s: string) => (s ? s.split(':').map((w) => Number.parseInt(w, 16)) : []);
  const left = words(head);
  const right = tail === undefined ? [] : words(tail);
  const all = tail === undefined ? left : [...left, ...new Array(8 - left.length - right.length).fill(0), ...right];
  return all.flatMap((w) => [w >> 8, w & 0xff]);
}

/** RFC 5952. */
function addressText(bytes: number[]): string {
  if (bytes.length === 4) return bytes.join('.');
  const words = Array.from({ length: 8 }, (_, i) => ((bytes[2 * i] as number) << 8) | (bytes[2 * i + 1] as number));
  let best = { at: -1, length: 1 };
  for (let i = 0; i < 8; i++) {
    let length = 0;
    while (i + length < 8 && words[i + length] === 0) length++;
    if (length > best.length) best = { at: i, length };
  }
  const hex = (list: number[]) => list.map((w) => w.toString(16)).join(':');
  if (best.at < 0) return hex(words);
  return `${hex(words.slice(0, best.at))}::${hex(words.slice(best.at + best.length))}`;
}

const mapped = (bytes: number[]): boolean =>
  bytes.length === 16 && bytes.slice(0, 10).every((b) => b === 0) && bytes[10] === 255 && bytes[11] === 255;

export class Ip extends Opaque {
  readonly type = t.opaque('net.IP');
  readonly bytes: number[];
  constructor(bytes: number[]) {
    super();
    this.bytes = bytes;
  }
  override equals(other: Opaque): boolean {
    return addressText(this.bytes) === addressText((other as Ip).bytes);
  }
}

export class Cidr extends Opaque {
  readonly type = t.opaque('net.CIDR');
  readonly bytes: number[];
  readonly bits: number;
  constructor(bytes: number[], bits: number) {
    super();
    this.bytes = bytes;
    this.bits = bits;
  }
  override equals(other: Opaque): boolean {
    return this.bits === (other as Cidr).bits && addressText(this.bytes) === addressText((other as Cidr).bytes);
  }
  masked(): Cidr {
    return new Cidr(
      this.bytes.map((b, i) => b & (0xff << Math.max(0, Math.min(8, 8 * (i + 1) - this.bits)))),
      this.bits,
    );
  }
  contains(bytes: number[]): boolean {
    if (bytes.length !== this.bytes.length) return false;
    const own = this.masked().bytes;
    return new Cidr(bytes, this.bits).masked().bytes.every((b, i) => b === own[i]);
  }
}

function parseIp(text: string): Ip | string {
  const bytes = addressBytes(text);
  if (!bytes)
    return text.includes('%') && isIP(text) === 6
      ? `IP address "${text}" with zone value is not allowed`
      : `IP Address ${JSON.stringify(text)} parse error during conversion from string: ParseAddr(${JSON.stringify(text)}): unable to parse IP`;
  if (mapped(bytes)) return `IPv4-mapped IPv6 address ${JSON.stringify(text)} is not allowed`;
  return new Ip(bytes);
}

function parseCidr(text: string): Cidr | string {
  const [address = '', bits = '', more] = text.split('/');
  const bytes = addressBytes(address);
  const wrong = `network address parse error during conversion from string: netip.ParsePrefix(${JSON.stringify(text)}): invalid prefix`;
  if (!bytes || more !== undefined || !/^(0|[1-9]\d{0,2})$/.test(bits) || Number(bits) > bytes.length * 8) return wrong;
  if (mapped(bytes)) return `IPv4-mapped IPv6 address ${JSON.stringify(address)} is not allowed`;
  return new Cidr(bytes, Number(bits));
}

function orFail<T>(parsed: T | string): T {
  if (typeof parsed === 'string') throw new CelError(parsed);
  return parsed;
}

const isLinkLocal = (b: number[]) => (b.length === 4 ? b[0] === 169 && b[1] === 254 : b[0] === 0xfe && ((b[1] as number) & 0xc0) === 0x80);
const isLinkLocalMulticast = (b: number[]) =>
  b.length === 4 ? b[0] === 224 && b[1] === 0 && b[2] === 0 : b[0] === 0xff && ((b[1] as number) & 0x0f) === 2;
const isLoopback = (b: number[]) => (b.length === 4 ? b[0] === 127 : b.slice(0, 15).every((x) => x === 0) && b[15] === 1);
const isMulticast = (b: number[]) => (b.length === 4 ? ((b[0] as number) & 0xf0) === 0xe0 : b[0] === 0xff);
const isUnspecified = (b: number[]) => b.every((x) => x === 0);
const isBroadcast = (b: number[]) => b.length === 4 && b.every((x) => x === 255);
const isGlobal = (b: number[]) => !isUnspecified(b) && !isBroadcast(b) && !isLoopback(b) && !isMulticast(b) && !isLinkLocal(b);
const containsCidr = (a: Cidr, b: Cidr) => a.bits <= b.bits && a.contains(b.bytes);

export const networkLibrary = library({
  ip: [
    ['string_to_ip', '(string) net.IP', (text: string) => orFail(parseIp(text))],
    ['cidr_ip', 'net.CIDR.() net.IP', (c: Cidr) => new Ip(c.bytes)],
  ],
  family: [['ip_family', 'net.IP.() int', (a: Ip) => (a.bytes.length === 4 ? 4n : 6n)]],
  'ip.isCanonical': [['ip_is_canonical', '(string) bool', (text: string) => addressText(orFail(parseIp(text)).bytes) === text]],
  isUnspecified: [['ip_is_unspecified', 'net.IP.() bool', (a: Ip) => isUnspecified(a.bytes)]],
  isLoopback: [['ip_is_loopback', 'net.IP.() bool', (a: Ip) => isLoopback(a.bytes)]],
  isLinkLocalMulticast: [['ip_is_link_local_multicast', 'net.IP.() bool', (a: Ip) => isLinkLocalMulticast(a.bytes)]],
  isLinkLocalUnicast: [['ip_is_link_local_unicast', 'net.IP.() bool', (a: Ip) => isLinkLocal(a.bytes)]],
  isGlobalUnicast: [['ip_is_global_unicast', 'net.IP.() bool', (a: Ip) => isGlobal(a.bytes)]],
  isIP: [
    ['is_ip', '(string) bool', (text: string) => typeof parseIp(text) !== 'string'],
    ['is_ip_family', '(string, int) bool', (text: string, family: bigint) => isFamily(text, family)],
  ],
  string: [
    ['ip_to_string', '(net.IP) string', (a: Ip) => addressText(a.bytes)],
    ['cidr_to_string', '(net.CIDR) string', (c: Cidr) => `${addressText(c.bytes)}/${c.bits}`],
  ],
  cidr: [['string_to_cidr', '(string) net.CIDR', (text: string) => orFail(parseCidr(text))]],
  isCIDR: [['is_cidr', '(string) bool', (text: string) => typeof parseCidr(text) !== 'string']],
  containsIP: [
    ['cidr_contains_ip_string', 'net.CIDR.(string) bool', (c: Cidr, text: string) => c.contains(orFail(parseIp(text)).bytes)],
    ['cidr_contains_ip_ip', 'net.CIDR.(net.IP) bool', (c: Cidr, a: Ip) => c.contains(a.bytes)],
  ],
  containsCIDR: [
    ['cidr_contains_cidr_string', 'net.CIDR.(string) bool', (c: Cidr, text: string) => containsCidr(c, orFail(parseCidr(text)))],
    ['cidr_contains_cidr', 'net.CIDR.(net.CIDR) bool', containsCidr],
  ],
  prefixLength: [['cidr_prefix_length', 'net.CIDR.() int', (c: Cidr) => BigInt(c.bits)]],
  masked: [['cidr_masked', 'net.CIDR.() net.CIDR', (c: Cidr) => c.masked()]],
});

function isFamily(text: string, family: bigint): boolean {
  const parsed = parseIp(text);
  return typeof parsed !== 'string' && parsed.bytes.length === (family === 4n ? 4 : 16);
}
