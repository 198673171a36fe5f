import { createHash, createHmac, timingSafeEqual, X509Certificate } from 'node:crypto';
import { parse } from 'yaml';
import { createHttpClient } from '../client/http.ts';

const attemptTimeoutMs = 10_000;

/** `sha256:HEX` of a certificate's public key (its SubjectPublicKeyInfo), as `kubeadm --discovery-token-ca-cert-hash`. */
export function publicKeyHash(pem: string): string {
  const der = new X509Certificate(pem).publicKey.export({ type: 'spki', format: 'der' });
  return `sha256:${createHash('sha256').update(der).digest('hex')}`;
}

const pemBlocks = (text: string): string[] => text.match(/-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----\n?/g) ?? [];

/** Checks the detached JWS (HS256 under the token's secret) that the control plane puts beside the kubeconfig in cluster-info. */
export function verifyTokenSignature(kubeconfig: string, signature: string, token: string): boolean {
  const [id = '', secret = ''] = token.split('.');
  const [header = '', payload, given = ''] = signature.split('.');
  if (payload !== '') return false;
  try {
    const { alg, kid } = JSON.parse(Buffer.from(header, 'base64url').toString('utf8'));
    if (alg !== 'HS256' || kid !== id) return false;
  } catch {
    return false;
  }
  const expected = createHmac('sha256', secret)
    .update(`${header}.${Buffer.from(kubeconfig).toString('base64url')}`)
    .digest();
  const actual = Buffer.from(given, 'base64url');
  return actual.length === expected.length && timingSafeEqual(actual, expected);
}

export interface DiscoveryOptions {
  server: string;
  token: string;
  /** At least one must be that of the cluster's authority. */
  caCertHashes: string[];
  signal?: AbortSignal;
}

/**
 * Finds the cluster's certificate authority as kubeadm join does: reads kube-public/cluster-info over a connection that is not verified
 * yet, then verifies it by the token's signature and the hash of the authority's key, then reads it once more over a verified one.
 */
export async function discoverCa(o: DiscoveryOptions): Promise<string> {
  const read = async (config: { ca?: string; insecureSkipTlsVerify?: boolean }): Promise<Record<string, string>> => {
    const client = createHttpClient({ server: o.server, userAgent: 'kumulus-kubelet', ...config });
    try {
      const timeout = AbortSignal.timeout(attemptTimeoutMs);
      const signal = o.signal ? AbortSignal.any([o.signal, timeout]) : timeout;
      const response = await client.raw({ method: 'GET', path: '/api/v1/namespaces/kube-public/configmaps/cluster-info', signal });
      const text = await response.text();
      if (response.status !== 200) throw new Error(`reading cluster-info from ${o.server}: status ${response.status}: ${text.slice(0, 200)}`);
      return JSON.parse(text).data ?? {};
    } finally {
      client.close();
    }
  };
  const data = await read({ insecureSkipTlsVerify: true });
  const kubeconfig = data['kubeconfig'];
  if (!kubeconfig) throw new Error('cluster-info holds no kubeconfig');
  const id = o.token.split('.')[0]!;
  const signature = data[`jws-kubeconfig-${id}`];
  if (!signature) throw new Error(`cluster-info is not signed with token id "${id}": the token is unknown or has expired`);
  if (!verifyTokenSignature(kubeconfig, signature, o.token)) throw new Error(`the signature of cluster-info does not match token id "${id}"`);
  const encoded = parse(kubeconfig)?.clusters?.[0]?.cluster?.['certificate-authority-data'];
  if (typeof encoded !== 'string') throw new Error('cluster-info names no certificate authority');
  const ca = Buffer.from(encoded, 'base64').toString('utf8');
  const wanted = new Set(o.caCertHashes.map((h) => h.toLowerCase()));
  if (wanted.size > 0 && !pemBlocks(ca).some((pem) => wanted.has(publicKeyHash(pem))))
    throw new Error(`none of the authorities in cluster-info has a public key of hash ${o.caCertHashes.join(', ')}`);
  const again = await read({ ca });
  if (again['kubeconfig'] !== kubeconfig) throw new Error('cluster-info differs between the unverified and the verified connection');
  return ca;
}
