import { StatusError } from '../../api/errors.ts';
import type { Registered, Registry } from '../registry.ts';
import type { RequestInfo } from '../request.ts';
import { header, type HttpRequest, type HttpResponse } from './exchange.ts';

/** A path that nothing is installed at: upstream answers these in text, apart from those below a built-in group, which get a Status. */
export class PageNotFound extends StatusError {
  constructor() {
    super(404, 'NotFound', '404 page not found', {});
  }
}

export function sendPageNotFound(response: HttpResponse): void {
  const headers = { 'content-type': 'text/plain; charset=utf-8', 'x-content-type-options': 'nosniff', 'cache-control': 'no-cache, private' };
  response.send(404, headers, Buffer.from('404 page not found\n'));
}

/** Below a built-in group, where a router of it looks. */
export const pathNotFound = () => new StatusError(404, 'NotFound', 'the server could not find the requested resource', {});
const methodNotAllowed = () => new StatusError(405, 'MethodNotAllowed', 'the server does not allow this method on the requested resource', {});

/** What a path without a resource is answered with where nothing is found at it. */
export function nothingAt(registry: Registry, info: RequestInfo): StatusError {
  const [root, group] = info.path.split('/').slice(1);
  const below = root === 'api' || root === 'version' || (root === 'apis' && info.path.split('/').filter((p) => p).length > 2 && isBuiltIn(registry, group ?? ''));
  return below ? pathNotFound() : new PageNotFound();
}

function isBuiltIn(registry: Registry, group: string): boolean {
  for (const { served } of registry.all()) if (served.group === group && !served.custom) return true;
  return false;
}

/** Documents of discovery and the version can only be read, by GET; every other path without a resource takes any method. */
export function checkDocumentMethod(request: HttpRequest): void {
  const parts = request.path.split('/').filter((p) => p);
  const document = (parts[0] === 'api' && parts.length <= 2) || (parts[0] === 'apis' && parts.length === 3) || parts[0] === 'version';
  if (!document) return;
  if (request.method !== 'GET') throw methodNotAllowed();
  checkAccept(header(request, 'accept'), parts[0] === 'version' ? ['application/json'] : objectTypes);
}

const verbs: Record<string, [item: string, collection: string] | undefined> = {
  GET: ['get', 'list'],
  POST: ['', 'create'],
  PUT: ['update', ''],
  PATCH: ['patch', ''],
  DELETE: ['delete', 'deletecollection'],
};

/**
 * Whether upstream has a route for this method and path of a built-in resource. StatusError 404 where the path is none, 405 where it
 * takes other methods, 406 where it produces nothing that is accepted. Custom resources are judged by their verbs alone.
 */
export function checkRoute(request: HttpRequest, info: RequestInfo, { served }: Registered): void {
  const { path } = request;
  if (path.startsWith('//')) throw new PageNotFound();
  if (served.custom) return;
  if (/\/\/+[^/]/.test(path) && info.subresource !== 'proxy') throw pathNotFound();
  if (info.name.includes('/') || info.namespace.includes('/')) throw pathNotFound();
  const byMethod = verbs[request.method];
  if (info.subresource) {
    const known = served.subresources.find((s) => s.name === info.subresource);
    if (!known) throw pathNotFound();
    if (info.subresource === 'proxy') return;
    if (info.rest.replace(/\/+$/, '')) throw pathNotFound();
    const verb = request.method === 'POST' ? 'create' : byMethod?.[0];
    if (!verb || !known.verbs.includes(verb)) throw methodNotAllowed();
    if (info.subresource !== 'log' && info.subresource !== 'exec' && info.subresource !== 'attach' && info.subresource !== 'portforward')
      checkAccept(header(request, 'accept'), objectTypes);
    return;
  }
  if (!served.namespaced && info.namespace && served.resource !== 'namespaces') throw pathNotFound();
  const everywhere = served.namespaced && !info.namespace;
  if (everywhere && info.name) throw pathNotFound();
  const here = everywhere ? ['list'] : info.name ? ['get', 'update', 'patch', 'delete'] : ['list', 'create', 'deletecollection'];
  const possible = here.filter((verb) => served.verbs.includes(verb));
  if (possible.length === 0) throw pathNotFound();
  const verb = byMethod?.[info.name ? 0 : 1];
  if (!verb || !possible.includes(verb)) throw methodNotAllowed();
  const streams = verb === 'list' && served.verbs.includes('watch');
  checkAccept(header(request, 'accept'), streams ? [...objectTypes, ...streamTypes] : objectTypes);
}

const objectTypes = ['application/json', 'application/yaml', 'application/vnd.kubernetes.protobuf'];
const streamTypes = ['application/json;stream=watch', 'application/vnd.kubernetes.protobuf;stream=watch'];

/** Whether Accept names a type at all that is produced here; what its parameters ask for is negotiated later. */
function checkAccept(accept: string, produced: string[]): void {
  if (!accept) return;
  const types = accept.split(',').map((part) => part.split(';')[0]!.trim().toLowerCase());
  if (types.some((type) => type === '*/*' || type === 'application/*' || produced.includes(type))) return;
  throw new StatusError(406, 'NotAcceptable', `406: Not Acceptable\n\nAvailable representations: ${produced.join(', ')}`, {});
}
