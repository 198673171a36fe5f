import { createHash } from 'node:crypto';
import { descriptionOf } from './descriptions.ts';
import { builtinResources } from './generated/resources.ts';
import type { BuiltinResource } from './object.ts';
import { type Definition, definitionNames, definitionOf, type Shape } from './schema.ts';

const quantity = 'io.k8s.apimachinery.pkg.api.resource.Quantity';
const intOrString = 'io.k8s.apimachinery.pkg.util.intstr.IntOrString';

const time = 'io.k8s.apimachinery.pkg.apis.meta.v1.Time';
const microTime = 'io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime';
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
  const required = [...definition.fields.values()].filter((f) => f.required).map((f) => f.name);
  const [group, version, kind] = definition.gvk.split('/');
  const description = descriptionOf(definition.name);
  return {
    ...(description ? { description } : {}),
    type: 'object',
    ...(definition.fields.size ? { properties } : {}),
    ...(required.length ? { required } : {}),
    ...(kind ? { 'x-kubernetes-group-version-kind': [{ group, version, kind }] } : {}),
    ...(definition.atomic ? { 'x-kubernetes-map-type': 'atomic' } : {}),
  };
}

const pathOf = (r: { group: string; version: string }) => (r.group ? `apis/${r.group}/${r.version}` : `api/${r.version}`);

/** Schemas that every group version's document with custom resources refers to. */
export function openapiV3Common(): Record<string, any> {
  const schemas: Record<string, any> = {};
  addSchemas('io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta', schemas);
  addSchemas('io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta', schemas);
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

/** The methods of a resource's paths, each with kubectl's hints: action, kind, and whether fieldValidation is understood. */
export function pathsOf(r: BuiltinResource, root: string, v3: boolean): Record<string, any> {
  const gvk = { group: r.group, version: r.version, kind: r.kind };
  const parameter = (name: string, type: string, where = 'query') =>
    v3
      ? { name, in: where, ...(where === 'path' ? { required: true } : {}), schema: { type, uniqueItems: true } }
      : { name, in: where, type, ...(where === 'path' ? { required: true } : {}), uniqueItems: true };
  const body = (schema: any) => (v3 ? { requestBody: { content: { '*/*': { schema } } } } : { consumes: ['*/*'] });
  const answer = (code: string) => ({
    responses: {
      [code]: {
        description: 'OK',
        ...(v3
          ? { content: { 'application/json': { schema: { $ref: `${root}${r.definition}` } } } }
          : { schema: { $ref: `${root}${r.definition}` } }),
      },
    },
  });
  const operation = (action: string, code: string, extra: any = {}, parameters: any[] = []) => ({
    'x-kubernetes-action': action,
    'x-kubernetes-group-version-kind': gvk,
    ...(parameters.length ? { parameters } : {}),
    ...extra,
    ...answer(code),
  });
  const writes = [parameter('dryRun', 'string'), parameter('fieldManager', 'string'), parameter('fieldValidation', 'string')];
  const bodyParameter = v3 ? [] : [{ name: 'body', in: 'body', required: true, schema: { $ref: `${root}${r.definition}` } }];
  const schema = { $ref: `${root}${r.definition}` };
  const has = (verb: string) => r.verbs.includes(verb);
  const collection: any = {};
  const single: any = {};
  if (has('list')) collection.get = operation('list', '200');
  if (has('create')) collection.post = operation('post', '201', body(schema), [...bodyParameter, ...writes]);
  if (has('deletecollection')) collection.delete = operation('deletecollection', '200');
  if (has('get')) single.get = operation('get', '200');
  if (has('update')) single.put = operation('put', '200', body(schema), [...bodyParameter, ...writes]);
  if (has('patch'))
    single.patch = operation('patch', '200', body({ type: 'object' }), [
      ...(v3 ? [] : [{ name: 'body', in: 'body', required: true, schema: { type: 'object' } }]),
      ...writes,
      parameter('force', 'boolean'),
    ]);
  if (has('delete')) single.delete = operation('delete', '200');
  const base = `/${pathOf(r)}/${r.namespaced ? 'namespaces/{namespace}/' : ''}${r.resource}`;
  const common = r.namespaced ? [parameter('namespace', 'string', 'path')] : [];
  const paths: Record<string, any> = { [base]: { ...collection, ...(common.length ? { parameters: common } : {}) } };
  if (Object.keys(single).length) paths[`${base}/{name}`] = { ...single, parameters: [parameter('name', 'string', 'path'), ...common] };
  return paths;
}

const info = { title: 'Kubernetes', version: 'v1.37.2' };
let v2: any;

/** The OpenAPI v2 document of all built-in resources. Built once. */
export function openapiV2(): any {
  if (v2) return v2;
  const root = '#/definitions/';
  v2 = { swagger: '2.0', info, paths: {}, definitions: {} };
  for (const r of builtinResources) if (r.definition) Object.assign(v2.paths, pathsOf(r, root, false));
  for (const name of definitionNames) v2.definitions[name] = documentOf(definitionOf(name) as Definition, root, false);
  return v2;
}

const meta = 'io.k8s.apimachinery.pkg.apis.meta.v1.';
const byKind = new Map(definitionNames.map((name) => [(definitionOf(name) as Definition).gvk, name]));
const definitionOfKind = (k: { group: string; version: string; kind: string }): string | undefined => byKind.get(`${k.group}/${k.version}/${k.kind}`);

const v3 = new Map<string, any>();

/** The OpenAPI v3 document of a group version, such as `apis/apps/v1`; undefined where there is none. */
export function openapiV3(groupVersionPath: string): any {
  const known = v3.get(groupVersionPath);
  if (known) return known;
  const rows = builtinResources.filter((r) => pathOf(r) === groupVersionPath && r.definition);
  if (!rows.length) return undefined;
  const root = '#/components/schemas/';
  const schemas: Record<string, any> = {};
  const document = { openapi: '3.0.0', info, paths: {} as Record<string, any>, components: { schemas } };
  for (const r of rows) {
    Object.assign(document.paths, pathsOf(r, root, true));
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
  const [{ group, version }] = rows as [BuiltinResource];
  for (const kind of ['DeleteOptions', 'WatchEvent']) {
    const core = { group: '', version: 'v1', kind };
    if (schemas[`${meta}${kind}`]) schemas[`${meta}${kind}`]['x-kubernetes-group-version-kind'] = group ? [core, { group, version, kind }] : [core];
  }
  v3.set(groupVersionPath, document);
  return document;
}

/** Group versions that have an OpenAPI v3 document, with a hash of what it is made from. */
export function openapiV3Paths(): Record<string, string> {
  const paths: Record<string, string> = {};
  for (const r of builtinResources) {
    const path = pathOf(r);
    if (r.definition && !paths[path]) {
      const rows = builtinResources.filter((x) => pathOf(x) === path);
      paths[path] = createHash('sha512')
        .update(JSON.stringify([info, rows]))
        .digest('hex')
        .toUpperCase();
    }
  }
  return paths;
}
