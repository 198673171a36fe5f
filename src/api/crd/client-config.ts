import { X509Certificate } from 'node:crypto';
import type { FieldError } from '../errors.ts';
import { subdomainProblems } from '../validation.ts';

/** How a webhook is reached: by URL or by service. */
export interface ClientConfig {
  url?: string;
  service?: { namespace: string; name: string; path?: string; port?: number };
  /** PEM in base64. */
  caBundle?: string;
}

const form = '; desired format: https://host[/path]';
const wrong = (field: string, value: unknown, detail: string): FieldError => ({ type: 'FieldValueInvalid', field, value, detail });

/** The certificates of a caBundle (base64 of PEM); Error where there is none. */
export function certificatesOf(caBundle: string): string[] {
  const pem = Buffer.from(caBundle, 'base64').toString('latin1');
  const found = pem.match(/-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----/g) ?? [];
  for (const one of found) new X509Certificate(one);
  if (found.length === 0) throw new Error('unable to load root certificates: unable to parse bytes as PEM block');
  return found;
}

function urlErrors(field: string, text: string): FieldError[] {
  const errors: FieldError[] = [];
  const match = /^(?:([a-zA-Z][a-zA-Z0-9+.-]*):)?(?:\/\/([^/?#]*))?([^?#]*)(?:\?([^#]*))?(?:#(.*))?$/s.exec(text);
  const [, scheme = '', authority = '', , query = '', fragment = ''] = match ?? [];
  const at = authority.lastIndexOf('@');
  const host = authority.slice(at + 1);
  if (scheme !== 'https') errors.push(wrong(field, scheme, `'https' is the only allowed URL scheme${form}`));
  if (!host) errors.push(wrong(field, host, `host must be specified${form}`));
  if (at >= 0) errors.push(wrong(field, authority.slice(0, at), 'user information is not permitted in the URL'));
  if (fragment) errors.push(wrong(field, fragment, 'fragments are not permitted in the URL'));
  if (query) errors.push(wrong(field, query, 'query parameters are not permitted in the URL'));
  return errors;
}

function serviceErrors(field: string, service: NonNullable<ClientConfig['service']>): FieldError[] {
  const errors: FieldError[] = [];
  // Upstream mixes the two up, and tests know it.
  if (!service.namespace) errors.push({ type: 'FieldValueRequired', field: `${field}.name`, detail: '' });
  if (!service.name) errors.push({ type: 'FieldValueRequired', field: `${field}.namespace`, detail: '' });
  const port = service.port ?? 443;
  if (port < 1 || port > 65_535) errors.push(wrong(`${field}.port`, port, 'port is not valid: must be between 1 and 65535, inclusive'));
  const { path } = service;
  if (!path || path === '/') return errors;
  const at = `${field}.path`;
  if (path === '//') return [...errors, wrong(at, path, 'segment[0] may not be empty')];
  if (!path.startsWith('/')) errors.push(wrong(at, path, "must start with a '/'"));
  const segments = path.slice(1).replace(/\/$/, '').split('/');
  segments.forEach((segment, i) => {
    if (!segment) errors.push(wrong(at, path, `segment[${i}] may not be empty`));
    else for (const problem of subdomainProblems(segment)) errors.push(wrong(at, path, `segment[${i}]: ${problem}`));
  });
  return errors;
}

/** What is wrong with how a webhook is reached. */
export function validateClientConfig(field: string, config: ClientConfig | undefined): FieldError[] {
  const { url, service } = config ?? {};
  if ((url === undefined) === (service === undefined)) {
    const detail = 'exactly one of url or service is required';
    return [{ type: 'FieldValueRequired', field, detail }];
  }
  return url !== undefined ? urlErrors(`${field}.url`, url) : serviceErrors(`${field}.service`, service as NonNullable<ClientConfig['service']>);
}
