import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

/**
 * Which state folder the cluster with an id has: names on the host carry the id alone. One file a cluster, gone with a reboot
 * as everything else that carries its id.
 */
const FOLDER = '/run/kumulus';

export async function rememberOwner(clusterId: string, directory: string): Promise<void> {
  await mkdir(FOLDER, { recursive: true, mode: 0o755 });
  await writeFile(join(FOLDER, clusterId), directory);
}

export async function forgetOwner(clusterId: string): Promise<void> {
  await rm(join(FOLDER, clusterId), { force: true });
}

/** State folders by cluster id. */
export async function readOwners(): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  for (const id of await readdir(FOLDER).catch(() => [])) found.set(id, await readFile(join(FOLDER, id), 'utf8').catch(() => ''));
  return found;
}
