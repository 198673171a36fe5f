import { createHash } from 'node:crypto';
import { descriptionOf } from './descriptions.ts';
import { enumLists, enumOfField, groupVersionsOfOptions, unionsOf } from './generated/openapi-facts.ts';
import { builtinResources } from './generated/resources.ts';
import { discoveryPaths, pathsOf } from './openapi-paths.ts';
import { type Definition, definitionNames, definitionOf, type Shape } from './schema.ts';

const quantity = 'io.k8s.apimachinery.pkg.api.resource.Quantity';
const intOrString = 'io.k8s.apimachinery.pkg.util.intstr.IntOrString';

const time = 'io.k8s.apimachinery.pkg.apis.meta.v1.Time';
const microTime = 'io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime';
const meta = 'io.k8s.apimachinery.pkg.apis.meta.v1.';
const specialNames = { quantity, intOrString, time, microTime };
function schemaOf(shape: Shape, root: string): any {
  if (shape.special) return { $ref: `${root}${specialNames[shape.special]}` };
  switch (shape.kind) {
    case 'object':
      return { $ref: `${root}${shape.definition?.name}` };
    case 'array':
      return { type: 'array', items: schemaOf(shape.items as Shape, root) };
    case 'map':
      return { type: 'object', additionalProperties: schemaOf(shape.items as Shape, root) };
    case 'int32':
    case 'int64':
      return { type: 'integer', format: shape.kind };
    case 'number':
      return { type: 'number', format: 'double' };
    case 'boolean':
      return { type: 'boolean' };
    case 'bytes':
      return { type: 'string', format: 'byte' };
    case 'string':
      return { type: 'string' };
    default:
      return { type: 'object' };
  }
}

/** The kinds that are registered in every group version that there ever was. */
function everywhere(name: string): unknown[] | undefined {
  if (name !== `${meta}DeleteOptions` && name !== `${meta}WatchEvent`) return undefined;
  return groupVersionsOfOptions.map((id) => {
    const [group, version] = id.split('/');
    return { group, version, kind: name.slice(meta.length) };
  });
}

function documentOf(definition: Definition, root: string, v3: boolean): any {
  if (definition.name === quantity) return v3 ? { oneOf: [{ type: 'string' }, { type: 'number' }] } : { type: 'string' };
  if (definition.name === intOrString)
    return v3 ? { format: 'int-or-string', oneOf: [{ type: 'integer' }, { type: 'string' }] } : { type: 'string', format: 'int-or-string' };
  if (definition.name === time || definition.name === microTime) return { type: 'string', format: 'date-time' };
  // Any JSON at all, not only objects.
  if (/\.(JSON|JSONSchemaPropsOrArray|JSONSchemaPropsOrBool|JSONSchemaPropsOrStringArray)$/.test(definition.name)) return {};
  if (definition.open) return { type: 'object' };
  const properties: Record<string, any> = {};
  for (const field of definition.fields.values()) {
    const schema = schemaOf(field.shape, root);
    const values = enumOfField[`${definition.name}.${field.name}`];
    if (values !== undefined) (schema.items ?? schema.additionalProperties ?? schema).enum = enumLists[values];
    const extras: Record<string, unknown> = {};
    const description = descriptionOf(definition.name, field.name, field.shape.definition?.name.split('.').at(-1));
    if (description) extras['description'] = description;
    if (field.listType) extras[field.shape.kind === 'array' || field.shape.kind === 'bytes' ? 'x-kubernetes-list-type' : 'x-kubernetes-map-type'] = field.listType;
    if (field.listMapKeys.length) extras['x-kubernetes-list-map-keys'] = field.listMapKeys;
    if (field.patchMergeKey) extras['x-kubernetes-patch-merge-key'] = field.patchMergeKey;
    if (field.patchStrategy.length) extras['x-kubernetes-patch-strategy'] = field.patchStrategy.join(',');
    if (v3 && field.defaultValue !== undefined) extras['default'] = field.defaultValue;
    // In v3 a $ref has no siblings, so what belongs to the field is wrapped around it.
    const wrapped = v3 && schema.$ref && !(definition.name.endsWith('.JSONSchemaProps') && field.name !== 'default');
    properties[field.name] = wrapped ? { allOf: [schema], ...extras } : { ...schema, ...extras };
  }
  const required = [...definition.fields.values()]
    .filter((f) => f.required)
    .sort((a, b) => a.position - b.position)
    .map((f) => f.name);
  const [group, version, kind] = definition.gvk.split('/');
  const description = descriptionOf(definition.name);
  return {
    ...(description ? { description } : {}),
    type: 'object',
    ...(definition.fields.size ? { properties } : {}),
    ...(required.length ? { required } : {}),
    ...(kind ? { 'x-kubernetes-group-version-kind': [{ group, version, kind }] } : {}),
    ...(everywhere(definition.name) ? { 'x-kubernetes-group-version-kind': everywhere(definition.name) } : {}),
    ...(unionsOf[definition.name] ? { 'x-kubernetes-unions': unionsOf[definition.name] } : {}),
    ...(definition.atomic ? { 'x-kubernetes-map-type': 'atomic' } : {}),
  };
}

const pathOf = (r: { group: string; version: string }) => (r.group ? `apis/${r.group}/${r.version}` : `api/${r.version}`);

/** Schemas that every group version's document with custom resources refers to; with `scales`, where one has a scale. */
export function openapiV3Common(scales: boolean): Record<string, any> {
  const schemas: Record<string, any> = {};
  for (const kind of ['ObjectMeta', 'ListMeta', 'DeleteOptions', 'Patch', 'Status']) addSchemas(`${meta}${kind}`, schemas);
  // The API server for custom resources knows the groups that clients know.
  const ofClients = (gvk: any) => !/^(admission|apiextensions|apiregistration|imagepolicy)\.k8s\.io$/.test(gvk.group);
  const options = `${meta}DeleteOptions`;
  schemas[options]['x-kubernetes-group-version-kind'] = everywhere(options)?.filter(ofClients);
  if (scales) addSchemas('io.k8s.api.autoscaling.v1.Scale', schemas);
  return schemas;
}

/** A definition with all that it refers to. */
function addSchemas(name: string, schemas: Record<string, any>): void {
  const definition = definitionOf(name);
  if (!definition || schemas[name]) return;
  schemas[name] = documentOf(definition, '#/components/schemas/', true);
  const visit = (shape: Shape): void => {
    if (shape.items) visit(shape.items);
    if (shape.definition) addSchemas(shape.definition.name, schemas);
    if (shape.special) addSchemas(specialNames[shape.special], schemas);
  };
  for (const field of definition.fields.values()) visit(field.shape);
}

const info = { title: 'Kubernetes', version: '1.37' };
/** How clients say who they are, in both documents. */
const securitySchemes = { BearerToken: { type: 'apiKey', description: 'A bearer token', name: 'authorization', in: 'header' } };
const groupVersions = [...new Map(builtinResources.map((r) => [pathOf(r), { group: r.group, version: r.version }])).values()];
let v2: any;

/** The OpenAPI v2 document of all built-in resources. Built once. */
export function openapiV2(): any {
  if (v2) return v2;
  const style = { v3: false, root: '#/definitions/', definitionOf: definitionOfKind };
  v2 = { swagger: '2.0', info, paths: {}, definitions: {}, securityDefinitions: securitySchemes, security: [{ BearerToken: [] }] };
  for (const { path, item } of discoveryPaths(groupVersions, style)) v2.paths[path] = item;
  for (const r of builtinResources) if (r.definition) Object.assign(v2.paths, pathsOf(r, { ...style, list: `${r.definition}List` }));
  for (const name of definitionNames) v2.definitions[name] = documentOf(definitionOf(name) as Definition, style.root, false);
  return v2;
}

const byKind = new Map(definitionNames.map((name) => [(definitionOf(name) as Definition).gvk, name]));
/** The definition of a kind; undefined where it has none. */
export const definitionOfKind = (k: { group: string; version: string; kind: string }): string | undefined => byKind.get(`${k.group}/${k.version}/${k.kind}`);

const v3 = new Map<string, any>();

/**
 * The OpenAPI v3 document of a group version, such as `apis/apps/v1`, or of what tells of groups, such as `apis/apps` and `version`;
 * undefined where there is none.
 */
export function openapiV3(document: string): any {
  const known = v3.get(document);
  if (known) return known;
  const style = { v3: true, root: '#/components/schemas/', definitionOf: definitionOfKind };
  const schemas: Record<string, any> = {};
  const paths: Record<string, any> = {};
  for (const told of discoveryPaths(groupVersions, style)) {
    if (told.document !== document) continue;
    paths[told.path] = told.item;
    const answer = JSON.stringify(told.item).match(/schemas\/([^"]+)"/)?.[1];
    if (answer) addSchemas(answer, schemas);
  }
  if (!Object.keys(paths).length) return undefined;
  const rows = builtinResources.filter((r) => pathOf(r) === document && r.definition);
  for (const r of rows) {
    Object.assign(paths, pathsOf(r, { ...style, list: `${r.definition}List` }));
    addSchemas(r.definition, schemas);
    if (r.verbs.includes('list')) addSchemas(`${r.definition}List`, schemas);
    for (const kind of ['APIResource', 'APIResourceList']) addSchemas(`${meta}${kind}`, schemas);
    if (r.verbs.includes('watch')) addSchemas(`${meta}WatchEvent`, schemas);
    if (r.verbs.includes('delete')) for (const kind of ['DeleteOptions', 'Status']) addSchemas(`${meta}${kind}`, schemas);
    if (r.verbs.includes('patch')) addSchemas(`${meta}Patch`, schemas);
    for (const sub of r.subresources) {
      const name = definitionOfKind(sub);
      if (name) addSchemas(name, schemas);
    }
  }
  // These two are known in every group version.
  for (const kind of rows.length ? ['DeleteOptions', 'WatchEvent'] : []) {
    const { group, version } = rows[0]!;
    const core = { group: '', version: 'v1', kind };
    if (schemas[`${meta}${kind}`]) schemas[`${meta}${kind}`]['x-kubernetes-group-version-kind'] = group ? [core, { group, version, kind }] : [core];
  }
  const made = {
    openapi: '3.0.0',
    info,
    paths,
    components: { ...(Object.keys(schemas).length ? { schemas } : {}), securitySchemes },
  };
  v3.set(document, made);
  return made;
}

/** The OpenAPI v3 documents that there are, with a hash of what each is made from. */
export function openapiV3Paths(): Record<string, string> {
  const paths: Record<string, string> = {};
  const hash = (parts: unknown) => createHash('sha512').update(JSON.stringify([info, parts])).digest('hex').toUpperCase();
  for (const { document, item } of discoveryPaths(groupVersions, { v3: true, root: '' })) {
    const rows = builtinResources.filter((r) => pathOf(r) === document && r.definition);
    paths[document] = hash([item, rows]);
  }
  return paths;
}
