import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Logger } from 'pino';
import { StatusError } from '../api/errors.ts';
import { type Clock, sleep } from '../client/clock.ts';
import { createHttpClient } from '../client/http.ts';
import { type CertificatePair, CertificateStore, validity } from './certificates.ts';
import { newKey, requestCertificate } from './csr.ts';
import { discoverCa } from './discovery.ts';

export interface BootstrapOptions {
  server: string;
  /** PEM; found by discovery where left out. */
  caCert?: string;
  /** A bootstrap token, ID.SECRET. Needed only until there is a client certificate. */
  token?: string;
  caCertHashes?: string[];
  certDirectory: string;
  nodeName: string;
  log: Logger;
  clock: Clock;
  signal: AbortSignal;
}

export interface NodeCredentials {
  ca: string;
  pair: CertificatePair;
}

/** Errors that no repetition mends. */
const isFinal = (e: unknown) => e instanceof StatusError && (e.code === 401 || e.code === 403);

/**
 * Gets the node its client certificate: a valid one from disk, else one asked for with the bootstrap token. Tries until it succeeds or
 * the signal aborts, since the API server may come up after the node.
 */
export async function bootstrap(o: BootstrapOptions): Promise<NodeCredentials> {
  const store = new CertificateStore(o.certDirectory, 'kubelet-client');
  await mkdir(o.certDirectory, { recursive: true, mode: 0o700 });
  const caFile = join(o.certDirectory, 'ca.crt');
  const stored = await store.load();
  const storedCa = o.caCert ?? (await readFile(caFile, 'utf8').catch(() => undefined));
  if (stored && storedCa && validity(stored.cert).notAfter > o.clock.now() + 60_000) return { ca: storedCa, pair: stored };
  const token = o.token;
  if (!token) throw new Error(`there is no valid client certificate in ${o.certDirectory}, and no bootstrap token to get one with`);

  for (let wait = 250; ; wait = Math.min(wait * 2, 5000)) {
    try {
      const ca = o.caCert ?? (await discoverCa({ server: o.server, token, caCertHashes: o.caCertHashes ?? [], signal: o.signal }));
      await writeFile(caFile, ca, { mode: 0o644 });
      const client = createHttpClient({ server: o.server, ca, token, userAgent: 'kumulus-kubelet' });
      try {
        const key = await newKey();
        const cert = await requestCertificate({
          client,
          signerName: 'kubernetes.io/kube-apiserver-client-kubelet',
          nodeName: o.nodeName,
          key,
          signal: AbortSignal.any([o.signal, AbortSignal.timeout(15 * 60_000)]),
        });
        const pair = { cert, key: key.pem };
        await store.save(pair, o.clock.now());
        o.log.info({ node: o.nodeName }, 'got a client certificate');
        return { ca, pair };
      } finally {
        client.close();
      }
    } catch (error) {
      o.signal.throwIfAborted();
      o.log[isFinal(error) ? 'error' : 'warn']({ err: error }, 'TLS bootstrap failed, will retry');
      await sleep(o.clock, isFinal(error) ? 10_000 : wait, o.signal);
    }
  }
}
