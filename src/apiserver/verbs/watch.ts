import { type FieldError, gone, StatusError, invalid, methodNotSupported } from '../../api/errors.ts';
import { parseFieldSelector } from '../../api/selectors.ts';
import { CompactedError } from '../../store/store.ts';
import type { Api, Call } from '../api.ts';
import type { CacheEvent, CacheWatcher } from '../storage/cache.ts';
import { settle } from '../storage/conversion.ts';
import type { Entry } from '../storage/entry.ts';
import { filterOf, parseResourceVersion } from './list.ts';

export interface WatchParameters {
  labelSelector?: string;
  fieldSelector?: string;
  resourceVersion?: string;
  resourceVersionMatch?: string;
  allowWatchBookmarks?: boolean;
  sendInitialEvents?: boolean;
  timeoutSeconds?: number;
}

export type WatchType = 'ADDED' | 'MODIFIED' | 'DELETED';

/** Where events go. Everything is synchronous: a sink queues, and ends the watch itself when its reader is too slow. */
export interface WatchSink {
  /** `event` is the shared change, where there is one: its encodings may be shared. */
  deliver(type: WatchType, entry: Entry, event: CacheEvent | undefined): void;
  bookmark(revision: number, endOfInitialEvents: boolean): void;
  end(error?: Error): void;
}

const bookmarkEveryMs = 60_000;

/**
 * Starts a watch; the returned function ends it. Only what is wrong with the request is thrown: that a revision is gone, or not there
 * yet where everything there is was asked for, ends the watch with an error.
 * Without resourceVersion, or with 0, it begins with an ADDED for everything there is.
 */
export async function watch(api: Api, call: Call, p: WatchParameters, sink: WatchSink): Promise<() => void> {
  const { served, storage, subject } = call.target;
  if (!storage || !served.verbs.includes('watch')) throw methodNotSupported(subject, 'watch');
  checkInitialEvents(p);
  const { cache } = storage;
  const filter = filterOf(call, p.labelSelector, p.fieldSelector);
  const namespacePrefix = call.namespace ? `${call.namespace}/` : '';
  const since = p.resourceVersion ? parseResourceVersion(p.resourceVersion) : 0;
  const initial = p.sendInitialEvents ?? since === 0;
  try {
    // Without initial events a watch may begin in the future.
    const wait =
      since === 0 ? (p.resourceVersion === '0' ? undefined : api.hub.current(call.signal)) : initial && api.hub.waitFor(since, call.signal);
    if (wait) await wait;
  } catch (error) {
    return refused(sink, error);
  }

  const matches = (entry: Entry) => !filter || filter(entry);
  const { conversion } = served.custom ?? {};
  /** Events of a resource with a conversion webhook wait for it, in order; others are delivered at once. */
  let converted = Promise.resolve();
  const inOrder = (entries: (Entry | undefined)[], deliver: () => void) => {
    if (!conversion) return deliver();
    converted = converted
      .then(() =>
        settle(
          entries.filter((e) => e !== undefined),
          served,
        ),
      )
      .then(deliver)
      .catch((error: Error) => end(error));
  };
  let sentUpTo = initial || since === 0 ? api.hub.revision : since;
  const onEvent = (event: CacheEvent) =>
    inOrder([event.entry, event.previous, event.previous && !event.deleted ? leaving(event) : undefined], () => deliverEvent(event));
  const deliverEvent = (event: CacheEvent) => {
    const { entry, previous } = event;
    if (event.revision <= since) return;
    if (namespacePrefix && !entry.key.startsWith(namespacePrefix)) return;
    const before = previous !== undefined && matches(previous);
    const after = !event.deleted && matches(entry);
    if (after) sink.deliver(before ? 'MODIFIED' : 'ADDED', entry.as(served), event);
    else if (before) sink.deliver('DELETED', (event.deleted ? entry : leaving(event)).as(served), event);
    else return;
    sentUpTo = event.revision;
  };

  let from = since;
  if (!initial && since > 0 && !cache.reaches(since)) {
    try {
      const past = await replay(api, call, since);
      for (const event of past.events) onEvent(event);
      from = past.upTo;
    } catch (error) {
      return refused(sink, error);
    }
  }
  // From here to addWatcher nothing awaits: no change can slip in between.
  if (initial) {
    const entries = cache.list(call.namespace || undefined);
    const { revision } = api.hub;
    inOrder(entries, () => {
      for (const entry of entries) if (matches(entry)) sink.deliver('ADDED', entry.as(served), undefined);
      if (p.sendInitialEvents && p.allowWatchBookmarks) sink.bookmark(revision, true);
    });
  } else if (since > 0) {
    for (const event of cache.since(from)) onEvent(event);
  }
  let ended = false;
  const end = (error?: Error) => {
    if (ended) return;
    ended = true;
    removeWatcher();
    clearInterval(bookmarks);
    clearTimeout(deadline);
    call.signal?.removeEventListener('abort', onAbort);
    api.stopping.removeEventListener('abort', onAbort);
    sink.end(error);
  };
  const onAbort = () => end();
  const trigger = triggerOf(p.fieldSelector);
  const watcher: CacheWatcher = { ...(trigger ? { trigger } : {}), onEvent, onEnd: end };
  const removeWatcher = cache.addWatcher(watcher);
  const bookmark = () => {
    if (!p.allowWatchBookmarks || api.hub.revision <= sentUpTo) return;
    const { revision } = api.hub;
    inOrder([], () => {
      sentUpTo = revision;
      sink.bookmark(revision, false);
    });
  };
  const bookmarks = setInterval(bookmark, bookmarkEveryMs);
  bookmarks.unref();
  // Watches without a wish of their own end within half an hour to an hour, not all at once.
  const seconds = p.timeoutSeconds && p.timeoutSeconds > 0 ? p.timeoutSeconds : api.minRequestTimeout * (1 + Math.random());
  const deadline = setTimeout(
    () => {
      bookmark();
      end();
    },
    Math.min(seconds * 1000, 2 ** 31 - 1),
  );
  deadline.unref();
  call.signal?.addEventListener('abort', onAbort, { once: true });
  api.stopping.addEventListener('abort', onAbort, { once: true });
  if (call.signal?.aborted || api.stopping.aborted) end();
  return end;
}

async function replay(api: Api, call: Call, after: number): Promise<{ events: CacheEvent[]; upTo: number }> {
  try {
    return await api.hub.replay(call.target.storage!.cache, after, call.signal);
  } catch (error) {
    if (error instanceof CompactedError) throw gone(`too old resource version: ${after} (${error.compactedRevision})`);
    throw error;
  }
}

/** Ends a watch that cannot begin, as a client sees it: by an event. */
function refused(sink: WatchSink, error: unknown): () => void {
  if (!(error instanceof StatusError)) throw error;
  sink.end(error);
  return () => {};
}

const left = new WeakMap<CacheEvent, Entry>();

/** The last state that a selector still matched, at the revision of the change that made it leave. */
function leaving(event: CacheEvent): Entry {
  let entry = left.get(event);
  if (!entry) left.set(event, (entry = event.previous!.at(event.revision)));
  return entry;
}

function triggerOf(fieldSelector: string | undefined): CacheWatcher['trigger'] | undefined {
  if (!fieldSelector) return undefined;
  for (const { field, op, value } of parseFieldSelector(fieldSelector)) {
    if (op === '=' && value !== '' && (field === 'spec.nodeName' || field === 'metadata.name')) return { field, value };
  }
  return undefined;
}

function checkInitialEvents(p: WatchParameters): void {
  const about = { group: 'meta.k8s.io', kind: 'ListOptions' };
  const refuse = (field: string, detail: string) => {
    throw invalid(about, '', [{ type: 'FieldValueForbidden', field, detail }]);
  };
  if (p.sendInitialEvents === undefined) {
    if (p.resourceVersionMatch) refuse('resourceVersionMatch', 'resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided');
    return;
  }
  const match = p.resourceVersionMatch;
  if (match === 'NotOlderThan') return;
  const detail = 'sendInitialEvents requires setting resourceVersionMatch to NotOlderThan';
  const findings: FieldError[] = [{ type: 'FieldValueForbidden', field: 'resourceVersionMatch', detail }];
  if (match)
    findings.push({ type: 'FieldValueNotSupported', field: 'resourceVersionMatch', value: match, detail: 'supported values: "NotOlderThan"' });
  throw invalid(about, '', findings);
}
