import { chmod, mkdir, stat, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { EmptyDirVolumeSource, HostPathVolumeSource } from '../../api/generated/types.ts';
import { toBytes } from '../../api/quantity.ts';
import { isMounted, mountTmpfs } from './mounts.ts';

export async function setupEmptyDir(path: string, source: EmptyDirVolumeSource): Promise<void> {
  const fresh = (await mkdir(path, { recursive: true, mode: 0o750 })) !== undefined;
  if (source.medium === 'Memory' && !(await isMounted(path))) {
    await mountTmpfs(path, source.sizeLimit && toBytes(source.sizeLimit) > 0 ? [`size=${toBytes(source.sizeLimit)}`] : []);
    await chmod(path, 0o777);
  } else if (fresh) await chmod(path, source.mode ?? 0o777);
}

/** Sees to it that the node has at this path what the type says. */
export async function checkHostPath({ path, type }: HostPathVolumeSource): Promise<void> {
  if (path.split('/').includes('..')) throw new Error(`path ${path} must not contain '..'`);
  const found = await stat(path).catch(() => undefined);
  const wrong = (what: string) => new Error(`hostPath type check failed: ${path} is not a ${what}`);
  switch (type ?? '') {
    case '':
      return;
    case 'DirectoryOrCreate':
      if (!found) await mkdir(path, { recursive: true, mode: 0o755 });
      else if (!found.isDirectory()) throw wrong('directory');
      return;
    case 'Directory':
      if (!found?.isDirectory()) throw wrong('directory');
      return;
    case 'FileOrCreate':
      if (!found) {
        await mkdir(dirname(path), { recursive: true, mode: 0o755 });
        await writeFile(path, '', { mode: 0o644 });
      } else if (!found.isFile()) throw wrong('file');
      return;
    case 'File':
      if (!found?.isFile()) throw wrong('file');
      return;
    case 'Socket':
      if (!found?.isSocket()) throw wrong('socket file');
      return;
    case 'CharDevice':
      if (!found?.isCharacterDevice()) throw wrong('character device');
      return;
    case 'BlockDevice':
      if (!found?.isBlockDevice()) throw wrong('block device');
      return;
    default:
      throw new Error(`unknown hostPath type ${type}`);
  }
}
