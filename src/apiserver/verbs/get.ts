import { methodNotSupported, notFound } from '../../api/errors.ts';
import { type Api, type Call, keyFor } from '../api.ts';
import { settle } from '../storage/conversion.ts';
import type { Entry } from '../storage/entry.ts';
import { parseResourceVersion } from './list.ts';

/** The object as it is now; with resourceVersion at least as new as that, from the cache. */
export async function get(api: Api, call: Call, resourceVersion: string | undefined): Promise<Entry> {
  const { served, storage, subject } = call.target;
  if (!storage || !served.verbs.includes('get')) throw methodNotSupported(subject, 'get');
  const wait = resourceVersion ? api.hub.waitFor(parseResourceVersion(resourceVersion), call.signal) : api.hub.current(call.signal);
  if (wait) await wait;
  const entry = storage.cache.get(keyFor(call.namespace, call.name));
  if (!entry) throw notFound(subject, call.name);
  const converting = settle([entry], served);
  if (converting) await converting;
  return entry.as(served);
}
