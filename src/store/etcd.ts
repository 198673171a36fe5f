import { randomInt } from 'node:crypto';
import { EtcdConnection, type EtcdTls, isLoss, UnknownOutcomeError } from './etcd/connection.ts';
import { EtcdWatch, keyValueOf } from './etcd/watch.ts';
import {
  type Compare,
  CompactedError,
  FutureRevisionError,
  type KeyValue,
  LeaseNotFoundError,
  NoSpaceError,
  type Operation,
  type RangeRequest,
  type RangeResult,
  type Store,
  type StoreWatch,
  type TransactionResult,
  type WatchRequest,
} from './store.ts';

export interface EtcdStoreOptions {
  /** Members, as http://HOST:2379 or https://HOST:2379. */
  endpoints: string[];
  tls?: EtcdTls;
  /** How long to wait for the first answer, milliseconds; 30 s. */
  openTimeoutMs?: number;
}

/** How long a write whose answer was lost is looked after, milliseconds. */
const settleMs = 20_000;

/**
 * A store on etcd, 3.4 or newer, one or many members. Others write there too (API servers of ours or upstream's), so
 * revision() is what this process has heard of, and latestRevision() asks the quorum.
 */
export async function openEtcdStore(o: EtcdStoreOptions): Promise<Store> {
  const connection = new EtcdConnection(o.endpoints, o.tls);
  try {
    const answer = await connection.read('Range', anyKey, o.openTimeoutMs ?? 30_000);
    return new EtcdStore(connection, answer.header.revision);
  } catch (error) {
    connection.close();
    throw new Error(`etcd at ${connection.description} cannot be reached: ${(error as Error).message}`, { cause: error });
  }
}

const anyKey = { key: Buffer.from([0]), range_end: Buffer.from([0]), count_only: true, limit: 1 };

class EtcdStore implements Store {
  readonly shared = true;
  readonly #connection: EtcdConnection;
  readonly #watches = new Set<EtcdWatch>();
  #revision: number;
  #compactedRevision = 0;
  #closed = false;
  #asking: Promise<number> | undefined;
  #askNext: Promise<number> | undefined;

  constructor(connection: EtcdConnection, revision: number) {
    this.#connection = connection;
    this.#revision = revision;
  }

  revision(): number {
    return this.#revision;
  }

  compactedRevision(): number {
    return this.#compactedRevision;
  }

  /** One question at a time: whoever comes while it is under way shares the next, which begins after they came. */
  latestRevision(): Promise<number> {
    if (!this.#asking) {
      this.#asking = this.#ask().finally(() => {
        this.#asking = undefined;
      });
      return this.#asking;
    }
    this.#askNext ??= this.#asking
      .catch(() => 0)
      .then(() => {
        this.#askNext = undefined;
        return this.latestRevision();
      });
    return this.#askNext;
  }

  async #ask(): Promise<number> {
    const answer = await this.#read(anyKey);
    return answer.header.revision;
  }

  async get(key: string, revision?: number): Promise<KeyValue | undefined> {
    const answer = await this.#read({ key: Buffer.from(key), ...(revision ? { revision } : {}) });
    return answer.kvs[0] && keyValueOf(answer.kvs[0]);
  }

  async range({ start, end, revision, limit, countOnly }: RangeRequest): Promise<RangeResult> {
    const answer = await this.#read({
      key: Buffer.from(start),
      range_end: Buffer.from(end),
      ...(revision ? { revision } : {}),
      ...(limit ? { limit } : {}),
      ...(countOnly ? { count_only: true } : {}),
    });
    return { items: answer.kvs.map(keyValueOf), count: answer.count, more: answer.more, revision: answer.header.revision };
  }

  async #read(request: object): Promise<any> {
    this.#assertOpen();
    try {
      return this.#heard(await this.#connection.read('Range', request));
    } catch (error) {
      throw this.#known(error, (request as { revision?: number }).revision);
    }
  }

  /** Where the answer was lost, finds out whether it was done; UnknownOutcomeError where only etcd's history could tell. */
  async transaction(compares: Compare[], success: Operation[], failure: Operation[] = []): Promise<TransactionResult> {
    this.#assertOpen();
    check(success);
    check(failure);
    const request = {
      compare: compares.map((c) => ({ result: 0, target: 2, key: Buffer.from(c.key), mod_revision: c.modRevision })),
      success: success.map(operationOf),
      failure: failure.map(operationOf),
    };
    try {
      return resultOf(this.#heard(await this.#connection.write('Txn', request)), failure, success);
    } catch (error) {
      if (!(error instanceof UnknownOutcomeError) || compares.length !== 1 || success.length !== 1) throw this.#known(error);
      return await this.#settle(request, compares[0]!, success[0]!, failure, error);
    }
  }

  /**
   * After a lost answer to "if the key is at revision R, put (or delete) it": what the key holds now tells. The first try may
   * still arrive; it and a second one exclude each other by the comparison.
   */
  async #settle(
    request: object,
    compare: Compare,
    operation: Operation,
    failure: Operation[],
    lost: UnknownOutcomeError,
  ): Promise<TransactionResult> {
    if (operation.type === 'get' || operation.key !== compare.key) throw lost;
    const end = Date.now() + settleMs;
    while (Date.now() < end) {
      const answer = await this.#read({ key: Buffer.from(compare.key) });
      const found: KeyValue | undefined = answer.kvs[0] && keyValueOf(answer.kvs[0]);
      const done = operation.type === 'put' ? found?.value.equals(operation.value) && found.modRevision > compare.modRevision : !found;
      if (done) return { succeeded: true, revision: found?.modRevision ?? answer.header.revision, gets: [] };
      if ((found?.modRevision ?? 0) !== compare.modRevision)
        return { succeeded: false, revision: answer.header.revision, gets: failure.map((o) => (o.key === compare.key ? found : undefined)) };
      try {
        const again = resultOf(this.#heard(await this.#connection.write('Txn', request)), failure, []);
        if (again.succeeded) return again;
      } catch (error) {
        if (!(error instanceof UnknownOutcomeError)) throw this.#known(error);
      }
    }
    throw lost;
  }

  watch(request: WatchRequest): StoreWatch {
    this.#assertOpen();
    const watch = new EtcdWatch(this.#connection, request, request.startRevision ?? this.#revision + 1, (revision) => {
      if (revision > this.#revision) this.#revision = revision;
    });
    this.#watches.add(watch);
    return {
      close: () => {
        watch.close();
        this.#watches.delete(watch);
      },
    };
  }

  async grantLease(ttlSeconds: number): Promise<number> {
    this.#assertOpen();
    if (!(ttlSeconds > 0)) throw new Error(`a lease needs a positive time to live, not ${ttlSeconds}`);
    // With an id of our own a lost answer does no harm: the lease that nobody knows of ends by itself.
    for (let attempt = 0; ; attempt++) {
      const id = randomInt(1, 2 ** 47);
      try {
        this.#heard(await this.#connection.write('LeaseGrant', { TTL: Math.ceil(ttlSeconds), ID: id }));
        return id;
      } catch (error) {
        if (attempt >= 3 || !(error instanceof UnknownOutcomeError)) throw this.#known(error);
      }
    }
  }

  keepLeaseAlive(id: number): Promise<void> {
    this.#assertOpen();
    return new Promise((resolve, reject) => {
      const { stream } = this.#connection.stream('LeaseKeepAlive');
      const timer = setTimeout(() => done(new Error('etcd did not answer LeaseKeepAlive within 5 s')), 5_000);
      const done = (error?: Error) => {
        clearTimeout(timer);
        stream.on('error', () => {});
        stream.cancel();
        if (error) reject(error);
        else resolve();
      };
      stream.once('error', (error) => done(this.#known(error)));
      stream.once('data', (answer) => done(answer.TTL > 0 ? undefined : new LeaseNotFoundError(id)));
      stream.write({ ID: id });
    });
  }

  async revokeLease(id: number): Promise<void> {
    this.#assertOpen();
    try {
      this.#heard(await this.#connection.write('LeaseRevoke', { ID: id }));
    } catch (error) {
      throw /lease not found/.test((error as Error).message) ? new LeaseNotFoundError(id) : this.#known(error);
    }
  }

  async compact(revision: number): Promise<void> {
    this.#assertOpen();
    try {
      this.#heard(await this.#connection.write('Compact', { revision }));
    } catch (error) {
      const known = this.#known(error, revision);
      if (known instanceof CompactedError) this.#compactedRevision = Math.max(this.#compactedRevision, revision);
      throw known;
    }
    this.#compactedRevision = Math.max(this.#compactedRevision, revision);
  }

  async size(): Promise<number> {
    this.#assertOpen();
    return (await this.#connection.read('Status', {})).dbSize;
  }

  async close(): Promise<void> {
    this.#closed = true;
    for (const watch of this.#watches) watch.close();
    this.#watches.clear();
    this.#connection.close();
  }

  #heard<T extends { header: { revision: number } }>(answer: T): T {
    if (answer.header.revision > this.#revision) this.#revision = answer.header.revision;
    return answer;
  }

  #assertOpen(): void {
    if (this.#closed) throw new Error('the store is closed');
  }

  /** etcd's errors as the contract's. */
  #known(error: unknown, revision = 0): Error {
    const { message } = error as Error;
    if (/has been compacted/.test(message)) return new CompactedError(this.#compactedRevision || revision + 1);
    if (/future revision/.test(message)) return new FutureRevisionError(revision);
    if (/lease not found/.test(message)) return new LeaseNotFoundError(0);
    if (/database space exceeded|NOSPACE/.test(message)) return new NoSpaceError(`etcd at ${this.#connection.description}`);
    if (isLoss(error)) return new Error(`etcd at ${this.#connection.description}: ${message}`, { cause: error });
    return error as Error;
  }
}

function check(operations: Operation[]): void {
  const written = new Set<string>();
  for (const { type, key } of operations) {
    if (key === '') throw new Error('key is not provided');
    if (type === 'get') continue;
    if (written.has(key)) throw new Error(`duplicate key given in txn request: ${key}`);
    written.add(key);
  }
}

function operationOf(o: Operation): object {
  const key = Buffer.from(o.key);
  if (o.type === 'get') return { request_range: { key } };
  if (o.type === 'delete') return { request_delete_range: { key } };
  return { request_put: { key, value: o.value, ...(o.lease ? { lease: o.lease } : {}) } };
}

function resultOf(answer: any, failure: Operation[], success: Operation[]): TransactionResult {
  const operations = answer.succeeded ? success : failure;
  const gets: (KeyValue | undefined)[] = [];
  operations.forEach((o, i) => {
    if (o.type !== 'get') return;
    const kv = answer.responses[i]?.response_range?.kvs?.[0];
    gets.push(kv && keyValueOf(kv));
  });
  return { succeeded: answer.succeeded, revision: answer.header.revision, gets };
}
