import { statfs } from 'node:fs/promises';
import type { Logger } from 'pino';
import type { Clock } from '../client/clock.ts';
import type { Image, Runtime } from '../runtime/cri.ts';

/** Upstream's defaults: above the high one images go until the low one is reached; percent of the file system. */
const highThreshold = 85;
const lowThreshold = 80;
/** A younger image may be about to be used. */
const minimumAgeMs = 120_000;

export interface ImageGcOptions {
  runtime: Runtime;
  clock: Clock;
  log: Logger;
  /** Of the file system that images lie on, in bytes; read from the system by default. */
  usage?: (mountpoint: string) => Promise<{ capacity: number; available: number }>;
}

async function diskUsage(mountpoint: string): Promise<{ capacity: number; available: number }> {
  const { blocks, bavail, bsize } = await statfs(mountpoint);
  return { capacity: blocks * bsize, available: bavail * bsize };
}

/** Removes images that no container uses when their disk fills up, those not used for longest first. */
export class ImageGc {
  private readonly o: ImageGcOptions;
  /** By image id. */
  private readonly seen = new Map<string, { first: number; used: number }>();

  constructor(o: ImageGcOptions) {
    this.o = o;
  }

  /** Looks once; resolves to the ids of what was removed. */
  async collect(): Promise<string[]> {
    const { runtime, clock, log } = this.o;
    const [images, containers, info] = await Promise.all([runtime.listImages(), runtime.listContainers(), runtime.imageFsInfo()]);
    const now = clock.now();
    const mounts = await Promise.all(containers.map(async ({ id }) => (await runtime.containerStatus(id).catch(() => undefined))?.mounts ?? []));
    const volumes = mounts.flat().flatMap((m) => m.image?.image ?? []);
    const inUse = new Set([...containers.flatMap((c) => [c.imageRef, c.image.image]), ...volumes]);
    const isUsed = (image: Image) => [image.id, ...image.repoTags, ...image.repoDigests].some((name) => inUse.has(name));
    for (const image of images) {
      const known = this.seen.get(image.id) ?? { first: now, used: 0 };
      if (isUsed(image)) known.used = now;
      this.seen.set(image.id, known);
    }
    const present = new Set(images.map((i) => i.id));
    for (const id of this.seen.keys()) if (!present.has(id)) this.seen.delete(id);

    const { capacity, available } = await (this.o.usage ?? diskUsage)(info.mountpoint);
    if (capacity === 0 || 100 - (available * 100) / capacity < highThreshold) return [];
    let toFree = capacity * (1 - lowThreshold / 100) - available;
    const candidates = images
      .filter((i) => !i.pinned && !isUsed(i) && now - this.seen.get(i.id)!.first >= minimumAgeMs)
      .sort((a, b) => this.seen.get(a.id)!.used - this.seen.get(b.id)!.used || this.seen.get(a.id)!.first - this.seen.get(b.id)!.first);
    const removed: string[] = [];
    for (const image of candidates) {
      if (toFree <= 0) break;
      try {
        await runtime.removeImage(image.id);
        removed.push(image.id);
        toFree -= image.size;
        this.seen.delete(image.id);
      } catch (error) {
        log.warn({ err: error, image: image.id }, 'cannot remove image');
      }
    }
    if (removed.length > 0) log.info({ removed: removed.length }, 'removed unused images');
    if (toFree > 0) log.warn({ bytes: Math.round(toFree) }, 'the disk of images is full, and there is nothing left to remove');
    return removed;
  }
}
