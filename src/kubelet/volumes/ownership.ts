import { chmod, lchown, lstat, readdir } from 'node:fs/promises';
import { join } from 'node:path';

/**
 * Gives a volume to a pod's fsGroup: group ownership, group read and write, setgid on directories. With OnRootMismatch only where the
 * volume's root does not have them already.
 */
export async function applyFsGroup(root: string, gid: number, o: { readOnly: boolean; onlyOnMismatch: boolean }): Promise<void> {
  const bits = o.readOnly ? 0o440 : 0o660;
  if (o.onlyOnMismatch) {
    const stat = await lstat(root);
    const wanted = bits | 0o2110;
    if (stat.gid === gid && (stat.mode & wanted) === wanted) return;
  }
  await walk(root, async (path) => {
    const stat = await lstat(path);
    await lchown(path, stat.uid, gid);
    if (stat.isSymbolicLink()) return;
    const mode = (stat.mode & 0o7777) | bits | (stat.isDirectory() ? 0o2110 : 0);
    await chmod(path, mode);
  });
}

/** Children first, so that a crash in between leaves a root that still differs. */
async function walk(path: string, visit: (path: string) => Promise<void>): Promise<void> {
  const entries = await readdir(path, { withFileTypes: true }).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOTDIR') return [];
    throw error;
  });
  for (const entry of entries) {
    const child = join(path, entry.name);
    if (entry.isDirectory()) await walk(child, visit);
    else await visit(child);
  }
  await visit(path);
}
