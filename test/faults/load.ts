import { isAlreadyExists, isConflict, StatusError } from '../../src/api/errors.ts';
import { resources } from '../../src/api/generated/resources.ts';
import type { ConfigMap } from '../../src/api/generated/types.ts';
import type { Client } from '../../src/client/client.ts';
import { RegisterHistory } from './register-history.ts';

const namespace = 'default';
const type = resources.configmaps;

export interface LoadReport {
  acknowledged: number;
  /** Requests that failed or were refused while something was down. */
  failed: number;
  lost: string[];
  duplicated: string[];
  violations: string[];
  watchProblems: string[];
  /** Milliseconds without any acknowledged write, at most. */
  longestStall: number;
}

/**
 * Writers, readers and watches against several API servers, with a checker that knows every acknowledged write:
 * creates of names used once, compare-and-swap updates of a few registers, reads of these, a watch that resumes.
 */
export class Load {
  readonly #clients: Client[];
  readonly #history = new RegisterHistory();
  /** name → resource version of the acknowledged create. */
  readonly #created = new Map<string, string>();
  readonly #duplicated: string[] = [];
  readonly #watchProblems: string[] = [];
  /** What each watch has seen: name@version. */
  readonly #seen: Map<string, Set<string>>[] = [];
  readonly #stopping = new AbortController();
  readonly #watching = new AbortController();
  #watchers: Promise<void>[] = [];
  #workers: Promise<void>[] = [];
  #failed = 0;
  #lastAck = performance.now();
  #longestStall = 0;

  constructor(clients: Client[]) {
    this.#clients = clients;
  }

  start(writers = 6, registers = 3): void {
    for (let i = 0; i < this.#clients.length; i++) this.#watchers.push(this.#watch(i));
    for (let w = 0; w < writers; w++) this.#workers.push(this.#create(w));
    for (let r = 0; r < registers; r++) {
      for (let i = 0; i < 2; i++) this.#workers.push(this.#swap(`register-${r}`, i), this.#read(`register-${r}`, i));
    }
  }

  get acknowledged(): number {
    return this.#created.size + this.#history.operations.filter((o) => o.type === 'write').length;
  }

  #acknowledge(): void {
    const now = performance.now();
    this.#longestStall = Math.max(this.#longestStall, now - this.#lastAck);
    this.#lastAck = now;
  }

  /** Calls one server after the other until one answers. */
  async #any<T>(first: number, call: (client: Client, signal: AbortSignal) => Promise<T>): Promise<T | undefined> {
    for (let i = first; !this.#stopping.signal.aborted; i++) {
      try {
        return await call(this.#clients[i % this.#clients.length] as Client, AbortSignal.timeout(10_000));
      } catch (error) {
        if (isAlreadyExists(error) || isConflict(error) || (error as StatusError).reason === 'NotFound') throw error;
        this.#failed++;
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    }
    return undefined;
  }

  async #create(writer: number): Promise<void> {
    for (let i = 0; !this.#stopping.signal.aborted; i++) {
      const name = `w${writer}-${i}`;
      let tries = 0;
      try {
        const made = await this.#any(writer + i, (c, signal) => {
          tries++;
          return c.create(type, { metadata: { name, namespace, labels: { load: 'create' } }, data: { name } }, { signal });
        });
        if (!made) return;
        this.#created.set(name, made.metadata.resourceVersion as string);
        this.#acknowledge();
      } catch {
        // A try whose answer was lost may have made it; a first one may not.
        if (tries === 1) this.#duplicated.push(`${name} was there before it was created`);
      }
    }
  }

  async #swap(name: string, first: number): Promise<void> {
    for (let i = 0; !this.#stopping.signal.aborted; i++) {
      const value = `${first}-${i}`;
      try {
        await this.#history.record(name, 'write', async () => {
          const made = await this.#any(first, async (c, signal) => {
            const current = await c.get<ConfigMap>(type, { namespace, name }, { signal }).catch((error) => {
              if ((error as StatusError).reason === 'NotFound') return undefined;
              throw error;
            });
            if (!current) return c.create<ConfigMap>(type, { metadata: { name, namespace }, data: { value } }, { signal });
            return c.update<ConfigMap>(type, { ...structuredClone(current), data: { value } }, { signal });
          });
          if (!made) throw new Error('stopped');
          return { value, revision: Number(made.metadata.resourceVersion) };
        });
        this.#acknowledge();
      } catch {
        // Lost the race, or an earlier try of its own had won: nothing was acknowledged.
      }
    }
  }

  async #read(name: string, first: number): Promise<void> {
    while (!this.#stopping.signal.aborted) {
      try {
        await this.#history.record(name, 'read', async () => {
          const found = await this.#any(first, (c, signal) => c.get<ConfigMap>(type, { namespace, name }, { signal }));
          if (!found) throw new Error('stopped');
          return { value: found.data?.['value'] ?? '', revision: Number(found.metadata.resourceVersion) };
        });
      } catch {
        // Not there yet.
      }
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }

  /** A watch of one server that goes on from the last version it saw whenever it ends. */
  async #watch(i: number): Promise<void> {
    const seen = new Map<string, Set<string>>();
    this.#seen.push(seen);
    const client = this.#clients[i] as Client;
    const { signal } = this.#watching;
    let resourceVersion: string | undefined;
    while (!signal.aborted) {
      try {
        resourceVersion ??= (await client.list(type, { namespace, resourceVersion: '0', signal, labelSelector: 'load=none' })).metadata.resourceVersion;
        for await (const event of client.watch<ConfigMap>(type, { namespace, resourceVersion, allowWatchBookmarks: true, signal })) {
          if (event.type === 'ERROR') throw new StatusError(event.object.code ?? 500, event.object.reason ?? '', event.object.message ?? '');
          const { metadata } = event.object;
          const version = metadata.resourceVersion as string;
          if (event.type !== 'BOOKMARK') {
            if (Number(version) <= Number(resourceVersion)) this.#watchProblems.push(`${metadata.name}@${version} came after ${resourceVersion}`);
            const versions = seen.get(metadata.name) ?? new Set();
            if (versions.has(version)) this.#watchProblems.push(`${metadata.name}@${version} came twice`);
            seen.set(metadata.name, versions.add(version));
          }
          resourceVersion = version;
        }
      } catch (error) {
        if ((error as StatusError).reason === 'Expired') this.#watchProblems.push(`the watch lost its place: ${(error as Error).message}`);
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    }
  }

  /** Ends the load, waits for the watches to have seen everything, and compares with what each server holds. */
  async finish(): Promise<LoadReport> {
    this.#longestStall = Math.max(this.#longestStall, performance.now() - this.#lastAck);
    this.#stopping.abort();
    await Promise.all(this.#workers);
    const client = this.#clients[0] as Client;
    const lost: string[] = [];
    const unseen = () =>
      this.#seen.flatMap((seen, i) => [...this.#created].filter(([name, v]) => !seen.get(name)?.has(v)).map(([name, v]) => `watch ${i} never saw ${name}@${v}`));
    for (let i = 0; i < 200 && unseen().length > 0; i++) await new Promise((resolve) => setTimeout(resolve, 100));
    this.#watchProblems.push(...unseen().slice(0, 20));
    this.#watching.abort();
    await Promise.all(this.#watchers);
    const stored = new Map((await client.list<ConfigMap>(type, { namespace })).items.map((o) => [o.metadata.name, o]));
    for (const [name, version] of this.#created)
      if (stored.get(name)?.metadata.resourceVersion !== version) lost.push(`${name}@${version}: ${stored.get(name)?.metadata.resourceVersion ?? 'not there'}`);
    for (const other of this.#clients.slice(1)) {
      const items = (await other.list<ConfigMap>(type, { namespace })).items;
      const differs = items.length !== stored.size || items.some((o) => stored.get(o.metadata.name)?.metadata.resourceVersion !== o.metadata.resourceVersion);
      if (differs) lost.push('the API servers hold different objects');
    }
    return {
      acknowledged: this.acknowledged,
      failed: this.#failed,
      lost,
      duplicated: this.#duplicated,
      violations: this.#history.violations(),
      watchProblems: this.#watchProblems,
      longestStall: Math.round(this.#longestStall),
    };
  }
}
