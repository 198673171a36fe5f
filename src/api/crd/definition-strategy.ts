import type { CustomResourceDefinition } from '../generated/types.ts';
import { canonicalize } from '../canonical.ts';
import { unknownFields } from '../decode.ts';
import { canonicalJson } from '../equality.ts';
import { column, nameColumn } from '../kinds/column.ts';
import { isObject, type JsonSchema } from './json-schema.ts';
import type { KindStrategy } from '../scheme.ts';
import { definitionWarnings, validateDefinition, validateDefinitionStatus, validateDefinitionUpdate } from './definition-validation.ts';

/** What CustomResourceDefinitions hold while their objects are being deleted. */
export const cleanupFinalizer = 'customresourcecleanup.apiextensions.k8s.io';

function recordStorageVersion(crd: CustomResourceDefinition): void {
  const version = crd.spec.versions?.find((v) => v.storage);
  if (!version) return;
  const storage = version.name ?? '';
  crd.status ??= {} as NonNullable<CustomResourceDefinition['status']>;
  const stored = (crd.status.storedVersions ??= []);
  if (!stored.includes(storage)) stored.push(storage);
}

const servedVersions = (crd: CustomResourceDefinition): string =>
  (crd.spec?.versions ?? [])
    .filter((v) => v.served)
    .map((v) => (v.storage ? `${v.name}(storage)` : v.name))
    .sort()
    .join(',');

const schemaName = 'io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps';

/** Unions within schemas are decoded leniently: what is no schema is nothing, and unknown fields below are dropped. */
function readUnions(schema: JsonSchema | undefined): void {
  if (!schema || typeof schema !== 'object') return;
  const more = schema as Record<string, unknown>;
  if (schema.items !== undefined && (typeof schema.items !== 'object' || (Array.isArray(schema.items) && !schema.items.length))) delete schema.items;
  for (const inner of [schema.items, schema.additionalProperties, more['additionalItems']].flat()) {
    if (isObject(inner)) {
      unknownFields(schemaName, inner);
      canonicalize(schemaName, inner);
      readUnions(inner);
    }
  }
  for (const inner of [...Object.values(schema.properties ?? {}), schema.not, ...(schema.allOf ?? []), ...(schema.anyOf ?? []), ...(schema.oneOf ?? [])]) readUnions(inner);
}

/** CustomResourceDefinition: names are completed, and which versions were ever stored is remembered. */
export const customResourceDefinition: KindStrategy = {
  allowUnconditionalUpdate: false,
  columns: [
    nameColumn,
    column('Scope', (o) => o.spec?.scope ?? ''),
    column('Versions', servedVersions),
    column('Created At', (o) => o.metadata?.creationTimestamp ?? '', { type: 'date' }),
    column('Group', (o) => o.spec?.group ?? '', { wide: true }),
    column('Kind', (o) => o.spec?.names?.kind ?? '', { wide: true }),
    column('ShortNames', (o) => (o.spec?.names?.shortNames ?? []).join(','), { wide: true }),
    column('Established', (o) => o.status?.conditions?.some((c: any) => c.type === 'Established' && c.status === 'True') ?? false, { type: 'boolean', wide: true }),
  ],
  default(crd) {
    const { spec } = crd;
    if (!spec) return;
    for (const version of spec.versions ?? []) readUnions(version.schema?.openAPIV3Schema as JsonSchema | undefined);
    const names = (spec.names ??= {});
    if (!names.singular && names.kind) names.singular = names.kind.toLowerCase();
    if (!names.listKind && names.kind) names.listKind = `${names.kind}List`;
    spec.conversion ??= { strategy: 'None' };
    const service = spec.conversion.webhook?.clientConfig?.service;
    if (service) service.port ??= 443;
  },
  prepareForCreate(crd) {
    delete crd.status;
    crd.metadata.generation = 1;
    recordStorageVersion(crd);
  },
  prepareForUpdate(crd, old) {
    if (old.status === undefined) delete crd.status;
    else crd.status = structuredClone(old.status);
    if (canonicalJson(crd.spec) !== canonicalJson(old.spec)) crd.metadata.generation = (old.metadata.generation ?? 0) + 1;
    recordStorageVersion(crd);
  },
  prepareForStatusUpdate(crd, old) {
    const { status } = crd;
    const { resourceVersion, managedFields, annotations, labels } = crd.metadata;
    for (const key of Object.keys(crd)) delete crd[key];
    Object.assign(crd, structuredClone(old));
    crd.metadata = { ...crd.metadata, labels, annotations, resourceVersion, managedFields };
    for (const key of ['labels', 'annotations', 'resourceVersion', 'managedFields']) if (crd.metadata[key] === undefined) delete crd.metadata[key];
    if (status === undefined) delete crd.status;
    else crd.status = status;
  },
  updateValidatesAll: true,
  validate: validateDefinition,
  validateUpdate: validateDefinitionUpdate,
  validateStatusUpdate: validateDefinitionStatus,
  warnings: definitionWarnings,
};
