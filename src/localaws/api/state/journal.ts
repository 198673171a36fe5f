import { type FileHandle, open, readFile, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { crc32 } from 'node:zlib';

/** One record as a journal holds it; a missing record is a deletion. */
export type Entry = [table: string, id: string, record?: unknown];

const format = 'kumulus-aws-state';
const version = 1;
const smallestCompaction = 4 * 1024 * 1024;

/** JSON has neither dates nor bytes. */
function replacer(this: any, key: string, value: unknown): unknown {
  const original = this[key];
  if (original instanceof Date) return { $date: original.getTime() };
  if (original instanceof Uint8Array) return { $bytes: Buffer.from(original).toString('base64') };
  return value;
}

function reviver(_key: string, value: any): unknown {
  if (value !== null && typeof value === 'object') {
    if (typeof value.$date === 'number') return new Date(value.$date);
    if (typeof value.$bytes === 'string') return new Uint8Array(Buffer.from(value.$bytes, 'base64'));
  }
  return value;
}

function line(value: unknown): string {
  const json = JSON.stringify(value, replacer);
  return `${crc32(json).toString(16).padStart(8, '0')} ${json}\n`;
}

async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

interface Waiting {
  entries: Entry[];
  resolve(): void;
  reject(error: unknown): void;
}

/**
 * A log of transactions, one line each (a checksum and JSON), that is on disk before a caller hears of it. Transactions that
 * come while the disk is busy are written together. A log that has grown far beyond what it holds is written anew.
 */
export class Journal {
  private readonly path: string;
  private readonly snapshot: () => Entry[];
  private file: FileHandle;
  private size: number;
  private compactAt: number;
  private waiting: Waiting[] = [];
  private writing: Promise<void> | undefined;
  private failure: Error | undefined;
  private closed = false;

  private constructor(path: string, file: FileHandle, size: number, snapshot: () => Entry[]) {
    this.path = path;
    this.file = file;
    this.size = size;
    this.compactAt = Math.max(smallestCompaction, size * 2);
    this.snapshot = snapshot;
  }

  /** Reads a log, or begins one. load gets every entry in order; snapshot gives all that the state holds. */
  static async open(path: string, load: (entry: Entry) => void, snapshot: () => Entry[]): Promise<Journal> {
    await rm(`${path}.new`, { force: true });
    let bytes: Buffer;
    try {
      bytes = await readFile(path);
    } catch (error: any) {
      if (error.code !== 'ENOENT') throw new Error(`the state of the embedded AWS in ${path} cannot be read: ${error.message}`);
      const header = line({ format, version });
      const file = await open(`${path}.new`, 'wx', 0o600);
      await file.write(header);
      await file.sync();
      await rename(`${path}.new`, path);
      await syncDirectory(dirname(path));
      return new Journal(path, file, Buffer.byteLength(header), snapshot);
    }
    const good = replay(path, bytes, load);
    const file = await open(path, 'r+');
    if (good < bytes.length) await file.truncate(good);
    return new Journal(path, file, good, snapshot);
  }

  /** Why the last write failed, until one succeeds. */
  get broken(): Error | undefined {
    return this.failure;
  }

  /** Resolves when the entries are on disk. Entries whose write failed are kept, and written with the next. */
  append(entries: Entry[]): Promise<void> {
    if (this.closed) return Promise.reject(new Error('the state of the embedded AWS is closed'));
    return new Promise((resolve, reject) => {
      this.waiting.push({ entries, resolve, reject });
      this.writing ??= this.write();
    });
  }

  /** Resolves when all that was appended so far is on disk. */
  async flush(): Promise<void> {
    if (this.failure) await this.append([]);
    else while (this.writing) await this.writing;
  }

  async close(): Promise<void> {
    if (this.closed) return;
    this.closed = true;
    while (this.writing) await this.writing;
    await this.file.close();
  }

  private async write(): Promise<void> {
    // One turn later, so that what belongs to this turn is written at once.
    await Promise.resolve();
    while (this.waiting.length > 0) {
      const batch = this.waiting;
      this.waiting = [];
      try {
        if (this.failure || this.size > this.compactAt) await this.compact();
        else await this.extend(batch);
        this.failure = undefined;
        for (const one of batch) one.resolve();
      } catch (error) {
        this.failure = error instanceof Error ? error : new Error(String(error));
        for (const one of batch) one.reject(this.failure);
      }
    }
    this.writing = undefined;
  }

  private async extend(batch: Waiting[]): Promise<void> {
    const bytes = Buffer.from(batch.map((one) => (one.entries.length > 0 ? line(one.entries) : '')).join(''));
    let written = 0;
    while (written < bytes.length) {
      const { bytesWritten } = await this.file.write(bytes, written, bytes.length - written, this.size + written);
      written += bytesWritten;
    }
    await this.file.datasync();
    this.size += bytes.length;
  }

  /** Writes all that the state holds to a new file and puts it in the log's place. It holds every transaction that waits, too. */
  private async compact(): Promise<void> {
    const entries = this.snapshot();
    const next = await open(`${this.path}.new`, 'w', 0o600);
    let size = 0;
    try {
      const emit = async (text: string) => {
        const bytes = Buffer.from(text);
        await next.writeFile(bytes);
        size += bytes.length;
      };
      await emit(line({ format, version }));
      for (let i = 0; i < entries.length; i += 100) await emit(line(entries.slice(i, i + 100)));
      await next.sync();
      await rename(`${this.path}.new`, this.path);
      await syncDirectory(dirname(this.path));
    } catch (error) {
      await next.close();
      // On a full disk it would take the room that the log needs.
      await rm(`${this.path}.new`, { force: true });
      throw error;
    }
    await this.file.close().catch(() => undefined);
    this.file = next;
    this.size = size;
    this.compactAt = Math.max(smallestCompaction, size * 4);
  }
}

/** Hands out every entry; returns how many bytes are sound. Only an unfinished last line may be unsound. */
function replay(path: string, bytes: Buffer, load: (entry: Entry) => void): number {
  const corrupt = (at: number, why: string) =>
    new Error(`the state of the embedded AWS in ${path} is corrupt at byte ${at}: ${why}. Restore the file, or move it away to begin anew.`);
  let at = 0;
  let first = true;
  while (at < bytes.length) {
    const end = bytes.indexOf(10, at);
    const text = bytes.toString('utf8', at, end < 0 ? bytes.length : end);
    const json = text.slice(9);
    const sound = end >= 0 && text.slice(0, 8) === crc32(json).toString(16).padStart(8, '0');
    if (!sound) {
      const last = end < 0 || end === bytes.length - 1;
      if (first || !last) throw corrupt(at, 'a line does not match its checksum');
      return at;
    }
    const value = JSON.parse(json, reviver);
    if (first) {
      if (value?.format !== format) throw corrupt(at, 'it is not a state of the embedded AWS');
      if (value.version > version) {
        throw new Error(
          `the state of the embedded AWS in ${path} has version ${value.version}, written by a newer release; this one reads up to ${version}`,
        );
      }
      first = false;
    } else {
      for (const entry of value as Entry[]) load(entry);
    }
    at = end + 1;
  }
  if (first) throw corrupt(0, 'it is empty');
  return at;
}
