import { createHash } from 'node:crypto';
import { Readable, type Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip, createGzip } from 'node:zlib';
import type { KeyValue, Store } from './store.ts';

/** What the first line of a snapshot says; JSON. */
export interface SnapshotHeader {
  format: 'kumulus-snapshot';
  version: 1;
  /** The store's revision that it shows. */
  revision: number;
  /** RFC 3339. */
  createdAt: string;
}

/** Read from its end: how much there is, and that it is whole. */
export interface SnapshotStatus extends SnapshotHeader {
  keys: number;
  /** Bytes of keys and values. */
  size: number;
}

const pageSize = 1000;
/** Keys that had a lease get one of this many seconds: the time to live of events. */
const leaseSeconds = 3600;

/*
 * The format, gzipped: the header as a line of JSON; for each key a line of JSON {key, size, lease?} and the value's bytes;
 * last a line {end, keys, size, sha256} whose digest is of everything before it.
 */

/** Writes everything that the store holds at one revision. The store may be written to meanwhile. */
export async function saveSnapshot(store: Store, to: Writable, now: Date): Promise<SnapshotStatus> {
  const revision = (await store.latestRevision?.()) ?? store.revision();
  const header: SnapshotHeader = { format: 'kumulus-snapshot', version: 1, revision, createdAt: now.toISOString() };
  let [keys, size] = [0, 0];
  async function* chunks(): AsyncGenerator<Buffer> {
    const hash = createHash('sha256');
    const hashed = (bytes: Buffer) => {
      hash.update(bytes);
      return bytes;
    };
    yield hashed(Buffer.from(`${JSON.stringify(header)}\n`));
    for (let start = '\0'; ; ) {
      const page = await store.range({ start, end: '\xff', revision, limit: pageSize });
      for (const item of page.items) {
        keys++;
        size += item.key.length + item.value.length;
        const line = JSON.stringify({ key: item.key, size: item.value.length, ...(item.lease ? { lease: true } : {}) });
        yield hashed(Buffer.concat([Buffer.from(`${line}\n`), item.value]));
      }
      const last = page.items.at(-1);
      if (!page.more || !last) break;
      start = `${last.key}\0`;
    }
    yield Buffer.from(`${JSON.stringify({ end: true, keys, size, sha256: hash.digest('hex') })}\n`);
  }
  await pipeline(Readable.from(chunks()), createGzip({ level: 1 }), to);
  return { ...header, keys, size };
}

export type SnapshotItem = Pick<KeyValue, 'key' | 'value'> & { leased: boolean };

/**
 * Reads a snapshot: the header first, then onItem for each key, in order, awaited. Throws where the file is none, is of a newer
 * version, or is not whole; what onItem was told until then is not to be believed.
 */
export async function readSnapshot(
  from: Readable,
  onItem: (item: SnapshotItem) => Promise<void> | void = () => {},
  onHeader: (header: SnapshotHeader) => Promise<void> | void = () => {},
): Promise<SnapshotStatus> {
  const hash = createHash('sha256');
  const plain = createGunzip();
  from.on('error', (error) => plain.destroy(error)).pipe(plain);
  let rest: Buffer = Buffer.alloc(0);
  const pieces = plain[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
  const more = async (): Promise<boolean> => {
    const next = await pieces.next().catch((error) => {
      throw new Error(`not a snapshot, or not whole: ${error.message}`);
    });
    if (next.done) return false;
    rest = rest.length ? Buffer.concat([rest, next.value]) : next.value;
    return true;
  };
  const take = async (bytes: number): Promise<Buffer> => {
    while (rest.length < bytes) if (!(await more())) throw new Error('the snapshot is not whole: it ends in the middle');
    const taken = rest.subarray(0, bytes);
    rest = rest.subarray(bytes);
    return taken;
  };
  const line = async (): Promise<Buffer> => {
    for (let searched = 0; ; ) {
      const at = rest.indexOf(10, searched);
      if (at >= 0) return take(at + 1);
      searched = rest.length;
      if (searched > 1_000_000 || !(await more())) throw new Error('the snapshot is not whole: it ends in the middle');
    }
  };
  const parse = (bytes: Buffer): any => {
    try {
      return JSON.parse(bytes.toString());
    } catch {
      throw new Error('this is no snapshot of kumulus');
    }
  };
  const first = await line();
  hash.update(first);
  const header: SnapshotHeader = parse(first);
  if (header.format !== 'kumulus-snapshot') throw new Error('this is no snapshot of kumulus');
  if (header.version > 1) throw new Error(`the snapshot was written by a newer version (format ${header.version}, this one knows 1)`);
  await onHeader(header);
  let [keys, size] = [0, 0];
  for (;;) {
    const bytes = await line();
    const record = parse(bytes);
    if (record.end) {
      if (record.sha256 !== hash.digest('hex') || record.keys !== keys) throw new Error('the snapshot is damaged: its checksum differs');
      return { ...header, keys, size };
    }
    const value = await take(record.size);
    hash.update(bytes).update(value);
    keys++;
    size += record.key.length + value.length;
    await onItem({ key: record.key, value: Buffer.from(value), leased: record.lease === true });
  }
}

/**
 * Fills an empty store. Every key gets a revision above the snapshot's and above `beyond`, and history before is compacted:
 * whoever knows revisions of an earlier life of the cluster is told to list again.
 */
export async function restoreSnapshot(store: Store, from: Readable, beyond = 0): Promise<SnapshotStatus> {
  const there = await store.range({ start: '\0', end: '\xff', countOnly: true });
  if (there.count > 0) throw new Error(`the store is not empty: it holds ${there.count} keys`);
  let lease: Promise<number> | undefined;
  const writes = new Set<Promise<unknown>>();
  let failure: unknown;
  const status = await readSnapshot(
    from,
    async ({ key, value, leased }) => {
      if (failure) throw failure;
      const id = leased ? await (lease ??= store.grantLease(leaseSeconds)) : 0;
      const write: Promise<unknown> = store.transaction([], [{ type: 'put', key, value, ...(id ? { lease: id } : {}) }]).then(
        () => writes.delete(write),
        (error) => {
          failure ??= error;
          writes.delete(write);
        },
      );
      writes.add(write);
      if (writes.size >= 64) await Promise.race(writes);
    },
    async (header) => {
      const target = Math.max(header.revision, beyond);
      await advance(store, target);
    },
  );
  await Promise.all(writes);
  if (failure) throw failure;
  const revision = (await store.latestRevision?.()) ?? store.revision();
  if (revision > 1) await store.compact(revision);
  return status;
}

/** Brings the store's revision to at least `revision`. etcd has no other way than to write. */
async function advance(store: Store, revision: number): Promise<void> {
  if (store.advanceRevision) return store.advanceRevision(revision);
  const key = 'kumulus/restore';
  const writer = async () => {
    while (store.revision() < revision) await store.transaction([], [{ type: 'put', key, value: Buffer.alloc(0) }]);
  };
  await Promise.all(Array.from({ length: 128 }, writer));
  await store.transaction([], [{ type: 'delete', key }]);
}

