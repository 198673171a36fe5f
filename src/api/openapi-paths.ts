import type { BuiltinResource } from './object.ts';

type Document = Record<string, any>;
/** A built-in resource, or what there is of it in a version of a custom one. */
type Resource = Pick<BuiltinResource, 'group' | 'version' | 'resource' | 'kind' | 'namespaced' | 'verbs' | 'subresources' | 'definition'>;

/** What differs between documents: the release's form, and what custom resources take and give. */
export interface PathStyle {
  v3: boolean;
  /** What the references of definitions begin with. */
  root: string;
  /** The definition of a group, version and kind, such as autoscaling/v1 Scale. */
  definitionOf(gvk: { group: string; version: string; kind: string }): string | undefined;
  /** The definition of the resource's list. */
  list: string;
  custom?: boolean;
}

interface Parameter {
  name: string;
  type: 'string' | 'boolean' | 'integer';
  where: 'query' | 'path';
}

const meta = 'io.k8s.apimachinery.pkg.apis.meta.v1.';
const string = (name: string, where: 'query' | 'path' = 'query'): Parameter => ({ name, type: 'string', where });
const boolean = (name: string): Parameter => ({ name, type: 'boolean', where: 'query' });
const integer = (name: string): Parameter => ({ name, type: 'integer', where: 'query' });

const [dryRun, fieldManager, fieldValidation] = [string('dryRun'), string('fieldManager'), string('fieldValidation')];
const pretty = string('pretty');
const namePath = string('name', 'path');
const namespacePath = string('namespace', 'path');
const writing = [dryRun, fieldManager, fieldValidation];
const selecting = [
  string('continue'),
  string('fieldSelector'),
  string('labelSelector'),
  integer('limit'),
  string('resourceVersion'),
  string('resourceVersionMatch'),
  boolean('sendInitialEvents'),
  string('shardSelector'),
  integer('timeoutSeconds'),
];
const listing = [boolean('allowWatchBookmarks'), ...selecting, boolean('watch')];
const deleting = [
  dryRun,
  integer('gracePeriodSeconds'),
  boolean('ignoreStoreReadErrorWithClusterBreakingPotential'),
  boolean('orphanDependents'),
  string('propagationPolicy'),
];
const streams = [boolean('stderr'), boolean('stdin'), boolean('stdout'), boolean('tty'), string('container')];
/** What may be asked of subresources that are no objects. */
const optionsOf: Record<string, Parameter[]> = {
  PodAttachOptions: streams,
  PodExecOptions: [string('command'), ...streams],
  PodPortForwardOptions: [integer('ports')],
  PodProxyOptions: [string('path')],
  ServiceProxyOptions: [string('path')],
  NodeProxyOptions: [string('path')],
};
const logOptions = [
  string('container'),
  boolean('follow'),
  boolean('insecureSkipTLSVerifyBackend'),
  integer('limitBytes'),
  boolean('previous'),
  integer('sinceSeconds'),
  string('stream'),
  integer('tailLines'),
  boolean('timestamps'),
];

/** Resources whose deletion is documented to answer with the object; the others answer with a Status. */
const answersObject = new Set(
  (
    'csidrivers csinodes deviceclasses devicetaintrules persistentvolumeclaims persistentvolumes pods podtemplates resourceclaims ' +
    'resourceclaimtemplates resourcepoolstatusrequests resourcequotas resourceslices serviceaccounts services storageclasses ' +
    'volumeattachments volumeattributesclasses'
  ).split(' '),
);

const answersWithObject = (r: Resource, style: PathStyle): boolean =>
  // Upstream's document says Status of this one version; its server answers with the object there too.
  !style.custom && answersObject.has(r.resource) && !(r.resource === 'devicetaintrules' && r.version === 'v1');

const encodings = ['application/json', 'application/yaml', 'application/vnd.kubernetes.protobuf'];
const listEncodings = [...encodings, 'application/json;stream=watch', 'application/vnd.kubernetes.protobuf;stream=watch'];
const customEncodings = ['application/json', 'application/yaml'];
const patches = ['application/json-patch+json', 'application/merge-patch+json', 'application/strategic-merge-patch+json', 'application/apply-patch+yaml'];
const texts: Record<string, string> = { 200: 'OK', 201: 'Created', 202: 'Accepted', 401: 'Unauthorized' };

const upper = (text: string) => text.charAt(0).toUpperCase() + text.slice(1);
const lower = (text: string) => text.charAt(0).toLowerCase() + text.slice(1);
/** rbac.authorization.k8s.io is RbacAuthorization in the names of operations, and rbacAuthorization in tags. */
const groupName = (group: string): string =>
  group ? group.replace(/\.k8s\.io$/, '').split(/[^A-Za-z0-9]+/).map(upper).join('') : 'Core';

/** One method of a path, before its form. */
interface Operation {
  id: string;
  tag: string;
  action?: string;
  kind?: { group: string; version: string; kind: string };
  parameters?: Parameter[];
  body?: { definition: string; required: boolean } | undefined;
  consumes?: string[] | undefined;
  produces: string[];
  codes: number[];
  /** The definition of the answer; undefined: a text. */
  answer: string | undefined;
}

function shown(operation: Operation, own: Parameter[], { v3, root }: Pick<PathStyle, 'v3' | 'root'>): Document {
  const schema = operation.answer === undefined ? { type: 'string' } : { $ref: root + operation.answer };
  const responses: Document = {};
  for (const code of operation.codes)
    responses[code] = {
      description: texts[code],
      ...(v3 ? { content: Object.fromEntries([...operation.produces].sort().map((type) => [type, { schema }])) } : { schema }),
    };
  responses['401'] = { description: texts['401'] };
  const body = operation.body && { $ref: root + operation.body.definition };
  const parameters = own.map((p) => parameter(p, v3));
  if (!v3 && operation.body) parameters.unshift({ name: 'body', in: 'body', ...(operation.body.required ? { required: true } : {}), schema: body });
  return {
    tags: [operation.tag],
    operationId: operation.id,
    ...(v3 ? {} : { ...(operation.consumes ? { consumes: operation.consumes } : {}), produces: operation.produces, schemes: ['https'] }),
    ...(parameters.length ? { parameters } : {}),
    ...(v3 && operation.body
      ? {
          requestBody: {
            content: Object.fromEntries([...(operation.consumes ?? [])].sort().map((type) => [type, { schema: body }])),
            ...(operation.body.required ? { required: true } : {}),
          },
        }
      : {}),
    responses,
    ...(operation.action ? { 'x-kubernetes-action': operation.action, 'x-kubernetes-group-version-kind': operation.kind } : {}),
  };
}

const parameter = ({ name, type, where }: Parameter, v3: boolean): Document => ({
  name,
  in: where,
  ...(where === 'path' ? { required: true } : {}),
  ...(v3 ? { schema: { type, uniqueItems: true } } : { type, uniqueItems: true }),
});

/** A path's methods; the parameters that all have are the path's. */
function pathItem(methods: Record<string, Operation>, style: Pick<PathStyle, 'v3' | 'root'>): Document {
  const all = Object.values(methods).map((o) => o.parameters ?? []);
  const common = (all[0] ?? []).filter((p) => all.every((others) => others.includes(p)));
  const byName = (a: Parameter, b: Parameter) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0);
  const item: Document = {};
  for (const [method, operation] of Object.entries(methods)) {
    const own = (operation.parameters ?? []).filter((p) => !common.includes(p)).sort(byName);
    item[method] = shown(operation, own, style);
  }
  if (common.length) item['parameters'] = [...common].sort(byName).map((p) => parameter(p, style.v3));
  return item;
}

const methodsOf: Record<string, string[]> = { get: ['get', 'head', 'options'], create: ['post'], update: ['put'], patch: ['patch'], delete: ['delete'] };

/** Every path of a resource and its subresources, as upstream documents them: deprecated watches too, but for custom resources. */
export function pathsOf(r: Resource, style: PathStyle): Record<string, Document> {
  const gv = `${groupName(r.group)}${upper(r.version)}`;
  const tag = `${lower(groupName(r.group))}_${r.version}`;
  const kind = { group: r.group, version: r.version, kind: r.kind };
  const scoped = `${r.namespaced ? 'Namespaced' : ''}${r.kind}`;
  const produces = style.custom ? customEncodings : encodings;
  const consumes = style.custom ? customEncodings : ['*/*'];
  const base = r.group ? `/apis/${r.group}/${r.version}` : `/api/${r.version}`;
  const within = r.namespaced ? [namespacePath] : [];
  const has = (verb: string) => r.verbs.includes(verb);

  const read = (id: string, more: Partial<Operation> = {}): Operation => ({ id, tag, action: 'get', kind, consumes, produces, codes: [200], answer: r.definition, ...more });
  const write = (id: string, action: string, codes: number[], definition: string, more: Partial<Operation> = {}): Operation => ({
    ...read(id),
    action,
    codes,
    answer: definition,
    body: { definition, required: true },
    ...more,
  });
  const list = (id: string, parameters: Parameter[]) =>
    read(id, { action: 'list', answer: style.list, produces: style.custom ? produces : listEncodings, parameters: [...listing, ...parameters] });
  const watch = (id: string, action: string, parameters: Parameter[]) => ({
    get: read(id, { action, answer: `${meta}WatchEvent`, produces: listEncodings, parameters: [...listing, ...parameters] }),
  });
  const patch = (id: string, definition: string, parameters: Parameter[]) =>
    write(id, 'patch', style.custom ? [200] : [200, 201], definition, {
      body: { definition: `${meta}Patch`, required: true },
      consumes: style.custom ? patches.filter((p) => !p.includes('strategic')) : patches,
      parameters: [...writing, boolean('force'), ...parameters],
    });

  const paths: Record<string, Document> = {};
  const add = (path: string, methods: Record<string, Operation>) => {
    if (Object.keys(methods).length) paths[path] = pathItem(methods, style);
  };

  const collection: Record<string, Operation> = {};
  if (has('list')) collection['get'] = list(`list${gv}${scoped}`, [...within, pretty]);
  if (has('create')) collection['post'] = write(`create${gv}${scoped}`, 'post', [200, 201, 202], r.definition, { parameters: [...writing, ...within, pretty] });
  if (has('deletecollection'))
    collection['delete'] = write(`delete${gv}Collection${scoped}`, 'deletecollection', [200], `${meta}Status`, {
      parameters: style.custom ? [...listing, ...within, pretty] : [...selecting, ...deleting, ...within, pretty],
      body: style.custom ? undefined : { definition: `${meta}DeleteOptions`, required: false },
    });
  const collectionPath = `${r.namespaced ? 'namespaces/{namespace}/' : ''}${r.resource}`;
  add(`${base}/${collectionPath}`, collection);
  if (r.namespaced && has('list')) add(`${base}/${r.resource}`, { get: list(`list${gv}${r.kind}ForAllNamespaces`, [pretty]) });

  const one = [namePath, ...within, pretty];
  const single: Record<string, Operation> = {};
  if (has('get')) single['get'] = read(`read${gv}${scoped}`, { parameters: style.custom ? [string('resourceVersion'), ...one] : one });
  if (has('update')) single['put'] = write(`replace${gv}${scoped}`, 'put', [200, 201], r.definition, { parameters: [...writing, ...one] });
  if (has('delete'))
    single['delete'] = write(`delete${gv}${scoped}`, 'delete', [200, 202], answersWithObject(r, style) ? r.definition : `${meta}Status`, {
      body: { definition: `${meta}DeleteOptions`, required: false },
      parameters: [...deleting, ...one],
    });
  if (has('patch')) single['patch'] = patch(`patch${gv}${scoped}`, r.definition, one);
  add(`${base}/${collectionPath}/{name}`, single);

  if (has('watch') && !style.custom) {
    add(`${base}/watch/${collectionPath}`, watch(`watch${gv}${scoped}List`, 'watchlist', [...within, pretty]));
    if (r.namespaced) add(`${base}/watch/${r.resource}`, watch(`watch${gv}${r.kind}ListForAllNamespaces`, 'watchlist', [pretty]));
    if (has('get')) add(`${base}/watch/${collectionPath}/{name}`, watch(`watch${gv}${scoped}`, 'watch', one));
  }

  for (const sub of r.subresources) {
    const path = `${base}/${collectionPath}/{name}/${sub.name}`;
    const named = `${scoped}${upper(sub.name)}`;
    const subkind = style.custom ? kind : { group: sub.group, version: sub.version, kind: sub.kind };
    const connecting = optionsOf[sub.kind];
    if (connecting) {
      const ways = sub.verbs.flatMap((verb) => (sub.name === 'proxy' ? (methodsOf[verb] ?? []) : (methodsOf[verb] ?? []).slice(0, 1)));
      const connect = (suffix: string, more: Parameter[]) =>
        Object.fromEntries(
          ways.map((way) => [
            way,
            read(`connect${gv}${upper(way)}${named}${suffix}`, {
              action: 'connect',
              kind: subkind,
              consumes: ['*/*'],
              produces: ['*/*'],
              answer: undefined,
              parameters: [...connecting, namePath, ...within, ...more],
            }),
          ]),
        );
      add(path, connect('', []));
      if (sub.name === 'proxy') add(`${path}/{path}`, connect('WithPath', [string('path', 'path')]));
      continue;
    }
    const definition = style.definitionOf(sub) ?? r.definition;
    const methods: Record<string, Operation> = {};
    if (sub.verbs.includes('get'))
      methods['get'] =
        sub.name === 'log'
          ? read(`read${gv}${named}`, { answer: undefined, produces: ['text/plain', ...encodings], parameters: [...logOptions, ...one] })
          : read(`read${gv}${named}`, { kind: subkind, answer: definition, parameters: style.custom ? [string('resourceVersion'), ...one] : one });
    if (sub.verbs.includes('create'))
      methods['post'] = write(`create${gv}${named}`, 'post', [200, 201, 202], definition, { kind: subkind, parameters: [...writing, ...one] });
    if (sub.verbs.includes('update')) methods['put'] = write(`replace${gv}${named}`, 'put', [200, 201], definition, { kind: subkind, parameters: [...writing, ...one] });
    if (sub.verbs.includes('patch')) methods['patch'] = { ...patch(`patch${gv}${named}`, definition, one), kind: subkind };
    add(path, methods);
  }
  return paths;
}

/** The paths that tell what is served, with the document of OpenAPI v3 that each is in. */
export function discoveryPaths(groupVersions: { group: string; version: string }[], style: Pick<PathStyle, 'v3' | 'root'>): { document: string; path: string; item: Document }[] {
  const all: { document: string; path: string; item: Document }[] = [];
  const add = (path: string, id: string, tag: string, answer: string | undefined, more: Partial<Operation> = {}) =>
    all.push({
      document: path.slice(1, -1),
      path,
      item: pathItem({ get: { id, tag, answer, consumes: encodings, produces: encodings, codes: [200], ...more } }, style),
    });
  const plain = { consumes: ['application/json'], produces: ['application/json'] };
  add('/.well-known/openid-configuration/', 'getServiceAccountIssuerOpenIDConfiguration', 'WellKnown', undefined, { ...plain, consumes: undefined });
  add('/openid/v1/jwks/', 'getServiceAccountIssuerOpenIDKeyset', 'openid', undefined, { produces: ['application/jwk-set+json'], consumes: undefined });
  add('/version/', 'getCodeVersion', 'version', 'io.k8s.apimachinery.pkg.version.Info', plain);
  add('/api/', 'getCoreAPIVersions', 'core', `${meta}APIVersions`);
  add('/apis/', 'getAPIVersions', 'apis', `${meta}APIGroupList`);
  const groups = new Set<string>();
  for (const { group, version } of groupVersions) {
    const name = groupName(group);
    if (group && !groups.has(group)) {
      groups.add(group);
      add(`/apis/${group}/`, `get${name}APIGroup`, lower(name), `${meta}APIGroup`);
    }
    add(group ? `/apis/${group}/${version}/` : `/api/${version}/`, `get${name}${upper(version)}APIResources`, `${lower(name)}_${version}`, `${meta}APIResourceList`);
  }
  return all;
}
