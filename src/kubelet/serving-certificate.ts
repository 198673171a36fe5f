import { X509Certificate } from 'node:crypto';
import { isIP } from 'node:net';
import type { Logger } from 'pino';
import type { Client } from '../client/client.ts';
import type { Clock } from '../client/clock.ts';
import { type CertificatePair, CertificateStore, keepRotated, validity } from './certificates.ts';
import { newKey, requestCertificate } from './csr.ts';

export interface ServingCertificateOptions {
  client: Client;
  directory: string;
  nodeName: string;
  log: Logger;
  clock: Clock;
  signal: AbortSignal;
  onChange(pair: CertificatePair): void;
}

interface Names {
  dns: string[];
  ips: string[];
}

/**
 * The certificate of the kubelet's own HTTPS server, issued by the cluster for the addresses that the Node has. New addresses ask for a
 * new one; the old serves on until it is there.
 */
export class ServingCertificate {
  private readonly o: ServingCertificateOptions;
  private readonly store: CertificateStore;
  private pair: CertificatePair | undefined;
  private names: Names = { dns: [], ips: [] };
  private rotation: { abort: AbortController; done: Promise<void> } | undefined;

  constructor(o: ServingCertificateOptions) {
    this.o = o;
    this.store = new CertificateStore(o.directory, 'kubelet-server');
  }

  /** Uses what is left from an earlier run. */
  async load(): Promise<void> {
    const pair = await this.store.load();
    if (!pair || validity(pair.cert).notAfter <= this.o.clock.now()) return;
    this.pair = pair;
    this.o.onChange(pair);
  }

  /** The Node's addresses, each time they are seen. */
  wanted(addresses: readonly { type: string; address: string }[]): void {
    const all = [...new Set(addresses.map((a) => a.address))].sort();
    const names: Names = { dns: all.filter((a) => isIP(a) === 0), ips: all.filter((a) => isIP(a) !== 0) };
    // The API refuses a serving certificate that names nothing.
    if (all.length === 0 || (this.rotation && JSON.stringify(names) === JSON.stringify(this.names))) return;
    this.names = names;
    const previous = this.rotation;
    previous?.abort.abort(new Error('the addresses of the node have changed'));
    const abort = new AbortController();
    const current = this.pair && covers(this.pair.cert, names) ? this.pair : undefined;
    const done = (async () => {
      await previous?.done;
      await keepRotated(
        {
          store: this.store,
          request: (signal) => this.request(names, signal),
          onChange: (pair) => {
            this.pair = pair;
            this.o.onChange(pair);
          },
          log: this.o.log,
          clock: this.o.clock,
          signal: AbortSignal.any([abort.signal, this.o.signal]),
        },
        current,
      );
    })();
    this.rotation = { abort, done };
  }

  async stop(): Promise<void> {
    this.rotation?.abort.abort(new Error('the kubelet is stopping'));
    await this.rotation?.done;
  }

  private async request(names: Names, signal: AbortSignal): Promise<CertificatePair> {
    const { client, nodeName } = this.o;
    const key = await newKey();
    const cert = await requestCertificate({ client, signerName: 'kubernetes.io/kubelet-serving', nodeName, key, names, signal });
    return { cert, key: key.pem };
  }
}

function covers(pem: string, names: Names): boolean {
  const cert = new X509Certificate(pem);
  return names.dns.every((name) => cert.checkHost(name) !== undefined) && names.ips.every((ip) => cert.checkIP(ip) !== undefined);
}
