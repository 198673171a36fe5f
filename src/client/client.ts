import type { Draft, KubeList, KubeObject, ResourceType } from '../api/object.ts';
import type { DeleteOptions, Status } from '../api/generated/types.ts';

/** Identifies one object; namespace is left out for cluster-scoped resources. */
export interface ObjectKey {
  namespace?: string;
  name: string;
}

export interface ReadOptions {
  resourceVersion?: string;
  signal?: AbortSignal;
}

export interface ListOptions extends ReadOptions {
  /** All namespaces where left out. */
  namespace?: string;
  labelSelector?: string;
  fieldSelector?: string;
  limit?: number;
  continue?: string;
  resourceVersionMatch?: 'Exact' | 'NotOlderThan';
}

export interface WatchOptions extends Omit<ListOptions, 'limit' | 'continue'> {
  allowWatchBookmarks?: boolean;
  sendInitialEvents?: boolean;
  timeoutSeconds?: number;
}

export type WatchEvent<T> = { type: 'ADDED' | 'MODIFIED' | 'DELETED' | 'BOOKMARK'; object: T } | { type: 'ERROR'; object: Status };

export interface WriteOptions {
  /** `status`, `scale`, … where the write goes to a subresource. */
  subresource?: string;
  dryRun?: boolean;
  fieldManager?: string;
  /** Only for patch with type `apply`. */
  force?: boolean;
  signal?: AbortSignal;
}

export type PatchType = 'json' | 'merge' | 'strategic' | 'apply';

export interface RawRequest {
  method: string;
  /** Path and query, as `/healthz` or `/api/v1/namespaces/x/pods/y/log?tailLines=5`. */
  path: string;
  headers?: Record<string, string>;
  body?: string | Uint8Array;
  signal?: AbortSignal;
}

export interface RawResponse {
  status: number;
  headers: Record<string, string>;
  /** The body as it arrives. */
  body: AsyncIterable<Uint8Array>;
  text(): Promise<string>;
}

/**
 * A Kubernetes client. Two implementations: over HTTPS (http.ts) and in process (apiserver/local.ts).
 *
 * - Errors are StatusError (src/api/errors.ts); a lost connection is an ordinary Error.
 * - Objects returned are deeply frozen; clone (structuredClone) before changing.
 * - Objects of lists and watches carry apiVersion and kind.
 * - Everything ends promptly when its signal aborts.
 */
export interface Client {
  get<T = KubeObject>(type: ResourceType<T>, key: ObjectKey, options?: ReadOptions & { subresource?: string }): Promise<T>;
  list<T = KubeObject>(type: ResourceType<T>, options?: ListOptions): Promise<KubeList<T>>;
  /** Ends without error when the server ends the watch. A 410 arrives as an ERROR event or a StatusError. */
  watch<T = KubeObject>(type: ResourceType<T>, options?: WatchOptions): AsyncIterable<WatchEvent<T>>;
  create<T = KubeObject>(type: ResourceType<T>, object: Draft<T>, options?: WriteOptions): Promise<T>;
  /** PUT. With resourceVersion in metadata: a conflict is a StatusError with reason Conflict. */
  update<T extends { metadata: { name: string; namespace?: string } }>(type: ResourceType<T>, object: T, options?: WriteOptions): Promise<T>;
  patch<T = KubeObject>(type: ResourceType<T>, key: ObjectKey, patchType: PatchType, patch: unknown, options?: WriteOptions): Promise<T>;
  /** The Status, or the object where it stays (finalizers, grace). */
  delete<T = KubeObject>(type: ResourceType<T>, key: ObjectKey, options?: Partial<DeleteOptions> & { signal?: AbortSignal }): Promise<T | Status>;
  deleteCollection<T = KubeObject>(type: ResourceType<T>, options?: ListOptions & { deleteOptions?: Partial<DeleteOptions> }): Promise<void>;
  /** POST to a subresource with a body of another kind: binding, eviction, token. */
  createSubresource<R = unknown>(type: ResourceType<any>, key: ObjectKey, subresource: string, body: unknown, options?: WriteOptions): Promise<R>;
  /** Any other request, such as pod logs, /version or /healthz. Does not throw on error statuses. */
  raw(request: RawRequest): Promise<RawResponse>;
  close(): void;
}
