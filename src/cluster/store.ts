import { readFileSync } from 'node:fs';
import type { Store } from '../store/store.ts';
import { UserError } from './state.ts';

export interface StoreLocation {
  /** Folder of the embedded store; used where no etcd is named. */
  directory: string;
  /** Members of etcd, separated by commas. */
  etcdServers?: string | undefined;
  /** PEM files. */
  etcdCafile?: string | undefined;
  etcdCertfile?: string | undefined;
  etcdKeyfile?: string | undefined;
  /** An EncryptionConfiguration. */
  encryptionProviderConfig?: string | undefined;
}

/** The store that flags name: etcd where there are servers, else lmdb. UserError where it cannot be had. */
export async function openStore(o: StoreLocation): Promise<Store> {
  const file = o.encryptionProviderConfig;
  if (!file) return openPlainStore(o);
  const [{ parseEncryptionConfiguration }, { EncryptedStore }] = await Promise.all([
    import('../apiserver/encryption/configuration.ts'),
    import('../apiserver/encryption/encrypted-store.ts'),
  ]);
  let rules: ReturnType<typeof parseEncryptionConfiguration>;
  try {
    rules = parseEncryptionConfiguration(readFileSync(file, 'utf8'));
  } catch (error) {
    throw new UserError(`${file}: ${(error as Error).message}`);
  }
  return new EncryptedStore(await openPlainStore(o), rules);
}

async function openPlainStore(o: StoreLocation): Promise<Store> {
  if (!o.etcdServers) {
    const { openLmdbStore } = await import('../store/lmdb.ts');
    return openLmdbStore(o.directory);
  }
  const { openEtcdStore } = await import('../store/etcd.ts');
  const pem = (file: string | undefined) => {
    if (!file) return undefined;
    try {
      return readFileSync(file, 'utf8');
    } catch (error) {
      throw new UserError(`${file} cannot be read: ${(error as Error).message}`);
    }
  };
  const [ca, cert, key] = [pem(o.etcdCafile), pem(o.etcdCertfile), pem(o.etcdKeyfile)];
  try {
    return await openEtcdStore({
      endpoints: o.etcdServers.split(',').map((s) => s.trim()),
      tls: { ...(ca ? { ca } : {}), ...(cert ? { cert } : {}), ...(key ? { key } : {}) },
    });
  } catch (error) {
    throw new UserError((error as Error).message);
  }
}
