import type { HttpRequest, Peer } from '../http/exchange.ts';
import type { UserInfo } from './user.ts';

/** Whom a front proxy may speak for, and how. */
export interface RequestHeaderOptions {
  /** PEM of the authorities that sign front proxies' certificates. */
  ca: string;
  /** Common names that those certificates may have; any where empty. */
  allowedNames: string[];
  usernameHeaders: string[];
  uidHeaders?: string[];
  groupHeaders: string[];
  extraHeaderPrefixes: string[];
}

/** The user that a front proxy names in headers; undefined where the peer is no front proxy, or names none. Removes those headers. */
export function userOfHeaders(o: RequestHeaderOptions, request: HttpRequest, peer: Peer): UserInfo | undefined {
  if (!peer.frontProxy || (o.allowedNames.length > 0 && !o.allowedNames.includes(peer.commonName))) return undefined;
  const name = firstOf(request, o.usernameHeaders);
  if (!name) return undefined;
  const uid = firstOf(request, o.uidHeaders ?? []);
  const groups = o.groupHeaders.flatMap((header) => valuesOf(request, header));
  const extra: Record<string, string[]> = {};
  const used = [...o.usernameHeaders, ...(o.uidHeaders ?? []), ...o.groupHeaders].map((h) => h.toLowerCase());
  for (const prefix of o.extraHeaderPrefixes.map((p) => p.toLowerCase())) {
    for (const header of Object.keys(request.headers)) {
      if (!header.startsWith(prefix)) continue;
      const key = unescapeKey(header.slice(prefix.length));
      extra[key] = [...(extra[key] ?? []), ...valuesOf(request, header)];
      used.push(header);
    }
  }
  // Nobody behind this server, as an aggregated one, is to take them for ours.
  for (const header of used) delete request.headers[header];
  return { name, groups, ...(uid ? { uid } : {}), ...(Object.keys(extra).length ? { extra } : {}) };
}

function firstOf(request: HttpRequest, headers: string[]): string {
  for (const header of headers) {
    const value = valuesOf(request, header)[0];
    if (value) return value;
  }
  return '';
}

/** HTTP/1.1 in Node joins repeated fields with a comma. */
function valuesOf(request: HttpRequest, header: string): string[] {
  const value = request.headers[header.toLowerCase()];
  if (value === undefined) return [];
  return (Array.isArray(value) ? value : [value]).flatMap((v) => v.split(', ')).filter((v) => v);
}

function unescapeKey(key: string): string {
  try {
    return decodeURIComponent(key);
  } catch {
    return key;
  }
}
