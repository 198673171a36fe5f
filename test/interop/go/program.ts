import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

/** What a program says of one request or event; see record.go. */
export interface Line {
  what: string;
  kind?: string;
  name?: string;
  uid?: string;
  rv?: string;
  n?: string;
  initial?: boolean;
  unknown?: boolean;
  verb?: 'list' | 'watch' | 'watchlist';
  status?: number;
  type?: string;
  from?: string;
}

/** A program that says a Line for everything it sees. */
export class Program {
  readonly lines: Line[] = [];
  readonly #child: ChildProcess;
  readonly #exit: Promise<number | null>;
  #waiting = new Set<() => void>();
  #told = '';

  constructor(path: string, args: string[]) {
    const child = spawn(path, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    this.#child = child;
    this.#exit = new Promise((resolve) => {
      child.once('close', (code) => {
        resolve(code);
        for (const look of this.#waiting) look();
      });
      child.once('error', () => resolve(null));
    });
    createInterface({ input: child.stdout }).on('line', (text) => {
      this.lines.push(JSON.parse(text));
      for (const look of this.#waiting) look();
    });
    child.stderr.on('data', (chunk: Buffer) => {
      this.#told = `${this.#told}${chunk}`.slice(-4000);
    });
  }

  /** Resolves to the first line that fits, said already or to come within 150 s: reflectors wait up to a minute between tries; fails where the program ends before. */
  until(what: string, fits: (line: Line) => boolean): Promise<Line> {
    return new Promise((resolve, reject) => {
      let looked = 0;
      const end = (act: () => void) => {
        clearTimeout(timer);
        this.#waiting.delete(look);
        act();
      };
      const timer = setTimeout(() => end(() => reject(new Error(`waited in vain for ${what}; the program said:\n${this.#told}`))), 150_000);
      const look = () => {
        for (; looked < this.lines.length; looked++) {
          const line = this.lines[looked] as Line;
          if (fits(line)) return end(() => resolve(line));
        }
        if (this.#child.exitCode !== null || this.#child.signalCode !== null) end(() => reject(new Error(`ended before ${what}:\n${this.#told}`)));
      };
      this.#waiting.add(look);
      look();
    });
  }

  /** Sends the signal and resolves to the exit code, null where the signal ended it. */
  end(signal: 'SIGTERM' | 'SIGKILL'): Promise<number | null> {
    this.#child.kill(signal);
    return this.#exit;
  }
}
