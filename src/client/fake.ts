import { randomUUID } from 'node:crypto';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { alreadyExists, badRequest, conflict, gone, methodNotSupported, modified, notFound } from '../api/errors.ts';
import type { DeleteOptions, Status } from '../api/generated/types.ts';
import { apiVersionOf, type Draft, type KubeList, type KubeObject, keyOf, type ResourceType } from '../api/object.ts';
import { Channel } from './channel.ts';
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
} from './client.ts';
import { type Clock, systemClock } from './clock.ts';
import { type AnyObject, applyPatch, hasStatus, prepareForCreate, resourceOf, selectableField } from './fake-objects.ts';
import { matchesSelector, parseFieldSelector, parseLabelSelector } from './fake-selectors.ts';
import { deepFreeze } from './freeze.ts';

/** One request that a fake client was sent. */
export interface FakeAction {
  verb: 'get' | 'list' | 'watch' | 'create' | 'update' | 'patch' | 'delete' | 'deletecollection';
  /** As `pods`, or `deployments.apps`. */
  resource: string;
  subresource?: string;
  namespace?: string;
  name?: string;
  /** The object or patch that was sent. */
  body?: unknown;
}

/** A Client over objects in memory, for unit tests, with means to look in and to make it fail. */
export interface FakeClient extends Client {
  /** Every request so far but get, list and watch. Empty it at will. */
  readonly writes: FakeAction[];
  /** Called before every request; what it throws (or rejects with), the caller gets. Returns its removal. */
  intercept(hook: (action: FakeAction) => void | Promise<void>): () => void;
  /** All objects of a resource, without asking through the API. */
  objects<T>(type: ResourceType<T>): T[];
  /** Ends all watches as a server does that restarts. With expire, watches from before now are answered 410. */
  dropWatches(options?: { expire?: boolean }): void;
}

interface Change {
  revision: number;
  resource: string;
  before: AnyObject | undefined;
  after: AnyObject | undefined;
}

const resourceKey = (type: { group: string; resource: string }): string => (type.group ? `${type.resource}.${type.group}` : type.resource);
const foregroundDeletion = 'foregroundDeletion';

/**
 * Behaves as the API server does towards controllers: resource versions and conflicts, generation, finalizers, graceful
 * deletion of pods, status as a subresource, selectors, watches. It does not validate, default or authorize.
 */
export function createFakeClient(initialObjects: readonly unknown[] = [], options: { clock?: Clock } = {}): FakeClient {
  return new InMemoryClient(initialObjects as AnyObject[], options.clock ?? systemClock);
}

class InMemoryClient implements FakeClient {
  readonly writes: FakeAction[] = [];
  readonly #clock: Clock;
  readonly #tables = new Map<string, Map<string, AnyObject>>();
  #revision = 1;
  #oldest = 0;
  readonly #changes: Change[] = [];
  readonly #watches = new Set<{ onChange(change: Change): void; end(): void }>();
  readonly #hooks = new Set<(action: FakeAction) => void | Promise<void>>();
  #names = 0;

  constructor(initial: AnyObject[], clock: Clock) {
    this.#clock = clock;
    for (const object of initial) {
      const type = resourceOf(object);
      const copy = structuredClone(object);
      if (type.namespaced) copy.metadata.namespace ??= 'default';
      this.#complete(copy);
      this.#write(type, undefined, copy);
    }
  }

  intercept(hook: (action: FakeAction) => void | Promise<void>): () => void {
    this.#hooks.add(hook);
    return () => this.#hooks.delete(hook);
  }

  objects<T>(type: ResourceType<T>): T[] {
    return [...this.#table(type).values()] as T[];
  }

  dropWatches({ expire = false } = {}): void {
    if (expire) {
      this.#oldest = ++this.#revision;
      this.#changes.length = 0;
    }
    for (const watch of [...this.#watches]) watch.end();
  }

  async get<T = KubeObject>(type: ResourceType<T>, key: ObjectKey, options: ReadOptions & { subresource?: string } = {}): Promise<T> {
    await this.#enter({ verb: 'get', resource: resourceKey(type), ...key, subresource: options.subresource }, options.signal);
    const object = this.#find(type, key);
    return (options.subresource === 'scale' ? deepFreeze(scaleOf(object)) : this.#served(type, object)) as T;
  }

  async list<T = KubeObject>(type: ResourceType<T>, options: ListOptions = {}): Promise<KubeList<T>> {
    await this.#enter({ verb: 'list', resource: resourceKey(type), namespace: options.namespace }, options.signal);
    const matches = matcher(options);
    const all = [...this.#table(type).entries()].filter(([, o]) => matches(o)).sort(([a], [b]) => (a < b ? -1 : 1));
    let [revision, after] = [this.#revision, ''];
    if (options.continue) [revision, after] = JSON.parse(options.continue) as [number, string];
    if (revision < this.#oldest) throw gone('The provided continue parameter is too old to display a consistent list result.');
    const rest = all.filter(([key]) => key > after);
    const page = options.limit ? rest.slice(0, options.limit) : rest;
    const remaining = rest.length - page.length;
    return {
      apiVersion: apiVersionOf(type),
      kind: `${type.kind}List`,
      metadata: {
        resourceVersion: String(revision),
        ...(remaining > 0 ? { continue: JSON.stringify([revision, page[page.length - 1]![0]]), remainingItemCount: remaining } : {}),
      },
      items: page.map(([, o]) => this.#served(type, o) as T),
    };
  }

  async *watch<T = KubeObject>(type: ResourceType<T>, options: WatchOptions = {}): AsyncIterable<WatchEvent<T>> {
    await this.#enter({ verb: 'watch', resource: resourceKey(type), namespace: options.namespace }, options.signal);
    const resource = resourceKey(type);
    const matches = matcher(options);
    const from = options.resourceVersion && options.resourceVersion !== '0' ? Number(options.resourceVersion) : 0;
    if (from && from < this.#oldest) throw gone(`too old resource version: ${from} (${this.#oldest})`);
    const onChange = ({ resource: changed, before, after, revision }: Change) => {
      if (changed !== resource) return;
      const was = before !== undefined && matches(before);
      const is = after !== undefined && matches(after);
      if (is) channel.push({ type: was ? 'MODIFIED' : 'ADDED', object: this.#served(type, after!) as T });
      else if (was) {
        const last = { ...(after ?? before)!, metadata: { ...(after ?? before)!.metadata, resourceVersion: String(revision) } };
        channel.push({ type: 'DELETED', object: this.#served(type, deepFreeze(last)) as T });
      }
    };
    const registration = { onChange, end: () => channel.end() };
    const onAbort = () => channel.end();
    const cancelTimeout = options.timeoutSeconds ? this.#clock.after(options.timeoutSeconds * 1000, onAbort) : undefined;
    const channel = new Channel<WatchEvent<T>>(() => {
      this.#watches.delete(registration);
      options.signal?.removeEventListener('abort', onAbort);
      cancelTimeout?.();
    });
    if (!from) {
      for (const object of this.#table(type).values()) if (matches(object)) channel.push({ type: 'ADDED', object: this.#served(type, object) as T });
      if (options.sendInitialEvents) channel.push(this.#initialEventsEnd(type));
    } else for (const change of this.#changes) if (change.revision > from) onChange(change);
    this.#watches.add(registration);
    options.signal?.addEventListener('abort', onAbort, { once: true });
    yield* channel;
  }

  async create<T = KubeObject>(type: ResourceType<T>, object: Draft<T>, options: WriteOptions = {}): Promise<T> {
    const copy = structuredClone(object) as unknown as AnyObject;
    if (!copy.metadata.name && copy.metadata.generateName) copy.metadata.name = copy.metadata.generateName + this.#suffix();
    if (!copy.metadata.name) throw badRequest('name or generateName is required');
    const { namespace, name } = copy.metadata;
    if (type.namespaced && !namespace) throw badRequest('an empty namespace may not be set during creation');
    await this.#enter({ verb: 'create', resource: resourceKey(type), namespace, name, body: object }, options.signal);
    if (this.#table(type).has(keyOf(copy))) throw alreadyExists(type, name);
    delete copy.metadata.deletionTimestamp;
    delete (copy.metadata as { uid?: string }).uid;
    copy.apiVersion = apiVersionOf(type);
    copy.kind = type.kind;
    prepareForCreate(type, copy);
    this.#complete(copy);
    return this.#served(type, options.dryRun ? copy : this.#write(type, undefined, copy)) as T;
  }

  async update<T extends { metadata: { name: string; namespace?: string } }>(
    type: ResourceType<T>,
    object: T,
    options: WriteOptions = {},
  ): Promise<T> {
    const { name, namespace } = object.metadata;
    const action = { verb: 'update', resource: resourceKey(type), namespace, name, subresource: options.subresource, body: object } as const;
    await this.#enter(action, options.signal);
    const next = structuredClone(object) as unknown as AnyObject;
    return this.#replace(type, this.#find(type, object.metadata), next, options) as unknown as T;
  }

  async patch<T = KubeObject>(type: ResourceType<T>, key: ObjectKey, patchType: PatchType, patch: unknown, options: WriteOptions = {}): Promise<T> {
    const action = { verb: 'patch', resource: resourceKey(type), ...key, subresource: options.subresource, body: patch } as const;
    await this.#enter(action, options.signal);
    const current = this.#table(type).get(keyOf({ metadata: key }));
    if (!current && patchType === 'apply') {
      const draft = { ...(patch as object), metadata: { ...(patch as AnyObject).metadata, ...key } } as unknown as AnyObject;
      prepareForCreate(type, draft);
      this.#complete(draft);
      return this.#served(type, options.dryRun ? draft : this.#write(type, undefined, draft)) as T;
    }
    const from = this.#find(type, key);
    const scale = options.subresource === 'scale';
    return this.#replace(type, from, applyPatch(type, scale ? scaleOf(from) : from, patchType, patch), options) as T;
  }

  async delete<T = KubeObject>(
    type: ResourceType<T>,
    key: ObjectKey,
    options: Partial<DeleteOptions> & { signal?: AbortSignal } = {},
  ): Promise<T | Status> {
    const { signal, ...deleteOptions } = options;
    await this.#enter({ verb: 'delete', resource: resourceKey(type), ...key, body: deleteOptions }, signal);
    return this.#delete(type, this.#find(type, key), deleteOptions) as T | Status;
  }

  async deleteCollection<T = KubeObject>(
    type: ResourceType<T>,
    options: ListOptions & { deleteOptions?: Partial<DeleteOptions> } = {},
  ): Promise<void> {
    await this.#enter({ verb: 'deletecollection', resource: resourceKey(type), namespace: options.namespace }, options.signal);
    const matches = matcher(options);
    for (const object of [...this.#table(type).values()]) if (matches(object)) this.#delete(type, object, options.deleteOptions ?? {});
  }

  async createSubresource<R = unknown>(
    type: ResourceType<any>,
    key: ObjectKey,
    subresource: string,
    body: any,
    options: WriteOptions = {},
  ): Promise<R> {
    await this.#enter({ verb: 'create', resource: resourceKey(type), ...key, subresource, body }, options.signal);
    const object = this.#find(type, key);
    const success = { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Success', code: 201 };
    if (subresource === 'binding') {
      if (object.spec?.nodeName)
        throw conflict({ group: '', resource: 'pods/binding' }, key.name, `pod ${key.name} is already assigned to node "${object.spec.nodeName}"`);
      const next = structuredClone(object);
      next.spec = { ...next.spec, nodeName: body.target.name };
      const others = (next.status?.conditions ?? []).filter((c: { type: string }) => c.type !== 'PodScheduled');
      next.status = { ...next.status, conditions: [...others, { type: 'PodScheduled', status: 'True', lastTransitionTime: this.#now() }] };
      this.#write(type, object, next);
      return success as R;
    }
    if (subresource === 'eviction') {
      this.#delete(type, object, body?.deleteOptions ?? {});
      return success as R;
    }
    if (subresource === 'token') {
      const seconds = body?.spec?.expirationSeconds ?? 3600;
      const expirationTimestamp = new Date(this.#clock.now() + seconds * 1000).toISOString();
      return { ...body, status: { token: `fake-token-of-${key.namespace}-${key.name}`, expirationTimestamp } } as R;
    }
    throw methodNotSupported({ group: type.group, resource: `${type.resource}/${subresource}` }, 'create');
  }

  async raw(request: RawRequest): Promise<RawResponse> {
    const text = request.path === '/version' ? '{"major":"1","minor":"37","gitVersion":"v1.37.0"}' : 'ok';
    const known = request.path === '/version' || /^\/(healthz|livez|readyz)$/.test(request.path);
    const body = Buffer.from(known ? text : '404 page not found');
    return {
      status: known ? 200 : 404,
      headers: {},
      body: (async function* () {
        yield body;
      })(),
      text: async () => body.toString(),
    };
  }

  close(): void {
    this.dropWatches();
  }

  async #enter(action: FakeAction, signal: AbortSignal | undefined): Promise<void> {
    signal?.throwIfAborted();
    // As with a server, nothing is answered on the caller's own turn.
    await nextTurn();
    for (const hook of [...this.#hooks]) await hook(action);
    signal?.throwIfAborted();
    if (action.verb !== 'get' && action.verb !== 'list' && action.verb !== 'watch') this.writes.push(action);
  }

  #table(type: { group: string; resource: string }): Map<string, AnyObject> {
    const key = resourceKey(type);
    let found = this.#tables.get(key);
    if (!found) this.#tables.set(key, (found = new Map()));
    return found;
  }

  #find(type: ResourceType<any>, key: ObjectKey): AnyObject {
    const object = this.#table(type).get(keyOf({ metadata: { name: key.name, namespace: type.namespaced ? key.namespace : undefined } }));
    if (!object) throw notFound(type, key.name);
    return object;
  }

  #served(type: ResourceType<any>, object: AnyObject): AnyObject {
    const apiVersion = apiVersionOf(type);
    return object.apiVersion === apiVersion ? object : deepFreeze({ ...object, apiVersion });
  }

  #complete(object: AnyObject): void {
    object.metadata.uid ??= randomUUID();
    object.metadata.creationTimestamp ??= this.#now();
    object.metadata.generation ??= 1;
  }

  #now(): string {
    return new Date(this.#clock.now()).toISOString().replace(/\.\d+Z$/, 'Z');
  }

  #suffix(): string {
    return (++this.#names).toString(36).padStart(5, 'x');
  }

  #write(type: { group: string; resource: string }, before: AnyObject | undefined, after: AnyObject | undefined): AnyObject {
    const revision = ++this.#revision;
    if (after) {
      after.metadata.resourceVersion = String(revision);
      deepFreeze(after);
      this.#table(type).set(keyOf(after), after);
    } else this.#table(type).delete(keyOf(before!));
    const change: Change = { revision, resource: resourceKey(type), before, after };
    this.#changes.push(change);
    for (const watch of this.#watches) watch.onChange(change);
    return (after ?? before)!;
  }

  #replace(type: ResourceType<any>, current: AnyObject, sent: AnyObject, options: WriteOptions): AnyObject {
    const { subresource } = options;
    if (sent.metadata.resourceVersion && sent.metadata.resourceVersion !== current.metadata.resourceVersion)
      throw modified(type, current.metadata.name);
    if (sent.metadata.uid && sent.metadata.uid !== current.metadata.uid) {
      const why = `Precondition failed: UID in precondition: ${sent.metadata.uid}, UID in object meta: ${current.metadata.uid}`;
      throw conflict(type, current.metadata.name, why);
    }
    const next = structuredClone(current);
    if (subresource === 'status' || subresource === 'approval') {
      next.status = sent.status;
      // As upstream does for most kinds, metadata that controllers own travels with the status.
      next.metadata.annotations = sent.metadata.annotations;
      next.metadata.labels = sent.metadata.labels;
    } else if (subresource === 'scale') next.spec.replicas = sent.spec.replicas;
    else if (subresource === 'finalize') next.spec = sent.spec;
    else {
      for (const field of Object.keys(next)) if (field !== 'status' || !hasStatus(type)) delete next[field];
      for (const [field, value] of Object.entries(sent)) if (field !== 'status' || !hasStatus(type)) next[field] = value;
      const { uid, creationTimestamp, deletionTimestamp, deletionGracePeriodSeconds, generation } = current.metadata;
      next.metadata = { ...sent.metadata, uid, creationTimestamp, generation };
      if (deletionTimestamp) Object.assign(next.metadata, { deletionTimestamp, deletionGracePeriodSeconds });
    }
    next.apiVersion = apiVersionOf(type);
    next.kind = type.kind;
    next.metadata.resourceVersion = current.metadata.resourceVersion;
    if (JSON.stringify(next.spec) !== JSON.stringify(current.spec)) next.metadata.generation = (current.metadata.generation ?? 0) + 1;
    const finished = next.metadata.deletionTimestamp && !next.metadata.finalizers?.length && !next.spec?.finalizers?.length;
    const waits = type.kind === 'Pod' && (current.metadata.deletionGracePeriodSeconds ?? 0) > 0;
    let result: AnyObject;
    if (options.dryRun) result = deepFreeze(next);
    else if (finished && !waits) {
      this.#write(type, current, undefined);
      result = deepFreeze(next);
    } else if (JSON.stringify(next) === JSON.stringify(current)) result = current;
    else result = this.#write(type, current, next);
    return subresource === 'scale' ? deepFreeze(scaleOf(result)) : this.#served(type, result);
  }

  #delete(type: ResourceType<any>, current: AnyObject, options: Partial<DeleteOptions>): AnyObject | Status {
    const { name, uid, resourceVersion } = current.metadata;
    const wanted = options.preconditions;
    if (wanted?.uid && wanted.uid !== uid) {
      throw conflict(type, name, `Precondition failed: UID in precondition: ${wanted.uid}, UID in object meta: ${uid}`);
    }
    if (wanted?.resourceVersion && wanted.resourceVersion !== resourceVersion) {
      throw conflict(
        type,
        name,
        `Precondition failed: ResourceVersion in precondition: ${wanted.resourceVersion}, ResourceVersion in object meta: ${resourceVersion}`,
      );
    }
    const next = structuredClone(current);
    const finalizers = new Set(next.metadata.finalizers ?? []);
    if (options.propagationPolicy === 'Foreground') finalizers.add(foregroundDeletion);
    if (options.propagationPolicy === 'Orphan') finalizers.add('orphan');
    next.metadata.finalizers = finalizers.size > 0 ? [...finalizers] : undefined;
    let grace = 0;
    if (type.kind === 'Pod' && next.spec?.nodeName && next.status?.phase !== 'Failed' && next.status?.phase !== 'Succeeded') {
      grace = options.gracePeriodSeconds ?? next.spec.terminationGracePeriodSeconds ?? 30;
      if (current.metadata.deletionTimestamp) grace = Math.min(grace, current.metadata.deletionGracePeriodSeconds ?? grace);
    }
    const stays = finalizers.size > 0 || grace > 0 || (type.kind === 'Namespace' && next.spec?.finalizers?.length > 0);
    if (options.dryRun?.length) return this.#served(type, current);
    if (!stays) {
      this.#write(type, current, undefined);
      const details = { name, kind: type.resource, uid, ...(type.group ? { group: type.group } : {}) };
      return deepFreeze({ kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Success', details } as Status);
    }
    const already = current.metadata.deletionTimestamp;
    if (!already || grace < (current.metadata.deletionGracePeriodSeconds ?? 0)) {
      next.metadata.deletionTimestamp = new Date(this.#clock.now() + grace * 1000).toISOString().replace(/\.\d+Z$/, 'Z');
      next.metadata.deletionGracePeriodSeconds = grace;
      if (!already) next.metadata.generation = (current.metadata.generation ?? 0) + 1;
    }
    if (type.kind === 'Namespace') next.status = { ...next.status, phase: 'Terminating' };
    if (JSON.stringify(next) === JSON.stringify(current)) return this.#served(type, current);
    return this.#served(type, this.#write(type, current, next));
  }

  #initialEventsEnd<T>(type: ResourceType<T>): WatchEvent<T> {
    const annotations = { 'k8s.io/initial-events-end': 'true' };
    const metadata = { resourceVersion: String(this.#revision), annotations };
    return { type: 'BOOKMARK', object: { apiVersion: apiVersionOf(type), kind: type.kind, metadata } as T };
  }
}

function scaleOf(object: AnyObject): AnyObject {
  const { name, namespace, uid, resourceVersion, creationTimestamp } = object.metadata;
  const selector = object.spec?.selector?.matchLabels ?? object.spec?.selector ?? {};
  return {
    apiVersion: 'autoscaling/v1',
    kind: 'Scale',
    metadata: { name, namespace, uid, resourceVersion, creationTimestamp },
    spec: { replicas: object.spec?.replicas ?? 0 },
    status: {
      replicas: object.status?.replicas ?? 0,
      selector: Object.entries(selector)
        .map(([k, v]) => `${k}=${v}`)
        .join(','),
    },
  };
}

function matcher(options: ListOptions): (object: AnyObject) => boolean {
  const labels = options.labelSelector ? parseLabelSelector(options.labelSelector) : undefined;
  const fields = options.fieldSelector ? parseFieldSelector(options.fieldSelector) : [];
  return (object) => {
    if (options.namespace && object.metadata.namespace !== options.namespace) return false;
    if (labels && !matchesSelector(labels, object.metadata.labels)) return false;
    return fields.every(({ field, op, value }) => (selectableField(object, field) === value) === (op === '='));
  };
}
