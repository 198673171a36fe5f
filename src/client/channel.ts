/** A queue between one who pushes and one who iterates; unbounded, in order. */
export class Channel<T> implements AsyncIterable<T> {
  #items: T[] = [];
  #ended = false;
  #error: unknown;
  #wake: (() => void) | undefined;
  readonly #onReturn: (() => void) | undefined;

  /** onReturn: called once when the reader has stopped or the channel has ended. */
  constructor(onReturn?: () => void) {
    this.#onReturn = onReturn;
  }

  push(item: T): void {
    if (this.#ended) return;
    this.#items.push(item);
    this.#wake?.();
  }

  /** Items pushed so far are still read. With an error the reader gets it after them. */
  end(error?: unknown): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#error = error;
    this.#wake?.();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T> {
    try {
      for (;;) {
        const items = this.#items;
        this.#items = [];
        for (const item of items) yield item;
        if (this.#items.length > 0) continue;
        if (this.#ended) {
          if (this.#error !== undefined) throw this.#error;
          return;
        }
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
        this.#wake = undefined;
      }
    } finally {
      this.#ended = true;
      this.#items = [];
      this.#onReturn?.();
    }
  }
}
