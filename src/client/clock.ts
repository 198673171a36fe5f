/** Time as the parts see it; tests replace it. */
export interface Clock {
  /** Milliseconds since the epoch. */
  now(): number;
  /** Calls back once after ms milliseconds; the returned function cancels. Does not keep the process alive. */
  after(ms: number, callback: () => void): () => void;
}

const longest = 2 ** 31 - 1;

export const systemClock: Clock = {
  now: () => Date.now(),
  after(ms, callback) {
    // A timer holds 24 days; beyond, it would ring at once.
    if (ms > longest) {
      const cancel = { now: () => {} };
      cancel.now = systemClock.after(longest, () => {
        cancel.now = systemClock.after(ms - longest, callback);
      });
      return () => cancel.now();
    }
    const timer = setTimeout(callback, ms);
    timer.unref();
    return () => clearTimeout(timer);
  },
};

/** Resolves after ms milliseconds; rejects with the signal's reason when it aborts first. */
export function sleep(clock: Clock, ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const onAbort = () => {
      cancel();
      reject(signal?.reason);
    };
    const cancel = clock.after(ms, () => {
      signal?.removeEventListener('abort', onAbort);
      resolve();
    });
    signal?.addEventListener('abort', onAbort, { once: true });
  });
}
