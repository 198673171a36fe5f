import type { FieldError } from './errors.ts';
import { builtinResources } from './generated/resources.ts';
import { strategyOf } from './kinds/index.ts';
import type { BuiltinResource } from './object.ts';

/** What the API server knows of a request when it asks a kind's strategy. */
export interface RequestContext {
  verb: 'create' | 'update' | 'patch';
  user: string;
  /** RFC 3339, whole seconds. */
  now: string;
  subresource?: string;
  name?: string;
  namespace?: string;
}

/** One column of the server-printed table. Columns with priority > 0 are shown by `-o wide` only. */
export interface TableColumn {
  name: string;
  type: 'string' | 'integer' | 'number' | 'boolean' | 'date';
  format?: string;
  description?: string;
  priority?: number;
  /** The cell's value; must not throw on incomplete objects. */
  cell(obj: any): unknown;
}

/**
 * What a kind needs beyond its schema. Functions that prepare or default change the object they are given, which is the caller's own copy;
 * functions that validate report and change nothing.
 */
export interface KindStrategy {
  prepareForCreate?(obj: any, ctx: RequestContext): void;
  prepareForUpdate?(obj: any, old: any, ctx: RequestContext): void;
  prepareForStatusUpdate?(obj: any, old: any, ctx: RequestContext): void;
  validate?(obj: any): FieldError[];
  /** What is filled in only when a new object has been found valid. */
  afterValidation?(obj: any): void;
  /** What only creation is checked for, after `validate`. */
  validateCreate?(obj: any): FieldError[];
  /** What an update is checked for before `validate`; findings stand in upstream's order. */
  updateFirst?(obj: any, old: any): FieldError[];
  validateUpdate?(obj: any, old: any): FieldError[];
  /** validateUpdate judges the whole object, with regard to the old one: validate is not asked for updates. */
  updateValidatesAll?: boolean;
  validateStatusUpdate?(obj: any, old: any): FieldError[];
  default?(obj: any): void;
  warnings?(obj: any, old?: any): string[];
  /** Fields beyond metadata.name and metadata.namespace that field selectors may name. */
  selectableFields?(obj: any): Record<string, string>;
  gracefulDelete?: boolean;
  allowCreateOnUpdate?: boolean;
  allowUnconditionalUpdate?: boolean;
  columns?: TableColumn[];
  /** Of its tables: the order of rows, where that of names is not kept; and cells that upstream has beyond the columns. */
  rows?: { order?(a: any, b: any): number; beyond?(o: any): unknown[] };
  /** The rule for metadata.name; a DNS subdomain where absent. */
  validateName?(name: string, prefix: boolean): string[];
}

/** A built-in resource with where and how its objects are kept. */
export interface ServedResource extends BuiltinResource {
  storageVersion: string;
  storageGroup: string;
  /** Objects are kept at /registry/<registryPath>/[namespace/]name. */
  registryPath: string;
  strategy: KindStrategy;
  /** Of custom resources only. */
  custom?: CustomResource;
}

/** What the server knows of a version of a custom resource beyond what built-in resources have. */
export interface CustomResource {
  listKind: string;
  /** JSONPaths of the scale subresource. */
  scale?: { specReplicasPath: string; statusReplicasPath: string; labelSelectorPath?: string };
  /** Sent with every answer, as for versions that are deprecated. */
  warnings: string[];
  /** The definition is being deleted: nothing is created any more. */
  terminating: boolean;
  /** Objects of other versions are converted by a webhook. */
  conversion?: { convert(objects: any[], apiVersion: string): Promise<any[]> };
  /** All versions of the resource, served or not, by apiVersion. */
  versions: ReadonlyMap<string, ServedResource>;
  /** Removes what this version's schema does not know from an object that is to be stored, in place. */
  prune(object: any): void;
  /** Makes of an object of this version as it was stored one that is whole: pruned and with defaults, in place. */
  complete(object: any): void;
  /** The schema as published. */
  openapi: { schema: object | undefined; definition: string };
}

/** Registry paths that differ from the resource's name, as kube-apiserver's. */
const registryPaths: Record<string, string> = {
  '/replicationcontrollers': 'controllers',
  '/endpoints': 'services/endpoints',
  '/nodes': 'minions',
  '/services': 'services/specs',
  'networking.k8s.io/ingresses': 'ingress',
  'apiregistration.k8s.io/apiservices': 'apiregistration.k8s.io/apiservices',
  'apiextensions.k8s.io/customresourcedefinitions': 'apiextensions.k8s.io/customresourcedefinitions',
};

const isStable = (version: string) => /^v\d+$/.test(version);

/** Resources that upstream still keeps in a version before the newest, so that servers of the version before can read them. */
const keptAs: Record<string, string> = {
  'certificates.k8s.io/clustertrustbundles': 'v1beta1',
  'certificates.k8s.io/podcertificaterequests': 'v1beta1',
  'resource.k8s.io/devicetaintrules': 'v1beta2',
  'storagemigration.k8s.io/storageversionmigrations': 'v1beta1',
};

function storageOf(r: BuiltinResource): { storageGroup: string; storageVersion: string } {
  // Both event groups hold the same objects.
  if (r.resource === 'events') return { storageGroup: '', storageVersion: 'v1' };
  const served = builtinResources.filter((x) => x.group === r.group && x.resource === r.resource).map((x) => x.version);
  const kept = keptAs[`${r.group}/${r.resource}`];
  if (kept) return { storageGroup: r.group, storageVersion: kept };
  return { storageGroup: r.group, storageVersion: served.find(isStable) ?? served[0] ?? r.version };
}

const served: readonly ServedResource[] = builtinResources.map((r) => ({
  ...r,
  ...storageOf(r),
  registryPath: registryPaths[`${r.group}/${r.resource}`] ?? r.resource,
  strategy: strategyOf(r.group, r.kind),
}));
const byResource = new Map(served.map((r) => [`${r.group}/${r.version}/${r.resource}`, r]));
const byKind = new Map(served.map((r) => [`${r.group}/${r.version}/${r.kind}`, r]));

/** Every built-in resource, found by resource or by kind. */
export const scheme = {
  resources: served,
  find: (group: string, version: string, resource: string): ServedResource | undefined => byResource.get(`${group}/${version}/${resource}`),
  findKind: (group: string, version: string, kind: string): ServedResource | undefined => byKind.get(`${group}/${version}/${kind}`),
};
