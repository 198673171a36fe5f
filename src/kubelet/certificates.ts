import { X509Certificate } from 'node:crypto';
import { mkdir, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Logger } from 'pino';
import { type Clock, sleep } from '../client/clock.ts';

export interface CertificatePair {
  /** PEM, maybe with intermediates. */
  cert: string;
  key: string;
}

/** A certificate and its key in one PEM file behind a link NAME-current.pem, as the upstream kubelet keeps them. */
export class CertificateStore {
  private readonly directory: string;
  private readonly name: string;
  constructor(directory: string, name: 'kubelet-client' | 'kubelet-server') {
    this.directory = directory;
    this.name = name;
  }

  get currentPath(): string {
    return join(this.directory, `${this.name}-current.pem`);
  }

  /** undefined where there is none, or what is there is no pair. */
  async load(): Promise<CertificatePair | undefined> {
    const text = await readFile(this.currentPath, 'utf8').catch(() => '');
    const cert = text.match(/-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----\n?/g)?.join('');
    const key = text.match(/-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?-----END [A-Z ]*PRIVATE KEY-----\n?/)?.[0];
    if (!cert || !key) return undefined;
    try {
      new X509Certificate(cert);
    } catch {
      return undefined;
    }
    return { cert, key };
  }

  async save(pair: CertificatePair, now: number): Promise<void> {
    await mkdir(this.directory, { recursive: true, mode: 0o700 });
    const stamp = new Date(now).toISOString().replace(/T/, '-').replace(/:/g, '-').slice(0, 19);
    const file = `${this.name}-${stamp}.pem`;
    await writeFile(join(this.directory, file), `${pair.cert.trimEnd()}\n${pair.key.trimEnd()}\n`, { mode: 0o600 });
    const temporary = `${this.currentPath}.tmp`;
    await rm(temporary, { force: true });
    await symlink(file, temporary);
    await rename(temporary, this.currentPath);
  }
}

export const validity = (cert: string): { notBefore: number; notAfter: number } => {
  const x509 = new X509Certificate(cert);
  return { notBefore: Date.parse(x509.validFrom), notAfter: Date.parse(x509.validTo) };
};

/** When to ask for the next certificate: at 70 to 90 percent of its life, spread so that nodes do not come all at once. */
export function rotationTime(cert: string, random = Math.random()): number {
  const { notBefore, notAfter } = validity(cert);
  return notBefore + (notAfter - notBefore) * (0.7 + random * 0.2);
}

export interface RotationOptions {
  store: CertificateStore;
  /** Makes a key and has it certified. */
  request(signal: AbortSignal): Promise<CertificatePair>;
  /** Told of every new pair. */
  onChange(pair: CertificatePair): void;
  log: Logger;
  clock: Clock;
  signal: AbortSignal;
}

const maxWaitMs = 24 * 3_600_000;
const requestTimeoutMs = 15 * 60_000;

/** Renews a certificate before it ends, until the signal aborts. Failures are tried again with growing pauses; never rejects. */
export async function keepRotated(o: RotationOptions, current: CertificatePair | undefined): Promise<void> {
  let pair = current;
  let retry = 1000;
  while (!o.signal.aborted) {
    try {
      if (pair) {
        const wait = rotationTime(pair.cert) - o.clock.now();
        if (wait > 0) {
          // Timers reach 24 days at most.
          await sleep(o.clock, Math.min(wait, maxWaitMs), o.signal);
          if (wait > maxWaitMs) continue;
        }
      }
      pair = await o.request(AbortSignal.any([o.signal, AbortSignal.timeout(requestTimeoutMs)]));
      await o.store.save(pair, o.clock.now());
      o.onChange(pair);
      retry = 1000;
    } catch (error) {
      if (o.signal.aborted) return;
      o.log.warn({ err: error }, 'cannot renew certificate, will retry');
      await sleep(o.clock, retry, o.signal).catch(() => {});
      retry = Math.min(retry * 2, 60_000);
    }
  }
}
