import { notAcceptable } from '../../api/errors.ts';
import type { Permit } from '../authz/authorizer.ts';
import type { Api } from '../api.ts';
import { passOn } from '../extensions/aggregation/proxy.ts';
import { dumpFlowControl } from '../flow-control/dump.ts';
import { componentMetrics } from '../../client/metrics.ts';
import { openapiDocuments } from './openapi-documents.ts';
import { openapiProtobufType } from './openapi-protobuf.ts';
import { sendBytes, sendValue } from './encode.ts';
import { checkDocumentMethod } from './routes.ts';
import { header, type HttpRequest, type HttpResponse } from './exchange.ts';

const metricsType = 'text/plain; version=0.0.4; charset=utf-8';

/** Paths outside of /api and /apis; false where the path is none of them. */
export async function serveWellKnown(api: Api, request: HttpRequest, response: HttpResponse, permit: Permit): Promise<boolean> {
  permit.demand(request.method.toLowerCase());
  const { path } = request;
  switch (path) {
    case '/':
    case '/index.html':
      await sendValue(request, response, 200, { paths: rootPaths(api) });
      return true;
    case '/version':
    case '/version/':
      checkDocumentMethod(request);
      // As upstream's, this one is for people: it is indented.
      await sendBytes(request, response, 200, Buffer.from(JSON.stringify(versionInfo(api.version), null, 2)), 'application/json');
      return true;
    case '/metrics':
      // A store that does not answer keeps nobody from the other figures.
      api.metrics.storageSize(await api.store.size().catch(() => -1));
      response.send(200, { 'content-type': metricsType }, Buffer.from(api.metrics.text() + componentMetrics.text()));
      return true;
    case '/metrics/slis':
      for (const kind of ['healthz', 'livez', 'readyz']) for (const { name, failing } of checks(api, kind)) api.metrics.health.state(name, kind, failing() === undefined);
      response.send(200, { 'content-type': metricsType }, Buffer.from(api.metrics.health.text()));
      return true;
    case '/.well-known/openid-configuration':
    case '/.well-known/openid-configuration/':
      await sendBytes(request, response, 200, Buffer.from(JSON.stringify(openidConfiguration(api))), 'application/json', {
        'cache-control': 'public, max-age=3600',
      });
      return true;
    case '/openid/v1/jwks':
    case '/openid/v1/jwks/':
      await sendBytes(request, response, 200, Buffer.from(JSON.stringify(api.tokens.jwks)), 'application/jwk-set+json', {
        'cache-control': 'public, max-age=3600',
      });
      return true;
    case '/openapi/v2':
      await openapi2(api, request, response);
      return true;
    case '/openapi/v3':
    case '/openapi/v3/':
      await sendValue(request, response, 200, {
        paths: Object.fromEntries(
          Object.entries(openapiDocuments(api).paths()).map(([gv, hash]) => [gv, { serverRelativeURL: `/openapi/v3/${gv}?hash=${hash}` }]),
        ),
      });
      return true;
  }
  if (path.startsWith('/debug/api_priority_and_fairness/')) {
    const text = dumpFlowControl(api.flow, path.slice('/debug/api_priority_and_fairness/'.length));
    if (text === undefined) return false;
    response.send(200, { 'content-type': 'text/plain; charset=utf-8' }, Buffer.from(text));
    return true;
  }
  if (path.startsWith('/openapi/v3/apis/')) {
    const [group = '', version = ''] = path.slice('/openapi/v3/apis/'.length).split('/');
    const remote = api.aggregator.find(group, version);
    if (remote) {
      const { path: asked } = request;
      const user = { name: 'system:aggregator', groups: ['system:masters'] };
      const own = await api.authorizer.check({ user, verb: 'get', path: asked, group: '', resource: '', subresource: '', namespace: '', name: '' });
      await passOn(remote, request, response, own);
      return true;
    }
  }
  if (path.startsWith('/openapi/v3/')) return openapi3(api, request, response, path.slice('/openapi/v3/'.length));
  const health = /^\/(healthz|livez|readyz)(?:\/(.+))?$/.exec(path);
  if (health) return serveHealth(api, request, response, health[1]!, health[2]);
  return false;
}

function versionInfo(version: string) {
  const [, major = '1', minor = '37'] = /^v(\d+)\.(\d+)/.exec(version) ?? [];
  return {
    major,
    minor,
    emulationMajor: major,
    emulationMinor: minor,
    minCompatibilityMajor: major,
    minCompatibilityMinor: String(Number(minor) - 1),
    gitVersion: version,
    gitCommit: '',
    gitTreeState: '',
    buildDate: '1970-01-01T00:00:00Z',
    goVersion: '',
    compiler: `node ${process.version}`,
    platform: `linux/${process.arch === 'x64' ? 'amd64' : process.arch}`,
  };
}

function openidConfiguration(api: Api) {
  return {
    issuer: api.tokens.issuer,
    jwks_uri: api.tokens.jwksUri ?? `https://${api.address()}/openid/v1/jwks`,
    response_types_supported: ['id_token'],
    subject_types_supported: ['public'],
    id_token_signing_alg_values_supported: [...new Set(api.tokens.jwks.keys.map((k) => k.alg))],
  };
}

async function openapi2(api: Api, request: HttpRequest, response: HttpResponse): Promise<void> {
  const accept = header(request, 'accept');
  const json = accept === '' || /application\/(json|\*)|\*\/\*/.test(accept);
  if (!json && !accept.includes('proto-openapi.spec.v2')) {
    throw notAcceptable(`only the following media types are accepted: application/json, ${openapiProtobufType}`);
  }
  const { bytes, etag } = openapiDocuments(api).v2(json ? 'json' : 'protobuf');
  if (header(request, 'if-none-match') === etag) return response.send(304, { etag });
  await sendBytes(request, response, 200, bytes, json ? 'application/json' : openapiProtobufType, { etag });
}

async function openapi3(api: Api, request: HttpRequest, response: HttpResponse, groupVersion: string): Promise<boolean> {
  const documents = openapiDocuments(api);
  const document = documents.v3(groupVersion);
  if (!document) return false;
  const accept = header(request, 'accept');
  if (accept && !/application\/(json|\*)|\*\/\*/.test(accept)) throw notAcceptable('only the following media types are accepted: application/json');
  const hash = documents.paths()[groupVersion];
  const headers: Record<string, string> = hash ? { etag: `"${hash}"` } : {};
  if (hash && request.query.get('hash') === hash) {
    headers['cache-control'] = 'public, immutable';
    headers['expires'] = new Date(Date.now() + 365 * 86_400_000).toUTCString();
  }
  await sendBytes(request, response, 200, document, 'application/json', headers);
  return true;
}

interface Check {
  name: string;
  /** Why it fails; undefined where it does not. */
  failing(): string | undefined;
}

function checks(api: Api, kind: string): Check[] {
  const list: Check[] = [
    { name: 'ping', failing: () => undefined },
    { name: 'log', failing: () => undefined },
    { name: 'etcd', failing: () => api.hub.failure?.message },
  ];
  if (kind === 'livez') return list;
  list.push({ name: 'informer-sync', failing: () => (api.hub.revision === 0 ? 'caches are not filled' : undefined) });
  for (const name of [
    'poststarthook/rbac/bootstrap-roles',
    'poststarthook/start-system-namespaces-controller',
    'poststarthook/scheduling/bootstrap-system-priority-classes',
    'poststarthook/start-kubernetes-service-ip-repair-controllers',
  ]) {
    list.push({ name, failing: () => api.notReady.get(name) });
  }
  if (kind === 'readyz') list.push({ name: 'shutdown', failing: () => (api.draining || api.stopping.aborted ? 'process is shutting down' : undefined) });
  return list;
}

async function serveHealth(api: Api, request: HttpRequest, response: HttpResponse, kind: string, only: string | undefined): Promise<boolean> {
  const all = checks(api, kind);
  const text = { 'content-type': 'text/plain; charset=utf-8', 'x-content-type-options': 'nosniff', 'cache-control': 'no-cache, private' };
  if (only !== undefined) {
    const check = all.find((c) => c.name === only);
    if (!check) return false;
    const why = check.failing();
    api.metrics.health.asked(check.name, kind, why === undefined);
    response.send(why === undefined ? 200 : 500, text, Buffer.from(why === undefined ? 'ok' : `internal server error: ${why}\n`));
    return true;
  }
  const excluded = new Set(request.query.getAll('exclude'));
  const lines: string[] = [];
  let failed = false;
  for (const check of all) {
    if (excluded.has(check.name)) {
      lines.push(`[+]${check.name} excluded: ok`);
      continue;
    }
    const why = check.failing();
    api.metrics.health.asked(check.name, kind, why === undefined);
    if (why !== undefined) failed = true;
    lines.push(why === undefined ? `[+]${check.name} ok` : `[-]${check.name} failed: reason withheld`);
  }
  if (failed) response.send(500, text, Buffer.from(`${lines.join('\n')}\n${kind} check failed\n`));
  else response.send(200, text, Buffer.from(request.query.has('verbose') ? `${lines.join('\n')}\n${kind} check passed\n` : 'ok'));
  return true;
}

function rootPaths(api: Api): string[] {
  const paths = new Set([
    '/.well-known/openid-configuration',
    '/api',
    '/api/v1',
    '/apis',
    '/healthz',
    '/livez',
    '/metrics',
    '/metrics/slis',
    '/openapi/v2',
    '/openapi/v3',
    '/openid/v1/jwks',
    '/readyz',
    '/version',
  ]);
  for (const { served } of api.registry.all()) {
    if (!served.group) continue;
    paths.add(`/apis/${served.group}`);
    paths.add(`/apis/${served.group}/${served.version}`);
  }
  return [...paths].sort();
}
