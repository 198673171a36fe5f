import { createReadStream, createWriteStream, existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { copyLmdbStore, openLmdbStore } from '../store/lmdb.ts';
import { readSnapshot, restoreSnapshot, saveSnapshot, type SnapshotStatus } from '../store/snapshot.ts';
import { UserError } from './state.ts';
import { openStore, type StoreLocation } from './store.ts';

/** Writes a snapshot of a store, which may be in use, to a file that appears whole or not at all. */
export async function save(location: StoreLocation, file: string): Promise<SnapshotStatus> {
  if (existsSync(file)) throw new UserError(`${file} exists already`);
  const partial = `${file}.part`;
  const write = async (store: Awaited<ReturnType<typeof openStore>>) => {
    try {
      const status = await saveSnapshot(store, createWriteStream(partial, { mode: 0o600, flush: true }), new Date());
      renameSync(partial, file);
      return status;
    } finally {
      await store.close();
      rmSync(partial, { force: true });
    }
  };
  if (location.etcdServers) return write(await openStore(location));
  if (!existsSync(join(location.directory, 'data.mdb'))) throw new UserError(`there is no store in ${location.directory}`);
  // An API server may have the store open: lmdb copies it as it is at one moment.
  const copy = mkdtempSync(join(dirname(location.directory), '.snapshot-'));
  try {
    await copyLmdbStore(location.directory, copy);
    return await write(await openLmdbStore(copy));
  } finally {
    rmSync(copy, { recursive: true, force: true });
  }
}

/** What a snapshot holds; a UserError where it is none, damaged or not whole. */
export async function status(file: string): Promise<SnapshotStatus> {
  if (!existsSync(file)) throw new UserError(`${file} does not exist`);
  return asUserError(file, () => readSnapshot(createReadStream(file)));
}

/**
 * Puts a snapshot into a store: etcd must be empty; of the embedded store, which must not be in use, the present content is kept
 * beside it in a folder whose path is returned.
 */
export async function restore(location: StoreLocation, file: string): Promise<SnapshotStatus & { kept?: string }> {
  await status(file);
  if (location.etcdServers) {
    const store = await openStore(location);
    return asUserError(file, () => restoreSnapshot(store, createReadStream(file))).finally(() => store.close());
  }
  const { directory } = location;
  mkdirSync(dirname(directory), { recursive: true });
  let beyond = 0;
  let kept: string | undefined;
  if (existsSync(join(directory, 'data.mdb'))) {
    const present = await openLmdbStore(directory).catch((error) => {
      throw new UserError(`${(error as Error).message}; stop the cluster first`);
    });
    beyond = present.revision();
    await present.close();
    kept = join(dirname(directory), `${basename(directory)}-before-restore-${new Date().toISOString().replace(/\W/g, '')}`);
  }
  const fresh = mkdtempSync(join(dirname(directory), '.restore-'));
  try {
    const store = await openLmdbStore(fresh);
    const restored = await asUserError(file, () => restoreSnapshot(store, createReadStream(file), beyond)).finally(() => store.close());
    if (kept) renameSync(directory, kept);
    else rmSync(directory, { recursive: true, force: true });
    renameSync(fresh, directory);
    return { ...restored, ...(kept ? { kept } : {}) };
  } finally {
    rmSync(fresh, { recursive: true, force: true });
  }
}

async function asUserError<T>(file: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw error instanceof UserError ? error : new UserError(`${file}: ${(error as Error).message}`);
  }
}
