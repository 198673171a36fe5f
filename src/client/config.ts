import type { Duplex } from 'node:stream';

/** How to reach an API server, and as whom. PEM texts, not paths. */
export interface ClientConfig {
  /** https://HOST:PORT, or http:// in tests. */
  server: string;
  /** Authorities that may have signed the server's certificate; the system's where left out. */
  ca?: string;
  cert?: string;
  key?: string;
  /** Asked before each connection, for certificates that rotate; wins over cert and key. */
  credentials?: () => { cert: string; key: string };
  token?: string;
  /** Read again at most once a minute: projected service account tokens rotate. */
  tokenFile?: string;
  /**
   * Asked before each request, for credentials that come from elsewhere; wins over all others. Asked again, with what it gave
   * before, when the server answered 401 to that; the request is then sent a second time.
   */
  authenticate?: (refused?: { token?: string; cert?: string; key?: string }) => Promise<{ token?: string; cert?: string; key?: string }>;
  /** Sent with every request: impersonation. */
  headers?: Record<string, string | string[]>;
  userAgent?: string;
  /** The name in the server's certificate where it is not the host of `server`. */
  serverName?: string;
  insecureSkipTlsVerify?: boolean;
  /** Opens the connection beneath TLS; a TCP connection to the host by default. */
  dial?: () => Promise<Duplex> | Duplex;
}
