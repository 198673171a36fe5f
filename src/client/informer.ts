import type { KubeObject, ResourceType } from '../api/object.ts';

export interface InformerHandlers<T> {
  onAdd?(object: T): void;
  onUpdate?(before: T, after: T): void;
  onDelete?(last: T): void;
}

/** A local, always current copy of a resource, kept by one list and one watch. */
export interface Informer<T = KubeObject> {
  /** Handlers added late first hear onAdd for everything known. Returns its removal. Handlers must not throw or block. */
  addHandlers(handlers: InformerHandlers<T>): () => void;
  /** By namespace/name. The object is frozen. */
  get(key: string): T | undefined;
  list(namespace?: string): T[];
  /** Adds an index: indexer names the index values of an object. Call before start or after; it is backfilled. */
  addIndex(name: string, indexer: (object: T) => string[]): void;
  byIndex(name: string, value: string): T[];
  /** Resolves when the first list has been delivered; rejects when signal aborts. */
  synced(signal?: AbortSignal): Promise<void>;
  readonly hasSynced: boolean;
}

export interface InformerFactory {
  /** The shared informer of this resource (and selector), started when first asked for. */
  informer<T>(type: ResourceType<T>, options?: { namespace?: string; labelSelector?: string; fieldSelector?: string }): Informer<T>;
  /** Resolves when every informer asked for so far has synced. */
  allSynced(signal?: AbortSignal): Promise<void>;
  stop(): void;
}
