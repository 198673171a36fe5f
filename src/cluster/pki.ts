import { createHash, generateKeyPair, generateKeyPairSync, X509Certificate } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { type KeyPair, type LeafRequest, makeAuthority, makeLeaf } from './x509.ts';

export type { KeyPair };

/** The keys of one cluster, named as kubeadm names the files. */
export interface Pki {
  ca: KeyPair;
  apiserver: KeyPair;
  /** The API server's client certificate for kubelets. */
  kubeletClient: KeyPair;
  /** system:masters, for the kubeconfig. */
  admin: KeyPair;
  controlPlane: { controllerManager: KeyPair; scheduler: KeyPair; cloudControllerManager: KeyPair };
  serviceAccount: { privateKey: string; publicKey: string };
}

/** A new authority, valid for ten years. */
export const makeCa = (name: string): Promise<KeyPair> => makeAuthority({ commonName: name }, 3650);

/** A certificate of this authority with a fresh key, valid for a year. */
export const issue = (ca: KeyPair, request: LeafRequest): Promise<KeyPair> => makeLeaf(ca, request, 365);

/** sha256:HEX of the authority's public key, as kubeadm's --discovery-token-ca-cert-hash. */
export function caCertHash(ca: string): string {
  const spki = new X509Certificate(ca).publicKey.export({ type: 'spki', format: 'der' });
  return `sha256:${createHash('sha256').update(spki).digest('hex')}`;
}

/** Keys that are kept nowhere, for a cluster that lives in this process. All are P-256: an RSA key takes half a second at times. */
export async function ephemeralPki(names: {
  dnsNames: string[];
  ips: string[];
}): Promise<Pick<Pki, 'ca' | 'apiserver' | 'kubeletClient' | 'admin' | 'serviceAccount'>> {
  const ca = await makeCa('kubernetes');
  const [apiserver, kubeletClient, admin] = await Promise.all([
    issue(ca, { commonName: 'kube-apiserver', ...names, usage: 'server' }),
    issue(ca, { commonName: 'kube-apiserver-kubelet-client', organizations: ['kubeadm:cluster-admins'], usage: 'client' }),
    issue(ca, { commonName: 'kubernetes-admin', organizations: ['system:masters'], usage: 'client' }),
  ]);
  const serviceAccount = generateKeyPairSync('ec', {
    namedCurve: 'P-256',
    publicKeyEncoding: { type: 'spki', format: 'pem' },
    privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
  });
  return { ca, apiserver, kubeletClient, admin, serviceAccount };
}

const making = new Map<string, Promise<void>>();

/** Makes the key of service account tokens where it is missing: it takes the longest of all, and may be begun ahead of ensurePki. */
export function ensureServiceAccountKey(directory: string): Promise<void> {
  if (existsSync(join(directory, 'sa.key'))) return Promise.resolve();
  const begun = making.get(directory);
  if (begun) return begun;
  const made = makeServiceAccountKey(directory).finally(() => making.delete(directory));
  making.set(directory, made);
  return made;
}

async function makeServiceAccountKey(directory: string): Promise<void> {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const { privateKey, publicKey } = await promisify(generateKeyPair)('rsa', {
    modulusLength: 2048,
    publicKeyEncoding: { type: 'spki', format: 'pem' },
    privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
  });
  writeFileSync(join(directory, 'sa.pub'), publicKey, { mode: 0o644 });
  writeFileSync(join(directory, 'sa.key'), privateKey, { mode: 0o600 });
}

/**
 * Reads the keys in directory, making what is missing: an interrupted creation goes on where it stopped. The API server's
 * certificate is made anew when it lacks one of the names asked for.
 */
export async function ensurePki(directory: string, names: { dnsNames: string[]; ips: string[] }): Promise<Pki> {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const file = (name: string) => join(directory, name);
  const pair = async (name: string, make: () => Promise<KeyPair>, fresh?: (cert: string) => boolean): Promise<KeyPair> => {
    if (existsSync(file(`${name}.crt`)) && existsSync(file(`${name}.key`))) {
      const found = { cert: readFileSync(file(`${name}.crt`), 'utf8'), key: readFileSync(file(`${name}.key`), 'utf8') };
      const expires = Date.parse(new X509Certificate(found.cert).validTo);
      if (expires - Date.now() > 30 * 24 * 3600 * 1000 && (fresh?.(found.cert) ?? true)) return found;
    }
    const made = await make();
    writeFileSync(file(`${name}.key`), made.key, { mode: 0o600 });
    writeFileSync(file(`${name}.crt`), made.cert, { mode: 0o644 });
    return made;
  };
  const ca = await pair('ca', () => makeCa('kubernetes'));
  const hasNames = (cert: string) => {
    const found = new X509Certificate(cert);
    const dns = found.subjectAltName?.split(', ') ?? [];
    return names.dnsNames.every((name) => dns.includes(`DNS:${name}`)) && names.ips.every((ip) => found.checkIP(ip) !== undefined);
  };
  const client = (commonName: string, organizations?: string[]) => () =>
    issue(ca, { commonName, ...(organizations ? { organizations } : {}), usage: 'client' });
  const [apiserver, kubeletClient, admin, controllerManager, scheduler, cloudControllerManager] = await Promise.all([
    pair('apiserver', () => issue(ca, { commonName: 'kube-apiserver', ...names, usage: 'server' }), hasNames),
    pair('apiserver-kubelet-client', client('kube-apiserver-kubelet-client', ['kubeadm:cluster-admins'])),
    pair('admin', client('kubernetes-admin', ['system:masters'])),
    pair('controller-manager', client('system:kube-controller-manager')),
    pair('scheduler', client('system:kube-scheduler')),
    pair('cloud-controller-manager', client('system:cloud-controller-manager')),
  ]);
  await ensureServiceAccountKey(directory);
  return {
    ca,
    apiserver,
    kubeletClient,
    admin,
    controlPlane: { controllerManager, scheduler, cloudControllerManager },
    serviceAccount: { privateKey: readFileSync(file('sa.key'), 'utf8'), publicKey: readFileSync(file('sa.pub'), 'utf8') },
  };
}
