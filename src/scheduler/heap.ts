/** A binary heap over items with a key, from which any item can be taken out. */
export class Heap<T> {
  readonly #before: (a: T, b: T) => boolean;
  readonly #keyOf: (item: T) => string;
  readonly #items: T[] = [];
  readonly #places = new Map<string, number>();

  constructor(keyOf: (item: T) => string, before: (a: T, b: T) => boolean) {
    this.#keyOf = keyOf;
    this.#before = before;
  }

  get size(): number {
    return this.#items.length;
  }

  has(key: string): boolean {
    return this.#places.has(key);
  }

  get(key: string): T | undefined {
    const place = this.#places.get(key);
    return place === undefined ? undefined : this.#items[place];
  }

  peek(): T | undefined {
    return this.#items[0];
  }

  push(item: T): void {
    this.remove(this.#keyOf(item));
    this.#set(this.#items.length, item);
    this.#up(this.#items.length - 1);
  }

  pop(): T | undefined {
    const first = this.#items[0];
    if (first !== undefined) this.remove(this.#keyOf(first));
    return first;
  }

  remove(key: string): T | undefined {
    const place = this.#places.get(key);
    if (place === undefined) return undefined;
    const item = this.#items[place]!;
    const last = this.#items.pop()!;
    this.#places.delete(key);
    if (place < this.#items.length) {
      this.#set(place, last);
      this.#up(place);
      this.#down(this.#places.get(this.#keyOf(last))!);
    }
    return item;
  }

  #set(place: number, item: T): void {
    this.#items[place] = item;
    this.#places.set(this.#keyOf(item), place);
  }

  #up(from: number): void {
    let place = from;
    while (place > 0) {
      const parent = (place - 1) >> 1;
      if (!this.#before(this.#items[place]!, this.#items[parent]!)) return;
      this.#swap(place, parent);
      place = parent;
    }
  }

  #down(from: number): void {
    let place = from;
    for (;;) {
      let first = place;
      for (const child of [2 * place + 1, 2 * place + 2]) {
        if (child < this.#items.length && this.#before(this.#items[child]!, this.#items[first]!)) first = child;
      }
      if (first === place) return;
      this.#swap(place, first);
      place = first;
    }
  }

  #swap(a: number, b: number): void {
    const item = this.#items[a]!;
    this.#set(a, this.#items[b]!);
    this.#set(b, item);
  }
}
