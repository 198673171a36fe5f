import { StatusError } from '../../../src/api/errors.ts';
import type { Client } from '../../../src/client/client.ts';
import type { Line } from './program.ts';

/** One change that the server made, as far as its writer could find out. */
export interface Change {
  what: 'add' | 'update' | 'delete';
  name: string;
  n: string;
  /** Unknown of deletions. */
  rv?: string;
}

const reasonOf = (error: unknown) => (error instanceof StatusError ? error.reason : undefined);

/**
 * Creates, changes and deletes objects of one kind, each by one worker, and knows every change that was made: where an answer
 * was lost it asks until it knows.
 */
export class Writer {
  readonly changes: Change[] = [];
  readonly kind: string;
  readonly prefix: string;
  /** Name of the object that finish() makes after all others. */
  readonly last: string;
  /** What is there still: the n of each name. */
  readonly live = new Map<string, string>();
  readonly #client: Client;
  readonly #type: any;
  readonly #namespace: string;
  readonly #workers: Promise<void>[] = [];
  #ending = false;
  #n = 0;

  constructor(client: Client, type: { kind: string }, namespace: string) {
    this.#client = client;
    this.#type = type;
    this.#namespace = namespace;
    this.kind = type.kind;
    this.prefix = `${type.kind.toLowerCase()}-`;
    this.last = `${this.prefix}last`;
  }

  /** Three workers; each rests after every object, for it is the programs' work that is looked at: milliseconds. */
  start(restMs = 5): void {
    for (let w = 0; w < 3; w++) this.#workers.push(this.#work(w, restMs));
  }

  async finish(): Promise<void> {
    this.#ending = true;
    await Promise.all(this.#workers);
    await this.#create(this.last);
  }

  async #work(worker: number, restMs: number): Promise<void> {
    for (let i = 0; !this.#ending; i++) {
      const name = `${this.prefix}${worker}-${i}`;
      await this.#create(name);
      for (let change = i % 4; change > 0; change--) await this.#update(name);
      if (i % 3) await this.#delete(name);
      await new Promise((resolve) => setTimeout(resolve, restMs));
    }
  }

  #body(n: string): object {
    if (this.kind === 'ConfigMap') return { data: { n } };
    if (this.kind === 'Secret') return { data: { n: Buffer.from(n).toString('base64') } };
    if (this.kind === 'Service') return { metadata: { annotations: { n } } };
    return { spec: { n } };
  }

  #nOf(object: any): string | undefined {
    if (this.kind === 'ConfigMap') return object.data?.n;
    if (this.kind === 'Secret') return Buffer.from(object.data?.n ?? '', 'base64').toString();
    if (this.kind === 'Service') return object.metadata.annotations?.n;
    return object.spec?.n;
  }

  /** The object, or undefined where there is none; asks until the server says so. */
  async #look(name: string): Promise<any> {
    for (;;) {
      try {
        return await this.#client.get<any>(this.#type, { namespace: this.#namespace, name }, { signal: AbortSignal.timeout(5000) });
      } catch (error) {
        if (reasonOf(error) === 'NotFound') return undefined;
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    }
  }

  async #create(name: string): Promise<void> {
    const n = String(++this.#n);
    const body: any = this.#body(n);
    const spec = this.kind === 'Service' ? { spec: { clusterIP: 'None', ports: [{ port: 80 }] } } : {};
    const object = { ...body, ...spec, metadata: { ...body.metadata, namespace: this.#namespace, name } };
    for (;;) {
      try {
        const made = await this.#client.create<any>(this.#type, object as never, { signal: AbortSignal.timeout(10_000) });
        return this.#made('add', name, n, made);
      } catch {
        const there = await this.#look(name);
        if (there) return this.#made('add', name, n, there);
      }
    }
  }

  async #update(name: string): Promise<void> {
    const n = String(++this.#n);
    for (;;) {
      try {
        const key = { namespace: this.#namespace, name };
        const made = await this.#client.patch<any>(this.#type, key, 'merge', this.#body(n), { signal: AbortSignal.timeout(10_000) });
        return this.#made('update', name, n, made);
      } catch {
        const there = await this.#look(name);
        if (there && this.#nOf(there) === n) return this.#made('update', name, n, there);
      }
    }
  }

  #made(what: Change['what'], name: string, n: string, object: any): void {
    if (this.#nOf(object) !== n) throw new Error(`${this.kind} ${name} has n ${this.#nOf(object)}, not ${n}`);
    this.live.set(name, n);
    this.changes.push({ what, name, n, rv: object.metadata.resourceVersion });
  }

  async #delete(name: string): Promise<void> {
    for (;;) {
      try {
        await this.#client.delete<any>(this.#type, { namespace: this.#namespace, name }, { signal: AbortSignal.timeout(10_000) });
        break;
      } catch {
        const there = await this.#look(name);
        if (!there || there.metadata.deletionTimestamp) break;
      }
    }
    this.changes.push({ what: 'delete', name, n: this.live.get(name) as string });
    this.live.delete(name);
  }
}

/** What is wrong with the events that a client saw of these changes: each has to be there once, in its place. */
export function check(changes: Change[], events: Line[]): string[] {
  const wrong = outOfOrder(events);
  const byName = <T extends { name?: string }>(all: T[]) => Map.groupBy(all, (one) => one.name as string);
  const seen = byName(events);
  for (const [name, made] of byName(changes)) {
    const saw = seen.get(name) ?? [];
    seen.delete(name);
    const expected = made.map((c) => `${c.what} ${c.n}`).join(', ');
    const found = saw.map((e) => `${e.what} ${e.n}`).join(', ');
    if (found !== expected) wrong.push(`${name}: saw ${found || 'nothing'}, not ${expected}`);
    else for (const [i, { rv }] of made.entries()) if (rv && saw[i]?.rv !== rv) wrong.push(`${name}: event ${i} has version ${saw[i]?.rv}, not ${rv}`);
    if (new Set(saw.map((e) => e.uid)).size > 1) wrong.push(`${name}: more than one uid`);
  }
  for (const name of seen.keys()) wrong.push(`${name}: nobody made it`);
  return wrong;
}

/** Events that came twice, or after a later one, or that nobody told of but were found by listing. */
export function outOfOrder(events: Line[]): string[] {
  const wrong: string[] = [];
  let last = 0n;
  for (const { what, name, rv, unknown, initial } of events) {
    if (unknown) wrong.push(`${name}: its deletion was found out by listing`);
    if (initial) continue;
    if (BigInt(rv as string) <= last) wrong.push(`${what} ${name}: version ${rv} after ${last}`);
    last = BigInt(rv as string);
  }
  return wrong;
}
