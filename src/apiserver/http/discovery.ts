import { createHash } from 'node:crypto';
import type { Permit } from '../authz/authorizer.ts';
import type { Api } from '../api.ts';
import type { Registered } from '../registry.ts';
import { sendBytes, sendValue } from './encode.ts';
import { header, type HttpRequest, type HttpResponse } from './exchange.ts';
import { negotiate } from './negotiate.ts';
import { checkDocumentMethod } from './routes.ts';
import { compareVersions } from './versions.ts';

const aggregatedKinds = ['APIGroupDiscoveryList.apidiscovery.k8s.io/v2', 'APIGroupDiscoveryList.apidiscovery.k8s.io/v2beta1'];

interface Documents {
  generation: string;
  groups: Map<string, Map<string, Registered[]>>;
  aggregated: Map<string, { bytes: Buffer; etag: string }>;
}

const made = new WeakMap<Api, Documents>();

function documents(api: Api): Documents {
  let docs = made.get(api);
  const generation = `${api.registry.generation} ${api.aggregator.generation}`;
  if (docs && docs.generation === generation) return docs;
  const groups = new Map<string, Map<string, Registered[]>>();
  for (const registered of api.registry.all()) {
    const { group, version } = registered.served;
    let versions = groups.get(group);
    if (!versions) groups.set(group, (versions = new Map()));
    const list = versions.get(version);
    if (list) list.push(registered);
    else versions.set(version, [registered]);
  }
  // Versions of custom resources stand in Kubernetes' own order, whenever they were added.
  for (const [group, versions] of groups) {
    if (![...versions.values()].some((list) => list.some((r) => r.served.custom))) continue;
    groups.set(group, new Map([...versions].sort(([a], [b]) => compareVersions(b, a))));
  }
  docs = { generation, groups, aggregated: new Map() };
  made.set(api, docs);
  return docs;
}

/** Answers the discovery paths; false where the path is none of them. */
export async function serveDiscovery(api: Api, request: HttpRequest, response: HttpResponse, permit: Permit): Promise<boolean> {
  permit.demand(request.method.toLowerCase());
  const parts = request.path.split('/').filter((p) => p);
  const docs = documents(api);
  if (parts[0] === 'api') {
    if (parts.length === 1) {
      checkDocumentMethod(request);
      return root(api, docs, request, response, true);
    }
    if (parts.length === 2 && parts[1] === 'v1') return resources(docs, request, response, '', 'v1');
    return false;
  }
  if (parts[0] !== 'apis') return false;
  if (parts.length === 1) return root(api, docs, request, response, false);
  if (parts.length === 2) {
    const own = legacyGroups(api, docs).find((g) => g.name === parts[1]);
    if (!own) return false;
    await sendValue(request, response, 200, { kind: 'APIGroup', apiVersion: 'v1', ...own }, format(request));
    return true;
  }
  if (parts.length === 3) return resources(docs, request, response, parts[1]!, parts[2]!);
  return false;
}

const format = (request: HttpRequest) => negotiate(header(request, 'accept')).format;

async function root(api: Api, docs: Documents, request: HttpRequest, response: HttpResponse, legacy: boolean): Promise<boolean> {
  const wanted = negotiate(header(request, 'accept'), aggregatedKinds);
  if (wanted.as) {
    const id = `${legacy} ${wanted.as.version}`;
    let document = docs.aggregated.get(id);
    if (!document) {
      const names = legacy ? [''] : [...docs.groups.keys()].filter((g) => g !== '');
      const items: { metadata: { name?: string; creationTimestamp: null }; versions: object[] }[] = names.map((name) =>
        aggregatedGroup(name, docs.groups.get(name)!),
      );
      for (const remote of legacy ? [] : api.aggregator.all()) {
        const version = remote.discovery ?? { version: remote.version, resources: [], freshness: 'Stale' };
        const known = items.find((i) => i.metadata.name === remote.group);
        if (known) known.versions.push(version);
        else items.push({ metadata: { name: remote.group, creationTimestamp: null }, versions: [version] });
      }
      const bytes = Buffer.from(
        JSON.stringify({ kind: 'APIGroupDiscoveryList', apiVersion: `apidiscovery.k8s.io/${wanted.as.version}`, metadata: {}, items }),
      );
      document = { bytes, etag: `"${createHash('sha512').update(bytes).digest('hex').toUpperCase()}"` };
      docs.aggregated.set(id, document);
    }
    const headers = { etag: document.etag, vary: 'Accept', 'cache-control': 'public' };
    if (header(request, 'if-none-match') === document.etag) {
      response.send(304, headers);
      return true;
    }
    const contentType = `application/json;g=apidiscovery.k8s.io;v=${wanted.as.version};as=APIGroupDiscoveryList`;
    await sendBytes(request, response, 200, document.bytes, contentType, headers);
    return true;
  }
  const body = legacy
    ? { kind: 'APIVersions', versions: ['v1'], serverAddressByClientCIDRs: [{ clientCIDR: '0.0.0.0/0', serverAddress: api.address() }] }
    : { kind: 'APIGroupList', apiVersion: 'v1', groups: legacyGroups(api, docs) };
  await sendValue(request, response, 200, body, wanted.format);
  return true;
}

interface Group {
  name: string;
  versions: { groupVersion: string; version: string }[];
  preferredVersion: object;
}

function groupOf(name: string, versions: string[]): Group {
  const list = versions.map((version) => ({ groupVersion: `${name}/${version}`, version }));
  return { name, versions: list, preferredVersion: list[0] as object };
}

/** Groups that are served here, then those of other servers. */
function legacyGroups(api: Api, docs: Documents): Group[] {
  const versions = new Map<string, string[]>();
  for (const [group, own] of docs.groups) if (group) versions.set(group, [...own.keys()]);
  for (const { group, version } of api.aggregator.all()) versions.set(group, [...(versions.get(group) ?? []), version]);
  return [...versions].map(([group, list]) => groupOf(group, list));
}

const withoutEmpty = (kind: { group: string; version: string; kind: string }, own: { group: string; version: string }) =>
  kind.group === own.group && kind.version === own.version ? {} : { group: kind.group, version: kind.version };

async function resources(docs: Documents, request: HttpRequest, response: HttpResponse, group: string, version: string): Promise<boolean> {
  const list = docs.groups.get(group)?.get(version);
  if (!list) return false;
  checkDocumentMethod(request);
  const resourceList: object[] = [];
  for (const { served: r } of list) {
    const hash = createHash('sha256').update(`${r.storageGroup}/${r.storageVersion}/${r.kind}`).digest().subarray(0, 8).toString('base64');
    resourceList.push({
      name: r.resource,
      singularName: r.singular,
      namespaced: r.namespaced,
      kind: r.kind,
      verbs: r.verbs,
      ...(r.shortNames.length ? { shortNames: r.shortNames } : {}),
      ...(r.categories.length ? { categories: r.categories } : {}),
      ...(r.verbs.includes('create') && r.verbs.includes('list') ? { storageVersionHash: hash } : {}),
    });
    for (const sub of r.subresources) {
      resourceList.push({
        name: `${r.resource}/${sub.name}`,
        singularName: '',
        namespaced: r.namespaced,
        ...withoutEmpty(sub, r),
        kind: sub.kind,
        verbs: sub.verbs,
      });
    }
  }
  const groupVersion = group ? `${group}/${version}` : version;
  await sendValue(request, response, 200, { kind: 'APIResourceList', ...(group ? { apiVersion: 'v1' } : {}), groupVersion, resources: resourceList }, format(request));
  return true;
}

function aggregatedGroup(
  name: string,
  versions: Map<string, Registered[]>,
): { metadata: { name?: string; creationTimestamp: null }; versions: object[] } {
  const kindOf = (k: { group: string; version: string; kind: string }, own: { group: string; version: string }) => ({
    group: k.group === own.group ? '' : k.group,
    version: k.version === own.version && k.group === own.group ? '' : k.version,
    kind: k.kind,
  });
  return {
    metadata: { ...(name ? { name } : {}), creationTimestamp: null },
    versions: [...versions].map(([version, list]) => ({
      version,
      resources: list.map(({ served: r }) => ({
        resource: r.resource,
        responseKind: { group: '', version: '', kind: r.kind },
        scope: r.namespaced ? 'Namespaced' : 'Cluster',
        singularResource: r.singular,
        verbs: r.verbs,
        ...(r.shortNames.length ? { shortNames: r.shortNames } : {}),
        ...(r.categories.length ? { categories: r.categories } : {}),
        ...(r.subresources.length
          ? { subresources: r.subresources.map((s) => ({ subresource: s.name, responseKind: kindOf(s, r), verbs: s.verbs })) }
          : {}),
      })),
      freshness: 'Current',
    })),
  };
}

