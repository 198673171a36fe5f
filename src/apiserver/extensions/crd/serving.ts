import { checkMetadata, pruneNulls, pruneUnknown } from '../../../api/crd/pruning.ts';
import { applySchemaDefaults } from '../../../api/crd/defaulting.ts';
import { definitionOfSchema } from '../../../api/crd/definition.ts';
import type { JsonSchema } from '../../../api/crd/json-schema.ts';
import { compileRules } from '../../../api/crd/rules.ts';
import { customStrategy } from '../../../api/crd/strategy.ts';
import { canonicalize } from '../../../api/canonical.ts';
import { unknownFields } from '../../../api/decode.ts';
import type { CustomResourceDefinition } from '../../../api/generated/types.ts';
import { addDefinition, removeDefinition } from '../../../api/schema.ts';
import type { CustomResource, ServedResource } from '../../../api/scheme.ts';
import { compareVersions } from '../../http/versions.ts';

type Version = CustomResourceDefinition['spec']['versions'][number];

/** A definition's versions as the registry has them. */
export interface ServedDefinition {
  versions: ServedResource[];
  /** The storage version, whether it is served or not. */
  storage: ServedResource;
  /** Forgets the schemas; the resources must not be used any more. */
  release(): void;
}

const metadataDefinition = 'io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta';
const verbs = ['delete', 'deletecollection', 'get', 'list', 'patch', 'create', 'update', 'watch'];
const partVerbs = ['get', 'patch', 'update'];
/** Definitions of several servers in one process, and of several generations, live side by side. */
let count = 0;

/** com.example.stable.v1.CronTab: how OpenAPI calls a kind of stable.example.com. */
export const openapiName = (group: string, version: string, kind: string): string => `${group.split('.').reverse().join('.')}.${version}.${kind}`;

/** Makes of a CustomResourceDefinition what the server needs to serve its objects. */
export function serveDefinition(crd: CustomResourceDefinition, conversion: CustomResource['conversion']): ServedDefinition {
  const versions = new Map<string, ServedResource>();
  const made = crd.spec.versions.map((version) => ({ version, served: resourceOf(crd, version, conversion, versions) }));
  for (const { served } of made) versions.set(`${served.group}/${served.version}`, served);
  const storage = (made.find((m) => m.version.storage) ?? made[0])!.served;
  const sorted = made.filter((m) => m.version.served).sort((a, b) => compareVersions(b.version.name, a.version.name));
  return {
    versions: sorted.map((m) => m.served),
    storage,
    release() {
      for (const { served } of made) removeDefinition(served.definition);
    },
  };
}

function resourceOf(
  crd: CustomResourceDefinition,
  version: Version,
  conversion: CustomResource['conversion'],
  versions: ReadonlyMap<string, ServedResource>,
): ServedResource {
  const { group, scope } = crd.spec;
  const names = { ...crd.spec.names, ...crd.status?.acceptedNames };
  const gvk = { group, version: version.name, kind: crd.spec.names.kind };
  const schema = (version.schema?.openAPIV3Schema ?? {}) as JsonSchema;
  const publicName = openapiName(group, version.name, gvk.kind);
  const name = `${publicName}#${++count}`;
  const { status, scale } = version.subresources ?? {};
  const prune = (object: unknown): string[] => {
    const unknown = pruneUnknown(schema, object);
    pruneNulls(schema, object);
    return unknown;
  };
  const complete = (object: any): void => {
    if (object.metadata) canonicalize(metadataDefinition, object.metadata);
    applySchemaDefaults(schema, object);
  };
  const definition = definitionOfSchema(schema, name, `${group}/${version.name}/${gvk.kind}`);
  addDefinition({
    ...definition,
    custom: { checkTypes: (object, about) => checkMetadata(schema, object, about), prune, complete },
  });
  const storageVersion = crd.spec.versions.find((v) => v.storage)?.name ?? version.name;
  return {
    ...gvk,
    resource: crd.spec.names.plural,
    singular: names.singular ?? '',
    namespaced: scope === 'Namespaced',
    verbs,
    shortNames: names.shortNames ?? [],
    categories: names.categories ?? [],
    subresources: [
      ...(status ? [{ name: 'status', ...gvk, verbs: partVerbs }] : []),
      ...(scale ? [{ name: 'scale', group: 'autoscaling', version: 'v1', kind: 'Scale', verbs: partVerbs }] : []),
    ],
    definition: name,
    storageGroup: group,
    storageVersion,
    registryPath: `${group}/${crd.spec.names.plural}`,
    strategy: customStrategy({
      schema,
      hasStatus: status !== undefined,
      scale,
      columns: version.additionalPrinterColumns,
      selectableFields: (version.selectableFields ?? []).map((f) => f.jsonPath),
      rules: compileRules(schema),
    }),
    custom: {
      versions,
      listKind: names.listKind ?? `${gvk.kind}List`,
      ...(scale ? { scale } : {}),
      warnings: version.deprecated ? [version.deprecationWarning ?? deprecation(crd, version)] : [],
      terminating: crd.metadata.deletionTimestamp !== undefined,
      ...(conversion ? { conversion } : {}),
      prune: (object) => {
        pruneUnknown(schema, object);
        pruneNulls(schema, object);
      },
      complete: (object) => {
        if (object.metadata) unknownFields(metadataDefinition, object.metadata);
        prune(object);
        applySchemaDefaults(schema, object);
      },
      openapi: { schema: version.schema?.openAPIV3Schema, definition: publicName },
    },
  };
}

function deprecation(crd: CustomResourceDefinition, version: Version): string {
  const { group, names } = crd.spec;
  const text = `${group}/${version.name} ${names.kind} is deprecated`;
  const better = crd.spec.versions
    .filter((v) => v.served && !v.deprecated && compareVersions(version.name, v.name) < 0)
    .map((v) => v.name)
    .sort((a, b) => compareVersions(b, a))[0];
  return better ? `${text}; use ${group}/${better} ${names.kind}` : text;
}
