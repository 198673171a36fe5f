import { definitionOf, type Definition, type Field, type Shape } from '../schema.ts';
import { isEmbedded, itemsOf, type JsonSchema, preservesUnknown, valuesOf } from './json-schema.ts';

const scalars: Record<string, Shape['kind']> = { string: 'string', integer: 'int64', number: 'number', boolean: 'boolean' };
const metadataName = 'io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta';
const metadataShape: Shape = { kind: 'object' };
Object.defineProperty(metadataShape, 'definition', { get: () => definitionOf(metadataName), enumerable: true });

/** The shape of a value of a custom resource, as built-in kinds have them: what server-side apply and patches go by. */
function shapeOf(schema: JsonSchema | undefined, name: string): Shape {
  if (!schema) return { kind: 'any' };
  if (schema['x-kubernetes-int-or-string']) return { kind: 'any', special: 'intOrString' };
  if (schema.type === 'array') return { kind: 'array', items: shapeOf(itemsOf(schema), `${name}[]`) };
  const values = valuesOf(schema);
  if (schema.type === 'object' && values && !schema.properties) return { kind: 'map', items: shapeOf(values, `${name}{}`) };
  if (schema.type === 'object' && (schema.properties || isEmbedded(schema))) return { kind: 'object', definition: objectDefinition(schema, name, '') };
  if (schema.type === 'object' && !preservesUnknown(schema) && schema.additionalProperties === undefined)
    return { kind: 'object', definition: objectDefinition(schema, name, '') };
  if (schema.type && scalars[schema.type]) return { kind: scalars[schema.type] as Shape['kind'] };
  return { kind: 'any' };
}

function fieldOf(name: string, schema: JsonSchema, required: boolean, owner: string): Field {
  const listType = schema.type === 'array' ? (schema['x-kubernetes-list-type'] ?? 'atomic') : undefined;
  const mapType = schema.type === 'object' && schema['x-kubernetes-map-type'] === 'atomic' ? 'atomic' : undefined;
  return {
    name,
    shape: shapeOf(schema, `${owner}.${name}`),
    required,
    position: 0,
    listType: listType ?? mapType,
    listMapKeys: schema['x-kubernetes-list-map-keys'] ?? [],
    patchMergeKey: undefined,
    patchStrategy: [],
    defaultValue: schema.default,
  };
}

const plain = (name: string, shape: Shape): Field => ({
  name,
  shape,
  required: false,
  position: 0,
  listType: undefined,
  listMapKeys: [],
  patchMergeKey: undefined,
  patchStrategy: [],
  defaultValue: undefined,
});

function objectDefinition(schema: JsonSchema, name: string, gvk: string): Definition {
  const fields = new Map<string, Field>();
  for (const [key, property] of Object.entries(schema.properties ?? {}))
    fields.set(key, fieldOf(key, property, schema.required?.includes(key) ?? false, name));
  if (gvk || isEmbedded(schema)) {
    fields.set('apiVersion', plain('apiVersion', { kind: 'string' }));
    fields.set('kind', plain('kind', { kind: 'string' }));
    fields.set('metadata', plain('metadata', metadataShape));
  }
  return { name, gvk, fields, open: false, preserves: preservesUnknown(schema) };
}

/** A custom resource's schema in the form of the built-in kinds' definitions. `gvk` is group/version/kind. */
export const definitionOfSchema = (schema: JsonSchema, name: string, gvk: string): Definition => objectDefinition(schema, name, gvk);
