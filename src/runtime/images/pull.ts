import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { rm, stat } from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';
import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from 'pino';
import { RuntimeError } from '../cri.ts';
import { readBody } from './http.ts';
import { type Descriptor, hostPlatform, type ImageConfig, type Index, type Manifest, selectPlatform } from './media-types.ts';
import { digestOf } from './oci-tar.ts';
import { digestName, type ImageReference, parseReference, tagName } from './reference.ts';
import { endpoints, type Mirror, type RegistryAuth, RegistryError, Repository } from './registry.ts';
import { ImageStore } from './store.ts';

/** Layers of one image that are downloaded at once. */
const parallelDownloads = 3;
const attempts = 5;

export interface PullerOptions {
  store: ImageStore;
  mirrors: Mirror[];
  /** Credentials where the caller gave none, as ECR's. */
  registryAuth?: ((host: string) => Promise<RegistryAuth | undefined>) | undefined;
  log: Logger;
}

/** Pulls images into a store. Pulls of the same name at the same time are one, and so are downloads of the same blob. */
export class Puller {
  readonly #o: PullerOptions;
  readonly #pulls = new Map<string, { promise: Promise<string>; abort: AbortController; waiting: number }>();
  readonly #downloads = new Map<string, Promise<string>>();
  /** How many pulls need the file of a blob. */
  readonly #users = new Map<string, number>();

  constructor(o: PullerOptions) {
    this.#o = o;
  }

  /** Resolves to `domain/repository@digest`. The signal leaves the pull; the pull itself ends when all who wait have left. */
  async pull(image: string, auth?: RegistryAuth, signal?: AbortSignal): Promise<string> {
    const ref = parseReference(image);
    const key = JSON.stringify([ref, auth]);
    let pull = this.#pulls.get(key);
    if (!pull) {
      const abort = new AbortController();
      const promise = this.#pull(image, ref, auth, abort.signal).finally(() => this.#pulls.delete(key));
      promise.catch(() => {});
      pull = { promise, abort, waiting: 0 };
      this.#pulls.set(key, pull);
    }
    pull.waiting++;
    try {
      return await abortable(pull.promise, signal, `pull of ${image}`);
    } finally {
      if (--pull.waiting === 0) pull.abort.abort(new Error(`pull of ${image} was given up`));
    }
  }

  async #pull(image: string, ref: ImageReference, auth: RegistryAuth | undefined, signal: AbortSignal): Promise<string> {
    const began = performance.now();
    const failures: unknown[] = [];
    for (const base of endpoints(this.#o.mirrors, ref.domain, ref.repository)) {
      const given = auth ?? (await this.#o.registryAuth?.(ref.domain));
      const repository = new Repository(base, ref.repository, given, this.#o.log);
      try {
        const result = await this.#from(repository, ref, signal);
        this.#o.log.info({ image, milliseconds: Math.round(performance.now() - began) }, 'pulled an image');
        return result;
      } catch (error) {
        if (signal.aborted) throw error;
        failures.push(error);
      }
    }
    const refused = failures.find((e): e is RegistryError => e instanceof RegistryError);
    const worst = (refused ?? failures[0]) as Error & { code?: string };
    const message = `failed to pull image "${tagName(ref) ?? image}": ${refused?.status === 404 ? `${image}: not found (${refused.message})` : worst.message || worst.code}`;
    if (refused?.status === 404) throw new RuntimeError('NotFound', message);
    if (refused && (refused.status === 401 || refused.status === 403)) {
      throw new RuntimeError('FailedPrecondition', `${message}: pull access denied, the repository does not exist or may require authorization`);
    }
    throw new RuntimeError(refused || worst instanceof RuntimeError ? 'Internal' : 'Unavailable', message);
  }

  async #from(repository: Repository, ref: ImageReference, signal: AbortSignal): Promise<string> {
    const { store } = this.#o;
    const known = ref.digest ? store.get(digestName(ref, ref.digest)) : undefined;
    if (known) {
      if (ref.tag) await store.add({ ...known, repoTags: [tagName(ref)!] });
      return digestName(ref, ref.digest!);
    }
    const top = await retry(signal, () => repository.manifest(ref.digest ?? ref.tag!, signal));
    let body = JSON.parse(top.bytes.toString()) as Manifest & Index;
    for (let depth = 0; Array.isArray(body.manifests); depth++) {
      const platform = hostPlatform();
      const chosen = selectPlatform(body, platform);
      if (!chosen || depth > 3)
        throw new RuntimeError('NotFound', `no match for platform ${platform.os}/${platform.architecture} in the manifest list`);
      body = JSON.parse((await retry(signal, () => repository.manifest(chosen.digest, signal))).bytes.toString());
    }
    if (!body.config || !Array.isArray(body.layers)) throw new Error(`the manifest has the form ${top.mediaType}, which is not known here`);
    const manifest: Manifest = body;
    const config = await this.#config(repository, manifest.config, signal);
    const diffIds = config.rootfs?.diff_ids ?? [];
    if (diffIds.length !== manifest.layers.length)
      throw new Error(`the image names ${diffIds.length} layers and its manifest ${manifest.layers.length}`);
    const names = ImageStore.snapshotNames(diffIds);
    const release = store.hold(names);
    try {
      await this.#layers(repository, manifest, diffIds, names, signal);
      const digest = digestName(ref, top.digest);
      await store.add({
        id: manifest.config.digest,
        repoTags: ref.tag ? [tagName(ref)!] : [],
        repoDigests: [digest],
        size: manifest.config.size + manifest.layers.reduce((sum, layer) => sum + layer.size, 0),
        config,
        snapshots: names,
      });
      return digest;
    } finally {
      release();
    }
  }

  async #config(repository: Repository, descriptor: Descriptor, signal: AbortSignal): Promise<ImageConfig> {
    const known = this.#o.store.get(descriptor.digest);
    if (known) return known.config;
    return await retry(signal, async () => {
      const bytes = await readBody((await repository.blob(descriptor.digest, 0, signal)).body);
      if (digestOf(bytes) !== descriptor.digest) throw new Error(`the configuration does not match its digest ${descriptor.digest}`);
      return JSON.parse(bytes.toString()) as ImageConfig;
    });
  }

  /** Several downloads at once, unpacked in order: a layer with an opaque folder must see those below. */
  async #layers(repository: Repository, manifest: Manifest, diffIds: string[], names: string[], outer: AbortSignal): Promise<void> {
    const { store } = this.#o;
    const failed = new AbortController();
    const signal = AbortSignal.any([outer, failed.signal]);
    const files = new Map<number, PromiseWithResolvers<string>>();
    const todo = names.map((_, index) => index).filter((index) => !store.has(names[index]!));
    for (const index of todo) {
      const waiting = Promise.withResolvers<string>();
      waiting.promise.catch(() => {});
      files.set(index, waiting);
    }
    const digests = new Set(todo.map((index) => manifest.layers[index]!.digest));
    for (const digest of digests) this.#users.set(digest, (this.#users.get(digest) ?? 0) + 1);
    const queue = [...todo];
    const worker = async (): Promise<void> => {
      for (let index = queue.shift(); index !== undefined; index = queue.shift()) {
        await this.#download(repository, manifest.layers[index]!, signal).then(files.get(index)!.resolve, files.get(index)!.reject);
      }
    };
    const workers = Promise.all(Array.from({ length: parallelDownloads }, worker));
    try {
      for (const index of todo) {
        const path = await files.get(index)!.promise;
        signal.throwIfAborted();
        await store.unpack(names, index, diffIds[index]!, () => createReadStream(path, { highWaterMark: 1 << 18 }));
      }
    } catch (error) {
      failed.abort(error);
      await workers;
      for (const digest of digests) this.#leave(digest);
      // What was downloaded stays for a while: the next try goes on from there.
      throw error;
    }
    for (const digest of digests) if (this.#leave(digest)) await rm(store.ingestPath(digest), { force: true });
  }

  /** True when nobody needs the blob's file any more. */
  #leave(digest: string): boolean {
    const left = this.#users.get(digest)! - 1;
    if (left > 0) this.#users.set(digest, left);
    else this.#users.delete(digest);
    return left === 0;
  }

  async #download(repository: Repository, layer: Descriptor, signal: AbortSignal): Promise<string> {
    const shared = this.#downloads.get(layer.digest);
    if (shared) {
      // Another pull's download may end with that pull: then this one goes on by itself.
      return await shared.catch((error) => {
        if (signal.aborted) throw error;
        return this.#download(repository, layer, signal);
      });
    }
    const running = this.#fetch(repository, layer, signal).finally(() => this.#downloads.delete(layer.digest));
    this.#downloads.set(layer.digest, running);
    return await running;
  }

  async #fetch(repository: Repository, layer: Descriptor, signal: AbortSignal): Promise<string> {
    const path = this.#o.store.ingestPath(layer.digest);
    return await retry(signal, async () => {
      const present = await stat(path).then(
        (s) => s.size,
        () => 0,
      );
      const hash = createHash('sha256');
      let from = present <= layer.size ? present : 0;
      if (from < layer.size) {
        const { body, offset } = await repository.blob(layer.digest, from, signal);
        from = offset;
        await pipeline(body, createWriteStream(path, { flags: from > 0 ? 'a' : 'w', mode: 0o600 }), { signal });
      }
      for await (const chunk of createReadStream(path, { highWaterMark: 1 << 18 })) hash.update(chunk as Buffer);
      const digest = 'sha256:' + hash.digest('hex');
      if (digest !== layer.digest) {
        await rm(path, { force: true });
        throw new Error(`layer ${layer.digest} came with the digest ${digest}`);
      }
      return path;
    });
  }
}

/** Tries again after what may pass: broken connections, 429 and 5xx. Not what the registry refuses. */
async function retry<T>(signal: AbortSignal, work: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await work();
    } catch (error) {
      const final =
        error instanceof RegistryError
          ? error.status < 500 && error.status !== 429
          : (error as { code?: string }).code === 'ENOTFOUND' || (error as { code?: string }).code === 'ECONNREFUSED';
      if (signal.aborted || final || attempt === attempts) throw error;
      await delay(200 * 2 ** (attempt - 1), undefined, { signal });
    }
  }
}

async function abortable<T>(promise: Promise<T>, signal: AbortSignal | undefined, what: string): Promise<T> {
  if (!signal) return await promise;
  if (signal.aborted) throw new RuntimeError('DeadlineExceeded', `${what} was given up`);
  return await new Promise<T>((resolve, reject) => {
    const onAbort = (): void => reject(new RuntimeError('DeadlineExceeded', `${what} was given up`));
    signal.addEventListener('abort', onAbort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
  });
}
