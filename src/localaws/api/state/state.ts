import { AwsError } from '../errors.ts';
import { type Entry, Journal } from './journal.ts';
import type { Change, Table } from './table.ts';
import { makeTables, type Tables } from './tables.ts';

/**
 * All that the endpoint holds: tables in memory, and a journal of every transaction. Transactions are synchronous functions: all
 * of their changes are made, or none.
 */
export class State {
  readonly tables: Tables;
  private journal!: Pick<Journal, 'append' | 'flush' | 'close' | 'broken'>;
  private changes: Change[] | undefined;
  /** How many transactions were made since the start. */
  commits = 0;
  private readonly listeners = new Set<(tables: Set<string>) => void>();
  private writes: Promise<void> = Promise.resolve();

  private constructor() {
    this.tables = makeTables((change) => {
      if (!this.changes) throw new Error(`a change of ${change.table} outside a transaction`);
      this.changes.push(change);
    });
  }

  /** Without a path nothing is written: the state ends with the process. */
  static async open(path: string | undefined): Promise<State> {
    const state = new State();
    if (path === undefined) {
      state.journal = { append: async () => {}, flush: async () => {}, close: async () => {}, broken: undefined };
      return state;
    }
    const tables = state.tables as unknown as Record<string, Table<object>>;
    state.journal = await Journal.open(
      path,
      ([name, id, record]) => {
        const table = tables[name];
        if (!table) throw new Error(`the state of the embedded AWS in ${path} has a table ${name}, which this release does not know`);
        table.restore(id, record as object | undefined);
      },
      () => Object.values(tables).flatMap((table) => table.entries().map(([id, record]): Entry => [table.name, id, record])),
    );
    return state;
  }

  /**
   * Runs a function whose changes are made together, or, when it throws, not at all. Inside another transaction it is part of it.
   * What it changed is on disk when durable() resolves.
   */
  transact<T>(run: () => T): T {
    if (this.changes) return run();
    const changes: Change[] = [];
    this.changes = changes;
    let result: T;
    try {
      result = run();
    } catch (error) {
      for (const change of changes.reverse()) this.table(change.table).restore(change.id, change.before as object | undefined);
      throw error;
    } finally {
      this.changes = undefined;
    }
    if (changes.length > 0) this.commit(changes);
    return result;
  }

  /** Runs a transaction and undoes it: whether it would succeed. */
  rehearse(run: () => unknown): void {
    const undo = new Error('rehearsed');
    try {
      this.transact(() => {
        run();
        throw undo;
      });
    } catch (error) {
      if (error !== undo) throw error;
    }
  }

  /** Resolves when every transaction so far is on disk; rejects when it could not be written. */
  durable(): Promise<void> {
    return this.writes;
  }

  /** Throws when the last write failed and another try fails too, as on a full disk: nothing may be changed then. */
  async writable(): Promise<void> {
    if (!this.journal.broken) return;
    try {
      this.writes = this.journal.flush();
      await this.writes;
    } catch (error: any) {
      throw new AwsError('ServiceUnavailable', `The state of the embedded AWS cannot be written: ${error.message}`, 503);
    }
  }

  /** Calls back after each transaction with the names of the tables that it changed. */
  onCommit(callback: (tables: Set<string>) => void): () => void {
    this.listeners.add(callback);
    return () => this.listeners.delete(callback);
  }

  async close(): Promise<void> {
    await this.journal.close();
  }

  private table(name: string): Table<object> {
    return (this.tables as unknown as Record<string, Table<object>>)[name]!;
  }

  private commit(changes: Change[]): void {
    const last = new Map<string, Entry>();
    for (const { table, id } of changes) {
      const record = this.table(table).get(id);
      last.set(`${table} ${id}`, record === undefined ? [table, id] : [table, id, record]);
    }
    this.commits++;
    this.writes = this.journal.append([...last.values()]);
    // Whoever needs to know waits for durable(); a failure is also kept in the journal.
    this.writes.catch(() => undefined);
    const names = new Set(changes.map((change) => change.table));
    for (const listener of this.listeners) listener(names);
  }
}
