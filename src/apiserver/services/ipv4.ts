/** Addresses of an IPv4 range, as numbers. The first is the network, the last the broadcast address: neither is given out. */
export interface Ipv4Range {
  base: number;
  size: number;
}

/** undefined for what is no IPv4 block. */
export function ipv4Range(cidr: string): Ipv4Range | undefined {
  const [address = '', bits = ''] = cidr.split('/');
  const base = parseIpv4(address);
  if (base === undefined || !/^\d{1,2}$/.test(bits) || Number(bits) > 32) return undefined;
  const size = 2 ** (32 - Number(bits));
  return { base: base - (base % size), size };
}

/** The range of a cluster's services. */
export function parseCidr(cidr: string): Ipv4Range {
  const range = ipv4Range(cidr);
  if (!range || range.size > 2 ** 24 || range.size < 4) throw new Error(`${cidr} is not an IPv4 range of /8 to /30`);
  return range;
}

export function parseIpv4(text: string): number | undefined {
  const parts = text.split('.');
  if (parts.length !== 4) return undefined;
  let value = 0;
  for (const part of parts) {
    if (!/^(0|[1-9]\d{0,2})$/.test(part) || Number(part) > 255) return undefined;
    value = value * 256 + Number(part);
  }
  return value;
}

export const formatIpv4 = (value: number): string => [24, 16, 8, 0].map((shift) => Math.floor(value / 2 ** shift) % 256).join('.');

/** Whether a service may have this address of the range. */
export const givesOut = ({ base, size }: Ipv4Range, address: number): boolean => address > base && address < base + size - 1;

/** The first address that services get: the API server's own. */
export const firstAddress = (cidr: string): string => formatIpv4(parseCidr(cidr).base + 1);
