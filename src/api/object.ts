import type { ObjectMeta, PodTemplateSpec } from './generated/types.ts';

/** What every Kubernetes object has. Objects read through a client or an informer are frozen: clone before changing. */
export interface KubeObject {
  apiVersion: string;
  kind: string;
  metadata: ObjectMeta;
}

/** An object before the API server has completed it: metadata need not be whole, type fields may be missing. */
export type Draft<T> = Omit<T, 'metadata' | 'apiVersion' | 'kind' | 'status'> & {
  apiVersion?: string;
  kind?: string;
  metadata: Partial<ObjectMeta>;
  status?: T extends { status?: infer S } ? S : never;
};

/** A list as the API returns it. `items` of a typed client all carry apiVersion and kind. */
export interface KubeList<T = KubeObject> {
  apiVersion: string;
  kind: string;
  metadata: { resourceVersion: string; continue?: string; remainingItemCount?: number };
  items: T[];
}

/** Names one served resource. The type parameter is the TypeScript type of its objects and exists only for the compiler. */
export interface ResourceType<T = KubeObject> {
  group: string;
  version: string;
  resource: string;
  kind: string;
  namespaced: boolean;
  readonly __type?: T;
}

/** One row of the table of built-in resources (src/api/generated/resources.ts). */
export interface BuiltinResource {
  group: string;
  version: string;
  resource: string;
  kind: string;
  singular: string;
  namespaced: boolean;
  verbs: string[];
  shortNames: string[];
  categories: string[];
  subresources: { name: string; group: string; version: string; kind: string; verbs: string[] }[];
  /** The OpenAPI definition's name, such as io.k8s.api.core.v1.Pod. */
  definition: string;
}

export interface TypeMeta {
  apiVersion: string;
  kind: string;
}

export const apiVersionOf = (r: { group: string; version: string }): string => (r.group ? `${r.group}/${r.version}` : r.version);

/** The other way round: `v1` is version v1 of the group ''. */
export function groupVersionOf(apiVersion: string): { group: string; version: string } {
  const [first = '', second] = apiVersion.split('/');
  return second === undefined ? { group: '', version: first } : { group: first, version: second };
}

/** namespace/name, or name alone for cluster-scoped objects: the key of informers and work queues. */
export const keyOf = (o: { metadata: { name?: string; namespace?: string } }): string =>
  o.metadata.namespace ? `${o.metadata.namespace}/${o.metadata.name}` : (o.metadata.name ?? '');

export function splitKey(key: string): { namespace: string; name: string } {
  const slash = key.indexOf('/');
  return slash < 0 ? { namespace: '', name: key } : { namespace: key.slice(0, slash), name: key.slice(slash + 1) };
}

export type { ObjectMeta, PodTemplateSpec };
