import { keyOf, type KubeObject } from '../api/object.ts';
import type { Informer } from '../client/informer.ts';

/** What was written for a key and the informer may not show yet. Until it does, the informer's view of the key must not be acted on. */
export class WrittenObjects<T extends KubeObject> {
  readonly #informer: Informer<T>;
  /** Key, object's namespace/name, resource version. */
  readonly #written = new Map<string, Map<string, bigint>>();

  constructor(informer: Informer<T>) {
    this.#informer = informer;
  }

  note(key: string, object: T): void {
    let versions = this.#written.get(key);
    if (!versions) this.#written.set(key, (versions = new Map()));
    versions.set(keyOf(object), BigInt(object.metadata.resourceVersion));
  }

  /** The object is gone, or is being deleted by us: nothing more is awaited of it. */
  removed(key: string, object: T): void {
    this.#written.get(key)?.delete(keyOf(object));
  }

  /** Whether the informer shows all that was written for the key. */
  isCurrent(key: string): boolean {
    const versions = this.#written.get(key);
    if (!versions) return true;
    for (const [name, version] of versions) {
      const shown = this.#informer.get(name)?.metadata.resourceVersion;
      if (!shown || BigInt(shown) < version) return false;
      versions.delete(name);
    }
    this.#written.delete(key);
    return true;
  }

  forget(key: string): void {
    this.#written.delete(key);
  }
}
