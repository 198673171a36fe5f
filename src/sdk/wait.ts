import { isNotFound } from '../api/errors.ts';
import { resources } from '../api/generated/resources.ts';
import type { Client } from '../client/client.ts';
import { WaitError } from './errors.ts';
import { hasCondition, readiness } from './readiness.ts';
import { describeTarget, type Target } from './references.ts';
import type { AnyObject, Condition } from './types.ts';

/** Ends with a time limit, or with the signals given; says which. */
export interface Limit {
  signal: AbortSignal;
  timedOut: boolean;
  timeoutMs: number;
  clear(): void;
}

export function limitOf(timeoutMs: number, ...signals: (AbortSignal | undefined)[]): Limit {
  const time = new AbortController();
  const limit: Limit = {
    signal: AbortSignal.any([time.signal, ...signals.filter((s) => s !== undefined)]),
    timedOut: false,
    timeoutMs,
    clear: () => clearTimeout(timer),
  };
  const timer = setTimeout(() => {
    limit.timedOut = true;
    time.abort(new Error(`${timeoutMs / 1000} s have passed`));
  }, timeoutMs);
  return limit;
}

const wordsFor = (condition: Condition<any>): string =>
  typeof condition === 'function'
    ? 'to be as the test wants it'
    : condition === 'ready'
      ? 'to become ready'
      : condition === 'exists'
        ? 'to exist'
        : condition === 'deleted'
          ? 'to be deleted'
          : `to have condition ${condition}`;

/** true when it holds; otherwise what is missing. */
function check(object: AnyObject | undefined, condition: Condition<any>): true | string {
  if (condition === 'deleted') {
    if (!object) return true;
    const finalizers = object.metadata['finalizers'] as string[] | undefined;
    return object.metadata['deletionTimestamp']
      ? `it is being deleted${finalizers?.length ? ` and waits for ${finalizers.join(', ')}` : ''}`
      : 'it is there';
  }
  if (!object) return 'there is no such object';
  if (condition === 'exists') return true;
  if (condition === 'ready') return readiness(object);
  if (typeof condition === 'string') return hasCondition(object, condition);
  const answer = condition(object);
  return answer === true ? true : typeof answer === 'string' ? answer : `it is ${JSON.stringify(object['status'] ?? object.metadata)}`;
}

/** Watches one object until the condition holds. */
export async function waitForObject(client: Client, target: Target, condition: Condition<any>, limit: Limit): Promise<AnyObject | undefined> {
  const { signal } = limit;
  const { namespace, name } = target;
  const where = { ...(namespace ? { namespace } : {}), fieldSelector: `metadata.name=${name}` };
  let state = 'the API has not answered';
  let last: AnyObject | undefined;
  const holds = (object: AnyObject | undefined) => {
    const answer = check(object, condition);
    if (answer !== true) state = answer;
    if (object) last = object;
    return answer === true;
  };
  try {
    for (;;) {
      signal.throwIfAborted();
      const list = await client.list<AnyObject>(target.type, { ...where, signal });
      if (holds(list.items[0])) return list.items[0] ?? last;
      for await (const event of client.watch<AnyObject>(target.type, { ...where, resourceVersion: list.metadata.resourceVersion, signal })) {
        if (event.type === 'ERROR') break;
        if (event.type === 'BOOKMARK') continue;
        const object = event.type === 'DELETED' ? undefined : event.object;
        if (event.type === 'DELETED') last = event.object;
        if (holds(object)) return object ?? last;
      }
    }
  } catch (error) {
    if (limit.timedOut) throw new WaitError(`${describeTarget(target)} ${wordsFor(condition)}`, state, limit.timeoutMs);
    throw signal.aborted ? (signal.reason ?? error) : error;
  } finally {
    limit.clear();
  }
}

/** Until so many nodes are Ready, and initialized by the cloud. */
export async function waitForReadyNodes(client: Client, count: number, limit: Limit): Promise<void> {
  const nodes = new Map<string, AnyObject>();
  const type = resources.nodes as never;
  const enough = () => [...nodes.values()].filter((n) => readiness(n) === true).length >= count;
  try {
    for (;;) {
      limit.signal.throwIfAborted();
      const list = await client.list<AnyObject>(type, { signal: limit.signal });
      nodes.clear();
      for (const node of list.items) nodes.set(node.metadata.name, node);
      if (enough()) return;
      for await (const event of client.watch<AnyObject>(type, { resourceVersion: list.metadata.resourceVersion, signal: limit.signal })) {
        if (event.type === 'ERROR') break;
        if (event.type === 'BOOKMARK') continue;
        if (event.type === 'DELETED') nodes.delete(event.object.metadata.name);
        else nodes.set(event.object.metadata.name, event.object);
        if (enough()) return;
      }
    }
  } catch (error) {
    if (!limit.timedOut) throw limit.signal.aborted ? (limit.signal.reason ?? error) : error;
    const there = [...nodes.values()].map((n) => `${n.metadata.name}: ${readiness(n) === true ? 'ready' : readiness(n)}`);
    throw new WaitError(`${count} Ready nodes`, there.slice(0, 10).join('; ') || 'there are none', limit.timeoutMs);
  } finally {
    limit.clear();
  }
}

/** Asks again and again, with pauses from 20 ms to 1 s. */
export async function eventually<T>(what: string, ask: () => Promise<T | undefined | false> | T | undefined | false, limit: Limit): Promise<T> {
  let state = '';
  try {
    for (let pause = 20; ; pause = Math.min(1000, pause * 1.5)) {
      try {
        const answer = await ask();
        if (answer !== undefined && answer !== false) return answer;
      } catch (error) {
        if (limit.signal.aborted) throw error;
        state = (error as Error).message;
      }
      await sleep(pause, limit.signal);
    }
  } catch (error) {
    if (limit.timedOut) throw new WaitError(what, state, limit.timeoutMs);
    throw limit.signal.aborted ? (limit.signal.reason ?? error) : error;
  } finally {
    limit.clear();
  }
}

function sleep(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(signal.reason);
    const timer = setTimeout(() => {
      signal.removeEventListener('abort', onAbort);
      resolve();
    }, ms);
    const onAbort = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    signal.addEventListener('abort', onAbort, { once: true });
  });
}

export const ignoreNotFound = (error: unknown): undefined => {
  if (!isNotFound(error)) throw error;
  return undefined;
};
