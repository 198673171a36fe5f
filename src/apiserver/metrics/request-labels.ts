import type { Api } from '../api.ts';
import type { RequestInfo } from '../request.ts';
import type { RequestLabels } from './metrics.ts';

const methods: Record<string, string | undefined> = { get: 'GET', list: 'LIST', watch: 'WATCH', create: 'POST', update: 'PUT', patch: 'PATCH', delete: 'DELETE', deletecollection: 'DELETECOLLECTION' };
const connects = new Set(['exec', 'attach', 'portforward', 'proxy']);
/** Paths that are no resources, by what is counted as their subresource; of all others only that there was one. */
const known = /^\/(healthz|livez|readyz|metrics(?:\/slis)?|version|openapi\/v[23]|openid\/v1\/jwks|api|apis)(?:\/|$)/;

/**
 * What a request is counted as. Only what the server knows becomes a label: paths that clients make up must not make series. `applies`
 * says of a patch that it is a server-side apply.
 */
export function requestLabelsOf(api: Pick<Api, 'registry'>, info: Omit<RequestInfo, 'rest'>, applies: boolean): RequestLabels {
  const target = info.isResource ? api.registry.find(info.group, info.version, info.resource) : undefined;
  if (!target) {
    const path = info.isResource ? undefined : known.exec(info.path)?.[1];
    const subresource = path === undefined ? '' : /^(api|apis|openapi|version)/.test(path) ? path : `/${path}`;
    const verb = info.isResource ? (methods[info.verb] ?? 'other') : info.verb === 'get' || info.verb === 'head' ? 'GET' : 'other';
    return { verb, group: '', version: '', resource: '', subresource, scope: '' };
  }
  const subresource = info.subresource && target.served.subresources.some((s) => s.name === info.subresource) ? info.subresource : '';
  const verb = connects.has(subresource) ? 'CONNECT' : applies ? 'APPLY' : (methods[info.verb] ?? 'other');
  const scope = info.name ? 'resource' : info.namespace ? 'namespace' : 'cluster';
  return { verb, group: info.group, version: info.version, resource: info.resource, subresource, scope };
}
