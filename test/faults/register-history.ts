/**
 * The history of concurrent reads and writes of registers (one object each), and whether it is linearizable. Every answer
 * names the revision it stands at, which is the order that the store claims. The history is linearizable when that order
 * agrees with real time (what began after another had ended stands not before it) and with the values read.
 */
export interface Operation {
  register: string;
  type: 'read' | 'write';
  /** performance.now() before the call and after its answer. */
  began: number;
  ended: number;
  /** What was read, or acknowledged as written. */
  value: string;
  revision: number;
}

export class RegisterHistory {
  readonly operations: Operation[] = [];

  async record(register: string, type: 'read' | 'write', call: () => Promise<{ value: string; revision: number }>): Promise<Operation> {
    const began = performance.now();
    const { value, revision } = await call();
    const operation = { register, type, began, ended: performance.now(), value, revision };
    this.operations.push(operation);
    return operation;
  }

  /** What contradicts linearizability, in words; empty when nothing does. */
  violations(): string[] {
    const found: string[] = [];
    for (const [register, operations] of Map.groupBy(this.operations, (o) => o.register)) {
      const valueAt = new Map<number, string>();
      for (const o of operations) {
        const known = valueAt.get(o.revision);
        if (known !== undefined && known !== o.value) found.push(`${register}: ${known} and ${o.value} both at revision ${o.revision}`);
        valueAt.set(o.revision, o.value);
      }
      const writes = operations.filter((o) => o.type === 'write').map((o) => o.revision);
      if (new Set(writes).size !== writes.length) found.push(`${register}: two writes share a revision`);
      // In order of their begins, each compared with the highest revision of those that had ended before.
      const ends = [...operations].sort((a, b) => a.ended - b.ended);
      let at = 0;
      let highest: Operation | undefined;
      for (const o of [...operations].sort((a, b) => a.began - b.began)) {
        while (at < ends.length && ends[at]!.ended < o.began) {
          const ended = ends[at++]!;
          if (!highest || ended.revision > highest.revision) highest = ended;
        }
        if (!highest) continue;
        const late = o.type === 'write' ? o.revision <= highest.revision : o.revision < highest.revision;
        if (late) found.push(`${register}: a ${o.type} at revision ${o.revision} began after a ${highest.type} at ${highest.revision} had ended`);
      }
    }
    return found;
  }
}
