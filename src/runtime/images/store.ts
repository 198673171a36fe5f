import { createHash } from 'node:crypto';
import { mkdir, readdir, rename, rm, stat, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import type { Logger } from 'pino';
import { readJson, writeJson } from '../atomic-file.ts';
import type { Image } from '../cri.ts';
import type { ImageConfig } from './media-types.ts';
import { digestName, parseReference, tagName } from './reference.ts';
import { type Unpacked, unpackLayer } from './unpack.ts';

/** An image as the store keeps it, in images/ID.json. */
export interface StoredImage {
  /** Digest of its configuration. */
  id: string;
  repoTags: string[];
  repoDigests: string[];
  /** Bytes as pulled: configuration and layers. */
  size: number;
  config: ImageConfig;
  /** Names of its snapshots, lowest layer first. */
  snapshots: string[];
}

interface SnapshotInfo {
  chainId: string;
  size: number;
  inodes: number;
}

/**
 * Images and their unpacked layers on disk: images/ID.json, snapshots/NAME/fs (a layer as overlayfs wants it; one per chain id) and
 * ingest/ (blobs under way). A snapshot's name is the first 20 hex digits of its chain id: a mount's options must fit one page.
 */
export class ImageStore {
  readonly root: string;
  readonly #log: Logger;
  readonly #images = new Map<string, StoredImage>();
  readonly #snapshots = new Map<string, SnapshotInfo>();
  readonly #unpacking = new Map<string, Promise<void>>();
  /** Snapshots of pulls that are under way: not to be collected. */
  readonly #held = new Map<string, number>();

  private constructor(root: string, log: Logger) {
    this.root = root;
    this.#log = log;
  }

  static async open(root: string, log: Logger): Promise<ImageStore> {
    const store = new ImageStore(root, log);
    for (const folder of ['images', 'snapshots', 'ingest']) await mkdir(join(root, folder), { recursive: true, mode: 0o711 });
    for (const name of await readdir(join(root, 'snapshots'))) {
      const path = join(root, 'snapshots', name);
      const info = name.endsWith('.tmp') ? undefined : await readJson<SnapshotInfo>(join(path, 'info.json'));
      if (info) store.#snapshots.set(name, info);
      else await rm(path, { recursive: true, force: true });
    }
    for (const name of await readdir(join(root, 'images'))) {
      const image = name.endsWith('.json') ? await readJson<StoredImage>(join(root, 'images', name)) : undefined;
      if (image?.snapshots.every((s) => store.#snapshots.has(s))) store.#images.set(image.id, image);
      else await rm(join(root, 'images', name), { force: true });
    }
    const day = 86_400_000;
    for (const name of await readdir(join(root, 'ingest'))) {
      const path = join(root, 'ingest', name);
      if (Date.now() - (await stat(path)).mtimeMs > day) await rm(path, { force: true });
    }
    return store;
  }

  list(): StoredImage[] {
    return [...this.#images.values()];
  }

  /** By id (with or without sha256:), name with tag, or name with digest. */
  get(reference: string): StoredImage | undefined {
    const byId = this.#images.get(reference) ?? this.#images.get('sha256:' + reference);
    if (byId) return byId;
    let ref: ReturnType<typeof parseReference>;
    try {
      ref = parseReference(reference);
    } catch {
      return undefined;
    }
    if (ref.digest) {
      const name = digestName(ref, ref.digest);
      return this.list().find((i) => i.repoDigests.includes(name));
    }
    const name = tagName(ref)!;
    return this.list().find((i) => i.repoTags.includes(name));
  }

  /** Folders for overlayfs, relative to snapshots/, topmost layer first. */
  lowerDirs(image: StoredImage): string[] {
    return image.snapshots.map((name) => name + '/fs').reverse();
  }

  get snapshotFolder(): string {
    return join(this.root, 'snapshots');
  }

  ingestPath(digest: string): string {
    return join(this.root, 'ingest', digest.replace(':', '-'));
  }

  /** Names of the snapshots of a chain of layers, lowest first. */
  static snapshotNames(diffIds: string[]): string[] {
    let chain = '';
    return diffIds.map((diff) => {
      chain = chain ? 'sha256:' + createHash('sha256').update(`${chain} ${diff}`).digest('hex') : diff;
      return chain.slice(7, 27);
    });
  }

  has(snapshot: string): boolean {
    return this.#snapshots.has(snapshot);
  }

  /** Keeps snapshots from collection until the returned function is called. */
  hold(snapshots: string[]): () => void {
    for (const name of snapshots) this.#held.set(name, (this.#held.get(name) ?? 0) + 1);
    return () => {
      for (const name of snapshots) {
        const left = this.#held.get(name)! - 1;
        if (left > 0) this.#held.set(name, left);
        else this.#held.delete(name);
      }
      snapshots = [];
    };
  }

  /**
   * Unpacks the layer of `names[index]` unless it is there. `open` gives the layer's bytes. Callers at the same time share one run. Throws when the
   * content does not have the digest `diffId`.
   */
  async unpack(names: string[], index: number, diffId: string, open: () => Readable): Promise<void> {
    const name = names[index]!;
    if (this.#snapshots.has(name)) return;
    let running = this.#unpacking.get(name);
    if (!running) {
      running = this.#unpack(names, index, diffId, open).finally(() => this.#unpacking.delete(name));
      this.#unpacking.set(name, running);
    }
    await running;
  }

  async #unpack(names: string[], index: number, diffId: string, open: () => Readable): Promise<void> {
    const name = names[index]!;
    const temporary = join(this.snapshotFolder, name + '.tmp');
    await rm(temporary, { recursive: true, force: true });
    await mkdir(join(temporary, 'fs'), { recursive: true, mode: 0o755 });
    try {
      const parents = names.slice(0, index).reverse();
      const parentFolders = parents.map((parent) => join(this.snapshotFolder, parent, 'fs'));
      const done: Unpacked = await unpackLayer(open(), join(temporary, 'fs'), parentFolders, this.#log);
      if (done.diffId !== diffId) throw new Error(`layer has the digest ${done.diffId}, its image says ${diffId}`);
      const info: SnapshotInfo = { chainId: name, size: done.size, inodes: done.inodes };
      await writeJson(join(temporary, 'info.json'), info);
      await rename(temporary, join(this.snapshotFolder, name));
      this.#snapshots.set(name, info);
    } catch (error) {
      await rm(temporary, { recursive: true, force: true });
      throw error;
    }
  }

  /** Adds an image or more names to it; a tag leaves the image that had it. */
  async add(image: StoredImage): Promise<void> {
    const known = this.#images.get(image.id);
    const merged: StoredImage = known
      ? { ...known, repoTags: union(known.repoTags, image.repoTags), repoDigests: union(known.repoDigests, image.repoDigests) }
      : image;
    for (const other of this.list()) {
      if (other.id === image.id || !other.repoTags.some((tag) => image.repoTags.includes(tag))) continue;
      await this.#save({ ...other, repoTags: other.repoTags.filter((tag) => !image.repoTags.includes(tag)) });
    }
    await this.#save(merged);
  }

  async #save(image: StoredImage): Promise<void> {
    this.#images.set(image.id, image);
    await writeJson(join(this.root, 'images', image.id.slice(7) + '.json'), image);
  }

  /** Removes the image that `reference` names, with all its names. `inUse` names snapshots that containers stand on. */
  async remove(reference: string, inUse: Set<string>): Promise<void> {
    const image = this.get(reference);
    if (!image) return;
    this.#images.delete(image.id);
    await rm(join(this.root, 'images', image.id.slice(7) + '.json'), { force: true });
    await this.collect(inUse);
  }

  /** Removes snapshots that no image, no pull and none of `inUse` needs. */
  async collect(inUse: Set<string>): Promise<void> {
    const needed = new Set([...inUse, ...this.#held.keys(), ...this.#unpacking.keys(), ...this.list().flatMap((i) => i.snapshots)]);
    const gone = [...this.#snapshots.keys()].filter((name) => !needed.has(name));
    for (const name of gone) this.#snapshots.delete(name);
    for (const name of gone) {
      // Renamed first: what is half removed at a crash must not count as a layer.
      const temporary = join(this.snapshotFolder, `${name}.gone.tmp`);
      await rename(join(this.snapshotFolder, name), temporary).catch(() => {});
      await rm(temporary, { recursive: true, force: true });
    }
  }

  usage(): { usedBytes: number; inodesUsed: number } {
    let usedBytes = 0;
    let inodesUsed = 0;
    for (const { size, inodes } of this.#snapshots.values()) {
      usedBytes += size;
      inodesUsed += inodes;
    }
    return { usedBytes, inodesUsed };
  }

  /** Free bytes of the disk below. */
  async available(): Promise<number> {
    const { bavail, bsize } = await statfs(this.root);
    return bavail * bsize;
  }
}

function union(a: string[], b: string[]): string[] {
  return [...new Set([...a, ...b])];
}

/** The store's image in CRI's words. */
export function toCriImage(image: StoredImage): Image {
  const user = image.config.config?.User?.split(':')[0] ?? '';
  return {
    id: image.id,
    repoTags: image.repoTags,
    repoDigests: image.repoDigests,
    size: image.size,
    ...(/^\d+$/.test(user) ? { uid: Number(user) } : user ? { username: user } : { uid: 0 }),
    pinned: false,
  };
}
