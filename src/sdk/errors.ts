/** A wait that ended without what it waited for. The message says what was missing, and how it stood. */
export class WaitError extends Error {
  /** What was waited for, in words. */
  readonly what: string;
  /** How it stood in the end. */
  readonly state: string;
  constructor(what: string, state: string, timeoutMs: number) {
    super(`timed out after ${timeoutMs / 1000} s waiting for ${what}${state ? `: ${state}` : ''}`);
    this.name = 'WaitError';
    this.what = what;
    this.state = state;
  }
}
