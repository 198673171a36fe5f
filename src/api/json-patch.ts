import { parseJson } from './json.ts';
import { badRequest, StatusError } from './errors.ts';

/** Upstream says no more than this of an operation that cannot be carried out. */
const rejected = () => new StatusError(422, 'Invalid', 'the server rejected our request due to an error in our request', {});

/** An operation that does not apply, or a test that fails. */
class Inapplicable extends Error {}

/** Says apart from all else that a patch was not to be applied here. */
export class FailedTest extends StatusError {
  constructor() {
    const { status } = rejected();
    super(422, 'Invalid', status.message ?? '', {});
  }
}

const mostOperations = 10_000;
/** Bytes that copies may add up to: a short patch must not make a document that fills memory. */
const mostCopied = 3 * 1024 * 1024;

interface Operation {
  op?: unknown;
  path?: unknown;
  from?: unknown;
  value?: unknown;
}

const goTypeOf = (value: unknown) => (Array.isArray(value) ? 'array' : value === null ? 'null' : typeof value === 'boolean' ? 'bool' : typeof value);

/**
 * RFC 6902 as the Go library behind upstream reads it: members that are missing can be replaced and copied (as null), and negative
 * indexes count from the end. Returns a new document that shares what is not changed. StatusErrors: 400 for what is no patch, 413 for
 * too many operations, 422 where an operation does not apply or a test fails.
 */
export function applyJsonPatch(doc: unknown, patch: unknown): unknown {
  if (!Array.isArray(patch)) {
    if (patch === null) return doc;
    throw badRequest(`error decoding patch: json: cannot unmarshal ${goTypeOf(patch)} into Go value of type []handlers.jsonPatchOp`);
  }
  for (const operation of patch) {
    if (typeof operation !== 'object' || operation === null || Array.isArray(operation))
      throw badRequest(`error decoding patch: json: cannot unmarshal ${goTypeOf(operation)} into Go value of type handlers.jsonPatchOp`);
  }
  if (patch.length > mostOperations) {
    throw new StatusError(
      413,
      'RequestEntityTooLarge',
      `Request entity too large: The allowed maximum operations in a JSON patch is ${mostOperations}, got ${patch.length}`,
    );
  }
  const document = new Document(doc);
  try {
    for (const operation of patch) apply(document, operation);
  } catch (error) {
    throw error instanceof Inapplicable ? rejected() : error;
  }
  return document.root;
}

function apply(document: Document, { op, path, from, value = null }: Operation): void {
  if (typeof path !== 'string') throw new Inapplicable('path');
  switch (op) {
    case 'add':
      return document.add(path, value);
    case 'remove':
      return void document.remove(path);
    case 'replace':
      return document.replace(path, value);
    case 'move':
      if (typeof from !== 'string') throw new Inapplicable('from');
      return document.add(path, document.remove(from) ?? null);
    case 'copy':
      if (typeof from !== 'string') throw new Inapplicable('from');
      return document.copy(path, document.get(from) ?? null);
    case 'test':
      if (!same(document.get(path) ?? null, value)) throw new FailedTest();
      return;
    default:
      throw new Inapplicable(`Unexpected kind: ${op}`);
  }
}

const unescaped = (token: string) => token.replaceAll('~1', '/').replaceAll('~0', '~');
const isContainer = (value: unknown): value is Record<string, unknown> | unknown[] => typeof value === 'object' && value !== null;

/** A document that is copied as far as it is changed. */
class Document {
  root: unknown;
  /** Containers that are this document's own. */
  #own = new Set<object>();
  #copied = 0;

  constructor(root: unknown) {
    this.root = root;
  }

  /** The container that a path's last step is in, and that step. */
  #find(path: string, write: boolean): [container: Record<string, unknown> | unknown[], key: string] {
    const steps = path.split('/');
    if (steps.length < 2) throw new Inapplicable(path);
    let at = this.root;
    if (!isContainer(at)) throw new Inapplicable(path);
    if (write) at = this.root = this.#copyOf(at);
    for (let i = 1; i < steps.length - 1; i++) {
      const key = unescaped(steps[i] as string);
      let next = member(at as object, key);
      if (!isContainer(next)) throw new Inapplicable(path);
      if (write) put(at as object, key, (next = this.#copyOf(next)));
      at = next;
    }
    return [at as Record<string, unknown>, unescaped(steps.at(-1) as string)];
  }

  #copyOf<T extends object>(container: T): T {
    if (this.#own.has(container)) return container;
    const copy = (Array.isArray(container) ? [...container] : { ...container }) as T;
    this.#own.add(copy);
    return copy;
  }

  get(path: string): unknown {
    if (path === '') return this.root;
    const [container, key] = this.#find(path, false);
    return member(container, key);
  }

  add(path: string, value: unknown): void {
    const [container, key] = this.#find(path, true);
    if (!Array.isArray(container)) return set(container, key, value);
    if (key === '-') return void container.push(value);
    let index = indexOf(key);
    if (index > container.length || index < -container.length - 1) throw new Inapplicable(path);
    if (index < 0) index += container.length + 1;
    container.splice(index, 0, value);
  }

  remove(path: string): unknown {
    const [container, key] = this.#find(path, true);
    const value = member(container, key);
    if (Array.isArray(container)) container.splice(position(container, key), 1);
    else if (Object.hasOwn(container, key)) delete container[key];
    else throw new Inapplicable(path);
    return value;
  }

  replace(path: string, value: unknown): void {
    if (path === '') {
      if (!isContainer(value)) throw new Inapplicable(path);
      this.root = value;
      return;
    }
    const [container, key] = this.#find(path, true);
    put(container, key, value);
  }

  copy(path: string, value: unknown): void {
    const text = JSON.stringify(value);
    this.#copied += text.length;
    if (this.#copied > mostCopied) throw new Inapplicable(path);
    // A copy in truth: what is shared would change in both places, and a document within itself has no end.
    this.add(path, isContainer(value) ? parseJson(text) : value);
  }
}

const indexOf = (key: string): number => {
  if (!/^[-+]?\d+$/.test(key)) throw new Inapplicable(key);
  return Number(key);
};

/** An index that is there, from the front. */
function position(list: unknown[], key: string): number {
  const index = indexOf(key);
  const at = index < 0 ? index + list.length : index;
  if (at < 0 || at >= list.length) throw new Inapplicable(key);
  return at;
}

/** Of an object undefined where it has none of that name. */
function member(container: object, key: string): unknown {
  if (Array.isArray(container)) return container[position(container, key)];
  return Object.hasOwn(container, key) ? (container as Record<string, unknown>)[key] : undefined;
}

function put(container: object, key: string, value: unknown): void {
  if (Array.isArray(container)) container[position(container, key)] = value;
  else set(container as Record<string, unknown>, key, value);
}

/** An own property of any name. */
function set(target: Record<string, unknown>, key: string, value: unknown): void {
  if (key === '__proto__') Object.defineProperty(target, key, { value, enumerable: true, configurable: true, writable: true });
  else target[key] = value;
}

function same(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (!isContainer(a) || !isContainer(b) || Array.isArray(a) !== Array.isArray(b)) return false;
  const keys = Object.keys(a);
  return keys.length === Object.keys(b).length && keys.every((key) => Object.hasOwn(b, key) && same((a as any)[key], (b as any)[key]));
}
