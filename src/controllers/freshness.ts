import type { KubeObject } from '../api/object.ts';

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
