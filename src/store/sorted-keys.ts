const chunkLimit = 1024;

/** A set of strings in byte order, for many insertions and range reads. */
export class SortedKeys {
  /** Sorted, none empty but where the set is. */
  #chunks: string[][] = [[]];

  add(key: string): void {
    const c = this.#chunkOf(key);
    const chunk = this.#chunks[c]!;
    const i = lowerBound(chunk, key);
    if (chunk[i] === key) return;
    chunk.splice(i, 0, key);
    if (chunk.length > chunkLimit) this.#chunks.splice(c + 1, 0, chunk.splice(chunkLimit / 2));
  }

  delete(key: string): void {
    const c = this.#chunkOf(key);
    const chunk = this.#chunks[c]!;
    const i = lowerBound(chunk, key);
    if (chunk[i] !== key) return;
    chunk.splice(i, 1);
    if (chunk.length === 0 && this.#chunks.length > 1) this.#chunks.splice(c, 1);
  }

  /** Keys from start to before end. Do not change the set meanwhile. */
  *range(start: string, end: string): Generator<string> {
    let c = this.#chunkOf(start);
    let i = lowerBound(this.#chunks[c]!, start);
    for (; c < this.#chunks.length; c++, i = 0) {
      const chunk = this.#chunks[c]!;
      for (; i < chunk.length; i++) {
        if (chunk[i]! >= end) return;
        yield chunk[i]!;
      }
    }
  }

  /** The last chunk that begins at or before key. */
  #chunkOf(key: string): number {
    let low = 0;
    let high = this.#chunks.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.#chunks[middle]![0]! <= key) low = middle;
      else high = middle - 1;
    }
    return low;
  }
}

function lowerBound(keys: string[], key: string): number {
  let low = 0;
  let high = keys.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (keys[middle]! < key) low = middle + 1;
    else high = middle;
  }
  return low;
}
