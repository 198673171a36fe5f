import 'reflect-metadata';
import { generateKeyPair, generateKeyPairSync, randomBytes, webcrypto } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import * as x509 from '@peculiar/x509';

x509.cryptoProvider.set(webcrypto as unknown as Parameters<typeof x509.cryptoProvider.set>[0]);

const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;
const year = 365 * 24 * 3600 * 1000;

export interface KeyPair {
  /** PEM. */
  cert: string;
  key: string;
}

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

async function exportKey(key: webcrypto.CryptoKey): Promise<string> {
  const der = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', key));
  return x509.PemConverter.encode(der, 'PRIVATE KEY');
}

const serial = () => `00${randomBytes(15).toString('hex')}`.slice(1);

/** A new authority, valid for ten years. */
export async function makeCa(name: string): Promise<KeyPair> {
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
  const cert = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: serial(),
    name: `CN=${name}`,
    notBefore: new Date(Date.now() - 300_000),
    notAfter: new Date(Date.now() + 10 * year),
    signingAlgorithm: algorithm,
    keys: keys as any,
    extensions: [
      new x509.BasicConstraintsExtension(true, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.digitalSignature | x509.KeyUsageFlags.keyEncipherment, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey as any),
    ],
  });
  return { cert: cert.toString('pem'), key: await exportKey(keys.privateKey) };
}

export interface CertificateRequest {
  commonName: string;
  organizations?: string[];
  dnsNames?: string[];
  ips?: string[];
  usage: 'server' | 'client';
}

/** A certificate of this authority with a fresh key, valid for a year. */
export async function issue(ca: KeyPair, request: CertificateRequest): Promise<KeyPair> {
  const issuer = new x509.X509Certificate(ca.cert);
  const signingKey = await webcrypto.subtle.importKey('pkcs8', x509.PemConverter.decodeFirst(ca.key), algorithm, false, ['sign']);
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
  const names = [
    ...(request.dnsNames ?? []).map((value) => ({ type: 'dns' as const, value })),
    ...(request.ips ?? []).map((value) => ({ type: 'ip' as const, value })),
  ];
  const cert = await x509.X509CertificateGenerator.create({
    serialNumber: serial(),
    subject: [...(request.organizations ?? []).map((O) => ({ O: [O] })), { CN: [request.commonName] }],
    issuer: issuer.subject,
    notBefore: new Date(Date.now() - 300_000),
    notAfter: new Date(Date.now() + year),
    signingAlgorithm: algorithm,
    publicKey: keys.publicKey as any,
    signingKey: signingKey as any,
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature | x509.KeyUsageFlags.keyEncipherment, true),
      new x509.ExtendedKeyUsageExtension([request.usage === 'server' ? x509.ExtendedKeyUsage.serverAuth : x509.ExtendedKeyUsage.clientAuth]),
      await x509.AuthorityKeyIdentifierExtension.create(issuer),
      ...(names.length ? [new x509.SubjectAlternativeNameExtension(names)] : []),
    ],
  });
  return { cert: cert.toString('pem'), key: await exportKey(keys.privateKey) };
}

/** sha256:HEX of the authority's public key, as kubeadm's --discovery-token-ca-cert-hash. */
export async function caCertHash(ca: string): Promise<string> {
  const digest = await webcrypto.subtle.digest('SHA-256', new x509.X509Certificate(ca).publicKey.rawData);
  return `sha256:${Buffer.from(digest).toString('hex')}`;
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
      const expires = new x509.X509Certificate(found.cert).notAfter.getTime();
      if (expires - Date.now() > 30 * 24 * 3600 * 1000 && (fresh?.(found.cert) ?? true)) return found;
    }
    const made = await make();
    writeFileSync(file(`${name}.key`), made.key, { mode: 0o600 });
    writeFileSync(file(`${name}.crt`), made.cert, { mode: 0o644 });
    return made;
  };
  const ca = await pair('ca', () => makeCa('kubernetes'));
  const hasNames = (cert: string) => {
    const san = new x509.X509Certificate(cert).getExtension(x509.SubjectAlternativeNameExtension);
    const has = new Set(san?.names.items.map((n) => n.value) ?? []);
    return [...names.dnsNames, ...names.ips].every((n) => has.has(n));
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
