import type { KubeObject } from '../api/object.ts';
import type { Client } from '../client/client.ts';

/** Compares resource versions as the numbers they are. */
function isOlder(a: string, b: string): boolean {
  return a.length === b.length ? a < b : a.length < b.length;
}

/**
 * The newest version of each object that a controller wrote itself. A cache that shows an older one must not be acted on: the event
 * of the write is still to come, and enqueues the object again.
 */
export class Freshness {
  readonly #written = new Map<string, string>();

  wrote(object: KubeObject): void {
    const { uid, resourceVersion = '' } = object.metadata;
    const known = this.#written.get(uid);
    if (known === undefined || isOlder(known, resourceVersion)) this.#written.set(uid, resourceVersion);
  }

  isStale(object: KubeObject): boolean {
    const { uid, resourceVersion = '' } = object.metadata;
    const known = this.#written.get(uid);
    if (known === undefined) return false;
    if (isOlder(resourceVersion, known)) return true;
    this.#written.delete(uid);
    return false;
  }

  forget(object: KubeObject): void {
    this.#written.delete(object.metadata.uid);
  }
}

/** The client, with everything that it writes noted. */
export function noting(client: Client, freshness: Freshness): Client {
  const noted = async <T>(written: Promise<T>): Promise<T> => {
    const object = await written;
    freshness.wrote(object as unknown as KubeObject);
    return object;
  };
  return {
    get: (...args) => client.get(...args),
    list: (...args) => client.list(...args),
    watch: (...args) => client.watch(...args),
    create: (...args) => noted(client.create(...args)),
    update: (...args) => noted(client.update(...args)),
    patch: (...args) => noted(client.patch(...args)),
    delete: (...args) => client.delete(...args),
    deleteCollection: (...args) => client.deleteCollection(...args),
    createSubresource: (...args) => client.createSubresource(...args),
    raw: (request) => client.raw(request),
    close: () => client.close(),
  };
}
