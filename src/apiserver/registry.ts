import type { Subject } from '../api/errors.ts';
import type { ServedResource } from '../api/scheme.ts';
import type { ResourceCache } from './storage/cache.ts';
import type { CacheHub } from './storage/hub.ts';
import { type EventLeases, ResourceStorage } from './storage/transactions.ts';

/** One served resource in one version, with the storage that all its versions share. */
export interface Registered {
  served: ServedResource;
  subject: Subject;
  /** None for resources that are only answered, never stored (reviews, bindings, componentstatuses). */
  storage: ResourceStorage | undefined;
}

const pathSegmentProblems = (name: string): string[] => {
  if (name === '.' || name === '..') return [`may not be '${name}'`];
  return ['/', '%'].filter((part) => name.includes(part)).map((part) => `may not contain '${part}'`);
};

/** Everything the server serves. The one place where resources are looked up, so that others can be added while it runs. */
export class Registry {
  #resources = new Map<string, Registered>();
  #kinds = new Map<string, Registered>();
  #storages = new Map<string, ResourceStorage>();
  #hub: CacheHub;
  #leases: EventLeases;
  #listeners = new Set<() => void>();
  #generation = 0;

  constructor(hub: CacheHub, leases: EventLeases) {
    this.#hub = hub;
    this.#leases = leases;
  }

  /** `storageResource` is the same resource in its storage version. */
  add(served: ServedResource, storageResource: ServedResource): Registered {
    const subject = { group: served.group, resource: served.resource };
    // Names of RBAC objects are path segments, as system:node; the kind's own rule goes first.
    if (served.group === 'rbac.authorization.k8s.io') served.strategy.validateName ??= pathSegmentProblems;
    let storage: ResourceStorage | undefined;
    if (served.verbs.includes('list') && served.verbs.includes('create')) {
      storage = this.#storages.get(storageResource.registryPath);
      if (!storage) {
        const storageSubject = { group: storageResource.group, resource: storageResource.resource };
        storage = new ResourceStorage(this.#hub, this.#hub.cacheOf(storageResource), storageSubject, this.#leases);
        this.#storages.set(storageResource.registryPath, storage);
      }
    }
    const registered = { served, subject, storage };
    this.#resources.set(`${served.group}/${served.version}/${served.resource}`, registered);
    this.#kinds.set(`${served.group}/${served.version}/${served.kind}`, registered);
    this.#changed();
    return registered;
  }

  /** Serves a custom resource in these versions; whatever it was served as before is forgotten. */
  async addCustom(versions: ServedResource[], storageResource: ServedResource): Promise<ResourceStorage> {
    const { group, resource, registryPath } = storageResource;
    const cache = await this.#hub.addCache(storageResource);
    cache.resource = storageResource;
    let storage = this.#storages.get(registryPath);
    if (!storage || storage.cache !== cache) {
      storage = new ResourceStorage(this.#hub, cache, { group, resource }, this.#leases);
      this.#storages.set(registryPath, storage);
    }
    this.#forget(group, resource);
    for (const served of versions) {
      const registered = { served, subject: { group, resource }, storage };
      this.#resources.set(`${group}/${served.version}/${resource}`, registered);
      this.#kinds.set(`${group}/${served.version}/${served.kind}`, registered);
    }
    this.#changed();
    // Whoever watches is served by what was known of the resource before, and must come again.
    cache.endWatches();
    return storage;
  }

  removeCustom(group: string, resource: string): void {
    this.#forget(group, resource);
    this.#storages.delete(`${group}/${resource}`);
    this.#hub.removeCache(`${group}/${resource}`);
    this.#changed();
  }

  #forget(group: string, resource: string): void {
    for (const [key, { served }] of this.#resources) {
      if (served.group !== group || served.resource !== resource) continue;
      this.#resources.delete(key);
      this.#kinds.delete(`${group}/${served.version}/${served.kind}`);
    }
  }

  /** Counts changes; discovery and OpenAPI documents are made anew when it moves. */
  get generation(): number {
    return this.#generation;
  }

  #changed(): void {
    this.#generation++;
    for (const listener of this.#listeners) listener();
  }

  /** Called whenever something is served that was not, or no longer. */
  onChange(listener: () => void): void {
    this.#listeners.add(listener);
  }

  find(group: string, version: string, resource: string): Registered | undefined {
    return this.#resources.get(`${group}/${version}/${resource}`);
  }

  findKind(group: string, version: string, kind: string): Registered | undefined {
    return this.#kinds.get(`${group}/${version}/${kind}`);
  }

  hasGroupVersion(group: string, version: string): boolean {
    for (const { served } of this.#resources.values()) if (served.group === group && served.version === version) return true;
    return false;
  }

  all(): Registered[] {
    return [...this.#resources.values()];
  }

  /** The cache of a built-in resource, for what looks at objects inside the server. */
  cache(group: string, version: string, resource: string): ResourceCache {
    const storage = this.find(group, version, resource)?.storage;
    if (!storage) throw new Error(`${resource}.${group}/${version} is not stored`);
    return storage.cache;
  }

  storage(group: string, version: string, resource: string): ResourceStorage {
    const storage = this.find(group, version, resource)?.storage;
    if (!storage) throw new Error(`${resource}.${group}/${version} is not stored`);
    return storage;
  }
}
