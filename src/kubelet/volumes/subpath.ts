import { mkdir, open, readlink, realpath, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { bindMount, isMounted, unmount } from './mounts.ts';

/** Opens a path without reading it; Node has no name for it. */
const O_PATH = 0o10000000;

const within = (root: string, path: string) => path === root || path.startsWith(root === '/' ? '/' : `${root}/`);

/**
 * Binds subPath of a volume to target. A container may have put links into the volume, so what is bound is a file descriptor whose
 * real path was found to lie inside, not a name that could change in between.
 */
export async function bindSubPath(volumeRoot: string, subPath: string, target: string, readOnly: boolean): Promise<void> {
  const root = await realpath(volumeRoot);
  await makeInside(root, subPath);
  const handle = await open(join(root, subPath), O_PATH);
  try {
    const real = await readlink(`/proc/self/fd/${handle.fd}`);
    if (!within(root, real)) throw new Error(`subpath "${subPath}" not within volume path "${volumeRoot}"`);
    const directory = (await stat(`/proc/self/fd/${handle.fd}`)).isDirectory();
    if (await isMounted(target)) await unmount(target);
    if (directory) await mkdir(target, { recursive: true, mode: 0o750 });
    else {
      await mkdir(dirname(target), { recursive: true, mode: 0o750 });
      await writeFile(target, '', { mode: 0o640 });
    }
    await bindMount(`/proc/${process.pid}/fd/${handle.fd}`, target, readOnly);
  } finally {
    await handle.close();
  }
}

/** Makes missing directories, one by one, none through a link that leads out. */
async function makeInside(root: string, subPath: string): Promise<void> {
  let path = root;
  for (const part of subPath.split('/').filter((p) => p && p !== '.')) {
    path = join(path, part);
    const real = await realpath(path).catch(() => undefined);
    if (real === undefined) await mkdir(path, { mode: 0o750 });
    else if (!within(root, real)) throw new Error(`subpath "${subPath}" not within volume path "${root}"`);
    else path = real;
  }
}
