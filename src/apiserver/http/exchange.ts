/** One HTTP request and its answer, apart from how they travel: HTTP/2 streams, HTTP/1.1, or in process. */

export interface Peer {
  commonName: string;
  /** Tells which of a user's certificates this is, as audit logs and reviews show it. */
  credentialId: string;
  organizations: string[];
  /** An authority of clients has signed it: the certificate's subject is who it is. */
  client: boolean;
  /** An authority of front proxies has. */
  frontProxy: boolean;
}

export interface HttpRequest {
  method: string;
  /** Path and query as sent. */
  url: string;
  path: string;
  query: URLSearchParams;
  /** Names in lower case. */
  headers: Record<string, string | string[] | undefined>;
  /** Of the verified client certificate; 'invalid' where one was sent that does not verify. */
  peer: Peer | 'invalid' | undefined;
  remoteAddress: string;
  /** Aborts when the client goes away. */
  readonly signal: AbortSignal;
  /** The whole body; StatusError 413 beyond limit bytes. */
  body(limit: number): Promise<Buffer>;
  /** The body as it comes, for proxies. */
  bodyStream(): NodeJS.ReadableStream | undefined;
}

export interface ResponseStream {
  /** False where the reader does not keep up: wait for drain. */
  write(chunk: Buffer): boolean;
  onDrain(listener: () => void): void;
  end(): void;
  /** Ends without a proper end, so that the reader knows it was cut off. */
  destroy(error?: Error): void;
}

export interface HttpResponse {
  /** Sent with the answer, whatever it is. */
  headers: Record<string, string | string[]>;
  readonly begun: boolean;
  readonly status: number;
  /** Of performance.now(): when the whole answer was handed over, and its size in octets. Neither is set for what is written bit by bit. */
  answeredAt?: number;
  answerBytes?: number;
  send(status: number, headers: Record<string, string | string[]>, body?: Buffer | Buffer[]): void;
  stream(status: number, headers: Record<string, string | string[]>): ResponseStream;
  /** After an answer that did not wait for the request's end: nothing more of it is read, and its `signal` aborts. */
  abandon?(): void;
}

/** What signals abort with. One for all: an error made for each would cost a stack trace each. */
export const clientGone = new Error('the client went away');

/** Octets of a body that is in parts. */
export function sizeOf(parts: Buffer[]): number {
  let size = 0;
  for (const part of parts) size += part.length;
  return size;
}

export function header(request: Pick<HttpRequest, 'headers'>, name: string): string {
  const value = request.headers[name];
  return Array.isArray(value) ? (value[0] ?? '') : (value ?? '');
}
