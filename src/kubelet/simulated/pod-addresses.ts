/** The addresses of one node's pod range: the network's, the bridge's (.1) and the last are not given out. */
export class PodAddresses {
  readonly cidr: string;
  private readonly base: number;
  private readonly size: number;
  private next = 0;
  private readonly used = new Set<number>();

  constructor(cidr: string) {
    this.cidr = cidr;
    const [address = '', prefix = '24'] = cidr.split('/');
    this.base = address.split('.').reduce((sum, part) => sum * 256 + Number(part), 0);
    this.size = 2 ** (32 - Number(prefix)) - 3;
  }

  /** Undefined when all are taken. */
  take(): string | undefined {
    for (let tried = 0; tried < this.size; tried++) {
      const n = this.next;
      this.next = (this.next + 1) % this.size;
      if (this.used.has(n)) continue;
      this.used.add(n);
      const value = this.base + 2 + n;
      return [24, 16, 8, 0].map((shift) => Math.floor(value / 2 ** shift) % 256).join('.');
    }
    return undefined;
  }

  free(address: string): void {
    this.used.delete(this.offset(address));
  }

  /** Taken by a pod from before this process. */
  reserve(address: string): void {
    this.used.add(this.offset(address));
  }

  private offset(address: string): number {
    return address.split('.').reduce((sum, part) => sum * 256 + Number(part), 0) - this.base - 2;
  }
}
