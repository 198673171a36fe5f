import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdtemp, open, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip, gzipSync } from 'node:zlib';
import tar from 'tar-stream';
import {
  type Descriptor,
  hostPlatform,
  type ImageConfig,
  type Index,
  type Manifest,
  ociConfig,
  ociIndex,
  ociLayer,
  ociLayerGzip,
  ociManifest,
  type ProcessConfig,
  selectPlatform,
} from './media-types.ts';

/** A file, folder or link to put in a layer. `path` is relative to the image's root. */
export interface ImageEntry {
  path: string;
  content?: string | Buffer;
  /** Take the content from this file. */
  hostFile?: string;
  /** Permission bits; 0644 for files and 0755 for folders by default. */
  mode?: number;
  /** A symbolic link's target. */
  link?: string;
  /** A hard link's target, the path of an earlier entry. */
  hardLink?: string;
  directory?: boolean;
  uid?: number;
  gid?: number;
}

/** A complete image: its manifest and everything that it names. */
export interface ImageSource {
  manifest: Manifest;
  /** The manifest's bytes; its digest is their SHA-256. */
  manifestBytes: Buffer;
  manifestDigest: string;
  config: ImageConfig;
  /** Names it carries in the archive, as `example:1`. */
  repoTags: string[];
  blob(digest: string): Readable;
  /** Gives temporary files back. */
  close(): Promise<void>;
}

export function digestOf(data: Buffer | string): string {
  return 'sha256:' + createHash('sha256').update(data).digest('hex');
}

/** One layer's tar from entries; parent folders are added. Times are zero, so that equal entries give equal digests. */
export async function layerTar(entries: ImageEntry[]): Promise<Buffer> {
  const pack = tar.pack();
  const chunks: Buffer[] = [];
  const reading = (async () => {
    for await (const chunk of pack) chunks.push(chunk as Buffer);
  })();
  const mtime = new Date(0);
  const made = new Set<string>();
  const folder = (path: string, mode: number, uid = 0, gid = 0): void => {
    if (path === '.' || path === '' || made.has(path)) return;
    folder(dirname(path), 0o755);
    made.add(path);
    pack.entry({ name: path + '/', type: 'directory', mode, mtime, uid, gid });
  };
  for (const entry of entries) {
    const name = entry.path.replace(/^\/+|\/+$/g, '');
    const { uid = 0, gid = 0 } = entry;
    if (entry.directory) {
      folder(name, entry.mode ?? 0o755, uid, gid);
      continue;
    }
    folder(dirname(name), 0o755);
    if (entry.link !== undefined) pack.entry({ name, type: 'symlink', linkname: entry.link, mode: 0o777, mtime, uid, gid });
    else if (entry.hardLink !== undefined) {
      pack.entry({ name, type: 'link', linkname: entry.hardLink.replace(/^\/+/, ''), mode: entry.mode ?? 0o755, mtime, uid, gid });
    } else {
      const content = entry.hostFile ? await readFile(entry.hostFile) : Buffer.from(entry.content ?? '');
      const mode = entry.mode ?? (entry.hostFile ? (await stat(entry.hostFile)).mode & 0o7777 : 0o644);
      pack.entry({ name, mode, mtime, uid, gid, size: content.length }, content);
    }
  }
  pack.finalize();
  await reading;
  return Buffer.concat(chunks);
}

/**
 * Makes an image of one layer. The architecture is this machine's. The result can be pushed (pushImage) or written as an OCI
 * layout (writeOciTar).
 */
export async function buildImage(o: { entries: ImageEntry[]; config?: ProcessConfig; repoTags?: string[] }): Promise<ImageSource> {
  const layer = await layerTar(o.entries);
  const packed = gzipSync(layer, { level: 6 });
  const config: ImageConfig = {
    ...hostPlatform(),
    created: new Date(0).toISOString(),
    config: o.config ?? {},
    rootfs: { type: 'layers', diff_ids: [digestOf(layer)] },
  };
  const configBytes = Buffer.from(JSON.stringify(config));
  const blobs = new Map<string, Buffer>([
    [digestOf(configBytes), configBytes],
    [digestOf(packed), packed],
  ]);
  const manifest: Manifest = {
    schemaVersion: 2,
    mediaType: ociManifest,
    config: { mediaType: ociConfig, digest: digestOf(configBytes), size: configBytes.length },
    layers: [{ mediaType: ociLayerGzip, digest: digestOf(packed), size: packed.length }],
  };
  return memorySource(manifest, config, o.repoTags ?? [], blobs);
}

function memorySource(manifest: Manifest, config: ImageConfig, repoTags: string[], blobs: Map<string, Buffer>): ImageSource {
  const manifestBytes = Buffer.from(JSON.stringify(manifest));
  return {
    manifest,
    manifestBytes,
    manifestDigest: digestOf(manifestBytes),
    config,
    repoTags,
    blob(digest) {
      const blob = blobs.get(digest);
      if (!blob) throw new Error(`image has no blob ${digest}`);
      return Readable.from([blob]);
    },
    close: async () => {},
  };
}

/** Writes an image as a tar of an OCI layout, as `skopeo copy … oci-archive:` does. */
export async function writeOciTar(source: ImageSource, path: string): Promise<void> {
  const pack = tar.pack();
  const file = await open(path, 'w');
  const writing = pipeline(pack, file.createWriteStream());
  const put = async (name: string, size: number, data: Buffer | Readable): Promise<void> => {
    if (Buffer.isBuffer(data)) {
      pack.entry({ name, size, mtime: new Date(0) }, data);
      return;
    }
    const entry = pack.entry({ name, size, mtime: new Date(0) });
    await pipeline(data, entry);
  };
  const { manifest } = source;
  const blobName = (digest: string): string => 'blobs/' + digest.replace(':', '/');
  const descriptors: Descriptor[] = (source.repoTags.length ? source.repoTags : [undefined]).map((tag) => ({
    mediaType: manifest.mediaType ?? ociManifest,
    digest: source.manifestDigest,
    size: source.manifestBytes.length,
    ...(tag && { annotations: { 'org.opencontainers.image.ref.name': tag.slice(tag.lastIndexOf(':') + 1), 'io.containerd.image.name': tag } }),
  }));
  const index: Index = { schemaVersion: 2, mediaType: ociIndex, manifests: descriptors };
  await put('oci-layout', 30, Buffer.from('{"imageLayoutVersion":"1.0.0"}'));
  const indexBytes = Buffer.from(JSON.stringify(index));
  await put('index.json', indexBytes.length, indexBytes);
  await put(blobName(source.manifestDigest), source.manifestBytes.length, source.manifestBytes);
  for (const blob of [manifest.config, ...new Map(manifest.layers.map((l) => [l.digest, l])).values()]) {
    await put(blobName(blob.digest), blob.size, source.blob(blob.digest));
  }
  pack.finalize();
  await writing;
}

/**
 * Reads a tar made by `docker save` or holding an OCI layout (plain or gzipped). Where both forms are in it, the OCI layout is read.
 * `imageName` chooses among several images. Throws an Error with a line for people when it is neither.
 */
export async function readImageTar(path: string, imageName?: string): Promise<ImageSource> {
  const plain = await plainTar(path);
  try {
    const members = await listMembers(plain.path);
    const text = async (name: string): Promise<any> => {
      const found = members.get(name);
      if (!found) throw new Error(`${path}: ${name} is missing`);
      return JSON.parse((await readRange(plain.path, found)).toString());
    };
    if (members.has('index.json') && members.has('oci-layout')) return await ociLayout(path, plain, members, text, imageName);
    if (members.has('manifest.json')) return await dockerSave(path, plain, members, text, imageName);
    throw new Error(`${path} is no image archive: it has neither index.json (OCI layout) nor manifest.json (docker save)`);
  } catch (error) {
    await plain.close();
    throw error;
  }
}

interface Member {
  offset: number;
  size: number;
}
interface PlainTar {
  path: string;
  close(): Promise<void>;
}

/** The archive itself, or its gunzipped form in a temporary file: members are read by offset. */
async function plainTar(path: string): Promise<PlainTar> {
  const file = await open(path, 'r');
  const magic = Buffer.alloc(2);
  await file.read(magic, 0, 2, 0).finally(() => file.close());
  if (magic.readUInt16BE() !== 0x1f8b) return { path, close: async () => {} };
  const folder = await mkdtemp(join(tmpdir(), 'kumulus-image-'));
  const target = join(folder, 'image.tar');
  const close = (): Promise<void> => rm(folder, { recursive: true, force: true });
  try {
    await writeFile(target, createReadStream(path).pipe(createGunzip()));
  } catch (error) {
    await close();
    throw error;
  }
  return { path: target, close };
}

async function listMembers(path: string): Promise<Map<string, Member>> {
  const members = new Map<string, Member>();
  const links: [string, string][] = [];
  // tar-stream tells no offsets, and members are to be read again by theirs: so the headers are walked here.
  const file = await open(path, 'r');
  try {
    let offset = 0;
    const header = Buffer.alloc(512);
    let longName: string | undefined;
    let longSize: number | undefined;
    for (;;) {
      const { bytesRead } = await file.read(header, 0, 512, offset);
      if (bytesRead < 512 || header.every((b) => b === 0)) break;
      const string = (from: number, length: number): string => header.toString('utf8', from, from + length).replace(/\0.*$/s, '');
      const magic = string(257, 5);
      if (magic !== 'ustar' && offset === 0) throw new Error(`${path} is no tar archive`);
      const octal = (from: number, length: number): number =>
        header[from]! & 0x80
          ? header.subarray(from + 1, from + length).reduce((n, b) => n * 256 + b, 0)
          : Number.parseInt(string(from, length).trim() || '0', 8);
      let size = octal(124, 12);
      const type = String.fromCharCode(header[156]!);
      const data = { offset: offset + 512, size };
      if (type === 'x') {
        const pax = (await readRange(path, data)).toString();
        longName = /(?:^|\n)\d+ path=([^\n]*)\n/.exec(pax)?.[1] ?? longName;
        const paxSize = /(?:^|\n)\d+ size=(\d+)\n/.exec(pax)?.[1];
        longSize = paxSize ? Number(paxSize) : undefined;
      } else if (type === 'L') longName = (await readRange(path, data)).toString().replace(/\0.*$/s, '');
      else if (type !== 'g' && type !== 'K') {
        if (longSize !== undefined) size = longSize;
        const prefix = magic === 'ustar' ? string(345, 155) : '';
        const name = (longName ?? (prefix ? prefix + '/' : '') + string(0, 100)).replace(/^\.\//, '');
        if (type === '0' || type === '\0') members.set(name, { offset: offset + 512, size });
        if (type === '1' || type === '2') links.push([name, join(type === '2' ? dirname(name) : '.', string(157, 100))]);
        longName = longSize = undefined;
      }
      offset += 512 + Math.ceil(size / 512) * 512;
    }
  } finally {
    await file.close();
  }
  for (const [name, target] of links) {
    const found = members.get(target);
    if (found) members.set(name, found);
  }
  return members;
}

async function readRange(path: string, m: Member): Promise<Buffer> {
  if (m.size > 64 << 20) throw new Error(`${path}: a member of ${m.size} bytes is too long to be a description`);
  const file = await open(path, 'r');
  try {
    const buffer = Buffer.alloc(m.size);
    await file.read(buffer, 0, m.size, m.offset);
    return buffer;
  } finally {
    await file.close();
  }
}

function rangeStream(path: string, m: Member): Readable {
  return m.size === 0 ? Readable.from([]) : createReadStream(path, { start: m.offset, end: m.offset + m.size - 1 });
}

type ReadJson = (name: string) => Promise<any>;

async function ociLayout(path: string, plain: PlainTar, members: Map<string, Member>, json: ReadJson, imageName?: string): Promise<ImageSource> {
  const nameOf = (d: Descriptor): string | undefined =>
    d.annotations?.['io.containerd.image.name'] ?? d.annotations?.['org.opencontainers.image.ref.name'];
  let index = (await json('index.json')) as Index;
  let descriptor = imageName ? index.manifests.find((d) => nameOf(d) === imageName) : index.manifests[0];
  if (!descriptor) throw new Error(`${path} holds no image${imageName ? ` named ${imageName}` : ''}`);
  const { digest } = descriptor;
  const repoTags = index.manifests.filter((d) => d.digest === digest).flatMap((d) => nameOf(d) ?? []);
  const blobName = (d: string): string => 'blobs/' + d.replace(':', '/');
  let body = await json(blobName(descriptor.digest));
  for (let depth = 0; Array.isArray(body.manifests); depth++) {
    index = body;
    const chosen = selectPlatform(index, hostPlatform());
    if (!chosen || depth > 3) throw new Error(`${path} holds no image for ${hostPlatform().os}/${hostPlatform().architecture}`);
    descriptor = chosen;
    body = await json(blobName(descriptor.digest));
  }
  const manifest = body as Manifest;
  const manifestBytes = await readRange(plain.path, members.get(blobName(descriptor.digest))!);
  if (digestOf(manifestBytes) !== descriptor.digest) throw new Error(`${path}: the manifest does not match its digest ${descriptor.digest}`);
  for (const blob of [manifest.config, ...manifest.layers])
    if (!members.has(blobName(blob.digest))) throw new Error(`${path}: blob ${blob.digest} is missing`);
  const config = (await json(blobName(manifest.config.digest))) as ImageConfig;
  return {
    manifest: { ...manifest, mediaType: manifest.mediaType ?? descriptor.mediaType },
    manifestBytes,
    manifestDigest: descriptor.digest,
    config,
    repoTags,
    blob: (d) => rangeStream(plain.path, members.get(blobName(d))!),
    close: plain.close,
  };
}

async function dockerSave(path: string, plain: PlainTar, members: Map<string, Member>, json: ReadJson, imageName?: string): Promise<ImageSource> {
  const images = (await json('manifest.json')) as { Config: string; RepoTags?: string[] | null; Layers: string[] }[];
  const image = imageName ? images.find((i) => i.RepoTags?.includes(imageName)) : images[0];
  if (!image) throw new Error(`${path} holds no image${imageName ? ` named ${imageName}` : ''}`);
  const need = (name: string): Member => {
    const found = members.get(name);
    if (!found) throw new Error(`${path}: ${name} is missing`);
    return found;
  };
  const configBytes = await readRange(plain.path, need(image.Config));
  const blobs = new Map<string, () => Readable>([[digestOf(configBytes), () => Readable.from([configBytes])]]);
  const layers: Descriptor[] = [];
  for (const name of image.Layers) {
    const member = need(name);
    const hash = createHash('sha256');
    let magic: Buffer | undefined;
    for await (const chunk of rangeStream(plain.path, member)) {
      magic ??= chunk as Buffer;
      hash.update(chunk as Buffer);
    }
    const digest = 'sha256:' + hash.digest('hex');
    const gzipped = magic !== undefined && magic.length > 1 && magic.readUInt16BE() === 0x1f8b;
    layers.push({ mediaType: gzipped ? ociLayerGzip : ociLayer, digest, size: member.size });
    blobs.set(digest, () => rangeStream(plain.path, member));
  }
  const manifest: Manifest = {
    schemaVersion: 2,
    mediaType: ociManifest,
    config: { mediaType: ociConfig, digest: digestOf(configBytes), size: configBytes.length },
    layers,
  };
  const manifestBytes = Buffer.from(JSON.stringify(manifest));
  return {
    manifest,
    manifestBytes,
    manifestDigest: digestOf(manifestBytes),
    config: JSON.parse(configBytes.toString()) as ImageConfig,
    repoTags: image.RepoTags ?? [],
    blob(digest) {
      const blob = blobs.get(digest);
      if (!blob) throw new Error(`${path} has no blob ${digest}`);
      return blob();
    },
    close: plain.close,
  };
}
