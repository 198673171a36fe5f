import { closeSync, existsSync, fsyncSync, mkdirSync, openSync, readFileSync, readSync, rmSync, statfsSync, statSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { ABORT, type Database, open, type RootDatabase } from 'lmdb';
import type { Backend } from './backend.ts';
import { StoreEngine } from './engine.ts';
import type { StoreClock } from './leases.ts';
import { type KeyValue, NoSpaceError, type RangeRequest, type RangeResult, type Store, type StoreEvent, type StoreEvents } from './store.ts';

/** Grows when the layout of the files changes; a newer one is refused. */
const format = 1;
const reserveBytes = 8 * 1024 * 1024;
/** Items between two turns of the event loop in a long range. */
const yieldEvery = 2000;

export interface LmdbStoreOptions {
  clock?: StoreClock;
}

/**
 * A store on lmdb in the folder `path`, durable before it acknowledges: each commit is written and flushed by lmdb's
 * writer thread. One process at a time; a second one, a damaged file or a newer format gets an error that says so.
 */
export async function openLmdbStore(path: string, options: LmdbStoreOptions = {}): Promise<Store> {
  mkdirSync(path, { recursive: true, mode: 0o700 });
  const unlock = lock(join(path, 'lock'));
  try {
    const backend = new LmdbBackend(path, unlock);
    await backend.takeReserve();
    return new StoreEngine(backend, options);
  } catch (error) {
    unlock();
    throw error;
  }
}

/** Copies the store of a folder, which may be in use, as it is at one moment, into an empty folder. */
export async function copyLmdbStore(from: string, to: string): Promise<void> {
  const env = open({ path: join(from, 'data.mdb'), noSubdir: true, readOnly: true });
  try {
    await env.backup(join(to, 'data.mdb'), false);
  } finally {
    await env.close();
  }
}

/** When a process began (clock ticks since boot): with the pid it names one process for good. */
function startOf(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' ? undefined : fields[19];
  } catch {
    return undefined;
  }
}

/** Takes the lock file; one whose process is gone is taken over. */
function lock(file: string): () => void {
  const mine = `${process.pid} ${startOf(process.pid) ?? ''}`;
  if (existsSync(file)) {
    const [pid = '', start] = readFileSync(file, 'utf8').split(' ');
    const running = startOf(Number(pid));
    if (running !== undefined && running === start) throw new Error(`the store is in use by process ${pid} (${file})`);
  }
  const fd = openSync(file, 'w', 0o600);
  writeSync(fd, mine);
  closeSync(fd);
  return () => rmSync(file, { force: true });
}

/** lmdb maps the file as it is: one that is no database would end the process rather than throw. */
function checkMagic(file: string): void {
  if (!existsSync(file) || statSync(file).size === 0) return;
  const fd = openSync(file, 'r');
  try {
    const head = Buffer.alloc(28);
    readSync(fd, head, 0, head.length, 0);
    if (head.readUInt32LE(24) !== 0xbeefc0de) throw new Error(`the store's file ${file} cannot be opened: it is no lmdb database, or damaged`);
  } finally {
    closeSync(fd);
  }
}

const headerBytes = 32;

function encode(item: KeyValue): Buffer {
  const bytes = Buffer.allocUnsafe(headerBytes + item.value.length);
  bytes.writeDoubleBE(item.createRevision, 0);
  bytes.writeDoubleBE(item.modRevision, 8);
  bytes.writeDoubleBE(item.version, 16);
  bytes.writeDoubleBE(item.lease, 24);
  item.value.copy(bytes, headerBytes);
  return bytes;
}

function decode(key: string, bytes: Buffer): KeyValue {
  return {
    key,
    value: bytes.subarray(headerBytes),
    createRevision: bytes.readDoubleBE(0),
    modRevision: bytes.readDoubleBE(8),
    version: bytes.readDoubleBE(16),
    lease: bytes.readDoubleBE(24),
  };
}

/** What was there before a change: nothing is the empty buffer. */
const encodePrevious = (previous: KeyValue | undefined) => (previous ? encode(previous) : Buffer.alloc(0));
const decodePrevious = (key: string, bytes: Buffer) => (bytes.length ? decode(key, bytes) : undefined);

/** One row of the log: `p` or `d`, the key's length, the key, the item. */
function encodeLog(event: StoreEvent): Buffer {
  const key = Buffer.from(event.item.key);
  const head = Buffer.allocUnsafe(3);
  head.write(event.type === 'put' ? 'p' : 'd', 0, 'latin1');
  head.writeUInt16BE(key.length, 1);
  return Buffer.concat([head, key, encode(event.item)]);
}

function decodeLog(bytes: Buffer): { type: 'put' | 'delete'; item: KeyValue } {
  const length = bytes.readUInt16BE(1);
  const key = bytes.toString('utf8', 3, 3 + length);
  return { type: bytes[0] === 0x70 ? 'put' : 'delete', item: decode(key, bytes.subarray(3 + length)) };
}

class LmdbBackend implements Backend {
  readonly #env: RootDatabase;
  readonly #current: Database<Buffer, string>;
  /** [key, revision of the change] → what was there before it. */
  readonly #undo: Database<Buffer, [string, number]>;
  /** [revision, number in the transaction] → the change. */
  readonly #log: Database<Buffer, [number, number]>;
  readonly #meta: Database<number, string>;
  /** [lease] → ttl, and [lease, key] → 0. */
  readonly #leases: Database<number, [number] | [number, string]>;
  readonly #path: string;
  readonly #reserve: string;
  readonly #unlock: () => void;
  #revision: number;
  #compacted: number;

  constructor(path: string, unlock: () => void) {
    this.#path = path;
    this.#reserve = join(path, 'reserve');
    this.#unlock = unlock;
    const file = join(path, 'data.mdb');
    checkMagic(file);
    if (!process.listeners('unhandledRejection').includes(overlookOwnRejections)) process.on('unhandledRejection', overlookOwnRejections);
    try {
      this.#env = open({ path: file, maxDbs: 8, overlappingSync: false, noSubdir: true });
      this.#meta = this.#env.openDB({ name: 'meta', encoding: 'json' });
      this.#current = this.#env.openDB({ name: 'current', encoding: 'binary' });
      this.#undo = this.#env.openDB({ name: 'undo', encoding: 'binary' });
      this.#log = this.#env.openDB({ name: 'log', encoding: 'binary' });
      this.#leases = this.#env.openDB({ name: 'leases', encoding: 'json' });
    } catch (error) {
      throw new Error(`the store's file ${file} cannot be opened: ${(error as Error).message}`, { cause: error });
    }
    const found = this.#meta.get('format');
    if (found !== undefined && found > format)
      throw new Error(`the store in ${path} was written by a newer version (format ${found}, this one knows ${format})`);
    if (found === undefined) this.#meta.putSync('format', format);
    this.#revision = this.#meta.get('revision') ?? 1;
    this.#compacted = this.#meta.get('compacted') ?? 0;
  }

  revision(): number {
    return this.#revision;
  }

  compactedRevision(): number {
    return this.#compacted;
  }

  current(key: string): KeyValue | undefined {
    const bytes = this.#current.get(key);
    return bytes && decode(key, bytes);
  }

  at(key: string, revision: number): KeyValue | undefined {
    for (const { value } of this.#undo.getRange({ start: [key, revision + 1], end: [key, Number.MAX_SAFE_INTEGER], limit: 1 }))
      return decodePrevious(key, value);
    return this.current(key);
  }

  async range(request: RangeRequest): Promise<RangeResult> {
    const revision = request.revision ?? this.#revision;
    return revision < this.#revision ? this.#rangeAt(request, revision) : this.#rangeNow(request);
  }

  async #rangeNow({ start, end, limit = 0, countOnly = false }: RangeRequest): Promise<RangeResult> {
    const items: KeyValue[] = [];
    const revision = this.#revision;
    if (!countOnly) {
      for (const { key, value } of this.#current.getRange({ start, end, ...(limit ? { limit: limit + 1 } : {}), snapshot: true }))
        items.push(decode(key, Buffer.from(value)));
    }
    const more = limit > 0 && items.length > limit;
    if (more) items.length = limit;
    const count = countOnly || more ? this.#current.getKeysCount({ start, end }) : items.length;
    return { items, count, more, revision };
  }

  /** Keys of now and keys that have changed since, in order, each as it was. */
  async #rangeAt({ start, end, limit = 0, countOnly = false }: RangeRequest, revision: number): Promise<RangeResult> {
    const keys = new Set<string>(this.#current.getKeys({ start, end }));
    for (const [key] of this.#undo.getKeys({ start: [start, 0], end: [end, 0] })) keys.add(key);
    const items: KeyValue[] = [];
    let count = 0;
    let seen = 0;
    for (const key of [...keys].sort((a, b) => (a < b ? -1 : 1))) {
      if (++seen % yieldEvery === 0) await new Promise((resolve) => setImmediate(resolve));
      const item = this.at(key, revision);
      if (!item) continue;
      count++;
      if (!countOnly && (limit === 0 || items.length < limit)) items.push(item);
    }
    return { items, count, more: !countOnly && count > items.length, revision: this.#revision };
  }

  history(from: number, limit: number): StoreEvents[] {
    const found: StoreEvents[] = [];
    let events = 0;
    for (const { key, value } of this.#log.getRange({ start: [from, 0] })) {
      const [revision] = key;
      let last = found[found.length - 1];
      if (last?.revision !== revision) {
        if (events >= limit) break;
        last = { revision, events: [] };
        found.push(last);
      }
      const { type, item } = decodeLog(Buffer.from(value));
      const previous = this.#undo.get([item.key, revision]);
      last.events.push({ type, item, previous: previous && decodePrevious(item.key, previous) });
      events++;
    }
    return found;
  }

  async commit(work: () => void): Promise<void> {
    const before = { revision: this.#revision, compacted: this.#compacted };
    let failure: unknown;
    try {
      await this.#env.childTransaction(() => {
        try {
          work();
          this.#meta.putSync('revision', this.#revision);
          if (this.#compacted !== before.compacted) this.#meta.putSync('compacted', this.#compacted);
          return undefined;
        } catch (error) {
          failure = error;
          return ABORT;
        }
      });
    } catch (error) {
      failure ??= await commitError(error);
    }
    if (failure === undefined) return;
    this.#revision = before.revision;
    this.#compacted = before.compacted;
    throw isFull(failure) || this.#isShortWrite(failure) ? new NoSpaceError('the disk is full') : failure;
  }

  /** lmdb calls a write that the disk took a part of an I/O error. */
  #isShortWrite(error: unknown): boolean {
    if ((error as { code?: unknown }).code !== 5) return false;
    const { bavail, bsize } = statfsSync(this.#path);
    return bavail * bsize < 2 * reserveBytes;
  }

  record(event: StoreEvent, sub: number): void {
    const { item, previous } = event;
    if (event.type === 'put') this.#current.putSync(item.key, encode(item));
    else this.#current.removeSync(item.key);
    this.#undo.putSync([item.key, item.modRevision], encodePrevious(previous));
    this.#log.putSync([item.modRevision, sub], encodeLog(event));
    if (previous?.lease) this.#leases.removeSync([previous.lease, item.key]);
    if (item.lease) this.#leases.putSync([item.lease, item.key], 0);
  }

  setRevision(revision: number): void {
    this.#revision = revision;
  }

  setCompactedRevision(revision: number): void {
    this.#compacted = revision;
  }

  dropHistory(before: number, limit: number): boolean {
    const rows = [...this.#log.getRange({ end: [before, 0], limit })].map(({ key, value }) => ({ key, item: decodeLog(Buffer.from(value)).item }));
    for (const { key, item } of rows) {
      this.#undo.removeSync([item.key, key[0]]);
      this.#log.removeSync(key);
    }
    return rows.length < limit;
  }

  saveLease(id: number, ttlSeconds: number): void {
    this.#leases.putSync([id], ttlSeconds);
  }

  removeLease(id: number): void {
    for (const key of this.leaseKeys(id)) this.#leases.removeSync([id, key]);
    this.#leases.removeSync([id]);
  }

  leases(): { id: number; ttlSeconds: number }[] {
    const found: { id: number; ttlSeconds: number }[] = [];
    for (const { key, value } of this.#leases.getRange({}))
      if (key.length === 1 || typeof key === 'number') found.push({ id: Array.isArray(key) ? key[0] : Number(key), ttlSeconds: value });
    return found;
  }

  leaseKeys(id: number): string[] {
    const keys: string[] = [];
    for (const key of this.#leases.getKeys({ start: [id, ''], end: [id + 1] }))
      if (Array.isArray(key) && key.length === 2) keys.push(key[1] as string);
    return keys;
  }

  async releaseReserve(): Promise<void> {
    rmSync(this.#reserve, { force: true });
  }

  async takeReserve(): Promise<boolean> {
    if (existsSync(this.#reserve) && statSync(this.#reserve).size >= reserveBytes) return true;
    const fd = openSync(this.#reserve, 'w', 0o600);
    try {
      const zeros = Buffer.alloc(1024 * 1024);
      for (let written = 0; written < reserveBytes; written += zeros.length) writeSync(fd, zeros);
      fsyncSync(fd);
      return true;
    } catch (error) {
      if (!isFull(error)) throw error;
      rmSync(this.#reserve, { force: true });
      return false;
    } finally {
      closeSync(fd);
    }
  }

  async size(): Promise<number> {
    return statSync(join(this.#path, 'data.mdb')).size;
  }

  async close(): Promise<void> {
    await this.#env.close();
    this.#unlock();
  }
}

/**
 * When a commit fails, lmdb rejects a promise of its own besides the one that it gave out, and nobody can handle that one:
 * the process would end of a full disk. Every other rejection goes where it would have gone.
 */
const overlookOwnRejections = (reason: unknown): void => {
  if ((reason as { commitError?: unknown } | undefined)?.commitError instanceof Promise) return;
  if (process.listenerCount('unhandledRejection') === 1) throw reason;
};

/** What the commit failed with: lmdb rejects with an error that has a promise of it, which nobody else looks at. */
async function commitError(error: unknown): Promise<unknown> {
  const { commitError: reason } = (error ?? {}) as { commitError?: Promise<never> };
  return reason instanceof Promise ? reason.catch((e: unknown) => e) : error;
}

/** ENOSPC, EDQUOT, or lmdb's map size reached. */
function isFull(error: unknown): boolean {
  const { code, message = '' } = (error ?? {}) as { code?: string | number; message?: string };
  return (
    code === 'ENOSPC' || code === 28 || code === 'EDQUOT' || code === 122 || code === -30792 || /No space left|MDB_MAP_FULL|Disk quota/i.test(message)
  );
}
