import { badRequest, gone, invalid, methodNotSupported } from '../../api/errors.ts';
import { matchesSelector, parseFieldSelector, parseLabelSelector } from '../../api/selectors.ts';
import { CompactedError, FutureRevisionError, prefixEnd } from '../../store/store.ts';
import type { Api, Call } from '../api.ts';
import { settle } from '../storage/conversion.ts';
import { Entry, selectableFields } from '../storage/entry.ts';
import { tooLargeResourceVersion } from '../storage/hub.ts';

export interface ListParameters {
  labelSelector?: string;
  fieldSelector?: string;
  limit?: number;
  continue?: string;
  resourceVersion?: string;
  resourceVersionMatch?: string;
  /** Only watches may have it. */
  sendInitialEvents?: boolean;
}

export interface ListResult {
  revision: number;
  /** In the request's version, in the order of keys. */
  entries: Entry[];
  continue?: string;
  remainingItemCount?: number;
}

/** Decides by labels and fields; undefined where everything matches. */
export type Filter = ((entry: Entry) => boolean) | undefined;

export function filterOf(call: Call, labelSelector: string | undefined, fieldSelector: string | undefined): Filter {
  const labels = labelSelector ? parseLabelSelector(labelSelector) : [];
  const fields = fieldSelector ? parseFieldSelector(fieldSelector) : [];
  if (labels.length === 0 && fields.length === 0) return undefined;
  if (fields.length > 0) checkFields(call, fields);
  const { served } = call.target;
  return (entry) => {
    for (const { field, op, value } of fields) {
      const actual = (served.custom ? entry.as(served) : entry).fields[field] ?? '';
      if ((actual === value) !== (op === '=')) return false;
    }
    return labels.length === 0 || matchesSelector(labels, entry.labels);
  };
}

function checkFields(call: Call, fields: { field: string }[]): void {
  const { served } = call.target;
  const known = selectableFields(served, { apiVersion: '', kind: served.kind, metadata: {}, spec: {}, status: {} } as never);
  for (const { field } of fields) {
    if (field in known) continue;
    if (Object.keys(known).length <= 2 && !served.strategy.selectableFields) {
      throw badRequest(`"${field}" is not a known field selector: only "metadata.name", "metadata.namespace"`);
    }
    throw badRequest(`field label not supported: ${field}`);
  }
}

/** StatusError 400 on anything but a number. */
export function parseResourceVersion(text: string): number {
  const digits = /^\d+$/.test(text);
  if (digits && (text.length < 16 || BigInt(text) < 2n ** 64n)) return Number(text);
  const why = digits ? 'value out of range' : 'invalid syntax';
  throw badRequest(`resourceVersion: Invalid value: ${JSON.stringify(text)}: strconv.ParseUint: parsing ${JSON.stringify(text)}: ${why}`);
}

interface Continue {
  v: 'meta.k8s.io/v1';
  /** -1: at the current revision, after the original one was compacted. */
  rv: number;
  /** The key after which the next page begins. */
  start: string;
}

const encodeContinue = (rv: number, start: string): string =>
  Buffer.from(JSON.stringify({ v: 'meta.k8s.io/v1', rv, start } satisfies Continue)).toString('base64url');

function decodeContinue(token: string): Continue {
  const bad = (why: string) => badRequest(`invalid continue token: continue key is not valid: ${why}`);
  const text = Buffer.from(token, 'base64url').toString('utf8');
  let value: Continue;
  try {
    value = JSON.parse(text) as Continue;
  } catch {
    throw bad(
      text ? `invalid character ${JSON.stringify(text[0]).replaceAll('"', "'")} looking for beginning of value` : 'unexpected end of JSON input',
    );
  }
  if (value?.v !== 'meta.k8s.io/v1') throw bad(`server does not recognize this encoded version ${JSON.stringify(value?.v ?? '')}`);
  if (!Number.isInteger(value.rv) || value.rv === 0) throw bad('incorrect encoded start resourceVersion (version meta.k8s.io/v1)');
  if (typeof value.start !== 'string' || value.start === '') throw bad('encoded start key empty (version meta.k8s.io/v1)');
  return value;
}

export async function list(api: Api, call: Call, p: ListParameters): Promise<ListResult> {
  const { served, storage, subject } = call.target;
  if (!storage || !served.verbs.includes('list')) throw methodNotSupported(subject, 'list');
  checkMatch(p);
  const filter = filterOf(call, p.labelSelector, p.fieldSelector);
  const limit = p.limit && p.limit > 0 ? p.limit : 0;
  const { cache } = storage;

  if (p.continue) {
    const from = decodeContinue(p.continue);
    if (p.resourceVersion && p.resourceVersion !== '0') throw badRequest('specifying resource version is not allowed when using continue');
    const wait = api.hub.current(call.signal);
    if (wait) await wait;
    const revision = from.rv < 0 ? api.hub.revision : from.rv;
    // Nothing changed since the first page: the cache still is that snapshot. A token ends with its revision all the same.
    const isSnapshot = cache.lastChange <= revision && api.hub.revision >= revision && revision >= api.store.compactedRevision();
    if (from.rv < 0 || isSnapshot) return fromCache(call, revision, filter, limit, from.start);
    return fromStore(api, call, revision, filter, limit, from.start, true);
  }
  if (p.resourceVersionMatch === 'Exact') return fromStore(api, call, wantedVersion(p.resourceVersion!), filter, limit, '', false);
  const wait = p.resourceVersion ? api.hub.waitFor(wantedVersion(p.resourceVersion), call.signal) : api.hub.current(call.signal);
  if (wait) await wait;
  // resourceVersion=0 asks for whatever is at hand, whole.
  return fromCache(call, api.hub.revision, filter, p.resourceVersion === '0' && !p.resourceVersionMatch ? 0 : limit, '');
}

function wantedVersion(text: string): number {
  try {
    return parseResourceVersion(text);
  } catch (error) {
    throw badRequest(`invalid resource version: ${(error as Error).message}`);
  }
}

function checkMatch(p: ListParameters): void {
  const about = { group: 'meta.k8s.io', kind: 'ListOptions' };
  if (p.sendInitialEvents !== undefined)
    throw invalid(about, '', [{ type: 'FieldValueForbidden', field: 'sendInitialEvents', detail: 'sendInitialEvents is forbidden for list' }]);
  const match = p.resourceVersionMatch;
  if (!match) return;
  const refuse = (detail: string) => {
    throw invalid(about, '', [{ type: 'FieldValueForbidden', field: 'resourceVersionMatch', detail }]);
  };
  if (!p.resourceVersion) refuse('resourceVersionMatch is forbidden unless resourceVersion is provided');
  if (p.continue) refuse('resourceVersionMatch is forbidden when continue is provided');
  if (match !== 'Exact' && match !== 'NotOlderThan') {
    throw invalid(about, '', [
      { type: 'FieldValueNotSupported', field: 'resourceVersionMatch', value: match, detail: 'supported values: "Exact", "NotOlderThan", ""' },
    ]);
  }
  if (match === 'Exact' && p.resourceVersion === '0') refuse('resourceVersionMatch "exact" is forbidden for resourceVersion "0"');
}

async function fromCache(call: Call, revision: number, filter: Filter, limit: number, start: string): Promise<ListResult> {
  const { served, storage } = call.target;
  const { cache } = storage!;
  const converting = settle(served.custom?.conversion ? cache.list(call.namespace || undefined) : [], served);
  if (converting) await converting;
  const entries: Entry[] = [];
  if (!limit && !start) {
    for (const entry of cache.list(call.namespace || undefined)) if (!filter || filter(entry)) entries.push(entry.as(served));
    return { revision, entries };
  }
  let more = 0;
  let last = '';
  for (const entry of cache.range(call.namespace || undefined, start)) {
    if (filter && !filter(entry)) continue;
    if (limit && entries.length >= limit) {
      more++;
      // With a selector the count of what remains is not told, so one is enough.
      if (filter) break;
      continue;
    }
    entries.push(entry.as(served));
    last = entry.key;
  }
  if (more === 0) return { revision, entries };
  return { revision, entries, continue: encodeContinue(revision, `${last}\0`), ...(filter ? {} : { remainingItemCount: more }) };
}

/** A page of an old revision. */
async function fromStore(
  api: Api,
  call: Call,
  revision: number,
  filter: Filter,
  limit: number,
  start: string,
  continued: boolean,
): Promise<ListResult> {
  const { served, storage } = call.target;
  const { cache } = storage!;
  const prefix = call.namespace ? `${cache.prefix}${call.namespace}/` : cache.prefix;
  const end = prefixEnd(prefix);
  const own = cache.prefix + start;
  let from = start && own > prefix ? own : prefix;
  const entries: Entry[] = [];
  try {
    for (;;) {
      const page = await api.store.range({
        start: from,
        end,
        revision,
        ...(limit ? { limit: filter ? Math.max(limit, 500) : limit - entries.length } : {}),
      });
      let count = page.count;
      for (const item of page.items) {
        count--;
        from = `${item.key}\0`;
        const entry = Entry.fromStore(cache.resource, item.key.slice(cache.prefix.length), item.modRevision, item.value);
        const converting = settle([entry], served);
        if (converting) await converting;
        if (filter && !filter(entry)) continue;
        entries.push(entry.as(served));
        if (limit && entries.length >= limit) break;
      }
      if (limit && entries.length >= limit) {
        if (count === 0) return { revision, entries };
        const next = from.slice(cache.prefix.length);
        return { revision, entries, continue: encodeContinue(revision, next), ...(filter ? {} : { remainingItemCount: count }) };
      }
      if (!page.more) return { revision, entries };
    }
  } catch (error) {
    if (error instanceof FutureRevisionError) throw tooLargeResourceVersion(revision, api.hub.revision);
    if (!(error instanceof CompactedError)) throw error;
    if (!continued) throw gone(`The resourceVersion for the provided list is too old.`);
    const fresh = gone(
      'The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.',
    );
    (fresh.status.metadata as { continue?: string }) = { continue: encodeContinue(-1, start) };
    throw fresh;
  }
}
