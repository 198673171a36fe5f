import { lstatSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';

/**
 * Resolves `path` under `root` as if `root` were `/`: symbolic links are followed, but neither they nor `..` lead out. Parts that do not
 * exist are taken as they are. With `followLast` false the last part is not followed. Throws ELOOP after 255 links.
 */
export function resolveIn(root: string, path: string, followLast = true): string {
  const todo = path.split('/').reverse();
  const done: string[] = [];
  let links = 0;
  while (todo.length > 0) {
    const part = todo.pop()!;
    if (part === '' || part === '.') continue;
    if (part === '..') {
      done.pop();
      continue;
    }
    done.push(part);
    if (!followLast && todo.every((p) => p === '' || p === '.')) break;
    const here = join(root, ...done);
    const stat = lstatSync(here, { throwIfNoEntry: false });
    if (!stat?.isSymbolicLink()) continue;
    if (++links > 255) throw Object.assign(new Error(`ELOOP: too many symbolic links in ${path}`), { code: 'ELOOP' });
    const target = readlinkSync(here);
    done.pop();
    if (target.startsWith('/')) done.length = 0;
    todo.push(...target.split('/').reverse());
  }
  return join(root, ...done);
}
