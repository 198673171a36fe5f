import type { Readable } from 'node:stream';
import type { Logger } from 'pino';
import { RuntimeError } from '../cri.ts';
import { type HttpResponse, http, readBody } from './http.ts';
import { dockerList, dockerManifest, ociIndex, ociManifest } from './media-types.ts';
import { digestOf } from './oci-tar.ts';

export interface RegistryAuth {
  username?: string;
  password?: string;
  /** base64 of `username:password` */
  auth?: string;
  /** A refresh token for the token service. */
  identityToken?: string;
  /** A bearer token, sent as it is. */
  registryToken?: string;
}

/** An answer of a registry that is no success. `code` is the distribution API's, as MANIFEST_UNKNOWN. */
export class RegistryError extends Error {
  readonly status: number;
  readonly code: string;
  constructor(status: number, code: string, message: string) {
    super(message);
    this.name = 'RegistryError';
    this.status = status;
    this.code = code;
  }
}

/**
 * One repository of one registry, over the distribution API (opencontainers/distribution-spec). Speaks Basic and Bearer
 * authentication as the registry's WWW-Authenticate asks.
 */
export class Repository {
  readonly base: URL;
  readonly name: string;
  readonly #auth: RegistryAuth | undefined;
  readonly #log: Logger;
  #authorization: string | undefined;

  /** `base` may have a path, under which the API's /v2/ lies. */
  constructor(base: URL, name: string, auth: RegistryAuth | undefined, log: Logger) {
    this.base = base;
    this.name = name;
    this.#auth = auth;
    this.#log = log;
    if (auth?.registryToken) this.#authorization = `Bearer ${auth.registryToken}`;
  }

  /** A manifest or index by tag or digest; its digest is checked when it was asked for by digest. */
  async manifest(reference: string, signal?: AbortSignal): Promise<{ bytes: Buffer; digest: string; mediaType: string }> {
    const accept = [ociIndex, dockerList, ociManifest, dockerManifest].join(', ');
    const response = await this.#call('GET', `manifests/${reference}`, { headers: { accept }, signal });
    const bytes = await readBody(response.body);
    const digest = digestOf(bytes);
    if (reference.startsWith('sha256:') && digest !== reference)
      throw new Error(`registry ${this.base.host} sent a manifest of digest ${digest} for ${reference}`);
    const mediaType = (response.headers['content-type'] ?? '').split(';')[0]!.trim();
    return {
      bytes,
      digest,
      mediaType: mediaType && mediaType !== 'application/json' ? mediaType : ((JSON.parse(bytes.toString()).mediaType as string) ?? ociManifest),
    };
  }

  /** A blob's bytes from `offset` on. `offset` in the answer is where the stream really starts (0 where ranges are not served). */
  async blob(digest: string, offset: number, signal?: AbortSignal): Promise<{ body: Readable; offset: number }> {
    const response = await this.#call('GET', `blobs/${digest}`, {
      headers: offset > 0 ? { range: `bytes=${offset}-` } : {},
      signal,
      accept: [200, 206],
    });
    return { body: response.body, offset: response.status === 206 ? offset : 0 };
  }

  async hasBlob(digest: string, signal?: AbortSignal): Promise<boolean> {
    const response = await this.#call('HEAD', `blobs/${digest}`, { signal, accept: [200, 404], push: true });
    response.body.resume();
    return response.status === 200;
  }

  /** Uploads a blob in one piece: POST for a place, PUT of the bytes. `open` is called again when authentication was asked for. */
  async putBlob(digest: string, size: number, open: () => Readable, signal?: AbortSignal): Promise<void> {
    const started = await this.#call('POST', 'blobs/uploads/', { headers: { 'content-length': '0' }, signal, accept: [202], push: true });
    started.body.resume();
    const location = started.headers['location'];
    if (!location) throw new Error(`registry ${this.base.host} gave no place to upload to`);
    const place = new URL(location, started.url);
    place.searchParams.set('digest', digest);
    const headers = { 'content-type': 'application/octet-stream', 'content-length': String(size) };
    const done = await this.#call('PUT', place, { headers, body: open, signal, accept: [201], push: true });
    done.body.resume();
  }

  async putManifest(reference: string, mediaType: string, bytes: Buffer, signal?: AbortSignal): Promise<void> {
    const headers = { 'content-type': mediaType, 'content-length': String(bytes.length) };
    const response = await this.#call('PUT', `manifests/${reference}`, { headers, body: () => bytes, signal, accept: [201], push: true });
    response.body.resume();
  }

  async #call(
    method: string,
    path: string | URL,
    o: { headers?: Record<string, string>; body?: () => Buffer | Readable; signal?: AbortSignal | undefined; accept?: number[]; push?: boolean },
  ): Promise<HttpResponse> {
    const url = path instanceof URL ? path : new URL(`${this.base.pathname.replace(/\/$/, '')}/v2/${this.name}/${path}`, this.base);
    const scope = `repository:${this.name}:${o.push ? 'pull,push' : 'pull'}`;
    for (let attempt = 0; ; attempt++) {
      const headers = { ...o.headers, ...(this.#authorization && url.host === this.base.host && { authorization: this.#authorization }) };
      const response = await http(url, { method, headers, signal: o.signal, ...(o.body && { body: o.body() }) });
      if ((o.accept ?? [200]).includes(response.status)) return response;
      const challenge = response.headers['www-authenticate'];
      if (response.status === 401 && attempt === 0 && challenge) {
        response.body.resume();
        this.#authorization = await this.#authorize(challenge, scope, o.signal);
        if (this.#authorization) continue;
      }
      throw await this.#failure(response, method, url);
    }
  }

  async #failure(response: HttpResponse, method: string, url: URL): Promise<RegistryError> {
    const text = await readBody(response.body, 1 << 16).then(String, () => '');
    let code = '';
    let detail = '';
    try {
      const first = JSON.parse(text).errors?.[0];
      code = first?.code ?? '';
      detail = first?.message ?? '';
    } catch {
      detail = text.slice(0, 200).trim();
    }
    return new RegistryError(
      response.status,
      code,
      `${method} ${url.origin}${url.pathname}: ${response.status}${code && ' ' + code}${detail && ': ' + detail}`,
    );
  }

  #basic(): string | undefined {
    const a = this.#auth;
    if (a?.auth) return a.auth;
    return a?.username ? Buffer.from(`${a.username}:${a.password ?? ''}`).toString('base64') : undefined;
  }

  async #authorize(challenge: string, scope: string, signal?: AbortSignal): Promise<string | undefined> {
    const basic = this.#basic();
    if (/^basic/i.test(challenge)) return basic && `Basic ${basic}`;
    if (!/^bearer/i.test(challenge)) throw new Error(`registry ${this.base.host} asks for an authentication that is not known here: ${challenge}`);
    const parameter = (name: string): string | undefined => new RegExp(`${name}="([^"]*)"`, 'i').exec(challenge)?.[1];
    const realm = parameter('realm');
    if (!realm) throw new Error(`registry ${this.base.host} names no token service: ${challenge}`);
    const url = new URL(realm, this.base);
    const service = parameter('service');
    let response: HttpResponse;
    if (this.#auth?.identityToken) {
      const form = new URLSearchParams({
        grant_type: 'refresh_token',
        refresh_token: this.#auth.identityToken,
        scope,
        ...(service && { service }),
        client_id: 'kumulus',
      });
      const body = Buffer.from(form.toString());
      const headers = { 'content-type': 'application/x-www-form-urlencoded', 'content-length': String(body.length) };
      response = await http(url, { method: 'POST', headers, body, signal });
    } else {
      if (service) url.searchParams.set('service', service);
      url.searchParams.append('scope', scope);
      response = await http(url, { headers: basic ? { authorization: `Basic ${basic}` } : {}, signal });
    }
    if (response.status !== 200) throw await this.#failure(response, 'GET', url);
    const answer = JSON.parse((await readBody(response.body)).toString());
    this.#log.debug({ registry: this.base.host, scope }, 'got a registry token');
    return `Bearer ${answer.token ?? answer.access_token}`;
  }
}

/** Where repositories of a domain are asked for: mirrors first, then the domain itself. */
export interface Mirror {
  pattern: RegExp;
  base: URL;
}

/**
 * Parses `PATTERN=URL,…`. A pattern is a registry's domain, or domain/repository, with `*` for any text; the URL may be plain
 * http and have a path. Throws InvalidArgument that names the faulty part.
 */
export function parseMirrors(text: string | undefined): Mirror[] {
  return (text ?? '')
    .split(',')
    .map((part) => part.trim())
    .filter(Boolean)
    .map((part) => {
      const at = part.indexOf('=');
      const [pattern, url] = [part.slice(0, at), part.slice(at + 1)];
      if (at < 1 || !URL.canParse(url)) throw new RuntimeError('InvalidArgument', `registry mirror "${part}" is not of the form PATTERN=URL`);
      return { pattern: new RegExp(`^${pattern.replace(/[.+?^${}()|[\]\\]/g, '\\$&').replaceAll('*', '.*')}$`), base: new URL(url) };
    });
}

export function endpoints(mirrors: Mirror[], domain: string, repository: string): URL[] {
  const urls = mirrors.filter((m) => m.pattern.test(domain) || m.pattern.test(`${domain}/${repository}`)).map((m) => m.base);
  const host = domain === 'docker.io' ? 'registry-1.docker.io' : domain;
  // As Docker does: a registry on loopback needs no TLS. It is tried without first, as most there have none.
  if (/^(localhost|127\.[\d.]+|\[::1\])(:\d+)?$/.test(domain)) urls.push(new URL(`http://${host}`));
  urls.push(new URL(`https://${host}`));
  return urls;
}
