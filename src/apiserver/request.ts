/** What a request is about, from its method and path: the way of apiserver's RequestInfo. */
export interface RequestInfo {
  isResource: boolean;
  /** get, list, watch, create, update, patch, delete, deletecollection; the lower-case method for other paths. */
  verb: string;
  path: string;
  group: string;
  version: string;
  resource: string;
  subresource: string;
  namespace: string;
  name: string;
  /** What follows the subresource, for proxies. */
  rest: string;
}

const namespaceSubresources = new Set(['status', 'finalize']);

/** Path without query. `watch` tells whether the query asks for a watch; fieldName is a metadata.name= field selector's value. */
export function parseRequestInfo(method: string, path: string, query: URLSearchParams): RequestInfo {
  const info: RequestInfo = {
    isResource: false,
    verb: method.toLowerCase(),
    path,
    group: '',
    version: '',
    resource: '',
    subresource: '',
    namespace: '',
    name: '',
    rest: '',
  };
  const parts = path.split('/').filter((part) => part !== '');
  let at: number;
  if (parts[0] === 'api' && parts.length >= 3) {
    info.version = parts[1]!;
    at = 2;
  } else if (parts[0] === 'apis' && parts.length >= 4) {
    info.group = parts[1]!;
    info.version = parts[2]!;
    at = 3;
  } else {
    return info;
  }
  info.isResource = true;
  let forcedWatch = false;
  if (parts[at] === 'watch' && parts.length > at + 1) {
    forcedWatch = true;
    at++;
  }
  const decode = (part: string | undefined): string => {
    if (part === undefined) return '';
    if (!part.includes('%')) return part;
    try {
      return decodeURIComponent(part);
    } catch {
      return part;
    }
  };
  if (parts[at] === 'namespaces' && parts.length > at + 1) {
    info.namespace = decode(parts[at + 1]);
    if (parts.length > at + 2 && !namespaceSubresources.has(parts[at + 2]!)) {
      at += 2;
    }
  }
  info.resource = parts[at]!;
  info.name = decode(parts[at + 1]);
  info.subresource = parts[at + 2] ?? '';
  if (info.subresource) {
    const marker = `/${parts.slice(0, at + 3).join('/')}`;
    info.rest = path.startsWith(marker) ? path.slice(marker.length) : '';
  }
  if (info.resource === 'namespaces' && !info.name) info.namespace = '';
  switch (method) {
    case 'POST':
      info.verb = 'create';
      break;
    case 'PUT':
      info.verb = 'update';
      break;
    case 'PATCH':
      info.verb = 'patch';
      break;
    case 'DELETE':
      info.verb = info.name ? 'delete' : 'deletecollection';
      break;
    case 'GET':
    case 'HEAD': {
      const asked = query.get('watch');
      const watch = forcedWatch || (asked !== null && asked !== 'false' && asked !== '0');
      info.verb = info.name && !forcedWatch ? (watch && !info.subresource ? 'watch' : 'get') : watch ? 'watch' : 'list';
      break;
    }
    default:
      info.verb = method.toLowerCase();
  }
  return info;
}

/** The one name that a list's or watch's field selector restricts it to; authorization treats it as a request for that object. */
export function nameFromFieldSelector(selector: string | null | undefined): string {
  if (!selector) return '';
  const match = /(?:^|,)\s*metadata\.name\s*==?\s*([^,\s]+)/.exec(selector);
  return match && /^[a-z0-9.:-]+$/i.test(match[1]!) ? match[1]! : '';
}
