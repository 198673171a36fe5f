/** Milliseconds that one slice of a round may take before other work has its turn. */
const sliceMs = 5;
/** The longest pause between two rounds, milliseconds: events come at most this much later than they could. */
const longestPauseMs = 30;

/**
 * When watches write what they have. A first event goes out at once; while rounds follow each other, each is followed by a pause of three
 * times its own length, in which further events gather: many watchers then cost at most a quarter of the time, however fast the objects change,
 * and a socket takes many events in one write, which its reader answers with one update of its window.
 */
export class FanOut {
  #writers: (() => void)[] = [];
  #next: (() => void)[] = [];
  #at = 0;
  #armed = false;
  #spent = 0;
  /** When the next round may begin. */
  #notBefore = 0;

  /** Calls `write` in the next round. */
  add(write: () => void): void {
    this.#next.push(write);
    if (this.#armed) return;
    this.#armed = true;
    const pause = this.#notBefore - performance.now();
    if (pause < 1) setImmediate(this.#begin);
    else setTimeout(this.#begin, pause);
  }

  #begin = (): void => {
    this.#writers = this.#next;
    this.#next = [];
    this.#at = 0;
    this.#spent = 0;
    this.#slice();
  };

  #slice = (): void => {
    const started = performance.now();
    while (this.#at < this.#writers.length) {
      this.#writers[this.#at++]!();
      if (this.#at % 16 === 0 && performance.now() - started > sliceMs) break;
    }
    // Connections write at the end of the turn: that is the most of it.
    process.nextTick(() => {
      const now = performance.now();
      this.#spent += now - started;
      if (this.#at < this.#writers.length) {
        setImmediate(this.#slice);
        return;
      }
      this.#writers = [];
      this.#armed = false;
      this.#notBefore = now + Math.min(longestPauseMs, 3 * this.#spent);
      const first = this.#next.pop();
      if (first) this.add(first);
    });
  };
}

/** All watches of this process share one, for they share its time. */
export const fanOut = new FanOut();
