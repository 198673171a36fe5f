import { generateKeyPairSync, randomBytes, X509Certificate } from 'node:crypto';
import { caCertHash, issue, makeCa } from '../../../src/cluster/pki.ts';
import type { ResourceKind } from '../resource.ts';
import type { Properties } from '../values.ts';

/** Renewed when less is left: kubeconfigs hold the administrator's certificate, which is valid for a year. */
const renewBeforeMs = 30 * 24 * 3600 * 1000;

const text = (state: Properties, name: string) => String(state[name] ?? '');

async function administrator(ca: { cert: string; key: string }): Promise<Properties> {
  const pair = await issue(ca, { commonName: 'kubernetes-admin', organizations: ['system:masters'], usage: 'client' });
  return { adminCertificate: pair.cert, adminKey: pair.key };
}

/** A bootstrap token in kubeadm's form: six and sixteen characters of a-z0-9. */
function bootstrapToken(): string {
  const alphabet = 'abcdefghijklmnopqrstuvwxyz0123456789';
  const letters: string[] = [];
  // Bytes from 252 on would favour some letters.
  while (letters.length < 22) letters.push(...[...randomBytes(32)].filter((b) => b < 252).map((b) => alphabet[b % 36] as string));
  return `${letters.slice(0, 6).join('')}.${letters.slice(6, 22).join('')}`;
}

/**
 * A cluster's keys, made by the provider and kept in Pulumi's state alone, encrypted there: so that the kubeconfig and the hash
 * that nodes check are known before any instance runs, and a new control plane instance is the same cluster.
 */
export const credentials: ResourceKind = {
  token: 'kumulus:cluster:Credentials',
  description: "A cluster's authority, keys, bootstrap token and administrator.",
  properties: { cluster: { type: 'string', description: 'Name of the cluster.', required: true, replaces: true } },
  attributes: {
    caCertificate: { description: 'PEM of the authority.' },
    caCertHash: { description: "sha256:HEX of the authority's public key." },
    caKey: { description: "PEM of the authority's key.", secret: true },
    serviceAccountKey: { description: 'PEM of the key that signs service account tokens.', secret: true },
    bootstrapToken: { description: 'What nodes join with.', secret: true },
    adminCertificate: { description: "PEM of the administrator's certificate; renewed before it ends." },
    adminKey: { description: "PEM of the administrator's key.", secret: true },
  },
  async create(_context, inputs) {
    const ca = await makeCa('kubernetes');
    const { privateKey } = generateKeyPairSync('rsa', {
      modulusLength: 2048,
      publicKeyEncoding: { type: 'spki', format: 'pem' },
      privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
    });
    return {
      id: `${inputs['cluster']}`,
      attributes: {
        caCertificate: ca.cert,
        caCertHash: caCertHash(ca.cert),
        caKey: ca.key,
        serviceAccountKey: privateKey,
        bootstrapToken: bootstrapToken(),
        ...(await administrator(ca)),
      },
    };
  },
  /** They exist in the state alone, and so cannot be imported. */
  async read(_context, id, inputs, state) {
    if (!inputs || !state['caKey']) return undefined;
    return { id, inputs, attributes: attributesOf(state) };
  },
  async update(_context, id, _inputs, _previous, state) {
    const ca = { cert: text(state, 'caCertificate'), key: text(state, 'caKey') };
    return { id, attributes: { ...attributesOf(state), ...(credentials.stale?.(state).length ? await administrator(ca) : {}) } };
  },
  async delete() {},
  stale(state) {
    const certificate = state['adminCertificate'];
    if (typeof certificate !== 'string') return [];
    const ends = new X509Certificate(certificate).validToDate.getTime();
    return ends - Date.now() < renewBeforeMs ? ['adminCertificate', 'adminKey'] : [];
  },
};

const attributesOf = (state: Properties): Properties => Object.fromEntries(Object.keys(credentials.attributes).map((name) => [name, state[name]]));
