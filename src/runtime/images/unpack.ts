import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { PassThrough, pipeline as pipe, type Readable, Transform } from 'node:stream';
import * as zlib from 'node:zlib';
import type { Logger } from 'pino';
import tar from 'tar-stream';
import { resolveIn } from './safe-path.ts';

/** What unpacking a layer gave. Sizes are bytes of file contents. */
export interface Unpacked {
  diffId: string;
  size: number;
  inodes: number;
}

/** Longest synchronous slice before other work gets its turn, in milliseconds. */
const slice = 5;

/** Bytes of a layer after decompression, whatever its media type says: told by the first bytes. */
export async function decompressed(packed: Readable): Promise<Readable> {
  const out = new PassThrough();
  const iterator = packed[Symbol.asyncIterator]();
  const first = await iterator.next();
  const head: Buffer = first.done ? Buffer.alloc(0) : (first.value as Buffer);
  const rest = async function* (): AsyncGenerator<Buffer> {
    yield head;
    for (let next = await iterator.next(); !next.done; next = await iterator.next()) yield next.value as Buffer;
  };
  let decoder: Transform | undefined;
  if (head.length > 1 && head[0] === 0x1f && head[1] === 0x8b) decoder = zlib.createGunzip();
  else if (head.length > 3 && head.readUInt32LE(0) === 0xfd2fb528) {
    if (!zlib.createZstdDecompress) throw new Error('the layer is compressed with zstd, which this Node.js cannot read (22.15 or newer can)');
    decoder = zlib.createZstdDecompress();
  }
  const done = (error: Error | null | undefined): void => {
    if (error) out.destroy(error);
  };
  if (decoder) pipe(rest, decoder, out, done);
  else pipe(rest, out, done);
  return out;
}

/** xattrs of tar's pax headers, as GNU tar and Docker write them. */
const xattrPrefix = 'SCHILY.xattr.';

/**
 * Unpacks a layer (compressed or not) into the empty folder `target` in the form that overlayfs reads: a removed file is a character device
 * 0/0. `parents` are the folders of the layers below, topmost first: an opaque folder is written as removals of all it hides, which needs no
 * extended attribute. Needs root for owners and devices. Links and `..` never lead out of `target`.
 */
export async function unpackLayer(packed: Readable, target: string, parents: string[], log: Logger): Promise<Unpacked> {
  const extract = tar.extract();
  const hash = createHash('sha256');
  const plain = await decompressed(packed);
  const hashing = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      hash.update(chunk);
      done(null, chunk);
    },
  });
  const layer = new LayerWriter(target, parents, log);
  const failed = new Promise<never>((_, reject) =>
    pipe(plain, hashing, extract as never, (error) => {
      if (error) reject(error);
    }),
  );
  const reading = async (): Promise<void> => {
    let since = performance.now();
    for await (const entry of extract as unknown as AsyncIterable<Readable & { header: tar.Header }>) {
      await layer.entry(entry.header, entry);
      if (performance.now() - since > slice) {
        await new Promise((resolve) => setImmediate(resolve));
        since = performance.now();
      }
    }
  };
  const finished = reading();
  finished.catch(() => {});
  await Promise.race([finished, failed]).catch((error) => {
    packed.destroy();
    throw error;
  });
  await layer.finish();
  return { diffId: 'sha256:' + hash.digest('hex'), size: layer.size, inodes: layer.inodes };
}

class LayerWriter {
  size = 0;
  inodes = 0;
  readonly #root: string;
  readonly #parents: string[];
  readonly #log: Logger;
  /** Times of folders are set last: what is put into them changes them. */
  readonly #folderTimes = new Map<string, Date>();
  readonly #opaque: string[] = [];
  readonly #whiteouts: string[] = [];
  readonly #nodes: { path: string; kind: 'c' | 'b' | 'p'; major: number; minor: number; header: tar.Header }[] = [];
  readonly #xattrs: { path: string; name: string; value: string }[] = [];

  constructor(root: string, parents: string[], log: Logger) {
    this.#root = root;
    this.#parents = parents;
    this.#log = log;
  }

  async entry(header: tar.Header, body: Readable): Promise<void> {
    const clean = header.name.replace(/\/+$/, '');
    const name = basename(clean);
    const isRoot = clean.split('/').every((part) => part === '' || part === '.');
    const parent = isRoot ? this.#root : resolveIn(this.#root, dirname(clean));
    const path = isRoot ? this.#root : join(parent, name);
    if (!isRoot && (name === '..' || name === '.')) throw new Error(`layer has an entry with the name ${header.name}`);
    if (!isRoot) this.#folder(parent);
    if (name.startsWith('.wh.')) {
      body.resume();
      if (name === '.wh..wh..opq') this.#opaque.push(parent);
      // Other names with .wh..wh. are AUFS's own and mean nothing here.
      else if (!name.startsWith('.wh..wh.')) this.#whiteouts.push(join(parent, name.slice(4)));
      return;
    }
    const existing = isRoot ? undefined : fs.lstatSync(path, { throwIfNoEntry: false });
    if (existing && !(existing.isDirectory() && header.type === 'directory')) fs.rmSync(path, { recursive: true, force: true });
    this.inodes++;
    switch (header.type) {
      case 'directory':
        if (!existing && !isRoot) fs.mkdirSync(path);
        this.#own(path, header);
        if (header.mtime) this.#folderTimes.set(path, header.mtime);
        break;
      case 'symlink':
        fs.symlinkSync(header.linkname!, path);
        fs.lchownSync(path, header.uid ?? 0, header.gid ?? 0);
        if (header.mtime) fs.lutimesSync(path, header.mtime, header.mtime);
        break;
      case 'link':
        fs.linkSync(resolveIn(this.#root, header.linkname!, false), path);
        break;
      case 'character-device':
      case 'block-device':
      case 'fifo':
        this.#nodes.push({
          path,
          kind: header.type === 'fifo' ? 'p' : header.type === 'block-device' ? 'b' : 'c',
          major: header.devmajor ?? 0,
          minor: header.devminor ?? 0,
          header,
        });
        break;
      case 'file':
      case 'contiguous-file':
      case null:
      case undefined:
        await this.#file(path, header, body);
        return;
      default:
        this.#log.warn({ name: header.name, type: header.type }, 'layer entry of an unknown type is left out');
    }
    body.resume();
  }

  /** Makes a folder that the layer uses without naming it. */
  #folder(path: string): void {
    if (!fs.existsSync(path)) fs.mkdirSync(path, { recursive: true, mode: 0o755 });
  }

  async #file(path: string, header: tar.Header, body: Readable): Promise<void> {
    const fd = fs.openSync(path, fs.constants.O_CREAT | fs.constants.O_EXCL | fs.constants.O_WRONLY | fs.constants.O_NOFOLLOW, 0o600);
    try {
      for await (const chunk of body) fs.writeSync(fd, chunk as Buffer);
      fs.fchownSync(fd, header.uid ?? 0, header.gid ?? 0);
      fs.fchmodSync(fd, (header.mode ?? 0o644) & 0o7777);
      if (header.mtime) fs.futimesSync(fd, header.mtime, header.mtime);
    } finally {
      fs.closeSync(fd);
    }
    this.size += header.size ?? 0;
    this.#remember(path, header);
  }

  #own(path: string, header: tar.Header): void {
    fs.lchownSync(path, header.uid ?? 0, header.gid ?? 0);
    // After chown, which takes setuid and setgid away.
    fs.chmodSync(path, (header.mode ?? 0o755) & 0o7777);
    this.#remember(path, header);
  }

  #remember(path: string, header: tar.Header): void {
    const pax = (header as { pax?: Record<string, string> | null }).pax;
    if (!pax) return;
    for (const [key, value] of Object.entries(pax)) {
      if (!key.startsWith(xattrPrefix)) continue;
      // tar-stream decodes values as UTF-8: what was no UTF-8 is lost by now.
      if (value.includes('\ufffd')) this.#log.warn({ path, key }, 'extended attribute of a layer is left out: its value is binary');
      else this.#xattrs.push({ path, name: key.slice(xattrPrefix.length), value });
    }
  }

  async finish(): Promise<void> {
    for (const folder of this.#opaque) this.#hideLower(folder, folder.slice(this.#root.length + 1));
    if (this.#nodes.length > 0) await this.#makeNodes();
    if (this.#whiteouts.length > 0) await this.#makeWhiteouts();
    if (this.#xattrs.length > 0) await this.#setXattrs();
    for (const [path, time] of this.#folderTimes) if (fs.lstatSync(path, { throwIfNoEntry: false })?.isDirectory()) fs.utimesSync(path, time, time);
  }

  /** Everything that lower layers have at `relative` and this layer does not becomes a removal; folders in both are gone through. */
  #hideLower(folder: string, relative: string): void {
    const hidden = new Set<string>();
    for (const parent of this.#parents) {
      const lower = fs.lstatSync(join(parent, relative), { throwIfNoEntry: false });
      if (!lower) continue;
      // A file or a removal here ends what layers further down can show.
      if (!lower.isDirectory()) break;
      for (const name of fs.readdirSync(join(parent, relative))) hidden.add(name);
    }
    for (const name of hidden) {
      const own = fs.lstatSync(join(folder, name), { throwIfNoEntry: false });
      if (!own) this.#whiteouts.push(join(folder, name));
      else if (own.isDirectory()) this.#hideLower(join(folder, name), join(relative, name));
    }
  }

  async #makeWhiteouts(): Promise<void> {
    const [first, ...others] = [...new Set(this.#whiteouts)].filter((path) => !fs.lstatSync(path, { throwIfNoEntry: false }));
    if (!first) return;
    await run('mknod', ['-m', '0', first, 'c', '0', '0']);
    // One inode serves all: overlayfs itself shares them too.
    for (const path of others) fs.linkSync(first, path);
  }

  async #makeNodes(): Promise<void> {
    for (const { path, kind, major, minor, header } of this.#nodes) {
      await run('mknod', kind === 'p' ? [path, 'p'] : [path, kind, String(major), String(minor)]);
      fs.lchownSync(path, header.uid ?? 0, header.gid ?? 0);
      fs.chmodSync(path, (header.mode ?? 0o600) & 0o7777);
    }
  }

  /** Best effort: needs setfattr (package attr). File capabilities are what usually is lost without. */
  async #setXattrs(): Promise<void> {
    const encode = (path: string): string => path.replace(/[\\\n\r]/g, (c) => '\\' + c.charCodeAt(0).toString(8).padStart(3, '0'));
    const dump = this.#xattrs.map((x) => `# file: ${encode(x.path)}\n${x.name}=0s${Buffer.from(x.value).toString('base64')}\n`).join('\n');
    await run('setfattr', ['-h', '--restore=-'], dump).catch((error: Error) =>
      this.#log.warn({ count: this.#xattrs.length, reason: error.message }, 'extended attributes of a layer could not be set'),
    );
  }
}

function run(command: string, args: string[], input?: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: [input === undefined ? 'ignore' : 'pipe', 'ignore', 'pipe'] });
    let message = '';
    child.stderr!.on('data', (chunk) => (message += chunk));
    child.on('error', reject);
    child.on('close', (code) => (code === 0 ? resolve() : reject(new Error(`${command}: ${message.trim() || 'exit code ' + code}`))));
    child.stdin?.on('error', () => {});
    child.stdin?.end(input);
  });
}
