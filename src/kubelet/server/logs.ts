import { type FSWatcher, watch } from 'node:fs';
import { type FileHandle, open, stat } from 'node:fs/promises';
import { dirname } from 'node:path';

export interface LogOptions {
  follow: boolean;
  timestamps: boolean;
  tailLines?: number;
  limitBytes?: number;
  /** Milliseconds since the epoch. */
  since?: number;
  stream?: 'stdout' | 'stderr';
}

const chunkBytes = 64 * 1024;

/** One line of a CRI log: `TIME stdout|stderr F|P TEXT`. Partial lines (P) go on in the next one. */
export function parseLine(line: Buffer): { time: string; stream: string; partial: boolean; text: Buffer } | undefined {
  const a = line.indexOf(0x20);
  const b = a < 0 ? -1 : line.indexOf(0x20, a + 1);
  const c = b < 0 ? -1 : line.indexOf(0x20, b + 1);
  if (b < 0) return undefined;
  const end = c < 0 ? line.length : c;
  return {
    time: line.toString('latin1', 0, a),
    stream: line.toString('latin1', a + 1, b),
    partial: line[b + 1] === 0x50,
    text: c < 0 ? Buffer.alloc(0) : line.subarray(c + 1, Math.max(end + 1, line.length)),
  };
}

/** Where the last n lines of a file begin. */
export async function tailOffset(handle: FileHandle, lines: number): Promise<number> {
  const { size } = await handle.stat();
  if (lines === 0) return size;
  let seen = 0;
  for (let end = size; end > 0; ) {
    const start = Math.max(0, end - chunkBytes);
    const chunk = Buffer.alloc(end - start);
    await handle.read(chunk, 0, chunk.length, start);
    for (let i = chunk.length - 1; i >= 0; i--) {
      // The newline that ends the file does not begin a line.
      if (chunk[i] !== 0x0a || start + i === size - 1) continue;
      if (++seen === lines) return start + i + 1;
    }
    end = start;
  }
  return 0;
}

/**
 * A container's log as text. With follow it goes on until the container has ended and all it wrote is read, over rotations of the file,
 * or the signal aborts.
 */
export async function* readLog(file: string, o: LogOptions, running: () => Promise<boolean>, signal: AbortSignal): AsyncGenerator<Buffer> {
  let handle = await open(file, 'r');
  let watcher: FSWatcher | undefined;
  let wake = () => {};
  let dirty = false;
  try {
    let offset = o.tailLines === undefined ? 0 : await tailOffset(handle, o.tailLines);
    let rest = Buffer.alloc(0);
    let left = o.limitBytes ?? Number.POSITIVE_INFINITY;
    if (o.follow)
      try {
        watcher = watch(dirname(file), () => {
          dirty = true;
          wake();
        });
        watcher.on('error', () => {});
      } catch {
        // Out of inotify instances: the timer below serves alone.
      }
    while (!signal.aborted && left > 0) {
      dirty = false;
      // Asked before reading: what is written before the end is then read.
      const alive = o.follow && (await running());
      for (;;) {
        const buffer = Buffer.alloc(chunkBytes);
        const { bytesRead } = await handle.read(buffer, 0, chunkBytes, offset);
        if (bytesRead === 0) break;
        offset += bytesRead;
        const data = Buffer.concat([rest, buffer.subarray(0, bytesRead)]);
        const { out, remainder } = format(data, o);
        rest = remainder;
        const piece = out.subarray(0, left);
        left -= piece.length;
        if (piece.length > 0) yield piece;
        if (left <= 0 || signal.aborted) return;
      }
      if (!o.follow) return;
      const [now, mine] = await Promise.all([stat(file).catch(() => undefined), handle.stat()]);
      if (now && now.ino !== mine.ino) {
        await handle.close();
        handle = await open(file, 'r');
        offset = 0;
        continue;
      }
      if (!alive) return;
      if (dirty) continue;
      await new Promise<void>((resolve) => {
        const done = () => {
          clearTimeout(timer);
          signal.removeEventListener('abort', done);
          resolve();
        };
        const timer = setTimeout(done, watcher ? 1000 : 200);
        wake = done;
        signal.addEventListener('abort', done, { once: true });
      });
    }
  } finally {
    watcher?.close();
    await handle.close();
  }
}

function format(data: Buffer, o: LogOptions): { out: Buffer; remainder: Buffer<ArrayBuffer> } {
  const parts: Buffer[] = [];
  let start = 0;
  for (let end = data.indexOf(0x0a); end >= 0; end = data.indexOf(0x0a, start)) {
    const line = parseLine(data.subarray(start, end));
    start = end + 1;
    if (!line) continue;
    if (o.stream && line.stream !== o.stream) continue;
    if (o.since !== undefined && Date.parse(line.time) < o.since) continue;
    if (o.timestamps) parts.push(Buffer.from(`${line.time} `));
    parts.push(line.text);
    if (!line.partial) parts.push(Buffer.from('\n'));
  }
  return { out: Buffer.concat(parts), remainder: Buffer.from(data.subarray(start)) };
}

/** The options of a containerLogs request. Throws with a message for the client. */
export function logOptions(query: URLSearchParams, now: number): LogOptions & { previous: boolean } {
  const number = (name: string): number | undefined => {
    const text = query.get(name);
    if (text === null || text === '') return undefined;
    const value = Number(text);
    if (!Number.isInteger(value) || value < 0) throw new Error(`invalid value ${JSON.stringify(text)} for ${name}`);
    return value;
  };
  const flag = (name: string) => ['true', '1'].includes(query.get(name) ?? '');
  const tailLines = number('tailLines');
  const limitBytes = number('limitBytes');
  const sinceSeconds = number('sinceSeconds');
  const sinceTime = query.get('sinceTime');
  const since = sinceTime ? Date.parse(sinceTime) : sinceSeconds === undefined ? undefined : now - sinceSeconds * 1000;
  if (Number.isNaN(since)) throw new Error(`invalid value ${JSON.stringify(sinceTime)} for sinceTime`);
  const stream = query.get('stream')?.toLowerCase();
  return {
    follow: flag('follow'),
    timestamps: flag('timestamps'),
    previous: flag('previous'),
    ...(tailLines === undefined ? {} : { tailLines }),
    ...(limitBytes === undefined ? {} : { limitBytes }),
    ...(since === undefined ? {} : { since }),
    ...(stream === 'stdout' || stream === 'stderr' ? { stream } : {}),
  };
}
