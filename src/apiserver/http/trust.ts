import { X509Certificate } from 'node:crypto';
import type { TLSSocket } from 'node:tls';

const blocks = /-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----/g;

export const certificatesOf = (pem: string): X509Certificate[] => (pem.match(blocks) ?? []).map((block) => new X509Certificate(block));

/** The authorities that clients' and front proxies' certificates come from; both may be exchanged while the server runs. */
export class Trust {
  #clients: X509Certificate[] = [];
  #frontProxies: X509Certificate[] = [];
  #pem = '';

  constructor(clientCa: string, frontProxyCa: string | undefined) {
    this.set(clientCa, frontProxyCa);
  }

  set(clientCa: string, frontProxyCa: string | undefined): void {
    this.#clients = certificatesOf(clientCa);
    this.#frontProxies = certificatesOf(frontProxyCa ?? '');
    this.#pem = `${clientCa}\n${frontProxyCa ?? ''}`;
  }

  /** All of them, for TLS, which tells only that one of them has signed. */
  get pem(): string {
    return this.#pem;
  }

  /** Whose authority a peer's certificate comes from, once TLS has verified it. */
  rolesOf(socket: TLSSocket): { client: boolean; frontProxy: boolean } {
    if (this.#frontProxies.length === 0) return { client: true, frontProxy: false };
    const chain: X509Certificate[] = [];
    for (let at = socket.getPeerCertificate(true); at?.raw && chain.length < 10; at = at.issuerCertificate) {
      if (chain.at(-1)?.raw.equals(at.raw)) break;
      chain.push(new X509Certificate(at.raw));
    }
    const from = (authorities: X509Certificate[]) =>
      chain.some((one) => authorities.some((ca) => ca.raw.equals(one.raw) || (one.checkIssued(ca) && one.verify(ca.publicKey))));
    return { client: from(this.#clients), frontProxy: from(this.#frontProxies) };
  }
}
