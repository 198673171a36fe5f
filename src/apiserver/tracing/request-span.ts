import { mastersGroup, type UserInfo } from '../authn/user.ts';
import { header, type HttpRequest } from '../http/exchange.ts';
import type { RequestInfo } from '../request.ts';
import { parseTraceparent, type Span, type Tracer } from './tracer.ts';

/** Whose word on what is to be traced is believed. */
const trusted = (user: UserInfo): boolean => user.groups.includes(mastersGroup) || user.groups.includes('system:monitoring');

/** The path with what differs from object to object left out. */
function nameOf(method: string, info: RequestInfo): string {
  if (!info.isResource) return method;
  const parts = [method, ' /', info.group ? `apis/${info.group}` : 'api', '/', info.version];
  if (info.namespace) parts.push('/namespaces/{:namespace}');
  parts.push('/', info.resource);
  if (info.name) parts.push('/{:name}');
  if (info.subresource) parts.push('/', info.subresource);
  return parts.join('');
}

/** The span of a request whose user is known. From here on the request carries it, to whomever it is passed on. */
export function requestSpan(tracer: Tracer, request: HttpRequest, info: RequestInfo, user: UserInfo, started: number, auditId: string): Span {
  const parent = parseTraceparent(header(request, 'traceparent'), header(request, 'tracestate'));
  const userAgent = header(request, 'user-agent').slice(0, 256);
  const span = tracer.request(nameOf(request.method, info), parent, trusted(user), started, {
    'http.request.method': request.method,
    'http.target': request.url.slice(0, 1024),
    'url.scheme': 'https',
    'audit-id': auditId,
    ...(request.remoteAddress ? { 'network.peer.address': request.remoteAddress } : {}),
    ...(userAgent ? { 'user_agent.original': userAgent } : {}),
  });
  request.headers['traceparent'] = span.traceparent;
  if (!span.context.state) delete request.headers['tracestate'];
  return span;
}
