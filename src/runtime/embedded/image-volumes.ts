import { lstatSync } from 'node:fs';
import { mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { type Mount, RuntimeError } from '../cri.ts';
import { resolveIn } from '../images/safe-path.ts';
import type { ImageStore } from '../images/store.ts';
import { finish, run } from './command.ts';

const directoryOf = (containerFolder: string) => join(containerFolder, 'image-volumes');

/**
 * Mounts the images that a container's mounts name below its folder. Resolves to the mounts with those places as host paths, and to the
 * snapshots that they stand on. Throws RuntimeError for an image or a path in it that is not there.
 */
export async function mountImageVolumes(
  containerFolder: string,
  mounts: Mount[],
  images: ImageStore,
): Promise<{ mounts: Mount[]; snapshots: string[] }> {
  const snapshots = new Set<string>();
  const placed: Mount[] = [];
  for (const [index, one] of mounts.entries()) {
    if (!one.image) {
      placed.push(one);
      continue;
    }
    const image = images.get(one.image.image);
    if (!image) throw new RuntimeError('NotFound', `ImageVolumeMountFailed: failed to resolve image "${one.image.image}": not found`);
    const target = join(directoryOf(containerFolder), String(index));
    const bottom = join(containerFolder, 'image-volumes-bottom');
    for (const folder of [target, bottom]) await mkdir(folder, { recursive: true, mode: 0o755 });
    // An overlay without an upper layer is read-only and wants two lower ones. Never a bind mount: what removes this folder must not reach into layers.
    const lower = [...images.lowerDirs(image), bottom, ...(image.snapshots.length ? [] : [target])].join(':');
    await run('mount', ['-t', 'overlay', 'overlay', '-o', `ro,lowerdir=${lower}`, target], { cwd: images.snapshotFolder });
    for (const name of image.snapshots) snapshots.add(name);
    const hostPath = one.imageSubPath ? resolveIn(target, one.imageSubPath) : target;
    if (!lstatSync(hostPath, { throwIfNoEntry: false }))
      throw new RuntimeError('InvalidArgument', `ImageVolumeMountFailed: the image "${one.image.image}" has no ${one.imageSubPath}`);
    placed.push({ ...one, hostPath, readonly: true });
  }
  return { mounts: placed, snapshots: [...snapshots] };
}

export async function unmountImageVolumes(containerFolder: string): Promise<void> {
  const directory = directoryOf(containerFolder);
  for (const name of await readdir(directory).catch(() => [])) await finish('umount', ['-l', join(directory, name)]);
}
