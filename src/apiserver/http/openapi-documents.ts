import { createHash } from 'node:crypto';
import { customOpenapi } from '../../api/crd/openapi.ts';
import { openapiV2, openapiV3, openapiV3Common, openapiV3Paths } from '../../api/openapi.ts';
import type { Api } from '../api.ts';
import { encodeOpenapiV2 } from './openapi-protobuf.ts';

/** What upstream's API server for custom resources calls its documents. */
const customInfo = { title: 'Kubernetes CRD Swagger', version: 'v0.1.0' };

/** The OpenAPI documents of everything that is served now; made anew when the registry changes, and only what is asked for. */
class OpenapiDocuments {
  readonly generation: string;
  #api: Api;
  #v2: any;
  #v2Bytes = new Map<'json' | 'protobuf', { bytes: Buffer; etag: string }>();
  #v3 = new Map<string, Buffer>();
  #paths: Record<string, string> | undefined;

  constructor(api: Api) {
    this.#api = api;
    this.generation = generationOf(api);
  }

  #custom(groupVersionPath?: string) {
    return this.#api.registry
      .all()
      .map((r) => r.served)
      .filter((s) => s.custom && (groupVersionPath === undefined || `apis/${s.group}/${s.version}` === groupVersionPath));
  }

  v2(format: 'json' | 'protobuf'): { bytes: Buffer; etag: string } {
    let known = this.#v2Bytes.get(format);
    if (!known) {
      const document = (this.#v2 ??= this.#makeV2());
      const bytes = format === 'json' ? Buffer.from(JSON.stringify(document)) : encodeOpenapiV2(document);
      known = { bytes, etag: `"${hashOf(bytes)}"` };
      this.#v2Bytes.set(format, known);
    }
    return known;
  }

  /** Whether what a path is of, as `apis/apps/v1` and `apis/apps`, is served; paths that are of no group are. */
  #isServed(path: string): boolean {
    const [root, ...rest] = path.split('/');
    if (root !== 'api' && root !== 'apis') return true;
    const [group = '', version] = root === 'api' ? ['', rest[0]] : rest;
    if (version) return this.#api.registry.hasGroupVersion(group, version);
    return !group || this.#api.registry.all().some((r) => r.served.group === group && !r.served.custom);
  }

  /** Without the paths of versions that are not. */
  #served(document: any): any {
    const known = new Map<string, boolean>();
    const serves = (path: string) => {
      const id = /^\/((?:api|apis\/[^/]+)\/[^/]+|apis\/[^/]+)/.exec(path)?.[1] ?? '';
      let yes = known.get(id);
      if (yes === undefined) known.set(id, (yes = id === '' || this.#isServed(id)));
      return yes;
    };
    return { ...document, paths: Object.fromEntries(Object.entries(document.paths).filter(([path]) => serves(path))) };
  }

  #makeV2(): any {
    const base = this.#served(openapiV2());
    const custom = this.#custom();
    const remotes = this.#api.aggregator.all().filter((r) => r.available && r.openapi);
    if (custom.length === 0 && remotes.length === 0) return base;
    const document = { ...base, paths: { ...base.paths }, definitions: { ...base.definitions } };
    for (const served of custom) {
      const { schemas, paths } = customOpenapi(served, false);
      Object.assign(document.paths, paths);
      Object.assign(document.definitions, schemas);
    }
    for (const { openapi } of remotes) {
      Object.assign(document.paths, openapi.paths);
      // What both know, such as ObjectMeta, is this server's.
      document.definitions = { ...openapi.definitions, ...document.definitions };
    }
    return document;
  }

  v3(groupVersionPath: string): Buffer | undefined {
    let known = this.#v3.get(groupVersionPath);
    if (known) return known;
    const built = this.#isServed(groupVersionPath) ? openapiV3(groupVersionPath) : undefined;
    const custom = this.#custom(groupVersionPath);
    if (!built && custom.length === 0) return undefined;
    const base = built ?? { openapi: '3.0.0', info: customInfo, paths: {}, components: { schemas: {} } };
    const scales = custom.some((s) => s.subresources.some((sub) => sub.name === 'scale'));
    const document =
      custom.length === 0
        ? base
        : { ...base, paths: { ...base.paths }, components: { ...base.components, schemas: { ...openapiV3Common(scales), ...base.components.schemas } } };
    for (const served of custom) {
      const { schemas, paths } = customOpenapi(served, true);
      Object.assign(document.paths, paths);
      Object.assign(document.components.schemas, schemas);
    }
    known = Buffer.from(JSON.stringify(document));
    this.#v3.set(groupVersionPath, known);
    return known;
  }

  /** Group versions with a hash of what their documents are made from. */
  paths(): Record<string, string> {
    if (this.#paths) return this.#paths;
    const paths = Object.fromEntries(Object.entries(openapiV3Paths()).filter(([path]) => this.#isServed(path)));
    const custom = new Map<string, unknown[]>();
    for (const s of this.#custom()) {
      const path = `apis/${s.group}/${s.version}`;
      const { strategy: _strategy, custom: own, definition: _definition, ...rest } = s;
      custom.set(path, [...(custom.get(path) ?? []), rest, own?.openapi, own?.listKind]);
    }
    for (const [path, parts] of custom) paths[path] = hashOf(JSON.stringify([paths[path] ?? '', parts]));
    for (const remote of this.#api.aggregator.all())
      if (remote.available) paths[`apis/${remote.group}/${remote.version}`] = hashOf(JSON.stringify([remote.from, remote.openapi]));
    this.#paths = paths;
    return paths;
  }
}

const generationOf = (api: Api): string => `${api.registry.generation} ${api.aggregator.generation}`;
const hashOf = (data: Buffer | string): string => createHash('sha512').update(data).digest('hex').toUpperCase();

const made = new WeakMap<Api, OpenapiDocuments>();

export function openapiDocuments(api: Api): OpenapiDocuments {
  let documents = made.get(api);
  if (!documents || documents.generation !== generationOf(api)) {
    documents = new OpenapiDocuments(api);
    made.set(api, documents);
  }
  return documents;
}
