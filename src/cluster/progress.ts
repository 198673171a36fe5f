/** Progress as kind shows it: one line a step with a tick; plain lines where the output is no terminal. */
export interface Progress {
  step<T>(title: string, work: () => Promise<T>): Promise<T>;
  line(text: string): void;
}

export function createProgress(out: NodeJS.WriteStream = process.stderr, quiet = false): Progress {
  const terminal = out.isTTY === true && !process.env['CI'];
  const frames = ['⠈⠁', '⠈⠑', '⠈⠱', '⠈⡱', '⢀⡱', '⢄⡱', '⢄⡱', '⢆⡱', '⢎⡱', '⢎⡰', '⢎⡠', '⢎⡀', '⢎⠁', '⠎⠁', '⠊⠁'];
  return {
    line(text) {
      if (!quiet) out.write(`${text}\n`);
    },
    async step(title, work) {
      if (quiet) return work();
      let frame = 0;
      const spin = terminal
        ? setInterval(() => {
            out.write(`\r\x1b[K ${frames[frame++ % frames.length]} ${title}`);
          }, 100)
        : undefined;
      if (terminal) out.write(` ${frames[0]} ${title}`);
      try {
        const result = await work();
        out.write(terminal ? `\r\x1b[K \x1b[32m✓\x1b[0m ${title}\n` : ` ✓ ${title}\n`);
        return result;
      } catch (error) {
        out.write(terminal ? `\r\x1b[K \x1b[31m✗\x1b[0m ${title}\n` : ` ✗ ${title}\n`);
        throw error;
      } finally {
        clearInterval(spin);
      }
    },
  };
}
