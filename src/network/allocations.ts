import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { type Block, formatAddress, parseAddress, parseBlock } from './addresses.ts';

export interface HostPort {
  protocol: 'TCP' | 'UDP' | 'SCTP';
  containerPort: number;
  hostPort: number;
  hostIp?: string;
}

export interface Allocation {
  ip: string;
  ports: HostPort[];
}

interface Stored {
  version: 1;
  podCidr?: string;
  last?: string;
  sandboxes: Record<string, Allocation>;
}

/** Which sandbox has which address and host ports, kept in a file: containers outlive the process that gave them away. */
export class Allocations {
  readonly #path: string;
  readonly #sandboxes = new Map<string, Allocation>();
  readonly #taken = new Set<string>();
  #block: Block | undefined;
  #last = 1;
  #writing: Promise<void> | undefined;
  #dirty = false;

  private constructor(path: string) {
    this.#path = path;
  }

  /** Rejects where the file is there and cannot be read: giving addresses away twice would be worse. */
  static async open(path: string): Promise<Allocations> {
    const opened = new Allocations(path);
    await mkdir(dirname(path), { recursive: true, mode: 0o700 });
    const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return undefined;
      throw error;
    });
    if (text === undefined) return opened;
    let stored: Stored;
    try {
      stored = JSON.parse(text) as Stored;
    } catch (error) {
      throw new Error(`${path} is damaged (${(error as Error).message}); remove it once no pod runs on this node`);
    }
    if (stored.version !== 1) throw new Error(`${path} was written by another version (${String(stored.version)})`);
    if (stored.podCidr) opened.#block = parseBlock(stored.podCidr);
    if (opened.#block && stored.last) opened.#last = Math.max(1, (parseAddress(stored.last) ?? 0) - opened.#block.base);
    for (const [id, allocation] of Object.entries(stored.sandboxes)) {
      opened.#sandboxes.set(id, allocation);
      opened.#taken.add(allocation.ip);
    }
    return opened;
  }

  get block(): Block | undefined {
    return this.#block;
  }

  /** Only while nothing is allocated, or unchanged. */
  async setBlock(block: Block): Promise<void> {
    if (this.#block?.cidr === block.cidr) return;
    this.#block = block;
    this.#last = 1;
    await this.save();
  }

  get ids(): string[] {
    return [...this.#sandboxes.keys()];
  }

  get(id: string): Allocation | undefined {
    return this.#sandboxes.get(id);
  }

  /** Gives the next free address after the last one given, so that an address rests as long as can be before it is given again. */
  take(id: string): Allocation {
    const known = this.#sandboxes.get(id);
    if (known) return known;
    const block = this.#block as Block;
    // Neither the network's own address, nor the gateway's, nor the broadcast address.
    const usable = block.size - 3;
    for (let i = 0; i < usable; i++) {
      const offset = ((this.#last - 2 + 1 + i + usable) % usable) + 2;
      const ip = formatAddress(block.base + offset);
      if (this.#taken.has(ip)) continue;
      this.#last = offset;
      const allocation: Allocation = { ip, ports: [] };
      this.#sandboxes.set(id, allocation);
      this.#taken.add(ip);
      return allocation;
    }
    throw new Error(`no address is left in ${block.cidr}: ${this.#taken.size} are in use`);
  }

  free(id: string): void {
    const known = this.#sandboxes.get(id);
    if (known) this.#taken.delete(known.ip);
    this.#sandboxes.delete(id);
  }

  /** The sandbox that already has such a host port. */
  holderOf(port: HostPort, except: string): string | undefined {
    for (const [id, { ports }] of this.#sandboxes) {
      if (id === except) continue;
      const clash = (p: HostPort) =>
        p.protocol === port.protocol && p.hostPort === port.hostPort && (isAny(p.hostIp) || isAny(port.hostIp) || p.hostIp === port.hostIp);
      if (ports.some(clash)) return id;
    }
    return undefined;
  }

  /** Resolves when the file holds at least what is so now. Many at once cost two writes at most. */
  async save(): Promise<void> {
    this.#dirty = true;
    if (this.#writing) await this.#writing.catch(() => {});
    if (!this.#dirty) return this.#writing;
    this.#writing ??= this.#write().finally(() => {
      this.#writing = undefined;
    });
    return this.#writing;
  }

  async #write(): Promise<void> {
    this.#dirty = false;
    const stored: Stored = {
      version: 1,
      ...(this.#block ? { podCidr: this.#block.cidr, last: formatAddress(this.#block.base + this.#last) } : {}),
      sandboxes: Object.fromEntries(this.#sandboxes),
    };
    try {
      await writeFile(`${this.#path}.new`, JSON.stringify(stored), { mode: 0o600 });
      await rename(`${this.#path}.new`, this.#path);
    } catch (error) {
      this.#dirty = true;
      throw new Error(`cannot keep pod addresses in ${this.#path}: ${(error as Error).message}`, { cause: error });
    }
  }
}

export const isAny = (hostIp: string | undefined): boolean => !hostIp || hostIp === '0.0.0.0';
