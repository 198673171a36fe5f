/** IPv4 addresses as numbers, and CIDR blocks. */
export function toNumber(address: string): number {
  return address.split('.').reduce((sum, octet) => sum * 256 + Number(octet), 0);
}

export function toAddress(value: number): string {
  return [24, 16, 8, 0].map((shift) => Math.floor(value / 2 ** shift) % 256).join('.');
}

export interface Block {
  first: number;
  last: number;
  prefix: number;
}

export function parseBlock(cidr: string): Block {
  const [address, length] = cidr.split('/');
  const prefix = Number(length ?? 32);
  const size = 2 ** (32 - prefix);
  const first = Math.floor(toNumber(address) / size) * size;
  return { first, last: first + size - 1, prefix };
}

export function contains(cidr: string, address: string): boolean {
  const block = parseBlock(cidr);
  const value = toNumber(address);
  return value >= block.first && value <= block.last;
}

/** The nth address of a block: 1 is the router of a subnet, 2 the resolver of a VPC. */
export function nth(cidr: string, n: number): string {
  return toAddress(parseBlock(cidr).first + n);
}
