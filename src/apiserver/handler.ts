import { randomUUID } from 'node:crypto';
import { parseBody } from '../api/decode.ts';
import { parseGoDuration } from '../api/go-duration.ts';
import { badRequest, internalError, methodNotSupported, StatusError, timeout } from '../api/errors.ts';
import { groupVersionOf } from '../api/object.ts';
import { decodeProtobuf } from '../api/protobuf.ts';
import type { DeleteOptions } from '../api/generated/types.ts';
import type { PatchType } from '../client/client.ts';
import type { Api, Call } from './api.ts';
import type { AuditRecord } from './audit/audit.ts';
import { authenticate, impersonate } from './authn/authenticate.ts';
import type { UserInfo } from './authn/user.ts';
import type { Attributes, Decision, Permit } from './authz/authorizer.ts';
import type { Ticket } from './flow-control/priority-level.ts';
import type { RemoteVersion } from './extensions/aggregation/aggregator.ts';
import { passOn } from './extensions/aggregation/proxy.ts';
import { reviews } from './authz/reviews.ts';
import { serveDiscovery } from './http/discovery.ts';
import { formatsOf, listKinds, objectKinds, sendEntry, sendError, sendList, sendValue } from './http/encode.ts';
import { type HttpRequest, type HttpResponse, header } from './http/exchange.ts';
import { bodyFormat, contentTypes, type Format, negotiate, streamFormats } from './http/negotiate.ts';
import { callOf, listParameters, patchForce, watchParameters } from './http/parameters.ts';
import { warningHeaders } from './http/warnings.ts';
import { WatchResponse } from './http/watch-response.ts';
import { checkRoute, nothingAt, PageNotFound, pathNotFound, sendPageNotFound } from './http/routes.ts';
import { serveWellKnown } from './http/well-known.ts';
import { requestLabelsOf } from './metrics/request-labels.ts';
import { nameFromFieldSelector, parseRequestInfo, type RequestInfo } from './request.ts';
import type { Entry } from './storage/entry.ts';
import { bind, bindingType } from './subresources/binding.ts';
import { componentStatuses } from './subresources/componentstatus.ts';
import { evict, evictionType } from './subresources/eviction.ts';
import { admitConnection } from './subresources/connect-options.ts';
import { proxies } from './subresources/proxies.ts';
import { getScale, patchScale, scaleType, updateScale } from './subresources/scale.ts';
import { createToken, tokenRequestType } from './subresources/token.ts';
import { create } from './verbs/create.ts';
import { type Deletion, remove, removeCollection } from './verbs/delete.ts';
import { get } from './verbs/get.ts';
import { list } from './verbs/list.ts';
import { type PatchBody, patch, patchTypeOf } from './verbs/patch.ts';
import { checkBody, type ParsedBody } from './verbs/prepare.ts';
import { requestSpan } from './tracing/request-span.ts';
import type { Span } from './tracing/tracer.ts';
import { update } from './verbs/update.ts';
import { watch } from './verbs/watch.ts';

/** The largest body that is read. */
export const bodyLimit = 3 * 1024 * 1024;

/**
 * The way of one request, from the moment its headers have come over TLS. `knownUser` is given by callers in this
 * process, who need not authenticate. Never throws: whatever goes wrong is answered as a Status.
 */
export async function handle(api: Api, incoming: HttpRequest, response: HttpResponse, knownUser?: UserInfo): Promise<void> {
  const started = performance.now();
  let request = incoming;
  let info: RequestInfo | undefined;
  let audit: AuditRecord | undefined;
  let call: Call | undefined;
  let ticket: Ticket | undefined;
  let deadline: ReturnType<typeof api.deadlines.begin> | undefined;
  let waitedMs = 0;
  let span: Span | undefined;
  const annotations: Record<string, string> = {};
  try {
    // 1. Every answer carries the request's id.
    response.headers['audit-id'] = header(request, 'audit-id') || randomUUID();
    info = parseRequestInfo(request.method, request.path, request.query);
    // 2. Who is it? From here on the request is audited.
    const sender = knownUser ?? (await authenticate(api, request));
    const impersonated = impersonate(api, request, sender);
    const user = impersonated instanceof Promise ? await impersonated : impersonated;
    if (api.tracer) span = requestSpan(api.tracer, request, info, user, started, String(response.headers['audit-id']));
    audit = api.audit?.begin(request, response, info, sender, user);
    if (audit) request = audit.request;
    // 3. Is there room for it?
    if (!info.isResource || !streams.has(info.subresource)) {
      const asked = info;
      if (asked.verb !== 'watch') deadline = api.deadlines.begin(() => expire(api, asked, request, response), timeoutOf(request, asked));
      const entered = api.flow.begin(user, info, objectsOf(api, info), response.headers, request);
      ticket = entered instanceof Promise ? await entered : entered;
      waitedMs = ticket.waitedMs;
    }
    // 4. May they?
    const allowed = authorize(api, request, info, user, audit);
    const permit = allowed instanceof Promise ? await allowed : allowed;
    // 5. What another server serves is passed on to it.
    const remote = remoteOf(api, info);
    if (remote) {
      // A watch there lasts: it is the other server's to count.
      if (ticket && info.verb === 'watch') {
        api.flow.end(ticket);
        ticket = undefined;
      }
      return await passOn(remote, request, response, permit);
    }
    // 6. Paths that are not resources.
    if (!info.isResource) {
      if (request.path.startsWith('//')) throw new PageNotFound();
      if (await serveDiscovery(api, request, response, permit)) return;
      if (await serveWellKnown(api, request, response, permit)) return;
      throw nothingAt(api.registry, info);
    }
    // 7. Which resource; then decode, default, admit, validate, store, encode: by verb.
    const target = api.registry.find(info.group, info.version, info.resource);
    if (!target) throw nothingAt(api.registry, info);
    checkRoute(request, info, target);
    call = callOf(request, info, target, permit);
    const deprecated = deprecations[`${info.group}/${info.version} ${target.served.kind}`];
    if (deprecated) response.headers['warning'] = warningHeaders([deprecated]);
    checkScope(call);
    if (audit) audit.definition = target.served.definition;
    if (target.served.custom?.warnings.length) response.headers['warning'] = warningHeaders(target.served.custom.warnings);
    call.auditAnnotations = annotations;
    if (span) call.span = span;
    else if (request.headers['traceparent']) call.traceparent = header(request, 'traceparent');
    await serveResource(api, request, response, call, info);
  } catch (error) {
    // What was wrong with a body is told even where something else stopped the request.
    if (call && !response.begun) addWarnings(response, call);
    try {
      answerError(api, request, response, error);
    } catch (failure) {
      // Whatever a header cannot hold must end this request, not the server.
      api.log.error({ err: failure, path: request.path }, 'an error could not be answered');
      for (const name of Object.keys(response.headers)) if (name !== 'audit-id') delete response.headers[name];
      sendError(request, response, internalError('the answer could not be written'));
    }
  } finally {
    if (deadline) api.deadlines.end(deadline);
    if (ticket) api.flow.end(ticket);
    if (audit) for (const [key, value] of Object.entries(annotations)) audit.annotate(key, value);
    if (audit) finishAudit(audit, info?.verb, request, response);
    span?.end({ 'http.response.status_code': response.status }, response.status >= 500 ? '' : undefined);
    if (info) observe(api, info, request, response, { started, waitedMs, call });
  }
}

/** What may go on for as long as it likes: neither counted nor timed. A watch is counted until it has begun. */
const streams = new Set(['exec', 'attach', 'portforward', 'proxy', 'log']);

/** How many objects a list may have to look at. */
export function objectsOf(api: Api, info: Pick<RequestInfo, 'verb' | 'group' | 'version' | 'resource' | 'name'>): number {
  if (info.verb !== 'list' || info.name) return 0;
  return api.registry.find(info.group, info.version, info.resource)?.storage?.cache.size ?? 0;
}

/** Milliseconds that the client gives the request, where it does; StatusError 400 where that is no duration. */
function timeoutOf(request: HttpRequest, info: RequestInfo): number | undefined {
  const asked = info.isResource ? request.query.get('timeout') : null;
  if (!asked) return undefined;
  const ms = parseGoDuration(asked);
  if (ms === undefined) throw badRequest(`invalid timeout specified in the request URL: time: invalid duration ${JSON.stringify(asked)}`);
  return ms > 0 ? ms : undefined;
}

function expire(api: Api, info: RequestInfo, request: HttpRequest, response: HttpResponse): void {
  if (response.begun) return;
  api.metrics.terminated(requestLabelsOf(api, info, applies(info, request)), 504);
  sendError(request, response, timeout('request did not complete within the allotted timeout'));
  response.abandon?.();
}

/** The server behind an APIService that a request is for; its group version is the first part of the path. */
function remoteOf(api: Api, info: RequestInfo): RemoteVersion | undefined {
  if (info.isResource) return api.aggregator.find(info.group, info.version);
  const [apis, group, version, ...rest] = info.path.split('/').filter((p) => p);
  return apis === 'apis' && group && version && rest.length === 0 ? api.aggregator.find(group, version) : undefined;
}

/** A watch is complete when it ends; everything else is when it has been answered. */
function finishAudit(audit: AuditRecord, verb: string | undefined, request: HttpRequest, response: HttpResponse): void {
  if (verb !== 'watch' || response.status !== 200) return audit.complete();
  audit.started();
  if (request.signal.aborted) audit.complete();
  else request.signal.addEventListener('abort', () => audit.complete(), { once: true });
}

/** That the user may do this; a promise only where an authorizer has to ask elsewhere. */
function authorize(api: Api, request: HttpRequest, info: RequestInfo, user: UserInfo, audit: AuditRecord | undefined): Permit | Promise<Permit> {
  const heard = (decision: Decision) => {
    audit?.annotate('authorization.k8s.io/decision', decision.allowed ? 'allow' : 'forbid');
    audit?.annotate('authorization.k8s.io/reason', decision.reason);
  };
  return api.authorizer.check(attributesOf(request, info, user), audit && heard);
}

/** What is asked about a request. Connections to pods and nodes are judged as `create` or `get` of the subresource, as by method. */
function attributesOf(request: HttpRequest, info: RequestInfo, user: UserInfo): Attributes {
  if (!info.isResource) return { user, verb: info.verb, path: info.path, group: '', resource: '', subresource: '', namespace: '', name: '' };
  const fieldSelector = request.query.get('fieldSelector') ?? '';
  const labelSelector = request.query.get('labelSelector') ?? '';
  const collection = info.verb === 'list' || info.verb === 'watch' || info.verb === 'deletecollection';
  return {
    user,
    verb: info.verb,
    group: info.group,
    version: info.version,
    resource: info.resource,
    subresource: info.subresource,
    namespace: info.namespace,
    name: info.name || (collection ? nameFromFieldSelector(fieldSelector) : ''),
    ...(fieldSelector ? { fieldSelector } : {}),
    ...(labelSelector ? { labelSelector } : {}),
  };
}

/** A namespace belongs into the path of what lives in namespaces, and of nothing else. */
function checkScope(call: Call): void {
  const { served } = call.target;
  if (!served.namespaced && call.namespace && served.resource !== 'namespaces') throw pathNotFound();
  const single = call.name !== '' || call.verb === 'create';
  if (served.namespaced && !call.namespace && single && call.target.storage) {
    if (call.verb === 'create') throw badRequest('an empty namespace may not be set during creation');
    throw pathNotFound();
  }
}

async function serveResource(api: Api, request: HttpRequest, response: HttpResponse, call: Call, info: RequestInfo): Promise<void> {
  const { target } = call;
  if (call.subresource && call.subresource !== 'status') return serveSubresource(api, request, response, call, info);
  if (call.subresource && !target.served.subresources.some((s) => s.name === call.subresource)) throw pathNotFound();
  const accept = header(request, 'accept');
  switch (call.verb) {
    case 'get': {
      const wanted = negotiate(accept, objectKinds, formatsOf(target));
      if (target.served.resource === 'componentstatuses')
        return void (await sendValue(request, response, 200, componentStatuses(api, call.name), wanted.format));
      return sendEntry(request, response, 200, target, await get(api, call, request.query.get('resourceVersion') ?? undefined), wanted);
    }
    case 'list': {
      const wanted = negotiate(accept, listKinds, formatsOf(target));
      if (target.served.resource === 'componentstatuses')
        return void (await sendValue(request, response, 200, componentStatuses(api), wanted.format));
      return sendList(request, response, target, await list(api, call, listParameters(request.query)), wanted);
    }
    case 'watch':
      return serveWatch(api, request, response, call, info);
    case 'create': {
      if (call.name) throw methodNotSupported(target.subject, 'create');
      const review = reviews[`${target.served.group}/${target.served.resource}`];
      // What is only answered has neither columns nor metadata of its own.
      const wanted = negotiate(accept, review ? [] : objectKinds, formatsOf(target));
      const body = await readBody(request, target.served.definition);
      if (review) return void (await sendValue(request, response, 201, await review(api, call, body), wanted.format));
      if (target.served.resource === 'bindings' && target.served.group === '') {
        await bind(api, call, body);
        return void (await sendValue(request, response, 201, success(), wanted.format));
      }
      return answer(api, request, response, call, 201, (await create(api, call, body)).as(target.served));
    }
    case 'update': {
      const written = await update(api, call, await readBody(request, target.served.definition));
      return answer(api, request, response, call, written.created ? 201 : 200, written.entry.as(target.served));
    }
    case 'patch': {
      const type = patchTypeOf(header(request, 'content-type'));
      const written = await patch(api, call, type, await readPatch(request, type));
      return answer(api, request, response, call, written.created ? 201 : 200, written.entry.as(target.served));
    }
    case 'delete': {
      const deletion = await remove(api, call, await deleteOptions(request, call));
      return answerDeletion(api, request, response, call, deletion);
    }
    case 'deletecollection': {
      const options = await deleteOptions(request, call);
      const parameters = listParameters(request.query);
      const entries = await removeCollection(api, call, parameters, options);
      return sendList(request, response, target, { revision: api.hub.revision, entries }, negotiate(accept, listKinds, formatsOf(target)));
    }
    default:
      throw methodNotSupported(target.subject, call.verb);
  }
}

/** Subresources with a body of another kind, or with a part of the object; what is no resource at all is proxied. */
async function serveSubresource(api: Api, request: HttpRequest, response: HttpResponse, call: Call, info: RequestInfo): Promise<void> {
  const { target, subresource } = call;
  const known = target.served.subresources.find((s) => s.name === subresource);
  if (!known) throw pathNotFound();
  const proxy = proxies[`${target.served.resource}/${subresource}`];
  if (proxy && subresource !== 'log') await admitConnection(api, call, request.query, info.rest);
  if (proxy) return proxy(api, request, response, call, info.rest);
  const accept = negotiate(header(request, 'accept'), objectKinds, formatsOf(target));
  const verb = call.verb;
  const { definition } = subresourceTypes[subresource] ?? target.served;
  if (!known.verbs.includes(verb)) throw methodNotSupported(target.subject, verb);
  const send = (status: number, value: unknown) => sendValue(request, response, status, value, accept.format, warningsOf(call));
  if (verb === 'create') {
    const body = await readBody(request, definition);
    if (subresource === 'token') return void (await send(201, await createToken(api, call, body)));
    if (subresource === 'binding') {
      await bind(api, call, body);
      return void (await send(201, success()));
    }
    if (subresource === 'eviction') {
      await evict(api, call, body);
      return void (await send(201, success()));
    }
    throw methodNotSupported(target.subject, verb);
  }
  if (subresource === 'scale') {
    if (verb === 'get') return void (await send(200, await getScale(api, call)));
    if (verb === 'update') return void (await send(200, await updateScale(api, call, await readBody(request, definition))));
    const type = patchTypeOf(header(request, 'content-type'));
    return void (await send(200, await patchScale(api, call, type, await readPatch(request, type))));
  }
  if (verb === 'get') return sendEntry(request, response, 200, target, await get(api, call, undefined), accept);
  if (verb === 'update')
    return answer(api, request, response, call, 200, (await update(api, call, await readBody(request, definition))).entry.as(target.served));
  const type = patchTypeOf(header(request, 'content-type'));
  const body = await readPatch(request, type);
  return answer(api, request, response, call, 200, (await patch(api, call, type, body)).entry.as(target.served));
}

async function serveWatch(api: Api, request: HttpRequest, response: HttpResponse, call: Call, info: RequestInfo): Promise<void> {
  const formats = formatsOf(call.target).filter((format) => streamFormats.includes(format));
  const wanted = negotiate(header(request, 'accept'), [...listKinds, ...objectKinds], formats);
  const parameters = watchParameters(request.query);
  if (call.name && !parameters.fieldSelector) parameters.fieldSelector = `metadata.name=${call.name}`;
  const parts: { sink?: WatchResponse } = {};
  // Nothing is sent before the watch has begun: what is wrong with it is answered with a status of its own.
  const early: ((sink: WatchResponse) => void)[] = [];
  let ended = false;
  const stop = await watch(api, { ...call, signal: request.signal }, parameters, {
    deliver: (...args) => (parts.sink ? parts.sink.deliver(...args) : early.push((s) => s.deliver(...args))),
    bookmark: (...args) => (parts.sink ? parts.sink.bookmark(...args) : early.push((s) => s.bookmark(...args))),
    end: (error) => {
      ended = true;
      if (parts.sink) parts.sink.end(error);
      else early.push((s) => s.end(error));
    },
  });
  if (ended && request.signal.aborted) return;
  const contentType = wanted.format === 'protobuf' ? `${contentTypes.protobuf};stream=watch` : contentTypes.json;
  const stream = response.stream(200, { 'content-type': contentType, 'cache-control': 'no-cache, private' });
  const { group, version, resource } = call.target.served;
  parts.sink = new WatchResponse(stream, call.target, wanted, request.query.get('includeObject'), api.metrics.watchSeries(group, version, resource));
  request.signal.addEventListener('abort', api.metrics.longRunning(requestLabelsOf(api, info, false)), { once: true });
  parts.sink.stop = stop;
  for (const replay of early) replay(parts.sink);
}

/** The body as an object; `definition` is the type it must have, which protobuf needs to be read at all. */
async function readBody(request: HttpRequest, definition: string): Promise<ParsedBody> {
  const format = bodyFormat(header(request, 'content-type'));
  const bytes = await request.body(bodyLimit);
  if (bytes.length === 0) {
    if (format !== 'application/json' || !definition.startsWith('io.k8s.')) throw badRequest('EOF');
    const kind = definition.slice(definition.lastIndexOf('.') + 1);
    const why = `couldn't get version/kind; json parse error: unexpected end of JSON input (<empty>)`;
    throw badRequest(`the object provided is unrecognized (must be of type ${kind}): ${why}`);
  }
  return parse(bytes, format, definition);
}

function parse(bytes: Buffer, format: ReturnType<typeof bodyFormat>, definition: string): ParsedBody {
  if (format === 'application/vnd.kubernetes.protobuf') return { object: decodeProtobuf(bytes, definition), duplicates: [] };
  return parseBody(bytes, format);
}

const deleteOptionsDefinition = 'io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions';
const subresourceTypes: Record<string, { definition: string } | undefined> = {
  token: tokenRequestType,
  binding: bindingType,
  eviction: evictionType,
  scale: scaleType,
};

async function readPatch(request: HttpRequest, type: PatchType): Promise<PatchBody> {
  const force = patchForce(request.query, type);
  const bytes = await request.body(bodyLimit);
  if (type !== 'apply') {
    if (!isJson(bytes)) throw badRequest('invalid JSON patch');
    return parseBody(bytes, 'application/json');
  }
  try {
    return { ...parseBody(bytes, bytes[0] === 0x7b && isJson(bytes) ? 'application/json' : 'application/yaml'), force };
  } catch (error) {
    throw error instanceof StatusError ? badRequest(`error decoding patch: ${error.message}`) : error;
  }
}

function isJson(bytes: Buffer): boolean {
  try {
    JSON.parse(bytes.toString('utf8'));
    return true;
  } catch {
    return false;
  }
}

/** From the body where there is one, else from the query. */
async function deleteOptions(request: HttpRequest, call: Call): Promise<Partial<DeleteOptions>> {
  const bytes = await request.body(bodyLimit);
  if (bytes.length > 0) {
    const body = parse(bytes, bodyFormat(header(request, 'content-type')), deleteOptionsDefinition);
    const own = body.object as { apiVersion?: string; kind?: string } | null;
    const options = checkBody<DeleteOptions>({ ...call, fieldValidation: 'Ignore' }, body, {
      ...groupVersionOf(own?.apiVersion ?? 'v1'),
      kind: 'DeleteOptions',
      definition: deleteOptionsDefinition,
    });
    if (options.dryRun?.includes('All')) call.dryRun = true;
    return options;
  }
  const { query } = request;
  const grace = query.get('gracePeriodSeconds');
  if (grace !== null && !/^-?\d+$/.test(grace)) throw badRequest(`strconv.ParseInt: parsing ${JSON.stringify(grace)}: invalid syntax`);
  const policy = query.get('propagationPolicy');
  const orphan = query.get('orphanDependents');
  return {
    ...(grace === null ? {} : { gracePeriodSeconds: Number(grace) }),
    ...(policy === null ? {} : { propagationPolicy: policy }),
    ...(orphan === null ? {} : { orphanDependents: orphan === 'true' }),
  };
}

/** Kinds that are on their way out; every answer about them says so. */
const deprecations: Record<string, string> = {
  '/v1 ComponentStatus': 'v1 ComponentStatus is deprecated in v1.19+',
  '/v1 Endpoints': 'v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice',
};

const success = () => ({ kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Success', code: 201 });

function warningsOf(call: Call): Record<string, string> {
  return call.warnings.length ? { warning: warningHeaders(call.warnings).join(', ') } : {};
}

function addWarnings(response: HttpResponse, call: Call): void {
  if (!call.warnings.length) return;
  const earlier = (response.headers['warning'] as string[] | undefined) ?? [];
  response.headers['warning'] = [...earlier, ...warningHeaders(call.warnings)];
}

async function answer(_api: Api, request: HttpRequest, response: HttpResponse, call: Call, status: number, entry: Entry): Promise<void> {
  addWarnings(response, call);
  await sendEntry(request, response, status, call.target, entry, negotiate(header(request, 'accept'), objectKinds, formatsOf(call.target)));
}

async function answerDeletion(api: Api, request: HttpRequest, response: HttpResponse, call: Call, deletion: Deletion): Promise<void> {
  if (deletion.entry) return answer(api, request, response, call, 200, deletion.entry.as(call.target.served));
  await sendValue(request, response, 200, deletion.status, negotiate(header(request, 'accept'), objectKinds).format);
}

function answerError(api: Api, request: HttpRequest, response: HttpResponse, error: unknown): void {
  if (response.begun) {
    if (request.signal.aborted) return;
    api.log.warn({ err: error, path: request.path }, 'a request failed after its answer had begun');
    return;
  }
  if (error instanceof PageNotFound) return sendPageNotFound(response);
  if (error instanceof StatusError) {
    let format: Format = 'json';
    try {
      format = negotiate(header(request, 'accept')).format;
    } catch {
      // A refusal must reach also those who asked for a format there is not.
    }
    sendError(request, response, error, format);
    return;
  }
  if (!request.signal.aborted) api.log.error({ err: error, method: request.method, path: request.path }, 'a request failed');
  sendError(request, response, internalError((error as Error).message ?? String(error)));
}

/** Whether a patch is a server-side apply. */
const applies = (info: RequestInfo, request: HttpRequest): boolean => info.verb === 'patch' && header(request, 'content-type').startsWith('application/apply-patch');

function observe(
  api: Api,
  info: RequestInfo,
  request: HttpRequest,
  response: HttpResponse,
  { started, waitedMs, call }: { started: number; waitedMs: number; call: Call | undefined },
): void {
  const labels = requestLabelsOf(api, info, applies(info, request));
  const longRunning = info.verb === 'watch' || streams.has(info.subresource);
  if (response.status === 429) api.metrics.terminated(labels, 429);
  const time = longRunning ? undefined : { ms: performance.now() - started, outside: waitedMs + (call?.webhookMs ?? 0) };
  api.metrics.observe(labels, response.status, time, response.answeredAt ? response.answerBytes : undefined, call?.dryRun);
}
