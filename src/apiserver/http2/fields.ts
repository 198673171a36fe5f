import type { HpackDecoder } from './hpack.ts';

/** The fields of a request. */
export interface Fields {
  method: string;
  /** Path and query. */
  url: string;
  /** Names in lower case; `:authority` stands as host too. */
  headers: Record<string, string | undefined>;
  /** What content-length announces. */
  contentLength: number | undefined;
}

/** A request that the protocol does not allow (RFC 9113, 8.1.1). */
export const malformed = Symbol('malformed');

/** What belongs to a connection of HTTP/1.1: HTTP/2 refuses it. */
export const connectionFields = new Set(['connection', 'keep-alive', 'proxy-connection', 'transfer-encoding', 'upgrade']);
/** Where the first of several counts; others are joined. */
const single = new Set([
  ...['authorization', 'content-type', 'content-length', 'host', 'from', 'referer', 'user-agent', 'if-modified-since', 'if-unmodified-since'],
  ...['max-forwards', 'proxy-authorization', 'date', 'location', 'retry-after', 'etag', 'expires', 'age', 'last-modified', 'server'],
]);
// Lower-case tokens, as RFC 9110 has them.
const token = /^[a-z0-9!#$%&'*+\-.^_`|~]+$/;
// No control characters but a tab, and no space around.
const value = /^(?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?$/;
const known = new Set<string>();

function isName(name: string): boolean {
  if (known.has(name)) return true;
  if (!token.test(name)) return false;
  if (known.size < 1000) known.add(name);
  return true;
}

/** Reads a request's header block; 'large' where it is beyond the limit. */
export function readFields(decoder: HpackDecoder, block: Buffer, limit: number): Fields | typeof malformed | 'large' {
  const pseudo: Record<string, string | undefined> = {};
  const headers: Record<string, string | undefined> = Object.create(null);
  let regular = false;
  let wrong = false;
  const complete = decoder.decode(block, limit, (name, text) => {
    if (wrong) return;
    if (name.charCodeAt(0) === 0x3a) {
      // Before all others, and each once.
      if (regular || pseudo[name] !== undefined || !(name === ':method' || name === ':path' || name === ':scheme' || name === ':authority')) wrong = true;
      else pseudo[name] = text;
      return;
    }
    regular = true;
    if (!isName(name) || !value.test(text) || connectionFields.has(name) || (name === 'te' && text !== 'trailers')) {
      wrong = true;
      return;
    }
    const before = headers[name];
    if (before === undefined) headers[name] = text;
    else if (!single.has(name)) headers[name] = name === 'cookie' ? `${before}; ${text}` : `${before}, ${text}`;
    else if (name === 'content-length' && before !== text) wrong = true;
  });
  if (wrong) return malformed;
  if (!complete) return 'large';
  const { ':method': method, ':path': url, ':scheme': scheme, ':authority': authority } = pseudo;
  if (!method || !url || !scheme || !/^[A-Z]+$/i.test(method) || (!url.startsWith('/') && url !== '*') || /[\x00-\x20\x7f]/.test(url)) return malformed;
  headers['host'] ??= authority;
  const announced = headers['content-length'];
  if (announced !== undefined && !/^\d{1,15}$/.test(announced)) return malformed;
  return { method, url, headers, contentLength: announced === undefined ? undefined : Number(announced) };
}
