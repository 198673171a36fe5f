import { randomUUID } from 'node:crypto';
import type { Service } from '../../api/generated/types.ts';
import { internalError, timeout } from '../../api/errors.ts';
import { decodeProtobuf } from '../../api/protobuf.ts';
import type { Logger } from 'pino';
import type { Store, TransactionResult } from '../../store/store.ts';
import type { ResourceCache } from '../storage/cache.ts';
import type { CacheHub } from '../storage/hub.ts';
import { freePlace, type NodePorts, nodePortsOf } from './node-ports.ts';

/** Where upstream's API server keeps it: a RangeAllocation whose data is a big-endian number with a bit for each port. */
export const nodePortsKey = '/registry/ranges/servicenodeports';
const attempts = 100;
/** How often a repair must find a port unused before it is given back: its service may be about to be written. */
const repairsBeforeCleanup = 3;

interface Known {
  taken: Uint8Array;
  range: string;
  /** 0 where there is none yet. */
  revision: number;
}

interface Job {
  /** Changes `taken`, or leaves it; called again where someone else wrote in between. */
  apply(taken: Uint8Array): void;
  resolve(): void;
  reject(error: unknown): void;
}

/**
 * Node ports where several API servers, of ours or upstream's, write to one store: taken in one object by compare-and-swap.
 * What is asked for while a write is under way goes into the next one together.
 */
export class SharedNodePorts implements NodePorts {
  readonly range: readonly [number, number];
  #store: Store;
  #hub: CacheHub;
  #services: ResourceCache;
  #log: Logger;
  #known: Known | undefined;
  #queue: Job[] = [];
  #working = false;
  #unused = new Map<number, number>();

  constructor(hub: CacheHub, services: ResourceCache, range: readonly [number, number], log: Logger) {
    this.#store = hub.store;
    this.#hub = hub;
    this.#services = services;
    this.range = range;
    this.#log = log;
  }

  get #count(): number {
    return this.range[1] - this.range[0] + 1;
  }

  get #spec(): string {
    return `${this.range[0]}-${this.range[1]}`;
  }

  async isTaken(port: number): Promise<boolean> {
    const place = port - this.range[0];
    return (await this.#read()).taken[place] === 1;
  }

  async take(wanted?: number): Promise<number | undefined> {
    const [first] = this.range;
    let port: number | undefined;
    await this.#enqueue((taken) => {
      const place = wanted === undefined ? freePlace(this.#count, (i) => taken[i] === 1) : taken[wanted - first] === 1 ? undefined : wanted - first;
      port = place === undefined ? undefined : first + place;
      if (place !== undefined) taken[place] = 1;
    });
    return port;
  }

  giveBack(ports: number[]): Promise<void> {
    return this.release(ports);
  }

  written(): void {}

  /** What cannot be given back is left to the repair. */
  async release(ports: number[]): Promise<void> {
    const places = ports.map((port) => port - this.range[0]).filter((place) => place >= 0 && place < this.#count);
    if (places.length === 0) return;
    try {
      await this.#enqueue((taken) => {
        for (const place of places) taken[place] = 0;
      });
    } catch (error) {
      this.#log.warn({ err: error, ports }, 'node ports could not be given back');
    }
  }

  #enqueue(apply: Job['apply']): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#queue.push({ apply, resolve, reject });
      if (!this.#working) void this.#work();
    });
  }

  async #work(): Promise<void> {
    this.#working = true;
    // Whoever asks in the same turn is served by the same write.
    await Promise.resolve();
    while (this.#queue.length > 0) {
      const jobs = this.#queue.splice(0);
      try {
        await this.#write(jobs);
        for (const job of jobs) job.resolve();
      } catch (error) {
        this.#known = undefined;
        for (const job of jobs) job.reject(error);
      }
    }
    this.#working = false;
  }

  async #write(jobs: Job[]): Promise<void> {
    let current = this.#known;
    let fresh = false;
    for (let attempt = 0; attempt < attempts; attempt++) {
      if (!current) {
        current = await this.#read();
        fresh = true;
      }
      if (current.range !== this.#spec) {
        if (fresh) throw internalError('the provided range does not match the current range');
        current = undefined;
        continue;
      }
      const taken = current.taken.slice();
      for (const job of jobs) job.apply(taken);
      if (current.revision && Buffer.compare(taken, current.taken) === 0) {
        if (fresh) return;
        current = undefined;
        continue;
      }
      const result = await this.#put(taken, current.revision);
      if (result.succeeded) {
        this.#known = { taken, range: this.#spec, revision: result.revision };
        return;
      }
      const found = result.gets[0];
      current = found ? this.#decode(found.value, found.modRevision) : undefined;
      fresh = current !== undefined;
    }
    throw timeout(`node ports were changed by others in each of ${attempts} attempts to write them`);
  }

  #put(taken: Uint8Array, revision: number): Promise<TransactionResult> {
    // The uid makes each write another: after a lost answer the value tells whose it was.
    const object = {
      apiVersion: 'v1',
      kind: 'RangeAllocation',
      metadata: { uid: randomUUID(), creationTimestamp: null },
      range: this.#spec,
      data: bitmapOf(taken),
    };
    const value = Buffer.from(JSON.stringify(object));
    return this.#store.transaction(
      [{ key: nodePortsKey, modRevision: revision }],
      [{ type: 'put', key: nodePortsKey, value }],
      [{ type: 'get', key: nodePortsKey }],
    );
  }

  async #read(): Promise<Known> {
    const found = await this.#store.get(nodePortsKey);
    if (found) return this.#decode(found.value, found.modRevision);
    // Whoever is first begins with what services have; a second one's write fails on the comparison.
    await this.#hub.current();
    return { taken: this.#fromServices(), range: this.#spec, revision: 0 };
  }

  #decode(value: Buffer, revision: number): Known {
    const isProtobuf = value.length > 4 && value.readUInt32BE(0) === 0x6b387300;
    const object = (isProtobuf ? decodeProtobuf(value, 'io.k8s.api.core.v1.RangeAllocation') : JSON.parse(value.toString('utf8'))) as {
      range?: string;
      data?: string;
    };
    return { taken: placesOf(object.data ?? '', this.#count), range: object.range ?? '', revision };
  }

  #fromServices(): Uint8Array {
    const taken = new Uint8Array(this.#count);
    for (const { object } of this.#services.entries.values()) {
      for (const port of nodePortsOf(object as unknown as Service)) {
        const place = port - this.range[0];
        if (place >= 0 && place < taken.length) taken[place] = 1;
      }
    }
    return taken;
  }

  /** Compares with the services: what one has and is not there is added, what none has for three rounds is given back. */
  async repair(): Promise<void> {
    for (let attempt = 0; attempt < 10; attempt++) {
      const stored = await this.#store.get(nodePortsKey);
      const found = stored ? this.#decode(stored.value, stored.modRevision) : undefined;
      // Read after the ports: a service that is written meanwhile makes the comparison below fail.
      await this.#hub.current();
      const taken = this.#fromServices();
      const unused = new Map<number, number>();
      if (found?.range === this.#spec) {
        found.taken.forEach((is, place) => {
          if (!is || taken[place]) return;
          const left = this.#unused.get(place) ?? repairsBeforeCleanup;
          unused.set(place, left - 1);
          if (left > 0) taken[place] = 1;
          else this.#log.warn({ port: this.range[0] + place }, 'a node port appears to have leaked: cleaning up');
        });
        if (Buffer.compare(taken, found.taken) === 0) {
          this.#unused = unused;
          return;
        }
      }
      const result = await this.#put(taken, found?.revision ?? 0);
      if (!result.succeeded) continue;
      this.#unused = unused;
      return;
    }
    throw timeout('node ports were changed by others in each attempt to repair them');
  }
}

/** As Go's big.Int has it: big-endian, the lowest bit the first place, no leading zeros. */
export function bitmapOf(taken: Uint8Array): string {
  const bytes = Buffer.alloc(Math.ceil(taken.length / 8));
  taken.forEach((is, place) => {
    if (is) bytes[bytes.length - 1 - (place >> 3)]! |= 1 << (place & 7);
  });
  const start = bytes.findIndex((b) => b !== 0);
  return start < 0 ? '' : bytes.subarray(start).toString('base64');
}

export function placesOf(bitmap: string, count: number): Uint8Array {
  const bytes = Buffer.from(bitmap, 'base64');
  return Uint8Array.from({ length: count }, (_, place) => ((bytes[bytes.length - 1 - (place >> 3)] ?? 0) >> (place & 7)) & 1);
}
