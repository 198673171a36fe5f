/** Numbers in ascending, disjoint, non-adjacent ranges: how Job statuses keep completed and failed indexes. */
export class IndexSet {
  readonly ranges: readonly (readonly [first: number, last: number])[];

  private constructor(ranges: readonly (readonly [number, number])[]) {
    this.ranges = ranges;
  }

  static readonly empty = new IndexSet([]);

  /** Parses `1,3-5,7`. Parts that make no sense are left out, and so is what is not below the limit. */
  static parse(text: string | undefined, limit = Number.POSITIVE_INFINITY): IndexSet {
    const ranges: [number, number][] = [];
    for (const part of text ? text.split(',') : []) {
      const m = /^(\d+)(?:-(\d+))?$/.exec(part);
      if (!m) continue;
      const first = Number(m[1]);
      if (first >= limit) break;
      ranges.push([first, Math.min(m[2] === undefined ? first : Number(m[2]), limit - 1)]);
    }
    return IndexSet.#merged(ranges);
  }

  static of(indexes: Iterable<number>): IndexSet {
    return IndexSet.#merged([...indexes].map((i) => [i, i]));
  }

  static #merged(ranges: (readonly [number, number])[]): IndexSet {
    const merged: [number, number][] = [];
    for (const [first, last] of ranges.sort((a, b) => a[0] - b[0])) {
      const open = merged.at(-1);
      if (open && first <= open[1] + 1) open[1] = Math.max(open[1], last);
      else merged.push([first, last]);
    }
    return new IndexSet(merged);
  }

  union(other: IndexSet): IndexSet {
    if (!other.ranges.length) return this;
    return IndexSet.#merged([...this.ranges, ...other.ranges]);
  }

  get size(): number {
    return this.ranges.reduce((n, [first, last]) => n + last - first + 1, 0);
  }

  has(index: number): boolean {
    return this.ranges.some(([first, last]) => first <= index && index <= last);
  }

  /** How many are in both. */
  overlap(other: IndexSet): number {
    let count = 0;
    for (const [a, b] of this.ranges) for (const [c, d] of other.ranges) count += Math.max(0, Math.min(b, d) - Math.max(a, c) + 1);
    return count;
  }

  /** The lowest numbers below the limit that are not in the set. */
  gaps(count: number, limit: number): number[] {
    const found: number[] = [];
    let next = 0;
    const fillTo = (end: number) => {
      for (; next < end && found.length < count; next++) found.push(next);
    };
    for (const [first, last] of this.ranges) {
      fillTo(Math.min(first, limit));
      next = Math.max(next, last + 1);
    }
    fillTo(limit);
    return found;
  }

  toString(): string {
    return this.ranges.map(([a, b]) => (a === b ? `${a}` : b === a + 1 ? `${a},${b}` : `${a}-${b}`)).join(',');
  }
}
