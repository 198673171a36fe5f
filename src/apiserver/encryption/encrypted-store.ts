import type { KeyValue, Operation, Store, StoreEvents, TransactionResult, WatchRequest } from '../../store/store.ts';
import type { EncryptionRule } from './configuration.ts';
import { identity, type Provider } from './providers.ts';

const root = '/registry/';
const encryptedMark = Buffer.from('k8s:enc:');
const plain = [identity];

/** A store whose values of some resources are encrypted. Keys, revisions and everything else are the inner store's. */
export class EncryptedStore implements Store {
  readonly #inner: Store;
  readonly #rules: EncryptionRule[];
  readonly #providers = new Map<string, Provider[]>();
  /** Keys whose value another provider, or an older key, wrote. */
  readonly #stale = new Set<string>();
  readonly shared: boolean;
  latestRevision?: () => Promise<number>;
  advanceRevision?: (revision: number) => Promise<void>;

  constructor(inner: Store, rules: EncryptionRule[]) {
    this.#inner = inner;
    this.#rules = rules;
    this.shared = inner.shared ?? false;
    if (inner.latestRevision) this.latestRevision = inner.latestRevision.bind(inner);
    if (inner.advanceRevision) this.advanceRevision = inner.advanceRevision.bind(inner);
  }

  /** Whether the value should be written again although it does not change. */
  isStale(key: string): boolean {
    return this.#stale.has(key);
  }

  revision = () => this.#inner.revision();
  compactedRevision = () => this.#inner.compactedRevision();

  async get(key: string, revision?: number): Promise<KeyValue | undefined> {
    const found = await this.#inner.get(key, revision);
    return found && (await this.#decrypted(found));
  }

  async range(request: Parameters<Store['range']>[0]): ReturnType<Store['range']> {
    const result = await this.#inner.range(request);
    const items: KeyValue[] = [];
    for (const item of result.items) {
      const open = this.#decrypted(item);
      items.push(open instanceof Promise ? await open : open);
    }
    return { ...result, items };
  }

  async transaction(compares: Parameters<Store['transaction']>[0], success: Operation[], failure: Operation[] = []): Promise<TransactionResult> {
    const result = await this.#inner.transaction(compares, await this.#encrypted(success), await this.#encrypted(failure));
    const gets = await Promise.all(result.gets.map((found) => found && this.#decrypted(found)));
    return { ...result, gets };
  }

  watch(request: WatchRequest): ReturnType<Store['watch']> {
    // Values that the plugin must be asked for hold up those behind them: order is kept.
    let waiting: Promise<void> | undefined;
    let closed = false;
    const deliver = (events: StoreEvents) => {
      if (!closed) request.onEvents(events);
    };
    const fail = (error: unknown) => {
      if (closed) return;
      closed = true;
      watch.close();
      request.onError(error as Error);
    };
    const watch = this.#inner.watch({
      ...request,
      onError: fail,
      onEvents: (found) => {
        let opened: StoreEvents | Promise<StoreEvents>;
        try {
          opened = this.#openEvents(found);
        } catch (error) {
          fail(error);
          return;
        }
        if (!waiting && !(opened instanceof Promise)) {
          deliver(opened);
          return;
        }
        const next: Promise<void> = Promise.all([opened, waiting]).then(([events]) => {
          deliver(events);
          if (waiting === next) waiting = undefined;
        });
        waiting = next;
        next.catch(fail);
      },
    });
    return {
      close: () => {
        closed = true;
        watch.close();
      },
    };
  }

  #openEvents(found: StoreEvents): StoreEvents | Promise<StoreEvents> {
    let pending = false;
    const open = (item: KeyValue): KeyValue | Promise<KeyValue> => {
      const opened = this.#decrypted(item);
      if (opened instanceof Promise) pending = true;
      return opened;
    };
    const events = found.events.map((e) => ({
      ...e,
      previous: e.previous && this.#isCovered(e.previous.key) ? open(e.previous) : e.previous,
      item: e.type === 'put' && this.#isCovered(e.item.key) ? open(e.item) : e.item,
    }));
    if (!pending) return { revision: found.revision, events: events as StoreEvents['events'] };
    return Promise.all(events.map(async (e) => ({ ...e, item: await e.item, previous: await e.previous }))).then((all) => ({
      revision: found.revision,
      events: all,
    }));
  }

  grantLease = (ttlSeconds: number) => this.#inner.grantLease(ttlSeconds);
  keepLeaseAlive = (id: number) => this.#inner.keepLeaseAlive(id);
  revokeLease = (id: number) => this.#inner.revokeLease(id);
  compact = (revision: number) => this.#inner.compact(revision);
  size = () => this.#inner.size();

  async close(): Promise<void> {
    for (const { providers } of this.#rules) for (const provider of providers) provider.close?.();
    await this.#inner.close();
  }

  #isCovered(key: string): boolean {
    return this.#providersOf(key) !== plain;
  }

  /** The first rule that covers the resource decides, as in kube-apiserver. */
  #providersOf(key: string): Provider[] {
    if (!key.startsWith(root)) return plain;
    const one = key.indexOf('/', root.length);
    const two = key.indexOf('/', one + 1);
    // `secrets/NS/NAME`, or `apps/deployments/NS/NAME`: a group's name is followed by the resource's.
    const short = key.slice(root.length, one);
    const long = two < 0 ? short : key.slice(root.length, two);
    let providers = this.#providers.get(long);
    if (!providers) {
      providers = this.#rules.find((rule) => rule.matches(short) || rule.matches(long))?.providers ?? plain;
      // Namespaces are many, resources few: only what is found by its resource is kept.
      if (this.#providers.size < 10_000) this.#providers.set(long, providers);
    }
    return providers;
  }

  async #encrypted(operations: Operation[]): Promise<Operation[]> {
    const out: Operation[] = [];
    for (const operation of operations) {
      const [provider] = this.#providersOf(operation.key) as [Provider];
      if (operation.type !== 'put' || provider === identity) out.push(operation);
      else {
        const sealed = await provider.encrypt(operation.value, operation.key);
        out.push({ ...operation, value: Buffer.concat([Buffer.from(provider.prefix), sealed]) });
      }
    }
    return out;
  }

  #decrypted(item: KeyValue): KeyValue | Promise<KeyValue> {
    const providers = this.#providersOf(item.key);
    if (providers === plain) return item;
    const { key, value } = item;
    const sealed = value.subarray(0, encryptedMark.length).equals(encryptedMark);
    const at = providers.findIndex((p) => (sealed ? p.prefix !== '' && value.subarray(0, p.prefix.length).toString('latin1') === p.prefix : p === identity));
    // Plain values of before the encryption are read also where identity is not named: they are what is to be rewritten.
    const provider = at >= 0 ? (providers[at] as Provider) : sealed ? undefined : identity;
    if (!provider) throw new Error(`${key} cannot be read: no matching prefix found (no provider of the encryption configuration wrote it)`);
    const body = value.subarray(provider.prefix.length);
    if (at !== 0 || provider.isStale?.(body)) this.#stale.add(key);
    else this.#stale.delete(key);
    const done = (plainValue: Buffer): KeyValue => ({ ...item, value: plainValue });
    const broken = (error: unknown): never => {
      throw new Error(`${key} cannot be decrypted: ${(error as Error).message}`, { cause: error });
    };
    try {
      const opened = provider.decrypt(body, key);
      return opened instanceof Promise ? opened.then(done, broken) : done(opened);
    } catch (error) {
      return broken(error);
    }
  }
}
