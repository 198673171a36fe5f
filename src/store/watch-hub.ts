import { CompactedError, type StoreEvents, type StoreWatch, type WatchRequest } from './store.ts';

/** Events read from history in one go before others get their turn. */
const replayChunk = 500;

export interface HistorySource {
  revision(): number;
  compactedRevision(): number;
  history(from: number, limit: number): StoreEvents[];
}

interface Watcher {
  request: WatchRequest;
  /** The next revision it has not heard of. */
  next: number;
  /** The next revision to be read from history, which may be of others' keys. */
  read: number;
  /** Whether it has caught up with history and is fed by publish. */
  live: boolean;
  closed: boolean;
}

/**
 * Hands committed events to watches: those that begin in the past read history in slices until they have caught up,
 * the others are fed by publish. Nothing is delivered on the stack of the writer, and after every round of delivery
 * each watch has heard (by an empty StoreEvents, if need be) up to which revision it is complete.
 */
export class WatchHub {
  readonly #source: HistorySource;
  readonly #watchers = new Set<Watcher>();
  #pending: StoreEvents[] = [];
  #scheduled = false;
  #failed: Error | undefined;

  constructor(source: HistorySource) {
    this.#source = source;
  }

  get size(): number {
    return this.#watchers.size;
  }

  watch(request: WatchRequest): StoreWatch {
    const revision = this.#source.revision();
    const next = request.startRevision ?? revision + 1;
    const watcher: Watcher = { request, next, read: next, live: false, closed: false };
    if (watcher.next > revision) {
      watcher.live = true;
      this.#watchers.add(watcher);
      if (this.#failed) setImmediate(() => this.#end(watcher, this.#failed!));
    } else {
      this.#watchers.add(watcher);
      setImmediate(() => this.#replay(watcher));
    }
    return {
      close: () => {
        watcher.closed = true;
        this.#watchers.delete(watcher);
      },
    };
  }

  /** Events of transactions that are durable, in order. */
  publish(events: StoreEvents[]): void {
    if (events.length === 0) return;
    this.#pending.push(...events);
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(() => this.#drain());
  }

  /** Ends every watch, now and in future. */
  fail(error: Error): void {
    this.#failed = error;
    for (const watcher of [...this.#watchers]) this.#end(watcher, error);
  }

  closeAll(): void {
    for (const watcher of this.#watchers) watcher.closed = true;
    this.#watchers.clear();
    this.#pending = [];
  }

  #drain(): void {
    this.#scheduled = false;
    const batch = this.#pending;
    this.#pending = [];
    if (batch.length === 0) return;
    const revision = batch[batch.length - 1]!.revision;
    for (const watcher of [...this.#watchers]) {
      if (!watcher.live || watcher.closed) continue;
      for (const events of batch) this.#deliver(watcher, events);
      this.#progress(watcher, revision);
    }
  }

  #replay(watcher: Watcher): void {
    if (watcher.closed) return;
    try {
      if (this.#failed) throw this.#failed;
      const compacted = this.#source.compactedRevision();
      if (watcher.read < compacted) throw new CompactedError(compacted);
      const chunk = this.#source.history(watcher.read, replayChunk);
      for (const events of chunk) this.#deliver(watcher, events);
      if (chunk.length > 0) watcher.read = chunk[chunk.length - 1]!.revision + 1;
      if (chunk.length > 0 && watcher.read <= this.#source.revision()) {
        setImmediate(() => this.#replay(watcher));
        return;
      }
    } catch (error) {
      this.#end(watcher, error as Error);
      return;
    }
    // No await between the last read and this: nothing can be committed and published in between.
    watcher.live = true;
    this.#progress(watcher, this.#source.revision());
  }

  #deliver(watcher: Watcher, events: StoreEvents): void {
    if (watcher.closed || events.revision < watcher.next) return;
    const { start, end } = watcher.request;
    const all = events.events;
    let matching = all;
    if (all.length === 1) {
      const key = all[0]!.item.key;
      if (key < start || key >= end) return;
    } else {
      matching = all.filter((e) => e.item.key >= start && e.item.key < end);
      if (matching.length === 0) return;
    }
    this.#call(watcher, { revision: events.revision, events: matching });
  }

  #progress(watcher: Watcher, revision: number): void {
    if (watcher.closed || revision < watcher.next) return;
    this.#call(watcher, { revision, events: [] });
  }

  #call(watcher: Watcher, events: StoreEvents): void {
    watcher.next = events.revision + 1;
    try {
      watcher.request.onEvents(events);
    } catch (error) {
      // One watch that throws must not take the others with it.
      this.#end(watcher, error as Error);
    }
  }

  #end(watcher: Watcher, error: Error): void {
    if (watcher.closed) return;
    watcher.closed = true;
    this.#watchers.delete(watcher);
    try {
      watcher.request.onError(error);
    } catch {
      // It has been told; there is nobody else to tell.
    }
  }
}
