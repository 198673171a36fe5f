/** An IPv4 block, as `10.244.1.0/24`. */
export interface Block {
  cidr: string;
  /** Its first address, as a number. */
  base: number;
  prefix: number;
  size: number;
}

export function parseAddress(text: string): number | undefined {
  const m = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text);
  const parts = m?.slice(1).map(Number);
  if (!parts || parts.some((p) => p > 255)) return undefined;
  return parts.reduce((n, p) => n * 256 + p, 0);
}

export const formatAddress = (n: number): string => [24, 16, 8, 0].map((shift) => (n >>> shift) & 255).join('.');

/** The text in canonical form: `10.244.1.7/24` is 10.244.1.0/24. Undefined where it is not an IPv4 block. */
export function parseBlock(cidr: string): Block | undefined {
  const [address, prefixText, ...rest] = cidr.split('/');
  const n = parseAddress(address ?? '');
  if (n === undefined || !/^\d{1,2}$/.test(prefixText ?? '') || rest.length) return undefined;
  const prefix = Number(prefixText);
  if (prefix > 32) return undefined;
  const size = 2 ** (32 - prefix);
  const base = n - (n % size);
  return { cidr: `${formatAddress(base)}/${prefix}`, base, prefix, size };
}

/** A hardware address that follows from the IPv4 address: whoever takes an address over is found where it was cached. */
export const hardwareAddress = (ip: string): string =>
  `0a:58:${ip
    .split('.')
    .map((p) => Number(p).toString(16).padStart(2, '0'))
    .join(':')}`;
