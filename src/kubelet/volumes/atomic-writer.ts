import { chmod, chown, lstat, mkdir, readdir, readFile, readlink, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';

export interface ProjectedFile {
  content: Buffer;
  /** Permission bits. */
  mode: number;
  uid?: number;
}

const dataLink = '..data';

/**
 * Writes files into a volume so that readers see either all old or all new ones: into a fresh timestamped directory, to which `..data`
 * is then turned in one rename; each file's name is a link through `..data`. Returns whether anything changed.
 */
export async function writeAtomically(directory: string, files: ReadonlyMap<string, ProjectedFile>, gid?: number): Promise<boolean> {
  for (const path of files.keys())
    if (path.startsWith('/') || path.split('/').includes('..') || path.startsWith('..'))
      throw new Error(`invalid path ${JSON.stringify(path)} in volume`);
  const current = await readlink(join(directory, dataLink)).catch(() => undefined);
  if (current !== undefined && (await same(join(directory, current), files))) return false;

  const stamp = `..${new Date().toISOString().replace(/[-:]/g, '_').replace('T', '_').replace('Z', '')}_${process.hrtime.bigint() % 1_000_000_000n}`;
  const fresh = join(directory, stamp);
  await mkdir(fresh, { mode: 0o755 });
  await chmod(fresh, 0o755);
  for (const [path, file] of files) {
    const full = join(fresh, path);
    await mkdir(dirname(full), { recursive: true, mode: 0o755 });
    await writeFile(full, file.content, { mode: file.mode });
    // Not left to the umask.
    await chmod(full, file.mode);
    if (file.uid !== undefined || gid !== undefined) await chown(full, file.uid ?? 0, gid ?? 0);
  }
  const temporary = join(directory, '..data_tmp');
  await rm(temporary, { force: true });
  await symlink(stamp, temporary);
  await rename(temporary, join(directory, dataLink));

  const names = new Set([...files.keys()].map((p) => p.split('/')[0]!));
  for (const name of names) {
    const link = join(directory, name);
    if (!(await lstat(link).catch(() => undefined))) await symlink(join(dataLink, name), link);
  }
  for (const name of await readdir(directory)) {
    if (name === dataLink || name === stamp || names.has(name)) continue;
    await rm(join(directory, name), { recursive: true, force: true });
  }
  return true;
}

async function same(directory: string, files: ReadonlyMap<string, ProjectedFile>): Promise<boolean> {
  const found = (await readdir(directory, { recursive: true, withFileTypes: true }).catch(() => [])).filter((e) => e.isFile());
  if (found.length !== files.size) return false;
  for (const [path, file] of files) {
    const full = join(directory, path);
    const content = await readFile(full).catch(() => undefined);
    if (!content?.equals(file.content)) return false;
    if (((await lstat(full)).mode & 0o7777) !== file.mode) return false;
  }
  return true;
}
