import { descriptionOf } from '../descriptions.ts';
import { definitionOfKind } from '../openapi.ts';
import { pathsOf } from '../openapi-paths.ts';
import type { ServedResource } from '../scheme.ts';
import { isEmbedded, type JsonSchema, preservesUnknown } from './json-schema.ts';

type Document = Record<string, any>;

const objectMeta = 'io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta';
const listMeta = 'io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta';
const apiVersionText = descriptionOf('', 'apiVersion');
const kindText = descriptionOf('', 'kind');
const metadataText = descriptionOf('', 'metadata', 'ObjectMeta') as string;
const listMetadataText = descriptionOf('', 'metadata', 'ListMeta') as string;

/** Schemas (by name) and paths of a version of a custom resource, for OpenAPI v2 or v3. */
export function customOpenapi(served: ServedResource, v3: boolean): { schemas: Document; paths: Document } {
  const { custom } = served;
  if (!custom) return { schemas: {}, paths: {} };
  const root = v3 ? '#/components/schemas/' : '#/definitions/';
  const name = custom.openapi.definition;
  const listName = name.slice(0, name.lastIndexOf('.') + 1) + custom.listKind;
  const gvk = (kind: string) => [{ group: served.group, kind, version: served.version }];
  const list = {
    description: `${custom.listKind} is a list of ${served.kind}`,
    type: 'object',
    required: ['items'],
    properties: {
      apiVersion: { description: apiVersionText, type: 'string' },
      items: {
        description: `The ${served.resource} of the list`,
        type: 'array',
        items: { $ref: root + name },
      },
      kind: { description: kindText, type: 'string' },
      metadata: reference(root + listMeta, listMetadataText, v3),
    },
    'x-kubernetes-group-version-kind': gvk(custom.listKind),
  };
  const own = { ...kindSchema(custom.openapi.schema as JsonSchema | undefined, root, v3), 'x-kubernetes-group-version-kind': gvk(served.kind) };
  return { schemas: { [name]: own, [listName]: list }, paths: pathsOf({ ...served, definition: name }, { v3, root, definitionOf: definitionOfKind, list: listName, custom: true }) };
}

const reference = (ref: string, description: string, v3: boolean): Document =>
  v3 ? { description, allOf: [{ $ref: ref }] } : { description, $ref: ref };

function kindSchema(schema: JsonSchema | undefined, root: string, v3: boolean): Document {
  // Nothing more in v2, not even a mark: kubectl would take any property named here for all there may be.
  if (!schema || (!v3 && preservesUnknown(schema))) return { type: 'object' };
  const shown = v3 ? publishedV3(schema, root) : publishedV2(schema, root);
  return { ...shown, properties: { ...shown['properties'], ...metaProperties(root, v3) } };
}

const metaProperties = (root: string, v3: boolean): Document => ({
  apiVersion: { description: apiVersionText, type: 'string' },
  kind: { description: kindText, type: 'string' },
  metadata: reference(root + objectMeta, metadataText, v3),
});


/** A resource within a resource must say what it is. */
function embed(schema: Document, root: string, v3: boolean): void {
  schema['properties'] = {
    ...schema['properties'],
    apiVersion: { description: apiVersionText, type: 'string' },
    kind: { description: kindText, type: 'string' },
    metadata: metaProperties(root, v3)['metadata'],
  };
  schema['required'] = [...(schema['required'] ?? []), 'kind', 'apiVersion'];
}

function mapMembers(schema: JsonSchema, map: (inner: JsonSchema) => Document): Document {
  const out: Document = { ...schema };
  if (schema.properties) out['properties'] = Object.fromEntries(Object.entries(schema.properties).map(([k, v]) => [k, map(v)]));
  if (schema.items && !Array.isArray(schema.items)) out['items'] = map(schema.items);
  if (typeof schema.additionalProperties === 'object') out['additionalProperties'] = map(schema.additionalProperties);
  return out;
}

function publishedV3(schema: JsonSchema, root: string): Document {
  const out = mapMembers(schema, (inner) => publishedV3(inner, root));
  if (schema['x-kubernetes-int-or-string'] && !schema.anyOf && !schema.allOf) out['anyOf'] = [{ type: 'integer' }, { type: 'string' }];
  if (isEmbedded(schema)) embed(out, root, true);
  return out;
}

/** OpenAPI v2 has no alternatives and no null, and kubectl's reading of it less than that. */
function publishedV2(schema: JsonSchema, root: string): Document {
  const { allOf: _allOf, anyOf: _anyOf, oneOf: _oneOf, not: _not, default: _default, nullable, ...rest } = schema;
  const out = mapMembers(rest as JsonSchema, (inner) => publishedV2(inner, root));
  if (isEmbedded(schema)) embed(out, root, false);
  if (nullable) delete out['type'];
  if (nullable || preservesUnknown(schema)) {
    delete out['items'];
    delete out['properties'];
  }
  if ((out['type'] === 'array' && !out['items']) || (preservesUnknown(schema) && out['type'] === 'object')) delete out['type'];
  if (typeof schema.additionalProperties === 'object' && schema.additionalProperties.nullable) delete out['required'];
  if (Array.isArray(out['required'])) {
    out['required'] = out['required'].filter((name: string) => !schema.properties?.[name]?.nullable);
    if (out['required'].length === 0) delete out['required'];
  }
  return out;
}
