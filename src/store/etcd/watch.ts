import type { ClientDuplexStream } from '@grpc/grpc-js';
import { CompactedError, type KeyValue, type StoreEvent, type WatchRequest } from '../store.ts';
import type { EtcdConnection } from './connection.ts';

/** The whole key space: every revision of etcd changes some key, so this tells also how far a watch is complete. */
const everything = { key: Buffer.from([0]), range_end: Buffer.from([0]) };

export function keyValueOf(kv: any): KeyValue {
  return {
    key: (kv.key as Buffer).toString(),
    value: kv.value as Buffer,
    createRevision: kv.create_revision,
    modRevision: kv.mod_revision,
    version: kv.version,
    lease: kv.lease,
  };
}

/**
 * One watch on etcd. A lost stream is opened again, on another member where need be, from the revision after the last one
 * delivered: nothing is lost and nothing comes twice. It ends only by close() or when compaction has overtaken it.
 */
export class EtcdWatch {
  readonly #connection: EtcdConnection;
  readonly #request: WatchRequest;
  readonly #onRevision: (revision: number) => void;
  #next: number;
  #stream: ClientDuplexStream<object, any> | undefined;
  #retry: NodeJS.Timeout | undefined;
  #failures = 0;
  #closed = false;

  constructor(connection: EtcdConnection, request: WatchRequest, next: number, onRevision: (revision: number) => void) {
    this.#connection = connection;
    this.#request = request;
    this.#next = next;
    this.#onRevision = onRevision;
    this.#open();
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#retry);
    this.#stream?.cancel();
  }

  #open(): void {
    if (this.#closed) return;
    const { at, stream } = this.#connection.stream('Watch');
    this.#stream = stream;
    const lost = () => {
      if (this.#stream !== stream) return;
      this.#stream = undefined;
      stream.cancel();
      this.#connection.leave(at);
      if (this.#closed) return;
      this.#retry = setTimeout(() => this.#open(), Math.min(1000, 20 * 2 ** this.#failures++));
    };
    stream.on('error', lost);
    stream.on('end', lost);
    stream.on('data', (response) => {
      if (this.#stream !== stream || this.#closed) return;
      if (response.canceled) {
        if (response.compact_revision) this.#fail(new CompactedError(response.compact_revision));
        else lost();
        return;
      }
      this.#failures = 0;
      if (response.events.length > 0) this.#deliver(response.events);
    });
    stream.write({ create_request: { ...everything, start_revision: this.#next, prev_kv: this.#request.previous ?? true } });
  }

  #deliver(all: any[]): void {
    let revision = 0;
    let events: StoreEvent[] = [];
    const flush = () => {
      // What a new stream repeats has been delivered.
      if (revision < this.#next) return;
      this.#next = revision + 1;
      this.#onRevision(revision);
      this.#request.onEvents({ revision, events });
    };
    const { start, end } = this.#request;
    try {
      for (const event of all) {
        if (event.kv.mod_revision !== revision) {
          flush();
          revision = event.kv.mod_revision;
          events = [];
        }
        const item = keyValueOf(event.kv);
        if (item.key < start || item.key >= end) continue;
        events.push({ type: event.type === 1 ? 'delete' : 'put', item, previous: event.prev_kv ? keyValueOf(event.prev_kv) : undefined });
      }
      flush();
    } catch (error) {
      this.#fail(error as Error);
    }
  }

  #fail(error: Error): void {
    this.close();
    this.#request.onError(error);
  }
}
