import { StatusError } from '../api/errors.ts';
import type { DeleteOptions, Status } from '../api/generated/types.ts';
import { apiVersionOf, type Draft, type KubeList, type KubeObject, type ResourceType } from '../api/object.ts';
import type {
  Client,
  ListOptions,
  ObjectKey,
  PatchType,
  RawRequest,
  RawResponse,
  ReadOptions,
  WatchEvent,
  WatchOptions,
  WriteOptions,
} from '../client/client.ts';
import type { Api, Call } from './api.ts';
import { LocalAudit, type LocalOptions } from './audit/local-audit.ts';
import type { RequestLabels } from './metrics/metrics.ts';
import { requestLabelsOf } from './metrics/request-labels.ts';
import { authenticated, type UserInfo } from './authn/user.ts';
import { reviews } from './authz/reviews.ts';
import { pathNotFound } from './http/routes.ts';
import { LocalExchange } from './http/local-exchange.ts';
import { listMetadata } from './http/encode.ts';
import { statusOf } from './http/watch-response.ts';
import { handle, objectsOf } from './handler.ts';
import { nameFromFieldSelector } from './request.ts';
import type { CacheEvent } from './storage/cache.ts';
import type { Entry } from './storage/entry.ts';
import { clone, deepFreeze } from './storage/json.ts';
import { bind } from './subresources/binding.ts';
import { evict } from './subresources/eviction.ts';
import { getScale, patchScale, updateScale } from './subresources/scale.ts';
import { createToken } from './subresources/token.ts';
import { create } from './verbs/create.ts';
import { remove, removeCollection } from './verbs/delete.ts';
import { get } from './verbs/get.ts';
import { list } from './verbs/list.ts';
import { patch } from './verbs/patch.ts';
import { update } from './verbs/update.ts';
import { type WatchSink, type WatchType, watch } from './verbs/watch.ts';

/** Changes that a watch's reader may lag behind before its watch ends; it then lists anew. */
const backlogLimit = 20_000;

/**
 * A client in the server's own process: the same authorization, admission, validation and storage, no sockets and no
 * serialization. What it returns are the cache's own frozen objects.
 */
export class LocalClient implements Client {
  #api: Api;
  #user: UserInfo;
  #closed = new AbortController();

  constructor(api: Api, user: UserInfo) {
    this.#api = api;
    this.#user = authenticated(user);
  }

  #begin(type: ResourceType<any>, verb: string, key: Partial<ObjectKey>, o: RunOptions): Omit<Call, 'permit'> {
    const target = this.#api.registry.find(type.group, type.version, type.resource);
    if (!target) throw pathNotFound();
    if (this.#closed.signal.aborted) throw new Error('the client is closed');
    o.signal?.throwIfAborted();
    return {
      user: this.#user,
      target,
      verb,
      namespace: target.served.namespaced ? (key.namespace ?? '') : '',
      name: key.name ?? '',
      subresource: o.subresource ?? '',
      dryRun: o.dryRun ?? false,
      fieldValidation: 'Ignore',
      fieldManager: o.fieldManager ?? programOf(this.#user.name),
      warnings: [],
      signal: o.signal,
    };
  }

  #permitted(call: Omit<Call, 'permit'>, o: RunOptions, audit: LocalAudit | undefined): Call | Promise<Call> {
    const { verb } = call;
    const collection = verb === 'list' || verb === 'watch' || verb === 'deletecollection';
    // As over HTTP: the namespace of a Namespace is its own name.
    const namespace = call.target.served.resource === 'namespaces' ? call.name : call.namespace;
    const attributes = { ...call, namespace, name: call.name || (collection ? nameFromFieldSelector(o.fieldSelector) : '') };
    const selectors = { ...(o.fieldSelector ? { fieldSelector: o.fieldSelector } : {}), ...(o.labelSelector ? { labelSelector: o.labelSelector } : {}) };
    const allowed = this.#api.authorizer.require(this.#api, attributes, selectors, audit && ((decision) => audit.decided(decision)));
    return allowed instanceof Promise ? allowed.then((permit) => this.#enter({ ...call, permit })) : this.#enter(Object.assign(call, { permit: allowed }));
  }

  #labelsOf({ target, verb, namespace, name, subresource }: Omit<Call, 'permit'>, o: RunOptions): RequestLabels {
    const { group, version, resource } = target.served;
    return requestLabelsOf(this.#api, { isResource: true, verb, path: '', group, version, resource, subresource, namespace, name }, o.patchType === 'apply');
  }

  /** One request: audited, authorized, in its turn. `asked` is its body. */
  async #run<R>(type: ResourceType<any>, verb: string, key: Partial<ObjectKey>, o: RunOptions, asked: unknown, work: (call: Call) => Promise<R>): Promise<R> {
    const started = performance.now();
    const begun = this.#begin(type, verb, key, o);
    const audit = this.#api.audit && LocalAudit.begin(this.#api.audit, begun, o, asked);
    if (audit) begun.auditAnnotations = {};
    let call: Call | undefined;
    let code = verb === 'create' ? 201 : 200;
    try {
      call = await this.#permitted(begun, o, audit);
      const answer = await work(call);
      audit?.complete(call, code, answer);
      return answer;
    } catch (error) {
      code = error instanceof StatusError ? error.code : 500;
      audit?.failed(call, error);
      throw error;
    } finally {
      const outside = (call?.ticket?.waitedMs ?? 0) + (call?.webhookMs ?? 0);
      if (call) this.#leave(call);
      this.#api.metrics.observe(this.#labelsOf(begun, o), code, { ms: performance.now() - started, outside }, undefined, begun.dryRun);
    }
  }

  /** In its turn, as requests over the network; then leave() it. */
  #enter(call: Call): Call | Promise<Call> {
    const { group, version, resource } = call.target.served;
    const request = { isResource: true, path: '', verb: call.verb, group, version, resource, subresource: call.subresource, namespace: call.namespace, name: call.name };
    const entered = this.#api.flow.begin(call.user, request, objectsOf(this.#api, request), undefined, call);
    if (!(entered instanceof Promise)) {
      call.ticket = entered;
      return call;
    }
    return entered.then((ticket) => {
      call.ticket = ticket;
      return call;
    });
  }

  #leave(call: Call): void {
    if (call.ticket) this.#api.flow.end(call.ticket);
    delete call.ticket;
  }

  get<T = KubeObject>(type: ResourceType<T>, key: ObjectKey, options: ReadOptions & { subresource?: string } = {}): Promise<T> {
    return this.#run(type, 'get', key, options, undefined, async (call) => {
      if (call.subresource === 'scale') return deepFreeze(await getScale(this.#api, call)) as T;
      return (await get(this.#api, call, options.resourceVersion)).object as T;
    });
  }

  list<T = KubeObject>(type: ResourceType<T>, options: ListOptions = {}): Promise<KubeList<T>> {
    return this.#run(type, 'list', within(options), options, undefined, async (call) => {
      const result = await list(this.#api, call, options);
      return {
        apiVersion: apiVersionOf(type),
        kind: call.target.served.custom?.listKind ?? `${type.kind}List`,
        metadata: listMetadata(result),
        items: result.entries.map((e) => e.object as T),
      };
    });
  }

  async *watch<T = KubeObject>(type: ResourceType<T>, options: WatchOptions = {}): AsyncGenerator<WatchEvent<T>> {
    const begun = this.#begin(type, 'watch', within(options), options);
    const audit = this.#api.audit && LocalAudit.begin(this.#api.audit, begun, options);
    let call: Call | undefined;
    let stop: () => void;
    const queue = new EventQueue<T>(apiVersionOf(type), type.kind);
    try {
      call = await this.#permitted(begun, options, audit);
      const signal = options.signal ? AbortSignal.any([options.signal, this.#closed.signal]) : this.#closed.signal;
      stop = await watch(this.#api, { ...call, signal }, options, queue);
    } catch (error) {
      audit?.failed(call, error);
      throw error;
    } finally {
      if (call) this.#leave(call);
    }
    audit?.started();
    const ended = this.#api.metrics.longRunning(this.#labelsOf(begun, options));
    try {
      yield* queue.events();
    } finally {
      ended();
      stop();
      audit?.complete(call, 200, undefined);
    }
  }

  create<T = KubeObject>(type: ResourceType<T>, object: Draft<T>, options: WriteOptions = {}): Promise<T> {
    const { metadata } = object as { metadata?: { namespace?: string; name?: string } };
    const key = { ...(metadata?.namespace ? { namespace: metadata.namespace } : {}) };
    if (options.subresource) return this.createSubresource<T>(type, { ...key, name: metadata?.name ?? '' }, options.subresource, object, options);
    return this.#run(type, 'create', key, options, object, async (call) => {
      const body = { object: clone(object), duplicates: [] };
      const review = reviews[`${type.group}/${type.resource}`];
      if (review) return deepFreeze(await review(this.#api, call, body)) as T;
      if (type.group === '' && type.resource === 'bindings') {
        await bind(this.#api, call, body);
        return deepFreeze(clone(object)) as unknown as T;
      }
      return this.#answer<T>(call, await create(this.#api, call, body));
    });
  }

  update<T extends { metadata: { name: string; namespace?: string } }>(type: ResourceType<T>, object: T, options: WriteOptions = {}): Promise<T> {
    return this.#run(type, 'update', object.metadata, options, object, async (call) => {
      const body = { object: clone(object), duplicates: [] };
      if (call.subresource === 'scale') return deepFreeze(await updateScale(this.#api, call, body)) as unknown as T;
      return this.#answer<T>(call, (await update(this.#api, call, body)).entry);
    });
  }

  patch<T = KubeObject>(type: ResourceType<T>, key: ObjectKey, patchType: PatchType, body: unknown, options: WriteOptions = {}): Promise<T> {
    return this.#run(type, 'patch', key, { ...options, patchType }, body, async (call) => {
      const patchBody = { object: body, force: options.force === true };
      if (call.subresource === 'scale') return deepFreeze(await patchScale(this.#api, call, patchType, patchBody)) as T;
      return this.#answer<T>(call, (await patch(this.#api, call, patchType, patchBody)).entry);
    });
  }

  delete<T = KubeObject>(type: ResourceType<T>, key: ObjectKey, options: Partial<DeleteOptions> & { signal?: AbortSignal } = {}): Promise<T | Status> {
    const { signal, ...deleteOptions } = options;
    const dryRun = deleteOptions.dryRun?.includes('All') ?? false;
    const asked = Object.keys(deleteOptions).length ? deleteOptions : undefined;
    return this.#run(type, 'delete', key, { dryRun, ...(signal ? { signal } : {}) }, asked, async (call): Promise<T | Status> => {
      const deletion = await remove(this.#api, call, deleteOptions);
      return deletion.entry ? this.#answer<T>(call, deletion.entry) : deletion.status;
    });
  }

  deleteCollection<T = KubeObject>(type: ResourceType<T>, options: ListOptions & { deleteOptions?: Partial<DeleteOptions> } = {}): Promise<void> {
    const { deleteOptions = {}, ...parameters } = options;
    return this.#run(type, 'deletecollection', within(options), options, options.deleteOptions, async (call) => {
      await removeCollection(this.#api, call, parameters, deleteOptions);
    });
  }

  createSubresource<R = unknown>(type: ResourceType<any>, key: ObjectKey, subresource: string, object: unknown, options: WriteOptions = {}): Promise<R> {
    return this.#run(type, 'create', key, { ...options, subresource }, object, async (call) => {
      const body = { object: clone(object), duplicates: [] };
      const success = { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Success', code: 201 };
      switch (subresource) {
        case 'token':
          return deepFreeze(await createToken(this.#api, call, body)) as R;
        case 'binding':
          await bind(this.#api, call, body);
          return success as R;
        case 'eviction':
          await evict(this.#api, call, body);
          return success as R;
        default:
          throw pathNotFound();
      }
    });
  }

  async raw(request: RawRequest): Promise<RawResponse> {
    const exchange = new LocalExchange(request);
    const handled = handle(this.#api, exchange.request, exchange.response, this.#user);
    await Promise.race([exchange.answered, handled]);
    return exchange.result();
  }

  close(): void {
    this.#closed.abort();
  }

  #answer<T>(call: Call, entry: Entry): T {
    return entry.as(call.target.served).object as T;
  }
}

/** What a request says beside its key. */
interface RunOptions extends LocalOptions {
  subresource?: string;
  dryRun?: boolean;
  fieldManager?: string;
  signal?: AbortSignal;
  patchType?: PatchType;
}

const within = ({ namespace }: { namespace?: string }): Partial<ObjectKey> => (namespace ? { namespace } : {});

/** Upstream's program that a user of this process stands for: whom its writes are recorded for. */
function programOf(user: string): string {
  if (user.startsWith('system:serviceaccount:kube-system:')) return 'kube-controller-manager';
  return /^system:(kube-[a-z-]+)$/.exec(user)?.[1] ?? (user === 'system:apiserver' || user === 'system:aggregator' ? 'kube-apiserver' : 'kumulus');
}

/** A watch's events between the cache and an async iterator. */
class EventQueue<T> implements WatchSink {
  #apiVersion: string;
  #kind: string;
  #items: WatchEvent<T>[] = [];
  #initial = 0;
  #ended = false;
  #wake: (() => void) | undefined;

  constructor(apiVersion: string, kind: string) {
    this.#apiVersion = apiVersion;
    this.#kind = kind;
  }

  deliver(type: WatchType, entry: Entry, event: CacheEvent | undefined): void {
    if (!event) this.#initial++;
    this.#items.push({ type, object: entry.object as T });
    if (this.#items.length > backlogLimit + this.#initial) {
      this.#items = [];
      this.end(new StatusError(410, 'Expired', 'the watch ended: its reader fell too far behind'));
      return;
    }
    this.#signal();
  }

  bookmark(revision: number, endOfInitialEvents: boolean): void {
    const object = {
      apiVersion: this.#apiVersion,
      kind: this.#kind,
      metadata: { resourceVersion: String(revision), ...(endOfInitialEvents ? { annotations: { 'k8s.io/initial-events-end': 'true' } } : {}) },
    };
    this.#items.push({ type: 'BOOKMARK', object: deepFreeze(object) as T });
    this.#signal();
  }

  end(error?: Error): void {
    if (this.#ended) return;
    if (error) this.#items.push({ type: 'ERROR', object: statusOf(error) });
    this.#ended = true;
    this.#signal();
  }

  #signal(): void {
    this.#wake?.();
    this.#wake = undefined;
  }

  async *events(): AsyncGenerator<WatchEvent<T>> {
    for (;;) {
      const batch = this.#items;
      this.#items = [];
      this.#initial = 0;
      yield* batch;
      if (this.#items.length > 0) continue;
      if (this.#ended) return;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }
}
