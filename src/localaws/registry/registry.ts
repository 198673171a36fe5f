import type { IncomingMessage, ServerResponse } from 'node:http';
import { pipeline } from 'node:stream/promises';
import type { Cloud } from '../api/cloud.ts';
import type { ManifestRecord } from '../api/state/records.ts';
import { Blobs, digestPattern, type Upload } from './blobs.ts';

/** Bytes of the largest manifest, as the distribution specification advises. */
const largestManifest = 4 * 1024 * 1024;
const uploadLifeMs = 3600_000;

class RegistryFailure extends Error {
  readonly status: number;
  readonly code: string;
  readonly headers: Record<string, string>;
  constructor(status: number, code: string, message: string, headers: Record<string, string> = {}) {
    super(message);
    this.status = status;
    this.code = code;
    this.headers = headers;
  }
}

const imageNotFound = () => new RegistryFailure(404, 'MANIFEST_UNKNOWN', 'Requested image not found');

const manifestTypes = [
  'application/vnd.oci.image.manifest.v1+json',
  'application/vnd.oci.image.index.v1+json',
  'application/vnd.docker.distribution.manifest.v2+json',
  'application/vnd.docker.distribution.manifest.list.v2+json',
];

/** The AWS endpoint that a registry is of: it says who may push, and which repositories there are. */
export interface RegistryOwner {
  login(user: string, password: string): boolean | Promise<boolean>;
  repository(name: string): Owned<RepositoryShape | undefined>;
  repositoryNames(): Owned<string[]>;
  /** Whether the endpoint still has an image that is kept here, for endpoints that can lose some on their own. */
  has?(repository: string, digest: string): Promise<boolean>;
  /** Called when an image was pushed, before the push is acknowledged. */
  pushed?(image: { repository: string; digest: string; mediaType: string; tag?: string; text: string }): Promise<void>;
  /** Called when a tag or an image was deleted by the distribution API. */
  removed?(repository: string, reference: string): Promise<void>;
}

type Owned<T> = T | Promise<T>;
type RepositoryShape = { imageTagMutability?: string };

/** Where manifests are noted; their bytes and those of layers are files in `directory`. */
export type RegistryCloud = Pick<Cloud, 'accountId' | 'region' | 'tables' | 'state' | 'clock' | 'log' | 'directory'>;

const now = (cloud: RegistryCloud): Date => new Date(cloud.clock.now());

/**
 * ECR's registry: the distribution API (opencontainers/distribution-spec 1.1) under /v2/. Pushes need the user AWS with a token of
 * GetAuthorizationToken, and a repository that exists. Pulls need neither, which is not so on AWS: nodes pull with no credential helper.
 */
export class Registry {
  private readonly cloud: RegistryCloud;
  private readonly owner: RegistryOwner;
  private readonly blobs: Blobs;

  private constructor(cloud: RegistryCloud, owner: RegistryOwner, blobs: Blobs) {
    this.cloud = cloud;
    this.owner = owner;
    this.blobs = blobs;
  }

  static async open(cloud: RegistryCloud, owner: RegistryOwner): Promise<Registry> {
    const registry = new Registry(cloud, owner, await Blobs.open(`${cloud.directory}/registry`));
    registries.set(cloud.tables, registry);
    return registry;
  }

  async answer(message: IncomingMessage, response: ServerResponse): Promise<void> {
    try {
      await this.route(message, response);
    } catch (thrown) {
      if (response.headersSent) {
        response.destroy();
        return;
      }
      const known = thrown instanceof RegistryFailure;
      if (!known) this.cloud.log.error({ err: thrown, url: message.url }, 'a registry request failed');
      const { status, code, message: text, headers } = known ? thrown : new RegistryFailure(500, 'UNKNOWN', 'internal error');
      const body = JSON.stringify({ errors: [{ code, message: text }] });
      // A body that nobody reads would be taken for the next request.
      const close = message.complete ? {} : { connection: 'close' };
      response.writeHead(status, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body), ...headers, ...close });
      response.end(message.method === 'HEAD' ? undefined : body);
    }
  }

  private async route(message: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(message.url ?? '/', 'http://registry');
    const method = message.method ?? 'GET';
    const writing = method !== 'GET' && method !== 'HEAD';
    const known = await this.authenticated(message);
    if ((writing || message.headers.authorization !== undefined) && !known) throw this.unauthorized();
    response.setHeader('docker-distribution-api-version', 'registry/2.0');
    const path = url.pathname.replace(/^\/v2\/?/, '');
    if (path === '') {
      // Clients ask here whether they must log in. ECR wants that of everyone.
      if (!known) throw this.unauthorized();
      return void response.writeHead(200, { 'content-length': '2', 'content-type': 'application/json' }).end('{}');
    }
    if (path === '_catalog' && method === 'GET')
      return this.json(response, { repositories: await this.owner.repositoryNames() });
    const parts = /^(.+?)\/(blobs\/uploads|blobs|manifests|tags)(?:\/(.*))?$/.exec(path);
    if (!parts) throw new RegistryFailure(404, 'UNSUPPORTED', 'no such path in the distribution API');
    const [, name = '', kind, rest = ''] = parts;
    const repository = await this.owner.repository(name);
    if (!repository) {
      throw new RegistryFailure(
        404,
        'NAME_UNKNOWN',
        `The repository with name '${name}' does not exist in the registry with id '${this.cloud.accountId}'`,
      );
    }
    if (kind === 'tags' && rest === 'list' && method === 'GET') return this.tags(response, name, url);
    if (kind === 'manifests') {
      if (method === 'PUT') return this.putManifest(message, response, name, rest, repository);
      if (method === 'DELETE') return this.deleteManifest(response, name, rest);
      if (!writing) return this.getManifest(method, response, name, rest);
    }
    if (kind === 'blobs/uploads') {
      if (method === 'POST') return this.startUpload(message, response, name, url);
      const upload = this.blobs.uploads.get(rest);
      if (!upload || upload.repository !== name) throw new RegistryFailure(404, 'BLOB_UPLOAD_UNKNOWN', 'blob upload unknown to registry');
      if (method === 'PATCH') return this.patchUpload(message, response, upload);
      if (method === 'PUT') return this.finishUpload(message, response, upload, url);
      if (method === 'DELETE') {
        await this.blobs.abandon(upload);
        return void response.writeHead(204).end();
      }
      if (method === 'GET') return void response.writeHead(204, this.progress(upload)).end();
    }
    if (kind === 'blobs' && !writing) return this.getBlob(message, response, name, rest);
    throw new RegistryFailure(405, 'UNSUPPORTED', 'The operation is unsupported.');
  }

  private async authenticated(message: IncomingMessage): Promise<boolean> {
    const [scheme, value] = (message.headers.authorization ?? '').split(' ');
    if (scheme?.toLowerCase() !== 'basic' || !value) return false;
    const text = Buffer.from(value, 'base64').toString('utf8');
    const colon = text.indexOf(':');
    return colon > 0 && (await this.owner.login(text.slice(0, colon), text.slice(colon + 1)));
  }

  private unauthorized(): RegistryFailure {
    return new RegistryFailure(401, 'UNAUTHORIZED', 'authentication required', {
      'www-authenticate': `Basic realm="${this.cloud.accountId}.dkr.ecr.${this.cloud.region}.amazonaws.com",service="ecr.amazonaws.com"`,
    });
  }

  private json(response: ServerResponse, value: unknown): void {
    const body = JSON.stringify(value);
    response.writeHead(200, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) }).end(body);
  }

  private tags(response: ServerResponse, name: string, url: URL): void {
    const all = this.cloud.tables.manifests
      .by('repository', name)
      .flatMap((one) => one.tags)
      .sort();
    const last = url.searchParams.get('last');
    const from = last === null ? 0 : all.findIndex((tag) => tag > last);
    const size = Number(url.searchParams.get('n') ?? all.length);
    const shown = from < 0 ? [] : all.slice(from, from + size);
    if (from >= 0 && from + size < all.length) response.setHeader('link', `</v2/${name}/tags/list?n=${size}&last=${shown.at(-1)}>; rel="next"`);
    this.json(response, { name, tags: shown });
  }

  private find(name: string, reference: string): ManifestRecord {
    const { manifests } = this.cloud.tables;
    const found = reference.includes(':') ? manifests.get(`${name} ${reference}`) : manifests.by('tag', `${name}:${reference}`)[0];
    if (!found) throw imageNotFound();
    return found;
  }

  private async getManifest(method: string, response: ServerResponse, name: string, reference: string): Promise<void> {
    const record = this.find(name, reference);
    if (this.owner.has && !(await this.owner.has(name, record.digest))) throw imageNotFound();
    response.writeHead(200, { 'content-type': record.mediaType, 'content-length': record.size, 'docker-content-digest': record.digest });
    if (method === 'HEAD') response.end();
    else await pipeline(this.blobs.read(record.digest), response);
  }

  private async putManifest(
    message: IncomingMessage,
    response: ServerResponse,
    name: string,
    reference: string,
    repository: RepositoryShape,
  ): Promise<void> {
    const chunks: Buffer[] = [];
    let size = 0;
    for await (const chunk of message) {
      size += chunk.length;
      if (size > largestManifest) throw new RegistryFailure(413, 'MANIFEST_INVALID', 'the manifest is too large');
      chunks.push(chunk);
    }
    const digest = await this.storeManifest(name, Buffer.concat(chunks), message.headers['content-type'], reference, repository);
    response.writeHead(201, { location: `/v2/${name}/manifests/${digest}`, 'docker-content-digest': digest, 'content-length': '0' }).end();
  }

  /** Keeps a manifest under its digest and, where the reference is one, a tag. Resolves to the digest when it is on disk. */
  async storeManifest(
    name: string,
    bytes: Buffer,
    contentType: string | undefined,
    reference: string,
    repository: RepositoryShape,
  ): Promise<string> {
    let manifest: any;
    try {
      manifest = JSON.parse(bytes.toString('utf8'));
    } catch {
      throw new RegistryFailure(400, 'MANIFEST_INVALID', 'the manifest is no JSON');
    }
    const mediaType = contentType?.split(';')[0]?.trim() || manifest?.mediaType;
    if (!manifestTypes.includes(mediaType)) throw new RegistryFailure(415, 'MANIFEST_INVALID', `manifests of type ${mediaType} are not known`);
    const isIndex = Array.isArray(manifest.manifests);
    const named: any[] = isIndex ? manifest.manifests : [manifest.config, ...(manifest.layers ?? [])];
    const { manifests, repositoryBlobs } = this.cloud.tables;
    for (const one of named) {
      const digest = one?.digest;
      if (typeof digest !== 'string' || !digestPattern.test(digest)) throw new RegistryFailure(400, 'MANIFEST_INVALID', 'a descriptor has no digest');
      const there = isIndex ? manifests.has(`${name} ${digest}`) : repositoryBlobs.has(`${name} ${digest}`);
      if (!there && !one.urls)
        throw new RegistryFailure(404, isIndex ? 'MANIFEST_UNKNOWN' : 'MANIFEST_BLOB_UNKNOWN', `${digest} is not in the repository`);
    }
    const tag = reference.includes(':') ? undefined : reference;
    if (tag !== undefined && !/^\w[\w.-]{0,127}$/.test(tag)) throw new RegistryFailure(400, 'TAG_INVALID', 'manifest tag did not match URI');
    const digest = await this.blobs.put(bytes);
    if (tag === undefined && digest !== reference) throw new RegistryFailure(400, 'DIGEST_INVALID', 'provided digest did not match uploaded content');
    const immutable = repository.imageTagMutability === 'IMMUTABLE';
    await this.cloud.state.writable();
    this.cloud.state.transact(() => {
      const key = `${name} ${digest}`;
      if (tag !== undefined) {
        for (const other of manifests.by('tag', `${name}:${tag}`)) {
          if (other.digest === digest) continue;
          if (immutable)
            throw new RegistryFailure(
              400,
              'TAG_INVALID',
              `The image tag '${tag}' already exists in the '${name}' repository and cannot be overwritten because the repository is immutable.`,
            );
          manifests.change(`${name} ${other.digest}`, { tags: other.tags.filter((one) => one !== tag) });
        }
      }
      const known = manifests.get(key);
      manifests.put(key, {
        repository: name,
        digest,
        mediaType,
        size: bytes.length,
        imageSize: named.reduce((sum, one) => sum + (Number(one.size) || 0), 0),
        tags: [...new Set([...(known?.tags ?? []), ...(tag === undefined ? [] : [tag])])],
        references: named.map((one) => one.digest),
        ...(manifest.artifactType ? { artifactType: manifest.artifactType } : {}),
        ...(manifest.subject?.digest ? { subject: manifest.subject.digest } : {}),
        pushedAt: known?.pushedAt ?? now(this.cloud),
      });
    });
    await this.cloud.state.durable();
    await this.owner.pushed?.({ repository: name, digest, mediaType, ...(tag === undefined ? {} : { tag }), text: bytes.toString('utf8') });
    return digest;
  }

  private async deleteManifest(response: ServerResponse, name: string, reference: string): Promise<void> {
    this.find(name, reference);
    await this.removeImage(name, reference);
    await this.owner.removed?.(name, reference);
    response.writeHead(202, { 'content-length': '0' }).end();
  }

  /** Takes a tag off an image, or the image away; blobs that nothing names any more go with it. */
  async removeImage(name: string, reference: string): Promise<void> {
    const { manifests } = this.cloud.tables;
    const record = this.find(name, reference);
    this.cloud.state.transact(() => {
      const left = reference.includes(':') ? [] : record.tags.filter((one) => one !== reference);
      if (left.length) manifests.change(`${name} ${record.digest}`, { tags: left });
      else manifests.delete(`${name} ${record.digest}`);
    });
    if (!manifests.has(`${name} ${record.digest}`)) await this.collect(name, [record.digest, ...record.references]);
    await this.cloud.state.durable();
  }

  /** Removes those blobs that no manifest names and no repository has. */
  async collect(name: string, digests: string[]): Promise<void> {
    const { manifests, repositoryBlobs } = this.cloud.tables;
    for (const digest of digests) {
      const users = manifests.by('blob', digest);
      if (!users.some((one) => one.repository === name)) this.cloud.state.transact(() => repositoryBlobs.delete(`${name} ${digest}`));
      const asManifest = manifests.hasKey('digest', digest);
      if (!users.length && !asManifest && !repositoryBlobs.hasKey('digest', digest)) await this.blobs.remove(digest);
    }
  }

  private async getBlob(message: IncomingMessage, response: ServerResponse, name: string, digest: string): Promise<void> {
    const record = this.cloud.tables.repositoryBlobs.get(`${name} ${digest}`);
    const size = record && (await this.blobs.size(digest));
    if (size === undefined) throw new RegistryFailure(404, 'BLOB_UNKNOWN', 'blob unknown to registry');
    const headers = { 'content-type': 'application/octet-stream', 'docker-content-digest': digest, 'accept-ranges': 'bytes' };
    const range = /^bytes=(\d+)-(\d*)$/.exec(message.headers.range ?? '');
    const start = range ? Number(range[1]) : 0;
    const end = range?.[2] ? Math.min(Number(range[2]), size - 1) : size - 1;
    if (range && (start >= size || end < start))
      throw new RegistryFailure(416, 'BLOB_UPLOAD_INVALID', 'the range cannot be satisfied', { 'content-range': `bytes */${size}` });
    response.writeHead(range ? 206 : 200, {
      ...headers,
      'content-length': end - start + 1,
      ...(range ? { 'content-range': `bytes ${start}-${end}/${size}` } : {}),
    });
    if (message.method === 'HEAD') response.end();
    else await pipeline(this.blobs.read(digest, { start, end: Math.max(start, end) }), response);
  }

  private progress(upload: Upload): Record<string, string> {
    return {
      location: `/v2/${upload.repository}/blobs/uploads/${upload.id}`,
      range: `0-${Math.max(0, upload.size - 1)}`,
      'docker-upload-uuid': upload.id,
      'content-length': '0',
    };
  }

  private async startUpload(message: IncomingMessage, response: ServerResponse, name: string, url: URL): Promise<void> {
    const time = this.cloud.clock.now();
    for (const old of this.blobs.uploads.values()) if (!old.busy && time - old.touched > uploadLifeMs) await this.blobs.abandon(old);
    const mount = url.searchParams.get('mount');
    const from = url.searchParams.get('from');
    const source = mount && from ? this.cloud.tables.repositoryBlobs.get(`${from} ${mount}`) : undefined;
    if (mount && source) {
      await this.record(name, mount, source.size);
      return void response.writeHead(201, { location: `/v2/${name}/blobs/${mount}`, 'docker-content-digest': mount, 'content-length': '0' }).end();
    }
    const upload = this.blobs.begin(name, time);
    // The whole blob may come at once.
    if (url.searchParams.has('digest')) return this.finishUpload(message, response, upload, url);
    response.writeHead(202, this.progress(upload)).end();
  }

  private async patchUpload(message: IncomingMessage, response: ServerResponse, upload: Upload): Promise<void> {
    const from = /^(?:bytes[ =])?(\d+)-/.exec(message.headers['content-range'] ?? '');
    if (upload.busy || (from && Number(from[1]) !== upload.size))
      throw new RegistryFailure(416, 'BLOB_UPLOAD_INVALID', 'the chunk does not follow what is there', this.progress(upload));
    upload.touched = this.cloud.clock.now();
    await this.blobs.append(upload, message);
    response.writeHead(202, this.progress(upload)).end();
  }

  private async finishUpload(message: IncomingMessage, response: ServerResponse, upload: Upload, url: URL): Promise<void> {
    const digest = url.searchParams.get('digest') ?? '';
    if (!digestPattern.test(digest)) throw new RegistryFailure(400, 'DIGEST_INVALID', 'provided digest is not sha256:HEX');
    if (upload.busy) throw new RegistryFailure(416, 'BLOB_UPLOAD_INVALID', 'another request writes to this upload');
    await this.blobs.append(upload, message);
    const size = await this.blobs.finish(upload, digest);
    if (size === undefined) throw new RegistryFailure(400, 'DIGEST_INVALID', 'provided digest did not match uploaded content');
    await this.record(upload.repository, digest, size);
    response.writeHead(201, { location: `/v2/${upload.repository}/blobs/${digest}`, 'docker-content-digest': digest, 'content-length': '0' }).end();
  }

  private async record(repository: string, digest: string, size: number): Promise<void> {
    await this.cloud.state.writable();
    this.cloud.state.transact(() =>
      this.cloud.tables.repositoryBlobs.put(`${repository} ${digest}`, { repository, digest, size, at: now(this.cloud) }),
    );
    await this.cloud.state.durable();
  }

  /** The bytes of a manifest. */
  async manifestText(digest: string): Promise<string> {
    const chunks: Buffer[] = [];
    for await (const chunk of this.blobs.read(digest)) chunks.push(chunk);
    return Buffer.concat(chunks).toString('utf8');
  }
}

const registries = new WeakMap<object, Registry>();

/** The registry of an endpoint, for ECR's own operations. */
export function registryOf(cloud: Pick<RegistryCloud, 'tables'>): Registry {
  const found = registries.get(cloud.tables);
  if (!found) throw new Error('the endpoint has no registry');
  return found;
}
