import { ConnectionError } from './frame-reader.ts';
import { errorCode } from './frames.ts';

/** A client that cancels this many requests at once, or goes on at this rate a second, is sent away; nghttp2 draws the line there too. */
const resetBurst = 1000;
const resetsPerSecond = 33;
/** Frames in a row that bring nothing forward: pings, settings, empty data, priorities. */
const idleFrameLimit = 10_000;

/** Counts what a client does to keep the server busy for nothing. Throws ConnectionError. */
export class FloodGuard {
  #resets = resetBurst;
  #resetsAt = 0;
  #idleFrames = 0;

  /** A frame that brings nothing forward. */
  idle(): void {
    if (++this.#idleFrames > idleFrameLimit) throw new ConnectionError(errorCode.enhanceYourCalm, 'too many control frames');
  }

  progress(): void {
    this.#idleFrames = 0;
  }

  /** A request is cancelled. */
  reset(): void {
    const now = performance.now();
    this.#resets = Math.min(resetBurst, this.#resets + ((now - this.#resetsAt) / 1000) * resetsPerSecond) - 1;
    this.#resetsAt = now;
    if (this.#resets < 0) throw new ConnectionError(errorCode.enhanceYourCalm, 'too many requests are cancelled');
  }
}
